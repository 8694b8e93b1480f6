"""What is in a data set's folders, in an order that does not depend on the file system."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

from upath import UPath

from timbrel.errors import UserError, is_utf8, one_line
from timbrel.sources.base import Skipped


def data_path(text: str) -> Path:
    """Return where a data set lies: a path, or for ``s3://`` and ``gs://`` what behaves like one.

    Raises:
        UserError: no such protocol, its package is not installed, or the bucket can't be reached.
    """
    protocol, colon, _ = text.partition("://")
    if not colon:
        return Path(text)
    try:
        path = UPath(text)
        reached = path.exists()
    except ImportError as error:
        raise UserError(f"{text}: {error}: pip install 'timbrel[{protocol}]'.") from None
    except ValueError as error:
        raise UserError(f"{text}: {error}: give a folder, s3:// or gs://.") from None
    except Exception as error:  # each file system has errors of its own: no credentials, no such host
        raise UserError(
            f"{text} can't be reached ({type(error).__name__}: {error}): check its name and your access."
        ) from error
    if not reached:
        raise UserError(f"{text}: no such file or folder.")
    return cast("Path", path)


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
