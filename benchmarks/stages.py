"""Where the time of a mixture goes: CPU time by stage, in one process, without Ray.

    python benchmarks/stages.py --library demo/bench_library

The plain way (see ``benchmarks/mixing.py``) and the three settings of ``mixing.stretch`` render the same plans of the
recipe ``paper``. A stage's time is what is spent in its functions; *the rest* is planning, adding up and the like.
"""

import argparse
import dataclasses
import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from audiomentations import Gain, HighShelfFilter, LowShelfFilter, PeakingFilter, PitchShift, TimeStretch

from benchmarks.mixing import PlainDataset
from timbrel import markdown, registry
from timbrel.library import Library
from timbrel.mixing import plan as planning
from timbrel.mixing import render
from timbrel.mixing.effects import FastPitchTime, Filters, PitchTime
from timbrel.mixing.index import build_index
from timbrel.mixing.plan import plan_mixture
from timbrel.mixing.pool import Stream, mix

STAGES: dict[str, list[tuple[Any, str]]] = {
    "reading": [(render, "read_chunk"), (soundfile, "read")],
    "pitch and speed": [(PitchTime, "apply"), (FastPitchTime, "apply"), (PitchShift, "apply"), (TimeStretch, "apply")],
    "gain and filters": [
        (Filters, "apply"),
        *((kind, "apply") for kind in (Gain, LowShelfFilter, HighShelfFilter, PeakingFilter)),
    ],
}


class Clock:
    """Times functions while they are replaced by themselves with a stopwatch."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.originals: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> "Clock":
        for stage, places in STAGES.items():
            for home, name in places:
                original = getattr(home, name)
                self.originals.append((home, name, original))
                setattr(home, name, self._timed(stage, original))
        return self

    def __exit__(self, *_: object) -> None:
        for home, name, original in self.originals:
            setattr(home, name, original)

    def _timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            began = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds[stage] += time.process_time() - began

        return run


def profile(make: Callable[[int], object], examples: int) -> dict[str, float]:
    """Return the CPU time of each stage in ms a mixture."""
    for number in range(50):
        make(number)  # compiled code and open files are not what is measured
    with Clock() as clock:
        began = time.process_time()
        for number in range(50, 50 + examples):
            make(number)
        total = time.process_time() - began
    stages = {stage: clock.seconds[stage] / examples * 1000 for stage in STAGES}
    return {**stages, "the rest": total / examples * 1000 - sum(stages.values()), "all": total / examples * 1000}


def table(figures: dict[str, dict[str, float]]) -> str:
    """Return the figures for people: a row a stage, a column a way to mix."""
    stages = next(iter(figures.values()))
    rows = ([stage, *(f"{way[stage]:.2f}" for way in figures.values())] for stage in stages)
    return markdown.table(["CPU ms a mixture", *figures], rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--library", type=Path, required=True, help="a prepared library, at the recipe's rate of 32 kHz"
    )
    parser.add_argument("--examples", type=int, default=400)
    parser.add_argument("--json", action="store_true", help="print figures for scripts")
    arguments = parser.parse_args()
    library = Library.open(arguments.library)
    task = registry.load("task", "multi_instrument")
    config = task.config_type()
    figures = {}
    settings = ["exact", "fast", *(["bank"] if all(map(library.bank, library.datasets)) else [])]
    for setting in settings:
        recipe = dataclasses.replace(config.mixing, stretch=setting)
        index = build_index(library, "train", task, dataclasses.replace(config, mixing=recipe))
        stream = Stream(None, recipe, 0, "train")
        if setting == "exact":
            plain = PlainDataset(stream, index, arguments.examples)
            figures["plain"] = profile(plain.__getitem__, arguments.examples)
            figures["planning alone"] = profile(
                lambda number, index=index, recipe=recipe: planning.mixture_labels(
                    plan_mixture(index, recipe, 0, "train", number), index, recipe
                ),
                arguments.examples,
            )
        figures[setting] = profile(
            lambda number, stream=stream, index=index: mix(stream, index, np.array([number])),
            arguments.examples,
        )
    print(json.dumps(figures, indent=1) if arguments.json else table(figures))


if __name__ == "__main__":
    main()
