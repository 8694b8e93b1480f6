"""The notes of a mixture: those of its sources, moved with the audio.

A source that starts at 30 s of its song, is shifted by 2 semitones and played 1.25 times as fast has its notes 30 s
earlier, 2 semitones higher and 1.25 times as dense.
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
NO_NOTES = Notes(np.zeros((0, 2)), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


def mixture_notes(sources: Sequence[SourcePlan], index: StemIndex, recipe: Recipe) -> Notes:
    """Return the notes of sources as they are heard in a mixture, cut at its beginning and end.

    A shift by a part of a semitone moves a note to the nearest one; tasks that learn notes ask for whole semitones.
    """
    parts = [NO_NOTES, *(_source_notes(source, index, recipe) for source in sources)]
    return Notes(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _source_notes(source: SourcePlan, index: StemIndex, recipe: Recipe) -> Notes:
    times, pitches, classes = index.notes_of(source.stem)
    change = next((effect.parameters for effect in source.effects if effect.name == "pitch_time"), None)
    moved = (times - source.start_s) * (recipe.seconds / source.seconds)
    heard = (moved[:, 1] > LEAST_S) & (moved[:, 0] < recipe.seconds - LEAST_S)
    semitones = round(change["semitones"]) if change else 0
    return Notes(np.clip(moved[heard], 0, recipe.seconds), pitches[heard] + semitones, classes[heard])
