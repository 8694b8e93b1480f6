"""Constant-Q pictures of segments, as librosa computes them, without torch; in torch: `timbrel.models.cqt`.

Conventions: audio is ``(..., sample)``, pictures are float32 ``(..., bin, frame)`` in [0, 1]. Frame t is centred on
sample ``t * hop``, so its time in s is ``t * hop / sample_rate``; samples before the first and after the last count as
zeros. 1 is the loudest bin of the segment, 0 is ``floor_db`` below it or quieter: how loud the segment is does not
show. The multitask paper's authors scale by the loudest bin of the file; a segment here knows no file.

The engines ``librosa`` (this module, the reference) and ``torch`` (nnAudio) place bins and frames alike, but are not
the same to the last bit:

- librosa drops the small ends of each filter's spectrum, a hundredth in all (its ``sparsity``), nnAudio nothing;
- librosa halves the sample rate for each octave down, nnAudio filters all octaves at the sample rate itself.

On 10 s of each of 40 compositions, rendered with a SoundFont, the pictures correlate at 0.996 (the least alike at
0.979) and differ by 0.006 on average, which is 0.5 dB; above -40 dB by 0.002. Most of that is ``sparsity``: without it
they correlate at 0.999. A network should hear by the engine that it was trained with. With ``auto`` a run takes librosa
where there is no GPU, as the processes that mix can do it on all cores, and torch where there is one.
`benchmarks/cqt.py` compares what the two cost, and how far they differ.
"""

import dataclasses
import math
import warnings
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Interval

SILENCE = 1e-6
"""A segment whose loudest bin is below this magnitude is silent, all zeros. It is the magnitude of a tone at -132 dB of
full scale in the highest bin and -154 dB in the lowest: about the last bit of a 24-bit file."""

HANN_BANDWIDTH = 1.50018310546875
"""Equivalent noise bandwidth of the Hann window in DFT bins, as librosa has it; it counts to a filter's width."""


@dataclass(frozen=True, kw_only=True)
class CqtConfig:
    """Constant-Q transform of the multitask paper: 88 semitones from A0, the keys of a piano."""

    hop: Annotated[int, Gt(0)] = 512
    """Samples between frames (paper: 512, which is 32 ms at 16 kHz)."""
    f_min: Annotated[float, Ge(10)] = 27.5
    """Centre of the lowest bin in Hz."""
    bins: Annotated[int, Gt(0)] = 88
    """How many bins."""
    bins_per_octave: Annotated[int, Interval(ge=1, le=96)] = 12
    """Bins an octave; 12 makes each a semitone."""
    floor_db: Annotated[float, Gt(0)] = 80.0
    """How many dB below the loudest bin of the segment the picture ends."""
    engine: Literal["auto", "librosa", "torch"] = "auto"
    """Who computes it. librosa: the processes that mix, on CPUs; torch: the model, on its device; auto: torch if that
    is a GPU. Which one a run took is stored with it."""

    def frames(self, samples: int) -> int:
        """Return how many frames so many samples give; librosa would give one more, centred where they end."""
        return samples // self.hop


def cqt_db(audio: np.ndarray, sample_rate: int, config: CqtConfig) -> np.ndarray:
    """Return the pictures of segments, each scaled by its own loudest bin.

    librosa builds its filters anew for every call, which takes two thirds of the time of a single segment of 10 s: give
    it many at once. The pictures do not depend on what else is in the call.

    Args:
        audio: ``(..., sample)``, at ``sample_rate`` Hz.
        config: What to compute; ``engine`` is not looked at.

    Returns:
        float32 ``(..., bin, frame)`` in [0, 1]; zeros for digital silence.

    Raises:
        ValueError: the segment is shorter than a frame, or see `check_cqt`.
    """
    check_cqt(config, sample_rate)
    check_length(config, audio.shape[-1])
    import librosa  # here, as it takes a second that a config need not wait for

    with warnings.catch_warnings():
        # Zeros around a segment that is shorter than a filter are what is wanted.
        warnings.filterwarnings("ignore", message="n_fft=.* is too large for input signal")
        magnitude = np.abs(
            librosa.cqt(
                audio.astype(np.float32, copy=False),
                sr=sample_rate,
                hop_length=config.hop,
                fmin=config.f_min,
                n_bins=config.bins,
                bins_per_octave=config.bins_per_octave,
            )
        )[..., : config.frames(audio.shape[-1])]
    loudest = magnitude.max(axis=(-2, -1), keepdims=True)
    ratio = magnitude / np.maximum(loudest, SILENCE)
    decibel = 20 * np.log10(np.maximum(ratio, np.finfo(np.float32).tiny))
    scaled = np.maximum(decibel / config.floor_db + 1, 0)
    return np.where(loudest < SILENCE, 0, scaled).astype(np.float32)


def quality(config: CqtConfig) -> float:
    """Return Q, a filter's centre over its bandwidth (17.3 for semitones), as librosa has it from version 0.10 on."""
    octave = 2 ** (2 / config.bins_per_octave)
    return (octave + 1) / (octave - 1)


def check_cqt(config: CqtConfig, sample_rate: int) -> None:
    """Raise ValueError, for a config to refuse, unless such a transform exists at ``sample_rate`` Hz."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name != "engine" and not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{field.name} ({value}) must be above 0")
    highest = config.f_min * 2 ** ((config.bins - 1) / config.bins_per_octave)
    edge = highest * (1 + 0.5 * HANN_BANDWIDTH / quality(config))
    if edge > sample_rate / 2:
        raise ValueError(
            f"bins={config.bins} with bins_per_octave={config.bins_per_octave} from f_min={config.f_min:g} Hz reach "
            f"{edge:.0f} Hz, above half the sample rate of {sample_rate} Hz: lower bins or f_min, or raise "
            "mixing.sample_rate"
        )


def check_length(config: CqtConfig, samples: int) -> None:
    """Raise ValueError if so many samples give no frame."""
    if config.frames(samples) < 1:
        raise ValueError(f"{samples} samples are too few for a frame: hop={config.hop} asks for as many")
