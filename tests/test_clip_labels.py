"""Labels of clips: what was judged and what was not, and which programs are OpenMIC's instruments."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timbrel.clip_labels import (
    MAGNATAGATUNE,
    OPENMIC,
    clip_labels,
    openmic_of_programs,
    openmic_perhaps,
    vocabulary,
)
from timbrel.tags import JudgedSong

NAN = np.nan


def judged(vocabulary=(), **tags):
    return JudgedSong("clips", "a", tags, vocabulary)


def instruments(rows):
    return [{name for name, there in zip(OPENMIC, row, strict=True) if there} for row in rows]


# Vocabularies


def test_openmic_is_in_the_order_of_its_class_map():
    assert vocabulary("openmic") == OPENMIC
    assert len(OPENMIC) == 20
    assert list(OPENMIC) == sorted(OPENMIC)  # class-map.json numbers them by the alphabet


def test_magnatagatune_is_in_the_order_of_published_taggers():
    assert vocabulary("magnatagatune") == MAGNATAGATUNE
    assert len(set(MAGNATAGATUNE)) == 50
    # Of the lines that were taken from the authors' code: of the outputs of real weights only the order tells.
    assert hashlib.sha256("\n".join(MAGNATAGATUNE).encode()).hexdigest()[:16] == "983776603edbe7e9"


# Labels


def test_what_nobody_judged_is_nan():
    songs = [judged(flute=1.0, voice=0.0), judged(), judged({"voice"}, flute=0.2)]
    labels = clip_labels(songs, ("voice", "flute", "organ"))
    assert labels.dtype == np.float32
    np.testing.assert_array_equal(labels, [[0, 1, NAN], [NAN, NAN, NAN], [0, 0, NAN]])


@pytest.mark.parametrize(("half", "expected"), [("present", [0, 1, 1]), ("unjudged", [0, NAN, 1])])
def test_the_two_published_readings_differ_at_one_half(half, expected):
    below, above = np.nextafter(0.5, 0), np.nextafter(0.5, 1)
    labels = clip_labels([judged(a=below, b=0.5, c=above)], ("a", "b", "c"), half=half)
    np.testing.assert_array_equal(labels, [expected])


def test_another_bound():
    songs = [judged(a=0.3, b=0.4, c=0.5)]
    np.testing.assert_array_equal(clip_labels(songs, ("a", "b", "c"), present_from=0.4), [[0, 1, 1]])
    np.testing.assert_array_equal(clip_labels(songs, ("a", "b", "c"), 0.4, "unjudged"), [[0, NAN, 1]])


@pytest.mark.parametrize(("songs", "names"), [(0, 3), (2, 0), (0, 0)])
def test_none_at_all(songs, names):
    assert clip_labels([judged(a=1.0)] * songs, ("a", "b", "c")[:names]).shape == (songs, names)


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1)), min_size=1), st.floats(0, 1))
def test_readings_agree_but_at_the_bound(tags, bound):
    songs = [JudgedSong("clips", str(number), each, ()) for number, each in enumerate(tags)]
    present, unjudged = (clip_labels(songs, "abcd", bound, half) for half in ("present", "unjudged"))
    at_bound = np.array([[each.get(name) == bound for name in "abcd"] for each in tags])
    np.testing.assert_array_equal(np.where(at_bound, NAN, present), unjudged)
    assert (present[at_bound] == 1).all()
    np.testing.assert_array_equal(np.isnan(present), [[name not in each for name in "abcd"] for each in tags])


# Programs


@pytest.mark.parametrize(
    ("program", "names"),
    [
        (0, {"piano"}), (4, set()), (6, set()), (8, set()), (9, {"mallet_percussion"}), (14, set()), (15, set()),
        (16, {"organ"}), (20, {"organ"}), (21, {"accordion"}), (22, set()), (23, {"accordion"}), (24, {"guitar"}),
        (31, {"guitar"}), (32, {"bass"}), (37, {"bass"}), (38, {"bass", "synthesizer"}), (40, {"violin"}), (41, set()),
        (42, {"cello"}), (43, set()), (47, set()), (48, set()), (51, {"synthesizer"}), (52, {"voice"}),
        (54, {"voice"}), (55, set()), (56, {"trumpet"}), (57, {"trombone"}), (58, set()), (59, {"trumpet"}),
        (60, set()), (61, set()), (62, {"synthesizer"}), (64, {"saxophone"}), (67, {"saxophone"}), (68, set()),
        (71, {"clarinet"}), (72, {"flute"}), (73, {"flute"}), (74, set()), (80, {"synthesizer"}),
        (103, {"synthesizer"}), (104, set()), (105, {"banjo"}), (110, {"violin"}), (117, {"drums"}), (119, set()),
        (127, set()), (128, {"drums"}), (-1, set()),
    ],
)  # fmt: skip
def test_instruments_of_a_program(program, names):
    assert instruments(openmic_of_programs([program])) == [names]


def test_instruments_without_a_program():
    everything = openmic_of_programs(range(129))
    assert everything.shape == (129, 20)
    assert everything.dtype == bool
    assert set(OPENMIC) - set.union(*instruments(everything)) == {"cymbals", "mandolin", "ukulele"}


@pytest.mark.parametrize(
    ("program", "names"),
    [
        (128, {"cymbals"}),
        (41, {"violin", "cello"}),
        (48, {"violin", "cello"}),
        (61, {"trumpet", "trombone"}),
        (0, set()),
    ],
)
def test_programs_that_leave_one_in_doubt(program, names):
    assert instruments(openmic_perhaps([program])) == [names]


def test_nothing_is_both_certain_and_doubtful():
    assert not (openmic_of_programs(range(129)) & openmic_perhaps(range(129))).any()


def test_programs_that_are_none():
    assert openmic_of_programs([]).shape == (0, 20)
    assert not openmic_of_programs(np.array([-1, -7])).any()
    with pytest.raises(ValueError, match="up to 128, got 129"):
        openmic_of_programs([0, 129])
