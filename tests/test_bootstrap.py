import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, log_loss, roc_auc_score

from timbrel import bootstrap, metrics

pytestmark = pytest.mark.filterwarnings("error")  # undefined figures must not warn

MACROS = ("roc_auc_macro", "pr_auc_macro", "f1_macro")
METRICS = (*MACROS, "binary_cross_entropy")


def judged(songs=12, each=4, classes=3, runs=2, seed=0):
    """Labels, scores, songs and thresholds of a test split; scores in steps of 0.05, so that there are ties."""
    rng = np.random.default_rng(seed)
    examples = songs * each
    labels = rng.random((examples, classes)) < 0.3
    scores = np.round(np.clip(0.35 * labels + 0.6 * rng.random((runs, examples, classes)), 0, 1) * 20) / 20
    return (
        labels.astype(int),
        scores,
        np.repeat([f"song {i}" for i in range(songs)], each),
        np.full((runs, classes), 0.5),
    )


def weights_of(songs, count, seed=0):
    """How often each example is in each draw ``(draw, example)``, found out from outside.

    A class that is present in the mixtures of one song alone, at threshold 0 for all: its F1 is
    2w / (w + total), from which that song's weight follows.
    """
    names, song_of_example = np.unique(songs, return_inverse=True)
    labels = (song_of_example[:, None] == np.arange(len(names))).astype(int)
    found = bootstrap.draws(
        labels, np.full((1, *labels.shape), 0.5), songs, np.zeros((1, len(names))), count=count, seed=seed
    )["f1_per_class"]
    found = np.nan_to_num(found)
    each = len(songs) / len(names)  # examples of a song: the total of a draw is always len(songs)
    return np.rint(found * len(songs) / (2 - found) / each)[:, song_of_example]


def by_sklearn(labels, run, thresholds, weights):
    """The four metrics of one run on one draw, class by class."""
    both = [len(set(labels[weights > 0, i])) == 2 for i in range(labels.shape[1])]
    columns = list(zip(labels.T, run.T, thresholds, strict=True))
    areas = [
        np.mean([area(y, p, sample_weight=weights) for (y, p, _), use in zip(columns, both, strict=True) if use])
        for area in (roc_auc_score, average_precision_score)
    ]
    f1 = [f1_score(y, p >= at, sample_weight=weights) for y, p, at in columns if y @ weights]
    loss = [log_loss(y, p, sample_weight=weights, labels=[0, 1]) for y, p, _ in columns]
    return [*areas, np.mean(f1), np.mean(loss)]


@pytest.mark.parametrize("seed", range(3))
def test_every_draw_agrees_with_scikit_learn(seed):
    labels, scores, songs, thresholds = judged(seed=seed)
    scores = scores.clip(0.05, 0.95)  # scikit-learn floors the logarithm elsewhere
    result = bootstrap.draws(labels, scores, songs, thresholds, count=20, seed=seed)
    weights = weights_of(songs, 20, seed)
    assert (weights.sum(axis=1) == len(songs)).all()
    for draw in range(20):
        expected = np.mean([by_sklearn(labels, *run, weights[draw]) for run in zip(scores, thresholds, strict=True)], 0)
        np.testing.assert_allclose([result[name][draw] for name in METRICS], expected, rtol=1e-10)


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(2, 30))
@settings(max_examples=60, deadline=None)
def test_areas_agree_with_scikit_learn_for_any_weights(seed, steps, examples):
    rng = np.random.default_rng(seed)
    labels, scores = rng.integers(0, 2, examples), rng.integers(0, steps + 1, examples) / steps
    songs = rng.permutation(np.arange(examples) % 7)
    drawn = rng.integers(0, 4, (5, songs.max() + 1)).astype(float)
    areas = bootstrap._class_areas(labels, scores, songs, drawn)
    for draw in range(5):
        w = drawn[draw, songs]
        if len(set(labels[w > 0])) < 2:
            assert np.isnan(areas[:, draw]).all()
            continue
        expected = [area(labels, scores, sample_weight=w) for area in (roc_auc_score, average_precision_score)]
        np.testing.assert_allclose(areas[:, draw], expected, rtol=1e-10)


