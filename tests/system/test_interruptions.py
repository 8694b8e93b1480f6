"""The command line in processes of its own, interrupted as users interrupt it, against undisturbed runs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from timbrel.tracking import Tracker

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

TIMBREL = [str(Path(sys.executable).parent / "timbrel")]
SIZE = [
    "--preset",
    "smoke",
    "--config",
    "training.epochs=6",
    "model.width=2",
    "mixing.seconds=2.1",
    "evaluation.valid_examples=16",
    "evaluation.test_examples=16",
]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    run("prepare", "house_band", "--library", "library", "--option", "songs=12", "seconds=12", cwd=folder)
    return folder


def run(*arguments, cwd, check=True):
    done = subprocess.run([*TIMBREL, *arguments], cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def interrupted(*arguments, cwd, when):
    """Start the command, send Ctrl-C once ``when()`` is true, and return its exit code and what it said."""
    process = subprocess.Popen(
        [*TIMBREL, *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while not when():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "it never came to the point of interruption"
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does: all processes of the command are told
    said, _ = process.communicate(timeout=120)
    return process.returncode, said


def tracker(folder):
    return Tracker(f"sqlite:///{folder / 'mlflow.db'}")


def epochs_logged(folder, tags):
    if not (folder / "mlflow.db").exists():
        return 0
    runs = tracker(folder).find(tags)
    return max((int(r.data.metrics.get("best_epoch", 0) > 0) * len(steps(folder, r)) for r in runs), default=0)


def steps(folder, run_):
    return [p.step for p in tracker(folder).client.get_metric_history(run_.info.run_id, "train/loss")]


def test_ctrl_c_and_resume_give_the_figures_of_an_undisturbed_run(work, tmp_path):
    train = ["train", "multi_instrument", "--library", str(work / "library"), *SIZE]
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    for folder in (undisturbed, disturbed):
        folder.mkdir()
    run(*train, cwd=undisturbed)
    tags = {"timbrel.task": "multi_instrument"}
    code, said = interrupted(*train, cwd=disturbed, when=lambda: epochs_logged(disturbed, tags) >= 2)
    assert code == 130, said
    assert "--resume" in said
    assert "Traceback" not in said
    (stopped,) = tracker(disturbed).find(tags)
    assert stopped.info.status == "KILLED"
    assert "test/loss" not in stopped.data.metrics

    assert "resuming" in run(*train, "--resume", cwd=disturbed).stdout
    (resumed,) = tracker(disturbed).find(tags)
    (expected,) = tracker(undisturbed).find(tags)
    assert resumed.info.status == "FINISHED"
    assert sorted(set(steps(disturbed, resumed))) == [1, 2, 3, 4, 5, 6]
    assert resumed.data.metrics.keys() == expected.data.metrics.keys()
    for name, value in expected.data.metrics.items():
        assert resumed.data.metrics[name] == value, name


def test_an_interrupted_study_is_resumed_without_losing_or_doubling_a_trial(work, tmp_path):
    tune = ["tune", "transfer_modes", "--library", str(work / "library"), *SIZE]
    finished = {"timbrel.kind": "trial", "timbrel.early_stopped": "false"}
    code, said = interrupted(
        *tune,
        cwd=tmp_path,
        when=lambda: (tmp_path / "mlflow.db").exists() and tracker(tmp_path).find(finished),
    )
    assert code == 130, said
    trials = tracker(tmp_path).find({"timbrel.kind": "trial"})
    assert "RUNNING" not in {r.info.status for r in tracker(tmp_path).find({})}
    done = {r.info.run_id: r.info.end_time for r in trials if r.info.status == "FINISHED"}
    assert done

    run(*tune, "--resume", cwd=tmp_path)
    trials = tracker(tmp_path).find({"timbrel.kind": "trial"})
    assert sorted(r.data.params["transfer.mode"] for r in trials) == ["finetune", "frozen", "scratch"]
    assert {r.info.status for r in trials} == {"FINISHED"}
    for r in trials:
        assert r.data.metrics["test/loss"] > 0
        assert done.get(r.info.run_id, r.info.end_time) == r.info.end_time, "a finished trial was run again"
    assert {r.info.status for r in tracker(tmp_path).find({})} == {"FINISHED"}
    assert not any((tmp_path / "runs").iterdir())


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the mixing actors in /proc")
def test_a_killed_mixing_actor_changes_nothing(work, tmp_path):
    train = [*TIMBREL, "train", "multi_instrument", "--library", str(work / "library"), *SIZE]
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    for folder in (undisturbed, disturbed):
        folder.mkdir()
    run(*train[1:], cwd=undisturbed)
    tags = {"timbrel.task": "multi_instrument"}
    process = subprocess.Popen(train, cwd=disturbed, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while epochs_logged(disturbed, tags) < 1:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.1)
    killed = kill_descendants(process.pid, "MapWorker")
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert killed, "no mixing actor was found to kill"
    (got,), (expected,) = tracker(disturbed).find(tags), tracker(undisturbed).find(tags)
    for name, value in expected.data.metrics.items():
        assert got.data.metrics[name] == value, name


def kill_descendants(root, name):
    """Kill with SIGKILL every process below ``root`` whose command line holds ``name``; return how many."""
    parents, commands = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            commands[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it ended meanwhile
            continue
        parents[int(folder.name)] = int(stat[1])

    def descends(pid):
        while pid in parents and pid != root:
            pid = parents[pid]
        return pid == root

    victims = [pid for pid, command in commands.items() if name in command and descends(pid)]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    return len(victims)


def test_early_stopping_ends_trials_as_finished_and_tagged(work, tmp_path):
    run(
        "tune", "learning_rates", "--library", str(work / "library"), *SIZE, "--samples", "6",
        cwd=tmp_path, check=True,
    )  # fmt: skip
    trials = tracker(tmp_path).find({"timbrel.kind": "trial"})
    assert len(trials) == 6
    assert {r.info.status for r in trials} == {"FINISHED"}
    stopped = [r for r in trials if r.data.tags["timbrel.early_stopped"] == "true"]
    assert stopped, "ASHA stopped no trial"
    assert all("test/loss" not in r.data.metrics for r in stopped)
    assert all("test/loss" in r.data.metrics for r in trials if r not in stopped)
