"""How far the test figures would move with other songs: the bootstrap, with the song as the unit.

The mixtures of one song share its players, its instruments and its sound, so that ten mixtures of a song tell
far less than one mixture of each of ten. Resampling mixtures would pass over that and give intervals that
are too narrow; here whole songs are drawn, with replacement, and all mixtures of a song go together.

What the intervals hold is the uncertainty about *songs*, for the models at hand. That of training (the seed)
is not in them: it is the spread over runs, and stands beside them. With fewer than some ten songs a bootstrap
interval is too narrow itself, as few songs cannot show how different songs can be.

Conventions
-----------
Labels ``(example, class)`` and scores as in ``timbrel.metrics``, the scores of several runs (seeds of one
setting) stacked to ``(run, example, class)``. Undefined is NaN, as it is there: a class that has no positive,
or no negative, among the songs of a draw is left out of that draw's macro mean.

References
----------
B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap", Chapman & Hall 1993 (percentile intervals,
chapter 13).
"""

from dataclasses import dataclass

import numpy as np

from timbrel import metrics

LEVEL = 0.95
"""Share of the draws that an interval holds."""
BLOCK = 100
"""Draws worked on at a time: their arrays ``(example, draw)`` stay in the processor's cache."""


@dataclass(frozen=True)
class Interval:
    """A percentile interval; both ends are NaN where no draw was defined."""

    low: float
    high: float
    level: float = LEVEL
    """Share of the draws between the ends."""


def draws(
    labels: np.ndarray,
    scores: np.ndarray,
    songs: np.ndarray,
    thresholds: np.ndarray,
    *,
    count: int = 1000,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Return the metrics on resampled songs, each the mean over the runs, which are judged on the same songs.

    ``roc_auc_macro``, ``pr_auc_macro``, ``f1_macro`` and ``binary_cross_entropy`` have the shape ``(draw,)``;
    ``roc_auc_per_class``, ``pr_auc_per_class`` and ``f1_per_class`` ``(draw, class)``.

    The songs of a draw depend on the seed and on the set of songs alone. Two models that were judged on the
    same songs are thus paired draw by draw, and ``probability_higher`` can compare them.

    Args:
        labels: 0 or 1, shape ``(example, class)``.
        scores: probabilities, shape ``(run, example, class)``.
        songs: the song of each example, shape ``(example,)``.
        thresholds: those of each run, shape ``(run, class)``.
        count: number of draws.
        seed: of the resampling.

    Raises:
        ValueError: shapes that do not fit, or a single song, of which every draw is the same.
    """
    labels, scores, songs, thresholds = map(np.asarray, (labels, scores, songs, thresholds))
    if scores.ndim != 3 or not len(scores):
        raise ValueError(f"expected scores (run, example, class) of at least one run, got {scores.shape}")
    for run in scores:
        metrics.validate(labels, run)
    if songs.shape != labels.shape[:1]:
        raise ValueError(f"expected the song of each example {labels.shape[:1]}, got {songs.shape}")
    if thresholds.shape != scores.shape[::2]:
        raise ValueError(f"expected thresholds (run, class) {scores.shape[::2]}, got {thresholds.shape}")
    names, song_of_example = np.unique(songs, return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"expected at least two songs to draw from, got only '{names[0]}'")

    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=count).T.astype(np.float64)
    weights = drawn[song_of_example]  # (example, draw): how often the example is in the draw
    areas = np.mean([_areas(labels, run, weights) for run in scores], axis=0)
    decisions = (metrics.decide(run, at) for run, at in zip(scores, thresholds, strict=True))
    per_class = {
        "roc_auc": areas[0],
        "pr_auc": areas[1],
        "f1": np.mean([_f1(labels == 1, predicted, weights) for predicted in decisions], axis=0),
    }
    losses = np.mean([metrics.cross_entropies(labels, run).mean(axis=1) for run in scores], axis=0)
    return {
        **{f"{name}_macro": _mean_of_defined(values) for name, values in per_class.items()},
        "binary_cross_entropy": losses @ weights / weights.sum(axis=0),
        **{f"{name}_per_class": values for name, values in per_class.items()},
    }


def interval(draws: np.ndarray, level: float = LEVEL) -> Interval:
    """Return the percentile interval of one metric's draws ``(draw,)``, of those that are defined."""
    if not 0 < level < 1:
        raise ValueError(f"expected a level between 0 and 1, got {level}")
    defined = draws[~np.isnan(draws)]
    if not defined.size:
        return Interval(np.nan, np.nan, level)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level)


def probability_higher(a: np.ndarray, b: np.ndarray) -> float:
    """Return the share of the draws ``(draw,)`` in which ``a`` is higher than ``b``; a tie counts half.

    The draws must be paired: the same songs and the same seed. Pairs of which one is undefined are left out;
    NaN where none remains. 1 says "on whichever songs", and nothing about how much higher.
    """
    if a.shape != b.shape:
        raise ValueError(f"expected as many draws of each, got {a.shape} and {b.shape}")
    differences = (a - b)[~np.isnan(a - b)]
    return float(np.mean((np.sign(differences) + 1) / 2)) if differences.size else float("nan")


def _areas(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the ROC-AUC and the PR-AUC of one run, shape ``(2, draw, class)``."""
    blocks = []
    for start in range(0, weights.shape[1], BLOCK):
        block = np.ascontiguousarray(weights[:, start : start + BLOCK])
        blocks.append([_class_areas(*columns, block) for columns in zip(labels.T, scores.T, strict=True)])
    return np.concatenate(blocks, axis=-1).transpose(1, 2, 0)


def _class_areas(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return both areas of one class, shape ``(2, draw)``; labels and scores ``(example,)``.

    From the highest score down, the running weights of the positives and of the negatives are the corners of
    both curves. Equal scores make one corner.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, present = scores[order], labels[order] == 1
    corners = np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True))
    weights = weights[order]
    predicted = np.cumsum(weights, axis=0)[corners]  # (corner, draw)
    hits = np.cumsum(weights * present[:, None], axis=0)[corners]
    positives, negatives = hits[-1], predicted[-1] - hits[-1]
    new_hits = np.diff(hits, axis=0, prepend=0)
    misses_above = negatives - (predicted - hits)  # negatives ranked below this corner
    ranked_right = np.sum(new_hits * (misses_above + np.diff(predicted - hits, axis=0, prepend=0) / 2), axis=0)
    # A corner that nothing is above has no weight: whatever its precision, no recall is gained there.
    precision = np.divide(hits, predicted, out=np.zeros_like(hits), where=predicted > 0)
    areas = np.full((2, weights.shape[1]), np.nan)
    both = (positives > 0) & (negatives > 0)
    areas[0, both] = (ranked_right / (positives * negatives).clip(1))[both]
    areas[1, both] = (np.sum(new_hits * precision, axis=0) / positives.clip(1))[both]
    return areas


def _f1(present: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the F1 of one run, shape ``(draw, class)``; NaN without a positive."""
    hits, positives, predictions = (weights.T @ each for each in (present & predicted, present, predicted))
    return np.divide(2 * hits, positives + predictions, out=np.full(positives.shape, np.nan), where=positives > 0)


def _mean_of_defined(per_class: np.ndarray) -> np.ndarray:
    """Return the mean over the defined classes of each draw, shape ``(draw,)``; NaN where none is."""
    defined = ~np.isnan(per_class)
    number = defined.sum(axis=1)
    sums = np.where(defined, per_class, 0).sum(axis=1)
    return np.divide(sums, number, out=np.full(len(sums), np.nan), where=number > 0)
