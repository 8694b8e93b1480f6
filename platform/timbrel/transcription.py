"""Transcription on a grid of frames: how well rolls of pitches and instruments agree with what is played.

A model says for each frame which instrument plays which pitch (the *roll*), which pitches sound whoever
plays them (the *pitch roll*) and which instruments play at all (the *instrument roll*). ``evaluate`` gathers
the metrics of the three into one flat dictionary of named numbers, fast enough for the end of every epoch.
Notes, with a beginning and an end, are compared in ``timbrel.note_metrics``, which takes longer.

Conventions
-----------
A roll has the shape ``(example, class, pitch, frame)``, a pitch roll ``(example, pitch, frame)``, an
instrument roll ``(example, class, frame)``. Targets and decisions are bool; the true pitch roll and instrument
roll are what is on in the true roll for any class and at any pitch. Scores are probabilities in [0, 1], no
logits. What scores *at or above* its threshold is decided to be on. Frames last ``frame_s`` seconds and follow
each other without gap or overlap. Several examples may be pieces of one song: ``songs`` names the song of each
example, and order does not matter.

*Undefined is NaN, never 0 or 1*, and what is undefined for a class or a song is left out of the mean over
classes (*macro*) or songs (*per song*). *Micro* pools the decisions of all examples first, so that songs and
classes in which much is played weigh more.

Metrics
-------
* Multipitch accuracy of the pitch roll and of the roll: hits / (hits + misses + false alarms), the accuracy of
  ``mir_eval.multipitch`` where reference and estimate are on one grid; there silence found silent does not
  count as right. In the roll a decision is (class, pitch, frame): the right pitch given to the wrong instrument
  is a miss and a false alarm. Undefined where nothing is played nor predicted (mir_eval says 0).
* F1 of the instrument roll, of the decisions (class, frame).
* ROC-AUC of the instruments by windows of time, with the highest score in a window as the score of the window,
  and of whole songs. The paper's figures are by the second; how its frames were pooled it does not say.

References
----------
M. Bay, A. F. Ehmann and J. S. Downie, "Evaluation of multiple-F0 estimation and tracking systems", ISMIR 2009.
C. Raffel, B. McFee, E. J. Humphrey, J. Salamon, O. Nieto, D. Liang and D. P. W. Ellis, "mir_eval: a transparent
implementation of common MIR metrics", ISMIR 2014.
Y.-N. Hung, Y.-A. Chen and Y.-H. Yang, "Multitask learning for frame-level instrument recognition", ICASSP 2019.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from timbrel import metrics

WINDOWS_S = (1.0, 5.0, 10.0)
"""Windows that instruments are judged in, in seconds."""
THRESHOLD_BINS = 1_000
"""Thresholds tried for a roll: 1/1000, 2/1000, ..., 1."""
_CHUNK = 1 << 20  # scores at a time: the copies of a chunk in double precision stay small


class Scores(NamedTuple):
    """Probabilities in [0, 1] of the three rolls, of any float type."""

    roll: np.ndarray
    """``(example, class, pitch, frame)``"""
    pitch: np.ndarray
    """``(example, pitch, frame)``"""
    instrument: np.ndarray
    """``(example, class, frame)``"""


class Thresholds(NamedTuple):
    """Probabilities at and above which something is on."""

    roll: float
    pitch: float
    instrument: np.ndarray
    """``(class,)``"""


class F1(NamedTuple):
    """F1 of several classes; NaN where no frame is positive."""

    micro: float
    macro: float
    per_class: np.ndarray
    """``(class,)``"""


def frame_counts(targets: np.ndarray, decisions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the hits, misses and false alarms of each example, ``(example,)`` each.

    Both rolls are bool, ``(example, ..., frame)``.
    """
    _check_rolls(targets, decisions)
    # Example by example: what is counted at once stays in the cache, which is many times faster.
    pairs = list(zip(targets, decisions, strict=True))
    hits = np.array([np.count_nonzero(present & on) for present, on in pairs], dtype=np.int64)
    present = np.array([np.count_nonzero(present) for present, _ in pairs], dtype=np.int64)
    predicted = np.array([np.count_nonzero(on) for _, on in pairs], dtype=np.int64)
    return hits, present - hits, predicted - hits


