"""How many mixtures a second a pool makes, by actors, nodes and size of block; and the CPU that each process takes.

An actor's work is either a rest of given length, so that more actors than cores can be tried, or real mixing. What Ray
adds is fitted for each kind of process as so much a mixture, so much a block and so much a second. The batches are read
as Ray Train reads them, by one reader: the clock runs while every block has its full size.
"""

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from scipy.optimize import nnls

from benchmarks.memory import memory, synthetic_index
from benchmarks.ray_overhead import CLASSES, cpu_seconds, spent
from timbrel.mixing import actors as pool_module
from timbrel.mixing.actors import Pool, numbered_batches, read_batches
from timbrel.mixing.pool import Stream, mix
from timbrel.mixing.recipe import PAPER
from timbrel.mixing.scheduling import AHEAD_BATCHES, FIRST_BATCHES, queued_blocks
from timbrel.runtime import ray_session

BATCH = 16
ACTORS = (1, 2, 4)
BLOCKS = (16, 64)
"""Mixtures a block."""
NODES = (1, 2, 4)
REST_MS = 10.0
"""That a mixture takes where an actor rests."""
WINDOW_S = 5.0
"""For which a case is measured, about."""
FASTEST = 2_000.0
"""Mixtures a second that are expected where no actor has anything to do."""
REAL_MS = 20.0
"""That a real mixture takes, about."""
SONGS = 100
"""From which real mixtures are made."""
ROLES = {"reader": "reader", "ray::SplitCoordinator": "leader", "ray::MapWorker": "actors"}
"""Beginnings of processes' names; all others are Ray's own."""
PARTS = ("reader", "leader", "actors", "others")


