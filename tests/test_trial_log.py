"""What the callback of Ray Tune makes of trials, told by hand."""

import pickle
import types

import pytest

from timbrel import config as configs
from timbrel.tracking import Tracker
from timbrel.training.trial import TrialConfigs
from timbrel.trial_log import TrialLog


class Trial(types.SimpleNamespace):
    """As much of Ray Tune's trial as the callback looks at."""

    ERROR = "ERROR"

    def __init__(self, name, seed):
        super().__init__(
            trial_id=name,
            config={"seed": seed},
            status="RUNNING",
            last_result={},
            error_file=None,
            finished=False,
            run_metadata=types.SimpleNamespace(num_failures=0),
        )

    def is_finished(self):
        return self.finished


@pytest.fixture
def log(tmp_path, instrument_task, tiny_config, monkeypatch):
    monkeypatch.setattr("timbrel.trial_log.judged_key", lambda task, config: "key")
    made = TrialConfigs(instrument_task.name, configs.to_json(tiny_config))
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    return TrialLog(uri, {"timbrel.kind": "trial"}, None, made, 4, 3, "valid/f1_macro", "max")


def report(epoch, figure):
    return {"epoch": epoch, "earlier": [], "train/loss": 0.5, "valid/f1_macro": figure}


def test_trials_are_counted_and_logged(log, capsys, tmp_path):
    first, second = Trial("a", 0), Trial("b", 1)
    trials = [first, second]
    log.on_trial_start(0, trials, first)
    log.on_trial_start(0, trials, second)
    log.on_trial_result(1, trials, first, report(1, 0.25))
    log.on_trial_result(2, trials, second, report(1, 0.75))
    log.on_trial_complete(3, trials, first)  # stopped early: no last report
    (tmp_path / "error").write_text("it broke")
    second.error_file = str(tmp_path / "error")
    log.on_trial_error(4, trials, second)
    log.on_experiment_end(trials)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "multi_instrument: 0/12 epochs, 0 of 3 trials done, 1 running"
    assert lines[1].startswith(
        "multi_instrument: 5/12 epochs, 1 of 3 trials done, 1 running, best valid/f1_macro 0.750, "
    )
    assert "1 of 3 trials done, 0 running, 1 failed, best valid/f1_macro 0.750" in lines[-1]
    runs = {run.data.tags["timbrel.trial"]: run for run in Tracker(log.uri).find({})}
    assert {name: run.info.status for name, run in runs.items()} == {"a": "FINISHED", "b": "FAILED"}
    assert runs["a"].data.tags["timbrel.early_stopped"] == "true"


def test_a_resumed_study_goes_on_counting(log, capsys):
    done, left = Trial("a", 0), Trial("b", 1)
    done.finished, done.status, done.last_result = True, "TERMINATED", report(4, 0.9)
    restored = pickle.loads(pickle.dumps(log))
    restored.on_trial_start(0, [done, left], left)
    restored.on_trial_result(1, [done, left], left, report(3, 0.5))
    restored.on_experiment_end([done, left])
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(
        "multi_instrument: 7/12 epochs, 1 of 3 trials done, 1 running, best valid/f1_macro 0.900, about "
    )
