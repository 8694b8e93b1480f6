"""MLflow: where a run's facts live.

Runs are written through ``MlflowClient`` by the driver alone: workers on other nodes must not open a SQLite
file, and a trial that Ray Tune stops early can't close its own run. A study is a parent run with one child run
a trial.
"""

import contextlib
import getpass
import logging
import math
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import filelock
import pandas as pd

import timbrel
from timbrel import config as configs
from timbrel.errors import UserError
from timbrel.patience import PatientClient, Wait, knock
from timbrel.safety import split_login, without_secrets

# MLflow reports on itself and on how its database is set up; neither is news to a user of ours.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # in the middle of a progress bar
for name in ("mlflow", "alembic"):
    logging.getLogger(name).setLevel(logging.ERROR)

EXPERIMENT = "timbrel"
"""The MLflow experiment that all runs belong to unless the user names another."""
EVALUATION = "timbrel.evaluation"
"""Tag: what a run's evaluation examples depend on; runs whose tags and data digests agree were judged on the same."""
PAGE = 1000
"""Runs that a server is asked for at a time."""
MAX_VALUE = 500
"""Characters of a parameter's value; MLflow refuses longer ones on some stores."""


def default_uri() -> str:
    """Return ``MLFLOW_TRACKING_URI``, or the SQLite file ``mlflow.db`` of the current folder, as `mlflow ui` does."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"


class Tracker:
    """One MLflow tracking server or database."""

    def __init__(self, uri: str = "", experiment: str = EXPERIMENT) -> None:
        self.uri, user, password = split_login(uri or default_uri())
        if user:  # MLflow's own variables: an address ends up in messages and files
            os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = user, password
        self.experiment = experiment

    @property
    def ui_command(self) -> str:
        """The line that opens what was logged in a browser."""
        if self.uri.startswith("http"):
            return f"open {self.uri}"
        here = f"sqlite:///{Path.cwd()}/"
        uri = self.uri.replace(here, "sqlite:///", 1)  # the line is given where the command was
        shown = without_secrets(uri)
        return f"mlflow ui --backend-store-uri {shown.replace('sqlite:///~', 'sqlite:///$HOME')}"

    @cached_property
    def client(self) -> Any:
        """The MLflow client; made on first use, because importing MLflow takes a second."""
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
        from sqlalchemy.exc import SQLAlchemyError

        served = self.uri.startswith(("http://", "https://"))
        if served and (refusal := knock(self.uri)) is not None:
            raise UserError(
                f"no MLflow server answers at {self.uri} ({refusal}): start it, or unset MLFLOW_TRACKING_URI."
            )
        try:
            with self._database():
                client = MlflowClient(tracking_uri=self.uri)
        except (MlflowException, SQLAlchemyError, ImportError) as error:
            raise self._unusable(error) from None
        return PatientClient(client, self.uri) if served else client

    def rejoin(self) -> "Tracker":
        """Connect to a server that was there when the work began, and wait for it if it is away.

        Raises:
            ServerGoneError: it was waited for in vain.
        """
        if self.uri.startswith(("http://", "https://")):
            Wait(self.uri).until_it_answers()
        return self

    def check(self) -> None:
        """Open the store, so that one which can't be used is known before the work.

        Raises:
            UserError: there is no such server or database, or it can't be written to.
        """
        assert self._experiment_id

    @contextlib.contextmanager
    def _database(self) -> Iterator[None]:
        """Make a new SQLite file with MLflow's tables, whole or not at all, and by one process at a time.

        MLflow makes them in seconds, keeps nobody out meanwhile, and can't use what Ctrl-C leaves of them.
        """
        from mlflow.tracking import MlflowClient

        name = self.uri.removeprefix("sqlite:///")
        if name == self.uri or "?" in name:  # a server, or a database with options of its own
            yield
            return
        file = Path(name)
        _check_database(file)
        with filelock.FileLock(file.with_name(f".{file.name}.lock")):
            for abandoned in file.parent.glob(f".{file.name}-*"):  # by one who was killed
                shutil.rmtree(abandoned, ignore_errors=True)
            if not file.exists():
                with tempfile.TemporaryDirectory(prefix=f".{file.name}-", dir=file.parent) as draft:
                    MlflowClient(tracking_uri=f"sqlite:///{Path(draft) / file.name}")
                    (Path(draft) / file.name).rename(file)
            yield

    def _unusable(self, error: Exception) -> UserError:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return UserError(f"MLflow can't use the tracking URI {self.uri}: {reason}")

    def start(self, name: str, tags: Mapping[str, str], parent: str | None = None) -> "Run":
        """Open a new run."""
        all_tags = {**tags, "mlflow.runName": name, "mlflow.user": getpass.getuser(), **code_version()}
        if parent:
            all_tags["mlflow.parentRunId"] = parent
        all_tags = {key: without_secrets(value) for key, value in all_tags.items()}
        began, asked_again = int(time.time() * 1000), getattr(self.client, "asked_again", 0)
        run = self.client.create_run(self._experiment_id, tags=all_tags, start_time=began)
        if getattr(self.client, "asked_again", 0) > asked_again:
            # The server may have made one before it was gone, and could not say so.
            for other in self.client.search_runs([self._experiment_id], f"attributes.start_time = {began}"):
                if other.data.tags == run.data.tags and other.info.run_id != run.info.run_id:
                    self.client.delete_run(other.info.run_id)
        return Run(self, run.info.run_id)

    def reopen(self, run_id: str) -> "Run":
        """Go on writing to an earlier run."""
        self.client.update_run(run_id, status="RUNNING")
        return Run(self, run_id)

    def delete(self, run_id: str) -> None:
        """Take a run away; `mlflow gc` would remove it for good."""
        self.client.delete_run(run_id)

    def find(self, tags: Mapping[str, str], limit: int = 0) -> list[Any]:
        """Return the MLflow runs that carry all of ``tags``, newest first, at most ``limit``; 0: all."""
        query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        found: list[Any] = []
        page = None
        while page is None or (page.token and not limit):
            page = self.client.search_runs(
                [self._experiment_id],
                query,
                order_by=["attributes.start_time DESC"],
                max_results=limit or PAGE,
                page_token=page.token if page else None,
            )
            found += page
        return found

    def get(self, run_id: str) -> Any:
        """Return an MLflow run.

        Raises:
            UserError: there is none with this id.
        """
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise self._unusable(error) from None
            raise UserError(
                f"there is no run '{run_id}' at {self.uri}: see `timbrel list runs`, or set MLFLOW_TRACKING_URI."
            ) from None

    def history(self, run_id: str, metric: str) -> dict[int, float]:
        """Return the values of a metric by the step at which they were logged; empty if it never was."""
        return {point.step: point.value for point in self.client.get_metric_history(run_id, metric)}

    @contextlib.contextmanager
    def artifacts(self, run_id: str, path: str) -> Iterator[Path]:
        """Download a file or folder of a run's artifacts, for as long as the context lasts.

        Raises:
            UserError: no such run, or it has no such artifact.
        """
        self.get(run_id)
        if path not in {entry.path for entry in self.client.list_artifacts(run_id)}:
            raise UserError(f"run {run_id} has no '{path}' artifact: it did not finish, or it is a study's parent run.")
        with tempfile.TemporaryDirectory(prefix="timbrel-") as folder:
            downloaded = Path(self.client.download_artifacts(run_id, path, folder))
            try:
                yield downloaded
            except UserError as error:  # what is wrong with it is wrong with the run, not with a copy that goes away
                raise UserError(str(error).replace(f"{folder}/", f"run {run_id}'s artifact ")) from None

    def config(self, run_id: str, task: Any) -> Any:
        """Return the config that a run was logged with, as the task reads it."""
        logged = self.get(run_id).data.tags.get("timbrel.task")
        if logged != task.name:
            raise UserError(f"run {run_id} is one of task '{logged}', not '{task.name}'.")
        with self.artifacts(run_id, "config.json") as file:
            return configs.from_json(task.config_type, file.read_text(), f"run {run_id}")

    @cached_property
    def _experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            existing = self.client.get_experiment_by_name(self.experiment)
        except (MlflowException, SQLAlchemyError) as error:
            raise self._unusable(error) from None
        if existing is None:
            location = None
            if self.uri.startswith("sqlite:///"):
                location = (Path(self.uri.removeprefix("sqlite:///")).absolute().parent / "mlflow-artifacts").as_uri()
            with contextlib.suppress(MlflowException):  # another process may have been first
                return str(self.client.create_experiment(self.experiment, artifact_location=location))
            existing = self.client.get_experiment_by_name(self.experiment)
        return str(existing.experiment_id)


class Run:
    """An open MLflow run."""

    def __init__(self, tracker: Tracker, run_id: str) -> None:
        self.tracker = tracker
        self.id = run_id

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Log parameters."""
        from mlflow.entities import Param

        self.tracker.client.log_batch(self.id, params=[Param(key, as_param(value)) for key, value in values.items()])

    def log_config(self, config: Any) -> None:
        """Log a config's fields as parameters and the whole of it as ``config.json``."""
        self.log_params(configs.flatten(config))
        self.log_text(configs.to_json(config), "config.json")

    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log metrics in one request; undefined ones (NaN) are left out, as a chart should show a gap."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        defined = [Metric(key, float(value), now, step) for key, value in values.items() if math.isfinite(value)]
        if defined:
            self.tracker.client.log_batch(self.id, metrics=defined)

    def logged_steps(self, metric: str) -> set[int]:
        """Return the steps at which a metric was logged."""
        return set(self.tracker.history(self.id, metric))

    def log_text(self, text: str, path: str) -> None:
        """Store a text as an artifact, without secrets."""
        self.tracker.client.log_text(self.id, without_secrets(text), path)

    def log_figure(self, figure: Any, path: str) -> None:
        """Store a matplotlib figure as a PNG artifact."""
        with tempfile.TemporaryDirectory(prefix="timbrel-") as folder:
            file = Path(folder) / Path(path).name
            figure.savefig(file, dpi=120)
            self.tracker.client.log_artifact(self.id, str(file), str(Path(path).parent) if "/" in path else None)

    def log_folder(self, folder: Path, path: str) -> None:
        """Store the files of a folder as artifacts."""
        self.tracker.client.log_artifacts(self.id, str(folder), path)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        for key, value in tags.items():
            self.tracker.client.set_tag(self.id, key, without_secrets(value))

    def close(self, status: str = "FINISHED") -> None:
        """Close the run as FINISHED, FAILED or KILLED."""
        self.tracker.client.set_terminated(self.id, status)


