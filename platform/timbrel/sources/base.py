"""What a source hands to the library: songs made of stems.

A source reads one data set as its authors lay it out (or makes one) and describes it lazily: a ``Stem`` knows
how to read its audio and its notes, and does so in the process that stores it. Everything here pickles, so songs can be
stored by several processes or nodes at once.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np


class Note(NamedTuple):
    """One sounding note: what is heard, sustain pedal included, not what is written; within its stem's audio.

    A stem with a note that is not so is left out of the library and listed.
    """

    onset_s: float
    offset_s: float
    pitch: int
    """MIDI note number, 0-127 (60 = middle C); for drums the General MIDI percussion key."""
    velocity: int
    """1-127."""
    program: int | None = None
    """General MIDI program, 0-127, or 128 for drums, of what plays it, in a stem that holds several instruments (a
    ``mix``); ``None``: the stem's own."""


class Header(NamedTuple):
    """What a file says of its audio."""

    channels: int
    sample_rate: int
    """Hz."""
    frames: int
    """Samples a channel."""


@dataclass(frozen=True)
class Performance:
    """The audio of one stem, and its notes where the source knows them."""

    audio: np.ndarray
    """float32 of shape ``(channel, sample)``, full scale = 1."""
    sample_rate: int
    """Hz."""
    notes: tuple[Note, ...] | None = None
    """``None`` where unknown; an empty tuple says that the stem plays no note."""
    embeddings: Mapping[str, np.ndarray] = field(default_factory=dict)
    """What comes with the data set, by name of the network that made it: ``(time, dimension)``, in its own type."""


@dataclass(frozen=True)
class Stem:
    """One instrument's track in a song."""

    name: str
    """Unique within the song; it becomes the file name."""
    instrument: str
    """The data set's own word for the instrument; the taxonomy maps it to classes. ``mix`` for a recording that is not
    divided into stems."""
    perform: Callable[[], Performance]
    """Reads or renders the stem; picklable; raises ``UserError`` naming the file that is at fault. Where it has a
    method ``header()``, `timbrel check` calls that instead: it returns a ``Header`` without reading the audio."""
    program: int | None = None
    """General MIDI program, 0-127, or 128 for drums, where the source knows it."""


@dataclass(frozen=True)
class Song:
    """Stems that were played together and start together."""

    name: str
    """Unique within the data set."""
    stems: tuple[Stem, ...]
    artist: str = ""
    split: str | None = None
    """``train``, ``valid`` or ``test`` where the data set has official splits."""
    group: str = ""
    """Songs of one group always fall into the same split (renderings of one composition, copies); empty: a
    group of its own."""
    tags: Mapping[str, float] | None = None
    """What is said of the song as a whole, by tag: how likely it is there, 0 to 1, as the data set has it (1 or 0 where
    it has no shades). Of tags that are not named here nothing is known, unless ``Found.vocabulary`` has them. ``None``:
    the data set has no tags."""


@dataclass(frozen=True)
class Skipped:
    """Something that a source left out, and why; it appears in the report of ``timbrel prepare`` and ``check``."""

    what: str
    """The path or name."""
    why: str
    """What was found, what was expected, and the remedy. Things that are left out by a rule have the same sentence, so
    that a report can count them."""


@dataclass(frozen=True)
class Found:
    """All that a source found at a path."""

    songs: Iterable[Song]
    count: int
    """Number of songs, for the progress bar."""
    skipped: list[Skipped] = field(default_factory=list)
    """Filled while ``songs`` is being read, if not before."""
    vocabulary: tuple[str, ...] = ()
    """Tags on which every song was judged: one that ``Song.tags`` does not name is not there."""


class Source(Protocol):
    """A data set that ``timbrel prepare`` can add to a library."""

    name: str
    summary: str
    """One line for ``timbrel list sources``."""
    needs_path: bool
    options_type: type[Any]
    """A frozen dataclass: what ``--option key=value`` may set; the fields' docstrings are its help."""

    def find(self, path: Path | None, options: Any) -> Found:
        """Describe the data set at ``path``.

        Raises:
            UserError: nothing usable is there; the message says what was expected.
        """
        ...
