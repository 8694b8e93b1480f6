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

import base64
import errno
import hashlib
import json
import math
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import soundfile

from timbrel import activity
from timbrel.errors import UserError, unknown_name
from timbrel.sources import Note, Performance, Song
from timbrel.splits import name_hash

SCHEMA_VERSION = 1
SAMPLE_RATES_HZ = (1_000, 768_000)
"""Lowest and highest that are stored: beyond them it is a damaged header that speaks."""
_BEYOND_S = 0.01
"""How much longer than its audio a note may be: rounding."""
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
class Stored:
    """What is written of some songs, besides their audio: rows of each table, and what was left out."""

    catalogue: list[dict[str, Any]] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)
    tags: list[dict[str, Any]] = field(default_factory=list)
    embeddings: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """What, and why."""

    def add(self, other: "Stored") -> None:
        """Add the rows of other songs."""
        for mine in fields(self):
            getattr(self, mine.name).extend(getattr(other, mine.name))

    def write(self, file: Path) -> None:
        """Write everything to a JSON file, which is there once it is whole."""
        part = file.with_suffix(".part")
        part.write_text(json.dumps({each.name: getattr(self, each.name) for each in fields(self)}, default=_as_json))
        part.rename(file)

    @staticmethod
    def read(file: Path) -> "Stored":
        """Read what ``write`` wrote."""
        return Stored(**json.loads(file.read_text(), object_hook=_from_json))


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


def store_song(song: Song, dataset: str, folder: Path) -> Stored:
    """Write a song's stems under ``folder`` and return what the tables say of them.

    A stem that can't be read is left out and named; the song goes on with the others. Shorter stems are padded
    with silence to the longest, so that one time position means the same in all of them.
    """
    stored = Stored()
    performed: list[tuple[Any, Performance]] = []
    for stem in song.stems:
        try:
            performed.append((stem, _checked(stem.perform())))
        except UserError as error:
            stored.skipped.append((f"{song.name}/{stem.name}", str(error)))
    if not performed:
        stored.skipped.append((song.name, "no usable stem"))
        return stored
    seconds = max(part.audio.shape[1] / part.sample_rate for _, part in performed)
    home = folder / "songs" / safe_name(song.name)
    shutil.rmtree(home, ignore_errors=True)  # what an interrupted run left of it
    home.mkdir(parents=True)
    envelopes = []
    for stem, part in performed:
        frames = round(seconds * part.sample_rate)
        audio = np.pad(part.audio, ((0, 0), (0, frames - part.audio.shape[1])))
        path = home / f"{safe_name(stem.name)}.wav"
        # 16 bits as a person expects, but never clip: what passes full scale is kept as float.
        loud = float(np.abs(audio).max(initial=0)) > 1
        try:
            soundfile.write(path, audio.T, part.sample_rate, subtype="FLOAT" if loud else "PCM_16")
        except soundfile.LibsndfileError as error:  # libsndfile does not say why; in a folder of ours it is the disk
            raise OSError(errno.ENOSPC, f"{path} can't be written ({error}): is the disk full?") from None
        envelopes.append(activity.envelope(audio.mean(axis=0), part.sample_rate))
        stored.catalogue.append(
            {
                "dataset": dataset,
                "song": song.name,
                "artist": song.artist,
                "group": song.group or song.name,
                "split": song.split,
                "stem": stem.name,
                "path": f"{dataset}/songs/{home.name}/{path.name}",
                "instrument": stem.instrument,
                "program": stem.program,
                "sample_rate": part.sample_rate,
                "channels": len(audio),
                "frames": frames,
                "crc32": zlib.crc32(audio.astype(np.float32).tobytes()),
                "activity_hop": activity.hop_samples(part.sample_rate),
            }
        )
        of = {"dataset": dataset, "song": song.name, "stem": stem.name}
        stored.notes.extend(of | note._asdict() for note in part.notes or ())
        stored.embeddings.extend(
            of | {"network": name, "shape": values.shape, "dtype": values.dtype.str, "values": values.tobytes()}
            for name, values in part.embeddings.items()
        )
    shortest = min(len(item) for item in envelopes)  # stems of several rates differ by a frame at most
    confidences = activity.confidence(np.stack([item[:shortest] for item in envelopes]))
    for row, values in zip(stored.catalogue, confidences, strict=True):
        row["activity"] = values
    tags = (song.tags or {}).items()
    stored.tags.extend({"dataset": dataset, "song": song.name, "tag": tag, "value": value} for tag, value in tags)
    return stored


