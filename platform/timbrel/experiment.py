"""From a command to logged results: one training run, a study of many, or a study of decision rules."""

import contextlib
import datetime
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray.tune

from timbrel import config as configs
from timbrel import registry
from timbrel.compare import compared_runs, settings_of
from timbrel.embeddings.store import common_names
from timbrel.errors import UserError
from timbrel.launch import Workplace, announce, follow, train_trials
from timbrel.outputs import FOLDER
from timbrel.patience import ServerGoneError
from timbrel.rejudge import judge_trial
from timbrel.report import columns_of, comparison_table, report
from timbrel.runtime import ray_session
from timbrel.search import Search
from timbrel.settings import Experiment
from timbrel.study import TRAINED_FIRST, Pretraining, Study
from timbrel.task import Task
from timbrel.tracking import Run, Tracker
from timbrel.training.trial import TrialConfigs
from timbrel.training.worker import MODEL


def train_once(
    task: Task, config: Experiment, place: Workplace, *, resume: bool = False, parent: str | None = None
) -> str:
    """Train one model and return its MLflow run id.

    Raises:
        UserError: see the message; nothing is left running.
        Interrupted: Ctrl-C; the run can be resumed.
    """
    tags = place.tags(config, task=task.name)
    with ray_session():
        config = place.settled(task, config)
        fingerprint = configs.fingerprint(task.name, config, tags["timbrel.data_digest"])
        earlier = _earlier(place, fingerprint) if resume else None
        folder = earlier.data.tags["timbrel.folder"] if earlier else _new_folder(task.name, fingerprint)
        tags |= {"timbrel.kind": "train", "timbrel.fingerprint": fingerprint, "timbrel.folder": folder}
        train_trials(Search(task, config), place, tags, parent, resume=earlier is not None)
        shutil.rmtree(place.storage / folder)
    (run,) = place.tracker.find({"timbrel.folder": folder}, limit=1)
    print(f"{task.name}: run {run.info.run_id} finished; test {_figures(task, run.data.metrics)}")
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
    dry_run: bool = False,
) -> str | None:
    """Run a study, or the rest of it, and return the id of its parent run in MLflow; None after a dry run.

    ``config`` is what the trials have in common; ``preset`` is that of the pre-training, if there is any.

    Raises:
        UserError: see the message; a study that had begun can be resumed.
        Interrupted: Ctrl-C; the study can be resumed.
    """
    study.check(config)
    tags = place.tags(config, task=task.name, study=study.name)
    count = samples or study.samples
    if study.over_embeddings:
        names = common_names(place.library, config.data.all_datasets)
        config = configs.with_values(config, dict.fromkeys(study.over_embeddings, names[0]))
        study = study.of_embeddings(names, drawn=count > 0)
    with ray_session():
        config = place.settled(task, config)
        space = [(path, study.describe(path)) for path in sorted(study.space)]
        what = [study.name, config, tags["timbrel.data_digest"], space, list(seeds), count, preset]
        fingerprint = configs.fingerprint(*what)
        first = _pretraining(study, config, place, preset)
        if not resume:
            for _, first_task, first_config in first:
                announce(Search(first_task, first_config), place, f"first {first_task.name}, which the trials need")
            shown = configs.with_values(config, _target(study, {value: TRAINED_FIRST for value, *_ in first}))
            announce(_search(study, task, shown, seeds, count), place, study.name)
        if dry_run:
            print("a dry run: nothing was started")
            return None
        earlier = _earlier(place, fingerprint) if resume else None
        folder = earlier.data.tags["timbrel.folder"] if earlier else _new_folder(study.name, fingerprint)
        own = {"timbrel.kind": "study", "timbrel.fingerprint": fingerprint, "timbrel.folder": folder}
        with _parent_run(study, config, place.tracker, place.storage / folder, tags | own, earlier) as parent:
            if first:
                config = _pretrained(study, config, first, place, parent.id)
                parent.set_tags({"timbrel.pretrained": configs.flatten(config)[study.pretraining.target]})  # type: ignore[union-attr]  # `first` is of one
            trial_tags = tags | {"timbrel.kind": "trial", "timbrel.folder": folder}
            search = _search(study, task, config, seeds, count)
            train_trials(search, place, trial_tags, parent.id, resume=earlier is not None)
    return parent.id


def run_rules(study: Study, task: Task, run_id: str, values: Mapping[str, Any], tracker: Tracker, storage: Path) -> str:
    """Judge a finished run under each decision rule of a study, and return the id of the parent run.

    Raises:
        UserError: the run has no outputs to judge, or the config is not one of its task.
    """
    config = configs.with_values(tracker.config(run_id, task), {**study.fixed, **values})
    study.check(config)
    source_tags = tracker.get(run_id).data.tags
    tags = {"timbrel.task": task.name, "timbrel.study": study.name, "timbrel.judged_run": run_id}
    tags["timbrel.data_digest"] = source_tags["timbrel.data_digest"]
    folder = _new_folder(study.name, configs.fingerprint(study.name, config, run_id))
    own = {"timbrel.kind": "study", "timbrel.folder": folder}
    home = storage / folder
    with (
        tracker.artifacts(run_id, MODEL) as model,
        tracker.artifacts(run_id, FOLDER) as outputs,
        ray_session(),
        _parent_run(study, config, tracker, home, tags | own) as parent,
    ):
        search = Search(task, config, study.space, metric=study.metric, mode=study.mode)
        trainable = ray.tune.with_parameters(
            judge_trial,
            configs=TrialConfigs(task.name, configs.to_json(config)),
            model=str(model),
            outputs=str(outputs),
            folder=str(home),
        )
        follow(
            search,
            trainable,
            home,
            tracker,
            tags | {"timbrel.kind": "trial", "timbrel.folder": folder},
            parent.id,
            concurrent=1,
            epochs=1,
        )
    return parent.id


