"""The mixing pool: a stream of numbered mixtures over a pool of Ray actors.

A stream is one numbered sequence for a whole run. Epochs are slices of it, a resumed run starts it at a later number,
and the rows come in order. Since a mixture is a pure function of its number, any number of actors, and a block that is
computed twice after a crash, give the same rows.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from timbrel.mixing.index import StemIndex
from timbrel.mixing.keep import Keep, Keeper
from timbrel.mixing.plan import mixture_labels, plan_mixture
from timbrel.mixing.recipe import Recipe
from timbrel.mixing.render import render_mixture

MIXER_RESOURCE = "mixer"
"""A custom resource that a cluster can give to the nodes on which mixing actors belong."""


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


@dataclass(frozen=True)
class Pool:
    """How many actors mix, and what each asks of the cluster. It changes how fast examples come, never which."""

    actors: int
    cpus: float
    """Of each actor."""


def mix(stream: Stream, index: StemIndex, numbers: Iterable[int]) -> dict[str, np.ndarray]:
    """Return the examples with the given numbers.

    ``number`` int64 ``(example,)``, ``audio`` float32 ``(example, sample)``, ``labels`` float32 ``(example, class)``,
    ``song`` int64 ``(example,)``: the row in the index of the song that the first source is from; a musical mixture has
    no other.
    """
    plans = [plan_mixture(index, stream.recipe, stream.seed, stream.name, int(number)) for number in numbers]
    return {
        "number": np.array([plan.number for plan in plans], dtype=np.int64),
        "audio": np.stack([render_mixture(plan, index, stream.recipe) for plan in plans]),
        "labels": np.stack([mixture_labels(plan, index, stream.recipe) for plan in plans]),
        "song": np.array([index.song_of(plan.sources[0].stem) for plan in plans], dtype=np.int64),
    }


def stream_batches(stream: Stream, start: int, stop: int, batch_size: int, pool: Pool) -> ray.data.Dataset:
    """Return examples ``start`` to ``stop`` of a stream as a dataset of batches, in order, mixed while it is read.

    One row of the dataset is one batch: Ray then neither cuts nor joins what the actors made. Of several Train workers,
    worker ``r`` of ``w`` is given the rows ``r, r + w, ...``; read them with ``read_batches``.
    """
    resources = {MIXER_RESOURCE: 0.001} if MIXER_RESOURCE in ray.cluster_resources() else {}
    # The counting asks for no CPU: had it to wait for one, a pool that fills the machine would never begin.
    dataset = ray.data.read_datasource(
        _Numbers(start, stop, batch_size), num_cpus=0, override_num_blocks=1
    ).map_batches(
        _Mixer,
        fn_constructor_args=(stream,),
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(size=pool.actors),
        num_cpus=pool.cpus,
        **({"resources": resources} if resources else {}),
    )
    # Ray joins blocks up to this size. The numbers of one batch must stay a block, or one actor would be given all.
    dataset.context.target_max_block_size = 8 * batch_size
    dataset.context.execution_options.preserve_order = True
    return dataset


def read_batches(rows: Any) -> Iterator[dict[str, np.ndarray]]:
    """Yield the batches of a dataset that ``stream_batches`` made, or of a Train worker's shard of it."""
    for row in rows.iter_batches(batch_size=1, prefetch_batches=2, batch_format="numpy"):
        yield {name: values[0] for name, values in row.items()}


@ray.remote(num_cpus=0, max_calls=1)  # its process ends with it: an idle one would keep 0.4 GB for nothing
def collect(stream: Stream, examples: int, pool: Pool) -> Mapping[str, np.ndarray]:
    """Return the first ``examples`` examples of a stream, all at once: an evaluation set, with the songs' names."""
    batches = list(read_batches(stream_batches(stream, 0, examples, min(16, examples), pool)))
    columns = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    index: StemIndex = ray.get(stream.index) if isinstance(stream.index, ray.ObjectRef) else stream.index
    return columns | {"song": np.array(index.songs.to_pylist())[columns["song"]]}


class _Mixer:
    """One actor of the pool: numbers in, a row of one batch of mixtures out."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.index: StemIndex = ray.get(stream.index) if isinstance(stream.index, ray.ObjectRef) else stream.index
        self.batch = Keeper(stream.keep, self.mix).batch if stream.keep else self.mix

    def mix(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        return mix(self.stream, self.index, numbers)

    def __call__(self, numbers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: values[None] for name, values in self.batch(numbers["number"]).items()}


class _Numbers(Datasource):
    """The numbers ``start`` to ``stop``, a batch a block, counted by one task as they are needed.

    ``ray.data.range`` would plan a task for each block before the first one runs: 24 s for a run of 288,000 examples.
    """

    def __init__(self, start: int, stop: int, batch_size: int) -> None:
        super().__init__()
        self.start, self.stop, self.batch_size = start, stop, batch_size

    def estimate_inmemory_data_size(self) -> int:
        """Return the size of all numbers in bytes."""
        return 8 * (self.stop - self.start)

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        """Return the one task that counts."""
        start, stop, batch_size = self.start, self.stop, self.batch_size

        def count() -> Iterator[pa.Table]:
            for first in range(start, stop, batch_size):
                yield pa.table({"number": np.arange(first, min(first + batch_size, stop))})

        size = BlockMetadata(num_rows=stop - start, size_bytes=8 * (stop - start), input_files=None, exec_stats=None)
        return [ReadTask(count, size, schema=pa.schema([("number", pa.int64())]))]