def write_tables(folder: Path, stored: Stored) -> str:
    """Write the tables of a data set in canonical order and return the digest of the contents."""
    rows = sorted(stored.catalogue, key=lambda row: (row["song"], row["stem"]))
    identity = ("song", "group", "stem", "split", "instrument", "program", "sample_rate", "channels", "frames", "crc32")
    lines = [repr([row[key] for key in identity]) for row in rows]
    pieces = (rows[first : first + ROWS_AT_ONCE] for first in range(0, len(rows), ROWS_AT_ONCE))
    write_catalogue(folder, (pa.Table.from_pylist(piece, CATALOGUE) for piece in pieces))
    notes = pa.Table.from_pylist(stored.notes, NOTES)
    _write(
        folder / "notes.parquet", notes.sort_by([(key, "ascending") for key in ("song", "stem", "onset_s", "pitch")])
    )
    if stored.tags:
        tags = pa.Table.from_pylist(stored.tags, TAGS).sort_by([("song", "ascending"), ("tag", "ascending")])
        lines += [repr(tuple(row.values())) for row in tags.select(["song", "tag", "value"]).to_pylist()]
        _write(folder / "tags.parquet", tags)
    if stored.embeddings:
        embeddings = pa.Table.from_pylist(stored.embeddings, EMBEDDINGS)
        embeddings = embeddings.sort_by([(key, "ascending") for key in ("song", "stem", "network")])
        kept = ("song", "stem", "network", "shape", "dtype")
        lines += [repr([*(row[key] for key in kept), zlib.crc32(row["values"])]) for row in embeddings.to_pylist()]
        _write(folder / "embeddings.parquet", embeddings)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def write_catalogue(folder: Path, pieces: Iterable[pa.Table]) -> None:
    """Write the catalogue of a data set, whose rows come in canonical order, piece by piece."""
    with pq.ParquetWriter(folder / "catalogue.parquet", CATALOGUE, compression="zstd") as file:
        for piece in pieces:
            file.write_table(piece)


def _write(file: Path, table: pa.Table) -> None:
    pq.write_table(table, file, compression="zstd")


def _as_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    return value.tolist()  # NumPy's


def _from_json(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["base64"]) if value.keys() == {"base64"} else value


def _checked(performance: Performance) -> Performance:
    audio = performance.audio
    if audio.ndim != 2 or not audio.shape[0] or not audio.shape[1]:
        raise UserError(f"its audio is empty (shape {audio.shape})")
    if not math.isfinite(float(np.abs(audio).max())):
        raise UserError("its audio holds NaN or infinite samples")
    lowest, highest = SAMPLE_RATES_HZ
    if not lowest <= performance.sample_rate <= highest:
        raise UserError(f"its sample rate of {performance.sample_rate} Hz is not one of {lowest} to {highest} Hz")
    if performance.notes:
        _check_notes(performance.notes, audio.shape[1] / performance.sample_rate)
    return performance


def _check_notes(notes: Sequence[Note], seconds: float) -> None:
    """Refuse notes that no frame or picture could show, in audio of ``seconds``.

    Raises:
        UserError: one of them is not as `timbrel.sources.base.Note` says; the message says which and why.
    """
    for note in notes:
        numbers = (note.pitch, note.velocity, note.program or 0)
        if not all(isinstance(value, Integral) for value in numbers):
            wrong = "has a pitch, velocity or program that is no whole number"
        elif not (_is_finite(note.onset_s) and _is_finite(note.offset_s)):
            wrong = "has an onset or offset that is no finite number"
        elif note.onset_s < 0:
            wrong = "begins before 0 s"
        elif note.offset_s > seconds + _BEYOND_S:
            wrong = f"goes on after the end of its audio, {seconds:g} s"
        elif not np.float32(note.onset_s) < np.float32(note.offset_s):  # as it is stored
            wrong = "does not end after it begins"
        elif not 0 <= note.pitch <= 127:
            wrong = "has a pitch outside 0 to 127"
        elif not 1 <= note.velocity <= 127:
            wrong = "has a velocity outside 1 to 127"
        elif not 0 <= (note.program or 0) <= 128:
            wrong = "has a program outside 0 to 128"
        else:
            continue
        raise UserError(f"one of its notes {wrong}: {tuple(note)}")


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)
