"""The driver's side of trials: every one of them in MLflow, and one line that says how far they are."""

import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import ray.cloudpickle
import ray.tune

from timbrel.compare import Judged, intervals
from timbrel.config import short, spread_branches
from timbrel.logged_model import save_logged_model
from timbrel.metrics import metric_name
from timbrel.outputs import FOLDER, Outputs
from timbrel.progress import Progress
from timbrel.report import run_figures
from timbrel.tracking import EVALUATION, Run, Tracker
from timbrel.trained import TrainedModel
from timbrel.training.failures import process_died
from timbrel.training.run import judged_key
from timbrel.training.trial import TrialConfigs
from timbrel.training.worker import MODEL


class TrialLog(ray.tune.Callback):
    """The driver's side of a study: it writes every trial to MLflow and draws the progress bar.

    Tune stores it with the study, so what can't be stored (connections, bars) is made on first use; after a resume the
    MLflow runs are found again by the trials' ids.
    """

    uri: ClassVar[str] = ""
    """Of the process rather than of the callback: a database's address may hold a password, and isn't stored."""

    def __init__(
        self,
        uri: str,
        tags: Mapping[str, str],
        parent: str | None,
        configs: TrialConfigs,
        epochs: int,
        trials: int,
        metric: str,
        mode: str,
    ) -> None:
        TrialLog.uri = uri
        self.tags = dict(tags)
        self.parent = parent
        self.epochs = epochs
        self.trials = trials
        self.metric = metric
        self.mode = mode
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
        self._progress: Progress | None = None
        self._logged: dict[str, set[int]] = {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Open the trial's run, or the one it had before an interruption."""
        for each in trials:
            if each.is_finished():  # before an interruption, so that no callback told of it in this process
                self._shown.judged(each.last_result.get(self.metric))
                self._shown.ended(each.trial_id, failed=each.status == each.ERROR)
        self._shown.started(trial.trial_id)
        if trial.trial_id in self._runs:
            return
        identity = {**self.tags, "timbrel.trial": trial.trial_id}
        earlier = self._connected.find(identity, limit=1)
        if earlier:
            run = self._runs[trial.trial_id] = self._connected.reopen(earlier[0].info.run_id)
            self._logged[trial.trial_id] = run.logged_steps("train/loss")
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
        logged = self._logged.setdefault(trial.trial_id, set())
        for values in [*result["earlier"], result]:
            if "finished" in values or values["epoch"] not in logged:
                _log_epoch(self._runs[trial.trial_id], values)
                logged.add(int(values["epoch"]))
        trial.run_metadata.num_failures = 0  # what counts is how often a trial dies without getting any further
        self._shown.trained(trial.trial_id, int(result["epoch"]), result.get(self.metric))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Store the trained model and close the run; a trial that was stopped early is finished too, and tagged."""
        run, result = self._runs[trial.trial_id], trial.last_result
        if result.get("finished"):
            log_model(run, Path(result["checkpoint_path"]), result)
        run.set_tags({"timbrel.early_stopped": str(not result.get("finished")).lower()})
        run.close()
        self._shown.ended(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Close the run as failed, with what went wrong."""
        run = self._runs[trial.trial_id]
        if trial.error_file and os.path.exists(trial.error_file):
            run.log_text(Path(trial.error_file).read_text(errors="replace"), "error.txt")
        run.close("FAILED")
        self._shown.ended(trial.trial_id, failed=True)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Let Tune start a trial again if a process of it died; one that raised has had its only other chance."""
        file = trial.pickled_error_file
        error = ray.cloudpickle.loads(Path(file).read_bytes()) if file and os.path.exists(file) else None
        if not process_died(error):
            trial.run_metadata.num_failures = trial.max_failures

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """End the progress bar, and take away runs that were opened for a trial which Tune then forgot.

        Tune's record of a search is up to ten seconds old. A trial that began within the last seconds before the
        driver was killed begins anew under another id when the search is resumed.
        """
        self._shown.close()
        known = {trial.trial_id for trial in trials}
        for run in self._connected.find(self.tags):
            if run.data.tags["timbrel.trial"] not in known:
                self._connected.delete(run.info.run_id)

    @property
    def _connected(self) -> Tracker:
        if self._tracker is None:
            self._tracker = Tracker(self.uri).rejoin()
        return self._tracker

    @property
    def _shown(self) -> Progress:
        if self._progress is None:
            self._progress = Progress(self.configs.task, self.trials, self.epochs, self.metric, self.mode)
        return self._progress


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
