import math

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from timbrel import figures
from timbrel.figures.activity import _shades

pytestmark = pytest.mark.filterwarnings("error")  # a layout that does not fit warns

CLASSES = ("voice", "bowed string", "singer", "violin")
PARENTS = {"singer": "voice", "violin": "bowed string"}
THRESHOLDS = np.array([0.5, 0.3, 0.5, 0.5])
FILE = np.array([0.9, 0.3, 0.2, 0.49])


def activity(seconds=6, **options):
    probabilities = np.random.default_rng(0).random((seconds, len(CLASSES)))
    options = {"title": "a.wav", "parents": PARENTS} | options
    return figures.activity_figure(probabilities, CLASSES, THRESHOLDS, FILE, **options)


def saved(figure, path):
    """Save, and check that it is a picture in which no text leaves the page."""
    figure.savefig(path)
    pixels = matplotlib.image.imread(path)
    assert path.stat().st_size > 5_000
    assert pixels.std() > 0.02
    page, drawn = figure.bbox_inches, figure.get_tightbbox(figure.canvas.get_renderer())
    assert drawn.x0 >= page.x0 - 0.01
    assert drawn.x1 <= page.x1 + 0.01
    assert drawn.y0 >= page.y0 - 0.01
    assert drawn.y1 <= page.y1 + 0.01


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


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


def test_bars_tell_zero_from_undefined(tmp_path):
    figure = figures.per_class_figure({"fine-tuned": {"drums": 0.94, "brass": math.nan, "violin": 0.0}})
    assert texts(figure) == ["0.94", "0.00", "no example"]
    assert figure.axes[0].get_xlabel() == "F1"
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["drums", "brass", "violin"]
    saved(figure, tmp_path / "bars.png")


def test_a_class_that_no_run_has_is_marked_once():
    rows = {"one": {"drums": 0.9, "brass": math.nan}, "two": {"drums": math.nan}}
    assert sorted(texts(figures.per_class_figure(rows))) == ["0.90", "no example", "no example"]


@pytest.mark.parametrize(("runs", "classes", "columns"), [(1, 15, 1), (6, 15, 1), (3, 50, 2), (2, 1, 1)])
def test_bars_of_many_runs_and_classes(runs, classes, columns, tmp_path):
    rows = {f"a run with a name {i}": {f"class {c}": c / 50 for c in range(classes)} for i in range(runs)}
    figure = figures.per_class_figure(rows)
    assert len(figure.axes) == columns
    assert sum(len(axes.patches) for axes in figure.axes) == runs * classes
    assert len(figure.legends) == (runs > 1)
    saved(figure, tmp_path / "bars.png")


def test_bars_refuse_what_they_cannot_draw():
    with pytest.raises(ValueError, match="1 to 6 runs, got 7"):
        figures.per_class_figure({str(i): {"drums": 1.0} for i in range(7)})
    with pytest.raises(ValueError, match="at least one class"):
        figures.per_class_figure({"run": {}})


def test_comparison_states_mean_sd_and_number(tmp_path):
    groups = {"fine-tuned": [0.9, 0.92, math.nan], "frozen": [0.8], "scratch": [math.nan]}
    figure = figures.comparison_figure(groups, metric="ROC-AUC", title="Transfer modes")
    assert texts(figure) == ["0.910 ± 0.014  (n = 2)", "0.800  (n = 1)", "no value"]
    assert figure.axes[0].get_xlabel().startswith("ROC-AUC")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(groups)
    saved(figure, tmp_path / "comparison.png")
    with pytest.raises(ValueError, match="at least one group"):
        figures.comparison_figure({}, metric="F1", title="")


def test_global_state_of_matplotlib_stays_untouched():
    before = dict(matplotlib.rcParams)
    assert isinstance(activity(), Figure)
    assert dict(matplotlib.rcParams) == before
