"""How a mixture and its sources look: mel spectrograms and waveforms, all of one mixture on the same scale.

A source that is hardly heard is then hardly seen.
"""

import base64
import io
from collections.abc import Iterator
from typing import NamedTuple

import librosa
import numpy as np
from matplotlib.image import imsave

from timbrel.listen.example import Example

COLUMNS = 400
"""Frames of a spectrogram."""
MELS = 80
LOWEST_HZ = 30.0
RANGE_DB = 75.0
"""From the palest to the darkest, which is the loudest point of the mixture."""
WINDOW_S = 0.05
"""At least; the next power of two in samples."""
POINTS = 250
"""Of a waveform, from left to right."""


class Picture(NamedTuple):
    """Of the mixture or of one source."""

    spectrogram: str
    """A WebP as a ``data:`` address."""
    waveform: str
    """The path of an SVG of ``POINTS`` by 2: the least and greatest sample at each point, full height at the scale."""


def pictures(example: Example, sample_rate: int) -> Iterator[Picture]:
    """Yield the picture of a mixture and that of each of its sources."""
    tracks = [np.atleast_2d(audio) for audio in (example.audio, *example.sources)]
    full = max(float(np.abs(track).max()) for track in tracks) or 1.0
    powers = [mel_power(track, sample_rate) for track in tracks]
    top = 10 * float(np.log10(float(powers[0].max()) or 1.0))
    for track, power in zip(tracks, powers, strict=True):
        level_db = 10 * np.log10(np.maximum(power, 10 ** ((top - RANGE_DB) / 10)))
        yield Picture(_webp(level_db, top), waveform(track / full))


def mel_power(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return the mel spectrogram of ``(channel, sample)``, averaged over channels: ``(mel, frame)``."""
    window = 2 ** int(np.ceil(np.log2(max(WINDOW_S * sample_rate, 512))))
    hop = max(1, audio.shape[1] // COLUMNS)
    power = librosa.feature.melspectrogram(
        y=audio,
        sr=sample_rate,
        n_fft=window,
        hop_length=hop,
        n_mels=MELS,
        fmin=min(LOWEST_HZ, sample_rate / 16),
        pad_mode="reflect",  # beyond the ends; silence there would draw a click
    )
    return np.asarray(power.mean(axis=0))


def waveform(audio: np.ndarray) -> str:
    """Return the outline of ``(channel, sample)`` within ±1 as an SVG path."""
    points = min(POINTS, audio.shape[1])
    edges = np.linspace(0, audio.shape[1], points, endpoint=False).astype(int)
    above = np.maximum.reduceat(audio.max(axis=0), edges)
    below = np.minimum.reduceat(audio.min(axis=0), edges)
    x = np.linspace(0, POINTS, points)
    outline = [*zip(x, 1 - above, strict=True), *zip(x[::-1], 1 - below[::-1], strict=True)]
    return "M" + "L".join(f"{across:.4g},{down:.2f}" for across, down in outline) + "Z"


def _webp(level_db: np.ndarray, top: float) -> str:
    file = io.BytesIO()
    imsave(
        file,
        level_db[::-1],
        cmap="Blues",
        vmin=top - RANGE_DB,
        vmax=top,
        format="webp",
        pil_kwargs={"quality": 75},
    )
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
