"""What Ray adds to a mixture: CPU of all its processes, for batches of several sizes and a fast and a slow reader.

    python benchmarks/ray_overhead.py

The pool is the real one, but its actors make arrays of the right size instead of mixtures, so no library is needed.
CPU is that of every process of a Ray of this machine's own, from the third batch to the last, less what the actors'
rendering took. Ray costs something when it does nothing at all; that is measured first, and shown as a part of it.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import ray

from timbrel import markdown
from timbrel.mixing.actors import Pool, numbered_batches, read_batches
from timbrel.mixing.recipe import PAPER
from timbrel.runtime import ray_session

CLASSES = 11
WARM_UP = 2
"""Batches before the measurement."""
IDLE_S = 5.0
GOAL = "<= 2.5"
"""ms a mixture."""
READERS = ("plain", "split")
"""Read by ``iter_batches``, and as Ray Train does, through ``streaming_split``."""


class Blank:
    """An actor whose mixtures are a constant that takes ``render_ms`` of CPU each."""

    def __init__(self, render_ms: float) -> None:
        self.render_s = render_ms / 1000

    def __call__(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Return examples, with the CPU seconds that each took."""
        begin = time.thread_time()
        count = len(numbers)
        audio = np.full((count, PAPER.samples), 0.5, dtype=np.float32)
        while time.thread_time() < begin + count * self.render_s:
            pass
        labels = np.zeros((count, CLASSES), np.float32)
        spent = np.full(count, (time.thread_time() - begin) / count)
        return {"number": numbers, "audio": audio, "labels": labels, "spent": spent}


def cpu_seconds() -> dict[int, tuple[str, float]]:
    """Return name and CPU seconds of this process and all that it started, by process."""
    seconds = {}
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            words, times = process.cmdline(), process.cpu_times()
        except psutil.Error:  # it has ended, and its parent's children_user has it
            continue
        name = "reader" if process.pid == os.getpid() else words[0].split("/")[-1] if words else "?"
        if name.startswith("python"):  # one of Ray's services: the script says which
            name = next((word.split("/")[-1] for word in words if word.endswith(".py")), name)
        seconds[process.pid] = (name, sum(times[:4]))
    return seconds


def spent(before: dict[int, tuple[str, float]]) -> dict[str, float]:
    """Return the CPU seconds since then by name of process."""
    names: dict[str, float] = {}
    for pid, (name, seconds) in cpu_seconds().items():
        names[name] = names.get(name, 0.0) + seconds - before.get(pid, (name, 0.0))[1]
    return names


def measure(reader: str, batch: int, mixtures: int, slow_ms: float, render_ms: float, actors: int) -> dict[str, Any]:
    """Read so many mixtures and return ms of CPU and mixtures a second, by wall."""
    batch_bytes = 4 * batch * PAPER.samples
    begin = time.perf_counter()
    dataset = numbered_batches(Blank, render_ms, 0, mixtures, batch, batch_bytes, Pool(actors, 0.4))
    rows = dataset.streaming_split(1)[0] if reader == "split" else dataset
    rendered, count = 0.0, 0
    for number, made in enumerate(read_batches(rows, batch)):
        if number == 0:
            first_s = time.perf_counter() - begin
        if number == WARM_UP:
            cpu, wall, rendered, count = cpu_seconds(), time.perf_counter(), 0.0, 0
        rendered += float(made["spent"].sum())
        count += batch
        time.sleep(slow_ms / 1000 * batch)
        if number == mixtures // batch - 1:
            names, seconds = spent(cpu), time.perf_counter() - wall
    return {
        "ray_ms": 1000 * (sum(names.values()) - rendered) / count,
        "mixtures_per_s": count / seconds,
        "first_batch_s": first_s,
        "processes_ms": {name: 1000 * value / count for name, value in names.items() if value > 0},
    }


def cases(arguments: argparse.Namespace) -> Iterator[tuple[str, int, float]]:
    """Yield reader, batch size and ms that the reader takes for a mixture."""
    for slow_ms in (0.0, arguments.slow_ms):
        for reader in READERS:
            for batch in arguments.batches:
                yield reader, batch, slow_ms


def table(figures: dict[str, Any]) -> str:
    """Return the figures for people: medians, a row a case."""
    rows = []
    for case in figures["cases"]:
        ray_ms, idle_ms, per_s, first_s = (
            statistics.median(each[name] for each in case["rounds"])
            for name in ("ray_ms", "idle_ms", "mixtures_per_s", "first_batch_s")
        )
        takes = f"{case['slow_ms']:g} ms"
        figures_of = (f"{ray_ms:.2f}", GOAL, f"{idle_ms:.2f}", f"{per_s:.0f}", f"{first_s:.1f}")
        rows.append([case["reader"], takes, case["batch"], *figures_of])
    head = ["reader", "takes", "batch", "ms a mixture", "goal", "of it at rest", "mixtures/s", "first batch, s"]
    rounds = len(figures["cases"][0]["rounds"])
    return (
        f"CPU that Ray adds to a mixture, median of {rounds} rounds (Ray at rest takes "
        f"{100 * figures['idle_cores']:.1f} % of a core).\n\n{markdown.table(head, rows)}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 32, 64], metavar="N", help="mixtures a batch")
    parser.add_argument("--mixtures", type=int, default=3200, help="to read at full speed in each round and case")
    parser.add_argument("--slow-ms", type=float, default=20.0, help="that a slow reader takes for a mixture")
    parser.add_argument("--slow-mixtures", type=int, default=960, help="to read slowly in each round and case")
    parser.add_argument("--render-ms", type=float, default=0.0, help="of CPU that the actors take for a mixture")
    parser.add_argument("--actors", type=int, default=1, help="in the pool")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print figures for scripts")
    arguments = parser.parse_args()
    results: dict[tuple[str, int, float], list[dict[str, Any]]] = {}
    with ray_session():
        measure("split", 16, 160, 0.0, 0.0, 1)  # Ray Data starts some processes of its own the first time
        before = cpu_seconds()
        time.sleep(IDLE_S)
        idle = sum(spent(before).values()) / IDLE_S
        for _ in range(arguments.rounds):
            for case in cases(arguments):
                reader, batch, slow_ms = case
                mixtures = batch * round((arguments.slow_mixtures if slow_ms else arguments.mixtures) / batch)
                figures = measure(reader, batch, mixtures, slow_ms, arguments.render_ms, arguments.actors)
                figures["idle_ms"] = 1000 * idle / figures["mixtures_per_s"]
                results.setdefault(case, []).append(figures)
                print(f"{reader}, {batch}, {slow_ms:g} ms: {figures['ray_ms']:.2f} ms", file=sys.stderr)
        ray.shutdown()
    rows = [
        {"reader": reader, "batch": batch, "slow_ms": slow_ms, "rounds": rounds}
        for (reader, batch, slow_ms), rounds in results.items()
    ]
    figures = {"idle_cores": idle, "cases": rows}
    print(json.dumps(figures, indent=1) if arguments.json else table(figures))


if __name__ == "__main__":
    main()
