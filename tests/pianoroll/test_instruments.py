"""Names of instruments and the programs that count for each."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pretty_midi import constants, program_to_instrument_name

from tasks.pianoroll.instruments import NINE, check_instruments, export_program, note_classes, programs_of

GENERAL_MIDI = np.arange(128)


def test_nine_count_for_these_programs_and_no_others():
    classes = note_classes(GENERAL_MIDI, NINE)
    expected = np.full(128, -1)
    for i, programs in enumerate(
        [
            [0, 1, 2, 3],
            [24, 25],
            [26, 27, 28, 29, 30, 31],
            [56, 59],
            [64, 65, 66, 67],
            [32, 33, 34, 35, 36, 37],
            [40],
            [42],
            [73],
        ]
    ):
        expected[programs] = i
    np.testing.assert_array_equal(classes, expected)
    assert classes.dtype == np.int16


def test_programs_are_those_that_general_midi_calls_so():
    assert NINE[3] == "trumpet"
    names = {name: [program_to_instrument_name(each) for each in sorted(programs_of(name))] for name in NINE}
    assert names["trumpet"] == ["Trumpet", "Muted Trumpet"]
    assert (names["violin"], names["cello"], names["flute"]) == (["Violin"], ["Cello"], ["Flute"])
    assert all("Sax" in name for name in names["saxophone"])
    assert all("Bass" in name and "Synth" not in name for name in names["bass"])
    assert all("Acoustic Guitar" in name for name in names["acoustic guitar"])
    assert all("Guitar" in name and "Acoustic" not in name for name in names["electric guitar"])
    assert all("iano" in name for name in names["piano"])


@pytest.mark.parametrize("name", [*NINE, *constants.INSTRUMENT_MAP, *constants.INSTRUMENT_CLASSES])
def test_export_program_counts_for_its_own_instrument_in_any_case(name):
    assert export_program(name) in programs_of(name)
    assert programs_of(name.upper()) == programs_of(name.lower()) == programs_of(name)
    assert programs_of(name) <= set(range(128))


def test_every_program_goes_by_its_own_name():
    for program, name in enumerate(constants.INSTRUMENT_MAP):
        expected = {56, 59} if name == "Trumpet" else {program}  # the paper's trumpet goes first
        assert programs_of(name) == expected, name
        assert export_program(name) == program


def test_families_are_eight_programs_each_but_where_the_paper_uses_their_name():
    for i, name in enumerate(constants.INSTRUMENT_CLASSES):
        if name not in ("Piano", "Bass"):
            assert programs_of(name) == set(range(8 * i, 8 * i + 8)), name
    assert programs_of("Piano") == {0, 1, 2, 3}
    assert programs_of("Bass") == {32, 33, 34, 35, 36, 37}


def test_drums_and_unknown_programs_belong_nowhere():
    everything = [name for name in constants.INSTRUMENT_MAP if name != "Muted Trumpet"]
    check_instruments(everything)
    programs = np.array([-1, 128, 129, 200, -128, 0, 127], dtype=np.int16)
    np.testing.assert_array_equal(note_classes(programs, everything), [-1, -1, -1, -1, -1, 0, 126])
    assert note_classes(np.array([], dtype=np.int16), NINE).shape == (0,)


@given(st.lists(st.sampled_from([*NINE, *constants.INSTRUMENT_CLASSES, *constants.INSTRUMENT_MAP]), min_size=1))
def test_checked_instruments_have_every_program_of_theirs_and_share_none(names):
    sets = [programs_of(name) for name in names]
    if sum(map(len, sets)) > len(frozenset().union(*sets)):
        with pytest.raises(ValueError, match="leave one out"):
            check_instruments(names)
    else:
        check_instruments(names)
        classes = note_classes(GENERAL_MIDI, names)
        assert [set(np.flatnonzero(classes == i)) for i in range(len(names))] == sets


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ([], "the list of instruments is empty"),
        (["violn"], "unknown instrument 'violn': did you mean 'violin'?"),
        (["piano", "!"], "unknown instrument '!': choose from piano, acoustic guitar"),
        (["flute", "Flute"], "'Flute' is there twice"),
        (["violin", "Strings"], "'violin' and 'Strings' overlap, as 'Violin' counts for both"),
        (["trumpet", "Muted Trumpet"], "'trumpet' and 'Muted Trumpet' overlap, as 'Muted Trumpet' counts for both"),
    ],
)
def test_what_is_wrong_with_a_list_is_told(names, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        check_instruments(names)


def test_nine_are_fine():
    check_instruments(NINE)
    assert [export_program(name) for name in NINE] == [0, 25, 27, 56, 66, 33, 40, 42, 73]
