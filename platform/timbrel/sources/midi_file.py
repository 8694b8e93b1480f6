"""MIDI files, as the tracks and notes they hold: what `midi`, `slakh` and `midi_audio_pairs` share.

mido reads the file, and what it says is made into pretty_midi's tracks here rather than by pretty_midi, which drops
notes that never end, heeds tempo changes on the first track alone, gives a note the program at its end, and keeps a
time for every tick up to the last, so that one late event takes gigabytes. Where none of this occurs, both agree.

* **Notes that never end** last until their channel is told to be silent (CC120, CC123), or their track ends.
* **Zero length.** A note that ends where it begins is none, in whichever order the file has its two events.
* **Velocity 0** ends a note, as a note-off does; both end all notes of their pitch.
* **Tempo** changes count for all tracks, on whichever they are.
* **Programs** are those at a note's onset. A track that never sets the program of a channel has program, controllers
  and pitch bends as all tracks together set them there. Channel 10 is drums.

Left out are files whose tracks have no common time (type 2), those that do not count in beats (SMPTE division, no ticks
a beat), and those of more than 6000 beats a minute before their last note.
"""

import hashlib
import io
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass, field
from itertools import accumulate, chain
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import mido  # type: ignore[import-untyped]  # it has no types
import pretty_midi

from timbrel.errors import UserError
from timbrel.sources.soundfont import DRUMS

SUFFIXES = frozenset({".mid", ".midi"})
"""In lower case."""

# What mido raises on damaged files (30,000 were tried); no wider, lest defects of ours hide.
_UNREADABLE = (LookupError, OSError, ValueError, mido.KeySignatureError)
_ALL_OFF = frozenset({120, 123})  # CC: all sound off, all notes off.
_DRUM_CHANNEL = 9
_DEFAULT_TEMPO = 500_000  # Microseconds a beat.
_FASTEST = 10_000  # Less, 6000 beats a minute, are nobody's.
_HIGHEST = 128  # Above all programs.

_Events = list[tuple[int, Any]]
"""mido's messages, each with its tick from the beginning."""


class UnusableMidiError(Exception):
    """A MIDI file that cannot be used; the message says why, the caller adds which."""


def parse(content: bytes) -> pretty_midi.PrettyMIDI:
    """Return what a MIDI file of this ``content`` holds; it may hold no note.

    Raises:
        UnusableMidiError: it is no MIDI file, is damaged, or does not count time in beats.
    """
    try:
        file = mido.MidiFile(file=io.BytesIO(content))
    except EOFError as error:
        raise UnusableMidiError("not a readable MIDI file (it ends too early)") from error
    except _UNREADABLE as error:
        reason = str(error) or type(error).__name__
        raise UnusableMidiError(f"not a readable MIDI file ({reason})") from error
    if file.type not in (0, 1):
        raise UnusableMidiError(
            f"it is of type {file.type}, whose tracks have no common time: export it as type 0 or 1"
        )
    if file.ticks_per_beat <= 0:
        found = "SMPTE frames" if file.ticks_per_beat else "0 ticks a beat"
        raise UnusableMidiError(f"it counts time in {found}: export it with ticks per beat")
    tracks = [list(zip(accumulate(event.time for event in track), track, strict=True)) for track in file.tracks]
    together = sorted(chain.from_iterable(tracks), key=itemgetter(0))
    seconds = _clock(together, file.ticks_per_beat)
    shared = _channels(together, seconds)
    parsed = pretty_midi.PrettyMIDI()
    for track in tracks:
        own = {number: channel for number, channel in _channels(track, seconds).items() if channel.programs}
        parsed.instruments += _instruments(track, shared | own, seconds)
    return parsed


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


def _clock(events: _Events, ticks_per_beat: int) -> Callable[[int], float]:
    """Return what tells the time of a tick, s."""

    def tick_s(tempo: int) -> float:
        return 60.0 / (6e7 / tempo * ticks_per_beat)

    ticks, times, rates = [0], [0.0], [tick_s(_DEFAULT_TEMPO)]
    last = max((tick for tick, event in events if event.type in ("note_on", "note_off")), default=0)
    for tick, event in events:
        if event.type == "set_tempo":
            if event.tempo < _FASTEST:
                if tick < last:
                    raise UnusableMidiError(
                        f"it has a tempo of {event.tempo} microseconds a beat: repair its tempo map"
                    )
            elif (rate := tick_s(event.tempo)) != rates[-1]:
                times.append(times[-1] + rates[-1] * (tick - ticks[-1]))
                ticks.append(tick)
                rates.append(rate)

    def seconds(tick: int) -> float:
        at = bisect_right(ticks, tick) - 1
        return times[at] + rates[at] * (tick - ticks[at])

    return seconds


