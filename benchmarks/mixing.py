"""What a mixture costs: Timbrel's pool of Ray actors against what a user would write without it.

The plain way is audiomentations' own classes, one after the other, in a torch ``Dataset`` that a ``DataLoader`` reads
with a worker a core. Both sides render the same plans of the recipe ``paper`` from the same library, in turn, round
after round; only ratios taken in one run mean anything.

    python benchmarks/mixing.py --library demo/bench_library

CPU time is that of all processes a side has started, Ray's own included, while a long stream is read: neither its
beginning nor its end is in it. Settings, each with its price:

    exact   audiomentations' sound; gains and filters in one pass, pitch and speed in one pass, headers read once
    fast    pitch and speed by a phase vocoder of ours; how it sounds: benchmarks/stretch_quality.py
    bank    pitch and speed rendered beforehand; disk, and a discrete set of them: timbrel prepare --bank
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import audiomentations
import numpy as np
import psutil
import ray
import soundfile
import torch
from tqdm import tqdm

from timbrel import markdown, registry
from timbrel.library import Library
from timbrel.mixing.effects import apply_frozen
from timbrel.mixing.index import StemIndex, build_index
from timbrel.mixing.plan import MixturePlan, SourcePlan, mixture_labels, plan_mixture
from timbrel.mixing.pool import Pool, Stream, mix, read_batches, stream_batches
from timbrel.mixing.recipe import Recipe
from timbrel.runtime import ray_session

BATCH = 16
EPOCH = 1920
"""Mixtures of an epoch in the paper."""
WARM_BATCHES = 12
"""Read before the clock starts, and still to come when it stops: what either side has made in advance cancels out."""
GOALS = {
    "cpu_ratio.exact": ">= 1.35",
    "cpu_ratio.fast": ">= 2.2",
    "cpu_ratio.bank": ">= 6",
    "first_batch_s": "<= 4",
    "two_actors_efficiency": ">= 0.9",
    "two_plain_workers_efficiency": "the machine's own",
    "whole_run_wall_ratio": "> 1",
}


# The plain way


@cache
def transforms() -> dict[str, Any]:
    """Return audiomentations' classes by the names of our plans."""
    return {
        "gain": audiomentations.Gain(p=1),
        "low_shelf": audiomentations.LowShelfFilter(p=1),
        "high_shelf": audiomentations.HighShelfFilter(p=1),
        "peaking": audiomentations.PeakingFilter(p=1),
        "pitch": audiomentations.PitchShift(p=1),
        "speed": audiomentations.TimeStretch(leave_length_unchanged=False, p=1),
    }


def plain_source(source: SourcePlan, index: StemIndex, recipe: Recipe) -> np.ndarray:
    """Render a source as a user would: read, then one transform after the other."""
    path = f"{index.root}/{index.paths[source.stem].as_py()}"
    first = round(source.start_s * recipe.sample_rate)
    audio, rate = soundfile.read(path, round(source.seconds * recipe.sample_rate), first, dtype="float32")
    if rate != recipe.sample_rate:
        raise SystemExit(f"{path} is at {rate} Hz, the recipe at {recipe.sample_rate} Hz: prepare another library.")
    if audio.ndim == 2:
        audio = audio.mean(axis=1)
    for name, parameters in source.effects:
        if name != "pitch_time":
            audio = apply_frozen(transforms()[name], audio, rate, **parameters)
            continue
        if parameters["semitones"]:
            audio = apply_frozen(transforms()["pitch"], audio, rate, num_semitones=parameters["semitones"])
        if parameters["rate"] != 1:
            audio = apply_frozen(transforms()["speed"], audio, rate, rate=parameters["rate"])
    audio = audio[: recipe.samples]
    return np.pad(audio, (0, recipe.samples - len(audio)))


class PlainDataset(torch.utils.data.Dataset):
    """What a user would write: one example an item, made in the DataLoader's workers."""

    def __init__(self, stream: Stream, index: StemIndex, examples: int) -> None:
        self.stream, self.index, self.examples = stream, index, examples

    def __len__(self) -> int:
        return self.examples

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        plan: MixturePlan = plan_mixture(self.index, self.stream.recipe, self.stream.seed, self.stream.name, number)
        audio = np.sum([plain_source(source, self.index, self.stream.recipe) for source in plan.sources], axis=0)
        return audio, mixture_labels(plan, self.index, self.stream.recipe)


def loader_batches(stream: Stream, index: StemIndex, examples: int, workers: int) -> Iterator[int]:
    """Yield the size of each of a DataLoader's batches."""
    dataset = PlainDataset(stream, index, examples)
    for audio, _ in torch.utils.data.DataLoader(dataset, batch_size=BATCH, num_workers=workers):
        yield len(audio)


