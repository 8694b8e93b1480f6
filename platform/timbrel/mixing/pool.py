"""The mixing pool: a stream of numbered mixtures over a pool of Ray actors.

A stream is one numbered sequence for a whole run. Epochs are slices of it, a resumed run starts it at a later number,
and the rows come in order. Since a mixture is a pure function of its number, any number of actors, and a block that is
computed twice after a crash, give the same rows.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import ray.data
from ray.data._internal.datasource.range_datasource import RangeDatasource

from timbrel.mixing.index import StemIndex
from timbrel.mixing.plan import mixture_labels, plan_mixture
from timbrel.mixing.recipe import Recipe
from timbrel.mixing.render import render_mixture


@dataclass(frozen=True)
class Stream:
    """Which sequence of mixtures: everything that the example with a given number depends on."""

    index: Any
    """A ``StemIndex``, or a reference to one in Ray's object store."""
    recipe: Recipe
    seed: int
    name: str
    """``train``, ``valid`` or ``test``."""


class Mixer:
    """One actor of the pool: numbers in, mixtures out."""

    def __init__(self, stream: Stream, start: int = 0) -> None:
        self.stream = stream
        self.start = start
        self.index: StemIndex = ray.get(stream.index) if isinstance(stream.index, ray.ObjectRef) else stream.index

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return mix(self.stream, self.index, self.start + batch["number"])


def mix(stream: Stream, index: StemIndex, numbers: Iterable[int]) -> dict[str, np.ndarray]:
    """Return the examples with the given numbers.

    ``number`` int64 ``(example,)``, ``audio`` float32 ``(example, sample)``, ``labels`` float32 ``(example, class)``.
    """
    plans = [plan_mixture(index, stream.recipe, stream.seed, stream.name, int(number)) for number in numbers]
    return {
        "number": np.array([plan.number for plan in plans], dtype=np.int64),
        "audio": np.stack([render_mixture(plan, index, stream.recipe) for plan in plans]),
        "labels": np.stack([mixture_labels(plan, index, stream.recipe) for plan in plans]),
    }


BLOCK = 16
"""Mixtures a task of the pool makes at once: larger blocks cost less of Ray's time each, and come later."""
SOURCE_CPUS = 0.01
"""Asked for by the tasks that only count: had they to wait for a whole CPU, a pool that fills a machine would hang it."""


def stream_dataset(stream: Stream, start: int, stop: int, mixers: int, mixer_cpus: float) -> ray.data.Dataset:
    """Return examples ``start`` to ``stop`` of a stream as a dataset, in order, mixed by a pool of actors as it is read."""
    numbers = RangeDatasource(n=stop - start, block_format="arrow", column_name="number")
    dataset = ray.data.read_datasource(
        numbers, override_num_blocks=max(1, (stop - start) // BLOCK), ray_remote_args={"num_cpus": SOURCE_CPUS}
    ).map_batches(
        Mixer,
        fn_constructor_args=(stream, start),
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(size=mixers),
        num_cpus=mixer_cpus,
    )
    dataset.context.execution_options.preserve_order = True
    return dataset


def collect(stream: Stream, examples: int, mixers: int, mixer_cpus: float) -> dict[str, np.ndarray]:
    """Return the first ``examples`` examples of a stream, all at once: an evaluation set."""
    batches = list(stream_dataset(stream, 0, examples, mixers, mixer_cpus).iter_batches(batch_size=None))
    return {name: np.concatenate([batch[name] for batch in batches]) for name in ("number", "audio", "labels")}
