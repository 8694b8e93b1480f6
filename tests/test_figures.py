import math

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from pictures import saved
from timbrel import figures, metrics
from timbrel.bootstrap import Interval
from timbrel.figures.activity import _shades
from timbrel.taxonomy import CLASSES as FIFTEEN

pytestmark = pytest.mark.filterwarnings("error")  # a layout that does not fit warns

CLASSES = ("voice", "bowed string", "singer", "violin")
PARENTS = {"singer": "voice", "violin": "bowed string"}
THRESHOLDS = np.array([0.5, 0.3, 0.5, 0.5])
FILE = np.array([0.9, 0.3, 0.2, 0.49])


def activity(seconds=6, **options):
    probabilities = np.random.default_rng(0).random((seconds, len(CLASSES)))
    options = {"title": "a.wav", "parents": PARENTS} | options
    return figures.activity_figure(probabilities, CLASSES, THRESHOLDS, FILE, **options)


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def legend(figure):
    return [text.get_text() for each in figure.legends for text in each.get_texts()]


def test_activity_sets_instruments_under_their_families(tmp_path):
    figure = activity()
    over_time, in_all = figure.axes
    labels = over_time.get_yticklabels()
    assert [label.get_text() for label in labels] == ["voice", "singer", "bowed string", "violin"]
    assert [label.get_fontweight() for label in labels] == ["bold", "normal", "bold", "normal"]
    assert [label.get_color() == figures.INK for label in labels] == [True, False, True, False]  # in the file
    assert over_time.get_xlabel() == "Time (s)"
    assert in_all.get_xlabel() == "Probability"
    assert [bar.get_width() for bar in in_all.patches] == [0.9, 0.2, 0.3, 0.49]
    saved(figure, tmp_path / "activity.png")


def test_activity_shows_the_threshold_in_the_colour():
    colours = _shades(np.array([[0.6, 0.6], [0.7, 0.8]]), np.array([0.5, 0.7]))
    grey = np.ptp(colours[..., :3], axis=-1) < 0.01
    assert grey.tolist() == [[False, True], [False, False]]
    assert colours[1, 0].sum() < colours[0, 0].sum()  # more probable is darker
    ramp = np.linspace(0.2, 1, 9)
    above, below = (_shades(ramp, np.full(9, at))[:, :3].mean(axis=-1) for at in (0.0, math.inf))
    assert above.max() < below.min()  # also in grey print


@pytest.mark.parametrize(
    ("seconds", "unit"),
    [(1, "Time (s)"), (5, "Time (s)"), (119, "Time (s)"), (120, "Time (min:s)"), (600, "Time (min:s)")],
)
def test_activity_of_any_length_fits(seconds, unit, tmp_path):
    figure = activity(seconds, title="a/very/long/path " * 8)
    assert figure.axes[0].get_xlabel() == unit
    saved(figure, tmp_path / "activity.png")


def test_activity_of_fifty_tags_without_families(tmp_path):
    names = [f"instrument---number{i}" for i in range(50)]
    probabilities = np.random.default_rng(0).random((60, 50))
    figure = figures.activity_figure(
        probabilities, names, np.full(50, 0.5), probabilities.mean(axis=0), title="tags", parents={"x": "y"}
    )
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == names
    saved(figure, tmp_path / "activity.png")


def test_activity_says_which_shape_it_expected():
    with pytest.raises(ValueError, match=r"probabilities \(second, 4\), got \(6, 3\)"):
        figures.activity_figure(np.zeros((6, 3)), CLASSES, THRESHOLDS, FILE, title="")
    with pytest.raises(ValueError, match=r"thresholds \(4,\), got \(3,\)"):
        figures.activity_figure(np.zeros((6, 4)), CLASSES, THRESHOLDS[:3], FILE, title="")