def pool_batches(stream: Stream, examples: int, actors: int, cpus: float) -> Iterator[int]:
    """Yield the size of each of the pool's batches."""
    for batch in read_batches(stream_batches(stream, 0, examples, BATCH, Pool(actors, cpus)), BATCH):
        yield len(batch["number"])


# The clock


def cpu_times() -> dict[psutil.Process, float]:
    """Return the CPU time in s of this process and of all that it has started and that still run."""
    own = psutil.Process()
    found = {}
    for process in (own, *own.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:  # it has ended since it was listed
            continue
        found[process] = times.user + times.system
    return found


def cpu_seconds_since(before: dict[psutil.Process, float]) -> float:
    """Return the CPU time in s that the processes which run now have taken since ``before``.

    A side's workers outlive its measurement. What ended during it are workers of the side before: leaving them out
    matters, since Ray's take their time with them, and a sum over all processes would fall.
    """
    return sum(seconds - before.get(process, 0.0) for process, seconds in cpu_times().items())


def clocked(batches: Iterator[int], examples: int, note: Callable[[int], object]) -> dict[str, float]:
    """Read ``examples`` from the middle of a stream, and return their CPU and wall time in ms a mixture."""
    began = time.perf_counter()
    next(batches)
    first_batch_s = time.perf_counter() - began
    for _ in range(WARM_BATCHES - 1):
        next(batches)
    wall, before, count = time.perf_counter(), cpu_times(), 0
    while count < examples:
        size = next(batches)
        count += size
        note(size)
    cpu, wall = cpu_seconds_since(before), time.perf_counter() - wall
    for _ in batches:  # to its end: Ray complains of a stream that is left
        pass
    return {"cpu_ms": cpu / count * 1000, "wall_ms": wall / count * 1000, "first_batch_s": first_batch_s}


def whole_run(batches: Iterator[int], note: Callable[[int], object]) -> float:
    """Read all of a stream and return the wall time in s, start-up included."""
    began = time.perf_counter()
    for size in batches:
        note(size)
    return time.perf_counter() - began


# The runs


def sides(library: Library, workers: int, settings: list[str]) -> dict[str, Callable[[int], Iterator[int]]]:
    """Return for each side what starts a stream of so many examples."""
    task = registry.load("task", "multi_instrument")
    config = task.config_type()
    streams: dict[str, Callable[[int], Iterator[int]]] = {}
    index = build_index(library, "train", task, config)
    plain = Stream(None, config.mixing, 0, "train")
    streams["plain"] = lambda examples: loader_batches(plain, index, examples, workers)
    if "exact" in settings:
        streams["plain, 1 worker"] = lambda examples: loader_batches(plain, index, examples, 1)
    for setting in settings:
        recipe = dataclasses.replace(config.mixing, stretch=setting)
        own = build_index(library, "train", task, dataclasses.replace(config, mixing=recipe))
        stream = Stream(ray.put(own), recipe, 0, "train")
        streams[setting] = lambda examples, stream=stream: pool_batches(stream, examples, workers, 0.9)
        if setting == "exact":
            streams["exact, 1 actor"] = lambda examples, stream=stream: pool_batches(stream, examples, 1, 0.9)
    return streams


def measure(library: Library, settings: list[str], rounds: int, examples: int, whole: int) -> dict[str, Any]:
    """Return all figures."""
    found: dict[str, list[dict[str, float]]] = {}
    with ray_session():
        workers = int(ray.cluster_resources()["CPU"])
        streams = sides(library, workers, settings)
        length = examples + 2 * WARM_BATCHES * BATCH
        with tqdm(total=rounds * len(streams) * examples, unit="mixture", file=sys.stderr) as bar:
            for _ in range(rounds):
                for name, start in streams.items():
                    bar.set_description(name)
                    found.setdefault(name, []).append(clocked(start(length), examples, bar.update))
        alone = {}
        if whole:
            with tqdm(total=2 * whole, unit="mixture", desc="whole run", file=sys.stderr) as bar:
                alone = {name: whole_run(streams[name](whole), bar.update) for name in ("exact", "plain")}
        here = in_process(library, settings, min(examples, 480))
    return summary(found, alone, here) | {"workers": workers, "rounds": rounds, "examples": examples, "whole": whole}


def in_process(library: Library, settings: list[str], examples: int) -> dict[str, float]:
    """Return the CPU time of a mixture in ms without any Ray, in this process."""
    task = registry.load("task", "multi_instrument")
    config = task.config_type()
    figures = {}
    for setting in settings:
        recipe = dataclasses.replace(config.mixing, stretch=setting)
        index = build_index(library, "train", task, dataclasses.replace(config, mixing=recipe))
        stream = Stream(None, recipe, 0, "train")
        mix(stream, index, range(BATCH))
        began = time.process_time()
        for first in range(BATCH, BATCH + examples, BATCH):
            mix(stream, index, range(first, first + BATCH))
        figures[setting] = (time.process_time() - began) / examples * 1000
    return figures


def summary(
    found: dict[str, list[dict[str, float]]], alone: dict[str, float], here: dict[str, float]
) -> dict[str, Any]:
    """Return medians and ranges, and ratios taken round by round."""

    def middle(values: list[float]) -> dict[str, float]:
        return {"median": statistics.median(values), "low": min(values), "high": max(values)}

    figures: dict[str, Any] = {
        name: {key: middle([row[key] for row in rows]) for key in rows[0]} for name, rows in found.items()
    }
    ratios = {}
    for setting in here:
        for kind in ("cpu", "wall"):
            pairs = zip(found["plain"], found[setting], strict=True)
            ratios[f"{kind}_ratio.{setting}"] = middle([a[f"{kind}_ms"] / b[f"{kind}_ms"] for a, b in pairs])
        ratios[f"in_process_cpu_ms.{setting}"] = middle([here[setting]])
    if "exact" in found:
        for name, one, two in (
            ("two_actors_efficiency", "exact, 1 actor", "exact"),
            ("two_plain_workers_efficiency", "plain, 1 worker", "plain"),
        ):
            pairs = zip(found[one], found[two], strict=True)
            ratios[name] = middle([slow["wall_ms"] / fast["wall_ms"] / 2 for slow, fast in pairs])
        ratios["first_batch_s"] = figures["exact"]["first_batch_s"]
    if alone:
        ratios["whole_run_wall_ratio"] = middle([alone["plain"] / alone["exact"]])
    return {"sides": figures, "ratios": ratios, "whole_run_s": alone}


def table(figures: dict[str, Any]) -> str:
    """Return the figures for people: each side, each ratio beside its goal, the whole run, and what the bank costs."""

    def cell(value: dict[str, float], digits: int = 1) -> str:
        low, high = (f"{value[key]:.{digits}f}" for key in ("low", "high"))
        return f"{value['median']:.{digits}f} [{low}, {high}]"

    rounds, examples, workers = (figures[key] for key in ("rounds", "examples", "workers"))
    sides, ratios = figures["sides"], figures["ratios"]
    parts = [
        f"{rounds} rounds of {examples:,} mixtures, {workers} workers; median [range].",
        markdown.table(
            ["side", "CPU ms a mixture", "wall ms a mixture", "first batch, s"],
            [
                [name, *(cell(row[key]) for key in ("cpu_ms", "wall_ms", "first_batch_s"))]
                for name, row in sides.items()
            ],
        ),
        markdown.table(
            ["figure", "measured", "goal"],
            [[name, cell(value, 2), GOALS.get(name)] for name, value in ratios.items()],
        ),
    ]
    if figures["whole_run_s"]:
        both = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in figures["whole_run_s"].items())
        parts.append(f"One whole run of {figures['whole']:,} mixtures a side, start-up included: {both}.")
    for name, bank in figures["banks"].items() if {"exact", "bank"} <= set(sides) else ():
        saved = sides["exact"]["cpu_ms"]["median"] - sides["bank"]["cpu_ms"]["median"]
        epochs = bank["cpu_seconds"] * 1000 / saved / EPOCH
        parts.append(
            f"The bank of {name}: {bank['bytes'] / 1e9:.2f} GB, {bank['cpu_seconds']:.0f} s of CPU; against exact it "
            f"has paid for itself after {epochs:.1f} epochs of {EPOCH:,} mixtures."
        )
    return "\n\n".join(parts)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--library", type=Path, required=True, help="a prepared library, at the recipe's rate of 32 kHz"
    )
    parser.add_argument("--settings", nargs="+", choices=["exact", "fast", "bank"], help="all by default")
    parser.add_argument("--examples", type=int, default=EPOCH, help="mixtures a round and side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--whole", type=int, default=0, metavar="N", help="mixtures of one whole run a side; 0: none")
    parser.add_argument("--json", action="store_true", help="print figures for scripts")
    arguments = parser.parse_args()
    library = Library.open(arguments.library)
    banks = {name: bank for name in library.datasets if (bank := library.facts(name).get("bank"))}
    settings = arguments.settings or ["exact", "fast", *(["bank"] if len(banks) == len(library.datasets) else [])]
    figures = measure(library, settings, arguments.rounds, arguments.examples, arguments.whole)
    figures["banks"] = banks
    print(json.dumps(figures, indent=1) if arguments.json else table(figures))


if __name__ == "__main__":
    main()
