"""The source `midi`: a folder of MIDI files, rendered to stems with one or more SoundFonts.

    folder/
        any/depth/song.mid      (or .midi, any case; or the path of a single file)

A song's stems are its General MIDI programs: tracks of one program are merged, and so are all drum tracks.
With several SoundFonts each file becomes one song per SoundFont, and these fall into the same split, as do files of
identical bytes (`Song.group`).

Notes are those that are heard: held by the sustain pedal, those of one program and pitch never overlapping, drums as
long as written (see `sounding_notes`). They are exact, as the audio is made from them, and are cut with it, at
``max_seconds``; a program that begins later has no stem.

A file that cannot be read, has no beats to count time in (see `midi_file`), or holds no note, is reported and left out.
"""

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pretty_midi
from annotated_types import Ge, Gt, Le

from timbrel.errors import UserError, is_utf8, one_line
from timbrel.sources.base import Found, Note, Performance, Skipped, Song, Stem
from timbrel.sources.midi_file import SUFFIXES, UnusableMidiError, digest, parse, tracks_by_program
from timbrel.sources.soundfont import (
    TAIL_S,
    find_soundfont,
    perform,
    program_name,
    sounding_notes,
    stem_name,
)


@dataclass(frozen=True, kw_only=True)
class MidiOptions:
    """How `midi` renders."""

    soundfont: str = ""
    """Paths of .sf2 files, separated by commas; empty: the TimGM6mb.sf2 that comes with pretty_midi."""
    limit: Annotated[int, Ge(0)] = 0
    """Read only this many files, a fair sample that does not depend on the names' order; 0: all."""
    sample_rate: Annotated[int, Ge(8000), Le(96000)] = 32000
    """Of the rendered stems, Hz."""
    max_seconds: Annotated[float, Gt(0)] = 300.0
    """Music after this time, s, is cut off."""


@dataclass(frozen=True)
class _Render:
    """Renders one stem; names its file rather than holding its notes, so that it pickles small."""

    file: Path
    program: int
    soundfont: Path
    sample_rate: int
    seconds: float

    def __call__(self) -> Performance:
        try:
            tracks = _read(self.file).tracks[self.program]
        except (UnusableMidiError, KeyError) as error:
            raise UserError(f"'{self.file}' cannot be read any more: did it change?") from error
        return perform(tracks, self.soundfont, self.sample_rate, self.seconds)


class Midi:
    """Reads and renders MIDI files; see the module's docstring."""

    name = "midi"
    summary = "a folder of MIDI files, rendered with one or more SoundFonts"
    needs_path = True
    options_type = MidiOptions

    def find(self, path: Path | None, options: MidiOptions) -> Found:
        """Describe the files under ``path``; each is parsed when its song is asked for."""
        if path is None:
            raise UserError("midi needs a folder of MIDI files: give its path.")
        if not path.exists():
            raise UserError(f"there is no folder or MIDI file at '{path}'.")
        path = path.absolute()  # Workers may run elsewhere.
        root = path if path.is_dir() else path.parent
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        files = [file for file in files if file.suffix.lower() in SUFFIXES and file.is_file()]
        skipped = [
            Skipped(one_line(str(file)), "its name is not UTF-8: rename it.") for file in files if not is_utf8(file)
        ]
        files = [file for file in files if is_utf8(file)]
        if not files:
            raise UserError(f"there is no MIDI file (.mid, .midi) at '{path}'.")
        files.sort(key=lambda file: digest(file.relative_to(root).as_posix().encode()))
        files = files[: options.limit or None]
        soundfonts = [find_soundfont(name.strip()) for name in options.soundfont.split(",")]
        songs = _songs(root, files, soundfonts, options, skipped)
        return Found(songs=songs, count=len(files) * len(soundfonts), skipped=skipped)


@dataclass(frozen=True)
class _Piece:
    """What a MIDI file holds, by program, 0-128; only programs that play."""

    digest: str
    tracks: dict[int, list[pretty_midi.Instrument]]
    notes: dict[int, tuple[Note, ...]]


def _songs(
    root: Path, files: list[Path], soundfonts: list[Path], options: MidiOptions, skipped: list[Skipped]
) -> Iterator[Song]:
    taken: set[str] = set()
    for file in files:
        try:
            piece = _read(file)
        except UnusableMidiError as error:
            skipped.append(Skipped(str(file), str(error)))
            continue
        last_end_s = max(note.offset_s for notes in piece.notes.values() for note in notes)
        seconds = min(last_end_s + TAIL_S, options.max_seconds)
        programs = sorted(program for program, notes in piece.notes.items() if notes[0].onset_s < seconds)
        if not programs:
            skipped.append(Skipped(str(file), f"its first note comes after {options.max_seconds:g} s"))
            continue
        title = "__".join(file.relative_to(root).with_suffix("").parts)
        for soundfont in soundfonts:
            name = _unique(f"{title}__{soundfont.stem}" if len(soundfonts) > 1 else title, taken)
            stems = tuple(
                Stem(
                    name=stem_name(program),
                    instrument=program_name(program),
                    perform=_Render(file, program, soundfont, options.sample_rate, seconds),
                    program=program,
                )
                for program in programs
            )
            yield Song(name=name, stems=stems, group=piece.digest)


@functools.lru_cache(maxsize=2)  # The stems of a song are rendered one after the other.
def _read(file: Path) -> _Piece:
    """Parse ``file``.

    Raises:
        UnusableMidiError: it is no MIDI file, is damaged, or holds no note.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UnusableMidiError(f"not a readable MIDI file ({error})") from error
    by_program = tracks_by_program(parse(content))
    notes = {program: sounding_notes(*tracks) for program, tracks in by_program.items()}
    playing = {program: heard for program, heard in notes.items() if heard}
    if not playing:
        raise UnusableMidiError("it holds no note")
    return _Piece(digest(content), {program: by_program[program] for program in playing}, playing)


def _unique(name: str, taken: set[str]) -> str:
    """Return ``name``, numbered if it is among those ``taken``, and note it there."""
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    free = next(candidate for candidate in itertools.chain([name], numbered) if candidate not in taken)
    taken.add(free)
    return free


SOURCE = Midi()
