"""The embeddings that examples carry: what a teacher network made of the songs, cut to what is heard of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from timbrel.errors import UserError
from timbrel.mixing.index import StemIndex
from timbrel.mixing.plan import MixturePlan
from timbrel.mixing.recipe import ALL_SOURCES, Recipe

if TYPE_CHECKING:
    from timbrel.embeddings.store import Embeddings
    from timbrel.library import Library
    from timbrel.teaching.config import TeacherConfig

TEACHER = "teacher"
"""The column of examples whose audio the model hears; if it hears the embeddings, they are its ``features``."""


@dataclass(frozen=True)
class SongEmbeddings:
    """Where an example's embeddings are, and how they are scaled."""

    embeddings: Embeddings
    offset: float
    scale: float
    seconds: float
    """Length of an example."""
    heard: bool
    """Whether the model hears them; no audio is rendered then."""

    def __call__(self, plans: Sequence[MixturePlan], index: StemIndex) -> dict[str, np.ndarray]:
        """Return a column: ``(value - offset) * scale``, float32 ``(example, time, dimension)``."""
        found = np.stack([self._of(plan, index) for plan in plans])
        return {"features" if self.heard else TEACHER: (found - np.float32(self.offset)) * np.float32(self.scale)}

    def _of(self, plan: MixturePlan, index: StemIndex) -> np.ndarray:
        source = plan.sources[0]
        song = index.song_of(source.stem)
        name = index.songs[song].as_py()
        return self.embeddings.window(index.dataset_of(song), name, source.start_s, self.seconds)

    @property
    def example_bytes(self) -> int:
        """Size of what is returned for one example."""
        return embedding_bytes(self.seconds, self.embeddings.hop_s, self.embeddings.dimension)


def embedding_bytes(seconds: float, hop_s: float, dimension: int) -> int:
    """Return the size of the embedding of an example."""
    return 4 * dimension * (max(1, round(seconds / hop_s)) if hop_s else 1)


def song_embeddings(
    library: Library, index: StemIndex, recipe: Recipe, teacher: TeacherConfig, heard: bool
) -> SongEmbeddings:
    """Return where the embeddings of an index's songs are.

    Raises:
        UserError: a song lacks them, or the recipe makes something else of songs, for which no store has embeddings.
    """
    from timbrel.embeddings.store import Embeddings

    changed = recipe_changes(recipe)
    if changed:
        raise UserError(
            f"teacher.name={teacher.name}: embeddings are those of songs as they are, and {changed} makes other sounds "
            "of them: set teacher.weights to the teacher's file or run, so that it listens beside the training."
        )
    embeddings = Embeddings.open(library, teacher.name, index.datasets)
    embeddings.check(index.song_names())
    return SongEmbeddings(embeddings, *teacher.normalisation, recipe.seconds, heard)


def recipe_changes(recipe: Recipe) -> str:
    """Return which setting makes mixtures other than a song as it is; empty if none does."""
    if recipe.p_musical < 1:
        return f"mixing.p_musical={recipe.p_musical:g}"
    if recipe.p_single_source > 0:
        return f"mixing.p_single_source={recipe.p_single_source:g}"
    if min(recipe.min_sources, recipe.max_sources) < ALL_SOURCES:
        return f"mixing.min_sources={recipe.min_sources}"
    if recipe.level_db:
        return "mixing.level_db"
    applied = [name for name in recipe.effects.drawn if getattr(recipe.effects, name).p]
    in_songs = [name for name in applied if name not in ("pitch_shift", "time_stretch")]
    return f"mixing.effects.{in_songs[0]}" if in_songs else "mixing.effects.others" if recipe.effects.others else ""
