"""The authors' front end: pre-emphasis, power STFT, Kaldi's mel bank, logarithm; and what they vary of it in training.

Source: Ding and Lerch, "Audio embeddings as teachers for music classification" (EAsT, ISMIR 2023; arXiv 2306.17424).
The paper says little of it, so this follows their code, of which PaSST's front end is the model:

* Pre-emphasis ``y[n] = x[n] - 0.97 x[n - 1]`` begins at the second sample, so that one is lost: 1000 frames of 10 s at
  32 kHz, 1450 of 29 s at 16 kHz (theirs have about 1457, because MagnaTagATune's clips are a little longer).
* The window is shorter than the transform (800 of 1024 samples) and lies in its middle. Frames are centred, and the
  ends mirrored.
* A band is a triangle on Kaldi's mel scale (``1127 ln(1 + f / 700)``) with peak 1. At 32 kHz a few of the lowest 128
  bands cover no bin, and stay at the floor. That is theirs, and kept.
* The bin at half the sample rate counts for no band: Kaldi's bank has no column for it.
* In training each example has its own range of frequencies, moved by whole Hz, and its own two masks. A mask puts the
  logarithm to 0 (+1.19 once normalised), louder than most music. That is theirs, too.
"""

import torch
from torch import nn

from tasks.clip_tagging.config import Augmentation, FrontEndConfig
from timbrel.torchaudio_cpu import torchaudio

PRE_EMPHASIS = 0.97
FLOOR = 1e-5
"""Added to the power before the logarithm."""
MEAN, SPREAD = -3.7, 3.1
"""Of the log-mel values, by which they are normalised."""
MASKED = 0.0
"""The logarithm under a mask."""
BANDS, FRAMES = 2, 3
"""Dimensions of pictures ``(batch, 1, band, frame)``."""


def mel_bank(config: FrontEndConfig, sample_rate: int, low_hz: float, high_hz: float) -> torch.Tensor:
    """Return the bands between two frequencies, ``(band, bin)``."""
    kaldi = torchaudio.compliance.kaldi
    bank, _ = kaldi.get_mel_banks(config.bands, config.fft, sample_rate, low_hz, high_hz, 100.0, -500.0, 1.0)
    return nn.functional.pad(bank, (0, 1))


class KaldiLogMel(nn.Module):
    """Waveform ``(batch, sample)`` to log-mel spectrogram ``(batch, band, frame)``; it learns nothing.

    Given an augmentation, each example is heard through bands and masks of its own.
    """

    window: torch.Tensor
    bank: torch.Tensor

    def __init__(self, config: FrontEndConfig, sample_rate: int) -> None:
        super().__init__()
        self.config = config
        self.sample_rate = sample_rate
        self.register_buffer("window", torch.hann_window(config.window, periodic=False), persistent=False)
        self.register_buffer("bank", mel_bank(config, sample_rate, 0, sample_rate / 2), persistent=False)

    @torch.no_grad()
    def forward(self, waveform: torch.Tensor, augmentation: Augmentation | None = None) -> torch.Tensor:
        """Return the spectrogram; the random numbers of an augmentation are those of PyTorch's global generator."""
        # A power spectrum spans more orders of magnitude than bf16 resolves.
        with torch.autocast(waveform.device.type, enabled=False):
            power = self._power(waveform.float())
            bank = self.bank if augmentation is None else self._moved_bank(len(power), augmentation)
            logarithm = torch.log(bank @ power + FLOOR)
            if augmentation is not None:
                logarithm = masked(logarithm, augmentation)
            return (logarithm - MEAN) / SPREAD

    def _power(self, waveform: torch.Tensor) -> torch.Tensor:
        """Return the power spectrum, ``(batch, bin, frame)``."""
        sharpened = waveform[:, 1:] - PRE_EMPHASIS * waveform[:, :-1]
        size, hop, length = self.config.fft, self.config.hop, self.config.window
        spectrum = torch.stft(sharpened, size, hop, length, window=self.window, return_complex=True)
        return spectrum.real.square() + spectrum.imag.square()  # without the root of abs(), a third of the time

    def _moved_bank(self, examples: int, augmentation: Augmentation) -> torch.Tensor:
        """Return each example's bands, ``(example, band, bin)``, or one set if none moves."""
        low, high = augmentation.low_jitter_hz, augmentation.high_jitter_hz
        if not low and not high:
            return self.bank
        top = self.sample_rate / 2
        moves = zip(_whole_hz(low, examples), _whole_hz(high, examples), strict=True)
        banks = [mel_bank(self.config, self.sample_rate, up, top - down) for up, down in moves]
        return torch.stack(banks).to(self.bank.device)


def masked(logarithm: torch.Tensor, augmentation: Augmentation) -> torch.Tensor:
    """Return spectrograms ``(batch, band, frame)`` with one run of bands and one of frames masked in each."""
    picture = logarithm.unsqueeze(1)
    for width, axis in ((augmentation.band_mask, BANDS), (augmentation.frame_mask, FRAMES)):
        if width:
            picture = torchaudio.functional.mask_along_axis_iid(picture, width, MASKED, axis)
    return picture.squeeze(1)


def _whole_hz(below: int, examples: int) -> list[int]:
    """Return a number from 0 up to, but without, ``below`` for each example; 0 if that is 0."""
    return torch.randint(max(below, 1), (examples,)).tolist()
