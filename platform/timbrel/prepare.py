"""`timbrel prepare`: one named data set, from its source into a library, in parallel, whole or not at all."""

import contextlib
import errno
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import filelock
from tqdm import tqdm

from timbrel import activity
from timbrel import library as lib
from timbrel.config import fingerprint
from timbrel.errors import UserError, is_utf8
from timbrel.overlap import listed_elsewhere
from timbrel.sources import Song, Source
from timbrel.splits import SplitRule, assign_splits
from timbrel.spread import spread


def prepare(
    source: Source,
    path: Path | None,
    root: Path,
    options: Any,
    name: str | None = None,
    *,
    split: SplitRule = "random",
    replace: bool = False,
) -> tuple[dict[str, Any], bool]:
    """Add one data set to the library at ``root``, and return its facts and whether anything had to be done.

    The songs are stored by Ray tasks if Ray runs, else in this process. The data set appears in the library once it
    is complete: an interrupted or failed call leaves the library as it was.

    Raises:
        UserError: nothing usable at ``path``, the name is taken by other content, the library can't be written to, or
            another process is preparing this data set.
    """
    if source.needs_path and path is None:
        raise UserError(f"source '{source.name}' needs a path: timbrel prepare {source.name} PATH --library {root}.")
    for given in (root, path):
        if not is_utf8(given):
            raise UserError(f"{given}: the name is not UTF-8: rename it.")
    name = lib.safe_name(name or source.name)
    identity = fingerprint(source.name, str(path.absolute()) if path else None, options, split)
    root = root.absolute()
    home, work, replaced = (root / f"{prefix}{name}" for prefix in ("", ".preparing-", ".replaced-"))
    with _folder(root), alone(root / f".{name}.lock", f"'{name}' in {root}"):
        library = lib.Library.create(root) if (root / "library.json").exists() else lib.Library(root)
        _put_back(home, replaced)
        if home.exists() and name not in library.datasets:
            raise UserError(f"{home} is there already and is no data set: choose another --name or --library.")
        if home.exists() and not replace:
            facts = library.facts(name)
            if facts.get("identity") == identity:
                return facts, False
            raise UserError(
                f"the library {root} already holds another data set '{name}': "
                "give this one another --name, or say --replace."
            )
        shutil.rmtree(work, ignore_errors=True)
        try:
            facts = _store(source, path, options, name, split, work) | {"identity": identity}
            (work / "dataset.json").write_text(json.dumps(facts, indent=2) + "\n")
            lib.Library.create(root)
            if home.exists():
                home.rename(replaced)
            work.rename(home)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(f"the disk of {root} is full: free some space and prepare again.") from None
            raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
            _put_back(home, replaced)
    return facts, True


@contextlib.contextmanager
def _folder(root: Path) -> Iterator[None]:
    """Make the library's folder, and take it away again if nothing came of it."""
    made = [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{root} is no folder: --library takes one.") from None
    except OSError as error:
        raise UserError(f"{root} can't be made a folder ({error.strerror}): choose another --library.") from None
    if not os.access(root, os.W_OK | os.X_OK):
        raise UserError(f"{root} can't be written to: choose another --library, or change its permissions.")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # not empty: something came of it
            for folder in made:
                folder.rmdir()


@contextlib.contextmanager
def alone(file: Path, what: str) -> Iterator[None]:
    """Hold a lock file, and take it away again while it is still held.

    Raises:
        UserError: another process holds it.
    """
    lock = filelock.FileLock(file, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UserError(f"another process is preparing {what}: wait for it to end.") from None
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        lock.release()


def _put_back(home: Path, replaced: Path) -> None:
    """Undo or complete a replacement that was interrupted: the old data set goes once the new one is in its place."""
    if replaced.exists():
        if home.exists():
            shutil.rmtree(replaced)
        else:
            replaced.rename(home)


def _store(
    source: Source, path: Path | None, options: Any, name: str, split: SplitRule, folder: Path
) -> dict[str, Any]:
    started = time.perf_counter()
    found = source.find(path, options)
    folder.mkdir(parents=True)
    stored = lib.Stored()
    songs = spread(_StoreSong(name, folder), found.songs)
    for one in tqdm(songs, total=found.count, desc=f"preparing {name}", unit="song"):
        stored.add(one)
    stored.skipped[:0] = [(item.what, item.why) for item in found.skipped]
    rows = stored.catalogue
    if not rows:
        reasons = "; ".join(f"{what}: {why}" for what, why in stored.skipped[:3]) or "it holds no song"
        raise UserError(f"nothing in {path or source.name} could be prepared ({reasons}).")
    divided = assign_splits(rows, split, listed_elsewhere(lib.Library(folder.parent), name))
    digest = lib.write_tables(folder, stored)
    return {
        "name": name,
        "source": source.name,
        "path": str(path) if path else None,
        "options": {key: str(value) for key, value in vars(options).items()},
        "digest": digest,
        "songs": len({row["song"] for row in rows}),
        "stems": len(rows),
        "notes": len(stored.notes),
        "hours": round(sum(row["frames"] / row["sample_rate"] for row in rows) / 3600, 3),
        "split_rule": split,
        **divided,
        "splits": dict(Counter(split for _, split in {(row["song"], row["split"]) for row in rows})),
        "instruments": dict(Counter(row["instrument"] for row in rows).most_common()),
        "channels": _counts(row["channels"] for row in rows),
        "sample_rates": _counts(row["sample_rate"] for row in rows),
        "silent": sorted(f"{row['song']}/{row['stem']}" for row in rows if max(row["activity"]) < activity.SOUNDING),
        "skipped": [list(item) for item in sorted(stored.skipped)],
        "vocabulary": list(found.vocabulary),
        "seconds": round(time.perf_counter() - started, 1),
    }


def _counts(values: Iterable[int]) -> dict[str, int]:
    """Return how often each value occurs, smallest first; the keys are those that JSON would make of them."""
    return {str(value): count for value, count in sorted(Counter(values).items())}


class _StoreSong:
    """``store_song`` with its place filled in, in a form that pickles."""

    def __init__(self, dataset: str, folder: Path) -> None:
        self.dataset = dataset
        self.folder = folder

    def __call__(self, song: Song) -> Any:
        return lib.store_song(song, self.dataset, self.folder)