class Rest:
    """An actor whose mixtures are a constant, and take time but no CPU."""

    def __init__(self, rest_ms: float) -> None:
        self.rest_s = rest_ms / 1000

    def __call__(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Return examples, and the s of CPU that each took: hardly any."""
        count, begin = len(numbers), time.thread_time()
        time.sleep(count * self.rest_s)
        made = {
            "number": numbers,
            "song": np.zeros(count, np.int64),
            "audio": np.full((count, PAPER.samples), 0.5, dtype=np.float32),
            "labels": np.zeros((count, CLASSES), np.float32),
        }
        return made | {"worked_s": np.full(count, (time.thread_time() - begin) / count)}


class Mix:
    """An actor that mixes."""

    def __init__(self, stream: Stream) -> None:
        self.stream, self.index = stream, ray.get(stream.index)

    def __call__(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Return examples, and the s of CPU that each took."""
        begin = time.thread_time()
        made = mix(self.stream, self.index, numbers)
        return made | {"worked_s": np.full(len(numbers), (time.thread_time() - begin) / len(numbers))}


def measure(
    maker: type, work: Any, rest_ms: float, actors: int, block: int, window_s: float, cpus: float = 0.4
) -> dict[str, Any]:
    """Read a stream and return mixtures a second by wall, ms of CPU a mixture by kind of process, MB held."""
    pool_module.BLOCK_EXAMPLES = block
    block_batches = block // BATCH
    expected = min(FASTEST, 1000 * actors / rest_ms if rest_ms else FASTEST)
    # Neither the small blocks at the beginning nor those at the end are measured, nor what is ahead at either.
    ahead = AHEAD_BATCHES + queued_blocks(block_batches) * block_batches * actors
    first = FIRST_BATCHES + block_batches
    last = first + max(4 * block_batches, round(window_s * expected / BATCH))
    total = last + max(ahead, 2 * actors * block_batches)
    batch_bytes = 4 * BATCH * PAPER.samples
    pool = Pool(actors, cpus)
    dataset = numbered_batches(maker, work, 0, total * BATCH, BATCH, batch_bytes, pool)
    worked_s, held_mb = 0.0, 0.0
    for number, batch in enumerate(read_batches(dataset.streaming_split(1)[0], BATCH)):
        if first < number <= last:
            worked_s += float(batch["worked_s"].sum())
        if number == first:
            cpu, wall = cpu_seconds(), time.perf_counter()
        if number == last:
            processes, seconds = spent(cpu), time.perf_counter() - wall
            held_mb = memory()["store_mb"]
    mixtures = (last - first) * BATCH
    parts = dict.fromkeys(PARTS, 0.0)
    for name, value in processes.items():
        role = next((role for beginning, role in ROLES.items() if name.startswith(beginning)), "others")
        parts[role] += 1000 * max(0.0, value) / mixtures
    worked_ms = 1000 * worked_s / mixtures
    parts["actors"] = max(0.0, parts["actors"] - worked_ms)
    return {
        "actors": actors,
        "block": block,
        "rest_ms": rest_ms if maker is Rest else 0.0,
        "work_ms": worked_ms,
        "mixtures_per_s": mixtures / seconds,
        "cpu_ms": parts,
        "held_mb": held_mb,
        "held_at_most_mb": ahead * batch_bytes / 1e6,
    }


def fit(cases: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return what Ray takes by kind of process: ms of CPU a mixture and a block, and cores while a stream runs."""
    terms = np.array([[1.0, 1 / case["block"], 1000 / case["mixtures_per_s"]] for case in cases])
    fitted = {}
    for part in PARTS:
        solution, _ = nnls(terms, np.array([case["cpu_ms"][part] for case in cases]))
        fitted[part] = dict(zip(("mixture_ms", "block_ms", "cores"), map(float, solution), strict=True))
    return fitted


def example_bytes() -> float:
    """Return the bytes that a mixture takes in the object store, as Ray Data counts them."""
    dataset = numbered_batches(Rest, 0.0, 0, 10 * BATCH, BATCH, 4 * BATCH * PAPER.samples, Pool(1, 0.4))
    return sum(bundle.size_bytes() for bundle in dataset.iter_internal_ref_bundles()) / (10 * BATCH)


def measure_actors(window_s: float, actors: Sequence[int] = ACTORS) -> list[dict[str, Any]]:
    """Return the cases of actors that rest, on a Ray of this machine's own."""
    cases = []
    for rest_ms in (0.0, REST_MS):
        for block in BLOCKS:
            for count in actors:
                cases.append(measure(Rest, rest_ms, rest_ms, count, block, window_s))
                _say(cases[-1])
    return cases


def measure_mixing(window_s: float, actors: Sequence[int] = ACTORS) -> list[dict[str, Any]]:
    """Return the cases of actors that mix."""
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        work = Stream(ray.put(synthetic_index(Path(folder), SONGS)), PAPER, 0, "train")
        for count in actors:
            cases.append(measure(Mix, work, REAL_MS, count, BLOCKS[-1], window_s))
            _say(cases[-1])
    return cases


def measure_nodes(window_s: float, nodes: Sequence[int] = NODES) -> list[dict[str, Any]]:
    """Return the cases of as many actors as the most nodes, over some Ray nodes on this machine; the reader is on
    another, without CPUs for actors."""
    cases = []
    for count in nodes:
        with cluster(count, max(nodes) // count), ray_session():
            case = measure(Rest, REST_MS, REST_MS, max(nodes), BLOCKS[-1], window_s, cpus=1)
            cases.append({"nodes": count, **case})
            _say(cases[-1])
    return cases


@contextlib.contextmanager
def cluster(nodes: int, cpus: int) -> Iterator[None]:
    """Start a head without CPUs and so many nodes; ``ray_session`` joins them."""
    from ray.cluster_utils import Cluster

    store = {"object_store_memory": 500 * 2**20}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **store})
    try:
        for _ in range(nodes):
            made.add_node(num_cpus=cpus, **store)
        made.wait_for_nodes()
        os.environ["RAY_ADDRESS"] = made.address
        yield
    finally:
        os.environ.pop("RAY_ADDRESS", None)
        made.shutdown()


def _say(case: dict[str, Any]) -> None:
    where = f"{case['nodes']} nodes, " if "nodes" in case else ""
    print(f"{where}{case['actors']} actors, blocks of {case['block']}: {case['mixtures_per_s']:.0f}/s", file=sys.stderr)
