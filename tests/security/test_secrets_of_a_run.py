"""A whole run among secrets: nothing that it writes or says repeats them, or says where the home is."""

import os
import shutil
import sqlite3
import subprocess
import sys

import pytest
import torch

from timbrel import registry
from timbrel.config import with_values

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "MLFLOW_TRACKING_TOKEN": "eyJhbGciOiJIUzI1NiJ9.e30.ZRrHA1JJJW8",
    "MLFLOW_TRACKING_PASSWORD": "correct horse battery",
}
SIZE = {
    "mixing.sample_rate": 16_000,
    "mixing.seconds": 2.1,
    "model.width": 2,
    "training.epochs": 1,
    "training.batches_per_epoch": 2,
    "training.batch_size": 4,
    "evaluation.valid_examples": 8,
    "evaluation.test_examples": 8,
    "transfer.mode": "finetune",
}
RUN = """
import shutil, sys
import ray
from timbrel.cli import main
from timbrel.runtime import ray_session

kept, *arguments = sys.argv[1:]
remove = shutil.rmtree

def keep_and_remove(folder, *more, **options):  # checkpoints and Ray Tune's state, before they go
    if "/runs/" in str(folder):
        shutil.copytree(folder, kept + "/runs", dirs_exist_ok=True)
    remove(folder, *more, **options)

shutil.rmtree = keep_and_remove
with ray_session():
    main(arguments)
    logs = ray._private.worker._global_node.get_logs_dir_path()
shutil.copytree(logs, kept + "/logs")
"""
"""A program that keeps what a run takes away, beside Ray's logs; a process of its own, as it has another home."""


def contents(folder):
    return {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file() and not file.is_symlink()}


def holding(found, forbidden):
    return [str(file) for file, content in found.items() if forbidden.encode() in content]


def test_a_run_among_secrets(band_library, tmp_path):
    home, kept = tmp_path / "home" / "ann", tmp_path / "kept"
    shutil.copytree(band_library, home / "library")
    kept.mkdir()
    task = registry.load("task", "multi_instrument")
    config = with_values(task.config_type(), SIZE | {"transfer.checkpoint": str(home / "weights.pth")})
    torch.save(task.build_model(config).state_dict(), home / "weights.pth")
    train = ["train", "multi_instrument", "--library", str(home / "library")]
    train += ["--tracking-uri", f"sqlite:///{home}/mlflow.db", "--storage", str(home / "runs"), "--config"]
    train += [*(f"{path}={value}" for path, value in SIZE.items()), f"transfer.checkpoint={home}/weights.pth"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(kept), *train],
        cwd=home,
        env={**environment, **SECRETS, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "finished; test" in said

    names = {file.name for file in contents(kept)}
    assert {"state.pt", "tuner.pkl", "raylet.out", "runtime_env_agent.log"} <= names
    logged = contents(home / "mlflow-artifacts")
    assert {"MLmodel", "config.json", "weights.pt"} <= {file.name for file in logged}
    everything = logged | contents(kept) | {home / "mlflow.db": (home / "mlflow.db").read_bytes()}
    # Ray's own, which it makes in the home where local clusters ask for one.
    tokens = [file.read_text().strip() for file in home.glob(".ray/*token*")]
    for secret in (*SECRETS.values(), *filter(None, tokens)):
        assert not holding(everything, secret), secret
        assert secret not in said
    # Ray's own state and logs say where the storage is, and MLflow's database where its artifacts are.
    assert not holding(logged, str(home))
    assert str(home) not in said, said
    with sqlite3.connect(home / "mlflow.db") as database:
        for table in ("params", "tags", "experiment_tags", "logged_model_params", "logged_model_tags"):
            for row in database.execute(f"SELECT * FROM {table}"):
                assert str(home) not in str(row), table
        found = database.execute("SELECT value FROM params WHERE key = 'transfer.checkpoint'").fetchone()
    assert found == ("~/weights.pth",)
