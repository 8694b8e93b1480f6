"""What was heard, note by note, as files for other programs: a multitrack MIDI file, and the rolls as arrays.

Conventions
-----------
A pianoroll is bool ``(class, pitch, frame)``: pitch ``p`` is the MIDI note ``low + p``, and frame ``t`` lasts from
``first_s + t * frame_s`` to ``first_s + (t + 1) * frame_s`` seconds. A pitch roll ``(pitch, frame)`` says what is
played by anybody, an instrument roll ``(class, frame)`` who plays anything.
"""

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pretty_midi

from timbrel.errors import UserError
from timbrel.mixing.rolls import notes_of

VELOCITY = 80
"""Of every note: a roll does not say how loud it was."""
TEMPO_BPM = 120.0
"""Nothing is known of the music's own, so bars and beats in the file mean nothing, only times do."""
TICKS_PER_BEAT = 500
"""Of 1 ms: times are within half a millisecond, and those of frames of whole milliseconds are exact."""
TICK_S = 60 / TEMPO_BPM / TICKS_PER_BEAT


def write_midi(
    roll: np.ndarray,
    classes_programs: Sequence[tuple[str, int]],
    frame_s: float,
    path: Path,
    *,
    low: int = 21,
    first_s: float = 0.0,
) -> None:
    """Write a pianoroll as a MIDI file with a track for each instrument that plays.

    Each run of frames that are on is one note of velocity 80; time is kept at 120 beats a minute and 1 ms a tick. The
    tracks bear the classes' names and come in their order. A class without a note gets no track: in a sequencer, each
    track loads a sound and takes a place on the screen, and by their names the tracks of several files still match.
    From the sixteenth track on, tracks share their MIDI channels (of which there are 15 beside that of drums), so a
    player that knows channels alone gives both the sound of the later; sequencers keep tracks apart.

    Args:
        roll: bool ``(class, pitch, frame)``.
        classes_programs: name and General MIDI program, 0-127, of each class.
        frame_s: seconds a frame.
        path: of the ``.mid`` file; it is replaced.
        low: MIDI number of the first pitch.
        first_s: time of the first frame in seconds.

    Raises:
        ValueError: an argument does not fit the roll, or MIDI.
        UserError: the file can't be written.
    """
    if roll.ndim != 3 or len(roll) != len(classes_programs):
        raise ValueError(f"expected a roll ({len(classes_programs)}, pitch, frame), got {roll.shape}")
    if not 0 <= low <= 128 - roll.shape[1]:
        raise ValueError(f"expected pitches within 0 to 127, got {roll.shape[1]} from {low} on")
    # A note and a rest must each last a tick, or runs would touch.
    if not (math.isfinite(frame_s) and frame_s >= 2 * TICK_S and math.isfinite(first_s) and first_s >= 0):
        raise ValueError(
            f"expected frame_s of {2 * TICK_S:g} or more and first_s of 0 or more, got {frame_s}, {first_s}"
        )

    midi = pretty_midi.PrettyMIDI(resolution=TICKS_PER_BEAT, initial_tempo=TEMPO_BPM, charset="utf-8")
    for (name, program), played in zip(classes_programs, roll, strict=True):
        if not 0 <= program <= 127:
            raise ValueError(f"expected a General MIDI program of 0 to 127 for {name}, got {program}")
        if not played.any():
            continue
        track = pretty_midi.Instrument(program, name=name)
        for begin, end, pitch in zip(*notes_of(played, frame_s), strict=True):
            track.notes.append(pretty_midi.Note(VELOCITY, low + int(pitch), first_s + begin, first_s + end))
        midi.instruments.append(track)
    content = io.BytesIO()
    midi.write(content)
    _write(path, content)


