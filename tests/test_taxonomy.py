import csv
import pickle
from pathlib import Path

import numpy as np
import pretty_midi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timbrel.errors import UserError
from timbrel.taxonomy import (
    CLASSES,
    FAMILIES,
    INSTRUMENTS,
    PARENT,
    TABLE,
    TAXONOMY,
    Entry,
    Taxonomy,
    normalise,
)


def names_in(file):
    lines = (Path(__file__).parent / "data" / file).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


MEDLEYDB = names_in("medleydb_instruments.txt")
MIXING_SECRETS = names_in("mixing_secrets_instruments.txt")
SLAKH = [
    *("Piano", "Chromatic Percussion", "Organ", "Guitar", "Bass", "Strings", "Strings (continued)", "Brass"),
    *(
        "Reed",
        "Pipe",
        "Synth Lead",
        "Synth Pad",
        "Sound Effects",
        "Sound effects",
        "Ethnic",
        "Percussive",
        "Drums",
    ),
]
OPENMIC = [
    *("accordion", "banjo", "bass", "cello", "clarinet", "cymbals", "drums", "flute", "guitar"),
    *("mallet_percussion", "mandolin", "organ", "piano", "saxophone", "synthesizer", "trombone", "trumpet"),
    *("ukulele", "violin", "voice"),
]
JAMENDO = [
    *("accordion", "acousticbassguitar", "acousticguitar", "bass", "beat", "bell", "bongo", "brass", "cello"),
    *("clarinet", "classicalguitar", "computer", "doublebass", "drummachine", "drums", "electricguitar"),
    *(
        "electricpiano",
        "flute",
        "guitar",
        "harmonica",
        "harp",
        "horn",
        "keyboard",
        "oboe",
        "orchestra",
        "organ",
    ),
    *("pad", "percussion", "piano", "pipeorgan", "rhodes", "sampler", "saxophone", "strings", "synthesizer"),
    *("trombone", "trumpet", "ukulele", "viola", "violin", "voice"),
]
MUSDB = ["vocals", "drums", "bass", "other", "mixture"]

OUTSIDE: tuple[str, ...] = ()
SINGER = ("voice", "singer")
DRUMS = ("percussion", "drums")
VIOLIN = ("bowed string", "violin")
ELECTRIC_GUITAR = ("plucked string", "electric guitar")
ACOUSTIC_GUITAR = ("plucked string", "acoustic guitar")
ELECTRIC_BASS = ("plucked string", "electric bass")
PIANO = ("key", "piano")


def table(folder, *rows, header="name,family,instrument,program,note"):
    path = folder / "mine.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_classes_are_those_of_the_paper_families_first():
    assert list(CLASSES) == [
        *("voice", "percussion", "bowed string", "plucked string", "woodwind", "brass", "key", "synth"),
        *("singer", "drums", "violin", "electric guitar", "acoustic guitar", "electric bass", "piano"),
    ]
    assert CLASSES[: len(FAMILIES)] == FAMILIES
    assert CLASSES[len(FAMILIES) :] == INSTRUMENTS


def test_every_row_follows_the_rules():
    assert len(TAXONOMY.entries) > 600
    for entry in TAXONOMY.entries:
        assert TAXONOMY.lookup(entry.name) is entry
        if entry.instrument:
            assert entry.classes == (PARENT[entry.instrument], entry.instrument), entry
        elif entry.family:
            assert entry.classes == (entry.family,), entry
        else:
            assert entry.classes == OUTSIDE
            assert entry.note, entry


def test_every_class_has_names():
    assert {c for entry in TAXONOMY.entries for c in entry.classes} == set(CLASSES)


def test_table_is_one_that_spreadsheets_open():
    with TABLE.open(newline="", encoding="utf-8") as file:
        assert {len(row) for row in csv.reader(file)} == {5}


@pytest.mark.parametrize("program", range(128))
def test_general_midi_is_covered_by_number_and_by_name(program):
    name = pretty_midi.program_to_instrument_name(program)
    entry = TAXONOMY.lookup(name)
    assert entry is not None
    assert (entry.name, entry.program) == (name, program)
    assert TAXONOMY.classes_of("some track name", program) == TAXONOMY.classes_of(name) == entry.classes


@pytest.mark.parametrize(
    ("programs", "classes"),
    [
        (range(0, 4), PIANO),
        (range(4, 9), ("key",)),
        (range(9, 16), ("percussion",)),
        (range(24, 26), ACOUSTIC_GUITAR),
        (range(26, 32), ELECTRIC_GUITAR),
        ([32, 45, 46, *range(104, 108)], ("plucked string",)),
        (range(33, 38), ELECTRIC_BASS),
        ([40, 110], VIOLIN),
        ([41, 42, 43, 44, 48, 49], ("bowed string",)),
        ([52, 53, 54], ("voice",)),
        ([*range(56, 62)], ("brass",)),
        ([22, *range(64, 80), 109, 111], ("woodwind",)),
        ([38, 39, 50, 51, 62, 63, *range(80, 104)], ("synth",)),
        ([47, 108, *range(112, 120)], ("percussion",)),
        ([55, *range(120, 128)], OUTSIDE),
        ([128], DRUMS),
    ],
)
def test_general_midi_groups(programs, classes):
    assert {TAXONOMY.classes_of("?", program) for program in programs} == {classes}


