"""Passwords, tokens and the home folder are not written down."""

import pickle
import sqlite3

import pytest

from timbrel.config import with_values
from timbrel.launch import resolve_weights
from timbrel.safety import HIDDEN, split_login, without_secrets
from timbrel.tracking import Tracker
from timbrel.trained import TrainedModel
from timbrel.training.trial import TrialConfigs
from timbrel.trial_log import TrialLog

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "MLFLOW_TRACKING_TOKEN": "eyJhbGciOiJIUzI1NiJ9.e30.ZRrHA1JJJW8",
    "MLFLOW_TRACKING_PASSWORD": "correct horse battery",
    "RAY_AUTH_TOKEN": "0f3a9c5de1b24d7f8a6b",
}


@pytest.fixture
def environment(monkeypatch, tmp_path):
    home = tmp_path / "home" / "ann"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    return home


def test_values_of_secret_variables(environment):
    for value in SECRETS.values():
        assert without_secrets(f"refused: {value}!") == f"refused: {HIDDEN}!"
    assert without_secrets("nothing of the kind") == "nothing of the kind"


def test_what_only_says_where_a_secret_is(environment, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/run/secrets/ray")
    monkeypatch.setenv("PRESSED_KEY", "piano")
    monkeypatch.setenv("HF_TOKEN", "short")
    assert without_secrets("/run/secrets/ray, a piano, short") == "/run/secrets/ray, a piano, short"


@pytest.mark.parametrize("login", ["ann:pw", "ann:p@ss:word", ":pw", "ann:"])
@pytest.mark.parametrize("scheme", ["http", "https", "postgresql", "mysql+pymysql"])
def test_logins_in_addresses(scheme, login):
    told = without_secrets(f"no server answers at {scheme}://{login}@host:5000/path (refused)")
    assert told == f"no server answers at {scheme}://{HIDDEN}@host:5000/path (refused)"


def test_addresses_without_login():
    for address in ("http://host:5000/a@b", "s3://bucket/key", "sqlite:////data/mlflow.db", "mail ann@host: hello"):
        assert without_secrets(address) == address


def test_the_home_folder(environment):
    home = str(environment)
    assert without_secrets(f"{home}/weights.pth") == "~/weights.pth"
    assert without_secrets(f'"{home}", {home}.') == '"~", ~.'
    for other in (f"{home}a/x", f"/mnt{home}/x", f"{home}-old/x", f"{home}.old/x"):
        assert without_secrets(other) == other


def test_a_home_folder_that_is_the_root(environment, monkeypatch):
    monkeypatch.setenv("HOME", "/")
    assert without_secrets("/data/x") == "/data/x"


def test_split_login():
    assert split_login("https://ann:p%40ss@host:5000/x") == ("https://host:5000/x", "ann", "p@ss")
    for address in ("http://host:5000", "sqlite:////a@b/mlflow.db", "postgresql://ann:pw@host/db", "http://a@[/"):
        assert split_login(address) == (address, "", "")


# MLflow


def test_a_servers_login_goes_where_mlflow_looks_for_it(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "other")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "other password")
    tracker = Tracker("http://ann:hunter%32hunter@127.0.0.1:9")
    import os

    assert tracker.uri == "http://127.0.0.1:9"
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("ann", "hunter2hunter")
    assert "hunter" not in tracker.ui_command


@pytest.mark.parametrize(
    "address", ["http://ann:hunter2hunter@127.0.0.1:9", "postgresql://ann:hunter2hunter@127.0.0.1:9/db"]
)
def test_messages_do_not_repeat_a_login(command, address):
    status, out, err = command("list", "runs", "--tracking-uri", address)
    assert status == 2
    assert "hunter2" not in out + err
    assert err.startswith("timbrel: ")


def test_what_ray_tune_stores_of_the_log_has_no_address():
    address = "postgresql://ann:hunter2hunter@host/db"
    log = TrialLog(address, {"a": "b"}, "parent", TrialConfigs("tagging", "{}"), 2, 3, "valid/loss", "min")
    stored = pickle.dumps(log)
    assert b"hunter2" not in stored
    assert pickle.loads(stored).uri == address


