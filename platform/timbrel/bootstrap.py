"""How far the test figures would move with other songs: the bootstrap, with the song as the unit.

The mixtures of one song share its players, its instruments and its sound, so that ten mixtures of a song tell
far less than one mixture of each of ten. Resampling mixtures would pass over that and give intervals that
are too narrow; here whole songs are drawn, with replacement, and all mixtures of a song go together.

What the intervals hold is the uncertainty about *songs*, for the models at hand. That of training (the seed)
is not in them: it is the spread over runs, and stands beside them. With fewer than some ten songs a bootstrap
interval is too narrow itself, as few songs cannot show how different songs can be.

Conventions
-----------
Labels ``(example, class)``, NaN where nobody judged, and scores as in ``timbrel.metrics``, the scores of several runs
(seeds of one setting) stacked to ``(run, example, class)``. Undefined is NaN, as it is there: a class that has no
judged positive, or no judged negative, among the songs of a draw is left out of that draw's macro mean.

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
CORNERS = 2000
"""Of a class's curves at most. Where a class has more different scores, as of frames, neighbours among them are taken
for equal, which moves an area by less than a thousandth."""


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
        labels: 0 or 1, NaN where nobody judged, shape ``(example, class)``.
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
    # (draw, song): how often the song is in the draw, and all that is known of it with it
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=count).astype(np.float64)
    areas = np.mean([_areas(labels, run, song_of_example, drawn) for run in scores], axis=0)
    decisions = (metrics.decide(run, at) for run, at in zip(scores, thresholds, strict=True))
    judged = metrics.is_judged(labels)
    per_class = {
        "roc_auc": areas[0],
        "pr_auc": areas[1],
        "f1": np.mean([_f1(labels == 1, each & judged, song_of_example, drawn) for each in decisions], axis=0),
    }
    return {
        **{f"{name}_macro": _mean_of_defined(values) for name, values in per_class.items()},
        "binary_cross_entropy": _loss(labels, scores, song_of_example, drawn),
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


def _areas(labels: np.ndarray, scores: np.ndarray, songs: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Return the ROC-AUC and the PR-AUC of one run, shape ``(2, draw, class)``.

    ``songs`` says which song each example is of, ``(example,)``; ``drawn`` is ``(draw, song)``.
    """
    areas = [_class_areas(*columns, songs, drawn) for columns in zip(labels.T, scores.T, strict=True)]
    return np.stack(areas, axis=-1)


def _class_areas(labels: np.ndarray, scores: np.ndarray, songs: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Return both areas of one class, shape ``(2, draw)``; labels and scores ``(example,)``.

    From the highest score down, the positives and the negatives that are drawn are the corners of both curves. Equal
    scores make one corner.
    """
    areas = np.full((2, len(drawn)), np.nan)
    judged = metrics.is_judged(labels)
    if not judged.any():
        return areas
    if not judged.all():  # nor do songs without a judged example change anything, however often they are drawn
        kept, songs = np.unique(songs[judged], return_inverse=True)
        labels, scores, drawn = labels[judged], scores[judged], drawn[:, kept]
    corner = _corners(scores)
    shape = len(drawn[0]), int(corner.max()) + 1
    cell = songs * shape[1] + corner
    positive, each = (np.bincount(cell, weights, minlength=shape[0] * shape[1]) for weights in (labels == 1, None))
    new_hits, new = drawn @ positive.reshape(shape), drawn @ each.reshape(shape)  # (draw, corner)
    hits, predicted = np.cumsum(new_hits, axis=1), np.cumsum(new, axis=1)
    positives, negatives = hits[:, -1], predicted[:, -1] - hits[:, -1]
    misses_above = negatives[:, None] - (predicted - hits)  # negatives ranked below this corner
    ranked_right = np.sum(new_hits * (misses_above + (new - new_hits) / 2), axis=1)
    # A corner that nothing is above has no weight: whatever its precision, no recall is gained there.
    precision = np.divide(hits, predicted, out=np.zeros_like(hits), where=predicted > 0)
    both = (positives > 0) & (negatives > 0)
    areas[0, both] = (ranked_right / (positives * negatives).clip(1))[both]
    areas[1, both] = (np.sum(new_hits * precision, axis=1) / positives.clip(1))[both]
    return areas


def _corners(scores: np.ndarray) -> np.ndarray:
    """Return to which corner each score ``(example,)`` belongs, 0 for the highest."""
    different, corner = np.unique(-scores, return_inverse=True)
    if len(different) <= CORNERS:
        return corner
    below = np.cumsum(np.bincount(corner)) - 1  # the place of each score among the examples, in order
    return np.unique(below * CORNERS // len(scores), return_inverse=True)[1][corner]


def _f1(present: np.ndarray, predicted: np.ndarray, songs: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Return the F1 of one run, shape ``(draw, class)``; NaN without a positive."""
    of_songs = np.zeros((3, drawn.shape[1], present.shape[1]))
    for counts, each in zip(of_songs, (present & predicted, present, predicted), strict=True):
        np.add.at(counts, songs, each)
    hits, positives, predictions = drawn @ of_songs
    return np.divide(2 * hits, positives + predictions, out=np.full(positives.shape, np.nan), where=positives > 0)


def _loss(labels: np.ndarray, scores: np.ndarray, songs: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Return the mean cross-entropy of all runs over the judged decisions, shape ``(draw,)``; NaN without one."""
    losses = np.mean([np.nan_to_num(metrics.cross_entropies(labels, run)).mean(axis=1) for run in scores], axis=0)
    judged = metrics.is_judged(labels).mean(axis=1)  # of an example's classes, as in the losses
    sums, numbers = (drawn @ np.bincount(songs, each) for each in (losses, judged))
    return np.divide(sums, numbers, out=np.full(len(drawn), np.nan), where=numbers > 0)


def _mean_of_defined(per_class: np.ndarray) -> np.ndarray:
    """Return the mean over the defined classes of each draw, shape ``(draw,)``; NaN where none is."""
    defined = ~np.isnan(per_class)
    number = defined.sum(axis=1)
    sums = np.where(defined, per_class, 0).sum(axis=1)
    return np.divide(sums, number, out=np.full(len(sums), np.nan), where=number > 0)
