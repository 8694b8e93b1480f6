"""Labels that nobody judged (NaN): every figure counts the judged examples of a class alone."""

import csv
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    classification_report,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)

from timbrel import bootstrap, figures, metrics, registry
from timbrel.compare import Judged, Setting, intervals
from timbrel.evaluation import per_class_table
from timbrel.outputs import Outputs
from timbrel.rejudge import rejudge
from timbrel.report import COLUMNS, _paired, run_figures
from timbrel.trial_log import per_class_csv

pytestmark = pytest.mark.filterwarnings("error")  # undefined figures must not warn

NAN = math.nan
CLASSES = ("violin", "banjo", "organ")
PER_CLASS = ("roc_auc", "pr_auc", "f1", "precision", "recall", "accuracy")


@st.composite
def splits(draw):
    """Labels of three classes, one in about three of them not judged, with scores among which there are ties."""
    examples = draw(st.integers(1, 25))
    labels = draw(arrays(np.float64, (examples, 3), elements=st.sampled_from([0.0, 1.0, NAN])))
    scores = draw(arrays(np.float64, (examples, 3), elements=st.integers(1, 19).map(lambda n: n / 20)))
    return labels, scores


def random_split(examples=240, seed=0, judged=0.3, dtype=np.float32):
    rng = np.random.default_rng(seed)
    labels = (rng.random((examples, 3)) < (0.5, 0.3, 0.2)).astype(dtype)
    scores = np.clip(0.3 * labels + 0.65 * rng.random(labels.shape) + 0.02, 0.02, 0.97).astype(dtype)
    labels[rng.random(labels.shape) >= judged] = NAN
    return labels, scores


def otherwise(labels, scores, random):
    """The same scores but where nobody judged, and there any others."""
    others = np.array([random.random() for _ in range(scores.size)]).reshape(scores.shape)
    return np.where(np.isnan(labels), others, scores)


def same(some, others):
    assert list(some) == list(others)
    for name, value in some.items():
        np.testing.assert_array_equal(value, others[name], err_msg=name)


def by_sklearn(truth, scores, threshold):
    """The figures of one class from its judged examples, with scikit-learn's words for what is undefined."""
    decided = scores >= threshold
    both, any_positive = len(set(truth)) == 2, truth.any()
    return {
        "roc_auc": roc_auc_score(truth, scores) if both else NAN,
        "pr_auc": average_precision_score(truth, scores) if both else NAN,
        "f1": f1_score(truth, decided) if any_positive else NAN,
        "precision": precision_score(truth, decided, zero_division=NAN) if len(truth) else NAN,
        "recall": recall_score(truth, decided) if any_positive else NAN,
        "accuracy": accuracy_score(truth, decided) if len(truth) else NAN,
    }


@given(splits())
def test_figures_are_those_of_the_judged_examples_alone(split):
    labels, scores = split
    thresholds = np.array([0.3, 0.5, 0.6])
    found = metrics.evaluate(labels, scores, CLASSES, thresholds)
    columns = []
    for i, name in enumerate(CLASSES):
        rows = ~np.isnan(labels[:, i])
        expected = by_sklearn(labels[rows, i].astype(int), scores[rows, i], thresholds[i])
        columns.append(expected)
        assert {metric: found[f"{metric}/{name}"] for metric in PER_CLASS} == pytest.approx(expected, nan_ok=True)
        assert found[f"support/{name}"] == (labels[:, i] == 1).sum()
        assert found.get(f"judged/{name}", len(labels)) == rows.sum()
    for metric in PER_CLASS:
        defined = [each[metric] for each in columns if not math.isnan(each[metric])]
        assert found[f"{metric}_macro"] == pytest.approx(np.mean(defined) if defined else NAN, nan_ok=True)
    rows = ~np.isnan(labels)
    shifted = scores - thresholds  # the same decisions at one threshold, 0
    pooled = {
        **by_sklearn(labels[rows].astype(int), shifted[rows], 0),
        **{area: by_sklearn(labels[rows].astype(int), scores[rows], 0.5)[area] for area in ("roc_auc", "pr_auc")},
    }
    assert {metric: found[f"{metric}_micro"] for metric in PER_CLASS} == pytest.approx(pooled, nan_ok=True)
    loss = log_loss(labels[rows].astype(int), scores[rows], labels=[0, 1]) if rows.any() else NAN
    assert found["binary_cross_entropy"] == pytest.approx(loss, nan_ok=True)


