"""Notes to audio with a SoundFont: what the sources `midi` and `house_band` share.

Conventions: times in s, sample rates in Hz, pitches as MIDI note numbers, programs as General MIDI program
numbers counted from 0, with 128 for a drum set. Audio is float32 of shape ``(channel, sample)`` with one
channel: pan (CC10) is ignored and the SoundFont's two channels are averaged, as every task downmixes anyway.

Volume (CC7), expression (CC11), pitch bends and their range are honoured. TinySoundFont ignores the
sustain pedal (CC64), so it is baked into the notes' ends before rendering.
"""

import bisect
import functools
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pretty_midi
import scipy.signal

from timbrel.errors import UserError
from timbrel.sources.base import Note, Performance

DRUMS = 128
"""The program number that stands for a drum set."""

TAIL_S = 2.0
"""How long a song goes on after its last note ends, so that releases and cymbals are heard out."""

GAIN_DB = -6.0
"""One gain for everything, so that the levels of a song's stems relate to each other as written.

Low enough for sums: of 30 real compositions of 2 to 11 stems the loudest peaked at 0.72 of full scale, of 60
songs of `house_band` the loudest at 0.45.
"""

_FADE_S = 0.02  # At the end of every stem, so that a long release or a piece cut short ends without a click.
_FLUSH_S = 0.05  # A reset releases every voice within 10 ms; after this nothing of the last stem is left.
_LOWEST_HZ = 10.0
_SILENCE = 1e-7  # -140 dB, below the last bit of 16.
_PEDAL = 64
_PEDAL_DOWN = 64
_DEFAULT_VOLUME = 100  # CC7 as General MIDI defines it; TinySoundFont would start at 127.
_CONTROLLERS_HEARD = frozenset({7, 11, 6, 38, 98, 99, 100, 101})  # Volume, expression, bend range (RPN 0).
_synth_lock = threading.Lock()  # A synthesiser is a state machine: one stem at a time.


def program_name(program: int) -> str:
    """Return the General MIDI name of a ``program``, 0-127, or ``drum set`` for 128."""
    return "drum set" if program == DRUMS else str(pretty_midi.program_to_instrument_name(program))


def stem_name(program: int) -> str:
    """Return a file name for the stem of a ``program``: its General MIDI name in lower case with ``_``."""
    return re.sub(r"[^a-z0-9]+", "_", program_name(program).lower()).strip("_")


def find_soundfont(path: str = "") -> Path:
    """Return the SoundFont at ``path``; if empty, the ``TimGM6mb.sf2`` that comes with pretty_midi.

    Raises:
        UserError: it does not exist.
    """
    if path:
        found = Path(path).expanduser().absolute()  # Workers may run elsewhere.
        if not found.is_file():
            raise UserError(f"there is no SoundFont at '{path}': give the path of an .sf2 file.")
        return found
    shipped = Path(str(resources.files(pretty_midi) / "TimGM6mb.sf2"))
    if not shipped.is_file():
        raise UserError(
            f"pretty_midi's own SoundFont is missing at '{shipped}': "
            "reinstall pretty_midi or name another with `--option soundfont=PATH`."
        )
    return shipped


def sounding_notes(*tracks: pretty_midi.Instrument) -> tuple[Note, ...]:
    """Return what is heard of ``tracks`` that play one instrument, ordered by onset.

    The sustain pedal holds notes until it is lifted (or, if it never is, until the track's last written note
    ends). A pitch struck again while it sounds ends the earlier note and lasts until the last of them would
    have ended, so no two notes of one pitch overlap; of two struck together the louder stays. Drums have no
    pedal: their notes are as long as written, which says little of how long they ring. Notes without a length
    are dropped, and so are those before 0 s, which no file can hold.
    """
    by_pitch: dict[int, list[Note]] = {}
    for track in tracks:
        for note in _pedalled(track):
            by_pitch.setdefault(note.pitch, []).append(note)
    return tuple(sorted(note for notes in by_pitch.values() for note in _without_overlaps(notes)))


def until(notes: Iterable[Note], seconds: float) -> tuple[Note, ...]:
    """Return what is heard of ``notes`` in audio that ends after ``seconds``.

    Notes are cut there, and those that would begin later are dropped; so are those too short for the library, whose
    times are float32 (8 microseconds at a minute, 0.2 ms at an hour).
    """
    cut = (note._replace(offset_s=min(note.offset_s, seconds)) for note in notes)
    return tuple(note for note in cut if np.float32(note.onset_s) < np.float32(note.offset_s))


def perform(tracks: Sequence[pretty_midi.Instrument], soundfont: Path, sample_rate: int, seconds: float) -> Performance:
    """Render one stem: ``tracks`` that play one instrument, each with controllers of its own.

    Every stem of a song gets the same length, ``seconds``; what sounds later is cut.
    """
    audio = sum(
        (render(track, soundfont, sample_rate, seconds) for track in tracks),
        start=np.zeros((1, round(seconds * sample_rate)), np.float32),
    )
    heard = until(sounding_notes(*tracks), audio.shape[1] / sample_rate)
    return Performance(audio=audio, sample_rate=sample_rate, notes=heard)


