"""Ctrl-C while a verb works: status 130, one line, nothing half-written, no open MLflow run, no process left behind.

`train` and `tune`, which can be taken up again, are in `test_faults` and `test_interruptions`.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
import soundfile

from timbrel.library import Library
from timbrel.prepare import AGAIN, prepare
from timbrel.sources.house_band import SOURCE, HouseBandOptions
from timbrel.tracking import Tracker
from timbrel.trained import TrainedModel

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

TIMBREL = str(Path(sys.executable).parent / "timbrel")
RATE_HZ = 16_000


@pytest.fixture
def interrupt(tmp_path):
    """Start a command, send Ctrl-C once ``when()`` is true, check how it ended, and return what it said."""

    def run(*arguments, when, remedy=""):
        mark = uuid.uuid4().hex
        process = subprocess.Popen(
            [TIMBREL, *map(str, arguments)],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, "TIMBREL_TEST": mark},
        )
        deadline = time.monotonic() + 200
        while not when(mark):
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline, "it never came to the point of interruption"
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does: all processes of the command are told
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 130, said
        assert "Traceback" not in said
        assert said.endswith(f"\ntimbrel: interrupted{remedy}.\n")
        deadline = time.monotonic() + 30
        while processes(mark):
            assert time.monotonic() < deadline, processes(mark)
            time.sleep(0.5)
        return said

    return run


def processes(mark):
    """Return the command lines of all processes that were started with the mark in their environment (Linux)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it ended meanwhile
            continue
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory, instrument_task, tiny_config):
    """A model as it would be trained, in a folder."""
    weights = instrument_task.build_model(tiny_config).state_dict()
    thresholds = dict.fromkeys(instrument_task.classes(tiny_config), 0.5)
    return TrainedModel(instrument_task, tiny_config, thresholds, weights).save(
        tmp_path_factory.mktemp("trained") / "m"
    )


def test_prepare(interrupt, tmp_path):
    songs = tmp_path / "data/library/.preparing-house_band/stored"
    command = ["prepare", "house_band", "--library", "data/library", "--option", "songs=500"]
    interrupt(*command, when=lambda _: songs.is_dir() and any(songs.glob("*.json")), remedy=f"; {AGAIN}")
    assert [path.name for path in (tmp_path / "data/library").iterdir()] == [".preparing-house_band"]


def test_prepare_into_a_library(interrupt, tmp_path):
    root = tmp_path / "library"
    prepare(SOURCE, None, root, HouseBandOptions(songs=3, seconds=5, sample_rate=8000))
    before = Library.open(root).digest()
    songs = root / ".preparing-house_band/stored"
    command = ["prepare", "house_band", "--library", root, "--option", "songs=500", "--replace"]
    interrupt(*command, when=lambda _: songs.is_dir() and any(songs.glob("*.json")), remedy=f"; {AGAIN}")
    assert sorted(path.name for path in root.iterdir()) == [".preparing-house_band", "house_band", "library.json"]
    assert Library.open(root).digest() == before


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the mixing actors in /proc")
def test_evaluate(interrupt, tmp_path, tone_library, model, instrument_task):
    tracker = Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = tracker.start("trained", {"timbrel.task": instrument_task.name})
    run.log_folder(model, "model")
    run.close()
    command = ["evaluate", run.id, "--library", tone_library, "--config", "evaluation.test_examples=100000"]
    interrupt(*command, when=lambda mark: any("MapWorker" in name for name in processes(mark)))
    (only,) = tracker.find({})
    assert (only.info.run_id, only.info.status) == (run.id, "FINISHED")


def test_predict(interrupt, tmp_path, model):
    noise = np.random.default_rng(0).normal(scale=0.1, size=60 * RATE_HZ)
    soundfile.write(tmp_path / "short.wav", noise[: 2 * RATE_HZ], RATE_HZ)
    soundfile.write(tmp_path / "long.flac", np.tile(noise, 60), RATE_HZ)
    out = tmp_path / "predictions"
    # The picture is what is written last, so the long file is being read.
    interrupt("predict", "short.wav", "long.flac", "--run", model, when=lambda _: (out / "short.png").exists())
    assert sorted(path.name for path in out.iterdir()) == ["short.csv", "short.json", "short.png"]


@pytest.mark.parametrize("verb", [["report", "RUN", "--out", "comparison"], ["list", "runs"]], ids=["report", "list"])
def test_report_and_list(interrupt, tmp_path, verb):
    """Both read from MLflow, here from a server that takes its time."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        asked = []

        def when(_):
            try:
                asked.append(server.accept())  # kept open, and never answered
            except BlockingIOError:
                return False
            return True

        interrupt(*verb, "--tracking-uri", f"http://127.0.0.1:{server.getsockname()[1]}", when=when)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seconds", [0.5, 1.5, 2.5, 3.5])
def test_a_new_database_is_whole_or_not_there(tmp_path, seconds):
    """Tables that are half made can't be used by MLflow, nor made anew."""
    command = [TIMBREL, "list", "runs"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    # The last: the signal of Python's own handling, once the command has done its work. Shells show 130 for both.
    assert process.returncode in (0, 130, -signal.SIGINT), said
    assert "Traceback" not in said
    assert {path.name for path in tmp_path.iterdir()} <= {"mlflow.db", ".mlflow.db.lock"}
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (again.returncode, again.stderr) == (0, "")
