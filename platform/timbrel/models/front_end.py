"""Front ends: from waveform to a time-frequency picture, inside the model, on whatever device it runs."""

import warnings
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import nn

from timbrel.torchaudio_cpu import torchaudio


@dataclass(frozen=True, kw_only=True)
class LogMelConfig:
    """Log-mel spectrogram of the transfer-and-mixing paper: window 512, hop 256, in dB."""

    bands: Annotated[int, Gt(0)] | None = None
    """Mel bands; none: as published with the backbone (the paper's short-chunk CNN 128, the others 96)."""
    window: Annotated[int, Gt(0)] = 512
    """FFT and Hann window length in samples."""
    hop: Annotated[int, Gt(0)] = 256
    """Samples between frames."""
    max_hz: Annotated[float, Ge(0)] = 0.0
    """Upper edge of the highest band in Hz; 0: half the sample rate. The paper does not say for its 32 kHz; the
    CNN's authors use 8 kHz at 16 kHz, which is half the rate."""

    level_dbfs: Annotated[float, Le(0)] | None = None
    """RMS level that each clip is scaled to before anything else, in dB below full scale; none: as it comes, like the
    paper. Published taggers were trained on mastered music, at about -16; stems mixed here lie 10 to 20 dB lower."""

    def frames(self, samples: int) -> int:
        """Return how many frames so many samples give."""
        return samples // self.hop + 1


QUIETEST = 1e-3
"""RMS (-60 dBFS) below which a clip is not scaled up any further: what is near silence stays so."""


class LogMel(nn.Module):
    """Waveform ``(batch, sample)`` to normalised log-mel spectrogram ``(batch, 1, band, frame)``.

    HTK mel scale, no area normalisation, ``10 log10(max(power, 1e-10))`` without a dynamic-range limit, then
    batch norm over the one channel, as in the CNN authors' code. At 32 kHz a 512-sample window resolves 62.5
    Hz, so the lowest of 128 bands cover no bin and stay at -100 dB; that is the paper's front end, and kept.
    """

    def __init__(self, config: LogMelConfig, sample_rate: int) -> None:
        super().__init__()
        if config.bands is None:
            raise ValueError(
                "expected the number of bands, got None: fill it in with timbrel.models.backbones.input_of"
            )
        with warnings.catch_warnings():
            # Narrow bands low down may have none of the spectrum's bins: a constant input, which is no fault.
            warnings.filterwarnings("ignore", message="At least one mel filterbank has all zero values")
            self.power = torchaudio.transforms.MelSpectrogram(
                sample_rate=sample_rate,
                n_fft=config.window,
                hop_length=config.hop,
                f_min=0.0,
                f_max=config.max_hz or sample_rate / 2,
                n_mels=config.bands,
            )
        self.level_dbfs = config.level_dbfs
        self.decibel = torchaudio.transforms.AmplitudeToDB()
        self.norm = nn.BatchNorm2d(1)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        # A power spectrum spans more orders of magnitude than bf16 resolves.
        with torch.autocast(waveform.device.type, enabled=False):
            waveform = waveform.float()
            if self.level_dbfs is not None:
                rms = waveform.square().mean(dim=1, keepdim=True).sqrt().clamp(min=QUIETEST)
                waveform = waveform * (10 ** (self.level_dbfs / 20) / rms)
            decibel = self.decibel(self.power(waveform))
        return self.norm(decibel.unsqueeze(1))
