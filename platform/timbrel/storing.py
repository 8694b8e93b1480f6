"""Writing a data set into a library: the audio of its songs, and the tables that say what it is.

What is written where, `timbrel.library` says, which reads it.
"""

import base64
import errno
import hashlib
import json
import math
import shutil
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from timbrel import activity
from timbrel.errors import UserError
from timbrel.library import CATALOGUE, EMBEDDINGS, NOTES, ROWS_AT_ONCE, TAGS, safe_name
from timbrel.sources import Note, Performance, Song

SAMPLE_RATES_HZ = (1_000, 768_000)
"""Lowest and highest that are stored: beyond them it is a damaged header that speaks."""
_BEYOND_S = 0.01
"""How much longer than its audio a note may be: rounding."""


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
    write_table(
        folder / "notes.parquet", notes.sort_by([(key, "ascending") for key in ("song", "stem", "onset_s", "pitch")])
    )
    if stored.tags:
        tags = pa.Table.from_pylist(stored.tags, TAGS).sort_by([("song", "ascending"), ("tag", "ascending")])
        lines += [repr(tuple(row.values())) for row in tags.select(["song", "tag", "value"]).to_pylist()]
        write_table(folder / "tags.parquet", tags)
    if stored.embeddings:
        embeddings = pa.Table.from_pylist(stored.embeddings, EMBEDDINGS)
        embeddings = embeddings.sort_by([(key, "ascending") for key in ("song", "stem", "network")])
        kept = ("song", "stem", "network", "shape", "dtype")
        lines += [repr([*(row[key] for key in kept), zlib.crc32(row["values"])]) for row in embeddings.to_pylist()]
        write_table(folder / "embeddings.parquet", embeddings)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def write_catalogue(folder: Path, pieces: Iterable[pa.Table]) -> None:
    """Write the catalogue of a data set, whose rows come in canonical order, piece by piece."""
    with pq.ParquetWriter(folder / "catalogue.parquet", CATALOGUE, compression="zstd") as file:
        for piece in pieces:
            file.write_table(piece)


def write_table(file: Path, table: pa.Table) -> None:
    """Write one of a data set's tables but its catalogue."""
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
