"""Writing embeddings: song by song into parts, which become one file once they are whole."""

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from timbrel.embeddings.store import ROWS, Rows, arrow_file, facts_file
from timbrel.errors import UserError

BATCH_BYTES = 16 << 20
"""About so much is one record batch of the file."""


@dataclass(frozen=True)
class Parts:
    """The embeddings of one name of a data set, while they are made.

    Each run appends to a file of its own, which can be read up to where the run was killed.
    """

    root: Path
    dataset: str
    name: str

    @property
    def folder(self) -> Path:
        """Where the parts are."""
        return facts_file(self.root, self.dataset, self.name).with_suffix(".parts")

    def begin(self, identity: Mapping[str, Any]) -> set[str]:
        """Return the songs that earlier runs have done; what they did otherwise than ``identity`` says is dropped."""
        marker = self.folder / "identity.json"
        wanted = json.dumps(dict(identity), sort_keys=True)
        if not marker.exists() or marker.read_text() != wanted:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        marker.write_text(wanted)
        return self.songs()

    def songs(self) -> set[str]:
        """Return the songs that are there."""
        return {song for file in self._files() for batch in _whole(file) for song in batch["song"].to_pylist()}

    @contextlib.contextmanager
    def append(self) -> Iterator[pa.RecordBatchStreamWriter]:
        """Open a part to which tables can be written; each is on the disk once it is written."""
        file = self.folder / f"{len(self._files()):05}.arrows"
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, ROWS) as writer:
            yield writer

    def finish(self, facts: Mapping[str, Any], kept: Path | None = None) -> int:
        """Make one file of the parts, and of ``kept``, an earlier one; return how many songs it holds.

        The songs are in the order of their names. The facts come last, and say that everything is there.
        """
        tables = [pa.Table.from_batches(list(_whole(file)), ROWS) for file in self._files()]
        if kept is not None:
            tables.insert(0, Rows.of_file(kept).table)
        table = pa.concat_tables(tables) if tables else ROWS.empty_table()
        numbers = {song: number for number, song in enumerate(table["song"].to_pylist())}
        order = [numbers[song] for song in sorted(numbers)]
        file, said = (each(self.root, self.dataset, self.name) for each in (arrow_file, facts_file))
        draft = self.folder / "whole.arrow"
        with pa.OSFile(str(draft), "wb") as sink, pa.ipc.new_file(sink, ROWS) as writer:
            size = max(1, table.nbytes // max(1, len(table)))
            step = max(1, BATCH_BYTES // size)
            for first in range(0, len(order), step):
                rows = [table.slice(number, 1) for number in order[first : first + step]]
                writer.write_table(pa.concat_tables(rows).combine_chunks())
        said.unlink(missing_ok=True)
        draft.replace(file)
        words = self.folder / "facts.json"
        words.write_text(json.dumps({**facts, "songs": len(order)}, indent=2) + "\n")
        words.replace(said)
        shutil.rmtree(self.folder)
        return len(order)

    def drop(self) -> int:
        """Take away what is there, nothing."""
        shutil.rmtree(self.folder)
        return 0

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.arrows"))


def row_of(song: str, values: np.ndarray, dimension: int, dtype: str) -> dict[str, Any]:
    """Return a row of the table.

    Raises:
        UserError: the values are no ``(time, dimension)`` of finite numbers.
    """
    if values.ndim != 2 or not len(values) or values.shape[1] != dimension:
        raise UserError(f"its embedding has the shape {values.shape}, not (time, {dimension})")
    if not np.isfinite(values).all():
        raise UserError("its embedding holds NaN or infinite values: look at its sound, and at the teacher's weights")
    stored = np.ascontiguousarray(values, dtype=np.dtype(dtype))
    return {"song": song, "shape": list(stored.shape), "dtype": stored.dtype.str, "values": stored.tobytes()}


def _whole(file: Path) -> Iterator[pa.RecordBatch]:
    """Yield what can be read of a part: a run that was killed may have left the last batch cut off."""
    try:
        reader = pa.ipc.open_stream(pa.memory_map(str(file)))
        while True:
            yield reader.read_next_batch()
    except (pa.ArrowException, OSError, StopIteration):
        return
