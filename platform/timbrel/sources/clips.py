"""What the sources of tagged clips have in common: tables with line numbers, large folders, and songs of one stem."""

import contextlib
import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from timbrel.errors import UserError
from timbrel.sources.base import Performance, Skipped, Song, Stem
from timbrel.sources.folders import named


def data_set_folder(path: Path | None, source: str, layout: str) -> Path:
    """Return ``path`` as an absolute path, as a clip may be read by a process with another working directory.

    Raises:
        UserError: it is no folder.
    """
    if path is None:
        raise UserError(f"the source '{source}' needs the path of a folder: {layout}.")
    if not path.is_dir():
        raise UserError(f"{path}: {'not a folder' if path.exists() else 'no such folder'}; {layout}.")
    return path.absolute()


def clip(
    name: str, perform: Callable[[], Performance], split: str, tags: Mapping[str, float], artist: str, group: str = ""
) -> Song:
    """Return a recording that is not divided into stems, as the song of one stem that it is."""
    return Song(name, (Stem("mix", "mix", perform),), artist, split, group, tags)


def rows(table: Path, delimiter: str = ",") -> Iterator[tuple[str, list[str]]]:
    """Yield what to call each line of a table, and its cells; empty lines are passed over.

    Line ends may be those of any system: csv takes them off, so that the last cell doesn't keep a carriage return.

    Raises:
        UserError: the file is missing, or no such table.
    """
    with opened(table):
        try:
            # utf-8-sig: spreadsheets put a byte order mark in front.
            with table.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.reader(file, delimiter=delimiter, strict=True)
                for cells in reader:
                    if any(cells):
                        yield f"{table}, line {reader.line_num}", [cell.strip() for cell in cells]
        except UnicodeDecodeError as error:
            raise UserError(f"{table}: it is not UTF-8 text; take it from the data set again.") from error
        except csv.Error as error:
            raise UserError(f"{table}, line {reader.line_num}: it is no table ({error}); take it again.") from error


@contextlib.contextmanager
def opened(path: Path) -> Iterator[None]:
    """Turn what the file system says against reading ``path`` into a sentence."""
    try:
        yield
    except OSError as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror or error})"
        raise UserError(f"{error.filename or path}: {why}; take it from the data set again.") from error


@dataclass(frozen=True)
class Tree:
    """Files in the folders of ``root``; each folder is looked at once, which matters where files lie in a bucket."""

    root: Path
    skipped: list[Skipped]
    """Gets the files whose names are not UTF-8."""
    _folders: dict[str, dict[str, Path]] = field(default_factory=dict)

    def file(self, relative: str) -> Path | None:
        """Return the file ``<folder>/<name>``, or None where there is none, and count it as used."""
        folder, _, name = relative.rpartition("/")
        if folder not in self._folders:
            home = self.root / folder
            with opened(home):
                self._folders[folder] = {path.name: path for path in named(home, self.skipped)} if home.is_dir() else {}
        return self._folders[folder].pop(name, None)

    def unused(self, suffix: str) -> Iterator[Path]:
        """Yield the files of that suffix that were not asked for, from the folders that were."""
        for folder in self._folders.values():
            yield from (path for path in folder.values() if path.suffix.lower() == suffix)
