"""Trials with Ray Tune: each is a driver function that builds a TorchTrainer, and reports through Tune to one callback.

A single training run is a study of one trial, so there is one path for both: the same logging, resuming and progress.
"""

import math
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray.tune
from ray.tune.integration.ray_train import TuneReportCallback
from tqdm import tqdm

from timbrel import config as configs
from timbrel import registry
from timbrel.figures import per_class_figure
from timbrel.library import Library
from timbrel.metrics import metric_name
from timbrel.runtime import DRIVER_CPUS, Share
from timbrel.task import Experiment, Task
from timbrel.tracking import Run, Tracker
from timbrel.trained import TrainedModel
from timbrel.training.run import EvaluationSets, evaluation_key, render_evaluation_sets, train_run
from timbrel.training.worker import MODEL

ASHA_GRACE = 0.2
"""Share of the epochs that every trial gets before early stopping may end it."""


@dataclass(frozen=True)
class Job:
    """What all trials of a study have in common; it travels to each trial."""

    task: str
    base: str
    """The config, as JSON, that a trial's values are applied to."""
    library: str
    folder: str
    """Where the trials' checkpoints are kept."""
    share: Share
    sets: Mapping[str, EvaluationSets] = field(default_factory=dict)
    """Evaluation sets rendered once for all trials whose config asks for the same, by ``evaluation_key``."""
    pretrained: Mapping[str, Any] = field(default_factory=dict)
    """Weights in Ray's object store, by the name under which a config asks for them."""

    def config(self, values: Mapping[str, Any]) -> Experiment:
        """Return the config of the trial with these values."""
        task: Task = registry.load("task", self.task)
        return configs.with_values(configs.from_json(task.config_type, self.base, "the study"), values)


def run_trial(values: dict[str, Any], job: Job) -> None:
    """Lead one trial: what Ray Tune calls, in a process of its own on some node."""
    task: Task = registry.load("task", job.task)
    config = job.config(values)
    library = Library.open(job.library)
    sets = job.sets.get(evaluation_key(task, config)) or render_evaluation_sets(task, config, library, job.share)
    name = task.pretrained(config)
    train_run(
        task,
        config,
        library,
        sets,
        job.pretrained[name] if name else None,
        job.share,
        job.folder,
        ray.tune.get_context().get_trial_id(),  # no timestamp: a restarted trial finds its checkpoints by this name
        [TuneReportCallback()],
    )


def run_trials(
    job: Job,
    space: Mapping[str, Any],
    callback: "TrialLog",
    *,
    samples: int = 0,
    early_stopping: bool = False,
    metric: str = "valid/roc_auc_macro",
    mode: str = "max",
    epochs: int,
    seed: int = 0,
    resume: bool = False,
) -> ray.tune.ResultGrid:
    """Run all trials of a space, or the rest of them.

    With ``samples`` the values are drawn by Optuna's TPE, else every combination of the grid is run once.
    """
    search = scheduler = None
    if samples:
        from ray.tune.search.optuna import OptunaSearch

        search = OptunaSearch(metric=metric, mode=mode, seed=seed)
    if early_stopping:
        from ray.tune.schedulers import ASHAScheduler

        grace = max(1, round(ASHA_GRACE * epochs))
        scheduler = ASHAScheduler(time_attr="epoch", metric=metric, mode=mode, max_t=epochs + 1, grace_period=grace)
    trainable = ray.tune.with_resources(ray.tune.with_parameters(run_trial, job=job), {"cpu": DRIVER_CPUS})
    folder = Path(job.folder)
    random.seed(seed)
    if resume and ray.tune.Tuner.can_restore(str(folder / "tune")):
        tuner = ray.tune.Tuner.restore(
            str(folder / "tune"), trainable, resume_unfinished=True, restart_errored=True, param_space=dict(space)
        )
    else:
        tuner = ray.tune.Tuner(
            trainable,
            param_space=dict(space),
            tune_config=ray.tune.TuneConfig(
                search_alg=search,
                scheduler=scheduler,
                num_samples=samples or 1,
                max_concurrent_trials=job.share.concurrent,
                reuse_actors=False,
            ),
            run_config=ray.tune.RunConfig(
                name="tune",
                storage_path=str(folder),
                callbacks=[callback],
                verbose=0,
                failure_config=ray.tune.FailureConfig(max_failures=0, fail_fast=False),
            ),
        )
    return tuner.fit()


