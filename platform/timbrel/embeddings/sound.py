"""A song of a library as a teacher hears it: the sum of its stems, mono, at the teacher's rate."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from timbrel.errors import UserError
from timbrel.library import Library
from timbrel.recording import mono_blocks, resampled


@dataclass(frozen=True)
class SongSound:
    """A song, whose stems are read when its sound is asked for."""

    dataset: str
    name: str
    stems: tuple[tuple[Path, int], ...]
    """File and sample rate in Hz of each."""
    seconds: float

    def blocks(self, rate: int) -> Iterator[np.ndarray]:
        """Yield the sum of the stems as mono float32 blocks ``(sample,)`` at ``rate`` Hz.

        Raises:
            UserError: a file is missing, damaged, or holds NaN.
        """
        by_rate = sorted(self.stems, key=lambda stem: stem[1])
        return added(
            [
                resampled(added([mono_blocks(file, stored) for file, _ in stems]), stored, rate)
                for stored, stems in groupby(by_rate, key=lambda stem: stem[1])
            ]
        )


def songs_of(library: Library, dataset: str) -> list[SongSound]:
    """Return the songs of a data set, in the order of their names."""
    table = library.catalogue([dataset], ["song", "path", "sample_rate", "frames"])
    rows = sorted(table.to_pylist(), key=lambda row: (row["song"], row["path"]))
    return [
        SongSound(
            dataset,
            song,
            tuple((library.root / row["path"], row["sample_rate"]) for row in stems),
            max(row["frames"] / row["sample_rate"] for row in stems),
        )
        for song, stems in ((song, list(group)) for song, group in groupby(rows, key=lambda row: row["song"]))
    ]


def added(parts: Sequence[Iterable[np.ndarray]]) -> Generator[np.ndarray]:
    """Yield the sum of recordings that come in blocks of any length; the shorter ones are silent after their ends."""
    streams = [iter(part) for part in parts]
    held = [np.zeros(0, dtype=np.float32) for _ in streams]
    running = [True] * len(streams)
    while any(running):
        for number, stream in enumerate(streams):
            # Until it has something to give, or is at its end: a resampler begins with an empty block.
            while running[number] and not len(held[number]):
                block = next(stream, None)
                if block is None:
                    running[number] = False
                else:
                    held[number] = block
        lengths = [len(rest) for rest in held if len(rest)]
        if not lengths:
            break
        count = min(lengths)
        total = np.zeros(count, dtype=np.float32)
        for number, rest in enumerate(held):
            if len(rest):
                total += rest[:count]
                held[number] = rest[count:]
        yield total


def check_length(found: int, hop_s: float, seconds: float) -> None:
    """Refuse embeddings that can't be of a song of this length: they have another rate than was said.

    Teachers differ in what they do at the ends, by a vector or two; the tenth is for those of long windows.

    Raises:
        UserError: there are far too many or too few.
    """
    if not hop_s:
        if found != 1:
            raise UserError(f"its embedding has {found} vectors, but a hop of 0 means one a song: look at --hop-s")
    elif abs(found * hop_s - seconds) > 2 * hop_s + 0.1 * seconds:
        raise UserError(
            f"its embedding has {found} vectors, one each {hop_s:g} s, but it is {seconds:.1f} s long: look at --hop-s"
        )
