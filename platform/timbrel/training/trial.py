"""One trial, led by a process of its own that Ray Tune starts on some node.

Apart from ``timbrel.search``, which the driver needs: what is imported here is imported once a trial.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import ray.tune
from ray.tune.integration.ray_train import TuneReportCallback

from timbrel import config as configs
from timbrel import registry
from timbrel.embeddings.store import Embeddings
from timbrel.library import Library
from timbrel.mixing.keep import Keep
from timbrel.runtime import Share
from timbrel.settings import Experiment
from timbrel.task import Task
from timbrel.teaching.parts import Parts
from timbrel.training.run import (
    EvaluationSets,
    evaluation_key,
    reads_embeddings,
    render_evaluation_sets,
    stream_key,
    train_run,
)

MIXTURES = "mixtures"
"""The folder, within a study's, of mixtures that its trials share."""


@dataclass(frozen=True)
class TrialConfigs:
    """How a trial's values become its config."""

    task: str
    base: str
    """The config, as JSON, that a trial's values are applied to."""

    def of(self, values: Mapping[str, Any]) -> Experiment:
        """Return the config of the trial with these values."""
        return configs.with_values(configs.from_json(self.load().config_type, self.base, "the study"), values)

    def load(self) -> Task:
        """Return the task."""
        task: Task = registry.load("task", self.task)
        return task


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
    teaching: Parts = field(default_factory=Parts)
    """What else teachers need, in Ray's object store."""
    kept: Mapping[str, int] = field(default_factory=dict)
    """Up to which example the training mixtures are kept for other trials, by ``stream_key``."""

    def keep(self, task: Task, config: Experiment) -> Keep | None:
        """Return where the mixtures of a trial are kept, None if no other trial has use for them."""
        key = stream_key(task, config)
        if not self.kept.get(key):
            return None
        return Keep(f"{self.folder}/{MIXTURES}/{key}", self.kept[key], config.training.worker_batch_size)


def with_embeddings(task: Task, config: Experiment, library: Library) -> Experiment:
    """Return the config with what its teacher's embeddings in the library are like filled in.

    Raises:
        UserError: the library has no embeddings of that name.
    """
    if not reads_embeddings(task, config):
        return config
    embeddings = Embeddings.open(library, config.teacher.name, config.data.all_datasets)
    known = replace(config.teacher, dimension=embeddings.dimension, hop_s=embeddings.hop_s)
    return replace(config, teacher=known)


def run_trial(values: dict[str, Any], job: Job) -> None:
    """Lead one trial: what Ray Tune calls, in a process of its own on some node."""
    task: Task = registry.load("task", job.configs.task)
    library = Library.open(job.library)
    config = with_embeddings(task, job.configs.of(values), library)
    sets = job.sets.get(evaluation_key(task, config)) or render_evaluation_sets(task, config, library, job.share.pool)
    name = task.pretrained(config)
    train_run(
        task,
        config,
        library,
        sets,
        job.pretrained[name] if name else None,
        job.teaching.of(config),
        job.share,
        job.folder,
        ray.tune.get_context().get_trial_id(),  # no timestamp: a restarted trial finds its checkpoints by this name
        [TuneReportCallback()],
        job.keep(task, config),
    )