def multipitch_accuracy(targets: np.ndarray, decisions: np.ndarray) -> float:
    """Return hits / (hits + misses + false alarms) over all examples; NaN where nothing is on in either.

    Both are bool: pitch rolls ``(example, pitch, frame)`` or rolls ``(example, class, pitch, frame)``.
    """
    return _accuracy(np.sum(frame_counts(targets, decisions), axis=1))


def multipitch_accuracy_per_song(
    targets: np.ndarray, decisions: np.ndarray, songs: Sequence[str] | np.ndarray
) -> float:
    """Return the mean over the songs of each song's own multipitch accuracy; ``songs`` is ``(example,)``.

    A song in which nothing is played nor predicted is left out; NaN if that is so of all.
    """
    counts = np.stack(frame_counts(targets, decisions))
    return _accuracy_per_song(counts, _song_indices(songs, len(targets)))


def instrument_f1(targets: np.ndarray, decisions: np.ndarray) -> F1:
    """Return the F1 of the frames in which each class plays; both bool, ``(example, class, frame)``."""
    _check_rolls(targets, decisions)
    present, predicted = _by_class(targets), _by_class(decisions)
    per_class = metrics.f1(present, predicted)
    micro = float(metrics.f1(present.reshape(-1, 1), predicted.reshape(-1, 1))[0])
    return F1(micro=micro, macro=metrics.macro(per_class), per_class=per_class)


def choose_roll_threshold(
    targets: np.ndarray, scores: np.ndarray, fallback: float, bins: int = THRESHOLD_BINS
) -> float:
    """Return the one threshold for a whole roll at which its multipitch accuracy is highest.

    ``targets`` is bool and ``scores`` probabilities, both of one shape, ``(example, ..., frame)``, from the
    *validation* split. Tried are the thresholds 1/bins, 2/bins, ..., 1, each exactly, by a histogram: sorting
    tens of millions of scores would take longer than an epoch's other metrics together. Of thresholds with
    the same accuracy the one nearest 0.5 is taken. ``fallback`` is returned where nothing at all is on in
    the targets.
    """
    _check_rolls(targets, scores, scored=True)
    if bins < 1:
        raise ValueError(f"expected at least one bin, got {bins}")
    grid = np.arange(bins + 1) / bins
    above = np.append(grid, np.inf)
    on, everything = np.zeros(bins + 1, dtype=np.int64), np.zeros(bins + 1, dtype=np.int64)
    flat_targets, flat_scores = targets.reshape(-1), scores.reshape(-1)
    for start in range(0, flat_scores.size, _CHUNK):
        chunk = flat_scores[start : start + _CHUNK].astype(np.float64)
        index = (chunk * bins).astype(np.int64)
        # The product is rounded: a score just below a threshold must not count as at it, nor the reverse.
        index += chunk >= above[index + 1]
        index -= chunk < grid[index]
        everything += np.bincount(index, minlength=bins + 1)
        on += np.bincount(index[flat_targets[start : start + _CHUNK]], minlength=bins + 1)
    if on.sum() == 0:
        return fallback
    hits, predicted = (np.cumsum(counts[::-1])[::-1][1:] for counts in (on, everything))  # at grid[1:]
    accuracies = hits / (on.sum() + predicted - hits)
    best = grid[1:][accuracies == accuracies.max()]
    return float(best[np.argmin(np.abs(best - 0.5))])


def pooled(scores: np.ndarray, seconds: float, frame_s: float) -> np.ndarray:
    """Return the highest score in each window of ``seconds``, ``(example, class, window)``.

    ``scores`` is ``(example, class, frame)``; bool is pooled to whether any frame is on. A frame belongs to the
    window in which it starts, so that windows keep time where ``seconds`` is no multiple of ``frame_s``. The
    windows of each example begin anew with its first frame; its last one holds what is left over and may be
    shorter.
    """
    _check_frames(scores, frame_s)
    if not (np.isfinite(seconds) and seconds > 0):
        raise ValueError(f"expected windows of more than 0 s, got {seconds}")
    # A frame that starts at the border is in the window after it, whichever way its time is rounded.
    windows = np.floor(np.arange(scores.shape[-1]) * frame_s / seconds + 1e-9)
    starts = np.flatnonzero(np.diff(windows, prepend=-1.0))
    return np.maximum.reduceat(scores, starts, axis=-1)


