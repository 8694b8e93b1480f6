"""The catalogue of a large library: written, indexed and planned from, each in a process of its own.

    python benchmarks/scale_catalogue.py

The library is one as `timbrel prepare` leaves it, but without audio: the catalogue is written by the library's own
code, read back by it, and the index is that of the multi-instrument task. Activity is made up: stems sound and rest for
some seconds at a time, in 16 steps of confidence. Memory is the highest that a process had (VmHWM), beside what it had
after its imports.
"""

import argparse
import json
import pickle
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.memory import index_bytes
from timbrel import activity, markdown, registry
from timbrel.library import CATALOGUE, NOTES, ROWS_AT_ONCE, Library
from timbrel.mixing.index import build_index
from timbrel.mixing.plan import plan_mixture
from timbrel.mixing.recipe import PAPER
from timbrel.storing import write_catalogue

SONGS = (3_442, 344_166)
"""The last: as many as the largest collection of multitracks made from MIDI files would give."""
STEMS = 3
"""A song."""
PLANS = 100_000
DATASET = "made_up"
RATE_HZ = 32_000
SECONDS = (120, 240)
"""Shortest and longest song."""
INSTRUMENTS = ("piano", "violin", "drums", "electric bass", "acoustic guitar", "flute", "trumpet")
SPLITS = ("train",) * 26 + ("valid",) * 7 + ("test",) * 7
"""65 / 17.5 / 17.5 %, in turn."""


