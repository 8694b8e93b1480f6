"""The instruments of a pianoroll, and the General MIDI programs that count for each.

Programs are counted from 0, as in pretty_midi (0: acoustic grand piano, 127: gunshot; 128 stands for drums here and
-1 for an unknown one). A class is one of the nine of the multitask paper, a General MIDI program by its own name, or
one of the sixteen General MIDI families. Case makes no difference. Where names are shared, the paper's nine go first:
"piano" is 0-3 and not the family 0-7, which also holds harpsichords; "bass" is without synthesisers; "trumpet"
includes the muted one.
"""

import difflib
import itertools
from collections.abc import Sequence

import numpy as np
from pretty_midi.constants import INSTRUMENT_CLASSES, INSTRUMENT_MAP

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
