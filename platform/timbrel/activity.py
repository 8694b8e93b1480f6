"""Activation confidence: where in a song each stem sounds.

The recipe is MedleyDB's (``medleydb/annotate/activation_conf.py``; Bittner et al., ISMIR 2014): frames of 4096
samples with hop 2048 at 44.1 kHz. At other rates frame and hop keep their length in seconds, rounded to a
sample, so nothing is resampled. The confidence of silence is 0.0474. A stem counts as sounding from 0.5, the
midpoint of the logistic: MedleyDB's own ``SOURCEID.lab`` are the intervals of its confidence from 0.5 on.

The authors fill a stem with silence up to a multiple of 4096 samples. Here frames end with the stem, so there may be a
frame more or less, and up to three at the end of a song that doesn't fade may be judged otherwise.
"""

import numpy as np
from scipy.signal import butter, filtfilt

FRAME_S = 4096 / 44_100
HOP_S = 2048 / 44_100
SILENCE = float(1 - 1 / (1 + np.exp(20 * (0 - 0.15))))
"""Confidence where nothing sounds: 0.0474."""
SOUNDING = 0.5
"""Confidence from which a stem counts as sounding: the midpoint of the logistic."""


def hop_samples(sample_rate: int) -> int:
    """Return the hop between activity frames, in samples."""
    return round(HOP_S * sample_rate)


def envelope(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return the envelope of one stem: ``(sample,)`` to ``(frame,)``.

    Mean over each frame of the Hann-weighted square root of the half-wave rectified signal.
    """
    hop, frame = hop_samples(sample_rate), round(FRAME_S * sample_rate)
    # As the authors do: one hop of silence in front centres frame i on sample i * hop.
    padded = np.concatenate([np.zeros(hop), np.maximum(audio, 0), np.zeros(frame)])
    frames = np.lib.stride_tricks.sliding_window_view(np.sqrt(padded), frame)[::hop]
    window = np.hanning(frame + 2)[1:-1]
    return (frames[: len(audio) // hop + 1] @ window) / frame


def confidence(envelopes: np.ndarray) -> np.ndarray:
    """Return the activation confidence of a song's stems: ``(stem, frame)`` to ``(stem, frame)``, in (0, 1).

    Each stem is judged against the song's loudest moment, so a stem much quieter than the song counts as silent.
    """
    total = envelopes.sum(axis=0)
    if not total.max(initial=0) > 0:
        return np.full(envelopes.shape, SILENCE, dtype=np.float32)
    relative = len(envelopes) * envelopes / total.max()
    relative[:, total < 0.01] = 0
    numerator, denominator = butter(2, 0.075)
    padding = 3 * max(len(numerator), len(denominator))
    if relative.shape[1] > padding:  # filtfilt reflects at the ends; a song of under half a second stays unsmoothed.
        relative = filtfilt(numerator, denominator, relative, axis=1)
    return (1 - 1 / (1 + np.exp(20 * (relative - 0.15)))).astype(np.float32)


def intervals(confidence_: np.ndarray, hop_s: float, threshold: float) -> np.ndarray:
    """Return where one stem sounds: ``(interval, 2)`` float32, start and end in s, in order and disjoint."""
    active = np.concatenate([[False], confidence_ >= threshold, [False]])
    edges = np.flatnonzero(np.diff(active.astype(np.int8)))
    # Frame i is centred on i * hop, so it speaks for half a hop on either side.
    return ((edges.reshape(-1, 2) - 0.5) * hop_s).clip(min=0).astype(np.float32)
