"""The notes of a mixture: those of its sources, moved with the audio.

A source that starts at 30 s of its song, is shifted by 2 semitones and played 1.25 times as fast has its notes 30 s
earlier, 2 semitones higher and 1.25 times as dense.

Of stems whose notes nobody knows it is known when they sound: ``activity_notes`` says it in the same form, without
pitches.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from timbrel.mixing.index import StemIndex
from timbrel.mixing.plan import SourcePlan
from timbrel.mixing.recipe import Recipe


class Notes(NamedTuple):
    """Notes of known classes, in no particular order."""

    times: np.ndarray
    """Onset and offset in s, float64 ``(note, 2)``."""
    pitches: np.ndarray
    """MIDI note numbers, int64 ``(note,)``; a shifted one may lie outside of 0 to 127."""
    classes: np.ndarray
    """int64, ``(note,)``."""


LEAST_S = 1e-4
"""Times are stored as float32: of a song's tenth minute they are known to 0.03 ms. What is left of a note at the
edge of a mixture is heard if it is longer than this."""
NO_PITCH = -1
"""Of what sounds at a pitch that nobody knows: it has no place in a pianoroll."""
NO_NOTES = Notes(np.zeros((0, 2)), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


def mixture_notes(sources: Sequence[SourcePlan], index: StemIndex, recipe: Recipe) -> Notes:
    """Return the notes of sources as they are heard in a mixture, cut at its beginning and end.

    A shift by a part of a semitone moves a note to the nearest one; tasks that learn notes ask for whole semitones.
    """
    return _together([_source_notes(source, index, recipe) for source in sources])


def activity_notes(sources: Sequence[SourcePlan], index: StemIndex, recipe: Recipe) -> Notes:
    """Return when sources sound, as notes of ``NO_PITCH``: an interval of a stem is one note for each of its classes.

    They move with the audio, as notes do, and are cut where the mixture begins and ends.
    """
    return _together([_source_activity(source, index, recipe) for source in sources])


def _together(parts: Sequence[Notes]) -> Notes:
    return Notes(*(np.concatenate(column) for column in zip(NO_NOTES, *parts, strict=True)))


def _source_notes(source: SourcePlan, index: StemIndex, recipe: Recipe) -> Notes:
    times, pitches, classes = index.notes_of(source.stem)
    change = next((effect.parameters for effect in source.effects if effect.name == "pitch_time"), None)
    moved, heard = _moved(times, source, recipe)
    semitones = round(change["semitones"]) if change else 0
    return Notes(moved, pitches[heard] + semitones, classes[heard])


def _source_activity(source: SourcePlan, index: StemIndex, recipe: Recipe) -> Notes:
    moved, _ = _moved(index.active_of(source.stem), source, recipe)
    classes = np.flatnonzero(index.labels[source.stem])
    times = np.repeat(moved, len(classes), axis=0)
    return Notes(times, np.full(len(times), NO_PITCH, dtype=np.int64), np.tile(classes, len(moved)))


def _moved(times: np.ndarray, source: SourcePlan, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Return when what happens at ``times``, ``(note, 2)`` in s of the song, is heard in the mixture, and which of it
    is heard at all, bool ``(note,)``."""
    moved = (times - source.start_s) * (recipe.seconds / source.seconds)
    heard = (moved[:, 1] > LEAST_S) & (moved[:, 0] < recipe.seconds - LEAST_S)
    return np.clip(moved[heard], 0, recipe.seconds), heard