@given(splits(), st.integers(0, 2))
def test_masking_examples_of_a_class_is_to_delete_them_for_that_class(split, column):
    labels, scores = split
    kept = ~np.isnan(labels[:, column])
    if not kept.any():
        return
    alone, said = labels[kept][:, [column]], scores[kept][:, [column]]
    half = np.array([0.5])
    found = metrics.evaluate(labels, scores, CLASSES, np.full(3, 0.5))
    expected = metrics.evaluate(alone, said, [CLASSES[column]], half)
    of_class = {name: value for name, value in expected.items() if "/" in name}
    same({name: found[name] for name in of_class}, of_class)
    for both in (metrics.both_sides_f1, metrics.both_sides_precision, metrics.both_sides_recall):
        np.testing.assert_array_equal(both(labels, scores, 0.5)[[column]], both(alone, said, 0.5))


@given(splits(), st.randoms(use_true_random=False), st.sampled_from(["per_class", "global"]))
def test_what_nobody_judged_changes_nothing(split, random, rule):
    labels, scores = split
    others = otherwise(labels, scores, random)
    thresholds = metrics.choose_thresholds(labels, scores, rule)
    np.testing.assert_array_equal(metrics.choose_thresholds(labels, others, rule), thresholds)
    same(
        metrics.evaluate(labels, others, CLASSES, thresholds),
        metrics.evaluate(labels, scores, CLASSES, thresholds),
    )
    songs = np.arange(len(labels)) % 4
    if len(labels) > 1:
        same(*(bootstrap.draws(labels, each[None], songs, thresholds[None], count=5) for each in (others, scores)))


@given(splits())
def test_thresholds_are_chosen_on_judged_examples(split):
    labels, scores = split
    judged = ~np.isnan(labels)
    if not judged.any():
        assert metrics.choose_thresholds(labels, scores, "per_class", 0.2).tolist() == [0.2] * 3
        return
    shared = metrics.choose_thresholds(labels[judged][:, None], scores[judged][:, None], "global")[0]
    assert metrics.choose_thresholds(labels, scores, "global").tolist() == [shared] * 3
    chosen = metrics.choose_thresholds(labels, scores, "per_class")
    for i in range(3):
        rows = judged[:, i]
        if not np.any(labels[:, i] == 1):
            assert chosen[i] == shared
        else:
            assert chosen[i] == metrics.choose_thresholds(labels[rows, i : i + 1], scores[rows, i : i + 1], "per_class")


def test_a_class_never_judged_has_no_figures_and_stays_out_of_the_means():
    labels, scores = random_split()
    labels[:, 1] = NAN
    thresholds = metrics.choose_thresholds(labels, scores, "per_class")
    found = metrics.evaluate(labels, scores, CLASSES, thresholds)
    assert all(math.isnan(found[f"{metric}/banjo"]) for metric in PER_CLASS)
    assert found["support/banjo"] == found["judged/banjo"] == 0
    for metric in PER_CLASS:
        assert found[f"{metric}_macro"] == np.mean([found[f"{metric}/violin"], found[f"{metric}/organ"]])
    assert np.isnan(metrics.both_sides_f1(labels, scores, 0.5)).tolist() == [False, True, False]
    without = metrics.evaluate(labels[:, [0, 2]], scores[:, [0, 2]], ("violin", "organ"), thresholds[[0, 2]])
    shared = {name: value for name, value in found.items() if "/" not in name}
    assert shared == pytest.approx({name: value for name, value in without.items() if "/" not in name}, rel=1e-12)


def test_nothing_judged_at_all_is_undefined_without_a_warning():
    labels, scores = np.full((4, 3), NAN), np.full((4, 3), 0.5)
    found = metrics.evaluate(labels, scores, CLASSES, np.full(3, 0.5))
    counted = {f"{count}/{name}": 0 for count in ("support", "judged") for name in CLASSES}
    assert {name: value for name, value in found.items() if not math.isnan(value)} == counted
    drawn = bootstrap.draws(labels, scores[None], np.arange(4), np.full((1, 3), 0.5), count=4)
    assert all(np.isnan(values).all() for values in drawn.values())


