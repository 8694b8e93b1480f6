"""What teachers make of songs, kept beside their data set, a row a song.

::

    library/house_band/
        embeddings/crnn.arrow    one row a song: song, shape (time, dimension), dtype, values
        embeddings/crnn.json     teacher, weights and their digest, dimension, hop_s, the data set's digest then
        embeddings/crnn.parts/   what an interrupted `timbrel embed` has done

The Arrow file is mapped into memory, so it costs a process what it reads of it. Values that come with a data set, such
as OpenMIC's `vggish`, are read from the data set's own table.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from timbrel.errors import UserError, unknown_name
from timbrel.library import Library, safe_name

FOLDER = "embeddings"
"""Of a data set."""
ROWS = pa.schema(
    [
        pa.field("song", pa.string()),
        pa.field("shape", pa.list_(pa.int32())),  # (time, dimension)
        pa.field("dtype", pa.string()),
        pa.field("values", pa.binary()),
    ]
)
SHIPPED_HOPS_S = MappingProxyType({"vggish": 0.96})
"""Seconds between the vectors of the networks whose embeddings come with data sets."""
NAMED = 3
"""Songs that a message names of those that are missing."""


@dataclass(frozen=True)
class Embeddings:
    """The embeddings of one name, of the songs of some data sets.

    It pickles small, and opens its files when a process first reads from them.
    """

    root: Path
    """Of the library."""
    name: str
    datasets: tuple[str, ...]
    """Those that have them."""
    dimension: int
    hop_s: float
    """Seconds between two vectors; 0: one vector a song."""

    @staticmethod
    def open(library: Library, name: str, datasets: Sequence[str] = ()) -> "Embeddings":
        """Find the embeddings ``name`` of the given data sets, or of all that have them if none is given.

        Raises:
            UserError: a data set has none of this name, or was prepared again since; or those of several data sets
                don't go together.
        """
        wanted = tuple(sorted(set(datasets))) or library.datasets
        found = {dataset: facts for dataset in wanted if (facts := facts_of(library, dataset, name)) is not None}
        lacking = [dataset for dataset in wanted if dataset not in found]
        if not found or (datasets and lacking):
            known = sorted({each for dataset in wanted for each in names_in(library, dataset)})
            has = f" (there are {', '.join(known)})" if known else ""
            raise UserError(
                f"no embeddings '{name}' of {_list(lacking)} are in {library.root}{has}: make them with "
                f"`timbrel embed TEACHER --library {library.root} --name {name}`."
            )
        for dataset, facts in found.items():
            stored, now = facts["data_digest"], library.facts(dataset)["digest"]
            if stored != now:
                raise UserError(
                    f"'{dataset}' was prepared again since its embeddings '{name}' were made: make them again with "
                    f"`timbrel embed` and --name {name}."
                )
        for what, key in (("dimensions", "dimension"), ("hops", "hop_s"), ("weights", "digest")):
            values = {dataset: facts[key] for dataset, facts in found.items()}
            if len(set(values.values())) > 1:
                shown = ", ".join(f"{dataset} {value}" for dataset, value in values.items())
                raise UserError(
                    f"the embeddings '{name}' have different {what} ({shown}): make those of one of the data sets "
                    "again with `timbrel embed --replace`, or name the data sets that go together."
                )
        facts = next(iter(found.values()))
        return Embeddings(library.root, name, tuple(found), int(facts["dimension"]), float(facts["hop_s"]))

    def of(self, dataset: str, song: str) -> np.ndarray:
        """Return what there is of a song: ``(time, dimension)``, as it is stored, read-only.

        Raises:
            UserError: there is nothing of it, or the file is damaged.
        """
        rows = self._rows_of(dataset)
        number = rows.numbers.get(song) if rows else None
        if rows is None or number is None:
            raise UserError(
                f"there is no embedding '{self.name}' of the song '{song}' of '{dataset}': run `timbrel embed` again, "
                "which adds what is missing."
            )
        return rows.read(number, self.dimension)

    def window(self, dataset: str, song: str, start_s: float, seconds: float) -> np.ndarray:
        """Return what there is of a part of a song: float32 ``(time, dimension)``.

        The vectors are those from the one nearest to the beginning on, as many as the part has hops; the song's last is
        repeated if it ends earlier. Of embeddings that are one vector a song, it is that vector.

        Raises:
            UserError: there is nothing of the song.
        """
        values = self.of(dataset, song)
        if not self.hop_s:
            return values[:1].astype(np.float32)
        first, count = round(start_s / self.hop_s), max(1, round(seconds / self.hop_s))
        rows = np.clip(np.arange(first, first + count), 0, len(values) - 1)
        return values[rows].astype(np.float32)

    def check(self, songs: Iterable[tuple[str, str]]) -> None:
        """Make sure that there is something of each song, given as data set and name.

        Raises:
            UserError: how many are missing, and the first few of them.
        """
        wanted = sorted(set(songs))
        missing = [f"{dataset}/{song}" for dataset, song in wanted if not self._has(dataset, song)]
        if missing:
            more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
            raise UserError(
                f"{len(missing)} of {len(wanted)} songs have no embedding '{self.name}' "
                f"({', '.join(missing[:NAMED])}{more}): run `timbrel embed` again, which adds what is missing."
            )

    def _has(self, dataset: str, song: str) -> bool:
        rows = self._rows_of(dataset)
        return rows is not None and song in rows.numbers

    def _rows_of(self, dataset: str) -> "Rows | None":
        if dataset not in self._opened and dataset in self.datasets:
            file = arrow_file(self.root, dataset, self.name)
            self._opened[dataset] = Rows.of_file(file) if file.exists() else self._shipped(dataset)
        return self._opened.get(dataset)

    def _shipped(self, dataset: str) -> "Rows":
        table = shipped(Library(self.root), dataset, self.name)
        return Rows(table, f"{self.root / dataset / 'embeddings.parquet'}")

    @cached_property
    def _opened(self) -> dict[str, "Rows"]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}


class Rows:
    """A table of embeddings, by song."""

    def __init__(self, table: pa.Table, where: str) -> None:
        self.table, self.where = table, where
        self.numbers = {song: number for number, song in enumerate(table["song"].to_pylist())}

    @staticmethod
    def of_file(file: Path) -> "Rows":
        """Map a file into memory.

        Raises:
            UserError: it is damaged.
        """
        try:
            table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
        except (pa.ArrowException, OSError) as error:
            raise _damaged(str(file), str(error)) from None
        if table.schema.remove_metadata() != ROWS:
            raise _damaged(str(file), f"its columns are {', '.join(table.schema.names)}")
        return Rows(table, str(file))

    def read(self, number: int, dimension: int) -> np.ndarray:
        """Return the values of a row: ``(time, dimension)``, in place.

        Raises:
            UserError: they are not what the file says of them.
        """
        song, shape, name, values = (self.table[each][number] for each in ("song", "shape", "dtype", "values"))
        rank, content = tuple(shape.as_py()), values.as_buffer()
        try:
            dtype = np.dtype(name.as_py())
        except TypeError:
            raise _damaged(self.where, f"'{song}' has the dtype {name}") from None
        if len(rank) != 2 or not rank[0] or rank[1] != dimension:
            raise _damaged(self.where, f"'{song}' has the shape {rank}, not (time, {dimension})")
        if dtype.kind not in "fiu" or content.size != math.prod(rank) * dtype.itemsize:
            raise _damaged(self.where, f"'{song}' has {content.size} bytes of dtype {dtype} for the shape {rank}")
        return np.frombuffer(content, dtype).reshape(rank)


def arrow_file(root: Path, dataset: str, name: str) -> Path:
    """Return where embeddings are."""
    return root / dataset / FOLDER / f"{name}.arrow"


def facts_file(root: Path, dataset: str, name: str) -> Path:
    """Return where it is said what embeddings are; they are there once this file is."""
    return root / dataset / FOLDER / f"{name}.json"


def names_in(library: Library, dataset: str) -> list[str]:
    """Return the names of the embeddings that a data set has."""
    own = [file.stem for file in (library.root / dataset / FOLDER).glob("*.json")]
    return sorted({*own, *library.embeddings([dataset]).column("network").unique().to_pylist()})


def common_names(library: Library, datasets: Sequence[str] = ()) -> list[str]:
    """Return the names of the embeddings that all of the given data sets have, or all of the library.

    Raises:
        UserError: there are none, or no such data set.
    """
    wanted = datasets or library.datasets
    names = set.intersection(*({*names_in(library, dataset)} for dataset in wanted))
    if not names:
        raise UserError(
            f"{library.root} has no embeddings of {_list(wanted)}: make some with `timbrel embed TEACHER --library "
            f"{library.root}`."
        )
    return sorted(names)


def facts_of(library: Library, dataset: str, name: str) -> dict[str, Any] | None:
    """Return what is known of a data set's embeddings, or None if it has none of this name.

    Raises:
        UserError: no such data set, no such name, or the file is damaged.
    """
    now = library.facts(dataset)
    if not name or name != safe_name(name):
        raise UserError(f"'{name}' is no name of embeddings: use letters, digits, blanks and -_+.")
    file = facts_file(library.root, dataset, name)
    if not file.exists():
        return _shipped_facts(library, dataset, name, now["digest"])
    try:
        facts = dict(json.loads(file.read_text()))
        assert isinstance(facts["dimension"], int)
        assert isinstance(facts["hop_s"], float | int)
        assert {"digest", "data_digest"} <= facts.keys()
    except (ValueError, TypeError, KeyError, AssertionError):
        raise _damaged(str(file), "it is not what `timbrel embed` writes") from None
    return facts


def shipped(library: Library, dataset: str, name: str) -> pa.Table:
    """Return the rows of the embeddings that came with a data set.

    Raises:
        UserError: they are of stems, several a song.
    """
    table = library.embeddings([dataset])
    table = table.filter(pc.field("network") == name).select(ROWS.names)
    songs = table["song"].to_pylist()
    twice = next((song for song, following in pairwise(sorted(songs)) if song == following), None)
    if twice is not None:
        raise UserError(
            f"the embeddings '{name}' that came with '{dataset}' are of stems ('{twice}' has several), not of songs: "
            "make some with `timbrel embed` under another --name."
        )
    return table


def _shipped_facts(library: Library, dataset: str, name: str, digest: str) -> dict[str, Any] | None:
    if not (library.root / dataset / "embeddings.parquet").exists():
        return None
    table = shipped(library, dataset, name)
    if not len(table):
        return None
    if name not in SHIPPED_HOPS_S:
        raise unknown_name("network whose embeddings come with a data set", name, SHIPPED_HOPS_S)
    return {
        "name": name,
        "teacher": name,
        "weights": "came with the data set",
        "digest": "came with the data set",
        "dimension": table["shape"][0].as_py()[-1],
        "hop_s": SHIPPED_HOPS_S[name],
        "songs": len(table),
        "data_digest": digest,
    }


def _damaged(where: str, why: str) -> UserError:
    reason = " ".join(why.split())
    return UserError(f"{where} is damaged ({reason}): make it again with `timbrel embed` and --replace.")


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
