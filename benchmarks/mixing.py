"""How fast mixtures come: the pool of Ray actors against a PyTorch DataLoader that does the same work.

Both sides make the same examples of the recipe ``paper`` from the same library, in turn, round after round; only ratios
taken in one run mean anything. Neither side's start-up is counted: each is timed from its first batch on.

    python benchmarks/mixing.py --library demo/library
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import ray
import torch

from timbrel import registry
from timbrel.library import Library
from timbrel.mixing.index import StemIndex, build_index
from timbrel.mixing.pool import Pool, Stream, mix, read_batches, stream_batches
from timbrel.runtime import ray_session

BATCH = 16


class PlainDataset(torch.utils.data.Dataset):
    """What a user would write: one example an item, made in the DataLoader's workers."""

    def __init__(self, stream: Stream, index: StemIndex, examples: int) -> None:
        self.stream, self.index, self.examples = stream, index, examples

    def __len__(self) -> int:
        return self.examples

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        row = mix(self.stream, self.index, [number])
        return row["audio"][0], row["labels"][0]


def loader_batches(stream: Stream, index: StemIndex, examples: int, workers: int) -> Iterator[int]:
    """Yield the size of each of a DataLoader's batches."""
    dataset = PlainDataset(stream, index, examples)
    for audio, _ in torch.utils.data.DataLoader(dataset, batch_size=BATCH, num_workers=workers):
        yield len(audio)


def pool_batches(stream: Stream, examples: int, workers: int, cpus: float) -> Iterator[int]:
    """Yield the size of each of the pool's batches."""
    for batch in read_batches(stream_batches(stream, 0, examples, BATCH, Pool(workers, cpus))):
        yield len(batch["number"])


def rate(sizes: Iterable[int]) -> float:
    """Return mixtures a second of wall time, from the first batch on."""
    iterator = iter(sizes)
    next(iterator)
    started = time.perf_counter()
    count = sum(iterator)
    return count / (time.perf_counter() - started)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=Path, required=True, help="a prepared library")
    parser.add_argument("--examples", type=int, default=640, help="mixtures a round and side")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print figures for scripts")
    arguments = parser.parse_args()
    task = registry.load("task", "multi_instrument")
    config = task.config_type()
    index = build_index(Library.open(arguments.library), "train", task, config)
    pool_rates, loader_rates = [], []
    with ray_session():
        workers = int(ray.cluster_resources()["CPU"])
        stream = Stream(ray.put(index), config.mixing, 0, "train")
        plain = Stream(None, config.mixing, 0, "train")
        for number in range(arguments.rounds):
            pool_rates.append(rate(pool_batches(stream, arguments.examples, workers, 0.9)))
            loader_rates.append(rate(loader_batches(plain, index, arguments.examples, workers)))
            print(f"round {number + 1}: {pool_rates[-1]:.1f} and {loader_rates[-1]:.1f} mixtures/s", file=sys.stderr)
    ratios = [ours / theirs for ours, theirs in zip(pool_rates, loader_rates, strict=True)]
    figures = {
        "workers": workers,
        "pool_mixtures_per_s": statistics.median(pool_rates),
        "dataloader_mixtures_per_s": statistics.median(loader_rates),
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
    }
    if arguments.json:
        print(json.dumps(figures, indent=1))
        return
    print(f"{'':24} mixtures/s (median of {arguments.rounds} rounds of {arguments.examples}, {workers} workers)")
    print(f"{'Ray pool':24} {figures['pool_mixtures_per_s']:.1f}")
    print(f"{'PyTorch DataLoader':24} {figures['dataloader_mixtures_per_s']:.1f}")
    print(f"{'ratio':24} {figures['ratio']:.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
