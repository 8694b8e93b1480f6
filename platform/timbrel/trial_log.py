"""The driver's side of trials: every one of them in MLflow, and one progress bar."""

import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import ray.tune
from tqdm import tqdm

from timbrel.compare import Judged, intervals
from timbrel.config import spread_branches
from timbrel.logged_model import save_logged_model
from timbrel.metrics import metric_name
from timbrel.outputs import FOLDER, Outputs
from timbrel.report import run_figures
from timbrel.study import short
from timbrel.tracking import EVALUATION, Run, Tracker
from timbrel.trained import TrainedModel
from timbrel.training.run import judged_key
from timbrel.training.trial import TrialConfigs
from timbrel.training.worker import MODEL


class TrialLog(ray.tune.Callback):
    """The driver's side of a study: it writes every trial to MLflow and draws the progress bar.

    Tune stores it with the study, so what can't be stored (connections, bars) is made on first use; after a resume the
    MLflow runs are found again by the trials' ids.
    """

    def __init__(
        self,
        uri: str,
        tags: Mapping[str, str],
        parent: str | None,
        configs: TrialConfigs,
        epochs: int,
        trials: int,
    ) -> None:
        self.uri = uri
        self.tags = dict(tags)
        self.parent = parent
        self.epochs = epochs
        self.trials = trials
        self.configs = configs
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
        self._done: set[str] = set()
        self._epoch: dict[str, int] = {}
        self._best: float | None = None

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Open the trial's run, or the one it had before an interruption."""
        for each in trials:
            if each.is_finished():  # before an interruption, so that no callback told of it in this process
                self._end(each)
        self._draw()
        if trial.trial_id in self._runs:
            return
        identity = {**self.tags, "timbrel.trial": trial.trial_id}
        earlier = self._connected.find(identity, limit=1)
        if earlier:
            self._runs[trial.trial_id] = self._connected.reopen(earlier[0].info.run_id)
            return
        values = spread_branches(trial.config)
        name = " ".join(f"{path.split('.')[-1]}={short(value)}" for path, value in values.items())
        config = self.configs.of(trial.config)
        own = {"timbrel.seed": str(config.seed), EVALUATION: judged_key(self.configs.load(), config)}
        run = self._connected.start(name or self.configs.task, identity | own, self.parent)
        run.log_config(config)
        self._runs[trial.trial_id] = run

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Log an epoch, or the test figures at a trial's end."""
        run = self._runs[trial.trial_id]
        if result["earlier"]:
            logged = run.logged_steps("train/loss")
            for values in result["earlier"]:
                if values["epoch"] not in logged:
                    _log_epoch(run, values)
        _log_epoch(run, result)
        epoch = int(result["epoch"])
        self._epoch[trial.trial_id] = epoch
        score = result.get("valid/roc_auc_macro")
        if score is not None and (self._best is None or score > self._best):
            self._best = score
        self._draw()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Store the trained model and close the run; a trial that was stopped early is finished too, and tagged."""
        run, result = self._runs[trial.trial_id], trial.last_result
        if result.get("finished"):
            log_model(run, Path(result["checkpoint_path"]), result)
        run.set_tags({"timbrel.early_stopped": str(not result.get("finished")).lower()})
        run.close()
        self._end(trial)
        self._draw()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Close the run as failed, with what went wrong."""
        run = self._runs[trial.trial_id]
        if trial.error_file and os.path.exists(trial.error_file):
            run.log_text(Path(trial.error_file).read_text(errors="replace"), "error.txt")
        run.close("FAILED")
        self._end(trial)
        self._draw()

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
        self._done.add(trial.trial_id)

    def _draw(self) -> None:
        total = self.trials * self.epochs
        epochs = min(sum(self._epoch.values()), total)
        if self._bar is None:
            self._bar = tqdm(total=total, initial=epochs, unit="epoch", desc=self.configs.task, smoothing=0.1)
        best = f", best validation ROC-AUC {self._best:.3f}" if self._best is not None else ""
        done = f"{len(self._done)}/{self.trials} trials done" if self.trials > 1 else "training"
        self._bar.set_postfix_str(done + best, refresh=False)
        self._bar.n = epochs
        self._bar.refresh()


def log_model(run: Run, folder: Path, result: Mapping[str, Any]) -> None:
    """Store a trained model with a run: its outputs, its test figures by class, pictures, and bootstrap intervals.

    ``folder`` holds ``model`` and ``outputs`` as the trial left them.
    """
    trained = TrainedModel.load(folder / MODEL)
    with tempfile.TemporaryDirectory(prefix="timbrel-") as place:
        save_logged_model(trained, Path(place) / MODEL)
        run.log_folder(Path(place) / MODEL, MODEL)
    run.log_folder(folder / FOLDER, FOLDER)
    run.log_text(per_class_csv(trained.class_thresholds, result), "per_class.csv")
    run.log_metrics({f"threshold/{metric_name(name)}": value for name, value in trained.thresholds.items()})
    undefined = [
        name for name in trained.classes if math.isnan(result.get(f"test/roc_auc/{metric_name(name)}", math.nan))
    ]
    run.set_tags({"timbrel.undefined_classes": ", ".join(undefined)[:5000]})
    log_judged(run, trained, Outputs.load(folder / FOLDER / "test.npz"))


def per_class_csv(thresholds: Mapping[str, float], result: Mapping[str, Any]) -> str:
    """Return thresholds and test figures as CSV, a row a class; nothing stands for a figure that is undefined."""
    judged = "judged," if any(name.startswith("test/judged/") for name in result) else ""
    rows = [f"class,threshold,support,{judged}f1,precision,recall,accuracy,roc_auc,pr_auc"]
    for name, threshold in thresholds.items():
        cells = [result.get(f"test/{column}/{metric_name(name)}", math.nan) for column in rows[0].split(",")[2:]]
        rows.append(
            ",".join([name, f"{threshold:.6f}", *("" if math.isnan(cell) else f"{cell:.6f}" for cell in cells)])
        )
    return "\n".join(rows) + "\n"


def log_judged(run: Run, trained: TrainedModel, outputs: Outputs) -> None:
    """Store what can be drawn and computed of a run's outputs on its test split: pictures, and bootstrap intervals."""
    judged = Judged(outputs, np.array(list(trained.class_thresholds.values())))
    pictures = {name: figure for name, (_, figure) in run_figures([judged]).items()}
    for name, figure in {**pictures, **trained.task.pictures(outputs, trained.thresholds, trained.config)}.items():
        run.log_figure(figure, f"figures/{name}.png")
    for name, ends in intervals([judged]).items():
        if name == "loss" and not trained.task.loss_of_outputs:
            continue
        run.log_metrics({f"test/{name}_low": ends.low, f"test/{name}_high": ends.high})


def _log_epoch(run: Run, values: Mapping[str, Any]) -> None:
    """Log our own figures among those that Ray adds; the last report repeats the best epoch's validation figures."""
    kinds = ("test/", "share/") if "finished" in values else ("train/", "valid/")
    ours = {name: value for name, value in values.items() if name.startswith(kinds) or name == "best_epoch"}
    run.log_metrics(ours, step=int(values["epoch"]))
