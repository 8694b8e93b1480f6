import math
import time
import warnings
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mlflow.utils.validation import _validate_metric_name

from timbrel import metrics

pytestmark = pytest.mark.filterwarnings("error")  # scikit-learn's warnings about undefined metrics must not leak

# Two classes with known answers. violin: one of four pairs (positive, negative) is in the wrong order.
# bowed string: perfect.
TARGETS = np.array([[1, 1], [0, 1], [1, 0], [0, 0]])
SCORES = np.array([[0.9, 0.8], [0.6, 0.7], [0.4, 0.2], [0.1, 0.1]])
CLASSES = ("violin", "bowed string")
HALF = np.array([0.5, 0.5])


@st.composite
def splits(draw, classes=3):
    """Targets and scores of a small split, with ties among the scores as real ones have after rounding."""
    examples = draw(st.integers(1, 25))
    targets = draw(arrays(np.int64, (examples, classes), elements=st.integers(0, 1)))
    scores = draw(arrays(np.float64, (examples, classes), elements=st.integers(0, 20).map(lambda n: n / 20)))
    return targets, scores


def pairwise_roc_auc(targets, scores):
    """Mann-Whitney: every positive against every negative."""
    wins = [(p > n) + (p == n) / 2 for p, n in product(scores[targets == 1], scores[targets == 0])]
    return np.mean(wins) if wins else math.nan


def stepwise_pr_auc(targets, scores):
    """Sum of precision x gain in recall, threshold by threshold."""
    if targets.all() or not targets.any():
        return math.nan
    area, found = 0.0, 0
    for threshold in sorted(set(scores), reverse=True):
        predicted = scores >= threshold
        hits = int(targets[predicted].sum())
        area += (hits - found) / targets.sum() * hits / predicted.sum()
        found = hits
    return area


def plain_f1(targets, decisions):
    hits = sum(t and d for t, d in zip(targets, decisions, strict=True))
    return 2 * hits / (targets.sum() + decisions.sum()) if targets.any() else math.nan


def test_known_answers():
    result = metrics.evaluate(TARGETS, SCORES, CLASSES, HALF)
    expected = {
        "roc_auc/violin": 3 / 4,
        "roc_auc/bowed string": 1,
        "roc_auc_macro": 7 / 8,
        "roc_auc_micro": 15 / 16,
        "pr_auc/violin": (1 + 2 / 3) / 2,
        "pr_auc/bowed string": 1,
        "f1/violin": 1 / 2,
        "f1/bowed string": 1,
        "f1_macro": 3 / 4,
        "f1_micro": 6 / 8,
        "precision/violin": 1 / 2,
        "recall/violin": 1 / 2,
        "accuracy/violin": 1 / 2,
        "accuracy_macro": 3 / 4,
        "support/violin": 2,
        "binary_cross_entropy": -np.log([0.9, 0.8, 0.4, 0.7, 0.4, 0.8, 0.9, 0.9]).mean(),
    }
    assert {name: result[name] for name in expected} == pytest.approx(expected)
    assert all(type(value) is float for value in result.values())


def test_keys_depend_on_the_classes_alone():
    full = metrics.evaluate(TARGETS, SCORES, CLASSES, HALF)
    empty = metrics.evaluate(np.zeros_like(TARGETS), SCORES, CLASSES, HALF)
    per_class = {"roc_auc", "pr_auc", "f1", "precision", "recall", "accuracy"}
    assert list(full) == list(empty)
    assert set(full) == (
        {"binary_cross_entropy"}
        | {f"{metric}_{mean}" for metric in per_class for mean in ("macro", "micro")}
        | {f"{metric}/{name}" for metric in per_class | {"support"} for name in CLASSES}
    )


@pytest.mark.parametrize(
    ("value", "undefined"), [(0, {"roc_auc", "pr_auc", "f1", "recall"}), (1, {"roc_auc", "pr_auc"})]
)
def test_a_class_of_one_kind_is_undefined(value, undefined):
    targets = TARGETS.copy()
    targets[:, 0] = value
    result = metrics.evaluate(targets, SCORES, CLASSES, HALF)
    assert {name for name, number in result.items() if math.isnan(number)} == {f"{m}/violin" for m in undefined}
    assert result["roc_auc_macro"] == result["roc_auc/bowed string"]  # the mean of what is defined


def test_nothing_defined_is_nan_not_zero():
    result = metrics.evaluate(np.zeros_like(TARGETS), SCORES, CLASSES, HALF)
    assert all(math.isnan(result[f"{m}_{mean}"]) for m in ("roc_auc", "pr_auc", "f1") for mean in ("macro", "micro"))
    assert result["accuracy_micro"] == 4 / 8


def test_present_but_never_predicted_has_f1_zero_and_no_precision():
    decisions = np.zeros_like(TARGETS, dtype=bool)
    assert metrics.f1(TARGETS, decisions).tolist() == [0, 0]
    assert metrics.recall(TARGETS, decisions).tolist() == [0, 0]
    assert np.isnan(metrics.precision(TARGETS, decisions)).all()