def pooled_auc(
    targets: np.ndarray,
    scores: np.ndarray,
    songs: Sequence[str] | np.ndarray,
    frame_s: float,
    windows_s: Sequence[float] = WINDOWS_S,
) -> dict[str, np.ndarray]:
    """Return the ROC-AUC of each class ``(class,)`` by windows: ``{"1s": ..., "5s": ..., "track": ...}``.

    ``targets`` (bool) and ``scores`` are ``(example, class, frame)``. A class is present in a window in which
    any of its frames is on. All windows of all examples are ranked together; ``"track"`` has one
    "window" a song, over all its examples. NaN for a class that is in every window or in none; the macro
    ROC-AUC is ``timbrel.metrics.macro`` of the array.
    """
    _check_rolls(targets, scores, scored=True)
    _check_frames(scores, frame_s)
    index = _song_indices(songs, len(targets))
    scores = scores.astype(np.float64)  # scikit-learn ranks in double precision anyway
    areas = {}
    for seconds in windows_s:
        present, score = (_by_class(pooled(array, seconds, frame_s)) for array in (targets, scores))
        areas[f"{seconds:g}s"] = metrics.roc_auc(present, score)
    areas["track"] = metrics.roc_auc(_by_song(targets, index), _by_song(scores, index))
    return areas


def evaluate(
    targets: np.ndarray,
    scores: Scores,
    thresholds: Thresholds,
    songs: Sequence[str] | np.ndarray,
    classes: Sequence[str],
    frame_s: float,
    windows_s: Sequence[float] = WINDOWS_S,
) -> dict[str, float]:
    """Return every metric by name: ``roll_accuracy``, ``instrument_f1_macro``, ``roc_auc_1s/violin``.

    ``targets`` is the true roll, bool ``(example, class, pitch, frame)``. Undefined metrics are in the
    dictionary as NaN, so its keys depend on ``classes`` and ``windows_s`` alone.
    ``instrument_support/<class>`` is the number of frames in which the class plays.
    """
    validate(targets, scores, thresholds, songs, classes, frame_s)
    labels = [metrics.metric_name(name) for name in classes]
    index = _song_indices(songs, len(targets))
    true_pitches, true_instruments = np.asarray(targets.any(axis=1)), np.asarray(targets.any(axis=2))

    pitch_counts = np.stack(frame_counts(true_pitches, scores.pitch >= np.float64(thresholds.pitch)))
    # Each class of each example is counted for itself, which serves the figures of the classes too.
    examples, count = targets.shape[:2]
    decisions = scores.roll >= np.float64(thresholds.roll)
    by_class = frame_counts(*(array.reshape(examples * count, *array.shape[2:]) for array in (targets, decisions)))
    class_counts = np.stack(by_class).reshape(3, examples, count)
    roll_counts = class_counts.sum(axis=2)
    result = {
        "pitch_accuracy": _accuracy(pitch_counts.sum(axis=1)),
        "pitch_accuracy_per_song": _accuracy_per_song(pitch_counts, index),
        "roll_accuracy": _accuracy(roll_counts.sum(axis=1)),
        "roll_accuracy_per_song": _accuracy_per_song(roll_counts, index),
    }

    f1 = instrument_f1(true_instruments, scores.instrument >= np.asarray(thresholds.instrument)[:, None])
    result |= {"instrument_f1_micro": f1.micro, "instrument_f1_macro": f1.macro}
    per_class: dict[str, Sequence[float] | np.ndarray] = {
        "roll_accuracy": [_accuracy(class_counts[:, :, i].sum(axis=1)) for i in range(count)],
        "instrument_f1": f1.per_class,
    }
    for window, areas in pooled_auc(true_instruments, scores.instrument, songs, frame_s, windows_s).items():
        result[f"roc_auc_{window}_macro"] = metrics.macro(areas)
        per_class[f"roc_auc_{window}"] = areas
    per_class["instrument_support"] = true_instruments.sum(axis=(0, 2))
    for name, values in per_class.items():
        result |= {f"{name}/{label}": float(value) for label, value in zip(labels, values, strict=True)}
    return result


