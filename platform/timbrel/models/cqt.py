"""The constant-Q front end in torch, on whatever device the model runs: see `timbrel.cqt` for what it shows.

The transform is nnAudio's ``CQT1992v2``, one convolution with 88 pairs of filters; told librosa's Q and librosa's zeros
around the segment, it agrees with librosa better than by its own defaults. (``CQT2010v2``, which goes down by octaves,
agrees no better and takes longer.)
"""

import torch
from nnAudio.features.cqt import CQT1992v2
from torch import nn

from timbrel.cqt import SILENCE, CqtConfig, check_cqt, check_length, quality


class Cqt(nn.Module):
    """Waveform ``(batch, sample)`` to picture ``(batch, bin, frame)``, float32 in [0, 1].

    Scaled as by `timbrel.cqt.cqt_db`, and as many frames. It learns nothing and adds nothing to a ``state_dict``.
    Computed in float32 whatever the precision around it: sound and filters rounded to bf16 would move the picture by
    0.002 on average, quiet bins by up to 0.2. (GPUs convolve in TF32, torch's own default: 0.0002, up to 0.05.)
    """

    def __init__(self, config: CqtConfig, sample_rate: int) -> None:
        super().__init__()
        check_cqt(config, sample_rate)
        self.config = config
        # nnAudio's own Q, 1 / (2^(1/b) - 1), is that of librosa before 0.10: 3 % too low.
        self.transform = CQT1992v2(
            sr=sample_rate,
            hop_length=config.hop,
            fmin=config.f_min,
            n_bins=config.bins,
            bins_per_octave=config.bins_per_octave,
            filter_scale=quality(config) * (2 ** (1 / config.bins_per_octave) - 1),
            pad_mode="constant",
            verbose=False,
        )
        _trim(self.transform)
        for name, buffer in list(self.transform.named_buffers()):
            delattr(self.transform, name)
            self.transform.register_buffer(name, buffer, persistent=False)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        samples = waveform.shape[-1]
        check_length(self.config, samples)
        with torch.autocast(waveform.device.type, enabled=False):
            magnitude = self.transform(waveform.float())[..., : self.config.frames(samples)]
        loudest = magnitude.amax(dim=(-2, -1), keepdim=True)
        ratio = magnitude / loudest.clamp(min=SILENCE)
        decibel = 20 * torch.log10(ratio.clamp(min=torch.finfo(torch.float32).tiny))
        scaled = (decibel / self.config.floor_db + 1).clamp(min=0)
        return torch.where(loudest < SILENCE, torch.zeros_like(scaled), scaled)


def _trim(transform: CQT1992v2) -> None:
    """Cut off the zeros around the longest filter, up to a power of two long: two fifths of the work, at 16 kHz."""
    middle = transform.kernel_width // 2
    half = min(middle, int(transform.lenghts.max()) // 2 + 1)
    for name in ("cqt_kernels_real", "cqt_kernels_imag"):
        setattr(transform, name, getattr(transform, name)[..., middle - half : middle + half].contiguous())
    transform.kernel_width = 2 * half