def test_a_run_with_secrets_in_every_place(environment, instrument_task, tiny_config, tmp_path, monkeypatch):
    database = environment / "mlflow.db"
    tracker = Tracker(f"sqlite:///{database}")
    told = f"failed at {environment}/x with " + " ".join(SECRETS.values()) + " at http://ann:hunter2hunter@host"
    run = tracker.start(told, {"tag": told, "timbrel.task": instrument_task.name})
    config = with_values(tiny_config, {"transfer.checkpoint": f"{environment}/weights.pth"})
    run.log_config(config)
    run.log_params({"other": told})
    run.set_tags({"later": told})
    run.log_text(told, "error.txt")
    TrainedModel(instrument_task, config, {}, {}).save(tmp_path / "model")
    run.log_folder(tmp_path / "model", "model")
    run.close()

    values = written(database)
    files = [file for file in environment.rglob("*") if file.is_file() and file != database]
    assert {file.name for file in files} >= {"error.txt", "config.json", "thresholds.json"}
    values += [file.read_text(errors="replace") for file in files]
    for forbidden in (*SECRETS.values(), "hunter2", str(environment)):
        assert not [value for value in values if forbidden in value], forbidden
    assert tracker.get(run.id).data.params["transfer.checkpoint"] == "~/weights.pth"
    assert tracker.config(run.id, instrument_task).transfer.checkpoint == "~/weights.pth"


def written(database):
    """Return every text in a database of MLflow's, but those that are its own addresses of artifacts."""
    values = []
    with sqlite3.connect(database) as opened:
        tables = [row[0] for row in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            rows = opened.execute(f'SELECT * FROM "{table}"')
            columns = [each[0] for each in rows.description]
            for row in rows:
                values += [
                    str(value)
                    for column, value in zip(columns, row, strict=True)
                    if column not in ("artifact_uri", "artifact_location")
                ]
    assert len(values) > 50
    return values


def test_weights_below_the_home_are_found_by_the_name_that_was_logged(environment, tmp_path):
    import torch

    torch.save({"a": torch.ones(2)}, environment / "weights.pth")
    logged = without_secrets(str(environment / "weights.pth"))
    assert logged == "~/weights.pth"
    found = resolve_weights(Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}"), logged)
    assert torch.equal(found["a"], torch.ones(2))


def test_the_line_that_opens_mlflow_names_no_home(environment, monkeypatch):
    monkeypatch.chdir(environment)
    assert Tracker(f"sqlite:///{environment}/mlflow.db").ui_command.endswith(" sqlite:///mlflow.db")
    monkeypatch.chdir("/")
    assert Tracker(f"sqlite:///{environment}/mlflow.db").ui_command.endswith(" sqlite:///$HOME/mlflow.db")
    assert Tracker("sqlite:////data/mlflow.db").ui_command.endswith(" sqlite:////data/mlflow.db")


def test_pages_of_mixtures_do_not_say_where_the_library_is(environment, tone_library, command, tmp_path):
    import json
    import shutil

    shutil.copytree(tone_library, environment / "library")
    status, _, err = command("mix", "--library", environment / "library", "--out", tmp_path / "m", "-n", 1)
    assert status == 0, err
    assert json.loads((tmp_path / "m/mixtures.json").read_text())["library"] == "~/library"
    assert not [file for file in (tmp_path / "m").glob("*.*ml") if str(environment) in file.read_text()]


def test_ray_tune_hands_no_keys_to_trials():
    """They would be part of a runtime environment, which Ray writes to its logs."""
    from ray.tune.execution import class_cache

    import timbrel.search

    assert timbrel.search.ENV_VARS_TO_PROPAGATE is class_cache.ENV_VARS_TO_PROPAGATE
    assert not [name for name in class_cache.ENV_VARS_TO_PROPAGATE if "KEY" in name or "TOKEN" in name]
    assert class_cache.ENV_VARS_TO_PROPAGATE
