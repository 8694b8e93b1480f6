import itertools
import math

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb

from pictures import saved
from timbrel import figures
from timbrel.figures.pianoroll import COLOURS, _bars, _colour, _range, _rows

pytestmark = pytest.mark.filterwarnings("error")  # a layout that does not fit warns

NINE = ("piano", "acoustic guitar", "electric guitar", "trumpet", "saxophone", "bass", "violin", "cello", "flute")
FRAME_S = 0.064


def scale(seconds=10.0, classes=(0, 5, 8)):
    """Classes that play a scale each, a fifth above the last, a note a second."""
    roll = np.zeros((len(NINE), 88, round(seconds / FRAME_S)), dtype=bool)
    for place, index in enumerate(classes):
        for second in range(math.ceil(seconds)):
            start = round(second / FRAME_S)
            roll[index, 15 + 7 * place + second % 12, start : start + 12] = True
    return roll


def legend(figure):
    return {
        text.get_text(): patch.get_facecolor()[:3]
        for each in figure.legends
        for text, patch in zip(each.get_texts(), each.get_patches(), strict=True)
    }


def drawn(axes):
    """The bars of some axes as (colour, left, right, bottom, top)."""
    found = []
    for each in axes.collections:
        if isinstance(each, PolyCollection) and each.get_zorder() == 2:
            for path in each.get_paths():
                (left, bottom), (right, top) = path.vertices.min(axis=0), path.vertices.max(axis=0)
                found.append((tuple(each.get_facecolor()[0][:3]), left, right, bottom, top))
    return found


def labels(axis):
    low, high = axis.get_view_interval()
    return [tick.label1.get_text() for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]


def test_a_note_is_a_bar_at_its_time_and_pitch_in_its_instruments_colour(tmp_path):
    roll = np.zeros((9, 88, 156), dtype=bool)
    roll[6, 48, 10:20] = True  # A4 on the violin
    roll[0, 39, 100:156] = True  # C4 on the piano
    figure = figures.pianoroll_figure(roll, NINE, FRAME_S, title="song.wav", first_s=5.0)
    (axes,) = figure.axes
    piano, violin = drawn(axes)
    assert (piano[0], violin[0]) == (to_rgb(COLOURS[0]), to_rgb(COLOURS[6]))
    assert piano[1:] == pytest.approx((11.4, 14.984, 59.55, 60.45))
    assert violin[1:] == pytest.approx((5.64, 6.28, 68.55, 69.45))
    assert legend(figure) == {"piano": to_rgb(COLOURS[0]), "violin": to_rgb(COLOURS[6])}
    assert axes.get_xlabel() == "Time (s)"
    assert axes.get_xlim() == (5, 15)
    figure.canvas.draw()
    assert labels(axes.xaxis) == [str(second) for second in range(5, 16)]
    assert labels(axes.yaxis) == ["C4", "C5"]
    low, high = axes.get_ylim()
    assert (low, high) == (52.5, 77.5)  # two octaves around the notes
    assert figure.get_suptitle() == "song.wav"
    saved(figure, tmp_path / "roll.png")


def test_colours_depend_on_the_place_among_the_classes_alone():
    few, many = (figures.pianoroll_figure(scale(classes=each), NINE, FRAME_S) for each in ([8], range(9)))
    assert list(legend(few)) == ["flute"]
    assert list(legend(many)) == list(NINE)
    assert legend(few)["flute"] == legend(many)["flute"] == to_rgb(COLOURS[8])


def test_instruments_on_one_note_share_its_bar():
    roll = np.zeros((3, 12, 8), dtype=bool)
    roll[0, 3, 0:6] = roll[2, 3, 4:8] = True
    upper = [list(each) for each in _bars(roll, 0, 0.5, 1.0, 60)]
    lower = [list(each) for each in _bars(roll, 2, 0.5, 1.0, 60)]
    spans = [(bar[0][0], bar[1][0], bar[2][1], bar[0][1]) for bar in upper + lower]
    assert spans == [
        (1.0, 3.0, pytest.approx(62.55), pytest.approx(63.45)),  # alone
        (3.0, 4.0, pytest.approx(63.0), pytest.approx(63.45)),  # the upper half
        (3.0, 4.0, pytest.approx(62.55), pytest.approx(63.0)),  # the lower half
        (4.0, 5.0, pytest.approx(62.55), pytest.approx(63.45)),
    ]
    assert not list(_bars(roll, 1, 0.5, 1.0, 60))


