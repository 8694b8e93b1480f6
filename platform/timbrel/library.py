"""The prepared library: WAV files that a person can play and a Parquet catalogue that a person can query.

::

    library/
        library.json                   schema version
        house_band/                    one folder a data set, added by one `timbrel prepare`
            dataset.json               source, options, digest, counts, what was skipped and why
            catalogue.parquet          one row a stem: see CATALOGUE
            notes.parquet              one row a note, where the source knows notes: see NOTES
            tags.parquet               one row a tag of a song, where the data set has tags: see TAGS
            embeddings.parquet         one row a stem and network, where they come with the data set: see EMBEDDINGS
            songs/<song>/<stem>.wav    as prepared: the source's own rate and channels
            bank/<n>/<song>/<stem>.wav the same at another pitch or speed, where asked for: see timbrel.mixing.bank
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from timbrel.errors import UserError, unknown_name
from timbrel.splits import name_hash

SCHEMA_VERSION = 1
ROWS_AT_ONCE = 1024
"""Rows of a catalogue that are written, and whose activity is read, at a time. That of a million stems fits neither
into memory nor into one array of Arrow's; that of so many, of songs of four minutes, is 21 MB."""

CATALOGUE = pa.schema(
    [
        pa.field("dataset", pa.string()),
        pa.field("song", pa.string()),
        pa.field("artist", pa.string()),
        pa.field("group", pa.string()),  # songs of one group are on one side of every split
        pa.field("split", pa.string()),
        pa.field("stem", pa.string()),
        pa.field("path", pa.string()),  # relative to the library
        pa.field("instrument", pa.string()),  # the data set's own word
        pa.field("program", pa.int16()),  # General MIDI, 128 = drums; null where unknown
        pa.field("sample_rate", pa.int32()),  # Hz
        pa.field("channels", pa.int16()),
        pa.field("frames", pa.int64()),  # samples a channel; equal for all stems of a song
        pa.field("crc32", pa.uint32()),  # of the samples, float32, channel by channel
        pa.field("activity_hop", pa.int32()),  # samples
        pa.field("activity", pa.list_(pa.float32())),  # activation confidence
    ]
)
NOTES = pa.schema(
    [
        pa.field("dataset", pa.string()),
        pa.field("song", pa.string()),
        pa.field("stem", pa.string()),
        pa.field("onset_s", pa.float32()),
        pa.field("offset_s", pa.float32()),
        pa.field("pitch", pa.uint8()),
        pa.field("velocity", pa.uint8()),
        pa.field("program", pa.int16()),  # of the note, in a stem of several instruments; null: the stem's own
    ]
)

TAGS = pa.schema(
    [
        pa.field("dataset", pa.string()),
        pa.field("song", pa.string()),
        pa.field("tag", pa.string()),
        pa.field("value", pa.float64()),  # how likely it is there; tags without a row: see `vocabulary` in the facts
    ]
)
EMBEDDINGS = pa.schema(
    [
        pa.field("dataset", pa.string()),
        pa.field("song", pa.string()),
        pa.field("stem", pa.string()),
        pa.field("network", pa.string()),
        pa.field("shape", pa.list_(pa.int32())),  # (time, dimension)
        pa.field("dtype", pa.string()),
        pa.field("values", pa.binary()),
    ]
)