@pytest.mark.parametrize("name", MEDLEYDB + SLAKH + OPENMIC + JAMENDO + MUSDB + MIXING_SECRETS)
def test_names_of_public_data_sets_are_known(name):
    assert TAXONOMY.lookup(name) is not None


def test_medleydb_list_is_whole():
    assert len(MEDLEYDB) == 101
    outside = {name for name in MEDLEYDB if not TAXONOMY.classes_of(name)}
    assert outside == {"Main System", "Unlabeled", "crowd", "fx/processed sound", "sampler", "scratches"}


def test_mixing_secrets_list_is_whole():
    assert len(MIXING_SECRETS) == 234
    outside = {name for name in MIXING_SECRETS if not TAXONOMY.classes_of(name)}
    assert outside == {
        *("ambience", "ambmono", "ambstereo", "amomono", "room", "room_mono", "room_stereo", "main system", "mainpair"),
        *("break", "fill", "sample", "click", "transition", "fx/processed sound", "noise", "noisesweep", "vinylnoise"),
        *(
            "boom",
            "elecnoise",
            "electrohit",
            "hit",
            "metalhit",
            "sprinkles",
            "subboom",
            "subdrop",
            "lightning",
            "storm",
        ),
        *("radio", "percchoir micpair", "percsolo_closemic", "percsolo_farmicpair"),
    }


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("male singer", SINGER),
        ("Lead_Vox", SINGER),
        ("backing vocals", SINGER),
        ("BV", SINGER),
        ("vocal", SINGER),
        ("vocalists", SINGER),
        ("choir", ("voice",)),
        ("male rapper", ("voice",)),
        ("female speaker", ("voice",)),
        ("voice", ("voice",)),
        ("snare drum", DRUMS),
        ("Overheads", DRUMS),
        ("HiHat", DRUMS),
        ("01_Kick", DRUMS),
        ("bass drum", ("percussion",)),
        ("tambourine", ("percussion",)),
        ("violin section", VIOLIN),
        ("violins 2", VIOLIN),
        ("viola", ("bowed string",)),
        ("Strings", ("bowed string",)),
        ("elecgtr", ELECTRIC_GUITAR),
        ("E-Gtr 2", ELECTRIC_GUITAR),
        ("distorted electric guitar", ELECTRIC_GUITAR),
        ("acousticguitar", ACOUSTIC_GUITAR),
        ("12-string guitar", ACOUSTIC_GUITAR),
        ("guitar", ("plucked string",)),
        ("electric bass", ELECTRIC_BASS),
        ("bass", ("plucked string",)),
        ("double bass", ("plucked string",)),
        ("contrabass", ("bowed string",)),
        ("synth bass", ("synth",)),
        ("tenor saxophone", ("woodwind",)),
        ("horn section", ("brass",)),
        ("tack piano", PIANO),
        ("rhodes", ("key",)),
        ("keys", ("key",)),
        ("synth", ("synth",)),
        ("mix", OUTSIDE),
        ("other", OUTSIDE),
    ],
)
def test_decisions(name, classes):
    assert TAXONOMY.classes_of(name) == classes


def test_program_decides_where_it_is_known():
    assert TAXONOMY.classes_of("Bass", 38) == ("synth",)
    assert TAXONOMY.classes_of("Bass", 33) == ELECTRIC_BASS
    assert TAXONOMY.classes_of("Strings (continued)", 52) == ("voice",)
    assert TAXONOMY.classes_of("Bass", None) == ("plucked string",)


def test_unknown_name_is_refused_with_the_nearest_and_a_remedy():
    assert TAXONOMY.lookup("tamborine") is None
    with pytest.raises(UserError, match=r"'tamborine': did you mean 'tambourine'\? .*tamborine,<family>,"):
        TAXONOMY.require("tamborine")
    with pytest.raises(UserError, match="unknown instrument 'qqq': Rename"):
        TAXONOMY.classes_of("qqq")
    assert TAXONOMY.lookup("") is None
    assert TAXONOMY.lookup("17") is None


def test_encode_marks_every_class_that_sounds():
    labels = TAXONOMY.encode(["lead vox", "drum set", "violin", "viola", "fx"])
    assert labels.dtype == bool
    assert labels.shape == (15,)
    assert {CLASSES[c] for c in np.flatnonzero(labels)} == {*SINGER, *DRUMS, *VIOLIN}
    assert not TAXONOMY.encode([]).any()