def _search(study: Study, task: Task, config: Experiment, seeds: Sequence[int], count: int) -> Search:
    """Return a study's search: of ``count`` trials if they are drawn, else of every combination for every seed."""
    grid = {} if count else {"seed": ray.tune.grid_search(list(seeds))}
    if count:
        config = configs.with_values(config, {"seed": seeds[0]})
    return Search(task, config, {**study.space, **grid}, count, study.early_stopping, study.metric, study.mode)


@contextlib.contextmanager
def _parent_run(
    study: Study, config: Experiment, tracker: Tracker, home: Path, tags: Mapping[str, str], earlier: Any = None
) -> Iterator[Run]:
    """Open a study's run in MLflow, compare the trials at the end, and close it whatever happens.

    ``home`` is the study's folder, which is removed when all is told.
    """
    parent = tracker.reopen(earlier.info.run_id) if earlier else tracker.start(study.name, tags)
    if not earlier:
        parent.log_config(config)
        parent.log_text(json.dumps({path: study.describe(path) for path in study.space}, indent=2), "space.json")
    status = "FAILED"
    try:
        yield parent
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    except ServerGoneError:
        status = ""
        raise
    finally:
        if status:
            _log_report(tracker, parent)
            parent.close(status)
    shutil.rmtree(home)
    print(f"compare the trials side by side:\n    {tracker.ui_command}")


def _log_report(tracker: Tracker, parent: Run) -> None:
    """Print the comparison of a study's trials, and store it with its pictures; nothing if none was judged."""
    settings = settings_of(tracker, compared_runs(tracker, [parent.id]))
    if settings:
        print(f"\n{comparison_table(settings)}\n")
        with tempfile.TemporaryDirectory(prefix="timbrel-") as folder:
            report(tracker, [parent.id], Path(folder))
            parent.log_folder(Path(folder), "report")


def _pretraining(study: Study, config: Experiment, place: Workplace, preset: str) -> list[tuple[str, Task, Experiment]]:
    """Return the tasks and configs to train first, each with the value that it is for; none if the study needs none or
    the user names what was trained.

    Raises:
        UserError: the task has no such preset.
    """
    plan = study.pretraining
    values = configs.flatten(config)
    if plan is None or values[plan.target]:
        return []
    task: Task = registry.load("task", plan.task)
    if preset not in task.presets:
        raise UserError(
            f"with --preset {preset} set --config {plan.target}=FILE_OR_RUN: task {plan.task}, which would be trained "
            "first, has no such preset."
        )
    own = {**plan.fixed, "seed": config.seed, **({"data.songs_to": plan.songs} if plan.songs else {})}
    found = []
    for value in study.values(plan.each) or [values.get(plan.each, "")]:
        taken = plan.config_values(values | {plan.each: value} if plan.each else values)
        first = configs.with_values(task.config_type(), {**task.presets[preset], **taken, **own})
        found.append((str(value), task, first))
    return found


def _target(study: Study, runs: Mapping[str, str]) -> dict[str, str]:
    """Return the config field that says what was trained first, by the value that each is for."""
    if study.pretraining is None or not runs:
        return {}
    several = len(runs) > 1
    shown = ",".join(f"{value}={run}" if several else run for value, run in runs.items())
    return {study.pretraining.target: shown}


def _pretrained(
    study: Study, config: Experiment, first: Sequence[tuple[str, Task, Experiment]], place: Workplace, parent: str
) -> Experiment:
    """Return the study's config with what its trials need, trained now unless it was trained before."""
    plan = study.pretraining
    assert plan is not None
    runs = {value: _trained_first(plan, task, each, place, parent) for value, task, each in first}
    apart = {"data.songs_from": plan.songs} if plan.songs else {}
    return configs.with_values(config, {**_target(study, runs), **apart})


def _trained_first(plan: Pretraining, task: Task, first: Experiment, place: Workplace, parent: str) -> str:
    """Return the run of a config, trained now unless it was trained before."""
    first = place.settled(task, first)
    fingerprint = configs.fingerprint(task.name, first, place.library.digest(first.data.all_datasets))
    done = [run for run in place.tracker.find({"timbrel.fingerprint": fingerprint}) if run.info.status == "FINISHED"]
    if done:
        run_id = done[0].info.run_id
        print(f"starting from the {task.name} run {run_id}, trained earlier with the same config and data")
    else:
        which = (
            f"on {plan.songs:.0%} of the songs, which the trials will not see" if plan.songs else "on the same songs"
        )
        print(f"no {plan.target} given: training task {task.name} first, {which}")
        resume = place.interrupted(fingerprint) is not None
        run_id = train_once(task, first, place, resume=resume, parent=parent)
    return run_id


def _earlier(place: Workplace, fingerprint: str) -> Any:
    run = place.interrupted(fingerprint)
    if run is None:
        print("nothing to resume: starting anew")
    else:
        print(f"resuming run {run.info.run_id}")
    return run


def _new_folder(name: str, fingerprint: str) -> str:
    return f"{name}-{fingerprint}-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"


def _figures(task: Task, values: Mapping[str, float]) -> str:
    columns = {label: name.removeprefix("metrics.") for label, name in columns_of(task).items()}
    return ", ".join(f"{label} {values[name]:.3f}" for label, name in columns.items() if name in values)
