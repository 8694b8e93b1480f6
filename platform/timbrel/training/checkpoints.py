"""A run's checkpoints as Ray Train keeps them: which is the latest, whether it is whole, and room for the next."""

import errno
import json
import os
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

from timbrel.errors import UserError

RECORD = "checkpoint_manager_snapshot.json"
"""What Ray Train has on record for a run, in the run's folder. Its form belongs to Ray, whose version is pinned."""
STATE = "state.pt"
"""In a checkpoint: everything that a resumed run needs."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Of errors of the system: the disk, the user's share of it, or the file is as large as it may be."""

RESERVE = "reserve"
"""A file, in the folder of a run or study, that is given up where the disk is full: for the last words about it."""
RESERVE_BYTES = 4 * 2**20
SPARE_BYTES = 2**20
"""To be left beside a new checkpoint, for Ray's records, which it cuts off where there is no room for them."""


def keep_reserve(folder: Path) -> None:
    """Set room aside on the disk of a run's or study's folder.

    Raises:
        UserError: there is none.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RESERVE).write_bytes(os.urandom(RESERVE_BYTES))  # zeros would take no room on some file systems
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise UserError(f"no room in {folder}: make some, then try again.") from None


def release_reserve(folder: Path) -> None:
    """Give up the room that was set aside."""
    (folder / RESERVE).unlink(missing_ok=True)


def check_room(checkpoint: Path, run_folder: Path) -> None:
    """Raise what the system raises if there is no room to store a checkpoint that was written elsewhere."""
    needed = sum(path.stat().st_size for path in checkpoint.rglob("*")) + SPARE_BYTES
    if shutil.disk_usage(run_folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(run_folder))


def epochs_done(run_folder: Path) -> int:
    """Return the epoch of the latest checkpoint that is on record for a run, 0 if there is none."""
    record = run_folder / RECORD
    if not record.is_file():
        return 0
    latest = json.loads(record.read_text()).get("latest_checkpoint_result")
    return int(latest["metrics"]["epoch"]) if latest else 0


def drop_damaged(run_folder: Path) -> list[Path]:
    """Take damaged checkpoints off a run's record, so that it goes on from the latest whole one or else from the start.

    Returns their folders, which are removed.
    """
    file = run_folder / RECORD
    if not file.is_file():
        return []
    try:
        record = json.loads(file.read_text())
        kept = [_is_whole(run_folder / each["checkpoint_dir_name"]) for each in record["checkpoint_results"]]
    except (ValueError, KeyError, TypeError):
        shutil.rmtree(run_folder)
        return [run_folder]
    names = [each["checkpoint_dir_name"] for each in record["checkpoint_results"]]
    damaged = [run_folder / name for name, whole in zip(names, kept, strict=True) if not whole]
    if not damaged:
        return []
    for name in ("checkpoint_results", "checkpoint_report_indices"):
        record[name] = [each for each, whole in zip(record[name], kept, strict=True) if whole]
    if any(kept):
        record["latest_checkpoint_result"] = record["checkpoint_results"][-1]
        part = file.with_suffix(".part")
        part.write_text(json.dumps(record))
        part.replace(file)
    else:
        file.unlink()
    for folder in damaged:
        shutil.rmtree(folder, ignore_errors=True)
    return damaged


def _is_whole(checkpoint: Path) -> bool:
    """Return whether all files of a checkpoint are as they were written, by the checksums in them."""
    files = [path for path in checkpoint.rglob("*") if path.is_file()]
    return checkpoint / STATE in files and all(_is_sound(path) for path in files)


def _is_sound(file: Path) -> bool:
    try:
        if file.suffix == ".json":
            json.loads(file.read_text())
        elif file.suffix in (".pt", ".npz"):  # both are zip archives
            with zipfile.ZipFile(file) as archive:
                return archive.testzip() is None
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError):
        return False
    return True


def written(run_folder: Path) -> set[Path]:
    """Return the folders of a run's checkpoints, those that are not on record included."""
    return set(run_folder.glob("checkpoint_*/"))


def lacks_room(error: BaseException | None) -> bool:
    """Return whether something was not written for want of room."""
    seen: Any = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in NO_ROOM:
            return True
        seen = seen.__cause__ or seen.__context__
    return False
