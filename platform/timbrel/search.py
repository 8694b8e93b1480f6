"""Trials with Ray Tune: each is a driver function that builds a TorchTrainer, and reports through Tune to one callback.

A single training run is a study of one trial, so there is one path for both: the same logging, resuming and progress.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray.tune
from ray.tune.integration.ray_train import TuneReportCallback

from timbrel import registry
from timbrel.library import Library
from timbrel.runtime import DRIVER_CPUS, Share
from timbrel.task import Task
from timbrel.training.run import EvaluationSets, evaluation_key, render_evaluation_sets, train_run
from timbrel.trial_log import TrialConfigs, TrialLog

ASHA_GRACE = 0.2
"""Share of the epochs that every trial gets before early stopping may end it."""


@dataclass(frozen=True)
class Job:
    """What all trials of a study have in common; it travels to each trial."""

    configs: TrialConfigs
    library: str
    folder: str
    """Where the trials' checkpoints are kept."""
    share: Share
    sets: Mapping[str, EvaluationSets] = field(default_factory=dict)
    """Evaluation sets rendered once for all trials whose config asks for the same, by ``evaluation_key``."""
    pretrained: Mapping[str, Any] = field(default_factory=dict)
    """Weights in Ray's object store, by the name under which a config asks for them."""


def run_trial(values: dict[str, Any], job: Job) -> None:
    """Lead one trial: what Ray Tune calls, in a process of its own on some node."""
    task: Task = registry.load("task", job.configs.task)
    config = job.configs.of(values)
    library = Library.open(job.library)
    sets = job.sets.get(evaluation_key(task, config)) or render_evaluation_sets(task, config, library, job.share.pool)
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
    callback: TrialLog,
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
            str(folder / "tune"),
            trainable,
            resume_unfinished=True,
            restart_errored=True,
            param_space=dict(space),
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