def test_encode_stems_gives_each_its_row():
    programs = np.array([38, 65, -1, -1], dtype=np.int16)
    labels = TAXONOMY.encode_stems(["Bass", "Melody", "fx", "singer"], programs)
    assert labels.dtype == bool
    assert [tuple(CLASSES[c] for c in np.flatnonzero(row)) for row in labels] == [
        *(("synth",), ("woodwind",), OUTSIDE, SINGER),
    ]
    assert TAXONOMY.encode_stems([]).shape == (0, len(CLASSES))
    with pytest.raises(ValueError, match="zip"):
        TAXONOMY.encode_stems(["Bass", "Melody"], [38])


@given(st.lists(st.sampled_from(TAXONOMY.entries), max_size=6))
def test_label_of_a_mixture_is_the_union_of_its_stems(entries):
    names = [entry.name for entry in entries]
    labels = TAXONOMY.encode(names)
    assert np.array_equal(labels, TAXONOMY.encode(names[::-1]))
    assert np.array_equal(labels, np.any([TAXONOMY.encode([n]) for n in names] or [np.zeros(15, bool)], axis=0))
    for instrument, family in PARENT.items():
        assert labels[CLASSES.index(family)] or not labels[CLASSES.index(instrument)]


@given(st.text())
def test_normalise_is_idempotent(name):
    assert normalise(normalise(name)) == normalise(name)


@given(
    st.sampled_from([entry.name for entry in TAXONOMY.entries]),
    st.sampled_from([str.upper, str.lower, str.title, lambda name: name.replace(" ", "_"), lambda name: f" {name}-"]),
)
def test_spelling_does_not_matter(name, respell):
    assert TAXONOMY.lookup(respell(name)) == TAXONOMY.lookup(name)


def test_accents_do_not_matter_composed_or_not():
    assert normalise("Élec\u0301trique") == normalise("ele\u0301c\u0301trique") == "electrique"


def test_a_table_of_ones_own_corrects_and_extends(tmp_path):
    mine = table(tmp_path, "Contrabass,plucked string,,,jazz only", "nail violin,bowed string,,,", "my bass,synth,,33,")
    taxonomy = Taxonomy.from_csv(TABLE, mine)
    assert taxonomy.classes_of("nail violin") == ("bowed string",)
    assert taxonomy.classes_of("contrabass") == taxonomy.classes_of("?", 43) == ("plucked string",)
    assert taxonomy.classes_of("?", 33) == ("synth",)
    assert taxonomy.classes_of("violin") == VIOLIN
    assert TAXONOMY.lookup("nail violin") is None
    assert pickle.loads(pickle.dumps(taxonomy)) == taxonomy


def test_program_and_note_may_be_left_out(tmp_path):
    header = "\ufeffname,family,instrument"
    mine = table(tmp_path, "# my own,,", "", ",,", "nail violin,bowed string,violin", header=header)
    assert Taxonomy.from_csv(mine).entries == (Entry("nail violin", "bowed string", "violin"),)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("x,bowed strings,,,", "line 2: unknown family 'bowed strings': did you mean 'bowed string'"),
        ("x,bowed string,violen,,", "line 2: unknown instrument 'violen': did you mean 'violin'"),
        ("x,key,violin,,", "line 2: the family of violin is bowed string, got 'key'"),
        ("x,,violin,,", "line 2: the family of violin is bowed string, got ''"),
        ("x,,,,", "line 2: 'x' has no family, so its note must say why"),
        ("x,key,,129,", "line 2: a program is a whole number from 0 to 128, got '129'"),
        ("x,key,,-1,", "got '-1'"),
        ("x,key,,²,", "got '²'"),
        (",key,,,", "line 2: '' is no name"),
        ("x,key,,,one, two", "line 2: more cells than columns"),
        ("x,key,,,\nX ,key,,,", "line 3: 'X' is in the table already, as 'x'"),
        ("x,key,,5,\ny,key,,5,", "line 3: program 5 is taken by 'x'"),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(tmp_path, row, message):
    path = table(tmp_path, row)
    with pytest.raises(UserError) as error:
        Taxonomy.from_csv(path)
    assert str(path) in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "header", ["name,familly,instrument", "name;family;instrument", "name,family,instrument,notes"]
)
def test_wrong_columns_are_shown(tmp_path, header):
    with pytest.raises(UserError, match=f"must be 'name,family,instrument,program,note', got '{header}'"):
        Taxonomy.from_csv(table(tmp_path, header=header))


def test_a_table_that_is_none_is_refused(tmp_path):
    path = tmp_path / "table.csv"
    with pytest.raises(UserError, match=r"table\.csv: the table cannot be read"):
        Taxonomy.from_csv(path)
    path.write_bytes("name,family,instrument\nvioloncelle é,bowed string,".encode("latin-1"))
    with pytest.raises(UserError, match="UTF-8"):
        Taxonomy.from_csv(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="got 'nothing'"):
        Taxonomy.from_csv(path)
