"""Stems of one's own: a folder for every song, or a list of files.

As folders, each file is called after its instrument, with a number where several stems play it; a level of
``train``, ``valid`` and ``test`` folders above the songs, if there is nothing else on it, is the split::

    my_stems/                        my_stems/
    ├── Night Owl/                   ├── train/
    │   ├── lead vox.wav             │   └── Night Owl/
    │   ├── violin_1.wav             │       ├── lead vox.wav
    │   └── violin_2.flac            │       └── ...
    └── Blue Hour/                   ├── valid/
        └── piano.wav                └── test/

As a list, in CSV (UTF-8, with commas) or Parquet, the files may lie anywhere. ``split`` and ``artist`` may be
left out; other columns are ignored; paths are relative to the list unless they are absolute::

    my_stems.csv                     path,song,instrument,split,artist
                                     takes/0017.wav,Night Owl,lead vox,train,The Owls
                                     takes/0018.wav,Night Owl,violin,train,The Owls

Folders of artists above the songs are not read: list the files instead. Which instrument names are known
is written in ``timbrel/taxonomy.csv``. The stems of a song start together. They may differ in length (the
library pads the shorter ones with silence), in sample rate and in channels, and may be silent.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from timbrel.errors import UserError
from timbrel.sources.audio import AudioFile
from timbrel.sources.base import Found, Skipped, Song, Stem
from timbrel.sources.folders import named
from timbrel.taxonomy import TAXONOMY

EXTENSIONS = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff")
"""What a folder is searched for; a list may name anything that libsndfile reads."""

UNREADABLE = (".m4a", ".aac", ".mp4", ".wma", ".opus")
"""Audio that is reported rather than passed over."""

REQUIRED = ("path", "song", "instrument")
OPTIONAL = ("split", "artist")

SPLITS = {"train": "train", "training": "train", "test": "test"} | dict.fromkeys(
    ("valid", "validation", "val", "dev"), "valid"
)
"""The words for a split, in lower case, and the split that they mean."""

LAYOUTS = (
    "expected folders <song>/<instrument>.wav or {train,valid,test}/<song>/<instrument>.wav, "
    f"or a .csv or .parquet list with the columns {', '.join(REQUIRED)}"
)

_TEXT_OR_NUMBER = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_null,
)
"""What a column of a Parquet list may hold: a song may be called 17."""


@dataclass(frozen=True, kw_only=True)
class StemsOptions:
    """What ``--option`` may set for the source ``stems``."""

    unknown: Literal["skip", "keep", "error"] = "skip"
    """What becomes of a stem whose instrument is not in the taxonomy: ``skip`` leaves it out and reports it,
    ``error`` stops, and ``keep`` takes it (and what is outside the taxonomy, such as a mix) for a task that
    has a taxonomy of its own."""


class _Row(NamedTuple):
    """One stem as found, in either layout."""

    path: Path
    song: str
    instrument: str
    split: str | None
    artist: str
    where: str
    """What to call the row in a message."""


class Stems:
    """The source ``stems``."""

    name = "stems"
    summary = "your own stems: folders <song>/<instrument>.wav, or a CSV or Parquet list"
    needs_path = True
    options_type = StemsOptions

    def find(self, path: Path | None, options: StemsOptions) -> Found:
        """Describe the stems in the folder or the list at ``path``; no audio is opened.

        Raises:
            UserError: nothing usable is there, or the list contradicts itself.
        """
        if path is None:
            raise UserError(f"the source 'stems' needs a path: {LAYOUTS}.")
        # Absolute, as a stem may be read by a process with another working directory.
        path = path.absolute()
        skipped: list[Skipped] = []
        try:
            if path.is_dir():
                rows = list(_folder_rows(path, skipped))
            elif not path.exists():
                raise UserError(f"{path}: no such file or folder; {LAYOUTS}.")
            elif path.suffix.lower() in (".csv", ".parquet"):
                rows = list(_listed_rows(path, skipped))
            else:
                raise UserError(f"{path}: neither a folder nor a list; {LAYOUTS}.")
        except OSError as error:
            where = error.filename or path
            raise UserError(f"{where}: cannot be read ({error.strerror or error}).") from error
        songs = _songs(rows, options, skipped)
        if not songs:
            first = "".join(f" (first problem: {s.what}: {s.why.rstrip('.')})" for s in skipped[:1])
            raise UserError(f"{path}: no usable stems{first}; {LAYOUTS}.")
        return Found(songs, len(songs), skipped)


def _folder_rows(root: Path, skipped: list[Skipped]) -> Iterator[_Row]:
    """Yield the stems of a folder tree."""
    folders = _folders(root, skipped)
    has_splits = all(folder.name.lower() in SPLITS for folder in folders) and any(
        path.is_dir() for folder in folders for path in folder.iterdir()
    )
    if not has_splits:
        for song in folders:
            yield from _song_rows(song, None, skipped)
        return
    for folder in folders:
        for song in _folders(folder, skipped):
            yield from _song_rows(song, SPLITS[folder.name.lower()], skipped)


def _folders(folder: Path, skipped: list[Skipped]) -> list[Path]:
    """Return the folders in ``folder``, on a level where audio is out of place."""
    folders = []
    for path in named(folder, skipped):
        if path.is_dir():
            folders.append(path)
        elif path.suffix.lower() in EXTENSIONS + UNREADABLE:
            skipped.append(Skipped(str(path), "audio outside a song's folder: give its song a folder."))
    return folders


def _song_rows(folder: Path, split: str | None, skipped: list[Skipped]) -> Iterator[_Row]:
    """Yield the stems of one song."""
    first: dict[str, Path] = {}
    for path in named(folder, skipped):
        suffix = path.suffix.lower()
        if path.is_dir():
            skipped.append(Skipped(str(path), "a folder in a song's folder: move its audio up, or list it."))
        elif suffix in UNREADABLE:
            skipped.append(Skipped(str(path), f"{suffix} is not read: convert it to .wav or .flac."))
        elif suffix in EXTENSIONS:
            if (twin := first.setdefault(path.stem, path)) != path:
                skipped.append(Skipped(str(path), f"named like {twin.name}: rename or remove one of them."))
                continue
            # violin_1 is a violin, but the number of TR-808 is part of the name.
            bare = re.sub(r"[\s_-]+\d+$", "", path.stem)
            instrument = bare if TAXONOMY.lookup(bare) else path.stem
            yield _Row(path, folder.name, instrument, split, "", str(path))
    if not first:
        skipped.append(Skipped(str(folder), "no audio in it."))


def _listed_rows(path: Path, skipped: list[Skipped]) -> Iterator[_Row]:
    """Yield the stems of a list."""
    first: dict[Path, str] = {}
    for where, cells in _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path):
        for column in REQUIRED:
            if not cells[column]:
                raise UserError(f"{where}: the column '{column}' is empty.")
        split = cells["split"].lower()
        if split and split not in SPLITS:
            raise UserError(f"{where}: '{cells['split']}' is no split: write train, valid, test or nothing.")
        audio = path.parent / cells["path"]
        if audio in first:
            raise UserError(f"{where}: {cells['path']} is listed already ({first[audio]}): remove one.")
        first[audio] = where
        if not audio.is_file():
            skipped.append(Skipped(str(audio), f"no such file ({where}): paths are relative to the list."))
            continue
        yield _Row(audio, cells["song"], cells["instrument"], SPLITS.get(split), cells["artist"], where)


def _read_csv(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield what to call each line, and its cells."""
    try:
        # utf-8-sig: spreadsheets put a byte order mark in front.
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)  # else an open quote swallows the lines that follow
            columns = [name.strip().lower() for name in next(reader, [])]
            _check_columns(path, columns)
            for values in reader:
                if len(values) > len(columns):
                    raise UserError(
                        f"{path}, line {reader.line_num}: {len(values)} cells for {len(columns)} columns; "
                        "put a value that holds a comma in double quotes."
                    )
                if any(map(str.strip, values)):
                    yield f"{path}, line {reader.line_num}", _cells(dict(zip(columns, values, strict=False)))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: the list is not UTF-8 text; save it as 'CSV UTF-8'.") from error
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: the list is not CSV ({error}).") from error