def test_bars_cover_each_cell_that_is_on_once():
    roll = np.random.default_rng(0).random((4, 10, 30)) < 0.5
    area = np.zeros((10, 30))
    for index in range(4):
        for (left, high), (right, _), (_, low), _ in _bars(roll, index, 1.0, 0.0, 0):
            pitch = round((high + low) / 2)
            assert roll[index, pitch, round(left) : round(right)].all()
            area[pitch, round(left) : round(right)] += high - low
    np.testing.assert_allclose(area, 0.9 * roll.any(axis=0))


@pytest.mark.parametrize(("seconds", "rows"), [(0.064, 1), (10, 1), (35, 1), (36, 2), (60, 2), (240, 7), (3600, 8)])
def test_a_roll_of_any_length_fits_in_rows(seconds, rows, tmp_path):
    roll = scale(seconds)
    figure = figures.pianoroll_figure(roll, NINE, FRAME_S, title="a/very/long/path " * 8)
    assert len(figure.axes) == rows
    long = seconds >= 120
    assert [axes.get_xlabel() for axes in figure.axes] == [""] * (rows - 1) + ["Time (min:s)" if long else "Time (s)"]
    assert len({np.diff(axes.get_xlim()).item() for axes in figure.axes}) == 1
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    ends = {round(right / FRAME_S) for axes in figure.axes for _, _, right, _, _ in drawn(axes)}
    assert max(ends) == np.flatnonzero(roll.any(axis=(0, 1)))[-1] + 1
    saved(figure, tmp_path / "roll.png")
    shown = labels(figure.axes[-1].xaxis)
    assert all((":" in text) == long for text in shown)


@pytest.mark.parametrize("seconds", [1, 9.984, 35, 35.3, 36, 59, 60.06, 61, 100, 240.06, 241, 600, 3600, 36_000])
@pytest.mark.parametrize("most", [4, 8])
def test_rows_cover_the_recording_and_the_last_is_no_stub(seconds, most):
    starts, row_s, shown_s = _rows(2.0, 2.0 + seconds, most)
    assert len(starts) <= most
    assert starts[0] == 2
    np.testing.assert_allclose(np.diff(starts), row_s)
    assert 2 + seconds <= starts[-1] + shown_s + 1e-9
    assert row_s <= shown_s <= 1.1 * row_s
    assert 2 + seconds - starts[-1] > 0.3 * row_s
    assert len(starts) == 1 or row_s % 5 == 0
    assert row_s <= 35.5 or len(starts) > most / 2


def test_truth_is_above_the_prediction_on_the_same_axes(tmp_path):
    figure = figures.pianoroll_figure(scale(classes=[0, 8]), NINE, FRAME_S, truth=scale(classes=[0, 5]))
    true, predicted = figure.axes
    assert (true.get_ylabel(), predicted.get_ylabel()) == ("true", "predicted")
    assert true.get_position().y0 > predicted.get_position().y1
    assert true.get_xlim() == predicted.get_xlim()
    assert true.get_ylim() == predicted.get_ylim()
    assert {each[0] for each in drawn(true)} == {to_rgb(COLOURS[0]), to_rgb(COLOURS[5])}
    assert {each[0] for each in drawn(predicted)} == {to_rgb(COLOURS[0]), to_rgb(COLOURS[8])}
    assert list(legend(figure)) == ["piano", "bass", "flute"]
    assert (true.get_xlabel(), predicted.get_xlabel()) == ("", "Time (s)")
    saved(figure, tmp_path / "both.png")


def test_truth_and_prediction_of_a_long_recording_go_in_pairs(tmp_path):
    figure = figures.pianoroll_figure(scale(240), NINE, FRAME_S, truth=scale(240))
    assert [axes.get_ylabel() for axes in figure.axes] == ["true", "predicted"] * 4
    starts = [axes.get_xlim()[0] for axes in figure.axes]
    assert starts == [0, 0, 60, 60, 120, 120, 180, 180]
    saved(figure, tmp_path / "both.png")


