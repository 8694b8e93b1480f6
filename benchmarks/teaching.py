"""What it costs to be taught: a training step with a teacher's embeddings against the plain one, and the store's reads.

    python benchmarks/teaching.py [--library DIR --teacher NAME]

Step: the same student on the same batches of 16 clips of 10 s, in one process, with and without the regulariser; the
embeddings lie ready, ten vectors a clip. All sides take their turn in every round.

Store (with --library, whose data sets have the embeddings NAME): CPU time to make an example with its embeddings and
without, beside the time of a training step. The trainer waits if the actors need longer for a batch than it for a step.
"""

import argparse
import itertools
import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from timbrel import markdown, registry
from timbrel.config import with_values
from timbrel.library import Library
from timbrel.mixing.index import build_index
from timbrel.mixing.pool import mix
from timbrel.settings import Experiment
from timbrel.task import Task
from timbrel.teaching.teacher import teacher_of
from timbrel.training.loop import Learner
from timbrel.training.run import training_stream

BATCH, FRAMES = 16, 10
DIMENSIONS = (128, 768)
"""Of VGGish's and PaSST's embeddings."""
SYSTEMS = ("baseline", "final", "all", "cos_diff", "kd", "east_kd")
GOAL = "<= 1.15"
EXAMPLES = 160
"""Made a round, to time the store."""


def learner_of(task: Task, config: Experiment, dimension: int) -> Learner:
    """Return a student with its teacher, whose classifier is at random."""
    classes = len(task.classes(config))
    head = {"weight": torch.randn(classes, dimension), "bias": torch.zeros(classes)}
    return Learner(task, config, torch.device("cpu"), teacher=teacher_of(task, config, head, None))


def step_figures(student: str, dimension: int, rounds: int, steps: int) -> dict[str, Any]:
    """Return the time of a step in ms of each system, and its ratio to the plain one."""
    task = registry.load("task", "clip_tagging")
    values = {**task.presets["small"], "student": student, "teacher.name": "t", "teacher.head": "random"}
    base = with_values(task.config_type(), values)
    generator = np.random.default_rng(0)
    batches = [
        {
            "audio": generator.normal(scale=0.1, size=(BATCH, base.mixing.samples)).astype(np.float32),
            "labels": generator.choice([0, 1, np.nan], size=(BATCH, 20), p=[0.06, 0.04, 0.9]).astype(np.float32),
            "teacher": generator.normal(size=(BATCH, FRAMES, dimension)).astype(np.float32),
        }
        for _ in range(steps)
    ]
    learners = {name: learner_of(task, with_values(base, {"system": name}), dimension) for name in SYSTEMS}
    for learner in learners.values():
        learner.train_epoch(batches[:2])
    times: dict[str, list[float]] = {name: [] for name in SYSTEMS}
    with tqdm(total=rounds * len(SYSTEMS), unit="side", file=sys.stderr, desc=f"{student}, {dimension}") as bar:
        for _, (name, learner) in itertools.product(range(rounds), learners.items()):
            begin = time.perf_counter()
            learner.train_epoch(batches)
            times[name].append((time.perf_counter() - begin) / steps * 1000)
            bar.update()
    plain = times["baseline"]
    return {
        name: {"ms": spread(own), "ratio": spread([a / b for a, b in zip(own, plain, strict=True)])}
        for name, own in times.items()
    }


def store_figures(library: Library, teacher: str, rounds: int) -> dict[str, Any]:
    """Return the CPU time in ms to make an example with embeddings and without."""
    task = registry.load("task", "clip_tagging")
    values = {**task.presets["small"], "system": "final", "teacher.name": teacher}
    config = with_values(task.config_type(), values)
    index = build_index(library, "train", task, config)
    taught = training_stream(task, config, library, index)
    sides = {"audio": replace(taught, embeddings=None), "audio and embeddings": taught}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for stream in sides.values():
        mix(stream, index, range(EXAMPLES))  # reads from disk what is read once
    for number, (name, stream) in itertools.product(range(rounds), sides.items()):
        begin = time.process_time()
        mix(stream, index, range(number * EXAMPLES, (number + 1) * EXAMPLES))
        times[name].append((time.process_time() - begin) / EXAMPLES * 1000)
    return {name: spread(own) for name, own in times.items()}


def spread(values: list[float]) -> dict[str, float]:
    """Return median and range."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def table(figures: dict[str, Any]) -> str:
    """Return the figures for people."""

    def cell(value: dict[str, float], digits: int) -> str:
        low, high = (f"{value[key]:.{digits}f}" for key in ("low", "high"))
        return f"{value['median']:.{digits}f} [{low}, {high}]"

    rows = [
        [side, name, cell(row["ms"], 1), cell(row["ratio"], 3) if name != "baseline" else "1"]
        for side, systems in figures["step"].items()
        for name, row in systems.items()
    ]
    parts = [
        f"{figures['rounds']} rounds of {figures['steps']} steps, batches of {BATCH}, {figures['threads']} threads; "
        f"median [range]. Goal of the ratio: {GOAL}.",
        markdown.table(["student, dimension", "system", "ms a step", "÷ baseline"], rows),
    ]
    if "store" in figures:
        made = [[name, cell(row, 2), f"{row['median'] * BATCH:.1f}"] for name, row in figures["store"].items()]
        parts.append(markdown.table(["an example has", "CPU ms an example", "CPU ms a batch"], made))
    return "\n\n".join(parts)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=Path, help="a prepared library of clips with embeddings")
    parser.add_argument("--teacher", default="musicnn", help="name of the embeddings")
    parser.add_argument("--students", nargs="+", default=["small"], help="small, mobile_fcn or cp_resnet")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="training steps a round and side")
    parser.add_argument("--json", action="store_true", help="print figures for scripts")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {
        "rounds": arguments.rounds,
        "steps": arguments.steps,
        "threads": torch.get_num_threads(),
        "step": {
            f"{student}, {dimension}": step_figures(student, dimension, arguments.rounds, arguments.steps)
            for student, dimension in itertools.product(arguments.students, DIMENSIONS)
        },
    }
    if arguments.library:
        figures["store"] = store_figures(Library.open(arguments.library), arguments.teacher, arguments.rounds)
    print(json.dumps(figures, indent=1) if arguments.json else table(figures))


if __name__ == "__main__":
    main()
