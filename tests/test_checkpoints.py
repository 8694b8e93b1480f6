"""Checkpoints that are cut short, and disks without room."""

import errno
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import ray.train
import torch

from timbrel.errors import UserError
from timbrel.training import worker
from timbrel.training.checkpoints import (
    RECORD,
    RESERVE,
    RESERVE_BYTES,
    drop_damaged,
    epochs_done,
    keep_reserve,
    lacks_room,
    written,
)


@pytest.fixture
def run(tmp_path):
    """A run's folder with checkpoints of epochs 3 and 4, on Ray Train's record, and one that is not."""
    tmp_path = tmp_path / "run"
    entries = []
    for epoch in (3, 4):
        folder = tmp_path / f"checkpoint_{epoch}"
        (folder / "model").mkdir(parents=True)
        torch.save({"epoch": epoch, "weights": torch.randn(1000)}, folder / "state.pt")
        (folder / "model/config.json").write_text('{"seed": 0}')
        np.savez_compressed(folder / "model/test.npz", scores=np.random.default_rng(0).random(1000))
        entries.append({"checkpoint_dir_name": folder.name, "metrics": {"epoch": epoch}})
    record = {"checkpoint_results": entries, "checkpoint_report_indices": [2, 3]}
    record |= {"latest_checkpoint_result": entries[-1], "current_report_index": 4}
    (tmp_path / RECORD).write_text(json.dumps(record))
    (tmp_path / "checkpoint_5").mkdir()
    return tmp_path


def cut(file):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(bytes(content))


def test_whole_checkpoints_are_left_alone(run):
    before = (run / RECORD).read_text()
    assert drop_damaged(run) == []
    assert (run / RECORD).read_text() == before
    assert epochs_done(run) == 4


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("state.pt", cut),
        ("state.pt", flip),
        ("model/test.npz", cut),
        ("model/test.npz", flip),
        ("model/config.json", cut),
    ],
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(run, name, harm):
    harm(run / "checkpoint_4" / name)
    assert drop_damaged(run) == [run / "checkpoint_4"]
    assert epochs_done(run) == 3
    record = json.loads((run / RECORD).read_text())
    assert [each["checkpoint_dir_name"] for each in record["checkpoint_results"]] == ["checkpoint_3"]
    assert record["checkpoint_report_indices"] == [2]
    assert sorted(path.name for path in run.iterdir()) == sorted(["checkpoint_3", "checkpoint_5", RECORD])


def test_an_older_one_goes_too(run):
    cut(run / "checkpoint_3/state.pt")
    assert drop_damaged(run) == [run / "checkpoint_3"]
    assert epochs_done(run) == 4


def test_without_a_whole_one_the_run_begins_anew(run):
    for epoch in (3, 4):
        cut(run / f"checkpoint_{epoch}/state.pt")
    assert len(drop_damaged(run)) == 2
    assert epochs_done(run) == 0
    assert not (run / RECORD).exists()


def test_one_that_is_not_there_is_damaged(run):
    (run / "checkpoint_4/state.pt").unlink()
    assert drop_damaged(run) == [run / "checkpoint_4"]
    assert epochs_done(run) == 3


def test_a_damaged_record_is_no_record(run):
    cut(run / RECORD)
    assert drop_damaged(run) == [run]
    assert epochs_done(run) == 0


def test_a_run_without_checkpoints(tmp_path):
    assert drop_damaged(tmp_path) == []
    assert epochs_done(tmp_path) == 0
    assert written(tmp_path) == set()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_want_of_room_is_told_from_other_errors(number):
    def chained():
        try:
            raise OSError(number, "no room")
        except OSError as error:
            raise RuntimeError("could not write") from error

    with pytest.raises(RuntimeError) as raised:
        chained()
    assert lacks_room(raised.value)
    assert lacks_room(OSError(number, "no room"))
    assert not lacks_room(PermissionError(errno.EACCES, "not yours"))
    assert not lacks_room(RuntimeError("out of memory"))
    assert not lacks_room(None)


@pytest.fixture
def report(run, monkeypatch):
    """What a worker reports at the end of epoch 5, and how Ray is told."""
    storage = SimpleNamespace(experiment_fs_path=str(run))
    monkeypatch.setattr(ray.train, "get_context", lambda: SimpleNamespace(get_storage=lambda: storage))
    learner = SimpleNamespace(state_dict=lambda: {"weights": torch.zeros(10)}, epoch=5)
    keep_reserve(run.parent)

    def tell(by):
        monkeypatch.setattr(ray.train, "report", by)
        worker._report({"epoch": 5}, learner, [], [])

    yield tell
    (run.parent / RESERVE).unlink(missing_ok=True)


def test_a_disk_that_is_full_while_a_checkpoint_is_stored(run, report):
    """What was there is left, what was begun is removed, and the room set aside is given up."""

    def store(values, checkpoint):
        shutil.copytree(checkpoint.path, run / "checkpoint_6")
        raise OSError(errno.ENOSPC, "Error writing bytes to file")

    before = written(run)
    assert (run.parent / RESERVE).stat().st_size == RESERVE_BYTES
    with pytest.raises(UserError, match=rf"no room in {run.parent} for the checkpoint of epoch 5.*--resume"):
        report(store)
    assert written(run) == before
    assert not list(run.glob("timbrel-*"))
    assert not (run.parent / RESERVE).exists()


def test_room_is_looked_for_before_a_checkpoint_is_stored(run, report, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=50_000))
    with pytest.raises(UserError, match=f"no room in {run.parent}"):
        report(lambda *_, **__: pytest.fail("it was stored"))


def test_another_failure_is_passed_on(run, report):
    def fail(values, checkpoint):
        raise PermissionError(errno.EACCES, "not yours")

    with pytest.raises(PermissionError):
        report(fail)
    assert (run.parent / RESERVE).exists()


def test_a_disk_without_room_for_the_reserve(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(UserError, match=rf"no room in {tmp_path}"):
        keep_reserve(tmp_path)


def test_a_checkpoint_that_cannot_be_loaded_is_named(run):
    cut(run / "checkpoint_4/state.pt")
    with pytest.raises(UserError, match=r"checkpoint_4/state\.pt is no readable file of weights .* --resume"):
        worker._load_state(run / "checkpoint_4/state.pt", torch.device("cpu"))
