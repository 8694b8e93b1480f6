"""From a command to logged results: one training run, or a study of many."""

import datetime
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.tune

from timbrel import config as configs
from timbrel import registry
from timbrel.errors import UserError
from timbrel.library import Library
from timbrel.report import comparison_table
from timbrel.runtime import ray_session, share_cluster
from timbrel.search import Search, run_trials
from timbrel.settings import Experiment
from timbrel.study import Study
from timbrel.task import Task
from timbrel.tracking import Tracker
from timbrel.trained import TrainedModel, load_weights
from timbrel.training.run import evaluation_key, render_evaluation_sets
from timbrel.training.trial import Job, TrialConfigs
from timbrel.trial_log import TrialLog


class Interrupted(KeyboardInterrupt):
    """Ctrl-C ended a run that can be resumed; Ray Tune itself returns as if all were done."""


@dataclass(frozen=True)
class Workplace:
    """Where experiments find their data and leave their results."""

    library: Library
    tracker: Tracker
    storage: Path
    """Folder for checkpoints until a run has finished."""
    mixers: int = 0
    """Mixing actors a run; 0: what the cluster's CPUs leave."""
    share_gb: float = 20.0
    """Disk in GB for mixtures that several trials of a study share."""

    def tags(self, config: Experiment, **names: str) -> dict[str, str]:
        """Return the MLflow tags that tell a run from others."""
        digest = self.library.digest(config.data.all_datasets)
        return {**{f"timbrel.{key}": name for key, name in names.items()}, "timbrel.data_digest": digest}

    def interrupted(self, fingerprint: str) -> Any:
        """Return the newest MLflow run with this fingerprint that did not finish and can be taken up again, or None."""
        for run in self.tracker.find({"timbrel.fingerprint": fingerprint}):
            folder = run.data.tags.get("timbrel.folder")
            if run.info.status != "FINISHED" and folder and (self.storage / folder / "tune").is_dir():
                return run
        return None


def train_once(
    task: Task, config: Experiment, place: Workplace, *, resume: bool = False, parent: str | None = None
) -> str:
    """Train one model and return its MLflow run id.

    Raises:
        UserError: see the message; nothing is left running.
        Interrupted: Ctrl-C; the run can be resumed.
    """
    tags = place.tags(config, task=task.name)
    fingerprint = configs.fingerprint(task.name, config, tags["timbrel.data_digest"])
    earlier = _earlier(place, fingerprint) if resume else None
    folder = earlier.data.tags["timbrel.folder"] if earlier else _new_folder(task.name, fingerprint)
    tags |= {"timbrel.kind": "train", "timbrel.fingerprint": fingerprint, "timbrel.folder": folder}
    with ray_session():
        _run(Search(task, config), place, tags, parent, resume=earlier is not None)
    (run,) = place.tracker.find({"timbrel.folder": folder}, limit=1)
    print(f"{task.name}: run {run.info.run_id} finished; test {_figures(run.data.metrics)}")
    return str(run.info.run_id)


def run_study(
    study: Study,
    task: Task,
    config: Experiment,
    place: Workplace,
    *,
    preset: str,
    seeds: Sequence[int] = (0,),
    samples: int | None = None,
    resume: bool = False,
) -> str:
    """Run a study, or the rest of it, and return the id of its parent run in MLflow.

    ``config`` is what the trials have in common; ``preset`` is that of the pre-training, if there is any.

    Raises:
        UserError: see the message; a study that had begun can be resumed.
        Interrupted: Ctrl-C; the study can be resumed.
    """
    study.check(config)
    tags = place.tags(config, task=task.name, study=study.name)
    count = samples or study.samples
    fingerprint = configs.fingerprint(study.name, config, tags["timbrel.data_digest"], list(seeds), count, preset)
    earlier = _earlier(place, fingerprint) if resume else None
    folder = earlier.data.tags["timbrel.folder"] if earlier else _new_folder(study.name, fingerprint)
    own = {"timbrel.kind": "study", "timbrel.fingerprint": fingerprint, "timbrel.folder": folder}
    status = "FAILED"
    with ray_session(dashboard=study.early_stopping):
        tracker = place.tracker
        parent = tracker.reopen(earlier.info.run_id) if earlier else tracker.start(study.name, tags | own)
        try:
            config = _pretrained(study, config, place, preset, parent.id)
            grid = {} if count else {"seed": ray.tune.grid_search(list(seeds))}
            if count:
                config = configs.with_values(config, {"seed": seeds[0]})
            search = Search(
                task, config, {**study.space, **grid}, count, study.early_stopping, study.metric, study.mode
            )
            if not earlier:
                parent.log_config(config)
                parent.log_text(
                    json.dumps({path: study.describe(path) for path in study.space}, indent=2), "space.json"
                )
            try:
                trial_tags = tags | {"timbrel.kind": "trial", "timbrel.folder": folder}
                _run(search, place, trial_tags, parent.id, resume=earlier is not None)
            finally:
                table = comparison_table(place.tracker, [parent.id])
                if table:
                    parent.log_text(table, "report.md")
                    print(f"\n{table}\n")
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            parent.close(status)
    print(f"compare the trials side by side:\n    {place.tracker.ui_command}")
    return parent.id


