"""What the constant-Q front end costs: librosa, as the mixing processes compute it, against torch, as a model does.

    python benchmarks/cqt.py

Both engines make the pictures of the same segments of 10 s at 16 kHz, with one core and with all. Every side takes its
turn in each round. On all cores torch has as many threads, and librosa, which has none, as many processes. librosa
builds its filters anew for each call, so several segments a call are another matter for it as well. CPU is that of all
threads and processes; nothing else should run meanwhile, as threads spin while they wait for each other. The music is
composed by ``house_band``, or rendered from MIDI files (``--midi``).
"""

import argparse
import itertools
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from timbrel import markdown, registry
from timbrel.cqt import CqtConfig, cqt_db
from timbrel.models.cqt import Cqt
from timbrel.sources.house_band import HouseBandOptions
from timbrel.sources.midi import MidiOptions

RATE_HZ = 16_000
SECONDS = 10
CONFIG = CqtConfig()
BATCHES = (1, 8)
"""Segments a call."""
UPPER = 0.5
"""Pictures above this are within 40 dB of the loudest bin."""

Side = Callable[[np.ndarray], tuple[np.ndarray, float]]
"""From segments ``(segment, sample)`` to pictures and the CPU seconds they took."""


def music(segments: int, midi: Path | None) -> np.ndarray:
    """Return the second 10 s of so many songs, all stems together: ``(segment, sample)``."""
    options: dict[str, Any] = {"sample_rate": RATE_HZ}
    if midi is None:
        found = registry.load("source", "house_band").find(
            None, HouseBandOptions(songs=segments, seconds=3 * SECONDS, **options)
        )
    else:
        found = registry.load("source", "midi").find(midi, MidiOptions(max_seconds=2 * SECONDS, **options))
    mixes = (sum(stem.perform().audio[0] for stem in song.stems) for song in found.songs)
    seconds = (mix[SECONDS * RATE_HZ : 2 * SECONDS * RATE_HZ] for mix in mixes)
    whole = (segment for segment in seconds if len(segment) == SECONDS * RATE_HZ and segment.any())
    taken = list(itertools.islice(whole, segments))
    if not taken:
        raise SystemExit(f"no song at '{midi}' lasts {2 * SECONDS} s: give a folder of longer ones.")
    return np.stack(taken).astype(np.float32)


def by_librosa(segments: np.ndarray, batch: int) -> tuple[np.ndarray, float]:
    """Make pictures with so many segments a call."""
    began = time.process_time()
    pictures = [cqt_db(segments[i : i + batch], RATE_HZ, CONFIG) for i in range(0, len(segments), batch)]
    return np.concatenate(pictures), time.process_time() - began


def by_torch(model: Cqt, segments: np.ndarray, batch: int, threads: int, device: str) -> tuple[np.ndarray, float]:
    """Make pictures with so many segments a call and so many threads; to the device and back counts."""
    torch.set_num_threads(threads)
    began = time.process_time()
    with torch.inference_mode():
        waveforms = torch.from_numpy(segments).split(batch)
        pictures = torch.cat([model(waveform.to(device)).cpu() for waveform in waveforms])
    return pictures.numpy(), time.process_time() - began


def _ready(barrier: Any, segments: np.ndarray) -> None:
    by_librosa(segments, 1)
    barrier.wait()


@contextmanager
def all_sides(cores: int) -> Iterator[dict[str, tuple[str, int, Side]]]:
    """Yield what is compared: where it runs, segments a call, and what makes the pictures, by name."""
    model = Cqt(CONFIG, RATE_HZ)
    context = multiprocessing.get_context("spawn")
    blank = np.zeros((1, SECONDS * RATE_HZ), np.float32)
    with context.Pool(cores, _ready, (context.Barrier(cores), blank)) as processes:

        def in_processes(segments: np.ndarray, batch: int) -> tuple[np.ndarray, float]:
            parts = np.array_split(segments, min(cores, len(segments)))
            made = processes.starmap(by_librosa, [(part, batch) for part in parts], chunksize=1)
            return np.concatenate([pictures for pictures, _ in made]), sum(cpu for _, cpu in made)

        sides: dict[str, tuple[str, int, Side]] = {}
        for count, batch in itertools.product(sorted({1, cores}), BATCHES):
            where = f"{count} core{'s'[: count > 1]}"
            of = f"{batch} a call, {where}"
            alone = by_librosa if count == 1 else in_processes
            sides[f"librosa, {of}"] = (where, batch, lambda segments, batch=batch, way=alone: way(segments, batch))
            sides[f"torch, {of}"] = (
                where,
                batch,
                lambda segments, batch=batch, count=count: by_torch(model, segments, batch, count, "cpu"),
            )
        if torch.cuda.is_available():
            on_gpu = Cqt(CONFIG, RATE_HZ).to("cuda")
            for batch in BATCHES:
                sides[f"torch, {batch} a call, GPU"] = (
                    "GPU",
                    batch,
                    lambda segments, batch=batch: by_torch(on_gpu, segments, batch, 1, "cuda"),
                )
        yield sides


