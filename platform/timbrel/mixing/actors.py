"""An elastic pool of Ray actors that makes numbered batches, in order, while they are read.

Nothing here knows of mixtures, and nothing heavy is imported: the processes that only read batches, or pass them on,
import this module too.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray.data import ExecutionOptions, ExecutionResources
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from timbrel.errors import UserError
from timbrel.mixing.scheduling import AHEAD_BATCHES, FIRST_BATCHES, lead_gently, queued_blocks

MIXER_RESOURCE = "mixer"
"""A custom resource that a cluster can give to the nodes on which mixing actors belong."""

ROUNDS = 4
"""In which a pool grows from its smallest to its largest size; an actor takes some seconds to start."""
ROUNDING = 1e-6
"""CPUs are counted in steps of 0.0001."""

BLOCK_EXAMPLES = 64
"""An actor is given several batches at a time up to so many examples: what Ray adds is per block, not per example."""
BLOCK_BYTES = 64 * 2**20
"""And up to so many bytes, since the reader holds three blocks."""

RESTARTS = 20
"""Of an actor whose process was killed. Ray Data itself would try for ever an example that kills every actor."""


@dataclass(frozen=True)
class Pool:
    """How many actors mix, and what each asks of the cluster. It changes how fast examples come, never which."""

    actors: int
    """At most."""
    cpus: float
    """Of each actor."""
    least: int = 0
    """Actors to begin with; more are added while a reader waits. 0: all that there is room for, at once."""

    @property
    def smallest(self) -> int:
        """Return the number of actors without which the pool can't begin."""
        return max(1, self.least)


def numbered_batches(
    maker: type, stream: Any, start: int, stop: int, batch_size: int, batch_bytes: int, pool: Pool, readers: int = 1
) -> ray.data.Dataset:
    """Return the batches of examples ``start`` to ``stop`` as a dataset, in order, made as it is read.

    ``maker(stream)`` is made once in each actor, and called with numbers, int64 ``(example,)``; every value of what it
    returns has one entry an example. A row of the dataset is one block, of one or more whole batches: read it with
    ``read_batches``. Ray neither cuts nor joins rows. Of ``w`` readers, who are given the rows in turn, number ``r``
    has the batches ``r, r + w, ...``; for several of them the batches must be whole, and equally many for each.

    Raises:
        UserError: the cluster can't hold the pool.
    """
    check_room(pool)
    first = pool.least or _places(pool, _nodes())
    resources = _mixer_resource()
    block_batches = _block_batches(batch_size, batch_bytes)
    numbers = Numbers(start, stop, batch_size, block_batches, pool.actors, readers)
    # The counting asks for no CPU: had it to wait for one, a pool that fills the machine would never begin.
    dataset = ray.data.read_datasource(numbers, num_cpus=0, override_num_blocks=1).map_batches(
        _Actor,
        fn_constructor_args=(maker, stream, batch_size, readers),
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(
            min_size=first, max_size=pool.actors, max_tasks_in_flight_per_actor=queued_blocks(block_batches)
        ),
        num_cpus=pool.cpus,
        max_restarts=RESTARTS,
        **({"resources": resources} if resources else {}),
    )
    # Ray joins rows up to this size. Those of the numbers must stay apart, or one actor would be given all.
    dataset.context.target_max_block_size = Numbers.ROW_BYTES
    dataset.context.execution_options = look_ahead(batch_size, batch_bytes, pool, readers)
    lead_gently(dataset, growth=math.ceil(max(1, pool.actors - first) / ROUNDS), block_batches=block_batches)
    return dataset