def _read_parquet(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield what to call each row, and its cells."""
    try:
        table = pq.ParquetFile(path).read()
        names = table.column_names
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: the list is not Parquet ({error}).") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: the list has columns whose names are not UTF-8; save it again.") from error
    table = table.rename_columns([name.strip().lower() for name in names])
    _check_columns(path, table.column_names)
    table = table.select([name for name in REQUIRED + OPTIONAL if name in table.column_names])
    for field in table.schema:
        held = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if not any(is_type(held) for is_type in _TEXT_OR_NUMBER):
            raise UserError(f"{path}: the column '{field.name}' holds {field.type}; expected text.")
    try:
        rows = table.to_pylist()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: the list holds text that is not UTF-8; save it again.") from error
    for number, row in enumerate(rows, start=1):
        yield f"{path}, row {number}", _cells(row)


def _check_columns(path: Path, columns: list[str]) -> None:
    if missing := [name for name in REQUIRED if name not in columns]:
        raise UserError(
            f"{path}: no column {' and no column '.join(missing)}; expected {','.join(REQUIRED)}"
            f"[,{','.join(OPTIONAL)}], got {','.join(columns) or 'nothing'}."
        )
    if twice := [name for name in REQUIRED + OPTIONAL if columns.count(name) > 1]:
        raise UserError(f"{path}: the column {' and the column '.join(twice)} is there twice: remove one.")


def _cells(row: dict[str, object]) -> dict[str, str]:
    """Return the text of every column of a list, empty where there is none."""
    return {name: "" if row.get(name) is None else str(row[name]).strip() for name in REQUIRED + OPTIONAL}


def _songs(rows: list[_Row], options: StemsOptions, skipped: list[Skipped]) -> list[Song]:
    """Gather rows into songs, in the order in which they were found."""
    rows_of: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        first = rows_of[row.song][0] if row.song in rows_of else row
        for what in ("split", "artist"):
            here, there = getattr(row, what) or "none", getattr(first, what) or "none"
            if here != there:
                # A song on both sides of a split would make every result too good.
                raise UserError(
                    f"{row.where}: the song '{row.song}' has the {what} {here}, "
                    f"but {there} before ({first.where}): give all its stems the same."
                )
        rows_of[row.song].append(row)
    songs = []
    for name, song_rows in rows_of.items():
        stems: dict[str, Stem] = {}
        for row in song_rows:
            if _usable(row, options, skipped):
                stem_name = _unique(row.path.stem, stems)
                stems[stem_name.casefold()] = Stem(stem_name, row.instrument, AudioFile(row.path))
        if stems:
            songs.append(Song(name, tuple(stems.values()), song_rows[0].artist, song_rows[0].split))
        else:
            skipped.append(Skipped(name, "none of the song's stems can be used."))
    return songs


def _usable(row: _Row, options: StemsOptions, skipped: list[Skipped]) -> bool:
    """Tell whether the taxonomy has a class for the stem, and report it if not."""
    if options.unknown == "keep":
        return True
    entry = TAXONOMY.lookup(row.instrument)
    if entry is not None and entry.family is not None:
        return True
    if entry is not None:
        skipped.append(Skipped(row.where, f"'{row.instrument}' is outside the taxonomy: {entry.note}."))
        return False
    unknown = TAXONOMY.unknown(row.instrument)
    if options.unknown == "error":
        raise UserError(f"{row.where}: {unknown}")
    skipped.append(Skipped(row.where, str(unknown)))
    return False


def _unique(name: str, taken: dict[str, Stem]) -> str:
    """Number ``name`` if it is ``taken``; those keys are casefolded, as not every file system tells case."""
    unique, number = name, 2
    while unique.casefold() in taken:
        unique, number = f"{name}_{number}", number + 1
    return unique


SOURCE = Stems()