def test_judged_is_told_only_where_something_was_not():
    labels, scores = random_split(judged=1)
    assert not any(name.startswith("judged/") for name in metrics.evaluate(labels, scores, CLASSES, np.full(3, 0.5)))
    labels[0, 0] = NAN
    found = metrics.evaluate(labels, scores, CLASSES, np.full(3, 0.5))
    assert [found[f"judged/{name}"] for name in CLASSES] == [239, 240, 240]


def test_both_sides_by_hand():
    """Of violin 3 positives and 2 negatives are judged: found 2, one false alarm. Of organ no negative."""
    labels = np.array([[1, 1], [1, 1], [1, NAN], [0, NAN], [0, NAN], [NAN, NAN]])
    scores = np.array([[0.9, 0.1], [0.4, 0.9], [0.3, 0.5], [0.6, 0.5], [0.1, 0.5], [0.8, 0.5]])
    present, absent = 2 * 2 / (3 + 3), 2 * 1 / (2 + 2)
    np.testing.assert_allclose(metrics.both_sides_f1(labels, scores, 0.4), [(present + absent) / 2, NAN])
    np.testing.assert_allclose(metrics.both_sides_precision(labels, scores, 0.4), [(2 / 3 + 1 / 2) / 2, NAN])
    np.testing.assert_allclose(metrics.both_sides_recall(labels, scores, 0.4), [(2 / 3 + 1 / 2) / 2, NAN])
    np.testing.assert_allclose(metrics.both_sides_precision(labels, scores, 1.0), [(0 + 2 / 5) / 2, NAN])


