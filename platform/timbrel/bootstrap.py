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
BLOCK_CELLS = 1_000_000
"""Size of the arrays ``(corner, draw)`` that are worked on at a time: they stay in the processor's cache, and small
where frames are examples and there are hundreds of thousands."""


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
    areas = np.mean([_areas(labels, run, drawn, song_of_example) for run in scores], axis=0)
    decisions = (metrics.decide(run, at) for run, at in zip(scores, thresholds, strict=True))
    per_class = {
        "roc_auc": areas[0],
        "pr_auc": areas[1],
        "f1": np.mean([_f1(labels == 1, each, drawn, song_of_example) for each in decisions], axis=0),
    }
    losses = np.mean([metrics.cross_entropies(labels, run).mean(axis=1) for run in scores], axis=0)
    return {
        **{f"{name}_macro": _mean_of_defined(values) for name, values in per_class.items()},
        "binary_cross_entropy": _by_song(losses, song_of_example) @ drawn / (np.bincount(song_of_example) @ drawn),
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


def _areas(labels: np.ndarray, scores: np.ndarray, drawn: np.ndarray, song_of_example: np.ndarray) -> np.ndarray:
    """Return the ROC-AUC and the PR-AUC of one run, shape ``(2, draw, class)``.

    ``drawn``: how often each song is in each draw, ``(song, draw)``.
    """
    columns = zip(labels.T, scores.T, strict=True)
    return np.stack([_class_areas(*column, drawn, song_of_example) for column in columns], axis=-1)


def _class_areas(labels: np.ndarray, scores: np.ndarray, drawn: np.ndarray, song_of_example: np.ndarray) -> np.ndarray:
    """Return both areas of one class, shape ``(2, draw)``; labels and scores ``(example,)``.

    From the highest score down, how many positives and negatives have gone by are the corners of both curves. Equal
    scores make one corner. Only corners with a positive add to the areas. Examples are counted by song, once, and the
    counts multiplied by the draws: a song's examples go together.
    """
    songs = len(drawn)
    order = np.argsort(-scores, kind="stable")
    ranked, present, song = scores[order], labels[order] == 1, song_of_example[order]
    corner = np.cumsum(np.append(False, ranked[1:] < ranked[:-1]))
    telling = np.unique(corner[present])
    row = np.searchsorted(telling, corner)  # the corner with a positive at which an example has gone by
    positives, negatives = (np.bincount(song[side], minlength=songs) @ drawn for side in (present, ~present))
    ranked_right, gained = np.zeros(drawn.shape[1]), np.zeros(drawn.shape[1])
    before = np.zeros((2, songs))  # counts of positives and negatives above the block
    step = max(1, BLOCK_CELLS // max(drawn.shape))
    for first in range(0, len(telling), step):
        rows = min(step, len(telling) - first)
        inside = slice(*np.searchsorted(row, (first, first + rows)))

        def counted(side: np.ndarray, inside: slice = inside, first: int = first, rows: int = rows) -> np.ndarray:
            """Return how many of some examples of each song come in at each corner, ``(corner, song)``."""
            cell = (row[inside][side[inside]] - first) * songs + song[inside][side[inside]]
            return np.bincount(cell, minlength=rows * songs).reshape(rows, songs).astype(np.float64)

        new_hits = counted(present)
        above = np.cumsum(new_hits, axis=0) + before[0], np.cumsum(counted(~present), axis=0) + before[1]
        before = np.stack([side[-1] for side in above])
        hits, false_alarms = (side @ drawn for side in above)
        gains = new_hits @ drawn
        level = counted(~present & (corner == telling[np.minimum(row, len(telling) - 1)])) @ drawn
        ranked_right += np.sum(gains * (negatives - false_alarms + level / 2), axis=0)
        # A corner that nothing is above has no weight: whatever its precision, no recall is gained there.
        predicted = hits + false_alarms
        precision = np.divide(hits, predicted, out=np.zeros_like(hits), where=predicted > 0)
        gained += np.sum(gains * precision, axis=0)
    areas = np.full((2, drawn.shape[1]), np.nan)
    both = (positives > 0) & (negatives > 0)
    areas[0, both] = (ranked_right / (positives * negatives).clip(1))[both]
    areas[1, both] = (gained / positives.clip(1))[both]
    return areas


def _f1(present: np.ndarray, predicted: np.ndarray, drawn: np.ndarray, song_of_example: np.ndarray) -> np.ndarray:
    """Return the F1 of one run, shape ``(draw, class)``; NaN without a positive."""
    hits, positives, predictions = (
        drawn.T @ np.stack([_by_song(column, song_of_example) for column in each.T], axis=1)
        for each in (present & predicted, present, predicted)
    )
    return np.divide(2 * hits, positives + predictions, out=np.full(positives.shape, np.nan), where=positives > 0)


def _by_song(values: np.ndarray, song_of_example: np.ndarray) -> np.ndarray:
    """Return the sum over the examples of each song, float64 ``(song,)``."""
    return np.bincount(song_of_example, weights=values)


def _mean_of_defined(per_class: np.ndarray) -> np.ndarray:
    """Return the mean over the defined classes of each draw, shape ``(draw,)``; NaN where none is."""
    defined = ~np.isnan(per_class)
    number = defined.sum(axis=1)
    sums = np.where(defined, per_class, 0).sum(axis=1)
    return np.divide(sums, number, out=np.full(len(sums), np.nan), where=number > 0)