@dataclass
class _Channel:
    """What is set on a channel, in order."""

    programs: list[tuple[int, int]] = field(default_factory=list)
    """From which tick on, which program."""
    controls: list[pretty_midi.ControlChange] = field(default_factory=list)
    bends: list[pretty_midi.PitchBend] = field(default_factory=list)

    def program(self, tick: int) -> int:
        """Return the program at ``tick``; 0 before the first is set."""
        before = bisect_right(self.programs, (tick, _HIGHEST))
        return self.programs[before - 1][1] if before else 0


def _channels(events: _Events, seconds: Callable[[int], float]) -> dict[int, _Channel]:
    channels: dict[int, _Channel] = defaultdict(_Channel)
    for tick, event in events:
        if event.type == "program_change":
            channels[event.channel].programs.append((tick, event.program))
        elif event.type == "control_change":
            change = pretty_midi.ControlChange(event.control, event.value, seconds(tick))
            channels[event.channel].controls.append(change)
        elif event.type == "pitchwheel":
            channels[event.channel].bends.append(pretty_midi.PitchBend(event.pitch, seconds(tick)))
    return channels


def _instruments(
    track: _Events, channels: dict[int, _Channel], seconds: Callable[[int], float]
) -> Iterable[pretty_midi.Instrument]:
    """Return what plays on a ``track``, in the order in which the first notes end."""
    made: dict[tuple[int, int], pretty_midi.Instrument] = {}
    for note in _spans(track):
        channel = channels.get(note.channel, _Channel())
        program = channel.program(note.begin)
        if (program, note.channel) not in made:
            instrument = pretty_midi.Instrument(program, is_drum=note.channel == _DRUM_CHANNEL)
            instrument.control_changes = [copy(change) for change in channel.controls]
            instrument.pitch_bends = [copy(bend) for bend in channel.bends]
            made[program, note.channel] = instrument
        made[program, note.channel].notes.append(
            pretty_midi.Note(note.velocity, note.pitch, seconds(note.begin), seconds(note.end))
        )
    return made.values()


class _Span(NamedTuple):
    """A note in ticks."""

    begin: int
    end: int
    channel: int
    pitch: int
    velocity: int


def _spans(track: _Events) -> Iterator[_Span]:
    """Yield the notes of a ``track`` as they end, those that never do at last."""
    sounding: dict[tuple[int, int], list[tuple[int, int]]] = {}  # By channel and pitch: tick and velocity.
    to_end: dict[tuple[int, int], int] = defaultdict(int)  # How many note-offs are due.
    idle: dict[tuple[int, int], int] = {}  # Tick of the last note-off that was not.

    def close(keys: Iterable[tuple[int, int]], tick: int) -> Iterator[_Span]:
        for key in keys:
            begun = sounding.pop(key, [])
            ended = [note for note in begun if note[0] < tick]
            if ended and len(ended) < len(begun):  # Struck again before it was let go, at one tick.
                sounding[key] = begun[len(ended) :]
            yield from (_Span(begin, tick, *key, velocity) for begin, velocity in ended)

    def drop_ended_first(key: tuple[int, int]) -> None:
        begun = sounding.get(key)
        if begun and begun[-1][0] == idle.pop(key, None):
            begun.pop()
            to_end[key] -= 1

    for tick, event in track:
        if event.type in ("note_on", "note_off"):
            key = (event.channel, event.note)
            if event.type == "note_on" and event.velocity:
                drop_ended_first(key)
                sounding.setdefault(key, []).append((tick, event.velocity))
                to_end[key] += 1
            else:
                if to_end[key]:
                    to_end[key] -= 1
                else:
                    idle[key] = tick
                yield from close([key], tick)
        elif event.type == "control_change" and event.control in _ALL_OFF:
            yield from close([key for key in sounding if key[0] == event.channel], tick)
    for key in sounding:
        drop_ended_first(key)
    yield from close(list(sounding), track[-1][0] if track else 0)
