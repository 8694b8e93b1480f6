"""`timbrel prepare`: one named data set, from its source into a library, in parallel.

It appears in the library once it is whole. Until then it lies in a hidden folder, each song with a record of what the
tables will say of it, and the same command goes on from there.
"""

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
from timbrel.check import check
from timbrel.config import fingerprint
from timbrel.errors import UserError, is_utf8
from timbrel.library import Library, safe_name
from timbrel.overlap import listed_elsewhere
from timbrel.sources import Song, Source
from timbrel.splits import SplitRule, assign_splits
from timbrel.spread import spread
from timbrel.states import files_state, song_state
from timbrel.storing import Stored, store_song, write_tables

RECORDS = "stored"
"""Folder of what the tables will say of each song that is stored."""
AGAIN = "the same command goes on with the songs that are left"


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

    The source's files are checked first, then the songs are stored: by Ray tasks if Ray runs, else in this process. The
    data set appears in the library once it is complete; until then, the library is as it was. A call that was
    interrupted can be repeated: songs that are stored already, and whose files have not changed, are not stored again.

    Raises:
        UserError: nothing usable at ``path``, its files have changed since they were prepared, the name is taken by
            other content, the library can't be written to or has no room, or another process is preparing this data
            set.
    """
    if source.needs_path and path is None:
        raise UserError(f"source '{source.name}' needs a path: timbrel prepare {source.name} PATH --library {root}.")
    for given in (root, path):
        if not is_utf8(given):
            raise UserError(f"{given}: the name is not UTF-8: rename it.")
    name = safe_name(name or source.name)
    identity = fingerprint(source.name, str(path.absolute()) if path else None, options, split)
    root = root.absolute()
    home, work, replaced = (root / f"{prefix}{name}" for prefix in ("", ".preparing-", ".replaced-"))
    with _folder(root), alone(root / f".{name}.lock", f"'{name}' in {root}"):
        library = Library.create(root) if (root / "library.json").exists() else Library(root)
        _put_back(home, replaced)
        if home.exists() and name not in library.datasets:
            raise UserError(f"{home} is there already and is no data set: choose another --name or --library.")
        if home.exists() and not replace:
            facts = library.facts(name)
            if facts.get("identity") == identity:
                files = files_state(path) if path else ""
                if facts.get("files", files) != files:  # data sets of timbrel 0.1.0 don't say
                    raise UserError(
                        f"files of {path} have changed since '{name}' was prepared from them: say --replace to prepare "
                        "it anew."
                    )
                return facts, False
            raise UserError(
                f"the library {root} already holds another data set '{name}': "
                "give this one another --name, or say --replace."
            )
        begun = work / "identity"
        if not begun.exists() or begun.read_text() != identity:
            shutil.rmtree(work, ignore_errors=True)
        try:
            if path is not None:
                _check_room(check(source, path, options).samples, root, work)
            work.mkdir(exist_ok=True)
            begun.write_text(identity)
            facts = _store(source, path, options, name, split, work) | {"identity": identity}
            (work / "dataset.json").write_text(json.dumps(facts, indent=2) + "\n")
            begun.unlink()
            Library.create(root)
            if home.exists():
                home.rename(replaced)
            work.rename(home)
        except UserError:
            shutil.rmtree(work, ignore_errors=True)
            raise
        except KeyboardInterrupt:
            raise KeyboardInterrupt(AGAIN if _records(work) else "") from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(f"the disk of {root} is full: free some space, and {AGAIN}.") from None
            raise
        finally:
            if not _records(work):
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
    files = {"files": files_state(path)} if path else {}  # before they are read: what changes meanwhile is noticed
    found = source.find(path, options)
    (folder / RECORDS).mkdir(exist_ok=True)
    stored = Stored()
    songs = spread(_StoreSong(name, folder), found.songs)
    for one in tqdm(songs, total=found.count, desc=f"preparing {name}", unit="song"):
        stored.add(one)
    stored.skipped[:0] = [(item.what, item.why) for item in found.skipped]
    rows = stored.catalogue
    if not rows:
        reasons = "; ".join(f"{what}: {why}" for what, why in stored.skipped[:3]) or "it holds no song"
        raise UserError(f"nothing in {path or source.name} could be prepared ({reasons}).")
    divided = assign_splits(rows, split, listed_elsewhere(Library(folder.parent), name))
    digest = write_tables(folder, stored)
    shutil.rmtree(folder / RECORDS)
    _remove_others(folder, rows)
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
        **files,
        "seconds": round(time.perf_counter() - started, 1),
    }


def _counts(values: Iterable[int]) -> dict[str, int]:
    """Return how often each value occurs, smallest first; the keys are those that JSON would make of them."""
    return {str(value): count for value, count in sorted(Counter(values).items())}


class _StoreSong:
    """``store_song`` with its place filled in, in a form that pickles; what it has done before, it reads."""

    def __init__(self, dataset: str, folder: Path) -> None:
        self.dataset = dataset
        self.folder = folder

    def __call__(self, song: Song) -> Stored:
        record = self.folder / RECORDS / f"{song_state(song)}.json"
        if record.exists():
            return Stored.read(record)
        stored = store_song(song, self.dataset, self.folder)
        stored.write(record)
        return stored


def _records(work: Path) -> bool:
    """Tell whether a song is stored already."""
    return any((work / RECORDS).glob("*.json"))


def _remove_others(folder: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Take away songs that an interrupted run has stored, and that the data set no longer has."""
    kept = {Path(row["path"]).parent.name for row in rows}
    for home in (folder / "songs").iterdir():
        if home.name not in kept:
            shutil.rmtree(home)


def _check_room(samples: int, root: Path, work: Path) -> None:
    """Refuse to begin what the disk can't hold: samples are stored in 16 bits.

    Raises:
        UserError: there is less room, what is stored already counted.
    """
    stored = sum(file.stat().st_size for file in work.rglob("*.wav"))
    needed, free = 2 * samples - stored, shutil.disk_usage(root).free
    if needed > free:
        raise UserError(
            f"the disk of {root} has {free / 1e9:.1f} GB left, the stems need {needed / 1e9:.1f} GB: free some space, "
            "or choose another --library."
        )