def render(track: pretty_midi.Instrument, soundfont: Path, sample_rate: int, seconds: float) -> np.ndarray:
    """Render one ``track`` alone.

    The result depends on nothing but the arguments: bit-identical whatever this process rendered before.

    Returns:
        float32 of shape ``(1, round(seconds * sample_rate))``.

    Raises:
        UserError: ``soundfont`` cannot be read or lacks the program, or tinysoundfont is not installed.
    """
    samples = round(seconds * sample_rate)
    stereo = np.zeros((samples, 2), np.float32)
    with _synth_lock:
        synth = _fresh_synth(soundfont, sample_rate, track)
        position = 0
        for event in sorted(_events(track, sample_rate), key=lambda event: event[:2]):
            until = min(event.sample, samples)
            if until > position:
                synth.generate_simple(until - position, stereo[position:until].data.cast("B"))
                position = until
            if position == samples:
                break
            getattr(synth, event.method)(0, *event.arguments)
        if position < samples:
            synth.generate_simple(samples - position, stereo[position:].data.cast("B"))
    mono = _without_offset(stereo.mean(axis=1), sample_rate)
    fade = min(round(_FADE_S * sample_rate), samples)
    mono[samples - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return mono[np.newaxis]


def _without_offset(mono: np.ndarray, sample_rate: int) -> np.ndarray:
    """Remove what lies below 10 Hz: some samples of common SoundFonts are not centred on zero."""
    pole = 1 - 2 * np.pi * _LOWEST_HZ / sample_rate
    centred = scipy.signal.lfilter(np.array([1, -1], np.float32), np.array([1, -pole], np.float32), mono)
    centred[np.abs(centred) < _SILENCE] = 0.0  # The filter dies away for ever; silence is to be silent.
    return centred


class _Event(NamedTuple):
    """One call of the synthesiser's ``method``, in order of time, then note-offs, controllers, note-ons."""

    sample: int
    order: int
    method: str
    arguments: tuple[int, ...]


def _events(track: pretty_midi.Instrument, sample_rate: int) -> Iterator[_Event]:
    """Yield what ``track`` asks of the synthesiser, unsorted."""
    for note in sounding_notes(track):
        on = round(note.onset_s * sample_rate)
        off = max(round(note.offset_s * sample_rate), on + 1)  # Else a tiny note would end before it starts.
        yield _Event(on, 3, "noteon", (note.pitch, note.velocity))
        yield _Event(off, 0, "noteoff", (note.pitch,))
    for change in sorted(track.control_changes, key=lambda change: change.time):
        if change.number in _CONTROLLERS_HEARD:
            # Those of one moment stay as written (sorting is stable): an RPN takes four messages in order.
            yield _Event(round(change.time * sample_rate), 1, "control_change", (change.number, change.value))
    for bend in track.pitch_bends:
        yield _Event(round(bend.time * sample_rate), 2, "pitchbend", (bend.pitch + 8192,))


def _fresh_synth(soundfont: Path, sample_rate: int, track: pretty_midi.Instrument) -> Any:
    """Return a silent synthesiser with all controllers reset and the program of ``track`` selected."""
    synth, font = _load(soundfont, sample_rate)
    synth.soundfonts[font].reset()
    synth.generate_simple(round(_FLUSH_S * sample_rate))
    program = int(track.program)
    try:
        # A drum channel falls back to the standard set where the SoundFont lacks the set of this number.
        synth.program_select(0, font, 0, program, track.is_drum)
    except RuntimeError as error:
        name = "drum set" if track.is_drum else f"'{program_name(program)}'"
        raise UserError(f"SoundFont '{soundfont}' has no {name} (program {program}): use another.") from error
    synth.control_change(0, 7, _DEFAULT_VOLUME)
    return synth


@functools.lru_cache(maxsize=4)
def _load(soundfont: Path, sample_rate: int) -> tuple[Any, int]:
    """Return a synthesiser and its handle of ``soundfont``; loaded once a process (20 ms for 6 MB)."""
    try:
        import tinysoundfont
    except ImportError as error:
        raise UserError(
            "rendering MIDI needs tinysoundfont: run `make setup`, or `pip install --no-deps tinysoundfont`."
        ) from error
    synth = tinysoundfont.Synth(gain=GAIN_DB, samplerate=sample_rate)
    try:
        return synth, synth.sfload(str(soundfont))
    except RuntimeError as error:
        raise UserError(f"cannot read '{soundfont}' as a SoundFont: is it an .sf2 file?") from error


def _pedalled(track: pretty_midi.Instrument) -> Iterator[Note]:
    """Yield the notes of ``track``, held until the pedal is lifted where they end while it is down."""
    pedal = [change for change in track.control_changes if change.number == _PEDAL]
    pedal.sort(key=lambda change: change.time)  # Those of one moment stay as written.
    times = [change.time for change in pedal]
    lifted = [change.time for change in pedal if change.value < _PEDAL_DOWN]
    last_end = max((note.end for note in track.notes), default=0.0)
    for note in track.notes:
        end = note.end
        state = bisect.bisect_right(times, end) - 1
        if not track.is_drum and state >= 0 and pedal[state].value >= _PEDAL_DOWN:
            later = bisect.bisect_right(lifted, end)
            end = lifted[later] if later < len(lifted) else max(end, last_end)
        if note.end > note.start >= 0 and note.velocity > 0:
            yield Note(float(note.start), float(end), int(note.pitch), min(int(note.velocity), 127))


def _without_overlaps(notes: list[Note]) -> Iterator[Note]:
    """Yield ``notes`` of one pitch, each cut where the next begins."""
    notes = sorted(notes, key=lambda note: (note.onset_s, note.velocity))
    latest_end = 0.0
    for note, following in zip(notes, [*notes[1:], None], strict=True):
        latest_end = max(latest_end, note.offset_s)
        end = latest_end if following is None else min(latest_end, following.onset_s)
        if end > note.onset_s:
            yield note._replace(offset_s=end)
