"""Studies that are interrupted, and trials that are stopped early; an interrupted run is in `test_faults`."""

import pytest

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


def test_an_interrupted_study_is_resumed_without_losing_or_doubling_a_trial(place, tune):
    here = place()
    code, said = here.interrupted(*tune, when=lambda: here.runs(kind="trial", early_stopped="false"))
    assert code == 130, said
    assert "RUNNING" not in {run.info.status for run in here.runs()}
    done = {run.info.run_id: run.info.end_time for run in here.runs(kind="trial") if run.info.status == "FINISHED"}
    assert done

    here.run(*tune, "--resume")
    trials = here.runs(kind="trial")
    assert sorted(run.data.params["transfer.mode"] for run in trials) == ["finetune", "frozen", "scratch"]
    assert {run.info.status for run in trials} == {"FINISHED"}
    for run in trials:
        assert run.data.metrics["test/loss"] > 0
        assert done.get(run.info.run_id, run.info.end_time) == run.info.end_time, "a finished trial was run again"
    assert {run.info.status for run in here.runs()} == {"FINISHED"}
    assert not any((here.folder / "runs").iterdir())


def test_early_stopping_ends_trials_as_finished_and_tagged_beside_another_ray(place, tune):
    """Ray's own way to notice that a trial was stopped needs a dashboard, and no other Ray on the machine."""
    here = place()
    place("other").start_node(2, "--head", "--port=0", "--num-cpus=0")
    here.run("tune", "learning_rates", *tune[2:], "--samples", "4")
    trials = here.runs(kind="trial")
    assert len(trials) == 4
    assert {run.info.status for run in trials} == {"FINISHED"}
    stopped = [run for run in trials if run.data.tags["timbrel.early_stopped"] == "true"]
    assert stopped, "ASHA stopped no trial"
    assert all("test/loss" not in run.data.metrics for run in stopped)
    assert all("test/loss" in run.data.metrics for run in trials if run not in stopped)