class _Actor:
    """One actor of the pool: the bounds of a block in, a row of its examples out."""

    def __init__(self, maker: type, stream: Any, batch_size: int, readers: int) -> None:
        self.make = maker(stream)
        self.batch_size, self.readers = batch_size, readers

    def __call__(self, bounds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        made = self.make(block_numbers(bounds["start"].item(), bounds["stop"].item(), self.batch_size, self.readers))
        return {name: values[None] for name, values in made.items()}


def block_numbers(start: int, stop: int, batch_size: int, readers: int) -> np.ndarray:
    """Return the numbers in a block with these bounds, int64 ``(example,)``: without the batches of other readers."""
    numbers = np.arange(start, stop)
    return numbers[(numbers - start) % (batch_size * readers) < batch_size]


def _block_batches(batch_size: int, batch_bytes: int) -> int:
    """Return how many batches a block may have."""
    return max(1, min(BLOCK_EXAMPLES // batch_size, BLOCK_BYTES // max(1, batch_bytes)))


def look_ahead(batch_size: int, batch_bytes: int, pool: Pool, readers: int = 1) -> ExecutionOptions:
    """Return the options that keep a dataset of such batches in order, and little ahead of those who read it."""
    block_batches = _block_batches(batch_size, batch_bytes)
    # Several readers go on together, so that the blocks of the others must be there beside the one that is read.
    ahead = AHEAD_BATCHES if readers == 1 else max(AHEAD_BATCHES, 2 * block_batches)
    batches = ahead * readers + queued_blocks(block_batches) * block_batches * pool.actors
    return ExecutionOptions(
        preserve_order=True, resource_limits=ExecutionResources(object_store_memory=batches * batch_bytes)
    )


def read_batches(rows: Any, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """Yield the batches of a dataset that ``numbered_batches`` made, or of a Train worker's shard of it.

    Raises:
        UserError: an actor was killed again and again.
    """
    # Ray Data gives the first row when one more than it prefetches is there.
    given = iter(rows.iter_batches(batch_size=1, prefetch_batches=1, batch_format="numpy"))
    while True:
        try:
            row = next(given)
        except StopIteration:
            return
        except Exception as error:
            if not _given_up(error):
                raise
            raise UserError(
                f"a mixing actor was killed {RESTARTS + 1} times, for want of memory or by what it reads: see Ray's "
                "logs (/tmp/ray/session_latest/logs), and lower --mixers if the memory is short."
            ) from error
        for first in range(0, row["number"].shape[1], batch_size):
            yield {name: values[0, first : first + batch_size] for name, values in row.items()}


def _given_up(error: BaseException) -> bool:
    """Return whether an exception, which Ray Data may pass on as text alone, says that an actor is dead for good.

    Not where its constructor raised, which Ray calls a death, too, nor where another process than an actor died.
    """
    return "class_name: MapWorker" in str(error)


def check_room(pool: Pool, beside: float = 0.0) -> None:
    """Refuse a pool for which an actor would be waited for in vain: Ray itself waits without a word.

    ``beside`` are the CPUs that the run needs for other things than the pool.

    Raises:
        UserError: its smallest size has no room on the cluster's nodes.
    """
    nodes = _nodes()
    there = f"{' + '.join(f'{each:g}' for each in nodes) or 'no'} CPUs"
    if _mixer_resource():
        there += f" on nodes with the resource '{MIXER_RESOURCE}'"
    if _places(pool, nodes) < pool.smallest:
        raise UserError(
            f"{pool.smallest} mixing actors with {pool.cpus:g} CPUs each find no room on this cluster, which has "
            f"{there}: give it more, or lower --mixers."
        )
    total = ray.cluster_resources().get("CPU", 0.0)
    if beside + pool.smallest * pool.cpus > total + ROUNDING:
        raise UserError(
            f"{pool.smallest} mixing actors with {pool.cpus:g} CPUs each find no room beside the {beside:g} CPUs of "
            f"the training on this cluster, which has {total:g}: give it more, or lower --mixers or training.workers."
        )


def _mixer_resource() -> dict[str, float]:
    """Return what an actor asks for beside CPUs."""
    return {MIXER_RESOURCE: 0.001} if MIXER_RESOURCE in ray.cluster_resources() else {}


def _nodes() -> list[float]:
    """Return the CPUs of each node on which actors belong."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [node.get("CPU", 0.0) for node in nodes if set(_mixer_resource()) <= set(node)]


def _places(pool: Pool, nodes: list[float]) -> int:
    """Return how many of the pool's actors such nodes have room for."""
    if not pool.cpus:
        return pool.actors if nodes else 0
    return min(pool.actors, sum(math.floor(cpus / pool.cpus + ROUNDING) for cpus in nodes))


class Numbers(Datasource):
    """The numbers ``start`` to ``stop``, counted by one task as they are needed: a row has the bounds of a block.

    The first blocks are of one batch, so that the first batch is soon there. The later ones are of ``block_batches``,
    and towards the end they are smaller again, so that no actor is left with the last one while the others are done.
    Of several readers, each is given as many batches in its turn, and between the bounds lie those of the others.

    ``ray.data.range`` would plan a task for each block before the first one runs, and blocks put beforehand are no
    better: 24 s and 60 s for a run of 288,000 examples.
    """

    ROW_BYTES = 16

    def __init__(
        self, start: int, stop: int, batch_size: int, block_batches: int = 1, actors: int = 1, readers: int = 1
    ) -> None:
        super().__init__()
        self.start, self.stop, self.batch_size = start, stop, batch_size
        self.block_batches, self.actors, self.readers = block_batches, actors, readers

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Yield the first number of each block, and the one after its last."""
        first, turns = self.start, 0
        while first < self.stop:
            batches = 1
            if turns >= FIRST_BATCHES:
                left = math.ceil((self.stop - first) / self.batch_size)
                batches = max(1, min(self.block_batches, left // self.readers, left // (2 * self.actors)))
            after = first + batches * self.batch_size * self.readers
            for reader in range(self.readers):
                others = self.readers - 1 - reader
                yield first + reader * self.batch_size, min(after - others * self.batch_size, self.stop)
            first, turns = after, turns + 1

    def estimate_inmemory_data_size(self) -> int:
        """Return the size of all rows in bytes, were each of them of one batch."""
        return self.ROW_BYTES * math.ceil((self.stop - self.start) / self.batch_size)

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        """Return the one task that counts."""
        blocks = self.blocks

        def count() -> Iterator[pa.Table]:
            for start, stop in blocks():
                yield pa.table({"start": [start], "stop": [stop]})

        rows = math.ceil((self.stop - self.start) / self.batch_size)
        size = BlockMetadata(
            num_rows=rows, size_bytes=self.estimate_inmemory_data_size(), input_files=None, exec_stats=None
        )
        return [ReadTask(count, size, schema=pa.schema([("start", pa.int64()), ("stop", pa.int64())]))]
