import math
import re
import warnings
from itertools import pairwise

import mir_eval
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from timbrel import note_metrics as nm
from timbrel import transcription as tr

pytestmark = pytest.mark.filterwarnings("error")  # mir_eval's warnings about empty sets must not leak

FRAME_S = 0.064
NONE = nm.NoteArrays(*np.empty((3, 0)))


def roll(*rows):
    """A roll from rows of text, one a pitch: ``#`` is on."""
    return np.array([[mark == "#" for mark in row] for row in rows])


def notes(*rows):
    """Notes from rows (onset_s, offset_s, pitch)."""
    return nm.NoteArrays(*np.array(rows, dtype=np.float64).reshape(-1, 3).T)


def listed(found, frame_s=1.0):
    """Notes as (first frame, last frame + 1, pitch)."""
    return [(round(a / frame_s), round(b / frame_s), int(p)) for a, b, p in zip(*found, strict=True)]


@st.composite
def some_rolls(draw, dimensions=2):
    shape = (*(draw(st.integers(1, 4)) for _ in range(dimensions - 1)), draw(st.integers(1, 20)))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return generator.random(shape) < draw(st.sampled_from([0.0, 0.3, 0.7, 1.0]))


@st.composite
def some_notes(draw):
    """Notes crowded enough to compete for one another, on a fine grid of times."""
    rows = st.tuples(st.integers(0, 12), st.integers(1, 40), st.integers(60, 61))
    return notes(*[(a / 50, (a + d) / 50, p) for a, d, p in draw(st.lists(rows, max_size=15))])


# Notes of a roll


def test_every_run_of_frames_is_a_note():
    found = nm.notes_of(roll("##..#", ".###.", "....."), FRAME_S)
    assert found.onset_s == pytest.approx([0, 0.064, 0.256])
    assert found.offset_s == pytest.approx([0.128, 0.256, 0.320])
    assert list(found.pitch) == [0, 1, 0]


def test_gaps_are_closed_before_short_notes_are_dropped():
    one = roll("#.##..#", "#......", "......#")
    assert listed(nm.notes_of(one, 1.0)) == [(0, 1, 0), (0, 1, 1), (2, 4, 0), (6, 7, 0), (6, 7, 2)]
    assert listed(nm.notes_of(one, 1.0, gap=1)) == [(0, 4, 0), (0, 1, 1), (6, 7, 0), (6, 7, 2)]
    assert listed(nm.notes_of(one, 1.0, gap=2, shortest=2)) == [(0, 7, 0)]
    assert listed(nm.notes_of(one, 1.0, shortest=3)) == []


@given(some_rolls())
@settings(max_examples=60, deadline=None)
def test_notes_painted_again_are_the_roll(one):
    painted = np.zeros_like(one)
    found = listed(nm.notes_of(one, FRAME_S), FRAME_S)
    for first, end, pitch in found:
        assert not painted[pitch, max(first - 1, 0) : end + 1].any()  # whole runs, apart from each other
        painted[pitch, first:end] = True
    assert np.array_equal(painted, one)
    assert found == sorted(found, key=lambda note: (note[0], note[2]))


