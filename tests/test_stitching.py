import math
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timbrel.errors import UserError
from timbrel.stitching import Counted, Windows

PAPER = Windows.overlapping(312 * 512, 156, 16_000)
SMALL = Windows(samples=40, hop=24, frames=10)  # frames of 4 samples, 4 of 10 frames overlap


def blocks(audio, size):
    return [audio[start : start + size] for start in range(0, len(audio), size)]


def test_overlap_of_the_papers_segments_is_thirty_one_frames():
    assert PAPER.samples_per_frame == 1024
    assert (PAPER.samples - PAPER.hop) == 31 * 1024
    assert PAPER.hop == 8 * 16_000


def test_overlap_is_at_most_half_a_window_and_may_be_none():
    assert Windows.overlapping(40, 10, 4).hop == 40 - 2 * 4  # 2 s of 4 samples
    assert Windows.overlapping(40, 10, 1000).hop == 20
    assert Windows.overlapping(40, 10, 1).hop == 40
    assert Windows.overlapping(40, 1, 1000).hop == 40


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"samples": 160_000, "hop": 1024, "frames": 156}, "samples must be a multiple of frames, not 160000 for 156"),
        ({"samples": 0, "hop": 4, "frames": 10}, "samples must be"),
        ({"samples": 40, "hop": 4, "frames": 0}, "samples must be"),
        ({"samples": 40, "hop": 0, "frames": 10}, "hop must be a multiple of 4 samples.* not 0"),
        ({"samples": 40, "hop": -4, "frames": 10}, "hop must be"),
        ({"samples": 40, "hop": 10, "frames": 10}, "hop must be a multiple of 4 samples.* not 10"),
        ({"samples": 40, "hop": 44, "frames": 10}, r"at most samples \(40\), not 44"),
    ],
)
def test_windows_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Windows(**fields)


