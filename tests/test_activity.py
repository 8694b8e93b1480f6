"""Activation confidence: MedleyDB's recipe, and the intervals that are read from it."""

import math

import numpy as np
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st

from timbrel import activity

RATE_HZ = 44_100


def medleydb(stems, frames=None):
    """The recipe written out step by step, for stems at 44.1 kHz: ``(stem, frame)``."""
    window = np.hanning(4098)[1:-1]
    envelopes = []
    for samples in stems:
        padded = [0.0] * 2048 + list(samples) + [0.0] * 8192
        envelope = []
        for start in range(0, 2048 * (frames or len(samples) // 2048 + 1), 2048):
            frame = np.array(padded[start : start + 4096])
            envelope.append(np.mean(window * np.sqrt(np.where(frame > 0, frame, 0))))
        envelopes.append(envelope)
    envelopes = np.array(envelopes)
    total = envelopes.sum(axis=0)
    share = len(stems) * envelopes / total.max()
    share[:, total < 0.01] = 0
    low_pass = scipy.signal.butter(2, 0.075)
    share = np.array([scipy.signal.filtfilt(*low_pass, row) for row in share])
    return 1 - 1 / (1 + np.exp(20 * (share - 0.15)))


def confidence(stems, rate_hz=RATE_HZ):
    return activity.confidence(np.stack([activity.envelope(stem, rate_hz) for stem in stems]))


def tone(seconds, spans, rate_hz=RATE_HZ, frequency_hz=440.0, level=0.5):
    """A sine that sounds within ``spans``."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    on = sum(((time_s >= start) & (time_s < stop) for start, stop in spans), np.zeros(len(time_s), dtype=bool))
    return level * np.sin(2 * np.pi * frequency_hz * time_s) * on


def intervals_of(stems, which, rate_hz):
    rows = confidence(stems, rate_hz)
    return activity.intervals(rows[which], activity.hop_samples(rate_hz) / rate_hz, 0.5)


def test_confidence_of_silence():
    assert pytest.approx(0.0474, abs=5e-5) == activity.SILENCE == pytest.approx(1 - 1 / (1 + math.exp(-3)))
    silence = np.zeros(3 * RATE_HZ)
    assert set(confidence([silence, silence]).ravel()) == {np.float32(activity.SILENCE)}
    beside = confidence([silence, tone(3, [(0, 3)])])
    np.testing.assert_allclose(beside[0], activity.SILENCE, atol=1e-7)


def test_agrees_with_the_recipe_written_out():
    generator = np.random.default_rng(3)
    noise = generator.normal(scale=0.2, size=5 * RATE_HZ) * np.repeat(generator.random(10), RATE_HZ // 2)
    stems = [tone(5, [(0.5, 2), (3, 3.2)]), noise, tone(5, [(0, 5)], frequency_hz=97, level=0.02), 0 * noise]
    np.testing.assert_allclose(confidence(stems), medleydb(stems), atol=1e-6)


@pytest.mark.parametrize("samples", [2048 * 20, 2048 * 20 + 1, 2048 * 20 - 1, 2048 * 15 + 777])
def test_agrees_with_the_recipe_at_any_length(samples):
    stems = np.random.default_rng(samples).normal(scale=0.2, size=(2, samples))
    np.testing.assert_allclose(confidence(stems), medleydb(stems), atol=1e-6)


def authors_frames(samples):
    """How many frames the authors' code cuts: it fills a stem with silence up to a multiple of 4096 samples."""
    return 2 * math.ceil((samples + 2048) / 4096) - 1


@pytest.mark.parametrize("samples", [100 * 2048, 100 * 2048 + 2047, 101 * 2048, 101 * 2048 + 1, 101 * 2048 + 2047])
def test_the_end_of_a_song_may_differ_from_the_authors_by_a_frame(samples):
    """And by what the low-pass makes of it: at most the last three frames (0.14 s) are judged otherwise."""
    generator = np.random.default_rng(samples)
    stems = (
        generator.normal(scale=0.2, size=(3, samples))
        * np.repeat(generator.random((3, 21)) > 0.4, 10_000, 1)[:, :samples]
    )
    ours, theirs = confidence(stems), medleydb(stems, authors_frames(samples))
    assert abs(ours.shape[1] - theirs.shape[1]) == (samples % 4096 >= 2048)
    common = min(ours.shape[1], theirs.shape[1])
    sounding = (ours[:, :common] >= 0.5) == (theirs[:, :common] >= 0.5)
    assert sounding[:, :-3].all()
    np.testing.assert_allclose(ours[:, : common - 40], theirs[:, : common - 40], atol=2e-3)
    if ours.shape == theirs.shape:
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(
    ("quieter", "louder", "expected"),
    [
        # H = 2 * 0.1 / (0.1 + 0.9) = 0.2, so C = 1 - 1 / (1 + e), as 20 * (0.2 - 0.15) = 1
        (0.1, 0.9, 0.731059),
        (0.08, 0.92, 0.549834),  # H = 0.16
        (0.075, 0.925, 0.5),  # H = 0.15, the midpoint
        (0.07, 0.93, 0.450166),  # H = 0.14
    ],
)
def test_constant_stems_have_a_confidence_that_can_be_worked_out(quieter, louder, expected):
    """The envelope of samples that are all ``a`` is sqrt(a) times the mean of the window, which cancels out.

    The low-pass leaves a constant as it is, far from the ends of the song.
    """
    rows = confidence(np.repeat([[quieter**2], [louder**2]], 12 * RATE_HZ, axis=1))
    middle = rows.shape[1] // 2
    np.testing.assert_allclose(rows[0, middle - 50 : middle + 50], expected, atol=2e-5)
    assert rows[1, middle] > 0.999


def test_envelopes_that_can_be_worked_out():
    """The window, a Hann of 4098 points without its ends, sums to 4097 / 2.

    Of a sine one half is left; the mean of its square root is B(3/4, 1/2) / (2 pi) = 0.38138. A square wave is at its
    height for half the time.
    """
    mean_of_window = 4097 / 2 / 4096
    seconds = np.arange(RATE_HZ) / RATE_HZ
    for samples, expected in (
        (np.full(RATE_HZ, 0.25), 0.5),
        (np.full(RATE_HZ, -0.25), 0.0),
        (0.25 * np.sin(2 * np.pi * 1000 * seconds), 0.5 * 0.38138),
        (0.25 * np.sign(np.sin(2 * np.pi * 1000 * seconds + 0.1)), 0.5 * 0.5),
    ):
        inside = activity.envelope(samples, RATE_HZ)[2:-2]
        np.testing.assert_allclose(inside, expected * mean_of_window, rtol=2e-2, atol=1e-9)


@pytest.mark.parametrize(("level", "sounds"), [(0.0026, False), (0.0029, True)])
def test_the_floor_lies_at_minus_51_dbfs_for_a_sine(level, sounds):
    """An envelope of 0.01 is that of a sine of amplitude (0.01 / (0.50012 * 0.38138)) ** 2 = 0.00275."""
    row = confidence([tone(5, [(0, 5)], level=level, frequency_hz=1000)])[0]
    assert (row[20:-20] >= 0.5).all() == sounds
    assert (row[20:-20] < 0.5).all() != sounds


def test_loudness_is_judged_within_the_song():
    """A stem's level against the others counts, the level of the whole does not, down to the floor of 0.01."""
    loud, quiet = tone(4, [(0, 4)], level=0.5), tone(4, [(0, 4)], level=0.0005, frequency_hz=300)
    rows = confidence([loud, quiet])
    assert rows[0].min() > 0.99
    assert rows[1].max() < 0.5
    np.testing.assert_allclose(confidence([0.5 * loud, 0.5 * quiet]), rows, atol=1e-6)
    assert confidence([1e-5 * loud]).max() == pytest.approx(activity.SILENCE)


def test_a_tone_that_comes_and_goes():
    """The recipe's low-pass moves both ends of a note outward, by up to five hops (0.23 s), and never inward."""
    hop_s = 2048 / RATE_HZ
    spans = [(1.0, 3.0), (5.0, 8.0)]
    got = intervals_of([tone(10, spans), tone(10, [(0, 10)], frequency_hz=97)], 0, RATE_HZ)
    assert got.dtype == np.float32
    assert len(got) == len(spans)
    for (start, stop), (start_s, stop_s) in zip(spans, got, strict=True):
        assert start - 5.5 * hop_s <= start_s <= start + hop_s
        assert stop - hop_s <= stop_s <= stop + 5.5 * hop_s


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 22_050, 32_000, 48_000, 96_000])
def test_other_rates_give_the_same_intervals(rate_hz):
    hop_s = 2048 / RATE_HZ

    def intervals_at(rate):
        return intervals_of([tone(8, [(1, 3), (5, 6.5)], rate), tone(8, [(0, 7)], rate, 97)], 0, rate)

    np.testing.assert_allclose(intervals_at(rate_hz), intervals_at(RATE_HZ), atol=hop_s)
    assert activity.hop_samples(rate_hz) / rate_hz == pytest.approx(hop_s, rel=2e-3)


