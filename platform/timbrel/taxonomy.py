"""From the names that data sets use for instruments to the classes that a task predicts.

The classes are two levels deep: 8 families and 7 instruments, as in the multi-instrument recognition system.
An instrument always switches on its family. Which name switches on what is data, not code: it stands in
``taxonomy.csv``, one row a name, for a person to read and correct::

    name,family,instrument,program,note
    violin section,bowed string,violin,,violins and nothing else
    Synth Bass 1,synth,,38,"named after its role, sounds as a synthesizer"
    fx,,,,sound effect

``program`` is a General MIDI program, 0-127, or 128 for drums. A row without a family is outside the taxonomy
and its note says why. A row whose name starts with ``#`` is a heading.
"""

import csv
import difflib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from timbrel.errors import UserError, unknown_name

FAMILIES: tuple[str, ...] = (
    "voice",
    "percussion",
    "bowed string",
    "plucked string",
    "woodwind",
    "brass",
    "key",
    "synth",
)

PARENT: dict[str, str] = {
    "singer": "voice",
    "drums": "percussion",
    "violin": "bowed string",
    "electric guitar": "plucked string",
    "acoustic guitar": "plucked string",
    "electric bass": "plucked string",
    "piano": "key",
}
"""The family of each instrument."""

INSTRUMENTS: tuple[str, ...] = tuple(PARENT)

CLASSES: tuple[str, ...] = FAMILIES + INSTRUMENTS
"""The 15 classes in the order of a task's outputs."""

COLUMNS: tuple[str, ...] = ("name", "family", "instrument", "program", "note")
"""The columns of a table; ``program`` and ``note`` may be left out of one's own."""

DRUM_PROGRAM = 128
"""General MIDI has no program for drums (they are a channel); data sets such as Slakh use the next number."""


def normalise(name: str) -> str:
    """Return ``name`` as names are compared: without case, spaces, punctuation or accents.

    ``Lead_Vox``, ``lead-vox`` and ``LeadVox`` are the same name.
    """
    # Decomposed, an accent is a character of its own and falls with the punctuation: macOS and Linux write
    # the same file name differently.
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())
    return re.sub(r"[\W_]+", "", decomposed)


@dataclass(frozen=True)
class Entry:
    """One row of the table."""

    name: str
    family: str | None = None
    """One of ``FAMILIES``; ``None`` if the name is outside the taxonomy."""
    instrument: str | None = None
    """One of ``INSTRUMENTS``; ``None`` if the name is none of them, or does not say which."""
    program: int | None = None
    """General MIDI program, 0-127, or 128 for drums."""
    note: str = ""
    """Why the row is as it is; never empty outside the taxonomy."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes switched on, the family first; none outside the taxonomy."""
        return tuple(name for name in (self.family, self.instrument) if name is not None)