@given(
    total=st.integers(1, 400), size=st.integers(1, 200), hop_frames=st.integers(1, 10), frames=st.sampled_from([10, 20])
)
def test_windows_are_the_recordings_parts_at_any_size_of_blocks(total, size, hop_frames, frames):
    windows = Windows(samples=40, hop=hop_frames * 40 // frames, frames=frames)
    audio = np.arange(1, total + 1, dtype=np.float32)
    cut = list(windows.cut(blocks(audio, size)))
    assert len(cut) == windows.count(total)
    assert (len(cut) - 1) * windows.hop + windows.samples >= total  # all is covered,
    assert len(cut) == 1 or (len(cut) - 2) * windows.hop + windows.samples < total  # and by no window too many
    padded = np.pad(audio, (0, windows.samples * 20))
    for number, window in enumerate(cut):
        assert window.dtype == np.float32
        np.testing.assert_array_equal(window, padded[number * windows.hop :][: windows.samples])


def frame_means(windows, window):
    """A network whose answer is a pure function of the audio: the mean of each frame, in two channels."""
    mean = window.reshape(windows.frames, -1).mean(axis=1)
    return np.stack([mean, -mean])


@settings(deadline=None)
@given(total=st.integers(1, 400), size=st.integers(1, 200), hop_frames=st.integers(1, 10))
def test_what_depends_on_absolute_time_alone_comes_back_exactly(total, size, hop_frames):
    windows = Windows(samples=40, hop=4 * hop_frames, frames=10)
    ramp = np.arange(total, dtype=np.float32) / 7
    counted = Counted(blocks(ramp, size))
    joined = windows.join((frame_means(windows, each) for each in windows.cut(counted)), lambda: counted.samples)
    padded = np.pad(ramp, (0, -total % 4)).reshape(-1, 4).mean(axis=1)
    assert joined.shape == (2, math.ceil(total / 4))
    np.testing.assert_array_equal(joined, np.stack([padded, -padded]))


@pytest.mark.parametrize("hop", [4, 12, 20, 24, 36, 40])
@pytest.mark.parametrize("total", [1, 39, 40, 41, 64, 65, 400])
def test_a_constant_stays_constant(hop, total):
    windows = Windows(samples=40, hop=hop, frames=10)
    value = np.float32(0.1) * np.ones((3, 2, 10), dtype=np.float32)
    joined = windows.join([value] * windows.count(total), total)
    assert joined.shape == (3, 2, math.ceil(total / 4))
    assert np.all(joined == np.float32(0.1))


@pytest.mark.parametrize(("total", "windows", "frames"), [(1, 1, 1), (30, 1, 8), (40, 1, 10), (41, 2, 11), (64, 2, 16)])
def test_songs_shorter_and_a_little_longer_than_a_window(total, windows, frames):
    cut = list(SMALL.cut([np.ones(total, dtype=np.float32)]))
    assert len(cut) == SMALL.count(total) == windows
    assert cut[-1].sum() == total - (windows - 1) * SMALL.hop
    assert SMALL.join([np.zeros(10)] * windows, total).shape == (frames,)


def test_one_window_fades_into_the_next_in_a_straight_line():
    joined = SMALL.join([np.zeros(10), np.ones(10), np.ones(10)], 88)
    expected = [0] * 6 + [0.125, 0.375, 0.625, 0.875] + [1] * 12
    np.testing.assert_allclose(joined, expected, atol=1e-7)


def test_windows_of_which_more_than_two_overlap_are_a_weighted_mean():
    windows = Windows(samples=40, hop=8, frames=10)
    predictions = np.random.default_rng(0).normal(size=(4, 3, 10))
    weights = windows._weights().astype(np.float64)
    above, below = np.zeros((3, 16)), np.zeros(16)
    for number, prediction in enumerate(predictions):
        above[:, 2 * number : 2 * number + 10] += weights * prediction
        below[2 * number : 2 * number + 10] += weights
    np.testing.assert_allclose(windows.join(predictions, 64), above / below, rtol=1e-6)


def test_an_empty_recording_is_named():
    for nothing in ([], [np.zeros(0, dtype=np.float32)]):
        with pytest.raises(UserError, match=r"^song.wav holds no audio\.$"):
            list(SMALL.cut(nothing, "song.wav"))
    with pytest.raises(ValueError, match="got 0"):
        SMALL.join([], 0)


def test_predictions_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="predictions of 2 windows of 41 samples, got 1"):
        SMALL.join([np.zeros(10)], 41)
    with pytest.raises(ValueError, match="predictions of 1 windows of 40 samples, got 2"):
        SMALL.join([np.zeros(10)] * 2, 40)
    with pytest.raises(ValueError, match=r"expected predictions \(2, 10\), got \(2, 9\)"):
        SMALL.join([np.zeros((2, 9))], 40)
    with pytest.raises(ValueError, match=r"expected predictions \(2, 10\), got \(3, 10\)"):
        SMALL.join([np.zeros((2, 10)), np.zeros((3, 10))], 41)


def test_a_steady_note_across_a_border_stays_one_note():
    total = 3 * PAPER.hop  # 24 s: three windows
    sure, unsure = 4.0, -3.0
    windows = []
    for _ in range(PAPER.count(total)):
        prediction = np.full((2, 156), -6.0)
        prediction[0] = sure
        prediction[0, -8:] = prediction[0, :8] = unsure  # it does not hear what comes, or what was
        windows.append(prediction)
    windows[0][0, :8] = sure
    on = PAPER.join(windows, total) > 0
    assert on.shape == (2, 375)
    assert on[0].all()
    assert not on[1].any()
    apart = Windows(samples=PAPER.samples, hop=PAPER.samples, frames=156)
    assert not (apart.join(windows, total) > 0)[0].all()  # what the overlap is for


def test_neither_the_recording_nor_the_predictions_are_held():
    alive: list[weakref.ref] = []

    def kept(array):
        alive.append(weakref.ref(array))
        return array

    def predicted(cut):
        for window in cut:
            assert sum(each() is not None for each in alive) <= 4
            yield kept(np.zeros((2, 10)) + window.mean())

    sound = (kept(np.ones(100, dtype=np.float32)) for _ in range(20))
    counted = Counted(sound)
    joined = SMALL.join(predicted(SMALL.cut(counted)), lambda: counted.samples)
    assert joined.shape == (2, 500)
    assert len(alive) > 80