@pytest.mark.parametrize("samples", [1, 2, 2047, 2048, 2049, 4096, 8 * 2048, 9 * 2048, 10 * 2048])
def test_songs_shorter_than_the_filter(samples):
    rows = confidence([np.full(samples, 0.5), np.zeros(samples)])
    assert rows.shape == (2, samples // 2048 + 1)
    assert np.isfinite(rows).all()
    if samples > 2:  # what is shorter lies below the recipe's floor
        assert rows[0].max() > 0.9
    np.testing.assert_allclose(rows[1], activity.SILENCE, atol=1e-6)


def test_stereo_out_of_phase_and_negative_half_waves():
    """Half-wave rectification looks at one half: a signal and its negative differ by less than their average."""
    wave = tone(3, [(0, 3)])
    np.testing.assert_allclose(confidence([wave]), confidence([-wave]), atol=1e-3)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([0, 0, 0], []),
        ([1, 1, 1], [(0, 2.5)]),
        ([0, 1, 0], [(0.5, 1.5)]),
        ([1, 0, 1], [(0, 0.5), (1.5, 2.5)]),
        ([0.5, 0.49], [(0, 0.5)]),
        ([], []),
    ],
)
def test_intervals(row, expected):
    got = activity.intervals(np.array(row), 1.0, 0.5)
    assert got.shape == (len(expected), 2)
    np.testing.assert_array_equal(got, np.array(expected, dtype=np.float32).reshape(-1, 2))


