"""Frame targets: which note of which class sounds when, on a grid of frames.

Conventions
-----------
A pianoroll is bool ``(class, pitch, frame)``. The pitch roll, ``(pitch, frame)``, is on where any class is; the
instrument roll, ``(class, frame)``, where any pitch is: all three come from one array, so they can't disagree.

*Frames.* Fine frame ``t`` is the moment ``t * hop_s``: that on which frame ``t`` of a centred transform lies. A note is
on in the fine frames from its onset up to, but not including, its offset. ``pool`` fine frames make one frame of the
roll, on where any of them is. (Y.-N. Hung, Y.-A. Chen and Y.-H. Yang, "Multitask learning for frame-level instrument
recognition", ICASSP 2019: CQT frames of 32 ms, rolls at every second one. Their label script is not public; that of
their MusicNet experiment marks the intervals that cover a frame, as here.)

*Short notes.* One that lies between two fine frames is on in the one nearest its onset: nothing that sounds is lost.

*Pitches* outside of the roll's range have no place in it and are left out; they are heard all the same.

*Drums* have keys, no pitches: no class of notes has them (``timbrel.task.Task.note_classes``).

*The same pitch twice.* Notes of one class and pitch that overlap, or follow without a gap, become one stretch of
frames: a roll has no onsets.

*Sustain pedal.* Notes are stored as they are heard, pedal included (``timbrel.sources.soundfont.sounding_notes``).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from timbrel.mixing.notes import LEAST_S, Notes

LOWEST_KEY, KEYS = 21, 88
"""A piano's: MIDI note 21 is A0."""


@dataclass(frozen=True, kw_only=True)
class RollGrid:
    """The frames and pitches of a roll."""

    hop_s: float
    """From one fine frame to the next, in s."""
    fine_frames: int
    """In an example."""
    pool: int = 1
    """Fine frames in one of the roll's."""
    lowest: int = LOWEST_KEY
    """MIDI note number of the lowest pitch."""
    pitches: int = KEYS

    def __post_init__(self) -> None:
        if self.fine_frames < self.pool or self.fine_frames % self.pool:
            raise ValueError(f"{self.fine_frames} frames an example can't be pooled by {self.pool}")

    @property
    def frames(self) -> int:
        """Frames of a roll."""
        return self.fine_frames // self.pool

    @property
    def frame_s(self) -> float:
        """Length of a frame of the roll in s."""
        return self.hop_s * self.pool


def pianoroll(notes: Notes, classes: int, grid: RollGrid) -> np.ndarray:
    """Return the pianoroll of notes: bool ``(class, pitch, frame)``."""
    fine = np.zeros((classes, grid.pitches, grid.fine_frames), dtype=bool)
    position = notes.times / grid.hop_s
    # A note that begins on a frame is not to miss it because its time is stored in single precision.
    first, last = np.ceil(position - LEAST_S / grid.hop_s).astype(np.int64).T
    between = first >= last
    first = np.where(between, np.rint(position[:, 0]).astype(np.int64), first)
    first = np.minimum(first, grid.fine_frames - 1)
    last = np.where(between, first + 1, last)
    pitch = notes.pitches - grid.lowest
    for row in np.flatnonzero((pitch >= 0) & (pitch < grid.pitches)):
        fine[notes.classes[row], pitch[row], first[row] : last[row]] = True
    return np.asarray(fine.reshape(classes, grid.pitches, grid.frames, grid.pool).any(axis=-1))


def pitch_roll(roll: np.ndarray) -> np.ndarray:
    """Return where any class plays: ``(..., class, pitch, frame)`` to ``(..., pitch, frame)``."""
    return np.asarray(roll.any(axis=-3))


def instrument_roll(roll: np.ndarray) -> np.ndarray:
    """Return where a class plays any pitch: ``(..., class, pitch, frame)`` to ``(..., class, frame)``."""
    return np.asarray(roll.any(axis=-2))


class NoteArrays(NamedTuple):
    """Notes as columns, ``(note,)`` each."""

    onset_s: np.ndarray
    offset_s: np.ndarray
    pitch: np.ndarray


def notes_of(roll: np.ndarray, frame_s: float, gap: int = 0, shortest: int = 1) -> NoteArrays:
    """Return the notes of one roll, bool ``(pitch, frame)``, in the order of onset and pitch.

    Every run of frames that are on is a note, from the start of its first frame to the end of its last one. A
    note's pitch is its row. Two ways of cleaning a roll, ours and not the paper's, are off by default: notes of
    one pitch that are at most ``gap`` frames apart become one, and of what is then there, notes of fewer than
    ``shortest`` frames are dropped.
    """
    if np.ndim(roll) != 2 or roll.dtype != bool:
        raise ValueError(f"expected a roll (pitch, frame) of type bool, got {np.shape(roll)} of {roll.dtype}")
    if not (np.isfinite(frame_s) and frame_s > 0):
        raise ValueError(f"expected frames of more than 0 s, got {frame_s}")
    if gap < 0 or shortest < 1:
        raise ValueError(f"expected a gap of at least 0 and notes of at least 1 frame, got {gap} and {shortest}")
    changes = np.diff(roll.astype(np.int8), axis=1, prepend=0, append=0)
    pitch, first = np.nonzero(changes == 1)  # pitch by pitch, so the n-th begin and the n-th end are one note's
    end = np.nonzero(changes == -1)[1]
    apart = (pitch[1:] != pitch[:-1]) | (first[1:] - end[:-1] > gap)
    begins, ends = (side[: pitch.size] for side in (np.append(True, apart), np.append(apart, True)))
    pitch, first, end = pitch[begins], first[begins], end[ends]
    kept = np.flatnonzero(end - first >= shortest)
    order = kept[np.lexsort((pitch[kept], first[kept]))]
    return NoteArrays(onset_s=first[order] * frame_s, offset_s=end[order] * frame_s, pitch=pitch[order])
