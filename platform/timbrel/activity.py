"""Activation confidence: where in a song each stem sounds.

The recipe is MedleyDB's (``medleydb/annotate/activation_conf.py``; Bittner et al., ISMIR 2014): frames of 4096
samples with hop 2048 at 44.1 kHz. At other rates frame and hop keep their length in seconds, rounded to a
sample, so nothing is resampled. The confidence of silence is 0.0474. A stem counts as sounding from 0.5, the
midpoint of the logistic: MedleyDB's own ``SOURCEID.lab`` are the intervals of its confidence from 0.5 on.

The authors fill a stem with silence up to a multiple of 4096 samples. Here frames end with the stem, so there may be a
frame more or less, and up to three at the end of a song that doesn't fade may be judged otherwise.
"""

import numpy as np

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
    # Here, because whatever reads a library imports this module, none but `timbrel prepare` comes by, and SciPy's
    # filters take most of a second.
    from scipy.signal import butter, filtfilt

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
    return stem_intervals(confidence_, np.array([0, len(confidence_)]), np.array([hop_s]), threshold)[0]


def stem_intervals(
    confidence_: np.ndarray, offsets: np.ndarray, hops_s: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return where each of many stems sounds.

    Args:
        confidence_: of all stems, one after the other: ``(frame,)``.
        offsets: frames of stem ``t`` are ``offsets[t]:offsets[t + 1]``; int ``(stem + 1,)``.
        hops_s: between frames, in s, ``(stem,)``.
        threshold: from which a stem sounds.

    Returns:
        ``(interval, 2)`` float32, start and end in s, in order and disjoint; and how many of them each stem has,
        int64 ``(stem,)``.
    """
    sounding = confidence_ >= threshold
    before, after = (np.roll(sounding, shift) for shift in (1, -1))
    there = np.diff(offsets) > 0
    before[offsets[:-1][there]] = False
    after[offsets[1:][there] - 1] = False
    edges = np.stack([np.flatnonzero(sounding & ~before), np.flatnonzero(sounding & ~after) + 1], axis=1)
    stems = np.searchsorted(offsets, edges[:, 0], side="right") - 1
    frames = edges - offsets[stems, None]
    # Frame i is centred on i * hop, so it speaks for half a hop on either side.
    times = ((frames - 0.5) * hops_s[stems, None]).clip(min=0).astype(np.float32)
    return times, np.bincount(stems, minlength=len(hops_s))
