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
from timbrel.mixing.scheduling import AHEAD_BATCHES, QUEUED, lead_gently

MIXER_RESOURCE = "mixer"
"""A custom resource that a cluster can give to the nodes on which mixing actors belong."""

ROUNDS = 4
"""In which a pool grows from its smallest to its largest size; an actor takes some seconds to start."""
ROUNDING = 1e-6
"""CPUs are counted in steps of 0.0001."""


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
    maker: type, stream: Any, start: int, stop: int, batch_size: int, batch_bytes: int, pool: Pool
) -> ray.data.Dataset:
    """Return the batches of examples ``start`` to ``stop`` as a dataset, a batch a row, in order, made as it is read.

    ``maker(stream)`` is made once in each actor, and called with ``{"number": int64 (example,)}`` for each batch; every
    value of what it returns has one row. Ray then neither cuts nor joins what the actors made.

    Raises:
        UserError: the cluster can't hold the pool.
    """
    check_room(pool)
    first = pool.least or _places(pool, _nodes())
    resources = _mixer_resource()
    # The counting asks for no CPU: had it to wait for one, a pool that fills the machine would never begin.
    dataset = ray.data.read_datasource(Numbers(start, stop, batch_size), num_cpus=0, override_num_blocks=1).map_batches(
        maker,
        fn_constructor_args=(stream,),
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(min_size=first, max_size=pool.actors, max_tasks_in_flight_per_actor=QUEUED),
        num_cpus=pool.cpus,
        **({"resources": resources} if resources else {}),
    )
    # Ray joins blocks up to this size. The numbers of one batch must stay a block, or one actor would be given all.
    dataset.context.target_max_block_size = 8 * batch_size
    dataset.context.execution_options = look_ahead(batch_bytes, pool)
    lead_gently(dataset, growth=math.ceil(max(1, pool.actors - first) / ROUNDS))
    return dataset


def look_ahead(batch_bytes: int, pool: Pool, readers: int = 1) -> ExecutionOptions:
    """Return the options that keep a dataset of such batches in order, and little ahead of those who read it."""
    batches = AHEAD_BATCHES * readers + QUEUED * pool.actors
    return ExecutionOptions(
        preserve_order=True, resource_limits=ExecutionResources(object_store_memory=batches * batch_bytes)
    )


def read_batches(rows: Any) -> Iterator[dict[str, np.ndarray]]:
    """Yield the batches of a dataset that ``numbered_batches`` made, or of a Train worker's shard of it."""
    # Ray Data gives the first row when one more than it prefetches is there.
    for row in rows.iter_batches(batch_size=1, prefetch_batches=1, batch_format="numpy"):
        yield {name: values[0] for name, values in row.items()}


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
    """The numbers ``start`` to ``stop``, a batch a block, counted by one task as they are needed.

    ``ray.data.range`` would plan a task for each block before the first one runs, and blocks put beforehand are no
    better: 24 s and 60 s for a run of 288,000 examples.
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
