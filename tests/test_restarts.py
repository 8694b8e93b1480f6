"""What of a run is started again, and where it goes on; that it does is seen in `system/test_kills`."""

from types import SimpleNamespace

import pytest
from ray import cloudpickle
from ray.exceptions import RayActorError, RayTaskError
from ray.train import WorkerGroupError

from timbrel.errors import UserError
from timbrel.tracking import Tracker
from timbrel.training.run import process_died
from timbrel.training.trial import TrialConfigs
from timbrel.trial_log import TrialLog


def task_error(cause):
    return RayTaskError("run_trial", "a traceback", cause)


@pytest.mark.parametrize(
    ("error", "died"),
    [
        (RayActorError(), True),
        (task_error(RayActorError()), True),
        (task_error(WorkerGroupError("lost", {0: RayActorError(), 1: ConnectionError("by peer")})), True),
        (task_error(WorkerGroupError("raised", {0: UserError("no song"), 1: UserError("no song")})), False),
        (task_error(UserError("no song")), False),
        (None, False),
    ],
)
def test_a_death_is_told_from_an_error(error, died):
    assert process_died(error) is died


def test_a_run_of_a_trial_that_tune_forgot_is_taken_away(tmp_path):
    tracker = Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}")
    tags = {"timbrel.kind": "trial", "timbrel.folder": "this"}
    known, forgotten = (tracker.start(name, tags | {"timbrel.trial": name}) for name in ("known", "forgotten"))
    other = tracker.start("forgotten", tags | {"timbrel.folder": "other", "timbrel.trial": "forgotten"})
    log = TrialLog(tracker.uri, tags, None, TrialConfigs("multi_instrument", "{}"), 1, 1, "valid/loss", "min")
    log.on_experiment_end([SimpleNamespace(trial_id="known")])
    assert {run.info.run_id for run in tracker.find({})} == {known.id, other.id}
    assert tracker.get(forgotten.id).info.lifecycle_stage == "deleted"


@pytest.mark.parametrize(("error", "failures"), [(RayActorError(), 1), (task_error(UserError("no song")), 3)])
def test_a_trial_that_raised_has_one_more_chance_and_one_that_died_has_all(tmp_path, error, failures):
    file = tmp_path / "error.pkl"
    file.write_bytes(cloudpickle.dumps(error))
    counts = SimpleNamespace(num_failures=1)
    trial = SimpleNamespace(pickled_error_file=str(file), run_metadata=counts, max_failures=3)
    log = TrialLog("", {}, None, TrialConfigs("multi_instrument", "{}"), 1, 1, "valid/loss", "min")
    log.on_trial_recover(1, [trial], trial)
    assert counts.num_failures == failures