@dataclass(frozen=True, kw_only=True, eq=False)
class Rolls:
    """What a model says of one recording."""

    classes: tuple[str, ...]
    """Names of the instruments."""
    roll: np.ndarray
    """Probability that an instrument plays a note: float16 ``(class, pitch, frame)``."""
    pitch: np.ndarray
    """Probability that anybody plays a note: float16 ``(pitch, frame)``."""
    instrument: np.ndarray
    """Probability that an instrument plays: float16 ``(class, frame)``."""
    roll_on: np.ndarray
    """What was decided, by the thresholds in use: bool, as ``roll``."""
    pitch_on: np.ndarray
    """Bool, as ``pitch``."""
    instrument_on: np.ndarray
    """Bool, as ``instrument``."""
    frame_s: float
    """Seconds a frame."""
    low: int = 21
    """MIDI number of the first pitch."""
    first_s: float = 0.0
    """Time of the first frame in seconds."""

    def __post_init__(self) -> None:
        if self.roll.ndim != 3 or len(self.roll) != len(self.classes):
            raise ValueError(f"expected a roll ({len(self.classes)}, pitch, frame), got {self.roll.shape}")
        classes, pitches, frames = self.roll.shape
        for name, shape in (("roll", self.roll.shape), ("pitch", (pitches, frames)), ("instrument", (classes, frames))):
            for field in (name, f"{name}_on"):
                if getattr(self, field).shape != shape:
                    raise ValueError(f"expected {field} {shape}, got {getattr(self, field).shape}")


def write_rolls(
    path: Path,
    *,
    roll: np.ndarray,
    pitch: np.ndarray,
    instrument: np.ndarray,
    roll_on: np.ndarray,
    pitch_on: np.ndarray,
    instrument_on: np.ndarray,
    classes: Sequence[str],
    frame_s: float,
    low: int = 21,
    first_s: float = 0.0,
) -> None:
    """Write the rolls of a recording as an ``.npz`` file, which ``numpy.load`` reads.

    It holds, under the names of the arguments, probabilities as float16 (to about 0.0002; those below 0.00000003
    are 0), decisions as bool, ``classes`` as text, ``frame_s`` and ``first_s`` in seconds, and ``low`` as a MIDI
    number.

    Args:
        path: of the file, whatever its ending; it is replaced.
        roll: probabilities ``(class, pitch, frame)``.
        pitch: probabilities ``(pitch, frame)``.
        instrument: probabilities ``(class, frame)``.
        roll_on: what was decided, as ``roll``.
        pitch_on: what was decided, as ``pitch``.
        instrument_on: what was decided, as ``instrument``.
        classes: names of the instruments.
        frame_s: seconds a frame.
        low: MIDI number of the first pitch.
        first_s: time of the first frame in seconds.

    Raises:
        ValueError: the shapes do not fit.
        UserError: the file can't be written.
    """
    rolls = Rolls(
        classes=tuple(classes),
        roll=roll.astype(np.float16),
        pitch=pitch.astype(np.float16),
        instrument=instrument.astype(np.float16),
        roll_on=roll_on.astype(bool),
        pitch_on=pitch_on.astype(bool),
        instrument_on=instrument_on.astype(bool),
        frame_s=float(frame_s),
        low=int(low),
        first_s=float(first_s),
    )
    content = io.BytesIO()
    np.savez_compressed(content, **vars(rolls) | {"classes": np.array(rolls.classes, dtype=np.str_)})
    _write(path, content)


def read_rolls(path: Path) -> Rolls:
    """Return what ``write_rolls`` wrote; nothing in the file is executed.

    Raises:
        UserError: the file is missing, damaged, or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in Rolls.__dataclass_fields__}
        return Rolls(
            **arrays
            | {
                "classes": tuple(map(str, arrays["classes"])),
                "frame_s": float(arrays["frame_s"]),
                "low": int(arrays["low"]),
                "first_s": float(arrays["first_s"]),
            }
        )
    except (OSError, ValueError, TypeError, KeyError, EOFError, BadZipFile) as error:
        raise UserError(f"{path} can't be read as rolls ({error}): predict the recording again.") from None


def _write(path: Path, content: io.BytesIO) -> None:
    """Write a whole file or none: what was there stays if there is no room."""
    draft = path.with_name(f"{path.name}.part")
    try:
        try:
            draft.write_bytes(content.getbuffer())
            os.replace(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(
            f"{path} can't be written ({error.strerror or error}): make room, or choose another folder."
        ) from None
