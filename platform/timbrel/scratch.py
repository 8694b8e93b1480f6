"""Where a command puts what it needs for a moment: one folder, which does not outlast it even if it is killed."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import filelock

PREFIX = "timbrel-command-"
LOCK = ".lock"


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Have all temporary files of this process made in a folder of its own, and remove it at the end.

    The folder is locked for as long as the process lives. Those of commands that were killed are not, and are removed
    on the way.
    """
    home = tempfile.gettempdir()
    remove_abandoned(Path(home))
    draft = Path(tempfile.mkdtemp(prefix=f".{PREFIX}"))
    folder = draft.with_name(draft.name.removeprefix("."))
    with filelock.FileLock(draft / LOCK):
        # Under this name others may take it for abandoned, so not before it is locked.
        draft.rename(folder)
        tempfile.tempdir = str(folder)
        try:
            yield folder
        finally:
            tempfile.tempdir = home
            shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(home: Path) -> None:
    """Remove the folders of commands that are no longer there."""
    for folder in home.glob(f"{PREFIX}*"):
        # In use, or another user's.
        with contextlib.suppress(filelock.Timeout, OSError), filelock.FileLock(folder / LOCK, timeout=0):
            shutil.rmtree(folder)
