"""From a command to logged results: one training run, or a study of many."""

import datetime
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
import ray.tune

from timbrel import config as configs
from timbrel import registry
from timbrel.library import Library
from timbrel.report import comparison_table
from timbrel.runtime import ray_session, share_cluster
from timbrel.search import Job, run_trials
from timbrel.settings import Experiment
from timbrel.study import Study
from timbrel.task import Task
from timbrel.tracking import Tracker
from timbrel.trained import TrainedModel, load_weights
from timbrel.training.run import evaluation_key, render_evaluation_sets
from timbrel.trial_log import TrialConfigs, TrialLog


def train_once(
    task: Task,
    config: Experiment,
    root: Path,
    tracker: Tracker,
    storage: Path,
    *,
    resume: bool = False,
    mixers: int = 0,
    parent: str | None = None,
) -> str:
    """Train one model and return its MLflow run id.

    Raises:
        UserError: see the message; nothing is left running.
    """
    library = Library.open(root)
    digest = library.digest(config.data.datasets)
    identity = configs.fingerprint(task.name, config, digest)
    tags = {"timbrel.task": task.name, "timbrel.data_digest": digest, "timbrel.fingerprint": identity}
    folder, resumed = _folder(tracker, tags, storage, resume, f"{task.name}-{identity}")
    tags["timbrel.folder"] = folder.name
    with ray_session():
        _run_all(task, [config], library, tracker, folder, tags, parent, {}, mixers=mixers, resume=resumed)
    (run,) = tracker.find({**tags}, limit=1)
    print(f"{task.name}: run {run.info.run_id} finished; test " + _figures(run.data.metrics))
    return str(run.info.run_id)


def run_study(
    study: Study,
    task: Task,
    values: Mapping[str, Any],
    root: Path,
    tracker: Tracker,
    storage: Path,
    *,
    preset: str,
    seeds: Sequence[int] = (0,),
    samples: int | None = None,
    resume: bool = False,
    mixers: int = 0,
) -> str:
    """Run a study, or the rest of it, and return the id of its parent run in MLflow.

    ``values`` are the user's own config values; they win over the study's, which win over the preset's.

    Raises:
        UserError: see the message; the study can be resumed if it had begun.
    """
    library = Library.open(root)
    config = configs.with_values(task.config_type(), {**task.presets[preset], **study.fixed, **values})
    digest = library.digest(config.data.datasets)
    count = samples or study.samples
    identity = configs.fingerprint(study.name, config, digest, list(seeds), count, preset)
    tags = {"timbrel.study": study.name, "timbrel.data_digest": digest, "timbrel.fingerprint": identity}
    folder, resumed = _folder(tracker, tags, storage, resume, f"{study.name}-{identity}")
    with ray_session(dashboard=study.early_stopping):
        all_tags = {**tags, "timbrel.task": task.name, "timbrel.kind": "study", "timbrel.folder": folder.name}
        if resumed:
            parent = tracker.reopen(tracker.find(all_tags, limit=1)[0].info.run_id)
        else:
            parent = tracker.start(study.name, all_tags)
        status = "FAILED"
        try:
            study.check(config)
            config = _pretrain(study, task, config, preset, root, tracker, storage, mixers, parent.id)
            space = {**study.space, **({} if count else {"seed": ray.tune.grid_search(list(seeds))})}
            if count:
                config = configs.with_values(config, {"seed": seeds[0]})
            if not resumed:
                parent.log_config(config)
                parent.log_text(json.dumps({path: str(value) for path, value in space.items()}, indent=2), "space.json")
            trial_tags = {
                "timbrel.study": study.name,
                "timbrel.task": task.name,
                "timbrel.data_digest": digest,
            }
            trial_tags |= {"timbrel.kind": "trial", "timbrel.folder": folder.name}
            trials = [configs.with_values(config, drawn) for drawn in study.variants(space)] if not count else [config]
            try:
                _run_all(
                    task, trials, library, tracker, folder, trial_tags, parent.id, space,
                    mixers=mixers, resume=resumed, study=study, samples=count, base=config,
                )  # fmt: skip
            finally:
                table = comparison_table(tracker, [parent.id])
                if table:
                    parent.log_text(table, "report.md")
                    print(table)
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            parent.close(status)
    print(f"Compare the trials side by side:\n    {tracker.ui_command}")
    return parent.id


