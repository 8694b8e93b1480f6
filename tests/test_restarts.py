"""What of a run is started again, and where it goes on; that it does is seen in `system/test_kills`."""

import json
from types import SimpleNamespace

import pytest
from ray import cloudpickle
from ray.exceptions import ActorDiedError, ObjectLostError, RayActorError, RayTaskError
from ray.train import WorkerGroupError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback

from timbrel.errors import UserError
from timbrel.tracking import Tracker
from timbrel.training.failures import failures_noted, note_failure, process_died
from timbrel.training.trial import TrialConfigs
from timbrel.training.worker import train_worker
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
        (WorkerGroupError("raised", {0: UserExceptionWithTraceback(ActorDiedError(), "a traceback")}), True),
        (WorkerGroupError("raised", {0: UserExceptionWithTraceback(UserError("no song"), "a traceback")}), False),
        (ObjectLostError("a", "an owner", "where it was made"), True),
        (ActorDiedError(task_error(ValueError("its constructor raised"))), False),
        (task_error(UserError("no song")), False),
        (None, False),
    ],
)
def test_a_death_is_told_from_an_error(error, died):
    assert process_died(error) is died


@pytest.fixture
def raising(monkeypatch, tmp_path):
    """Call what a Train worker does, alone or one of several, whose training raises."""

    def call(error, several=False):
        def train(settings):
            raise error

        context = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1 + several)
        monkeypatch.setattr("ray.train.get_context", lambda: context)
        monkeypatch.setattr("timbrel.training.worker._train", train)
        train_worker({"failure": str(tmp_path / "failure.json")})

    return call


@pytest.mark.parametrize("several", [False, True])
def test_a_worker_notes_no_death_of_others(raising, tmp_path, several):
    """As of the process through which workers agree on a checkpoint's name, which dies with the leader."""
    with pytest.raises(ActorDiedError):
        raising(ActorDiedError(), several)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_notes_what_would_repeat_itself(raising, tmp_path):
    raising(ValueError("no such shape"))
    assert "no such shape" in json.loads((tmp_path / "failure.json").read_text())["traceback"]


def test_a_noted_failure_is_raised_and_raised_again_to_the_next_leader(tmp_path):
    with pytest.raises(UserError, match="no song"), failures_noted(tmp_path, "trial") as noted:
        note_failure(noted, UserError("no song"))
    with pytest.raises(UserError, match="no song"), failures_noted(tmp_path, "trial"):
        pytest.fail("the next leader went on")
    with failures_noted(tmp_path, "other"):
        pass


@pytest.mark.parametrize(("failed", "noted"), [(ValueError("no such shape"), True), (ActorDiedError(), False)])
def test_what_the_workers_died_of_is_noted_if_it_would_repeat_itself(tmp_path, failed, noted):
    with pytest.raises(WorkerGroupError), failures_noted(tmp_path, "trial"):
        raise WorkerGroupError("raised", {0: UserExceptionWithTraceback(failed, "a traceback")})
    assert bool(list(tmp_path.iterdir())) is noted


def test_what_is_noted_after_the_leader_died_is_not_for_the_next_one(tmp_path):
    """Its workers live a moment longer, and see all die that it had started."""
    killed = failures_noted(tmp_path, "trial")
    note_failure(killed.__enter__(), UserError("a mixing actor was killed 21 times"))  # it never comes to its end
    with failures_noted(tmp_path, "trial"):
        pass


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
