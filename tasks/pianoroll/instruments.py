"""The instruments of a pianoroll, and the General MIDI programs that count for each.

Programs are counted from 0, as in pretty_midi (0: acoustic grand piano, 127: gunshot; 128 stands for drums here and
-1 for an unknown one). A class is one of the nine of the multitask paper, a General MIDI program by its own name, or
one of the sixteen General MIDI families. Case makes no difference. Where names are shared, the paper's nine go first:
"piano" is 0-3 and not the family 0-7, which also holds harpsichords; "bass" is without synthesisers; "trumpet"
includes the muted one.

Where a library knows no program, a stem counts by its name (``name_classes``), which can be for the paper's nine alone.
"""

import difflib
import itertools
from collections.abc import Sequence

import numpy as np
from pretty_midi.constants import INSTRUMENT_CLASSES, INSTRUMENT_MAP

from timbrel.taxonomy import TAXONOMY, Entry, normalise

PROGRAMS = 128
FAMILY_SIZE = 8
"""Programs in each General MIDI family, which follow each other."""

_NINE = {
    "piano": (range(0, 4), 0),  # grand, bright, electric grand, honky-tonk; electric pianos are other instruments
    "acoustic guitar": (range(24, 26), 25),  # steel
    "electric guitar": (range(26, 32), 27),  # clean
    "trumpet": ((56, 59), 56),  # open and muted
    "saxophone": (range(64, 68), 66),  # tenor
    "bass": (range(32, 38), 33),  # electric, fingered; 38 and 39 are synthesisers
    "violin": ((40,), 40),
    "cello": ((42,), 42),
    "flute": ((73,), 73),
}
"""Programs of the paper's instruments, and the one that stands for each when notes are written to a file.

The authors do not say which programs they counted: these are ours.
"""
NINE = tuple(_NINE)
"""The instruments of the multitask paper, in the order of the authors' code."""


def programs_of(name: str) -> frozenset[int]:
    """Return the programs that count for an instrument.

    Raises:
        ValueError: there is no such instrument, naming the nearest.
    """
    return frozenset(_find(name)[0])


def export_program(name: str) -> int:
    """Return the program that an instrument's notes are written with; of a family, it is the first one.

    Raises:
        ValueError: there is no such instrument, naming the nearest.
    """
    return _find(name)[1]


def check_instruments(names: Sequence[str]) -> None:
    """Raise ValueError unless these are instruments of which no two share a program, and at least one."""
    if not names:
        raise ValueError("at least one instrument is needed, but the list of instruments is empty")
    found = [(name, programs_of(name)) for name in names]
    for (one, ours), (other, theirs) in itertools.combinations(found, 2):
        if one.casefold() == other.casefold():
            raise ValueError(f"the instrument '{other}' is there twice: leave one out")
        if ours & theirs:
            shared = INSTRUMENT_MAP[min(ours & theirs)]
            raise ValueError(f"'{one}' and '{other}' overlap, as '{shared}' counts for both: leave one out")


