"""MLflow: what is logged, and how it is found again."""

import dataclasses
import http.server
import math
import re
import threading
import time

import pytest

from timbrel import tracking
from timbrel.config import flatten, with_values
from timbrel.errors import UserError
from timbrel.tracking import MAX_VALUE, Tracker, code_version, default_uri, frame

ROC_AUC = "test/roc_auc_macro"


@pytest.fixture(scope="module")
def tracker(tmp_path_factory):
    """One store for all tests: to make its tables takes seconds."""
    return Tracker(f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}")


@pytest.fixture(scope="module")
def study(tracker, instrument_task, tiny_config):
    """A study of two modes with two seeds each; one trial has no test figures."""
    parent = tracker.start("transfer_modes", {"timbrel.kind": "study", "timbrel.task": "multi_instrument"})
    scores = {("scratch", 0): 0.80, ("scratch", 1): 0.84, ("finetune", 0): 0.93, ("finetune", 1): None}
    for (mode, seed), score in scores.items():
        tags = {"timbrel.kind": "trial", "timbrel.task": "multi_instrument", "timbrel.data_digest": "d1"}
        run = tracker.start(f"mode={mode} seed={seed}", tags, parent.id)
        run.log_config(with_values(tiny_config, {"transfer.mode": mode, "seed": seed}))
        if score is not None:
            figures = {ROC_AUC: score, "test/pr_auc_macro": score - 0.1, "test/f1_macro": 0.5, "test/loss": 0.3}
            run.log_metrics({**figures, "test/f1/piano": score, "test/f1/singer": math.nan})
        run.close()
    parent.close()
    return parent


# Logging


def test_a_child_is_found_under_its_parent(tracker, study):
    children = tracker.find({"mlflow.parentRunId": study.id})
    assert len(children) == 4
    assert children[0].info.run_name == "mode=finetune seed=1"  # newest first
    assert tracker.get(study.id).info.status == "FINISHED"
    assert len(tracker.find({"mlflow.parentRunId": study.id}, limit=2)) == 2
    assert tracker.find({"timbrel.kind": "trial", "mlflow.parentRunId": "nobody"}) == []


def test_more_runs_than_a_server_gives_at_a_time_are_found(tracker, study, monkeypatch):
    monkeypatch.setattr(tracking, "PAGE", 3)
    found = [run.info.run_id for run in tracker.find({"mlflow.parentRunId": study.id})]
    assert len(found) == len(set(found)) == 4


def test_a_config_is_logged_flat_and_whole(tracker, tiny_config, instrument_task):
    config = with_values(tiny_config, {"data.datasets": ("a", "b")})
    run = tracker.start("one", {"timbrel.task": "multi_instrument"})
    run.log_config(config)
    params = tracker.get(run.id).data.params
    assert set(params) == set(flatten(config))
    assert params["mixing.sample_rate"] == "16000"
    assert params["data.datasets"] == "a,b"
    assert params["transfer.backbone_lr"] == "None"
    assert tracker.config(run.id, instrument_task) == config
    other = dataclasses.make_dataclass("Task", ["name"])("tagging")
    with pytest.raises(UserError, match="is one of task 'multi_instrument', not 'tagging'"):
        tracker.config(run.id, other)


def test_long_values_are_cut(tracker):
    run = tracker.start("one", {})
    run.log_params({"long": "x" * 2000, "exact": "y" * MAX_VALUE})
    params = tracker.get(run.id).data.params
    assert params["long"] == "x" * (MAX_VALUE - 1) + "…"
    assert params["exact"] == "y" * MAX_VALUE


def test_undefined_metrics_are_left_out(tracker):
    run = tracker.start("one", {})
    run.log_metrics({"a": math.nan, "b": 1.0, "c": math.inf, "d/e f": -2}, step=3)
    run.log_metrics({"a": math.nan}, step=4)
    run.log_metrics({}, step=5)
    run.log_metrics({"b": 2.0}, step=4)
    assert tracker.get(run.id).data.metrics == {"b": 2.0, "d/e f": -2.0}
    assert run.logged_steps("b") == {3, 4}
    assert run.logged_steps("a") == set()


def test_a_run_is_closed_and_reopened(tracker):
    run = tracker.start("one", {"timbrel.x": "1"})
    assert tracker.get(run.id).info.status == "RUNNING"
    run.close("KILLED")
    assert tracker.get(run.id).info.status == "KILLED"
    again = tracker.reopen(run.id)
    assert tracker.get(run.id).info.status == "RUNNING"
    again.set_tags({"timbrel.x": "2"})
    again.close()
    (found,) = tracker.find({"timbrel.x": "2"})
    assert (found.info.run_id, found.info.status) == (run.id, "FINISHED")


def test_artifacts_come_and_go(tracker, tmp_path):
    from matplotlib.figure import Figure

    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights.pt").write_bytes(b"1234")
    run = tracker.start("one", {})
    run.log_folder(tmp_path / "model", "model")
    run.log_text("table", "report.md")
    run.log_figure(Figure(), "f1.png")
    with tracker.artifacts(run.id, "model") as folder:
        assert (folder / "weights.pt").read_bytes() == b"1234"
    assert not folder.exists()
    with tracker.artifacts(run.id, "f1.png") as file:
        assert file.read_bytes().startswith(b"\x89PNG")
    with (
        pytest.raises(UserError, match=f"run {run.id} has no 'checkpoints' artifact"),
        tracker.artifacts(run.id, "checkpoints"),
    ):
        pass


def test_artifacts_lie_beside_the_database(tracker, study):
    folder = tracker.uri.removeprefix("sqlite:///").removesuffix("mlflow.db")
    assert tracker.get(study.id).info.artifact_uri.startswith(f"file://{folder}mlflow-artifacts/")


def test_runs_say_which_code_made_them(tracker, study):
    tags = tracker.get(study.id).data.tags
    assert code_version().items() <= tags.items()
    assert re.fullmatch(r"\d+\.\d+.*", tags["timbrel.version"])


# Errors


def test_an_unknown_run(tracker):
    with pytest.raises(UserError, match=r"there is no run 'abc' at sqlite.*timbrel list runs"):
        tracker.get("abc")
    with pytest.raises(UserError, match="there is no run 'abc'"), tracker.artifacts("abc", "model"):
        pass


def test_a_server_that_is_down_is_noticed_at_once():
    started = time.perf_counter()
    with pytest.raises(UserError, match=r"no MLflow server answers at http://127\.0\.0\.1:9 .*MLFLOW_TRACKING_URI"):
        Tracker("http://127.0.0.1:9").start("one", {})
    assert time.perf_counter() - started < 20


def test_a_server_that_wants_a_password_is_not_down():
    class Closed(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(401)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Closed) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert Tracker(f"http://127.0.0.1:{server.server_port}").client
        server.shutdown()


@pytest.mark.parametrize("uri", ["nonsense://x", "mlruns"])
def test_an_impossible_uri(uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=uri):
        Tracker(uri).find({})


def test_the_default_is_a_database_in_the_current_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert default_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert Tracker().uri == "http://host:5000"
    assert Tracker().ui_command == "open http://host:5000"
    assert Tracker("sqlite:///a.db").ui_command == "mlflow ui --backend-store-uri sqlite:///a.db"


def test_a_table_of_runs(tracker, study):
    table = frame(tracker.find({"mlflow.parentRunId": study.id}))
    assert len(table) == 4
    assert set(table["params.transfer.mode"]) == {"scratch", "finetune"}
    assert table[f"metrics.{ROC_AUC}"].notna().sum() == 3
    assert frame([]).empty