def test_certain_and_wrong_costs_a_finite_hundred_nats():
    assert metrics.binary_cross_entropy(np.array([[1, 0]]), np.array([[0.0, 1.0]])) == pytest.approx(100)
    assert metrics.binary_cross_entropy(np.array([[1, 0]]), np.array([[1.0, 0.0]])) == 0


def test_cross_entropies_of_single_decisions_make_up_the_mean():
    each = metrics.cross_entropies(TARGETS, SCORES)
    assert each[0] == pytest.approx(-np.log([0.9, 0.8]))
    assert each[1] == pytest.approx(-np.log([0.4, 0.7]))
    assert each.mean() == pytest.approx(metrics.binary_cross_entropy(TARGETS, SCORES))


def test_missed_given_false_alarm():
    """Three classes; false alarms: of violin in examples 0, 1 and 2, of viola in 3, of cello in none."""
    targets = np.array([[0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 0], [1, 1, 1]])
    decisions = np.array([[1, 0, 0], [1, 0, 1], [1, 0, 1], [1, 1, 0], [0, 1, 1]])
    np.testing.assert_array_equal(
        metrics.missed_given_false_alarm(targets, decisions),
        [
            [0, 2 / 3, 0],  # viola missed in 0 and 1
            [0, 0, 0],
            [math.nan, math.nan, math.nan],
        ],
    )


@given(splits())
def test_missed_given_false_alarm_agrees_with_counting(split):
    targets, scores = split
    decisions = scores >= 0.5
    expected = np.full((3, 3), math.nan)
    for j in range(3):
        alarms = [n for n in range(len(targets)) if decisions[n, j] and not targets[n, j]]
        for i in range(3):
            if alarms:
                expected[j, i] = sum(targets[n, i] and not decisions[n, i] for n in alarms) / len(alarms)
    np.testing.assert_allclose(metrics.missed_given_false_alarm(targets, decisions), expected)


def test_a_score_at_its_threshold_counts_as_present():
    assert metrics.decide(np.array([[0.3, 0.3]]), np.array([0.3, 0.31])).tolist() == [[True, False]]


@given(splits())
def test_agrees_with_independent_computation(split):
    targets, scores = split
    for function, plain in ((metrics.roc_auc, pairwise_roc_auc), (metrics.pr_auc, stepwise_pr_auc)):
        expected = [plain(targets[:, i], scores[:, i]) for i in range(3)]
        np.testing.assert_allclose(function(targets, scores), expected, atol=1e-12)
    decisions = scores >= 0.5
    expected = [plain_f1(targets[:, i], decisions[:, i]) for i in range(3)]
    np.testing.assert_allclose(metrics.f1(targets, decisions), expected)


@given(splits())
def test_a_monotone_transform_leaves_the_areas_unchanged(split):
    targets, scores = split
    for function in (metrics.roc_auc, metrics.pr_auc):
        np.testing.assert_array_equal(function(targets, scores), function(targets, scores**3 / 2))


@given(splits(), st.randoms(use_true_random=False))
def test_the_order_of_the_examples_changes_nothing(split, random):
    targets, scores = split
    order = random.sample(range(len(targets)), len(targets))
    thresholds = metrics.choose_thresholds(targets, scores, "per_class")
    np.testing.assert_array_equal(metrics.choose_thresholds(targets[order], scores[order], "per_class"), thresholds)
    before = metrics.evaluate(targets, scores, ("a", "b", "c"), thresholds)
    after = metrics.evaluate(targets[order], scores[order], ("a", "b", "c"), thresholds)
    assert after == pytest.approx(before, nan_ok=True)


@given(splits(), st.floats(0, 1))
def test_no_threshold_beats_the_chosen_one_on_its_own_data(split, other):
    targets, scores = split
    others = metrics.f1(targets, scores >= other)
    chosen = metrics.f1(targets, metrics.decide(scores, metrics.choose_thresholds(targets, scores, "per_class")))
    assert np.all((chosen >= others) | np.isnan(others))

    shared = metrics.choose_thresholds(targets, scores, "global")
    chosen, others = (
        metrics.f1(targets.reshape(-1, 1), decisions.reshape(-1, 1))
        for decisions in (metrics.decide(scores, shared), scores >= other)
    )
    assert np.all((chosen >= others) | np.isnan(others))


@settings(max_examples=50)
@given(arrays(np.float64, (6, 1), elements=st.floats(0, 1)), arrays(np.int64, (6, 1), elements=st.integers(0, 1)))
def test_chosen_thresholds_are_probabilities_for_scores_however_close(scores, targets):
    threshold = metrics.choose_thresholds(targets, scores, "per_class")
    assert 0 <= threshold[0] <= 1
    at_half = metrics.f1(targets, scores >= 0.5)
    assert np.all((metrics.f1(targets, scores >= threshold) >= at_half) | np.isnan(at_half))


