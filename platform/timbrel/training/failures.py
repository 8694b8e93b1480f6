"""Of what goes wrong in a run: what is worth another try, and a note of what is not, for those who would try again."""

import contextlib
import json
import traceback
import uuid
from collections.abc import Iterator
from pathlib import Path

import ray.exceptions
import ray.train
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback

from timbrel.errors import UserError, find_user_error

LOST = (
    ray.exceptions.RayActorError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.NodeDiedError,
)
"""What Ray says where a process is gone, or what it held."""


def process_died(error: BaseException | None) -> bool:
    """Return whether the error of a run, or of a part of it, is that a process was lost, rather than that something
    raised."""
    if isinstance(error, ray.exceptions.RayTaskError):
        return process_died(error.cause)
    if isinstance(error, UserExceptionWithTraceback):
        return process_died(error._base_exc)
    if isinstance(error, ray.train.WorkerGroupError):
        return any(process_died(each) for each in error.worker_failures.values())
    # Ray calls an actor dead, too, whose constructor raised.
    return isinstance(error, LOST) and not getattr(error, "actor_init_failed", False)


def note_failure(file: Path, error: Exception, by: int = 0) -> None:
    """Write down an exception that would only repeat itself."""
    known = find_user_error(error)
    note = {"sentence": str(known) if known else "", "traceback": "".join(traceback.format_exception(error))}
    own = file.with_suffix(f".{by}")  # all workers may have something to say at once
    try:
        own.write_text(json.dumps(note))
        own.replace(file)
    except OSError:  # as where the disk is full; then Ray Train may try in vain, and pass it on
        raise error from None


@contextlib.contextmanager
def failures_noted(folder: Path, name: str) -> Iterator[Path]:
    """Yield the file in which workers of this leader of a trial note a failure, and raise what was noted, in the end or
    by an earlier leader of the trial.

    Raises:
        UserError: a worker raised one.
        RuntimeError: a worker raised another exception; its traceback is in the message.
    """
    noted = folder / f"{name}-failure.json"
    _raise_noted(noted)  # a trial that is started again after it failed would only repeat itself
    # Workers that outlive their leader by a moment see all die that it had started: nothing to tell the next one.
    own = noted.with_name(f"{name}-{uuid.uuid4().hex}-failure.json")
    try:
        yield own
    except ray.train.WorkerGroupError as error:
        if not process_died(error):
            note_failure(own, error)
        raise
    finally:
        if own.exists():
            own.replace(noted)
    _raise_noted(noted)


def _raise_noted(file: Path) -> None:
    if not file.exists():
        return
    note = json.loads(file.read_text())
    if note["sentence"]:
        raise UserError(note["sentence"])
    raise RuntimeError(f"a worker failed:\n{note['traceback']}")