def validate(
    targets: np.ndarray,
    scores: Scores,
    thresholds: Thresholds,
    songs: Sequence[str] | np.ndarray,
    classes: Sequence[str],
    frame_s: float,
) -> None:
    """Raise ``ValueError`` unless everything ``evaluate`` takes fits together; the message names the shapes."""
    if np.ndim(targets) != 4 or 0 in np.shape(targets):
        raise ValueError(f"expected targets (example, class, pitch, frame), none of them 0, got {np.shape(targets)}")
    examples, count, pitches, frames = targets.shape
    shapes = ((examples, count, pitches, frames), (examples, pitches, frames), (examples, count, frames))
    for name, array, shape in zip(Scores._fields, scores, shapes, strict=True):
        if np.shape(array) != shape:
            raise ValueError(f"expected {name} scores {shape} for targets {targets.shape}, got {np.shape(array)}")
        _check_probabilities(array, f"{name} scores")
    if targets.dtype != bool:
        raise ValueError(f"expected targets of type bool, got {targets.dtype}")
    if np.shape(thresholds.instrument) != (count,):
        raise ValueError(f"expected one instrument threshold a class ({count},), got {np.shape(thresholds.instrument)}")
    if not all(np.all((np.asarray(value) >= 0) & (np.asarray(value) <= 1)) for value in thresholds):
        raise ValueError(f"expected thresholds in [0, 1], got {thresholds}")
    labels = {metrics.metric_name(name) for name in classes}
    if len(classes) != count or len(labels) != count:
        raise ValueError(f"expected {count} distinct class names, got {list(classes)}")
    _song_indices(songs, examples)
    _check_frames(scores.instrument, frame_s)


def _check_rolls(targets: np.ndarray, decisions: np.ndarray, scored: bool = False) -> None:
    """Raise ``ValueError`` unless both have one shape ``(example, ..., frame)`` and the type they should have."""
    if np.ndim(targets) < 2 or np.shape(targets) != np.shape(decisions) or 0 in np.shape(targets):
        what = "scores" if scored else "decisions"
        raise ValueError(
            f"expected targets and {what} of one shape (example, ..., frame), none of it 0, "
            f"got {np.shape(targets)} and {np.shape(decisions)}"
        )
    if targets.dtype != bool or (not scored and decisions.dtype != bool):
        raise ValueError(f"expected rolls of type bool, got {targets.dtype} and {decisions.dtype}")
    if scored:
        _check_probabilities(decisions, "scores")


def _check_probabilities(scores: np.ndarray, what: str) -> None:
    if not np.issubdtype(scores.dtype, np.floating):
        raise ValueError(f"expected {what} of a float type, got {scores.dtype}")
    low, high = scores.min(), scores.max()
    if not (low >= 0 and high <= 1):  # NaN too
        raise ValueError(f"expected finite {what} in [0, 1], got {low} to {high}")


def _check_frames(scores: np.ndarray, frame_s: float) -> None:
    if np.ndim(scores) != 3 or 0 in np.shape(scores):
        raise ValueError(f"expected an array (example, class, frame), none of them 0, got {np.shape(scores)}")
    if not (np.isfinite(frame_s) and frame_s > 0):
        raise ValueError(f"expected frames of more than 0 s, got {frame_s}")


def _song_indices(songs: Sequence[str] | np.ndarray, examples: int) -> np.ndarray:
    """Return the number of each example's song, counted from 0, ``(example,)``."""
    if np.shape(songs) != (examples,):
        raise ValueError(f"expected one song an example ({examples},), got {np.shape(songs)}")
    return np.unique(np.asarray(songs), return_inverse=True)[1]


def _accuracy(counts: np.ndarray) -> float:
    """Return the accuracy of hits, misses and false alarms ``(3,)``."""
    return float(counts[0] / counts.sum()) if counts.sum() else float("nan")


def _accuracy_per_song(counts: np.ndarray, songs: np.ndarray) -> float:
    """Return the mean over songs; ``counts`` is ``(3, example)`` and ``songs`` their numbers, ``(example,)``."""
    of_songs = np.stack([np.bincount(songs, weights=row) for row in counts], axis=1)
    return metrics.macro(np.array([_accuracy(song) for song in of_songs]))


def _by_class(array: np.ndarray) -> np.ndarray:
    """Return ``(example, class, frame)`` as ``(example x frame, class)``."""
    return array.swapaxes(1, 2).reshape(-1, array.shape[1])


def _by_song(array: np.ndarray, songs: np.ndarray) -> np.ndarray:
    """Return the highest value in each song, ``(song, class)``, of an array ``(example, class, frame)``."""
    highest = np.zeros((songs.max() + 1, array.shape[1]), dtype=array.dtype)  # nothing is below 0
    np.maximum.at(highest, songs, array.max(axis=2))
    return highest