@given(some_rolls(), st.integers(0, 4), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_cleaning_is_what_it_is_frame_by_frame(one, gap, shortest):
    closed = one.copy()
    for row in closed:
        on = np.flatnonzero(row)
        for left, right in pairwise(on):
            if right - left - 1 <= gap:
                row[left:right] = True
    expected = [note for note in listed(nm.notes_of(closed, 1.0)) if note[1] - note[0] >= shortest]
    assert listed(nm.notes_of(one, 1.0, gap, shortest)) == expected


# Matching


def test_note_f1_by_hand():
    true = [notes((0.0, 1.0, 60), (1.0, 2.0, 62), (3.0, 3.1, 64)), notes((0.0, 1.0, 60)), NONE, NONE]
    found = [
        # 50 ms late and 200 ms short: both criteria. Another pitch: none. Right onset, offset 60 ms off: onset.
        notes((0.05, 0.8, 60), (1.0, 2.0, 61), (3.0, 3.16, 64)),
        NONE,  # all missed: 0
        notes((0.0, 1.0, 60)),  # undefined by itself, a false note in the micro figures
        NONE,  # not counted
    ]
    assert [nm.note_counts(*pair, None) for pair in zip(true, found, strict=True)] == [
        (2, 3, 3),
        (0, 1, 0),
        (0, 0, 1),
        (0, 0, 0),
    ]
    assert nm.note_f1(true, found) == pytest.approx(
        {
            "onset": 2 * 2 / (4 + 4),
            "onset_per_song": (2 * 2 / 6 + 0) / 2,
            "onset_offset": 2 * 1 / (4 + 4),
            "onset_offset_per_song": (2 * 1 / 6 + 0) / 2,
        }
    )
    grouped = nm.note_f1(true, found, groups=["x", "x", "y", "x"])
    assert grouped["onset_per_song"] == pytest.approx(2 * 2 / (4 + 3))
    assert grouped["onset"] == 2 * 2 / (4 + 4)


def test_an_offset_may_be_missed_by_a_fifth_of_the_note_or_50_ms():
    long, short = notes((0.0, 1.0, 60)), notes((0.0, 0.1, 60))
    ratio = nm.CRITERIA["onset_offset"]
    assert nm.note_counts(long, notes((0.0, 1.2, 60)), ratio) == (1, 1, 1)
    assert nm.note_counts(long, notes((0.0, 1.21, 60)), ratio) == (0, 1, 1)
    assert nm.note_counts(short, notes((0.0, 0.05, 60)), ratio) == (1, 1, 1)
    assert nm.note_counts(short, notes((0.0, 0.04, 60)), ratio) == (0, 1, 1)


def test_a_note_is_matched_once_and_as_many_as_can_be():
    twice = notes((0.0, 1.0, 60), (0.01, 1.0, 60))
    assert nm.note_counts(notes((0.0, 1.0, 60)), twice, None) == (1, 1, 2)
    # The first true note is near both estimates, the second near the first estimate only.
    assert nm.note_counts(notes((0.04, 1, 60), (0.0, 1, 60)), notes((0.03, 1, 60), (0.08, 1, 60)), None) == (2, 2, 2)


def test_without_true_notes_nothing_is_defined():
    for found in (NONE, notes((0.0, 1.0, 60))):
        assert all(math.isnan(value) for value in nm.note_f1([NONE], [found]).values())
    assert all(math.isnan(value) for value in nm.note_f1([], []).values())


@given(some_notes(), some_notes())
@settings(max_examples=80, deadline=None)
def test_note_f1_is_that_of_mir_eval(true, found):
    columns = []
    for one in (true, found):
        columns += [np.stack(one[:2], axis=1), mir_eval.util.midi_to_hz(one.pitch)]
    result = nm.note_f1([true], [found])
    for criterion, ratio in (("onset", None), ("onset_offset", 0.2)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            *_, f1, _overlap = mir_eval.transcription.precision_recall_f1_overlap(*columns, offset_ratio=ratio)
        expected = f1 if len(true.pitch) else math.nan
        assert result[criterion] == pytest.approx(expected, nan_ok=True)
        assert result[f"{criterion}_per_song"] == pytest.approx(expected, nan_ok=True)


# All together

CLASSES = ("piano", "violin")
THRESHOLDS = tr.Thresholds(0.5, 0.5, np.full(2, 0.5))


def sure(decisions):
    """Scores of 0 and 1 that decide so."""
    return tr.Scores(*(1.0 * array for array in (decisions, decisions.any(axis=1), decisions.any(axis=2))))


def test_evaluate_notes_by_hand():
    # Example 0: the violin's note is given to the piano, the piano's begins a frame late (64 ms) in the roll.
    # Example 1, of the same song: the piano's second note is missed.
    targets = np.zeros((2, 2, 3, 12), dtype=bool)
    decisions = targets.copy()
    targets[0, 0, 0, 2:6] = targets[0, 1, 2, 4:8] = targets[1, 0, 1, 0:3] = targets[1, 0, 1, 8:10] = True
    decisions[0, 0, 0, 3:6] = decisions[0, 0, 2, 4:8] = decisions[1, 0, 1, 0:3] = True
    result = nm.evaluate_notes(targets, sure(decisions), THRESHOLDS, ["x", "x"], CLASSES, FRAME_S)
    assert result["note_f1_onset"] == pytest.approx(2 * 1 / (4 + 3))
    assert result["note_f1_onset/piano"] == pytest.approx(2 * 1 / (3 + 3))
    assert result["note_f1_onset/violin"] == 0
    assert result["note_f1_onset_per_song"] == pytest.approx((2 / 6 + 0) / 2)  # (x, piano) and (x, violin)
    assert result["pitch_note_f1_onset"] == result["pitch_note_f1_onset_per_song"] == pytest.approx(2 * 2 / (4 + 3))
    assert result["pitch_note_f1_onset_offset"] == pytest.approx(2 * 2 / (4 + 3))
    assert result["note_f1_onset_offset/piano"] == pytest.approx(2 / 6)
    assert all(type(value) is float for value in result.values())
    for name in result:
        _validate_metric_name(name)


@given(some_rolls(dimensions=4), st.sampled_from(["ab", "aa"]))
@settings(max_examples=30, deadline=None)
def test_a_perfect_prediction_has_1_wherever_defined(targets, songs):
    classes = [str(n) for n in range(targets.shape[1])]
    names = [songs[n % 2] for n in range(len(targets))]
    thresholds = tr.Thresholds(0.5, 0.5, np.full(len(classes), 0.5))
    result = nm.evaluate_notes(targets, sure(targets), thresholds, names, classes, FRAME_S)
    defined = {value for value in result.values() if not math.isnan(value)}
    assert defined == ({1.0} if targets.any() else set())
    order = np.arange(len(targets))[::-1]
    other = nm.evaluate_notes(
        targets[order], sure(targets[order]), thresholds, [names[n] for n in order], classes, FRAME_S
    )
    assert other == pytest.approx(result, nan_ok=True)


def test_cleaning_is_for_the_estimate_only():
    targets = np.zeros((1, 2, 3, 12), dtype=bool)
    targets[0, 0, 0, 0:10] = targets[0, 0, 2, 4] = True
    decisions = targets.copy()
    decisions[0, 0, 0, 5] = False  # broken in two
    decisions[0, 1, 1, 3] = True  # a blip
    arguments = (targets, sure(decisions), THRESHOLDS, ["x"], CLASSES, FRAME_S)
    for cleaning, expected in (
        ({}, 2 * 1 / (2 + 4)),
        ({"gap": 1}, 2 * 2 / (2 + 3)),
        ({"gap": 1, "shortest": 2}, 2 * 1 / (2 + 1)),
    ):
        result = nm.evaluate_notes(*arguments, **cleaning)
        assert result["note_f1_onset_offset"] == result["pitch_note_f1_onset_offset"] == pytest.approx(expected)


def test_notes_of_pitches_are_those_of_the_pitch_scores():
    targets = np.zeros((1, 2, 3, 12), dtype=bool)
    targets[0, 0, 0, 0:10] = True
    silent_pitches = sure(targets)._replace(pitch=np.zeros((1, 3, 12)))
    result = nm.evaluate_notes(targets, silent_pitches, THRESHOLDS, ["x"], CLASSES, FRAME_S)
    assert (result["note_f1_onset"], result["pitch_note_f1_onset"]) == (1, 0)


def test_input_that_does_not_fit_is_named():
    targets = np.zeros((1, 2, 3, 12), dtype=bool)
    with pytest.raises(ValueError, match=re.escape("roll scores (1, 2, 3, 12)")):
        nm.evaluate_notes(targets, sure(targets[..., 1:]), THRESHOLDS, ["x"], CLASSES, FRAME_S)
    with pytest.raises(ValueError, match=re.escape("(pitch, frame) of type bool, got (2, 3, 12)")):
        nm.notes_of(targets[0], FRAME_S)
    with pytest.raises(ValueError, match="got -1 and 1"):
        nm.notes_of(targets[0, 0], FRAME_S, gap=-1)
    with pytest.raises(ValueError, match="frames of more than 0 s, got nan"):
        nm.notes_of(targets[0, 0], math.nan)
    for row in ((1.0, 1.0, 60), (0.0, math.inf, 60), (0.0, 1.0, math.nan)):
        with pytest.raises(ValueError, match="end after they begin"):
            nm.note_counts(notes(row), NONE, None)
    with pytest.raises(ValueError, match="one length"):
        nm.note_counts(NONE, nm.NoteArrays(np.zeros(2), np.ones(2), np.full(3, 60)), None)
    with pytest.raises(ValueError, match="got 1 and 0"):
        nm.note_f1([NONE], [])
    with pytest.raises(ValueError, match="a group for each of 1 items, got 2"):
        nm.note_f1([NONE], [NONE], groups=["x", "y"])
