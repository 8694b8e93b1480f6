"""MIDI files, as the tracks and notes they hold: what `midi`, `slakh` and `midi_audio_pairs` share."""

import hashlib
import io
import warnings
from pathlib import Path

import mido  # type: ignore[import-untyped]
import pretty_midi

from timbrel.errors import UserError
from timbrel.sources.soundfont import DRUMS

SUFFIXES = frozenset({".mid", ".midi"})
"""In lower case."""

# What mido and pretty_midi raise on damaged files (30,000 were tried); no wider, lest defects of ours hide.
_UNREADABLE = (EOFError, LookupError, OSError, ValueError, ZeroDivisionError, mido.KeySignatureError)


class UnusableMidiError(Exception):
    """A MIDI file that cannot be used; the message says why, the caller adds which."""


def parse(content: bytes) -> pretty_midi.PrettyMIDI:
    """Return what a MIDI file of this ``content`` holds; it may hold no note.

    Raises:
        UnusableMidiError: it is no MIDI file, or is damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # Tempo changes off track 0: common and harmless.
            return pretty_midi.PrettyMIDI(io.BytesIO(content))
    except _UNREADABLE as error:
        reason = str(error) or type(error).__name__
        raise UnusableMidiError(f"not a readable MIDI file ({reason})") from error


def read(path: Path) -> pretty_midi.PrettyMIDI:
    """Return what the MIDI file at ``path`` holds; it may hold no note.

    Raises:
        UserError: it is missing, no MIDI file, or damaged.
    """
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except UnusableMidiError as error:
        raise UserError(f"{path}: {error}; copy it again, or take it out.") from error


def tracks_by_program(parsed: pretty_midi.PrettyMIDI) -> dict[int, list[pretty_midi.Instrument]]:
    """Return the tracks of each General MIDI program, 0-127, and under 128 those of drums."""
    by_program: dict[int, list[pretty_midi.Instrument]] = {}
    for track in parsed.instruments:
        by_program.setdefault(DRUMS if track.is_drum else int(track.program), []).append(track)
    return by_program


def digest(content: bytes) -> str:
    """Return a hash by which files of identical bytes are known."""
    return hashlib.sha256(content).hexdigest()[:16]