class TrialLog(ray.tune.Callback):
    """The driver's side of a study: it writes every trial to MLflow and draws the progress bar.

    Tune stores it with the study, so what can't be stored (connections, bars) is made on first use; after a resume the
    MLflow runs are found again by the trials' ids.
    """

    def __init__(self, uri: str, tags: Mapping[str, str], parent: str | None, epochs: int, trials: int, job: Job) -> None:
        self.uri = uri
        self.tags = dict(tags)
        self.parent = parent
        self.epochs = epochs
        self.trials = trials
        self.base, self.task = job.base, job.task
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def _forget(self) -> None:
        self._tracker: Tracker | None = None
        self._runs: dict[str, Run] = {}
        self._bar: tqdm | None = None
        self._done = 0
        self._epoch: dict[str, int] = {}
        self._best: float | None = None

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Open the trial's run, or the one it had before an interruption."""
        if trial.trial_id in self._runs:
            return
        identity = {**self.tags, "timbrel.trial": trial.trial_id}
        earlier = self._connected.find(identity, limit=1)
        if earlier:
            self._runs[trial.trial_id] = self._connected.reopen(earlier[0].info.run_id)
            return
        values = {path: value for path, value in trial.config.items() if path != "job"}
        name = " ".join(f"{path.split('.')[-1]}={_short(value)}" for path, value in values.items())
        job = Job(self.task, self.base, "", "", share=None)  # type: ignore[arg-type]  # only its config is asked for
        config = job.config(values)
        run = self._connected.start(name or self.task, identity | {"timbrel.seed": str(config.seed)}, self.parent)
        run.log_config(config)
        self._runs[trial.trial_id] = run

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Log an epoch, or the test figures at a trial's end."""
        epoch = int(result["epoch"])
        self._runs[trial.trial_id].log_metrics(
            {name: value for name, value in result.items() if "/" in name or name == "best_epoch"}, step=epoch
        )
        self._epoch[trial.trial_id] = epoch
        score = result.get("valid/roc_auc_macro")
        if score is not None and (self._best is None or score > self._best):
            self._best = score
        self._draw()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Store the trained model and close the run; a trial that was stopped early is finished too, and tagged."""
        run, result = self._runs[trial.trial_id], trial.last_result
        if result.get("finished"):
            log_model(run, Path(result["checkpoint_path"]) / MODEL, result)
        run.set_tags({"timbrel.early_stopped": str(not result.get("finished")).lower()})
        run.close()
        self._end(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Close the run as failed, with what went wrong."""
        run = self._runs[trial.trial_id]
        if trial.error_file and os.path.exists(trial.error_file):
            run.log_text(Path(trial.error_file).read_text(errors="replace"), "error.txt")
        run.close("FAILED")
        self._end(trial)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Take the progress bar away."""
        if self._bar is not None:
            self._bar.close()

    @property
    def _connected(self) -> Tracker:
        if self._tracker is None:
            self._tracker = Tracker(self.uri)
        return self._tracker

    def _end(self, trial: Any) -> None:
        self._epoch[trial.trial_id] = self.epochs
        self._done += 1
        self._draw()

    def _draw(self) -> None:
        if self._bar is None:
            self._bar = tqdm(total=self.trials * self.epochs, unit="epoch", desc=self.task, smoothing=0.1)
        best = f", best validation ROC-AUC {self._best:.3f}" if self._best is not None else ""
        done = f"{self._done}/{self.trials} trials done" if self.trials > 1 else "training"
        self._bar.set_postfix_str(done + best, refresh=False)
        self._bar.n = min(sum(self._epoch.values()), self.trials * self.epochs)
        self._bar.refresh()


def log_model(run: Run, folder: Path, result: Mapping[str, Any]) -> None:
    """Store a trained model and its per-class test figures with a run."""
    trained = TrainedModel.load(folder)
    run.log_folder(folder, MODEL)
    rows = ["class,threshold,support,f1,precision,recall,accuracy,roc_auc,pr_auc"]
    undefined = []
    for name, threshold in trained.thresholds.items():
        label = metric_name(name)
        cells = [result.get(f"test/{column}/{label}", math.nan) for column in rows[0].split(",")[2:]]
        rows.append(",".join([name, f"{threshold:.6f}", *("" if math.isnan(cell) else f"{cell:.6f}" for cell in cells)]))
        if math.isnan(result.get(f"test/roc_auc/{label}", math.nan)):
            undefined.append(name)
    run.log_text("\n".join(rows) + "\n", "per_class.csv")
    run.log_metrics({f"threshold/{metric_name(name)}": value for name, value in trained.thresholds.items()})
    if len(undefined) < len(trained.thresholds):
        scores = {name: result.get(f"test/f1/{metric_name(name)}", math.nan) for name in trained.thresholds}
        shown = {name: value for name, value in scores.items() if len(scores) <= 50 or not math.isnan(value)}
        run.log_figure(per_class_figure({"test": shown}, title="F1 per class on the test split"), "per_class_f1.png")
    run.set_tags({"timbrel.undefined_classes": ", ".join(undefined)[:5000]})


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
