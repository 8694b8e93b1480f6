"""What is in a data set's folders, in an order that does not depend on the file system."""

from collections.abc import Iterator
from pathlib import Path

from timbrel.errors import is_utf8, one_line
from timbrel.sources.base import Skipped


def visible(folder: Path) -> list[Path]:
    """Return what is in ``folder``, sorted, without dot files: macOS's ._violin.wav is no audio."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def named(folder: Path, skipped: list[Skipped]) -> Iterator[Path]:
    """Yield what is visible in ``folder`` and has a name that a catalogue can hold."""
    for path in visible(folder):
        if is_utf8(path.name):
            yield path
        else:
            skipped.append(Skipped(one_line(str(path)), "its name is not UTF-8: rename it."))
