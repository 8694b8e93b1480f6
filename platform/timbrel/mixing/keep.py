"""Mixtures kept on disk, so that trials with the same recipe and seed render each of them once between them.

A mixture is a pure function of its number, so it does not matter who renders it. A mixing actor that needs a batch
which another one (of any trial) is rendering does not wait idly: it renders the next batch that nobody has begun.
"""

import contextlib
import errno
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

Batch = dict[str, np.ndarray]

AHEAD = 16
"""Batches that an actor may render ahead of the one it needs."""
CLAIM_S = 60.0
"""After so many seconds a batch that somebody began is taken for abandoned. Rendering it twice does no harm."""
POLL_S = 0.02


@dataclass(frozen=True)
class Keep:
    """Where a stream's batches are kept, and how many of them."""

    folder: str
    """Of this stream alone, on storage that all nodes share."""
    below: int
    """Only batches of examples with numbers below this are kept; the rest is rendered by every trial for itself."""
    batch_size: int
    """Of the batches, each of which is a file."""


class Keeper:
    """Renders batches, or reads those that have been rendered before."""

    def __init__(self, keep: Keep, render: Callable[[np.ndarray], Batch]) -> None:
        self.folder = Path(keep.folder)
        self.below = keep.below
        self.batch_size = keep.batch_size
        self.render = render
        self.folder.mkdir(parents=True, exist_ok=True)

    def batches(self, numbers: np.ndarray) -> Batch:
        """Return the examples of one or more batches, with consecutive ``numbers``, int64 ``(example,)``."""
        starts = range(0, len(numbers), self.batch_size)
        batches = [self.batch(numbers[start : start + self.batch_size]) for start in starts]
        return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}

    def batch(self, numbers: np.ndarray) -> Batch:
        """Return the batch of examples with consecutive ``numbers``, int64 ``(example,)``."""
        if numbers[-1] >= self.below:
            return self.render(numbers)
        while True:
            if (done := self._read(numbers)) is not None:
                return done
            if self._claim(numbers):
                return self._render(numbers)
            ahead = (numbers + step * len(numbers) for step in range(1, AHEAD + 1))
            for later in ahead:
                if later[-1] < self.below and not self._file(later).exists() and self._claim(later):
                    self._render(later)
                    break
            else:
                time.sleep(POLL_S)

    def _render(self, numbers: np.ndarray) -> Batch:
        """Render a batch that this process has claimed, unless somebody finished it just before, and keep it."""
        file = self._file(numbers)
        part = file.with_suffix(f".{uuid.uuid4().hex}.part")
        try:
            if (done := self._read(numbers)) is not None:
                return done
            batch = self.render(numbers)
            with part.open("wb") as opened:
                np.savez(opened, **batch)  # type: ignore[arg-type]  # its stub takes them for allow_pickle
            part.replace(file)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            self.below = 0  # What space there is belongs to checkpoints; from here on everybody renders for himself.
        finally:
            part.unlink(missing_ok=True)
            self._claim_file(numbers).unlink(missing_ok=True)
        return batch

    def _read(self, numbers: np.ndarray) -> Batch | None:
        """Return a batch that was kept, None if there is none or a crash of the machine has left it damaged."""
        # It is rendered anew then, and kept over the damaged one.
        with contextlib.suppress(FileNotFoundError, BadZipFile, EOFError, ValueError, KeyError):
            with np.load(self._file(numbers), allow_pickle=False) as file:
                batch = {name: file[name] for name in file.files}
            if np.array_equal(batch["number"], numbers):
                return batch
        return None

    def _claim(self, numbers: np.ndarray) -> bool:
        """Say that this process renders a batch; False if another one has said so."""
        file = self._claim_file(numbers)
        with contextlib.suppress(FileNotFoundError):  # nobody has claimed it, or no longer
            if time.time() - file.stat().st_mtime > CLAIM_S:
                file.unlink(missing_ok=True)
        try:
            file.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _file(self, numbers: np.ndarray) -> Path:
        return self.folder / f"{int(numbers[0]):09d}.npz"

    def _claim_file(self, numbers: np.ndarray) -> Path:
        return self._file(numbers).with_suffix(".claim")