def pieces(songs: int) -> Iterator[pa.Table]:
    """Yield the rows of a catalogue, some thousand at a time."""
    generator = np.random.default_rng(0)
    confidence = made_up_confidence(generator)
    hop = activity.hop_samples(RATE_HZ)
    step = max(1, ROWS_AT_ONCE // STEMS)
    for first in range(0, songs, step):
        numbers = np.arange(first, min(first + step, songs))
        frames = np.repeat(generator.integers(SECONDS[0] * RATE_HZ, SECONDS[1] * RATE_HZ, len(numbers)), STEMS)
        lengths = frames // hop + 1
        begins = generator.integers(0, len(confidence) - lengths)
        values = np.concatenate([confidence[begin : begin + n] for begin, n in zip(begins, lengths, strict=True)])
        rows = len(frames)
        names = np.repeat([f"song {number:06d}" for number in numbers], STEMS).tolist()
        stems = [f"stem_{number:02d}" for number in range(STEMS)] * len(numbers)
        columns: dict[str, Any] = {
            "dataset": [DATASET] * rows,
            "song": names,
            "artist": [f"artist {number // 10}" for number in np.repeat(numbers, STEMS)],
            "group": names,
            "split": np.repeat(np.array(SPLITS)[numbers % len(SPLITS)], STEMS).tolist(),
            "stem": stems,
            "path": [f"{DATASET}/songs/{name}/{stem}.wav" for name, stem in zip(names, stems, strict=True)],
            "instrument": np.array(INSTRUMENTS)[generator.integers(0, len(INSTRUMENTS), rows)].tolist(),
            "program": pa.nulls(rows),
            "sample_rate": np.full(rows, RATE_HZ),
            "channels": np.ones(rows, np.int16),
            "frames": frames,
            "crc32": generator.integers(0, 2**32, rows),
            "activity_hop": np.full(rows, hop),
            "activity": pa.ListArray.from_arrays(np.append(0, np.cumsum(lengths)).astype(np.int32), values),
        }
        yield pa.table([pa.array(columns[field.name]).cast(field.type) for field in CATALOGUE], schema=CATALOGUE)


def made_up_confidence(generator: np.random.Generator) -> np.ndarray:
    """Return activation confidence that goes up and down, float32 ``(frame,)``; stems are pieces of it."""
    spans = generator.exponential((10.0, 5.0), (2000, 2)).reshape(-1) / activity.HOP_S  # sounds, rests
    sounding = np.repeat(np.arange(len(spans)) % 2 == 0, spans.astype(np.int64) + 1)
    steps = np.repeat(generator.integers(0, 16, len(sounding) // 4 + 1), 4)[: len(sounding)]
    return np.where(sounding, 0.6 + 0.025 * steps, activity.SILENCE).astype(np.float32)


def write(root: Path, songs: int) -> dict[str, float]:
    """Write a library of so many songs and return s of CPU, and MB on the disk."""
    Library.create(root)
    folder = root / DATASET
    folder.mkdir()
    begin = time.process_time()
    write_catalogue(folder, pieces(songs))
    pq.write_table(NOTES.empty_table(), folder / "notes.parquet")
    (folder / "dataset.json").write_text(json.dumps({"name": DATASET, "digest": f"{songs:016x}"}))
    file = folder / "catalogue.parquet"
    return {"write_s": time.process_time() - begin, "catalogue_mb": file.stat().st_size / 1e6}


def index(root: Path) -> dict[str, float]:
    """Open a library, index its training split, keep the index in a file, and return s of CPU, and MB."""
    task = registry.load("task", "multi_instrument")
    before, begin = memory_mb("VmRSS"), time.process_time()
    library = Library.open(root)
    opened = time.process_time()
    made = build_index(library, "train", task, task.config_type())
    done = time.process_time()
    peak = memory_mb("VmHWM") - before
    with (root / "index.pickle").open("wb") as file:
        pickle.dump(made, file, protocol=5)
    raw = sum(batch["activity"].nbytes for batch in library.activity())
    return {
        "open_s": opened - begin,
        "index_s": done - opened,
        "stems": len(made.paths),
        "activity_mb": raw / 1e6,
        "index_mb": index_bytes(made) / 1e6,
        "index_peak_mb": peak,
    }


def plan(root: Path, plans: int) -> dict[str, float]:
    """Plan so many examples and return s of CPU, and MB: what the process had with the index, and what came to it."""
    recipe = PAPER
    with (root / "index.pickle").open("rb") as file:
        made = pickle.load(file)
    heard = np.zeros(len(made.songs), dtype=bool)
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far is forgotten
    before, begin = memory_mb("VmRSS"), time.process_time()
    for number in range(plans):
        heard[made.song_of(plan_mixture(made, recipe, 0, "train", number).sources[0].stem)] = True
    seconds = time.process_time() - begin
    return {
        "plans": plans,
        "plan_s": seconds,
        "songs_heard": int(heard.sum()),
        "plan_before_mb": before,
        "plan_growth_mb": memory_mb("VmHWM") - before,
    }


def memory_mb(name: str) -> float:
    """Return a line of this process's memory in MB: ``VmRSS`` is now, ``VmHWM`` the most so far."""
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) * 1.024e-3


def alone(function: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """Return what a function returns in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def measure(songs: int, plans: int) -> dict[str, float]:
    """Return the figures of one size."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        figures = alone(write, root, songs) | alone(index, root) | alone(plan, root, plans)
    return {"songs": songs, **figures}


def measure_all(songs: list[int], plans: int) -> dict[str, Any]:
    """Return the figures of several sizes."""
    rows = []
    for count in songs:
        rows.append(measure(count, plans))
        print(f"{count} songs: indexed in {rows[-1]['index_s']:.1f} s", file=sys.stderr)
    return {"stems_a_song": STEMS, "rows": rows}


def table(figures: dict[str, Any]) -> str:
    """Return the figures for people: a column a size."""
    rows = sorted(figures["rows"], key=lambda row: row["songs"])
    lines: list[tuple[str, Callable[[dict[str, float]], str]]] = [
        ("catalogue on disk, MB", lambda row: f"{row['catalogue_mb']:.1f}"),
        ("its activity in memory would be, MB", lambda row: f"{row['activity_mb']:,.0f}"),
        ("to write it, CPU s", lambda row: f"{row['write_s']:.1f}"),
        ("to open the library, CPU s", lambda row: f"{row['open_s']:.3f}"),
        ("to index the training split, CPU s", lambda row: f"{row['index_s']:.1f}"),
        ("stems in the index", lambda row: f"{row['stems']:,}"),
        ("index, MB", lambda row: f"{row['index_mb']:.1f}"),
        ("highest memory while indexing, MB", lambda row: f"{row['index_peak_mb']:.0f}"),
        ("examples planned", lambda row: f"{row['plans']:,}"),
        ("plans a CPU second", lambda row: f"{row['plans'] / row['plan_s']:,.0f}"),
        ("memory that planning added, MB", lambda row: f"{row['plan_growth_mb']:.1f}"),
    ]
    head = [f"{figures['stems_a_song']} stems a song", *(f"{row['songs']:,} songs" for row in rows)]
    return markdown.table(head, [[name, *map(cell, rows)] for name, cell in lines])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, nargs="+", default=list(SONGS), metavar="N")
    parser.add_argument("--plans", type=int, default=PLANS, metavar="N", help="examples to plan")
    parser.add_argument("--json", action="store_true", help="print figures for scripts")
    arguments = parser.parse_args()
    figures = measure_all(arguments.songs, arguments.plans)
    print(json.dumps(figures, indent=1) if arguments.json else table(figures))


if __name__ == "__main__":
    main()