def resolve_weights(tracker: Tracker, name: str) -> dict[str, Any]:
    """Return the weights of a logged run, or of a file or folder.

    Raises:
        UserError: there is none of them, or the file is not one of weights.
    """
    path = Path(name)
    if path.is_dir():
        return dict(TrainedModel.load(path).weights)
    if path.suffix or path.exists():
        return load_weights(path)
    with tracker.artifacts(name, "model") as folder:
        return dict(TrainedModel.load(folder).weights)


def _run(search: Search, place: Workplace, tags: Mapping[str, str], parent: str | None, *, resume: bool) -> None:
    """Run a search's trials to the end, or say by an exception why not."""
    task, tracker = search.task, place.tracker
    folder = place.storage / tags["timbrel.folder"]
    cluster = ray.cluster_resources()
    share = share_cluster(
        cluster.get("CPU", 1), cluster.get("GPU", 0), search.count, search.base.training.workers, place.mixers
    )
    known = search.configurations()
    names = sorted({name for config in known if (name := task.pretrained(config))})
    weights = {name: resolve_weights(tracker, name) for name in names}
    for config in {configs.fingerprint(config): config for config in known}.values():
        if name := task.pretrained(config):  # what doesn't fit is said here, before anything is mixed
            task.load_pretrained(task.build_model(config), config, weights[name])
    pretrained = {name: ray.put(state) for name, state in weights.items()}
    sets = {}
    for config in known:
        key = evaluation_key(task, config)
        if key not in sets:
            rules = config.evaluation
            print(f"mixing {rules.valid_examples} validation and {rules.test_examples} test examples", flush=True)
            sets[key] = render_evaluation_sets(task, config, place.library, share.pool)
    trial_configs = TrialConfigs(task.name, configs.to_json(search.base))
    job = Job(trial_configs, str(place.library.root), str(folder), share, sets, pretrained, _kept(search, place))
    log = TrialLog(tracker.uri, tags, parent, trial_configs, search.base.training.epochs, search.count)
    try:
        results = run_trials(search, job, log, resume=resume)
    finally:
        # Ctrl-C ends trials without telling the log, so their runs are still open.
        runs = [run for run in tracker.find({"timbrel.folder": folder.name}) if run.info.run_id != parent]
        left_open = [run for run in runs if run.info.status == "RUNNING"]
        for run in left_open:
            tracker.reopen(run.info.run_id).close("KILLED")
    if results.errors:
        raise results.errors[0]
    if left_open or len(runs) < search.count:
        raise Interrupted("the same command with --resume goes on where it was")
    shutil.rmtree(folder)  # the models are in MLflow, and checkpoints serve resuming alone


def _kept(search: Search, place: Workplace) -> dict[str, int]:
    """Return up to which example each stream of mixtures is kept on disk, within the space that the user allows."""
    shared = [key for key, trials in search.streams().items() if trials > 1]
    config = search.base
    total = config.training.epochs * config.training.examples_per_epoch
    bytes_each = 4 * config.mixing.samples
    return {key: min(total, int(place.share_gb * 1e9 / len(shared) / bytes_each)) for key in shared}


def _pretrained(study: Study, config: Experiment, place: Workplace, preset: str, parent: str) -> Experiment:
    """Return the study's config with a checkpoint to start from, training one on songs of its own if there is none."""
    plan = study.pretraining
    values = configs.flatten(config)
    if plan is None or values[plan.target]:
        return config
    task: Task = registry.load("task", plan.task)
    if preset not in task.presets:
        raise UserError(
            f"with --preset {preset} set --config {plan.target}=FILE_OR_RUN: task {plan.task}, which would be trained "
            "first, has no such preset."
        )
    own = {"data.songs_to": plan.songs, "seed": config.seed}
    first = configs.with_values(task.config_type(), {**task.presets[preset], **plan.config_values(values), **own})
    fingerprint = configs.fingerprint(task.name, first, place.library.digest(first.data.all_datasets))
    done = [run for run in place.tracker.find({"timbrel.fingerprint": fingerprint}) if run.info.status == "FINISHED"]
    if done:
        run_id = done[0].info.run_id
        print(f"starting from the {task.name} run {run_id}, trained earlier with the same config and data")
    else:
        print(
            f"no {plan.target} given: pre-training task {task.name} on {plan.songs:.0%} of the songs, "
            "which the trials will not see"
        )
        resume = place.interrupted(fingerprint) is not None
        run_id = train_once(task, first, place, resume=resume, parent=parent)
    return configs.with_values(config, {plan.target: run_id, "data.songs_from": plan.songs})


def _earlier(place: Workplace, fingerprint: str) -> Any:
    run = place.interrupted(fingerprint)
    if run is None:
        print("nothing to resume: starting anew")
    else:
        print(f"resuming run {run.info.run_id}")
    return run


def _new_folder(name: str, fingerprint: str) -> str:
    return f"{name}-{fingerprint}-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"


def _figures(values: Mapping[str, float]) -> str:
    shown = {"ROC-AUC": "test/roc_auc_macro", "PR-AUC": "test/pr_auc_macro", "loss": "test/loss", "F1": "test/f1_macro"}
    return ", ".join(f"{label} {values[name]:.3f}" for label, name in shown.items() if name in values)