@dataclass(frozen=True)
class Library:
    """A folder of prepared data sets."""

    root: Path

    @staticmethod
    def open(root: str | Path) -> "Library":
        """Open an existing library.

        Raises:
            UserError: no library is there, it is empty, or a newer version made it.
        """
        root = Path(root).absolute()
        marker = root / "library.json"
        if not marker.is_file():
            raise UserError(f"{root} is no prepared library: make one with `timbrel prepare SOURCE --library {root}`.")
        _check_version(marker)
        library = Library(root)
        if not library.datasets:
            raise UserError(
                f"the library {root} holds no data set yet: add one with `timbrel prepare SOURCE --library {root}`."
            )
        return library

    @staticmethod
    def create(root: str | Path) -> "Library":
        """Make the folder a library if it is none yet.

        Raises:
            UserError: it is a file, or a library that a newer version made.
        """
        root = Path(root).absolute()
        try:
            root.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise UserError(f"{root} is no folder: --library takes one.") from None
        marker = root / "library.json"
        if marker.exists():
            _check_version(marker)
        else:
            marker.write_text(json.dumps({"schema": SCHEMA_VERSION}) + "\n")
        return Library(root)

    @cached_property
    def datasets(self) -> tuple[str, ...]:
        """Names of the prepared data sets, sorted."""
        return tuple(sorted(path.parent.name for path in self.root.glob("[!.]*/dataset.json")))

    def facts(self, dataset: str) -> dict[str, Any]:
        """Return what `timbrel prepare` wrote down about one data set."""
        if dataset not in self.datasets:
            raise unknown_name(f"data set in {self.root}", dataset, self.datasets)
        file = self.root / dataset / "dataset.json"
        try:
            return dict(json.loads(file.read_text()))
        except (ValueError, TypeError):
            raise UserError(f"{file} is damaged: prepare the data set anew with --replace.") from None

    def bank(self, dataset: str) -> tuple[tuple[float, float], ...]:
        """Return semitones and rate of each variant of a data set's stems that is kept; empty if none is."""
        variants = self.facts(dataset).get("bank", {}).get("variants", ())
        return tuple((float(semitones), float(rate)) for semitones, rate in variants)

    def digest(self, datasets: Sequence[str] = ()) -> str:
        """Return a hash of the given data sets' contents (all of them if none is given); banks don't count."""
        digests = [f"{name}:{self.facts(name)['digest']}" for name in set(datasets or self.datasets)]
        return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()[:16]

    def catalogue(self, datasets: Sequence[str] = (), columns: list[str] | None = None) -> pa.Table:
        """Return the catalogue rows of the given data sets (all if none is given), in canonical order."""
        for name in datasets:
            self.facts(name)
        names = sorted(set(datasets or self.datasets))
        tables = [self._table(name, "catalogue.parquet", columns) for name in names]
        for name, table in zip(names, tables, strict=True):
            if "path" in table.column_names:
                _check_paths(table["path"], self.root / name / "catalogue.parquet")
        return pa.concat_tables(tables)

    def activity(self, datasets: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
        """Yield ``activity``, ``activity_hop`` and ``sample_rate`` of the rows of ``catalogue``, some thousand at a
        time."""
        for name in sorted(set(datasets or self.datasets)):
            file = self.root / name / "catalogue.parquet"
            try:
                with pq.ParquetFile(file, pre_buffer=False) as opened:  # it would keep all that it has read
                    yield from opened.iter_batches(ROWS_AT_ONCE, columns=["activity", "activity_hop", "sample_rate"])
            except (pa.ArrowException, OSError) as error:
                raise _unreadable(file, error) from None

    def notes(self, datasets: Sequence[str] = ()) -> pa.Table:
        """Return the notes of the given data sets (all if none is given)."""
        names = sorted(set(datasets or self.datasets))
        # Notes that were prepared before they had a program lack the column.
        tables = [self._table(name, "notes.parquet") for name in names]
        return pa.concat_tables([NOTES.empty_table(), *tables], promote_options="default")

    def tags(self, datasets: Sequence[str] = ()) -> pa.Table:
        """Return the tags of the songs of the given data sets (all if none is given); data sets may have none."""
        return self._optional(datasets, "tags.parquet", TAGS)

    def embeddings(self, datasets: Sequence[str] = ()) -> pa.Table:
        """Return the embeddings that came with the given data sets (all if none is given)."""
        return self._optional(datasets, "embeddings.parquet", EMBEDDINGS)

    def _optional(self, datasets: Sequence[str], name: str, schema: pa.Schema) -> pa.Table:
        for dataset in datasets:
            self.facts(dataset)
        names = sorted(set(datasets or self.datasets))
        there = [self._table(each, name) for each in names if (self.root / each / name).exists()]
        return pa.concat_tables([schema.empty_table(), *there])

    def _table(self, dataset: str, name: str, columns: list[str] | None = None) -> pa.Table:
        file = self.root / dataset / name
        try:
            return pq.read_table(file, columns=columns)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(file, error) from None


def _unreadable(file: Path, error: Exception) -> UserError:
    return UserError(f"{file} can't be read ({error}): prepare the data set anew with --replace.")


def _check_version(marker: Path) -> None:
    try:
        version = int(json.loads(marker.read_text())["schema"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{marker} is damaged: prepare the library anew in another folder.") from None
    if version > SCHEMA_VERSION:
        raise UserError(
            f"{marker} has schema {version}, this timbrel reads up to {SCHEMA_VERSION}: "
            "upgrade timbrel, or prepare anew."
        )


def _check_paths(paths: pa.ChunkedArray, file: Path) -> None:
    """Refuse a catalogue that names files outside the library: they would be read, and banks written beside them.

    Raises:
        UserError: it names one.
    """
    # Of two million paths this takes half a second, and the expression alone three times as long.
    suspect = paths.filter(pc.or_(pc.starts_with(paths, "/"), pc.match_substring(paths, "..")))
    outside = suspect.filter(pc.match_substring_regex(suspect, r"^/|(^|/)\.\.(/|$)"))
    if len(outside):
        raise UserError(f"{file} names '{outside[0]}', which is outside the library: prepare the data set anew.")


def safe_name(name: str) -> str:
    """Return ``name`` as a file name: portable characters, never hidden, never empty, never a path.

    A name that had to be changed gets a hash of the original, so that two names never share a file.
    """
    cleaned = re.sub(r"[^\w\-+ ().,&']+", "_", name).strip(" .")
    cleaned = cleaned.encode()[:150].decode(errors="ignore")  # file systems count bytes
    return cleaned if cleaned == name and cleaned else f"{cleaned}-{name_hash(name).hex()[:8]}"
