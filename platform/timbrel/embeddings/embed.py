"""`timbrel embed`: what a teacher makes of every song of a library, by a pool of actors that each hold the teacher.

Each song is on the disk as soon as it is done, so what is interrupted or killed goes on from there.
"""

import errno
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import ray
import ray.data
from tqdm import tqdm

from timbrel.embeddings.parts import Parts, row_of
from timbrel.embeddings.sound import SongSound, check_length, songs_of
from timbrel.embeddings.store import ROWS, Rows, arrow_file, facts_file, facts_of
from timbrel.embeddings.teachers import Teacher
from timbrel.errors import UserError, one_line
from timbrel.library import Library, safe_name
from timbrel.mixing.actors import Numbers
from timbrel.prepare import alone

BLOCK_S = 60.0
BLOCK_SONGS = 16
"""Of sound, and songs, that an actor is given at a time."""
ANSWER = ROWS.append(pa.field("error", pa.string()))
AGAIN = "the same command goes on with the songs that are left"


@dataclass(frozen=True)
class Embedded:
    """What was done for one data set."""

    dataset: str
    songs: int
    """That have an embedding now."""
    new: int
    """That were made now."""
    seconds: float
    failed: dict[str, str] = field(default_factory=dict)
    """Songs without one, and why."""


def embed(
    library: Library, teacher: Teacher, name: str = "", datasets: Sequence[str] = (), *, replace: bool = False
) -> list[Embedded]:
    """Make the embeddings of all songs that have none yet, and return what was done for each data set.

    The work is done by the Ray cluster if this process is connected to one, else here.

    Args:
        library: where the songs are, and their embeddings will be.
        teacher: what makes them.
        name: of the embeddings; empty: the teacher's.
        datasets: which; none: all.
        replace: make them all anew, and take the place of others of this name.

    Raises:
        UserError: the name is taken by embeddings of another teacher or other weights, another process is at it, or the
            disk is full.
    """
    name = name or teacher.name
    if name != safe_name(name):
        raise UserError(f"--name '{name}': a name of embeddings is a file's: use letters, digits, blanks and -_+.")
    chosen = sorted(set(datasets)) or list(library.datasets)
    for dataset in chosen:
        if not replace:
            _check_free(library, dataset, name, _identity(library, dataset, teacher))
    return [_embed_dataset(library, dataset, teacher, name, replace) for dataset in chosen]


def _identity(library: Library, dataset: str, teacher: Teacher) -> dict[str, Any]:
    """Return what the embeddings of a data set depend on."""
    return {
        "teacher": teacher.name,
        "weights": teacher.weights,
        "digest": teacher.digest,
        "dimension": teacher.dimension,
        "hop_s": teacher.hop_s,
        **teacher.settings,
        "data_digest": library.facts(dataset)["digest"],
    }


def _check_free(library: Library, dataset: str, name: str, identity: dict[str, Any]) -> bool:
    """Tell whether the data set has such embeddings already.

    Raises:
        UserError: it has others of this name.
    """
    if not facts_file(library.root, dataset, name).exists():
        return False
    facts = facts_of(library, dataset, name)
    assert facts is not None
    if facts["data_digest"] != identity["data_digest"]:  # of songs that the data set no longer has
        return False
    # The same weights may lie in files of different names.
    other = [key for key, value in identity.items() if key != "weights" and facts.get(key) != value]
    if other:
        raise UserError(
            f"'{dataset}' has other embeddings '{name}' ({other[0]} {facts.get(other[0])}, not {identity[other[0]]}): "
            "give these another --name, or say --replace."
        )
    return True


def _embed_dataset(library: Library, dataset: str, teacher: Teacher, name: str, replace: bool) -> Embedded:
    started = time.perf_counter()
    identity = _identity(library, dataset, teacher)
    parts = Parts(library.root, dataset, name)
    songs = songs_of(library, dataset)
    with alone(library.root / f".{dataset}.lock", f"'{dataset}' in {library.root}"):
        there = not replace and _check_free(library, dataset, name, identity)
        kept = arrow_file(library.root, dataset, name) if there else None
        done = set(Rows.of_file(kept).numbers) if kept else set()
        left = [song for song in songs if song.name not in done]
        if not left:
            return Embedded(dataset, len(done), 0, 0.0)
        failed: dict[str, str] = {}
        try:
            done |= parts.begin(identity)
            left = [song for song in left if song.name not in done]
            # Closed here: an error's traceback keeps the bar alive, which would then draw over the error's message.
            with (
                tqdm(total=len(songs), initial=len(songs) - len(left), desc=f"embedding {dataset}", unit="song") as bar,
                parts.append() as writer,
            ):
                for answer in _answers(left, teacher):
                    good = answer.filter(pa.compute.is_null(answer["error"])).select(ROWS.names)
                    writer.write_table(good)
                    for row in answer.select(["song", "error"]).to_pylist():
                        if row["error"] is not None:
                            failed[row["song"]] = row["error"]
                    bar.update(len(answer))
            lost = {song.name for song in left} - failed.keys() - parts.songs()
            assert not lost, f"songs were lost on the way: {sorted(lost)[:3]}"
            total = parts.finish({"name": name, **identity}, kept) if len(failed) < len(songs) else parts.drop()
        except KeyboardInterrupt:
            raise KeyboardInterrupt(AGAIN) from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(f"the disk of {library.root} is full: free some space, and {AGAIN}.") from None
            raise
    return Embedded(dataset, total, len(left) - len(failed), time.perf_counter() - started, failed)