def test_comparison_states_mean_sd_and_number(tmp_path):
    groups = {"fine-tuned": [0.9, 0.92, math.nan], "frozen": [0.8], "scratch": [math.nan]}
    figure = figures.comparison_figure(groups, metric="ROC-AUC", title="Transfer modes")
    assert texts(figure) == ["0.910 ± 0.014  (n = 2)", "0.800  (n = 1)", "no value"]
    assert figure.axes[0].get_xlabel().startswith("ROC-AUC")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(groups)
    saved(figure, tmp_path / "comparison.png")
    with pytest.raises(ValueError, match="at least one group"):
        figures.comparison_figure({}, metric="F1", title="")


def test_comparison_with_bootstrap_intervals(tmp_path):
    groups = {"fine-tuned": [0.9, 0.92], "frozen": [0.8], "scratch": [0.7]}
    intervals = {"fine-tuned": Interval(0.88, 0.95), "scratch": Interval(math.nan, math.nan)}
    figure = figures.comparison_figure(groups, metric="ROC-AUC", title="Transfer modes", intervals=intervals)
    assert texts(figure) == ["0.910 ± 0.014  (n = 2)  [0.880, 0.950]", "0.800  (n = 1)", "0.700  (n = 1)"]
    (band,) = figure.axes[0].patches
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((0.88, 0.95))
    assert legend(figure) == ["95 % bootstrap interval over songs"]
    low, high = figure.axes[0].get_xlim()
    assert low < 0.7
    assert high > 0.95
    saved(figure, tmp_path / "comparison.png")
    with pytest.raises(ValueError, match="got one of 'forzen'"):
        figures.comparison_figure(groups, metric="F1", title="", intervals={"forzen": Interval(0, 1)})