def test_a_roll_without_a_note_says_so(tmp_path):
    empty = np.zeros((9, 88, 156), dtype=bool)
    figure = figures.pianoroll_figure(empty, NINE, FRAME_S)
    assert [text.get_text() for text in figure.axes[0].texts] == ["no note"]
    assert not figure.legends
    saved(figure, tmp_path / "empty.png")
    figure = figures.pianoroll_figure(empty, NINE, FRAME_S, truth=scale())
    assert [[text.get_text() for text in axes.texts] for axes in figure.axes] == [[], ["no note"]]
    assert list(legend(figure)) == ["piano", "bass", "flute"]


@pytest.mark.parametrize(
    ("pitches", "low", "count", "expected"),
    [
        ([60, 90], 21, 88, (58, 92)),
        ([60], 21, 88, (48, 72)),
        ([21], 21, 88, (21, 45)),
        ([108], 21, 88, (84, 108)),
        ([21, 108], 21, 88, (21, 108)),
        ([], 21, 88, (48, 72)),
        ([62], 60, 12, (60, 71)),
        ([], 90, 30, (90, 114)),
        ([], 0, 36, (11, 35)),
    ],
)
def test_range_is_that_of_the_notes_and_at_least_two_octaves_where_there_are(pitches, low, count, expected):
    roll = np.zeros((2, count, 4), dtype=bool)
    roll[1, [pitch - low for pitch in pitches], 2] = True
    assert _range([np.zeros_like(roll), roll], low) == expected


def test_more_classes_than_colours_are_all_told_apart(tmp_path):
    names = [f"a rather long name {index}" for index in range(16)]
    roll = np.eye(16, dtype=bool)[:, :, None].repeat(50, axis=2)
    figure = figures.pianoroll_figure(roll, names, FRAME_S, low=60)
    assert list(legend(figure)) == names
    assert len(set(legend(figure).values())) == 16
    saved(figure, tmp_path / "many.png")


def test_rolls_that_do_not_fit_are_refused():
    roll = scale()
    with pytest.raises(ValueError, match=r"rolls \(2, pitch, frame\).*got \(9, 88, 156\)"):
        figures.pianoroll_figure(roll, NINE[:2], FRAME_S)
    with pytest.raises(ValueError, match=r"got \(9, 88, 155\) as what is true"):
        figures.pianoroll_figure(roll, NINE, FRAME_S, truth=roll[..., 1:])
    with pytest.raises(ValueError, match=r"at least one pitch and one frame, got \(9, 88, 0\)"):
        figures.pianoroll_figure(roll[..., :0], NINE, FRAME_S)
    with pytest.raises(ValueError, match="frame_s above 0"):
        figures.pianoroll_figure(roll, NINE, 0)


LINEAR_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
LMS_TO_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
# Machado, Oliveira, Fernandes (2009), severity 1.0, on linear RGB
EYES = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def linear(colour):
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def nearest(colours):
    """The smallest distance in OKLab between two of some colours, to any eye."""
    seen = [
        [LMS_TO_OKLAB @ np.cbrt(LINEAR_TO_LMS @ np.clip(np.array(eye) @ linear(each), 0, 1)) for eye in EYES.values()]
        for each in colours
    ]
    return min(
        np.linalg.norm(a - b) for one, other in itertools.combinations(seen, 2) for a, b in zip(one, other, strict=True)
    )


def test_colours_can_be_told_apart_by_the_colour_blind_and_stand_out_on_white():
    okabe_ito = ["#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"]
    assert len(COLOURS) == 9
    assert nearest(COLOURS) >= nearest(okabe_ito) - 1e-9
    luminances = [linear(_colour(index)) @ [0.2126, 0.7152, 0.0722] for index in range(9)]
    assert min(1.05 / (luminance + 0.05) for luminance in luminances) > 2


def test_drawing_leaves_matplotlibs_settings_alone():
    before = dict(matplotlib.rcParams)
    figures.pianoroll_figure(scale(), NINE, FRAME_S)
    assert dict(matplotlib.rcParams) == before