@pytest.mark.parametrize("threshold", [0.1, 0.4, 0.5, 0.96, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_both_sides_are_those_of_scikit_learns_report(threshold, dtype):
    labels, scores = random_split(dtype=dtype)
    for i in range(3):
        rows = ~np.isnan(labels[:, i])
        decided = scores[rows, i] >= threshold
        report = classification_report(labels[rows, i] == 1, decided, output_dict=True, zero_division=0)["macro avg"]
        for name, both in (
            ("f1-score", metrics.both_sides_f1),
            ("precision", metrics.both_sides_precision),
            ("recall", metrics.both_sides_recall),
        ):
            assert both(labels, scores, threshold)[i] == pytest.approx(report[name], rel=1e-12)


def test_missed_given_false_alarm_by_hand():
    """Violin is falsely heard in examples 0 to 3; of these banjo was judged in three, and missed in two."""
    labels = np.array([[0, 1, NAN], [0, 1, NAN], [0, 0, NAN], [0, NAN, NAN], [NAN, 1, 0], [1, 0, 1]])
    decisions = np.array([[1, 0, 1], [1, 0, 1], [1, 0, 1], [1, 0, 1], [1, 0, 0], [1, 0, 1]])
    np.testing.assert_array_equal(
        metrics.missed_given_false_alarm(labels, decisions), [[0, 2 / 3, NAN], [NAN] * 3, [NAN] * 3]
    )


def test_draws_agree_with_scikit_learn_on_judged_examples():
    labels, scores = random_split(60, dtype=np.float64)
    songs = np.repeat(np.arange(12), 5)
    labels[songs == 3] = NAN  # a song that tells nothing
    thresholds = np.array([0.4, 0.5, 0.45])
    drawn = bootstrap.draws(labels, scores[None], songs, thresholds[None], count=30, seed=7)
    times = np.random.default_rng(7).multinomial(12, np.full(12, 1 / 12), size=30)[:, songs]
    seen = 0
    for draw, weights in enumerate(times):
        use = ~np.isnan(labels) & (weights[:, None] > 0)
        truth = [labels[use[:, i], i].astype(int) for i in range(3)]
        said = [scores[use[:, i], i] for i in range(3)]
        often = [weights[use[:, i]] for i in range(3)]
        for i in range(3):
            if not truth[i].any():
                assert np.isnan(drawn["f1_per_class"][draw, i])
                continue
            expected = f1_score(truth[i], said[i] >= thresholds[i], sample_weight=often[i])
            assert drawn["f1_per_class"][draw, i] == pytest.approx(expected)
            if truth[i].all():
                assert np.isnan(drawn["roc_auc_per_class"][draw, i])
                continue
            seen += 1
            for name, area in (("roc_auc", roc_auc_score), ("pr_auc", average_precision_score)):
                expected = area(truth[i], said[i], sample_weight=often[i])
                assert drawn[f"{name}_per_class"][draw, i] == pytest.approx(expected)
        expected = log_loss(np.concatenate(truth), np.concatenate(said), sample_weight=np.concatenate(often))
        assert drawn["binary_cross_entropy"][draw] == pytest.approx(expected)
    assert seen > 60


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_each_song_once_gives_the_plain_figures(seed):
    labels, scores = random_split(40, seed, dtype=np.float64)
    once = np.ones((1, 8))
    songs = np.arange(40) % 8
    found = bootstrap._areas(labels, scores, songs, once)[:, 0]
    np.testing.assert_allclose(found, [metrics.roc_auc(labels, scores), metrics.pr_auc(labels, scores)])


def judged_outputs(seed=0, examples=240):
    labels, scores = random_split(examples, seed)
    return Outputs(CLASSES, np.array([f"clip {i % 20}" for i in range(examples)]), labels, scores)


def test_outputs_and_rules(tmp_path):
    both = {"valid": judged_outputs(1), "test": judged_outputs(2)}
    both["test"].save(tmp_path / "test.npz")
    np.testing.assert_array_equal(Outputs.load(tmp_path / "test.npz").labels, both["test"].labels)
    task = registry.load("task", "multi_instrument")
    thresholds, found = rejudge(task, both, task.config_type())
    valid = both["valid"]
    expected = metrics.choose_thresholds(valid.labels, valid.scores, task.config_type().evaluation.threshold_rule)
    np.testing.assert_array_equal(list(thresholds.values()), expected)
    rows = ~np.isnan(both["test"].labels[:, 1])
    truth, said = (array[rows, 1] for array in (both["test"].labels, both["test"].scores))
    assert found["test/f1/banjo"] == pytest.approx(f1_score(truth == 1, said >= thresholds["banjo"]))
    assert found["test/judged/banjo"] == rows.sum()
    assert math.isfinite(found["test/loss"])


def test_intervals_and_pairs_of_runs():
    first, labels = judged_outputs(), judged_outputs().labels
    better = np.where(labels == 1, np.minimum(first.scores + 0.2, 1), first.scores)
    pair = [
        Setting(
            {"mode": name},
            {"mode": name},
            pd.DataFrame({COLUMNS["ROC-AUC"]: [area]}),
            1,
            [Judged(outputs, np.full(3, 0.5))],
        )
        for name, outputs, area in (
            ("a", first, 0.7),
            ("b", Outputs(CLASSES, first.songs, labels.copy(), better), 0.8),
        )
    ]
    assert _paired(pair) == ["ROC-AUC of mode b is higher, on the same drawn songs, than that of mode a in 100%."]
    ends = intervals(pair[0].judged)
    assert all(each.low < each.high for each in ends.values())


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_pictures_of_a_run_tell_how_many_were_judged(tmp_path):
    outputs = judged_outputs()
    outputs.labels[:, 2] = NAN
    drawn = {name: figure for name, (_, figure) in run_figures([Judged(outputs, np.full(3, 0.5))]).items()}
    for name, figure in drawn.items():
        figure.savefig(tmp_path / f"{name}.png")
    known = ~np.isnan(outputs.labels)
    positives, judged = (outputs.labels == 1).sum(axis=0), known.sum(axis=0)
    assert 0 < positives[1] < judged[1] < 240
    left = drawn["per_class"].axes[0]
    assert [label.get_text() for label in left.get_yticklabels()] == [
        f"{name} ({some} of {of})" for name, some, of in zip(CLASSES, positives, judged, strict=True)
    ]
    assert {"class (positives of judged examples)", "no example"} <= set(texts(drawn["per_class"]))
    ticks = [line[0][0] for line in drawn["per_class"].axes[1].collections[-1].get_segments() if len(line)]
    shares = positives[:2] / judged[:2]
    np.testing.assert_allclose([tick for tick in ticks if not math.isnan(tick)], np.maximum(shares, 1 - shares))

    panels = drawn["precision_recall"].axes
    average = average_precision_score(outputs.labels[known[:, 0], 0], outputs.scores[known[:, 0], 0])
    assert panels[0].get_title() == f"violin\nAP {average:.2f}, n = {positives[0]}"
    curve, chance, _ = panels[0].lines
    assert np.sum(np.diff(curve.get_xdata()) * curve.get_ydata()[1:]) == pytest.approx(average)
    assert chance.get_ydata()[0] == pytest.approx(shares[0])
    assert panels[2].get_title() == "organ\n0 of 0"
    assert [text.get_text() for text in panels[2].texts] == ["no example"]


def test_missed_shows_shares_of_what_was_judged(tmp_path):
    """Twelve false alarms of a: b was judged in ten of them and missed in four; c was judged in two, and missed."""
    labels, decisions = np.zeros((20, 3)), np.zeros((20, 3), int)
    decisions[:12, 0] = 1
    labels[:4, 1] = 1
    labels[10:12, 1] = NAN
    labels[2:12, 2] = NAN
    labels[:2, 2] = 1
    figure = figures.missed_figure(labels, decisions, ["a", "b", "c"])
    cells, scale = figure.axes
    written = {(text.get_text(), *text.get_position()) for text in cells.texts if text.get_text().isdigit()}
    assert {("40", 1.5, 0.5), ("100", 2.5, 0.5)} <= written
    assert {text for text, x, y in written if x == 1.5 and y < 0} == {"22"}  # 4 of 18
    assert scale.get_xlim()[1] == pytest.approx(40)  # two examples do not set it
    assert "those judged on it\npale: fewer than 5 examples" in scale.get_xlabel()
    figure.savefig(tmp_path / "missed.png")


def test_tables_by_class_count_the_judged():
    labels, scores = random_split()
    labels[:, 2] = NAN
    thresholds = dict.fromkeys(CLASSES, 0.5)
    found = metrics.evaluate(labels, scores, CLASSES, np.full(3, 0.5))
    judged = (~np.isnan(labels)).sum(axis=0)
    table = per_class_table(found, SimpleNamespace(class_thresholds=thresholds, classes=CLASSES)).splitlines()
    shown = ["f1", "precision", "recall", "roc_auc", "pr_auc"]
    assert table[0].split() == ["class", "threshold", "support", "judged", *shown]
    assert table[2].split()[2:5] == [f"{(labels[:, 1] == 1).sum()}", f"{judged[1]}", f"{found['f1/banjo']:.3f}"]
    assert table[3].split() == ["organ", "0.500", "0", "0", *"-----"]
    assert len({len(line) for line in table}) == 1
    assert table[4].split()[3:] == [f"{found[f'{name}_macro']:.3f}" for name in shown]

    rows = list(csv.DictReader(per_class_csv(thresholds, {f"test/{k}": v for k, v in found.items()}).splitlines()))
    assert [float(row["judged"]) for row in rows] == judged.tolist()
    assert float(rows[1]["f1"]) == pytest.approx(found["f1/banjo"], abs=1e-6)
    assert rows[2]["f1"] == rows[2]["accuracy"] == ""


def test_tables_by_class_are_as_ever_where_all_was_judged():
    labels, scores = random_split(judged=1)
    thresholds = dict.fromkeys(CLASSES, 0.5)
    found = metrics.evaluate(labels, scores, CLASSES, np.full(3, 0.5))
    table = per_class_table(found, SimpleNamespace(class_thresholds=thresholds, classes=CLASSES)).splitlines()
    assert table[0].split() == ["class", "threshold", "support", "f1", "precision", "recall", "roc_auc", "pr_auc"]
    head = per_class_csv(thresholds, {f"test/{k}": v for k, v in found.items()}).splitlines()[0]
    assert head == "class,threshold,support,f1,precision,recall,accuracy,roc_auc,pr_auc"