@dataclass(frozen=True)
class Work:
    """What an actor needs: songs by number, and their teacher; either may be in Ray's object store."""

    songs: Any
    teacher: Any
    threads: int = 0
    """Of PyTorch; 0: as it is."""


class EmbedSongs:
    """Makes the embeddings of numbered songs; what can't be made comes back as the reason."""

    def __init__(self, work: Work) -> None:
        self.songs: list[SongSound] = _here(work.songs)
        self.teacher: Teacher = _here(work.teacher)
        if work.threads:
            import torch

            torch.set_num_threads(work.threads)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return a row a song, as it is stored, and the error if there is one; a batch has bounds of their numbers."""
        bounds = zip(batch["start"].to_pylist(), batch["stop"].to_pylist(), strict=True)
        rows = [self._row(song) for start, stop in bounds for song in self.songs[start:stop]]
        return pa.Table.from_pylist(rows, ANSWER)

    def _row(self, song: SongSound) -> dict[str, Any]:
        try:
            values = self.teacher.of_song(song)
            row = row_of(song.name, values, self.teacher.dimension, self.teacher.dtype)
            check_length(len(values), self.teacher.hop_s, song.seconds)
        except UserError as error:
            return {"song": song.name, "error": one_line(str(error))}
        except Exception as error:  # one song must not cost the others what was done for them
            return {"song": song.name, "error": one_line(f"{type(error).__name__}: {error}")}
        return row


def _here(value: Any) -> Any:
    return ray.get(value) if isinstance(value, ray.ObjectRef) else value


def _answers(songs: Sequence[SongSound], teacher: Teacher) -> Iterator[pa.Table]:
    """Yield what comes of the songs, some at a time, in whatever order they are done."""
    if not songs:
        return
    mean_s = sum(song.seconds for song in songs) / len(songs)
    size = max(1, min(BLOCK_SONGS, int(BLOCK_S / max(mean_s, 0.1))))
    if not ray.is_initialized():
        maker = EmbedSongs(Work(songs, teacher))
        for first in range(0, len(songs), size):
            yield maker(pa.table({"start": [first], "stop": [min(first + size, len(songs))]}))
        return
    work = Work(ray.put(list(songs)), ray.put(teacher))
    running: Any = _stream.remote(work, len(songs), size, bool(teacher.sample_rate))
    for found in running:
        yield ray.get(found)


# A task, and not this process: Ray writes what befalls the actors of a pool to the terminal of whoever made it.
@ray.remote(num_cpus=0, num_returns="streaming", max_retries=3)
def _stream(work: Work, songs: int, size: int, hears: bool) -> Iterator[pa.Table]:
    """Yield what a pool of actors makes of numbered songs, ``size`` of them at a time."""
    resources = ray.cluster_resources()
    cpus, gpus = resources.get("CPU", 1.0), int(resources.get("GPU", 0)) if hears else 0
    actors = max(1, min(gpus or int(cpus), math.ceil(songs / size)))
    # The counting asks for no CPU: had it to wait for one, actors that fill the machine would never begin.
    dataset = ray.data.read_datasource(Numbers(0, songs, size), num_cpus=0, override_num_blocks=1).map_batches(
        EmbedSongs,
        fn_constructor_args=(Work(work.songs, work.teacher, threads=0 if gpus else 1),),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=min(1.0, cpus / actors),
        **({"num_gpus": 1} if gpus else {}),
    )
    # Ray joins blocks up to this size. Each row must stay a block, or one actor would be given all.
    dataset.context.target_max_block_size = Numbers.ROW_BYTES
    for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        yield table.cast(ANSWER)