def middle(values: list[float]) -> dict[str, float]:
    """Return median and range."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def measure(segments: np.ndarray, rounds: int, cores: int) -> dict[str, Any]:
    """Return costs of each side in ms a segment, ratios to librosa round by round, and how far pictures differ."""
    found: dict[str, dict[str, list[float]]] = {}
    threads = torch.get_num_threads()
    with all_sides(cores) as sides:
        pictures = {name: make(segments)[0] for name, (*_, make) in sides.items()}  # and all is warm
        for _ in tqdm(range(rounds), unit="round"):
            for name, (*_, make) in sides.items():
                began = time.perf_counter()
                cpu_s = make(segments)[1]
                wall_s = time.perf_counter() - began
                costs = found.setdefault(name, {"cpu_ms": [], "wall_ms": []})
                costs["cpu_ms"].append(1000 * cpu_s / len(segments))
                costs["wall_ms"].append(1000 * wall_s / len(segments))
        torch.set_num_threads(threads)
        ratios = {
            f"{cost.removesuffix('_ms')}_ratio.{name.removeprefix('torch, ')}": middle(
                [librosa / other for librosa, other in zip(found[reference][cost], found[name][cost], strict=True)]
            )
            for name in sides
            if (reference := name.replace("torch", "librosa")) != name and reference in sides
            for cost in ("cpu_ms", "wall_ms")
        }
        rows = {
            name: {"where": where, "batch": batch, **{cost: middle(values) for cost, values in found[name].items()}}
            for name, (where, batch, _) in sides.items()
        }
    return {
        "segments": len(segments),
        "rounds": rounds,
        "sides": rows,
        "ratios": ratios,
        "agreement": {
            name: agreement(pictures["librosa, 1 a call, 1 core"], made)
            for name, made in pictures.items()
            if name.startswith("torch, 1 a call, 1 core") or name.endswith("GPU")
        },
    }


def agreement(reference: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Return how alike two sets of pictures are, ``(segment, bin, frame)`` each."""
    difference = np.abs(reference - other)
    each = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(reference, other, strict=True)]
    return {
        "correlation": float(np.corrcoef(reference.ravel(), other.ravel())[0, 1]),
        "least_correlation": float(min(each)),
        "difference": float(difference.mean()),
        "difference_upper": float(difference[reference > UPPER].mean()),
        "largest_difference": float(difference.max()),
    }


def table(figures: dict[str, Any]) -> str:
    """Return the figures for people: costs a side, ratios, and how far the engines differ."""

    def cell(value: dict[str, float], digits: int = 1) -> str:
        return f"{value['median']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"

    costs = markdown.table(
        ["side", "CPU ms a segment", "wall ms a segment"],
        [[name, cell(row["cpu_ms"]), cell(row["wall_ms"])] for name, row in figures["sides"].items()],
    )
    ratios = markdown.table(
        ["librosa / torch", "measured"], [[name, cell(value, 2)] for name, value in figures["ratios"].items()]
    )
    floor = CONFIG.floor_db
    alike = markdown.table(
        ["against librosa", "correlation", "of the least alike", "difference, dB", "above -40 dB", "largest"],
        [
            [
                name,
                *(f"{row[key]:.4f}" for key in ("correlation", "least_correlation")),
                *(f"{floor * row[key]:.2f}" for key in ("difference", "difference_upper")),
                f"{floor * row['largest_difference']:.0f}",
            ]
            for name, row in figures["agreement"].items()
        ],
    )
    head = f"{figures['rounds']} rounds of {figures['segments']} segments of {SECONDS} s; median [range]."
    return "\n\n".join([head, costs, ratios, alike])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--midi", type=Path, help="folder of MIDI files to render instead of composed songs")
    parser.add_argument("--segments", type=int, default=0, help="default: a full call for every core, at least 16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)), help="that are all cores")
    parser.add_argument("--json", action="store_true", help="print figures for scripts")
    arguments = parser.parse_args()
    segments = arguments.segments or max(16, max(BATCHES) * arguments.cores)
    figures = measure(music(segments, arguments.midi), arguments.rounds, arguments.cores)
    print(json.dumps(figures, indent=1) if arguments.json else table(figures))


if __name__ == "__main__":
    main()
