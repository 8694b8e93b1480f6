"""The mixing pool: a stream of numbered mixtures over a pool of Ray actors.

A stream is one numbered sequence for a whole run. Epochs are slices of it, a resumed run starts it at a later number,
and the rows come in order. Since a mixture is a pure function of its number, any number of actors, and a block that is
computed twice after a crash, give the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
import ray.data

from timbrel.mixing.actors import Pool, numbered_batches, read_batches
from timbrel.mixing.keep import Keep, Keeper
from timbrel.mixing.recipe import Recipe

if TYPE_CHECKING:
    from timbrel.mixing.examples import ExampleMaker
    from timbrel.mixing.index import StemIndex
    from timbrel.mixing.taught import SongEmbeddings

__all__ = ["Pool", "Stream", "collect", "mix", "read_batches", "stream_batches"]


WORTH_AN_ACTOR = 100
"""Examples that are mixed in about the time, 3 s of CPU, in which another actor starts."""


@dataclass(frozen=True)
class Stream:
    """Which sequence of mixtures: everything that the example with a given number depends on."""

    index: Any
    """A ``StemIndex``, or a reference to one in Ray's object store."""
    recipe: Recipe
    seed: int
    name: str
    """``train``, ``valid`` or ``test``."""
    keep: Keep | None = None
    """Where batches are kept for other trials that read the same stream; None: nowhere. It changes no example."""
    maker: ExampleMaker | None = None
    """What makes an example of a mixture; None: its audio is one."""
    embeddings: SongEmbeddings | None = None
    """Embeddings that the examples carry, or that are all the model hears; None: none."""

    @property
    def example_bytes(self) -> int:
        """Return how large an example is."""
        carried = self.embeddings.example_bytes if self.embeddings else 0
        heard = self.embeddings is not None and self.embeddings.heard
        return carried + (0 if heard else example_bytes(self.recipe, self.maker))


def example_bytes(recipe: Recipe, maker: ExampleMaker | None) -> int:
    """Return how large an example is, apart from its labels."""
    return maker.example_bytes if maker else 4 * recipe.samples * recipe.channels


def mix(stream: Stream, index: StemIndex, numbers: Iterable[int]) -> dict[str, np.ndarray]:
    """Return the examples with the given numbers.

    ``number`` int64 ``(example,)``, ``audio`` float32 ``(example, sample)``, ``labels`` float32 ``(example, class)``,
    NaN where nobody judged, ``song`` int64 ``(example,)``: the row in the index of the song that the first source is
    from; a musical mixture has no other. If the stream has a maker, its columns are there instead of ``audio``; it is
    given the notes of the mixture, or, where the task has no use for notes, when its stems sound. If the stream has
    embeddings, they are there too, or instead.
    """
    # Imported by those who mix alone. Train workers only read, and Ray's go-betweens only pass this module on: for them
    # it would be a second of work before the first batch.
    from timbrel.mixing.notes import activity_notes, mixture_notes
    from timbrel.mixing.plan import mixture_labels, plan_mixture
    from timbrel.mixing.render import render_example

    plans = [plan_mixture(index, stream.recipe, stream.seed, stream.name, int(number)) for number in numbers]
    own = {
        "number": np.array([plan.number for plan in plans], dtype=np.int64),
        "song": np.array([index.song_of(plan.sources[0].stem) for plan in plans], dtype=np.int64),
        **(stream.embeddings(plans, index) if stream.embeddings else {}),
    }
    if stream.embeddings and stream.embeddings.heard:
        return own | {"labels": np.stack([mixture_labels(plan, index, stream.recipe) for plan in plans])}
    rendered = [render_example(plan, index, stream.recipe) for plan in plans]
    columns = {"audio": np.stack([each.audio for each in rendered])}
    if stream.maker:
        notes = mixture_notes if index.has_notes else activity_notes
        columns = stream.maker(columns["audio"], [notes(each.heard, index, stream.recipe) for each in rendered])
    return own | columns | {"labels": np.stack([each.labels for each in rendered])}


def stream_batches(
    stream: Stream, start: int, stop: int, batch_size: int, pool: Pool, readers: int = 1
) -> ray.data.Dataset:
    """Return examples ``start`` to ``stop`` of a stream as a dataset of batches, in order, mixed while it is read.

    Of several ``readers``, which are Train workers, number ``r`` of ``w`` is given the batches ``r, r + w, ...``; read
    them with ``read_batches``.

    Raises:
        UserError: the cluster can't hold the pool.
    """
    return numbered_batches(_Mixer, stream, start, stop, batch_size, batch_size * stream.example_bytes, pool, readers)


@ray.remote(num_cpus=0, max_calls=1)  # its process ends with it: an idle one would keep 0.4 GB for nothing
def collect(streams: Sequence[Stream], counts: Sequence[int], pool: Pool) -> list[Mapping[str, np.ndarray]]:
    """Return the first ``counts`` examples of each of some streams, and their songs' names: whole evaluation sets.

    Of consecutive windows there may be fewer; 0 stands for all of them. All are made by one pool, one stream after the
    other: a pool takes seconds to start.
    """
    indices = [_index(stream) for stream in streams]
    counts = [index.examples(count) for index, count in zip(indices, counts, strict=True)]
    total, batch_size = sum(counts), min(16, sum(counts))
    # This reader only waits, so that all actors begin at once, but none that would be late.
    pool = replace(pool, actors=min(pool.actors, -(-total // WORTH_AN_ACTOR)), least=0)
    batch_bytes = batch_size * max(stream.example_bytes for stream in streams)
    rows = numbered_batches(_Mixers, (streams, counts), 0, total, batch_size, batch_bytes, pool)
    batches = list(read_batches(rows, batch_size))
    columns = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    sets: list[Mapping[str, np.ndarray]] = []
    for index, first, after in zip(indices, *_bounds(counts), strict=True):
        of_set = {name: values[first:after] for name, values in columns.items()}
        sets.append(of_set | {"song": np.array(index.songs.to_pylist())[of_set["song"]]})
    return sets


def _bounds(counts: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return where each of some streams begins and ends if they are counted through."""
    ends = np.cumsum(counts).tolist()
    return [0, *ends[:-1]], ends


def _index(stream: Stream) -> StemIndex:
    index: StemIndex = ray.get(stream.index) if isinstance(stream.index, ray.ObjectRef) else stream.index
    return index


class _Mixer:
    """What an actor of the pool does: numbers in, their examples out."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.index = _index(stream)
        self.keeper = Keeper(stream.keep, self.mix) if stream.keep else None

    def mix(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        return mix(self.stream, self.index, numbers)

    def __call__(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        return self.keeper.batches(numbers) if self.keeper else self.mix(numbers)


class _Mixers:
    """What an actor does that makes examples of several streams, counted through: numbers in, their examples out."""

    def __init__(self, streams_and_counts: tuple[Sequence[Stream], Sequence[int]]) -> None:
        streams, counts = streams_and_counts
        self.mixers = [_Mixer(stream) for stream in streams]
        self.bounds = list(zip(*_bounds(counts), strict=True))

    def __call__(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        parts = []
        for mixer, (first, after) in zip(self.mixers, self.bounds, strict=True):
            own = numbers[(numbers >= first) & (numbers < after)]
            if len(own):
                parts.append(mixer(own - first))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