def test_very_many_scores_are_ranked_nearly_as_they_are():
    """Frames, for instance. With as many scores as there are corners, and with more, whose neighbours are joined."""
    rng = np.random.default_rng(0)
    for examples, tolerance in ((bootstrap.CORNERS, 1e-12), (30 * bootstrap.CORNERS + 7, 1e-3)):
        labels = (rng.random(examples) < 0.1).astype(float)
        scores = np.clip(0.7 * rng.random(examples) + 0.3 * labels * rng.random(examples), 0, 1)
        songs, once = rng.integers(0, 9, examples), np.ones((1, 9))
        areas = bootstrap._class_areas(labels, scores, songs, once)[:, 0]
        expected = [area(labels, scores) for area in (roc_auc_score, average_precision_score)]
        np.testing.assert_allclose(areas, expected, atol=tolerance)
        assert len(np.unique(bootstrap._corners(scores))) == bootstrap.CORNERS


def test_every_song_once_gives_the_plain_metrics():
    """With two songs some draws hold each once: there the numbers are those of the split itself."""
    labels, scores, songs, thresholds = judged(songs=2, each=20, runs=3)
    names = ("a", "b", "c")
    each = [metrics.evaluate(labels, run, names, at) for run, at in zip(scores, thresholds, strict=True)]
    result = bootstrap.draws(labels, scores, songs, thresholds, count=30)
    whole = (weights_of(songs, 30) == 1).all(axis=1)
    assert 0 < whole.sum() < 30
    for name in METRICS:
        np.testing.assert_allclose(result[name][whole], np.mean([run[name] for run in each]))
    for name in ("roc_auc", "pr_auc", "f1"):
        expected = [np.mean([run[f"{name}/{label}"] for run in each]) for label in names]
        np.testing.assert_allclose(result[f"{name}_per_class"][whole], [expected] * whole.sum())


def test_draws_are_those_of_the_seed_and_do_not_depend_on_the_order_of_the_examples():
    labels, scores, songs, thresholds = judged()
    once = bootstrap.draws(labels, scores, songs, thresholds, count=10)
    order = np.random.default_rng(1).permutation(len(songs))
    again = bootstrap.draws(labels[order], scores[:, order], songs[order], thresholds, count=10)
    other = bootstrap.draws(labels, scores, songs, thresholds, count=10, seed=1)
    for name, values in once.items():
        np.testing.assert_allclose(again[name], values)
        assert not np.allclose(other[name], values)


def test_all_mixtures_of_a_song_go_together():
    """Repeating every mixture ten times adds no information, so that the draws stay as they are."""
    labels, scores, songs, thresholds = judged()
    once = bootstrap.draws(labels, scores, songs, thresholds, count=50)
    tenfold = bootstrap.draws(
        np.repeat(labels, 10, 0), np.repeat(scores, 10, 1), np.repeat(songs, 10), thresholds, count=50
    )
    for name in METRICS:
        np.testing.assert_allclose(tenfold[name], once[name])


def test_a_class_undefined_in_a_draw_is_left_out_of_its_mean():
    labels, scores, songs, thresholds = judged(classes=3)
    labels[:, 2] = songs == "song 0"  # absent from every draw without that song
    result = bootstrap.draws(labels, scores, songs, thresholds, count=200)
    absent = np.isnan(result["roc_auc_per_class"][:, 2])
    assert 0.2 < absent.mean() < 0.5  # (1 - 1/12) ** 12 = 0.35
    np.testing.assert_array_equal(absent, np.isnan(result["f1_per_class"][:, 2]))
    for name in ("roc_auc", "pr_auc", "f1"):
        per_class, macro = result[f"{name}_per_class"], result[f"{name}_macro"]
        np.testing.assert_allclose(macro[absent], per_class[absent, :2].mean(axis=1))
        np.testing.assert_allclose(macro[~absent], per_class[~absent].mean(axis=1))


def test_nothing_defined_is_nan_without_a_warning():
    labels, scores, songs, thresholds = judged()
    result = bootstrap.draws(np.zeros_like(labels), scores, songs, thresholds, count=10)
    assert all(np.isnan(result[name]).all() for name in MACROS)
    assert np.isfinite(result["binary_cross_entropy"]).all()
    nothing = bootstrap.interval(result["f1_macro"])
    assert math.isnan(nothing.low)
    assert math.isnan(nothing.high)
    assert math.isnan(bootstrap.probability_higher(result["f1_macro"], result["f1_macro"]))


def test_interval_is_between_percentiles_of_what_is_defined():
    values = np.append(np.arange(101.0), [math.nan] * 50)
    for options, expected in (({"level": 0.9}, (5, 95, 0.9)), ({}, (2.5, 97.5, 0.95))):
        ends = bootstrap.interval(values, **options)
        assert (ends.low, ends.high, ends.level) == pytest.approx(expected)
    with pytest.raises(ValueError, match="between 0 and 1, got 95"):
        bootstrap.interval(values, 95)