def split(classes, examples=60, seed=0):
    """Targets, scores and thresholds; the first class has no positive example, the second no other."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, (examples, len(classes)))
    if len(classes) > 2:
        targets[:, 0], targets[:, 1] = 0, 1
    scores = np.round(np.clip(0.4 * targets + 0.6 * rng.random(targets.shape), 0, 1), 2)
    return targets, scores, np.full(len(classes), 0.5)


LONG = [f"instrument---a rather long name {i}" for i in range(52)]
LISTS = pytest.mark.parametrize("classes", [["violin"], list(FIFTEEN), LONG], ids=["1", "15", "52"])


@LISTS
@pytest.mark.parametrize("runs", [1, 3])
def test_f1_and_accuracy_of_any_number_of_classes(classes, runs, tmp_path):
    rng = np.random.default_rng(0)
    f1, accuracy = rng.random((2, runs, len(classes)))
    positives = rng.integers(0, 480, len(classes))
    figure = figures.f1_and_accuracy_figure(classes, f1, accuracy, positives, 480)
    assert [axes.get_xlabel() for axes in figure.axes] == ["F1", "Accuracy"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        f"{name} ({number})" for name, number in zip(classes, positives, strict=True)
    ]
    saved(figure, tmp_path / "classes.png")


def test_f1_and_accuracy_state_mean_sd_and_the_answer_without_a_model(tmp_path):
    f1 = np.array([[0.5, math.nan, 0.0], [0.7, math.nan, 0.0]])
    accuracy = np.array([[0.9, 1.0, 0.2], [0.8, 1.0, 0.2]])
    figure = figures.f1_and_accuracy_figure(["violin", "brass", "drums"], f1, accuracy, np.array([10, 0, 80]), 100)
    left, right = figure.axes
    assert [bar.get_width() for bar in left.patches] == pytest.approx([0.6, 0, 0])
    assert [bar.get_width() for bar in right.patches] == pytest.approx([0.85, 1, 0.2])
    assert [text.get_text() for text in left.texts] == [
        "0.60 ± 0.14",
        "no example",
        "0.00 ± 0.00",
        "class (positives of 100 examples)",
    ]
    assert [text.get_text() for text in right.texts] == ["0.85 ± 0.07", "1.00 ± 0.00", "0.20 ± 0.00"]
    ticks = [line[0][0] for line in right.collections[-1].get_segments()]
    assert ticks == pytest.approx([0.9, 1.0, 0.8])  # always "absent", but for drums always "present"
    assert legend(figure) == ["accuracy of always giving the more frequent answer", "mean ± sd of 2 runs"]
    saved(figure, tmp_path / "classes.png")


def test_f1_and_accuracy_say_which_shape_they_expected():
    with pytest.raises(ValueError, match=r"\(run, 2\).*got \(1, 3\), \(1, 2\) and \(2,\)"):
        figures.f1_and_accuracy_figure(["a", "b"], np.zeros((1, 3)), np.zeros((1, 2)), np.zeros(2), 9)
    with pytest.raises(ValueError, match="at least one run"):
        figures.f1_and_accuracy_figure(["a"], np.zeros((0, 1)), np.zeros((0, 1)), np.zeros(1), 9)


SETTINGS = [0, 0, 0.6, 0.6, 1, 1]
AUC = [0.84, 0.86, 0.9, math.nan, 0.89, 0.91]


def test_sweep_draws_means_over_seeds_and_every_run(tmp_path):
    figure = figures.sweep_figure(
        SETTINGS,
        {"ROC-AUC": AUC, "PR-AUC": [math.nan] * 6},
        setting="p_musical",
        title="Mixing",
        intervals={"ROC-AUC": {0: Interval(0.8, 0.9), 1: Interval(0.85, 0.95)}},
    )
    left, right = figure.axes
    curve, bars = left.containers[0].lines[0], left.containers[0].lines[2][0]
    assert curve.get_xdata().tolist() == [0, 0.6, 1]
    assert curve.get_ydata() == pytest.approx([0.85, 0.9, 0.9])
    heights = [np.ptp(segment[:, 1]) / 2 for segment in bars.get_segments() if len(segment)]
    assert [height for height in heights if height > 0] == pytest.approx([math.sqrt(2) / 100] * 2)
    runs = next(each for each in left.collections if len(each.get_offsets()) == 6)
    np.testing.assert_array_equal(runs.get_offsets()[:, 0], SETTINGS)
    assert [label.get_text() for label in left.get_xticklabels()] == ["0", "0.6", "1"]
    assert (left.get_ylabel(), left.get_xlabel(), right.get_ylabel()) == ("ROC-AUC", "p_musical", "PR-AUC")
    assert texts(figure) == ["no value"]
    assert legend(figure) == ["mean ± sd of runs", "a run", "95 % bootstrap interval over songs"]
    saved(figure, tmp_path / "sweep.png")


@pytest.mark.parametrize("metrics_shown", [1, 2, 4])
@pytest.mark.parametrize(
    ("values", "log", "shown"),
    [
        ([1e-5, 1e-3, 1e-2], True, ["1e-05", "0.001", "0.01"]),
        ([0, 1e-4, 1e-2], True, ["0", "0.0001", "0.01"]),
        ([0, 0, 0], True, ["0"]),
        ([3, 3, 3], True, ["3"]),
        ([0.6, 0.6, 0.6], False, ["0.6"]),
        ([-1, 0, 4], False, ["-1", "0", "4"]),
    ],
)
def test_sweep_over_any_values(values, log, shown, metrics_shown, tmp_path):
    figure = figures.sweep_figure(
        values,
        {f"metric {i}": [0.5, 0.7, 0.6] for i in range(metrics_shown)},
        setting="a setting with a long name that has to be broken into lines",
        title="A sweep",
        intervals={"metric 0": {values[0]: Interval(0.4, 0.6, 0.9)}},
        log=log,
    )
    assert len(figure.axes) == metrics_shown
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == shown
    assert "90 % bootstrap interval over songs" in legend(figure)
    saved(figure, tmp_path / "sweep.png")


def test_sweep_spaces_values_by_their_ratios_and_zero_apart():
    figure = figures.sweep_figure([0, 0.1, 1, 10], {"F1": [0.1] * 4}, setting="x", title="", log=True)
    at = figure.axes[0].transData.transform([(value, 0.1) for value in (0, 0.1, 1, 10)])[:, 0]
    zero, one, two = np.diff(at)
    assert one == pytest.approx(two)
    assert 0.3 * one < zero < one


def test_sweep_of_many_values_leaves_out_labels_that_would_touch(tmp_path):
    values = np.repeat(np.linspace(0, 1, 41), 2)
    figure = figures.sweep_figure(values, {"F1": values}, setting="x", title="")
    assert len(figure.axes[0].get_xticks()) < 15
    saved(figure, tmp_path / "sweep.png")


def test_sweep_refuses_what_it_cannot_draw():
    with pytest.raises(ValueError, match="got 0 and 2"):
        figures.sweep_figure([1, 2], {}, setting="x", title="")
    with pytest.raises(ValueError, match="finite values of x"):
        figures.sweep_figure([1, math.nan], {"F1": [1, 1]}, setting="x", title="")
    with pytest.raises(ValueError, match="values of 0 or more of x"):
        figures.sweep_figure([-1, 1], {"F1": [1, 1]}, setting="x", title="", log=True)
    with pytest.raises(ValueError, match="2 values of F1, one a run, got 3"):
        figures.sweep_figure([1, 2], {"F1": [1, 1, 1]}, setting="x", title="")
    with pytest.raises(ValueError, match=r"got one of 0\.5"):
        figures.sweep_figure([1, 2], {"F1": [1, 1]}, setting="x", title="", intervals={"F1": {0.5: Interval(0, 1)}})
    with pytest.raises(ValueError, match="got one of 'f1'"):
        figures.sweep_figure([1, 2], {"F1": [1, 1]}, setting="x", title="", intervals={"f1": {1: Interval(0, 1)}})


@LISTS
def test_precision_recall_of_any_number_of_classes(classes, tmp_path):
    targets, scores, thresholds = split(classes)
    figure = figures.precision_recall_figure(targets, scores, classes, thresholds)
    assert len(figure.axes) == len(classes)
    assert legend(figure) == ["area: average precision (AP)", "at the threshold", "chance"]
    assert texts(figure) == (["no example", "no other example"] if len(classes) > 2 else [])
    saved(figure, tmp_path / "curves.png")


def test_precision_recall_curves_enclose_the_average_precision_and_meet_the_threshold():
    targets, scores, thresholds = split(FIFTEEN)
    figure = figures.precision_recall_figure(targets, scores, FIFTEEN, thresholds)
    expected = metrics.pr_auc(targets, scores)
    decisions = metrics.decide(scores, thresholds)
    precision, recall = metrics.precision(targets, decisions), metrics.recall(targets, decisions)
    for i in range(2, 15):
        axes = figure.axes[i]
        curve, chance, point = axes.lines
        x, y = curve.get_data()
        assert np.sum(np.diff(x) * y[1:]) == pytest.approx(expected[i])
        assert axes.get_title() == f"{FIFTEEN[i]}\nAP {expected[i]:.2f}, n = {targets[:, i].sum()}"
        assert chance.get_ydata()[0] == pytest.approx(targets[:, i].mean())
        at = (point.get_xdata()[0], point.get_ydata()[0])
        assert at == pytest.approx((recall[i], precision[i]))
        assert np.hypot(x - at[0], y - at[1]).min() < 1e-9  # a corner of the curve
    assert figure.axes[0].get_title() == "voice\n0 of 60"
    assert figure.axes[1].get_title() == "percussion\n60 of 60"


def test_precision_recall_where_nothing_is_predicted(tmp_path):
    targets, scores, _ = split(["violin"])
    figure = figures.precision_recall_figure(targets, scores * 0.9, ["violin"], np.ones(1))
    assert texts(figure) == ["never predicted"]
    assert len(figure.axes[0].lines) == 2
    saved(figure, tmp_path / "curves.png")
    with pytest.raises(ValueError, match="names of 1 classes, got 2"):
        figures.precision_recall_figure(targets, scores, ["violin", "viola"], np.ones(1))


@LISTS
def test_missed_of_any_number_of_classes(classes, tmp_path):
    targets, scores, thresholds = split(classes)
    figure = figures.missed_figure(targets, scores >= thresholds, classes)
    cells, _ = figure.axes
    assert [label.get_text() for label in cells.get_yticklabels()] == ["all examples", *classes]
    assert [label.get_text() for label in cells.get_xticklabels()] == classes
    shown = [text.get_text() for text in cells.texts]
    numbers = len([text for text in shown if text.isdigit()])
    if len(classes) > 24:
        assert numbers == 1 + len(classes)  # beside the rows alone
    else:
        assert numbers > 1 + len(classes) or len(classes) == 1
    saved(figure, tmp_path / "missed.png")


def test_missed_states_shares_counts_and_what_is_empty(tmp_path):
    """Of ten examples with a false alarm of a, b is missed in four; b has no false alarm, c no example."""
    targets, decisions = np.zeros((2, 20, 3), int)
    decisions[:10, 0] = 1
    targets[:4, 1] = 1
    decisions[:3, 2] = 1  # three false alarms of c, in all of which b is missed
    figure = figures.missed_figure(targets, decisions, ["a", "b", "c"])
    cells, scale = figure.axes
    written = {(text.get_text(), *text.get_position()) for text in cells.texts if text.get_text().isdigit()}
    assert {("40", 1.5, 0.5), ("100", 1.5, 2.5)} <= written
    assert any(text == "20" and x == 1.5 and y < 0 for text, x, y in written)  # of all examples
    assert [text for text in texts(figure) if not text.isdigit()] == [
        "examples",
        "no false alarm",
        "no example",
        "no example",
    ]
    beside = [text.get_text() for text in cells.texts if hasattr(text, "xy") and text.get_text().isdigit()]
    assert beside == ["20", "10", "0", "3"]
    assert [label.get_color() == figures.MUTED for label in cells.get_yticklabels()] == [False, False, True, False]
    assert [label.get_color() == figures.MUTED for label in cells.get_xticklabels()] == [True, False, True]
    assert scale.get_xlim()[1] == pytest.approx(40)  # the row of three examples does not set it
    assert scale.get_xlabel().endswith("pale: fewer than 5 examples")
    rows = cells.images[1].get_array()
    assert np.allclose(rows[1], rows[0, 0])  # an empty row is grey as the diagonal is
    assert rows[0, 1, :3].sum() < rows[2, 1, :3].sum()  # pale, though its share is higher
    saved(figure, tmp_path / "missed.png")


@pytest.mark.parametrize("count", [9, 30])
def test_words_of_rows_and_columns_do_not_meet(count):
    """As of a small test split by frame: most classes have no example, and the last rows no false alarm."""
    targets, decisions = np.zeros((2, 20, count), int)
    targets[:, 2:8] = np.arange(20)[:, None] % 2
    decisions[:10, : count - 3] = 1
    figure = figures.missed_figure(targets, decisions, [f"class {number}" for number in range(count)])
    figure.canvas.draw()
    words = {
        word: [text.get_window_extent() for text in figure.axes[0].texts if text.get_text() == word]
        for word in ("no example", "no false alarm")
    }
    assert [len(found) for found in words.values()] == [count - 6, 3]
    assert not any(row.overlaps(column) for row in words["no false alarm"] for column in words["no example"])


def test_missed_of_nothing_wrong(tmp_path):
    targets, _, _ = split(FIFTEEN)
    figure = figures.missed_figure(targets, targets, FIFTEEN)
    assert texts(figure).count("no false alarm") == 15
    saved(figure, tmp_path / "missed.png")
    with pytest.raises(ValueError, match="names of 15 classes, got 2"):
        figures.missed_figure(targets, targets, ["a", "b"])


def test_global_state_of_matplotlib_stays_untouched():
    before = dict(matplotlib.rcParams)
    assert isinstance(activity(), Figure)
    assert dict(matplotlib.rcParams) == before
