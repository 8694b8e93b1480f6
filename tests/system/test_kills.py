"""Parts of a running experiment killed with SIGKILL: it gives what an undisturbed run of the same seed gives.

On one CPU worker every figure is equal to the last bit. The loss of an epoch depends on every example of it and of the
epochs before, so this also says that the same examples were trained on in the same order; a worker that is given
others than those it needs next stops with an error besides. One of two workers is killed in `ray/test_workers`.

With TIMBREL_RELIABILITY=FOLDER each test writes there how long its run stood still.
"""

import itertools
import json
import math
import os
import socket
import statistics
import time
import uuid
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes to kill in /proc"),
]

TASK = "multi_instrument"


def epochs(place, **tags):
    """Return when each epoch of the runs with these tags was logged, in seconds since 1970, sorted."""
    histories = [place.tracker.client.get_metric_history(run.info.run_id, "train/loss") for run in place.runs(**tags)]
    return sorted(point.timestamp / 1000 for history in histories for point in history)


def note(fault, place, killed_s, undisturbed, until_s=math.inf):
    """Write down for how long nothing was learned after a part was killed at ``killed_s``, and before another one was
    at ``until_s``, seconds since 1970."""
    folder = os.environ.get("TIMBREL_RELIABILITY")
    if not folder:
        return
    after = [killed_s, *(moment for moment in epochs(place) if killed_s < moment < until_s)]
    usual = epochs(undisturbed, task=TASK)
    figures = {
        "fault": fault,
        "still_s": max(later - earlier for earlier, later in itertools.pairwise(after)),
        "epoch_s": statistics.median(later - earlier for earlier, later in itertools.pairwise(usual)),
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / f"{fault.replace(' ', '_')}.json").write_text(json.dumps(figures, indent=2) + "\n")


def what(run):
    """Return what an MLflow run was for: what tells it from others of its command, and is the same next time."""
    params = {name: value for name, value in run.data.params.items() if name != "transfer.checkpoint"}
    return run.data.tags["timbrel.kind"], run.data.tags["timbrel.task"], *sorted(params.items())


def assert_as_if_nothing_had_happened(place, undisturbed):
    """Check that a place has one finished run for each of the undisturbed one, with its figures, and nothing else."""
    got, expected = ({what(run): run for run in where.runs()} for where in (place, undisturbed))
    assert len(place.runs()) == len(got) == len(expected)
    assert {run.info.status for run in got.values()} == {"FINISHED"}
    for key, run in expected.items():
        assert got[key].data.metrics == run.data.metrics
        assert sorted(set(place.steps(got[key]))) == sorted(set(undisturbed.steps(run)))
        assert place.artifacts(got[key]) == undisturbed.artifacts(run)
    assert place.temporary_files() == []
    assert not any((place.folder / "runs").iterdir())


PARTS = {"mixing actor": "MapWorker", "train worker": "RayTrainWorker", "process that leads a trial": "ImplicitFunc"}


def test_the_parts_of_a_training_run_one_after_the_other(place, train_longer, trained_longer):
    here, killed_s = place(), []
    process = here.start(*train_longer)
    for epoch, (part, name) in enumerate(PARTS.items(), start=1):
        here.wait(process, lambda done=epoch: here.epochs(task=TASK) >= done)
        killed_s.append(time.time())
        assert here.kill(name), f"no {part} was found to kill"
    here.end(process)
    assert_as_if_nothing_had_happened(here, trained_longer)
    for part, moment, until_s in zip(PARTS, killed_s, [*killed_s[1:], math.inf], strict=True):
        note(part, here, moment, trained_longer, until_s)


def test_the_driver_of_a_study_twice(place, tune, tuned):
    """While it trains first what its trials need, and when one trial is done and another has begun."""
    here = place()
    process = here.start(*tune)
    here.wait(process, lambda: here.epochs(task="tagging") >= 1)
    kill_all(here, process)

    process = here.start(*tune, "--resume")
    here.wait(process, lambda: here.runs(kind="trial", early_stopped="false") and len(learning(here)) == 1)
    done = {run.info.run_id for run in here.runs(kind="trial", early_stopped="false")}
    killed_s = time.time()
    kill_all(here, process)

    here.run(*tune, "--resume")
    assert done <= {run.info.run_id for run in here.runs(kind="trial")}
    assert_as_if_nothing_had_happened(here, tuned)
    note("driver of a study", here, killed_s, tuned)


def learning(place):
    """Return the trials that have learned something and are not done."""
    return [run for run in place.runs(kind="trial") if run.info.status == "RUNNING" and place.steps(run)]


def kill_all(place, process):
    """Kill a command and all that it started."""
    process.kill()
    place.kill()
    place.end(process, check=False)
    assert "RUNNING" in {run.info.status for run in place.runs()}, "nothing was interrupted"


def test_a_node_while_another_joins(place, train, trained):
    """The head has no CPU, as in ``cluster.yaml``: the trial, its worker and its mixers are on the node that dies."""
    head, first, second, here = place("head"), place("first"), place("second"), place()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex}
    for each in (head, first, second, here):
        each.environment |= token
    head.start_node(1, "--head", "--port", address.split(":")[1], "--num-cpus=0")
    first.start_node(2, "--address", address, "--num-cpus=2")
    here.environment["RAY_ADDRESS"] = address
    process = here.start(*train)
    here.wait(process, lambda: here.epochs(task=TASK) >= 2)
    assert first.processes("MapWorker")
    assert first.processes("RayTrainWorker")
    killed_s = time.time()
    first.kill()
    second.start_node(3, "--address", address, "--num-cpus=2")
    here.end(process)
    assert second.processes("raylet")
    assert_as_if_nothing_had_happened(here, trained)
    assert first.temporary_files() == second.temporary_files() == []
    note("node", here, killed_s, trained)
