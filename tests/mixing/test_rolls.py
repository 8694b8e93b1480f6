"""Pianorolls: which frames a note is on in, by hand; and what holds for any notes."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from timbrel import note_metrics
from timbrel.mixing.notes import NO_NOTES, Notes
from timbrel.mixing.rolls import KEYS, LOWEST_KEY, RollGrid, instrument_roll, pianoroll, pitch_roll

GRID = RollGrid(hop_s=0.1, fine_frames=20, pool=2)
"""2 s: ten frames of 0.2 s."""
PAPER = RollGrid(hop_s=0.032, fine_frames=312, pool=2)
SECONDS = 10.0


def make_notes(*rows):
    """Notes given as (onset, offset, pitch, class)."""
    if not rows:
        return NO_NOTES
    onsets, offsets, pitches, classes = zip(*rows, strict=True)
    return Notes(np.stack([onsets, offsets], axis=1).astype(float), np.array(pitches), np.array(classes))


def frames_on(*rows, grid=GRID, pitch=60, label=0):
    """Frames in which a pitch of a class is on, and no other anywhere."""
    roll = pianoroll(make_notes(*rows), 3, grid)
    found = np.flatnonzero(roll[label, pitch - LOWEST_KEY]).tolist()
    assert roll.sum() == len(found)
    return found


# By hand: fine frames lie at 0, 0.1, 0.2 s ...; frame 0 has the first two of them


@pytest.mark.parametrize(
    ("onset", "offset", "frames"),
    [
        (0.0, 0.2, [0]),  # on and off on a fine frame: it is on at 0 and 0.1, off at 0.2
        (0.2, 0.6, [1, 2]),
        (0.3, 0.4, [1]),  # the second fine frame of a pair is enough
        (0.3, 0.41, [1, 2]),
        (0.31, 0.41, [2]),  # on at 0.4 alone
        (0.35, 0.55, [2]),
        (0.35, 0.65, [2, 3]),
        (0.51, 0.58, [2]),  # between two fine frames: the one nearest the onset, 0.5
        (0.56, 0.59, [3]),  # 0.6 is nearer
        (0.3, 0.3001, [1]),
        (1.8, 2.0, [9]),
        (1.85, 2.0, [9]),
        (1.95, 2.0, [9]),  # after the last fine frame: the last one all the same
        (1.99, 2.0, [9]),
        (0.0, 2.0, list(range(10))),
    ],
)
def test_frames_of_a_note(onset, offset, frames):
    assert frames_on((onset, offset, 60, 0)) == frames


def test_frames_that_are_not_pooled():
    grid = RollGrid(hop_s=0.1, fine_frames=20)
    assert frames_on((0.3, 0.6, 60, 0), grid=grid) == [3, 4, 5]
    assert frames_on((0.34, 0.36, 60, 0), grid=grid) == [3]
    assert (grid.frames, grid.frame_s) == (20, 0.1)


def test_the_papers_grid():
    assert (PAPER.frames, PAPER.frame_s) == (156, 0.064)
    assert frames_on((0.064, 0.128, 60, 0), grid=PAPER) == [1]
    assert pianoroll(NO_NOTES, 9, PAPER).shape == (9, 88, 156)


def test_a_note_on_a_frame_is_on_there_though_its_time_is_single_precision():
    """0.7 as float32 is 0.69999999, and 3 * 0.1 is 0.30000000000000004."""
    grid = RollGrid(hop_s=0.1, fine_frames=4000)
    for frame in (3, 7, 1001, 2999, 3001):
        onset, offset = float(np.float32(frame * 0.1)), float(np.float32((frame + 4) * 0.1))
        assert frames_on((onset, offset, 60, 0), grid=grid) == list(range(frame, frame + 4))


def test_the_ends_of_the_keyboard():
    assert frames_on((0, 0.2, 21, 0), pitch=21) == [0]
    assert frames_on((0, 0.2, 108, 0), pitch=108) == [0]
    out_of_range = [(0, 1, pitch, 0) for pitch in (-3, 0, 20, 109, 127, 140)]
    assert frames_on(*out_of_range, (0, 0.2, 60, 0)) == [0]


def test_a_roll_of_other_pitches():
    grid = RollGrid(hop_s=0.1, fine_frames=4, lowest=33, pitches=12)
    roll = pianoroll(make_notes((0, 0.1, 33, 0), (0.1, 0.2, 44, 0), (0, 1, 32, 0), (0, 1, 45, 0)), 1, grid)
    np.testing.assert_array_equal(np.argwhere(roll), [(0, 0, 0), (0, 11, 1)])


def test_overlapping_notes_of_one_pitch_are_one_stretch():
    assert frames_on((0.2, 0.8, 60, 0), (0.4, 1.2, 60, 0)) == [1, 2, 3, 4, 5]
    assert frames_on((0.2, 1.2, 60, 0), (0.4, 0.6, 60, 0)) == [1, 2, 3, 4, 5]
    assert frames_on((0.2, 0.6, 60, 0), (0.6, 1.2, 60, 0)) == [1, 2, 3, 4, 5]
    assert frames_on((0.2, 0.6, 60, 0), (0.8, 1.2, 60, 0)) == [1, 2, 4, 5]


def test_two_instruments_on_one_pitch():
    roll = pianoroll(make_notes((0.2, 0.8, 60, 0), (0.4, 1.2, 60, 2)), 3, GRID)
    row = 60 - LOWEST_KEY
    assert np.flatnonzero(roll[0, row]).tolist() == [1, 2, 3]
    assert np.flatnonzero(roll[2, row]).tolist() == [2, 3, 4, 5]
    assert np.flatnonzero(pitch_roll(roll)[row]).tolist() == [1, 2, 3, 4, 5]
    assert [np.flatnonzero(each).tolist() for each in instrument_roll(roll)] == [[1, 2, 3], [], [2, 3, 4, 5]]


def test_no_notes():
    roll = pianoroll(NO_NOTES, 3, GRID)
    assert (roll.shape, roll.dtype, roll.any()) == ((3, KEYS, 10), bool, False)
    assert pitch_roll(roll).shape == (KEYS, 10)
    assert instrument_roll(roll).shape == (3, 10)


@pytest.mark.parametrize(("fine_frames", "pool"), [(5, 2), (1, 2), (0, 1)])
def test_frames_that_can_not_be_pooled_are_refused(fine_frames, pool):
    with pytest.raises(ValueError, match=f"{fine_frames} frames an example can't be pooled by {pool}"):
        RollGrid(hop_s=0.1, fine_frames=fine_frames, pool=pool)


# Whatever the notes

TIMES = st.floats(0, SECONDS - 0.001).map(float)
NOTES = st.lists(
    st.tuples(TIMES, st.floats(0.001, 4), st.integers(-10, 140), st.integers(0, 2)).map(
        lambda row: (row[0], min(row[0] + row[1], SECONDS), row[2], row[3])
    ),
    max_size=12,
)
GRIDS = st.builds(
    lambda hop_s, pool: RollGrid(hop_s=hop_s, pool=pool, fine_frames=int(SECONDS / hop_s) // pool * pool),
    st.sampled_from([0.01, 0.032, 0.1]),
    st.integers(1, 4),
)


@settings(max_examples=60)
@given(NOTES, GRIDS)
def test_the_three_rolls_agree(rows, grid):
    roll = pianoroll(make_notes(*rows), 3, grid)
    pitches, instruments = pitch_roll(roll), instrument_roll(roll)
    for frame in range(grid.frames):
        on = set(map(tuple, np.argwhere(roll[:, :, frame])))
        assert {pitch for _, pitch in on} == set(np.flatnonzero(pitches[:, frame]))
        assert {label for label, _ in on} == set(np.flatnonzero(instruments[:, frame]))
    batch = np.stack([roll, roll[:, ::-1]])
    np.testing.assert_array_equal(pitch_roll(batch), [pitches, pitches[::-1]])
    np.testing.assert_array_equal(instrument_roll(batch), [instruments, instruments])


@settings(max_examples=60)
@given(NOTES, GRIDS)
def test_every_note_is_on_where_it_sounds_and_nowhere_else(rows, grid):
    """Against the definition, moment by moment; a hair beside a fine frame either way is as good."""
    roll = pianoroll(make_notes(*rows), 3, grid)
    least, most = np.zeros_like(roll), np.zeros_like(roll)
    time_s = np.arange(grid.fine_frames) * grid.hop_s
    for onset, offset, pitch, label in rows:
        if not 0 <= (row := pitch - grid.lowest) < grid.pitches:
            continue
        for margin, into in ((2e-4, least), (-2e-4, most)):
            on = (time_s >= onset + margin) & (time_s < offset - margin)
            into[label, row] |= on.reshape(grid.frames, grid.pool).any(axis=1)
        near = np.abs(time_s - onset) < max(grid.hop_s / 2, onset - time_s[-1]) + 2e-4
        near = near.reshape(grid.frames, grid.pool).any(axis=1)
        assert roll[label, row, near | most[label, row]].any()
        most[label, row] |= near
    assert (least <= roll).all()
    assert (roll <= most).all()


@settings(max_examples=60)
@given(NOTES, st.permutations(range(12)))
def test_order_and_repetition_make_no_difference(rows, order):
    roll = pianoroll(make_notes(*rows), 3, PAPER)
    shuffled = [rows[i] for i in order if i < len(rows)]
    np.testing.assert_array_equal(pianoroll(make_notes(*shuffled, *rows), 3, PAPER), roll)


@settings(max_examples=60)
@given(NOTES, GRIDS, st.integers(-24, 24))
def test_notes_that_are_shifted_shift_the_roll(rows, grid, semitones):
    moved = [(onset, offset, pitch + semitones, label) for onset, offset, pitch, label in rows]
    here, there = (np.zeros((3, 400, grid.frames), dtype=bool) for _ in range(2))
    keys = slice(100, 100 + KEYS)
    here[:, keys], there[:, keys] = pianoroll(make_notes(*rows), 3, grid), pianoroll(make_notes(*moved), 3, grid)
    both = slice(100 + max(0, semitones), 100 + KEYS + min(0, semitones))
    np.testing.assert_array_equal(there[:, both], np.roll(here, semitones, axis=1)[:, both])


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0.1, 1.5), st.floats(0.1, 1), st.integers(21, 108)), max_size=8), GRIDS)
def test_what_is_read_off_a_roll_is_what_was_played(steps, grid):
    """Of notes with a whole frame of silence in between, onsets and offsets are met to one frame."""
    rows, at = [], 0.0
    for gap, length, pitch in steps:
        onset = at + gap + 2 * grid.frame_s
        rows.append((onset, onset + length, pitch, 0))
        at = onset + length
    assume(at <= grid.frames * grid.frame_s)
    found = note_metrics.notes_of(pianoroll(make_notes(*rows), 1, grid)[0], grid.frame_s)
    assert (found.pitch + grid.lowest).tolist() == [pitch for *_, pitch, _ in rows]
    for times, column in ((found.onset_s, 0), (found.offset_s, 1)):
        truth = np.array([row[column] for row in rows])
        assert (np.abs(times - truth) <= grid.frame_s + 1e-3).all()