def test_the_interval_covers_the_truth_and_one_over_mixtures_does_not():
    """In 200 made-up test splits whose mixtures share a trait of their song, with a loss known on average."""
    rng = np.random.default_rng(0)
    songs, each = 40, 8
    names = np.repeat(np.arange(songs), each)
    covered = {"songs": 0, "mixtures": 0}
    for seed in range(200):
        # -ln p of the one class, always present: a song's trait in (0, 1) plus the mixture's own in (0, 1).
        loss = np.repeat(rng.random(songs), each) + rng.random(songs * each)  # mean 1
        labels, scores = np.ones((len(loss), 1), int), np.exp(-loss)[None, :, None]
        for unit, of_example in (("songs", names), ("mixtures", np.arange(len(loss)))):
            result = bootstrap.draws(labels, scores, of_example, np.full((1, 1), 0.5), count=200, seed=seed)
            ends = bootstrap.interval(result["binary_cross_entropy"])
            covered[unit] += ends.low <= 1 <= ends.high
    assert 0.89 <= covered["songs"] / 200 <= 0.99
    assert covered["mixtures"] / 200 < 0.75


def test_the_interval_of_the_roc_auc_covers_the_truth():
    """One class: normal scores a standard deviation apart, half of whose variance is the song's."""
    rng = np.random.default_rng(0)
    songs, each = 40, 6
    truth = 0.5 * (1 + math.erf(1 / math.sqrt(2) / math.sqrt(2)))  # P(positive > negative) of different songs
    covered = 0
    for seed in range(100):
        labels = rng.integers(0, 2, songs * each)
        noise = np.repeat(rng.normal(size=songs), each) + rng.normal(size=songs * each)
        scores = 1 / (1 + np.exp(-(labels + noise / math.sqrt(2))))[None, :, None]
        of_example = np.repeat(np.arange(songs), each)
        result = bootstrap.draws(labels[:, None], scores, of_example, np.full((1, 1), 0.5), count=200, seed=seed)
        ends = bootstrap.interval(result["roc_auc_macro"])
        covered += ends.low <= truth <= ends.high
    assert 0.88 <= covered / 100 <= 1


def test_paired_draws_tell_a_small_difference_that_intervals_hide():
    labels, scores, songs, thresholds = judged(songs=30, runs=1)
    better = np.where(labels == 1, np.minimum(scores + 0.03, 1), scores)
    a, b = (bootstrap.draws(labels, each, songs, thresholds, count=500)["roc_auc_macro"] for each in (better, scores))
    assert bootstrap.probability_higher(a, b) > 0.99
    assert bootstrap.probability_higher(b, a) == pytest.approx(1 - bootstrap.probability_higher(a, b))
    assert bootstrap.interval(a).low < bootstrap.interval(b).high  # they overlap


def test_ties_count_half_and_undefined_pairs_are_left_out():
    a, b = np.array([1.0, 2.0, 3.0, math.nan]), np.array([1.0, 1.0, 4.0, 0.0])
    assert bootstrap.probability_higher(a, b) == (0.5 + 1 + 0) / 3
    with pytest.raises(ValueError, match=r"got \(4,\) and \(3,\)"):
        bootstrap.probability_higher(a, b[:3])


def test_one_song_is_refused():
    labels, scores, _, thresholds = judged()
    with pytest.raises(ValueError, match="at least two songs to draw from, got only 'alone'"):
        bootstrap.draws(labels, scores, np.full(len(labels), "alone"), thresholds)


def test_shapes_that_do_not_fit_are_named():
    labels, scores, songs, thresholds = judged()
    with pytest.raises(ValueError, match=r"scores \(run, example, class\).*got \(48, 3\)"):
        bootstrap.draws(labels, scores[0], songs, thresholds)
    with pytest.raises(ValueError, match=r"song of each example \(48,\), got \(47,\)"):
        bootstrap.draws(labels, scores, songs[1:], thresholds)
    with pytest.raises(ValueError, match=r"thresholds \(run, class\) \(2, 3\), got \(1, 3\)"):
        bootstrap.draws(labels, scores, songs, thresholds[:1])
    with pytest.raises(ValueError, match="finite scores"):
        bootstrap.draws(labels, scores * math.nan, songs, thresholds)