def note_classes(programs: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Return which of ``names`` each note counts for, int16 ``(note,)``: its index, or -1 where it is none of them.

    Args:
        programs: of each note, integers ``(note,)``: drums (128) and unknown programs (-1) belong nowhere.
        names: of the instruments, without overlap (``check_instruments``).
    """
    table = np.full(PROGRAMS + 1, -1, dtype=np.int16)  # the last entry is for whatever is no program
    for i, name in enumerate(names):
        table[list(programs_of(name))] = i
    programs = np.asarray(programs, dtype=np.int64)
    return table[np.where((programs >= 0) & (programs < PROGRAMS), programs, PROGRAMS)]


_TAXONOMY_INSTRUMENTS = {
    "piano": "piano",
    "acoustic guitar": "acoustic guitar",
    "electric guitar": "electric guitar",
    "electric bass": "bass",
    "violin": "violin",
}
"""What counts for one of the nine because the taxonomy of names says so."""

GUITAR = "guitar"
_NAMES = {
    # "bass" alone may be a synthesiser's (MUSDB), but is an electric or a double bass nearly always. A double bass is
    # mostly plucked, as Acoustic Bass (32) is; those that are known to be bowed ("contrabass", "arco bass") are out, as
    # Contrabass (43) is.
    "bass": "bass, bass di, bass mic, bass mic peer array, bass samples, acoustic bass guitar, acoustic bass, "
    "double bass, double bass samples, upright bass, standup bass",
    "cello": "cello, violoncello, vlc, cello section, cello samples",
    # Of its family only the alto flute, for which General MIDI has no other program: piccolos, recorders, pan flutes
    # and shakuhachis have theirs, and flutes of bamboo are nearer to those.
    "flute": "flute, flute section, alto flute",
    "trumpet": "trumpet, muted trumpet, tpt, trumpet section, trumpet samples",
    "saxophone": "saxophone, sax, sax section, sax mic peer array, soprano saxophone, soprano sax, alto saxophone, "
    "alto sax, sax alto, tenor saxophone, tenor sax, sax tenor, baritone saxophone, baritone sax, bari sax",
    GUITAR: "guitar, gtr, lead guitar, lead gtr, rhythm guitar, rhythm gtr, slide guitar",
}
"""What else counts by its name. Guitars here are those of which nobody says whether they are electric: they count for
neither. Sections and samples count, since what is heard is the instrument; sections of several instruments don't."""


def name_classes(names: Sequence[str], programs: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Return which classes each stem counts for, bool ``(stem, class)``: by its program, or if that is unknown by name.

    Classes that are none of the paper's nine, such as a family, are known by program alone.

    Args:
        names: the data set's word for the instrument of each stem.
        programs: integers ``(stem,)``; 128 for drums, negative where unknown.
        classes: names of instruments, without overlap (``check_instruments``).
    """
    by_program = note_classes(programs, classes)[:, None] == np.arange(len(classes))
    number = {name.casefold(): i for i, name in enumerate(classes) if name.casefold() in _NINE}
    found = np.array([number.get(_word(name), -1) for name in names], dtype=np.int64)
    by_name = found[:, None] == np.arange(len(classes))
    return np.where(np.asarray(programs)[:, None] >= 0, by_program, by_name)


def heard_classes(names: Sequence[str], programs: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Return ``name_classes``, and two columns after them: bool ``(stem, class + 2)``.

    The first is on for guitars of which nobody says whether they are electric. The second is on for whatever else plays
    in a song, so that every stem counts for something and is heard; it is off for what is outside the taxonomy
    (microphones that took the whole band, a metronome), of which nobody says who plays in it.
    """
    own = name_classes(names, programs, classes)
    unknown = np.asarray(programs) < 0
    unsaid = unknown & np.array([_word(name) == GUITAR for name in names], dtype=bool)
    entries = [TAXONOMY.lookup(name) for name in names]
    someone = ~unknown | np.array([entry is not None and entry.family is not None for entry in entries], dtype=bool)
    other = someone & ~unsaid & ~own.any(axis=1)
    return np.concatenate([own, unsaid[:, None], other[:, None]], axis=1)


_BY_NAME = {normalise(name): word for word, names in _NAMES.items() for name in names.split(",")}


def _word(name: str) -> str:
    """Return which of the paper's nine a stem's name says, or ``GUITAR``; empty if none."""
    entry: Entry | None = TAXONOMY.lookup(name)
    if entry is None:
        return ""
    return _TAXONOMY_INSTRUMENTS.get(entry.instrument or "") or _BY_NAME.get(normalise(entry.name), "")


_FAMILIES = {
    name.casefold(): (range(FAMILY_SIZE * i, FAMILY_SIZE * (i + 1)), FAMILY_SIZE * i)
    for i, name in enumerate(INSTRUMENT_CLASSES)
}
_SINGLE = {name.casefold(): ((program,), program) for program, name in enumerate(INSTRUMENT_MAP)}
_KNOWN: dict[str, tuple[Sequence[int], int]] = {**_FAMILIES, **_SINGLE, **_NINE}  # the last of one name counts


def _find(name: str) -> tuple[Sequence[int], int]:
    found = _KNOWN.get(name.casefold())
    if found is None:
        nearest = difflib.get_close_matches(name.casefold(), _KNOWN, n=1, cutoff=0.4)
        if nearest:
            raise ValueError(f"unknown instrument '{name}': did you mean '{nearest[0]}'?")
        raise ValueError(
            f"unknown instrument '{name}': choose from {', '.join(NINE)}, or name a General MIDI program or family"
        )
    return found
