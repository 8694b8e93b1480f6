"""What other rates, lengths and channels cost: reading chunks of one 44.1 kHz stereo library for several tasks.

    python benchmarks/rates.py

CPU time of a chunk, files in the page cache; *at its rate* is the same read without resampling. Resampling is soxr's
(HQ), with 50 ms around each chunk.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from timbrel import markdown
from timbrel.mixing.render import read_chunk

STORED_HZ = 44_100
SECONDS = 30
TASKS = [(32_000, 4.0), (16_000, 10.0), (44_100, 6.0)]
CHUNKS = 200


def cpu_ms(paths: list[Path], sample_rate: int, seconds: float, channels: int) -> float:
    """Return the median CPU time of a chunk in ms."""
    generator = np.random.default_rng(0)
    times = []
    for number in range(CHUNKS):
        start_s = float(generator.uniform(1, SECONDS - seconds - 1))
        began = time.process_time()
        read_chunk(paths[number % len(paths)], STORED_HZ, SECONDS * STORED_HZ, start_s, seconds, sample_rate, channels)
        times.append(time.process_time() - began)
    return statistics.median(times) * 1000


def table(figures: list[dict[str, float]]) -> str:
    """Return the figures for people: a row a task."""
    rows = (
        [
            f"{row['seconds']:g} s at {row['sample_rate'] / 1000:g} kHz",
            row["channels"],
            f"{row['cpu_ms']:.2f}",
            f"{row['cpu_ms_at_its_rate']:.2f}",
        ]
        for row in figures
    )
    return markdown.table(["task hears", "channels", "CPU ms a chunk", "at its rate"], rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print figures for scripts")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.wav" for number in range(4)]
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, (SECONDS * STORED_HZ, 2))
        for path in paths:
            soundfile.write(path, noise, STORED_HZ)
        for sample_rate, seconds in tqdm(TASKS, unit="task"):
            for channels in (1, 2):
                figure = cpu_ms(paths, sample_rate, seconds, channels)
                plain = cpu_ms(paths, STORED_HZ, seconds, channels)
                rows.append((sample_rate, seconds, channels, figure, plain))
    keys = ("sample_rate", "seconds", "channels", "cpu_ms", "cpu_ms_at_its_rate")
    figures = [dict(zip(keys, row, strict=True)) for row in rows]
    print(json.dumps(figures, indent=1) if arguments.json else table(figures))


if __name__ == "__main__":
    main()
