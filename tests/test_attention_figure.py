"""The picture of attention over a clip."""

import numpy as np
import pytest

from pictures import saved
from timbrel import figures

pytestmark = pytest.mark.filterwarnings("error")  # a layout that does not fit warns

NAMES = ("accordion", "banjo", "bass", "mallet_percussion")


def draw(instances=10, names=NAMES, instance_s=0.96, **options):
    generator = np.random.default_rng(0)
    attention = generator.dirichlet(np.ones(instances), size=len(names))
    options = {"title": "000046_3840"} | options
    return figures.attention_figure(attention, names, generator.random(len(names)), instance_s, **options)


def test_rows_are_classes_and_columns_are_seconds(tmp_path):
    attention = np.array([[0.1, 0.9], [0.5, 0.5]])
    figure = figures.attention_figure(
        attention, ("a", "b"), np.array([0.7, 0.3]), 2.0, title="t", truth=np.array([1.0, np.nan])
    )
    over_time, found = figure.axes
    (image,) = over_time.images
    np.testing.assert_array_equal(image.get_array(), attention)
    assert image.get_extent() == [0, 4, 2, 0]
    assert image.get_clim() == (0, 1.5)  # three times an even share
    assert [label.get_text() for label in over_time.get_yticklabels()] == ["a", "b"]
    assert [label.get_color() for label in over_time.get_yticklabels()] == [figures.INK, figures.MUTED]
    assert [bar.get_width() for bar in found.patches] == [0.7, 0.3]
    there, absent = (len(marks.get_offsets()) for marks in found.collections[-2:])
    assert (there, absent) == (1, 0)
    saved(figure, tmp_path / "attention.png")


def test_truth_and_thresholds_are_explained_where_they_are_drawn():
    def key(figure):
        return [text.get_text() for legend in figure.legends for text in legend.get_texts()]

    assert key(draw())[1:] == ["threshold"]
    with_truth = draw(truth=np.array([1, 0, np.nan, 1]), thresholds=np.full(4, 0.3))
    assert key(with_truth)[1:] == ["threshold", "there", "not there (neither: not judged)"]
    assert [len(marks.get_offsets()) for marks in with_truth.axes[1].collections[-2:]] == [2, 1]


def test_clips_that_follow_one_another_are_parted():
    figure = draw(instances=24, clip=10)
    lines = figure.axes[0].collections[-1].get_segments()
    assert [segment[0][0] for segment in lines] == pytest.approx([9.6, 19.2])
    assert figure.legends[0].get_texts()[0].get_text().endswith("(over a clip: 1)")


@pytest.mark.parametrize(("instances", "classes"), [(1, 1), (10, 20), (10, 50), (250, 20), (3, 2)])
def test_clips_of_any_length_and_any_vocabulary_fit(instances, classes, tmp_path):
    names = [f"instrument number {number}" for number in range(classes)]
    truth = np.resize([1.0, 0.0, np.nan], classes)
    figure = draw(instances, names, truth=truth, title="a/very/long/path " * 8)
    unit = "Time (min:s)" if instances == 250 else "Time (s)"
    assert figure.axes[0].get_xlabel() == unit
    saved(figure, tmp_path / "attention.png")


@pytest.mark.parametrize("shapes", [((3, 5), 4), ((4, 0), 4), ((4, 5), 3)])
def test_arrays_that_do_not_fit_are_refused(shapes):
    attention, probabilities = shapes
    with pytest.raises(ValueError, match="expected"):
        figures.attention_figure(np.ones(attention), NAMES, np.ones(probabilities), 1.0, title="t")
