"""Whether songs and files are still what they were: hashes of how they are described, and of their sizes and times."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, cast

from upath import UPath

from timbrel.sources import Song
from timbrel.splits import name_hash


def song_state(song: Song) -> str:
    """Return a hash of how a song is described, and of the sizes and times of its files."""
    return name_hash(repr(song), *sorted({_file_state(path) for path in _paths(song.stems)})).hex()[:32]


def files_state(path: Path) -> str:
    """Return a hash of the names, sizes and times of a file, or of all files in a folder."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return name_hash(*(f"{file.relative_to(path)} {_file_state(file)}" for file in files if not file.is_dir())).hex()


def _file_state(path: Path) -> str:
    try:
        found = path.stat()
    except OSError as error:
        return f"{path}: {error.strerror}"
    return f"{path} {found.st_size} {found.st_mtime}"


def _paths(value: Any) -> Iterator[Path]:
    """Yield the paths in dataclasses and tuples."""
    if is_dataclass(value):
        yield from _paths(tuple(getattr(value, each.name) for each in fields(value)))
    elif isinstance(value, tuple):
        for each in value:
            yield from _paths(each)
    elif isinstance(value, Path | UPath):
        yield cast("Path", value)