def test_thresholds_lie_midway_and_ties_go_to_the_one_nearest_a_half():
    targets = np.array([[1], [0], [0], [1], [0]])
    scores = np.array([[0.9], [0.8], [0.7], [0.3], [0.1]])  # F1 2/3 after the first and after the fourth
    assert metrics.choose_thresholds(targets, scores, "per_class") == pytest.approx([(0.3 + 0.1) / 2])
    scores = 1 - scores[::-1]  # 0.9, 0.7, 0.3, 0.2, 0.1
    targets = np.array([[1], [0], [0], [1], [0]])
    assert metrics.choose_thresholds(targets, scores, "per_class") == pytest.approx([(0.9 + 0.7) / 2])


def test_adjacent_floats_are_told_apart():
    low = 0.5
    high = np.nextafter(low, 1)
    threshold = metrics.choose_thresholds(np.array([[1], [0]]), np.array([[high], [low]]), "per_class")
    assert threshold == [high]


def test_a_class_without_positives_takes_the_global_threshold():
    targets = np.column_stack([TARGETS, np.zeros(4, int)])
    scores = np.column_stack([SCORES, [0.65, 0.1, 0.1, 0.1]])
    shared = metrics.choose_thresholds(targets, scores, "global")
    chosen = metrics.choose_thresholds(targets, scores, "per_class")
    assert len(set(shared)) == 1
    assert chosen[2] == shared[2]
    assert chosen[1] != shared[1]


def test_fixed_threshold_is_the_papers_and_the_last_resort():
    assert metrics.choose_thresholds(TARGETS, SCORES, "fixed").tolist() == [0.35, 0.35]
    assert metrics.choose_thresholds(TARGETS, SCORES, "fixed", fixed=0.2).tolist() == [0.2, 0.2]
    for rule in ("per_class", "global"):
        assert metrics.choose_thresholds(np.zeros((4, 2)), SCORES, rule).tolist() == [0.35, 0.35]


@pytest.mark.parametrize(
    ("targets", "scores", "message"),
    [
        (np.zeros((4, 2)), np.zeros((4, 3)), r"one shape .*got \(4, 2\) and \(4, 3\)"),
        (np.zeros(4), np.zeros(4), r"\(example, class\).*got \(4,\)"),
        (np.zeros((0, 2)), np.zeros((0, 2)), "at least one"),
        (np.array([[0, 2]]), np.zeros((1, 2)), "targets of 0 and 1, or NaN, got 2 at example 0, class 1"),
        (np.zeros((1, 2)), np.array([[0, np.nan]]), "got nan at example 0, class 1"),
        (np.zeros((1, 2)), np.array([[-3.5, 0]]), r"scores in \[0, 1\], got -3.5 at example 0, class 0"),
    ],
)
def test_validate_says_what_was_expected_and_what_it_got(targets, scores, message):
    with pytest.raises(ValueError, match=message):
        metrics.validate(targets, scores)


def test_evaluate_refuses_names_and_thresholds_that_do_not_fit():
    with pytest.raises(ValueError, match="2 distinct class names"):
        metrics.evaluate(TARGETS, SCORES, ("violin", "violin"), HALF)
    with pytest.raises(ValueError, match=r"one threshold a class \(2,\), got \(3,\)"):
        metrics.evaluate(TARGETS, SCORES, CLASSES, np.full(3, 0.5))
    with pytest.raises(ValueError, match="per_class, global or fixed"):
        metrics.choose_thresholds(TARGETS, SCORES, "best")


@pytest.mark.parametrize("name", ["bowed string", "genre---r&b", "mood/theme---happy", "a:b", "chœur"])
def test_metric_names_please_mlflow(name):
    _validate_metric_name(f"f1/{metrics.metric_name(name)}")


def test_float32_scores_and_bool_targets_give_the_same_numbers():
    scores = SCORES.astype(np.float32)
    assert metrics.evaluate(TARGETS.astype(bool), scores, CLASSES, HALF) == pytest.approx(
        metrics.evaluate(TARGETS, SCORES, CLASSES, HALF)
    )


def test_fifty_classes_and_two_thousand_examples_take_a_fraction_of_an_epoch():
    rng = np.random.default_rng(0)
    targets, scores = rng.random((2000, 50)) < 0.2, rng.random((2000, 50))
    start = time.perf_counter()
    thresholds = metrics.choose_thresholds(targets, scores, "per_class")
    metrics.evaluate(targets, scores, [str(i) for i in range(50)], thresholds)
    assert time.perf_counter() - start < 3  # 0.3 s on an idle core


def test_no_warning_leaks():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        metrics.evaluate(np.zeros((1, 2)), np.zeros((1, 2)), CLASSES, HALF)
    assert not caught