def _check_database(file: Path) -> None:
    """Find out whether SQLite can use a file, at once: MLflow would try for minutes, and end in a traceback."""
    remedy = "name another with --tracking-uri or MLFLOW_TRACKING_URI"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        writable = os.access(file if file.exists() else file.parent, os.W_OK)
    except OSError as error:
        raise UserError(f"the database {file} can't be made ({error.strerror}): {remedy}.") from None
    if file.is_dir() or not writable:
        reason = "is a folder" if file.is_dir() else "can't be written to"
        raise UserError(f"the database {file} {reason}: {remedy}.")
    if file.exists():
        try:
            with contextlib.closing(sqlite3.connect(file)) as database:
                database.execute("PRAGMA schema_version")
        except sqlite3.DatabaseError as error:
            raise UserError(f"{file} can't be used as a database of MLflow's ({error}): {remedy}.") from None


def code_version() -> dict[str, str]:
    """Return tags that say which code ran: the version, and the commit if the code lies in a git checkout."""
    tags = {"timbrel.version": timbrel.__version__}
    here = Path(__file__).parent
    command = [
        "git",
        "-C",
        str(here),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--match",
        "no-such-tag",
    ]
    # No git, or one that does not answer: what is run is more than to know of which commit.
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        if answer.returncode == 0 and ".venv" not in here.parts and "site-packages" not in here.parts:
            tags["mlflow.source.git.commit"] = answer.stdout.strip()
    return tags


def frame(runs: Sequence[Any]) -> pd.DataFrame:
    """Return runs as a table: one row a run, with its id, name, status, tags, params and metrics."""
    return pd.DataFrame(
        [
            {
                "run_id": run.info.run_id,
                "name": run.info.run_name,
                "status": run.info.status,
                "start": pd.Timestamp(run.info.start_time, unit="ms"),
                **{f"tags.{key}": value for key, value in run.data.tags.items()},
                **{f"params.{key}": value for key, value in run.data.params.items()},
                **{f"metrics.{key}": value for key, value in run.data.metrics.items()},
            }
            for run in runs
        ]
    )


def as_param(value: Any) -> str:
    """Return how a parameter's value is logged: without secrets, and cut to what every MLflow store takes."""
    text = without_secrets(",".join(map(str, value)) if isinstance(value, tuple) else str(value))
    return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 1] + "…"
