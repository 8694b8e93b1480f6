"""What a trial of a study costs beside its training: what is written to MLflow, and what Ray Tune and Optuna take.

MLflow is written as a study writes it, through `timbrel.trial_log` and `timbrel.tracking`, to a SQLite file and to an
`mlflow server` with one. Ray Tune runs trials that do nothing.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import psutil
import ray.tune

from timbrel import registry
from timbrel.outputs import FOLDER, Outputs
from timbrel.runtime import ray_session
from timbrel.search import Search, run_trials
from timbrel.task import Task
from timbrel.tracking import Tracker
from timbrel.trained import TrainedModel
from timbrel.training.loop import judge
from timbrel.training.worker import MODEL, named
from timbrel.trial_log import log_model

TASK = "multi_instrument"
SUGGESTED = (100, 1000, 4000)
"""Trials that are done when Optuna is asked for another one."""
PARAMETERS = 4
"""That it draws."""


def measure_mlflow(runs: int, epochs: int) -> list[dict[str, Any]]:
    """Return ms of wall time and of CPU for each thing that is written of a trial, a row a store."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, finished_trial(Path(folder) / "trial") as (result, figures):
        root = Path(folder)
        file = root / "direct" / "mlflow.db"
        rows.append({"store": "SQLite file", **write_trials(f"sqlite:///{file}", file, runs, epochs, result, figures)})
        with server(root / "served") as uri:
            file = root / "served" / "mlflow.db"
            rows.append({"store": "mlflow server", **write_trials(uri, file, runs, epochs, result, figures)})
    return rows


def write_trials(
    uri: str, database: Path, runs: int, epochs: int, result: dict[str, Any], figures: dict[str, float]
) -> dict[str, Any]:
    """Write so many trials as a study does."""
    folder = database.parents[1]
    tracker = Tracker(uri)
    parent = tracker.start("study", {"timbrel.kind": "study"})
    config = registry.load("task", TASK).config_type()
    clock = Clock()
    for number in range(runs + 1):
        if number == 1:  # the first opens connections, and imports what draws pictures
            clock, before = Clock(), database.stat().st_size
        identity = {"timbrel.kind": "trial", "timbrel.trial": f"{number:08d}"}
        with clock("look for the run"):
            tracker.find(identity, limit=1)
        with clock("open the run"):
            run = tracker.start(f"trial {number}", identity, parent.id)
        with clock("log its config"):
            run.log_config(config)
        for epoch in range(epochs):
            with clock("log an epoch"):
                run.log_metrics(figures, epoch)
        with clock("log the model"):
            log_model(run, folder / "trial", result)
        with clock("close the run"):
            run.set_tags({"timbrel.early_stopped": "false"})
            run.close()
    value_bytes = (database.stat().st_size - before) / (runs * epochs * len(figures))
    return {
        "runs": runs,
        "epochs": epochs,
        "metrics": len(figures),
        "value_bytes": value_bytes,
        "ms": clock.means(),
    }


class Clock:
    """Wall time and CPU time, of this process and of those that it started, by what is done."""

    def __init__(self) -> None:
        self.spans: dict[str, list[tuple[float, float]]] = {}

    @contextlib.contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        """Time what is done in the context."""
        begin, cpu = time.perf_counter(), _all_cpu()
        yield
        self.spans.setdefault(what, []).append((time.perf_counter() - begin, _all_cpu() - cpu))

    def means(self) -> dict[str, dict[str, float]]:
        """Return the median of wall time and the mean of CPU time, in ms."""
        return {
            what: {
                "wall": 1000 * float(np.median([wall for wall, _ in spans])),
                "cpu": 1000 * float(np.mean([cpu for _, cpu in spans])),
            }
            for what, spans in self.spans.items()
        }


def _all_cpu() -> float:
    own = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (own, *own.children(recursive=True)))


@contextlib.contextmanager
def finished_trial(folder: Path) -> Iterator[tuple[dict[str, Any], dict[str, float]]]:
    """Leave what a trial leaves, untrained and judged on noise; yield its last report and the figures of an epoch."""
    task: Task = registry.load("task", TASK)
    config = task.config_type()
    generator = np.random.default_rng(0)
    classes, examples = task.classes(config), config.evaluation.test_examples
    labels = (generator.random((examples, len(classes))) < 0.3).astype(np.float32)
    scores = np.clip(0.5 * labels + 0.5 * generator.random(labels.shape), 0, 1).astype(np.float32)
    songs = np.array([f"song {number // 4}" for number in range(examples)])
    outputs = Outputs(classes, songs, labels, scores)
    thresholds = task.thresholds(outputs, config)
    TrainedModel(task, config, thresholds, task.build_model(config).state_dict()).save(folder / MODEL)
    for split in ("valid", "test"):
        outputs.save(folder / FOLDER / f"{split}.npz")
    figures = judge(task, outputs, thresholds, config)
    of_epoch = {**named("valid", figures), "train/loss": 0.3, "train/learning_rate": 1e-4, "best_epoch": 1.0}
    yield {"finished": 1, "epoch": 1, **named("test", figures)}, of_epoch


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """Start an MLflow server as `cluster.yaml` does, and yield its address."""
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ, start_new_session=True)
        try:
            _wait_for(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5))
            yield f"http://127.0.0.1:{port}"
        finally:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.terminate()
            process.terminate()
            process.wait()


def _wait_for(answer: Callable[[], Any], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            answer().close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


class Ends(ray.tune.Callback):
    """Notes when trials end, and the CPU that the driver has spent until then."""

    def __init__(self) -> None:
        self.ends: list[tuple[float, float]] = []

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note s of wall time, and of the driver's CPU."""
        self.ends.append((time.perf_counter(), time.process_time()))


def nothing(values: dict[str, Any]) -> None:
    """Lead a trial that does nothing but report."""
    ray.tune.report({"epoch": 1, "valid/roc_auc_macro": 0.5})


def measure_tune(trials: int, concurrent: int = 4) -> dict[str, Any]:
    """Return trials a second, and s of CPU that a trial takes of the driver."""
    task: Task = registry.load("task", TASK)
    search = Search(task, task.config_type(), {"seed": ray.tune.grid_search(list(range(trials)))})
    ends = Ends()
    with tempfile.TemporaryDirectory() as folder, ray_session():
        run_trials(search, nothing, Path(folder), ends, concurrent=concurrent)
    first = concurrent  # the first ones wait for what Ray starts once
    wall, driver = np.diff(np.array(ends.ends)[[first, -1]], axis=0)[0]
    count = len(ends.ends) - 1 - first
    return {
        "trials": trials,
        "concurrent": concurrent,
        "trials_per_s": count / wall,
        "driver_cpu_s": driver / count,
    }


def measure_suggestions() -> list[dict[str, float]]:
    """Return ms that Optuna's TPE, as a study uses it, takes to suggest a trial, by how many are done."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space: dict[str, Any] = {
        f"p{n}": optuna.distributions.FloatDistribution(1e-6, 1, log=True) for n in range(PARAMETERS)
    }
    generator = np.random.default_rng(0)
    rows = []
    for done in SUGGESTED:
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
        study.add_trials(
            [
                optuna.trial.create_trial(
                    params={name: float(10 ** generator.uniform(-6, 0)) for name in space},
                    distributions=space,
                    value=float(generator.random()),
                )
                for _ in range(done)
            ]
        )
        begin = time.process_time()
        for _ in range(5):
            study.ask(space)
        rows.append({"done": done, "ms": 1000 * (time.process_time() - begin) / 5})
    return rows