def _run_all(
    task: Task,
    configurations: Sequence[Experiment],
    library: Library,
    tracker: Tracker,
    folder: Path,
    tags: Mapping[str, str],
    parent: str | None,
    space: Mapping[str, Any],
    *,
    mixers: int,
    resume: bool,
    study: Study | None = None,
    samples: int = 0,
    base: Experiment | None = None,
) -> None:
    """Run the trials of a space; ``configurations`` are the configs it can lead to, as far as they are known."""
    base = base or configurations[0]
    count = samples or len(configurations)
    resources = ray.cluster_resources()
    share = share_cluster(resources.get("CPU", 1), resources.get("GPU", 0), count, base.training.workers, mixers)
    names = {name for config in configurations if (name := task.pretrained(config))}
    pretrained = {name: ray.put(resolve_weights(tracker, name)) for name in sorted(names)}
    sets = {}
    for config in configurations:
        key = evaluation_key(task, config)
        if key not in sets:
            print(
                f"mixing {config.evaluation.valid_examples} validation and {config.evaluation.test_examples} test examples"
            )
            sets[key] = render_evaluation_sets(task, config, library, share.pool)
    trial_configs = TrialConfigs(task.name, configs.to_json(base))
    job = Job(trial_configs, str(library.root), str(folder), share, sets, pretrained)
    log = TrialLog(tracker.uri, tags, parent, trial_configs, base.training.epochs, count)
    options = (
        {} if study is None else {"metric": study.metric, "mode": study.mode, "early_stopping": study.early_stopping}
    )
    finished = False
    try:
        results = run_trials(
            job,
            space,
            log,
            samples=samples,
            epochs=base.training.epochs,
            seed=base.seed,
            resume=resume,
            **options,
        )
        finished = not results.errors
    finally:
        # What is still marked as running was interrupted: Ctrl-C ends trials without telling the log.
        for run in tracker.find({"timbrel.folder": folder.name}):
            if run.info.status == "RUNNING" and run.info.run_id != parent:
                tracker.reopen(run.info.run_id).close("KILLED")
    if results.errors:
        raise results.errors[0]
    unfinished = [trial for trial in results if trial.metrics is None or "epoch" not in trial.metrics]
    if unfinished or len(results) < len(configurations):
        raise KeyboardInterrupt
    if finished:
        shutil.rmtree(folder, ignore_errors=True)  # the models are in MLflow; checkpoints serve resuming alone


def _pretrain(
    study: Study,
    task: Task,
    config: Experiment,
    preset: str,
    root: Path,
    tracker: Tracker,
    storage: Path,
    mixers: int,
    parent: str,
) -> Experiment:
    """Return the study's config with a checkpoint to start from, training one on songs of its own if there is none."""
    plan = study.pretraining
    values = configs.flatten(config)
    if plan is None or values[plan.field]:
        return config
    first: Task = registry.load("task", plan.task)
    shared = {path: value for path, value in values.items() if path.startswith(plan.shared)}
    first_config = configs.with_values(
        first.config_type(),
        {**first.presets[preset], **shared, "data.songs_to": plan.songs, "seed": config.seed},
    )
    library = Library.open(root)
    digest = library.digest(first_config.data.datasets)
    identity = configs.fingerprint(first.name, first_config, digest)
    earlier = [run for run in tracker.find({"timbrel.fingerprint": identity}) if run.info.status == "FINISHED"]
    if earlier:
        run_id = earlier[0].info.run_id
        print(f"starting from the {first.name} run {run_id}, trained earlier with the same config and data")
    else:
        share = f"{plan.songs:.0%}"
        print(
            f"no {plan.field} given: pre-training task {first.name} on {share} of the songs, which the trials will not see"
        )
        run_id = train_once(first, first_config, root, tracker, storage, resume=True, mixers=mixers, parent=parent)
    return configs.with_values(config, {plan.field: run_id, "data.songs_from": plan.songs})


def resolve_weights(tracker: Tracker, name: str) -> dict[str, Any]:
    """Return the weights of a logged run, or of a file.

    Raises:
        UserError: there is neither, or the file is not one of weights.
    """
    path = Path(name)
    if path.is_dir():
        return dict(TrainedModel.load(path).weights)
    if path.suffix or path.exists():
        return load_weights(path)
    with tracker.artifacts(name, "model") as folder:
        return dict(TrainedModel.load(folder).weights)


def _folder(tracker: Tracker, tags: Mapping[str, str], storage: Path, resume: bool, name: str) -> tuple[Path, bool]:
    """Return where a run keeps its checkpoints, and whether an interrupted one is taken up again."""
    if resume:
        for run in tracker.find({"timbrel.fingerprint": tags["timbrel.fingerprint"]}):
            folder = storage.absolute() / run.data.tags.get("timbrel.folder", "")
            if run.info.status != "FINISHED" and run.data.tags.get("timbrel.folder") and (folder / "tune").is_dir():
                print(f"resuming {folder.name}")
                return folder, True
        print("nothing to resume: starting anew")
    moment = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    return storage.absolute() / f"{name}-{moment}", False


def _figures(values: Mapping[str, float]) -> str:
    shown = {
        "ROC-AUC": "test/roc_auc_macro",
        "PR-AUC": "test/pr_auc_macro",
        "loss": "test/loss",
        "F1": "test/f1_macro",
    }
    return ", ".join(f"{label} {values[name]:.3f}" for label, name in shown.items() if name in values)
