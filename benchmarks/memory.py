"""How much memory the mixing pool takes, by the number of songs: of each actor, and of everything that Ray holds.

    python benchmarks/memory.py

The index is synthetic, and all its stems are one small WAV file. Every size is measured in a Ray of its own, while a
pool is mixing. USS is what a process has for itself, PSS adds its share of what it has in common with others. All of
Ray is what its processes have beside the object store, by PSS, and what the store holds: one copy of the index, and the
batches that are ahead of the reader.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import ray
import soundfile

from timbrel import markdown
from timbrel.mixing.index import StemIndex
from timbrel.mixing.pool import Pool, Stream, read_batches, stream_batches
from timbrel.mixing.recipe import PAPER
from timbrel.runtime import ray_session

SONGS = (100, 10_000, 344_166)
"""The last: as many as the largest collection of multitracks made from MIDI files would give."""
STEMS = 5
"""A song; each sounds once."""
CLASSES = 11
RATE_HZ = 16_000
SECONDS = 20
BATCH = 16


def synthetic_index(root: Path, songs: int) -> StemIndex:
    """Return an index of songs whose stems are all one file, under paths as long as a library's."""
    path = root / "house_band" / "songs" / "one_for_all" / "stem_00.wav"
    if not path.exists():
        path.parent.mkdir(parents=True)
        noise = np.random.default_rng(0).normal(scale=0.1, size=SECONDS * RATE_HZ)
        soundfile.write(path, noise, RATE_HZ, subtype="FLOAT")
    stems = songs * STEMS
    instruments = np.arange(stems) % CLASSES
    return StemIndex(
        root=str(root),
        datasets=("house_band",),
        songs=pa.array([f"song {song:06d}" for song in range(songs)]),
        dataset_songs=np.array([0, songs]),
        song_stems=np.arange(songs + 1) * STEMS,
        paths=pa.array([str(path.relative_to(root))] * stems),
        names=pa.array([f"instrument {number:02d}" for number in range(CLASSES)]).take(pa.array(instruments)),
        sample_rates=np.full(stems, RATE_HZ, dtype=np.int32),
        frames=np.full(stems, SECONDS * RATE_HZ),
        labels=instruments[:, None] == np.arange(CLASSES),
        active_rows=np.arange(stems + 1),
        active=np.tile(np.array([0, SECONDS], dtype=np.float32), (stems, 1)),
    )


def index_bytes(index: StemIndex) -> int:
    """Return the size of an index's arrays."""
    return sum(getattr(value, "nbytes", 0) for value in vars(index).values())


def measure(root: Path, songs: int, mixtures: int, actors: int) -> dict[str, float]:
    """Mix from so many songs and return MB: of the index, of the larger actor, and of all of Ray."""
    index = synthetic_index(root, songs)
    with ray_session():
        stream = Stream(ray.put(index), PAPER, 0, "train")
        figures: dict[str, float] = {"songs": songs, "index_mb": index_bytes(index) / 1e6}
        del index
        dataset = stream_batches(stream, 0, 2 * mixtures, BATCH, Pool(actors, 0.4))
        for number, _ in enumerate(read_batches(dataset, BATCH)):
            if number == mixtures // BATCH:
                figures |= memory()
    return figures


def memory() -> dict[str, float]:
    """Return MB: USS and PSS of the largest actor, of all of Ray, and of that what the object store holds."""
    actors, processes = [], 0.0
    for process in psutil.Process().children(recursive=True):
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]
        kb = {name.rstrip(":"): int(size) for name, size, *_ in map(str.split, lines)}
        processes += (kb["Pss_Anon"] + kb["Pss_File"]) * 1.024e-3
        if "MapWorker" in " ".join(process.cmdline()):
            actors.append(((kb["Private_Clean"] + kb["Private_Dirty"]) * 1.024e-3, kb["Pss"] * 1.024e-3))
    name = "object_store_memory"
    store = (ray.cluster_resources()[name] - ray.available_resources()[name]) / 1e6
    uss, pss = max(actors)
    return {"actor_uss_mb": uss, "actor_pss_mb": pss, "store_mb": store, "ray_mb": processes + store}


COLUMNS = {
    "index_mb": "index",
    "actor_uss_mb": "actor, USS",
    "actor_pss_mb": "actor, PSS",
    "store_mb": "object store",
    "ray_mb": "all of Ray",
}


def table(figures: dict[str, Any]) -> str:
    """Return the figures for people: a row a number of songs, and what more songs have added."""
    rows = sorted(figures["rows"], key=lambda row: row["songs"])
    few, many = rows[0], rows[-1]
    growth = {name: many[name] - few[name] for name in COLUMNS}
    lines = [[f"{row['songs']:,}", *(f"{row[name]:.0f}" for name in COLUMNS)] for row in rows]
    lines.append(["growth", *(f"{value:.0f}" for value in growth.values())])
    lines.append(["its goal", "-", "0", "0", "0", "0"])
    beside = (growth["ray_mb"] - growth["index_mb"]) / few["ray_mb"]
    return (
        f"MB with {figures['actors']} actors after {figures['mixtures']} mixtures.\n\n"
        f"{markdown.table(['songs', *COLUMNS.values()], lines)}\n\n{many['songs'] / few['songs']:.0f} times the songs: "
        f"{100 * beside:+.1f} % for all of Ray beside the one copy of the index."
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, nargs="+", default=list(SONGS), metavar="N")
    parser.add_argument("--mixtures", type=int, default=320, help="mixed before memory is looked at")
    parser.add_argument("--actors", type=int, default=2, help="in the pool")
    parser.add_argument("--json", action="store_true", help="print figures for scripts")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for songs in arguments.songs:
            rows.append(measure(Path(folder), songs, arguments.mixtures, arguments.actors))
            print(f"{songs} songs: {rows[-1]['actor_uss_mb']:.0f} MB an actor", file=sys.stderr)
    figures = {"actors": arguments.actors, "mixtures": arguments.mixtures, "rows": rows}
    print(json.dumps(figures, indent=1) if arguments.json else table(figures))


if __name__ == "__main__":
    main()