@given(st.lists(st.booleans(), max_size=50), st.sampled_from([0.046, 0.5, 1.0]))
def test_intervals_say_what_the_frames_say(active, hop_s):
    got = activity.intervals(np.array(active, dtype=float), hop_s, 0.5)
    assert (np.diff(got.ravel()) > 0).all()
    inside = [any(start <= frame * hop_s <= stop for start, stop in got) for frame in range(len(active))]
    assert inside == active


def test_intervals_of_many_stems_are_those_of_each():
    generator = np.random.default_rng(0)
    lengths = [7, 0, 1, 30, 0, 12, 1, 0]
    rows = [generator.random(length).astype(np.float32) for length in lengths]
    rows[3][:], rows[5][:] = 1, 0  # one that sounds to its last frame, beside one that never does
    hops_s = generator.random(len(rows))
    times, counts = activity.stem_intervals(np.concatenate(rows), np.append(0, np.cumsum(lengths)), hops_s, 0.5)
    each = [activity.intervals(row, hop_s, 0.5) for row, hop_s in zip(rows, hops_s, strict=True)]
    assert counts.tolist() == [len(one) for one in each]
    np.testing.assert_array_equal(times, np.concatenate(each))
    np.testing.assert_array_equal(each[3], np.float32([[0, 29.5 * hops_s[3]]]))
