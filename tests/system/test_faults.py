"""Things that an experiment needs and does not have for a while: its MLflow server, room on the disk, whole files.

On one CPU worker every figure is in the end equal, to the last bit, to that of an undisturbed run of the same seed.
"""

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from timbrel.library import Library
from timbrel.patience import PATIENCE_S
from timbrel.training.checkpoints import RECORD, STATE

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds what a command leaves running in /proc"),
]

TASK = "multi_instrument"
EPOCHS = [1, 2, 3, 4, 5, 6]
AWAY_S = 60
"""For how long the MLflow server is away."""


class Server:
    """A real MLflow server on the database of a place, which can be killed and started again."""

    def __init__(self, place):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.place = place
        self.uri = place.environment["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        options = {
            "--port": str(self.port),
            "--backend-store-uri": f"sqlite:///{self.place.database}",
            "--artifacts-destination": str(self.place.folder / "artifacts"),
            "--workers": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *(word for pair in options.items() for word in pair)],
            cwd=self.place.folder,
            env={**os.environ, **self.place.environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 240
        while True:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
            except OSError:
                assert self.process.poll() is None, "the server ended"
                assert time.monotonic() < deadline, "the server did not start"
                time.sleep(0.2)
            else:
                return

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def serve():
    """Start a server for a place; at the test's end it is killed."""
    servers = []

    def start(place):
        servers.append(Server(place))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


def check_same(got, expected, **tags):
    """Assert that the runs of two places with these tags have the same figures, each epoch once, and that all is
    closed and tidied up."""
    of_got, of_expected = ({what(run): run for run in place.runs(**tags)} for place in (got, expected))
    assert len(of_got) == len(got.runs(**tags))
    assert of_got.keys() == of_expected.keys()
    for name, run in of_got.items():
        assert run.data.metrics == of_expected[name].data.metrics, name
        assert got.steps(run) == expected.steps(of_expected[name]) == EPOCHS[: len(got.steps(run))], name
        assert artifacts(got, run) == artifacts(expected, of_expected[name]), name
    assert {run.info.status for run in got.runs()} == {"FINISHED"}
    assert got.temporary_files() == []
    assert not any((got.folder / "runs").iterdir())


def what(run):
    return run.data.tags["timbrel.task"], run.data.params.get("transfer.mode")


def artifacts(place, run):
    """Return the names of the files that MLflow keeps of a run."""
    (root,) = (path for path in place.folder.glob(f"*/**/{run.info.run_id}/artifacts"))
    return sorted(
        str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and "error" not in path.name
    )


def check_failed(place, process, sentence):
    """Assert that a command ends with one sentence, and return what it said."""
    code, said = place.end(process, check=False)
    assert code == 2, said
    assert "Traceback" not in said
    assert sentence in said.splitlines()[-1]
    return said


# An MLflow server that is away


def test_a_server_that_is_away_for_a_minute_loses_no_trial_of_a_study_and_no_figure(place, serve, tune, tuned):
    here = place()
    server = serve(here)
    process = here.start(*tune)
    here.wait(process, lambda: here.epochs(kind="trial") >= 1)
    server.kill()
    time.sleep(AWAY_S)
    server.start()
    _, said = here.end(process)
    assert "MLflow answers again" in said
    for kind in ("train", "trial"):
        check_same(here, tuned, kind=kind)
    (study,), (expected,) = here.runs(kind="study"), tuned.runs(kind="study")
    assert artifacts(here, study) == artifacts(tuned, expected)


def test_a_server_that_stays_away_ends_the_run_and_is_told_later(place, serve, train, trained):
    here = place()
    here.environment[PATIENCE_S] = "3"
    server = serve(here)
    process = here.start(*train)
    here.wait(process, lambda: here.epochs(task=TASK) >= 1)
    server.kill()
    said = check_failed(here, process, f"no MLflow server answered at {server.uri} for 3 s")
    (folder,) = (here.folder / "runs").iterdir()
    assert f"runs/{folder.name}; start it again, then the same command with --resume" in said
    server.start()
    _, said = here.run(*train, "--resume")
    assert "resuming" in said
    check_same(here, trained, task=TASK)


# A full disk


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 16 MB."""
    if os.geteuid() != 0:
        pytest.skip("to mount a small disk needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no disk may be mounted here: {mounted.stderr}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder):
    """Fill a disk to the last byte; it refuses the write after that."""
    with (folder / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while (room := shutil.disk_usage(folder).free) > 0:
            ballast.write(bytes(room))


def test_a_full_disk_ends_the_run_and_no_checkpoint(place, train, trained, small_disk):
    here = place()
    train = [*train, "--storage", small_disk]
    process = here.start(*train)
    here.wait(process, lambda: here.epochs(task=TASK) >= 2)
    fill(small_disk)
    said = check_failed(here, process, f"no room in {small_disk}/")
    assert "--resume goes on" in said
    (failed,) = here.runs(task=TASK)
    assert failed.info.status == "FAILED"

    (small_disk / "ballast").unlink()
    _, said = here.run(*train, "--resume")
    assert "resuming" in said
    assert "damaged" not in said
    assert not any(small_disk.iterdir())
    (here.folder / "runs").mkdir()
    check_same(here, trained, task=TASK)


# Damaged files


def test_a_checkpoint_cut_short_gives_way_to_the_one_before(place, train, trained):
    here = place()
    code, said = here.interrupted(*train, when=lambda: here.epochs(task=TASK) >= 3)
    assert code == 130, said
    assert "--resume" in said
    assert "Traceback" not in said
    (stopped,) = here.runs(task=TASK)
    assert stopped.info.status == "KILLED"
    assert "test/loss" not in stopped.data.metrics
    (record,) = (here.folder / "runs").glob(f"*/*/{RECORD}")
    newest = max(record.parent.glob(f"checkpoint_*/{STATE}"))
    os.truncate(newest, newest.stat().st_size // 2)
    _, said = here.run(*train, "--resume")
    assert f"{newest.parent.name} was damaged and is removed" in said
    check_same(here, trained, task=TASK)


def cut_short(file):
    os.truncate(file, file.stat().st_size // 2)


def replace(file):
    other = file.with_suffix(".other")
    other.write_bytes(b"not audio at all" * 1000)
    other.rename(file)


def test_garbage_in_the_library_while_it_is_read_ends_the_run(
    place, train_longer, trained_longer, song_library, tmp_path
):
    here = place()
    library = tmp_path / "library"
    shutil.copytree(song_library, library)
    train = [library if word == song_library else word for word in train_longer]
    process = here.start(*train)
    here.wait(process, lambda: here.epochs(task=TASK) >= 1)
    files = [library / row["path"] for row in Library.open(library).catalogue().to_pylist() if row["split"] == "train"]
    for file, harm in zip(files, itertools.cycle([cut_short, replace])):
        harm(file)
    check_failed(here, process, f"{library}/house_band/songs/")
    (failed,) = here.runs(task=TASK)
    assert failed.info.status == "FAILED"

    shutil.rmtree(library)
    shutil.copytree(song_library, library)
    _, said = here.run(*train, "--resume")
    assert "resuming" in said
    check_same(here, trained_longer, task=TASK)