@dataclass(frozen=True)
class Taxonomy:
    """Names, and what each of them switches on."""

    entries: tuple[Entry, ...]

    @classmethod
    def from_csv(cls, *paths: Path | str) -> "Taxonomy":
        """Read tables, the rows of a later one replacing the rows of the same name or program in an earlier.

        ``Taxonomy.from_csv(TABLE, "mine.csv")`` corrects and extends the table that comes with Timbrel.

        Raises:
            UserError: a table cannot be read or contradicts itself; the message names its file and line.
        """
        entries: dict[str, Entry] = {}
        for path in map(Path, paths):
            for key, entry in _read_table(path).items():
                replaced = entries.pop(key, None)
                if replaced is not None and entry.program is None:
                    entry = replace(entry, program=replaced.program)
                entries[key] = entry
        return cls(tuple(entries.values()))

    @cached_property
    def _by_key(self) -> dict[str, Entry]:
        return {normalise(entry.name): entry for entry in self.entries}

    @cached_property
    def _by_singular(self) -> dict[str, Entry]:
        return {key.removesuffix("s"): entry for key, entry in self._by_key.items()}

    @cached_property
    def _by_program(self) -> dict[int, Entry]:
        return {entry.program: entry for entry in self.entries if entry.program is not None}

    def lookup(self, name: str) -> Entry | None:
        """Return the row of ``name``, ``None`` if there is none.

        A name that is not in the table as it is written is looked for whether singular or plural, and then
        without a number at either end (``01_Kick``, ``violins 2``).
        """
        key = normalise(name)
        for spelling in (key, key.strip("0123456789")):
            entry = self._by_key.get(spelling) or self._by_singular.get(spelling.removesuffix("s"))
            if entry is not None:
                return entry
        return None

    def require(self, name: str) -> Entry:
        """Return the row of ``name``.

        Raises:
            UserError: there is none; the message suggests the nearest name and says how to add one.
        """
        entry = self.lookup(name)
        if entry is None:
            raise self.unknown(name)
        return entry

    def unknown(self, name: str) -> UserError:
        """Return the error for a ``name`` without a row."""
        nearest = difflib.get_close_matches(normalise(name), self._by_key, n=1, cutoff=0.6)
        guess = f" did you mean '{self._by_key[nearest[0]].name}'?" if nearest else ""
        return UserError(
            f"unknown instrument '{name}':{guess} Rename it, or give it a row '{name},<family>,,,<note>' "
            f"in {TABLE.name} of timbrel (families: {', '.join(FAMILIES)})."
        )

    def classes_of(self, name: str, program: int | None = None) -> tuple[str, ...]:
        """Return the classes that a stem switches on, the family first; none if it is outside the taxonomy.

        Args:
            name: the data set's word for the instrument.
            program: General MIDI program, 0-127, or 128 for drums; ``None`` or negative where unknown.
                A known program decides: it is what was rendered, while the name may be a role ("Melody") or
                stand for a whole group of programs ("Bass" in Slakh).

        Raises:
            UserError: the name is needed and unknown.
        """
        entry = self._by_program.get(program) if program is not None else None
        return (entry or self.require(name)).classes

    def encode_stems(self, names: Sequence[str], programs: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """Return the classes of each stem, bool of shape ``(stem, class)`` in the order of ``CLASSES``.

        Args:
            names: the data set's word for the instrument of each stem.
            programs: the General MIDI program of each stem, negative where unknown; see ``classes_of``.

        Raises:
            UserError: a name is needed and unknown.
        """
        stems = list(zip(names, np.full(len(names), -1) if programs is None else programs, strict=True))
        # A library holds millions of stems, but few different ones.
        rows = {stem: np.isin(CLASSES, self.classes_of(*stem)) for stem in set(stems)}
        return np.array([rows[stem] for stem in stems], dtype=bool).reshape(len(stems), len(CLASSES))

    def encode(self, names: Sequence[str], programs: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """Return the labels of a mixture of stems, bool of shape ``(class,)``; see ``encode_stems``."""
        return np.any(self.encode_stems(names, programs), axis=0)


def _read_table(path: Path) -> dict[str, Entry]:
    """Read one table, its entries keyed by normalised name."""
    entries: dict[str, Entry] = {}
    program_owner: dict[int, str] = {}
    for line, cells in _read_rows(path):
        try:
            entry = _parse(cells)
            key = normalise(entry.name)
            if key in entries:
                raise UserError(f"'{entry.name}' is in the table already, as '{entries[key].name}'.")
            if entry.program is not None and entry.program in program_owner:
                raise UserError(f"program {entry.program} is taken by '{program_owner[entry.program]}'.")
        except UserError as error:
            raise UserError(f"{path}, line {line}: {error}") from None
        entries[key] = entry
        if entry.program is not None:
            program_owner[entry.program] = entry.name
    return entries


def _read_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line number and the cells of every row but headings and blank ones."""
    try:
        # utf-8-sig: spreadsheets put a byte order mark in front.
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="surplus", restval="")
            header = set(reader.fieldnames or ())
            if not {"name", "family", "instrument"} <= header <= set(COLUMNS):
                got = ",".join(reader.fieldnames or ()) or "nothing"
                raise UserError(f"{path}: the first line must be '{','.join(COLUMNS)}', got '{got}'.")
            for row in reader:
                if "surplus" in row:
                    raise UserError(
                        f"{path}, line {reader.line_num}: more cells than columns; "
                        "put a note that holds a comma in double quotes."
                    )
                cells = {column: row.get(column, "").strip() for column in COLUMNS}
                if any(cells.values()) and not cells["name"].startswith("#"):
                    yield reader.line_num, cells
    except OSError as error:
        raise UserError(f"{path}: the table cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: the table is not UTF-8 text; save it as 'CSV UTF-8'.") from error
    except csv.Error as error:
        raise UserError(f"{path}: the table is not CSV ({error}).") from error


def _parse(cells: dict[str, str]) -> Entry:
    """Check one row.

    Raises:
        UserError: the row contradicts the rules of the table; the caller adds the file and the line.
    """
    name, family, instrument, program, note = (cells[column] for column in COLUMNS)
    if not normalise(name):
        raise UserError(f"'{name}' is no name: it needs a letter or a digit.")
    if family and family not in FAMILIES:
        raise unknown_name("family", family, FAMILIES)
    if instrument and instrument not in INSTRUMENTS:
        raise unknown_name("instrument", instrument, INSTRUMENTS)
    if instrument and family != PARENT[instrument]:
        raise UserError(f"the family of {instrument} is {PARENT[instrument]}, got '{family}'.")
    if not family and not note:
        raise UserError(f"'{name}' has no family, so its note must say why it is outside the taxonomy.")
    if program and not (re.fullmatch("[0-9]+", program) and int(program) <= DRUM_PROGRAM):
        raise UserError(f"a program is a whole number from 0 to {DRUM_PROGRAM}, got '{program}'.")
    return Entry(name, family or None, instrument or None, int(program) if program else None, note)


TABLE = Path(__file__).with_name("taxonomy.csv")
"""The table that comes with Timbrel."""

TAXONOMY = Taxonomy.from_csv(TABLE)
