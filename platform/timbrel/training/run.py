"""One training run on a Ray cluster: the mixing pool, the Train workers, and where they left off."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import ray.data
import ray.train
from ray.train.v2.api.config import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig

from timbrel import config as configs
from timbrel.library import Library
from timbrel.mixing.actors import Pool, look_ahead
from timbrel.mixing.index import StemIndex, build_index, evaluation_index
from timbrel.mixing.keep import Keep
from timbrel.mixing.pool import Stream, collect, example_bytes, stream_batches
from timbrel.mixing.taught import SongEmbeddings, embedding_bytes, song_embeddings
from timbrel.runtime import WORKER_ENVIRONMENT, Share
from timbrel.settings import Experiment, evaluation_recipe
from timbrel.task import Task
from timbrel.training.checkpoints import drop_damaged, epochs_done
from timbrel.training.failures import failures_noted
from timbrel.training.trainer import Trainer
from timbrel.training.worker import train_worker

RESTARTS = 3
"""How often a worker group, or the process that leads a trial, is started again where it died."""


@dataclass(frozen=True)
class EvaluationSets:
    """References in Ray's object store to the validation and test examples of a config."""

    valid: Any
    test: Any


def evaluation_key(task: Task, config: Experiment) -> str:
    """Return what the evaluation sets of a config depend on: configs with equal keys can share them."""
    heard = _heard(task, config) if task.hears_embeddings(config) else []
    return configs.fingerprint(judged_key(task, config), *heard) if heard else judged_key(task, config)


def judged_key(task: Task, config: Experiment) -> str:
    """Return what the examples of the evaluation sets depend on: configs with equal keys are judged on the same ones,
    whether they hear their sound or a teacher's embeddings of it."""
    rules = config.evaluation
    sizes = [rules.valid_examples, rules.test_examples, rules.seed]
    maker = task.example_maker(config)
    return configs.fingerprint(
        task.name, task.classes(config), config.data, evaluation_recipe(config), [*sizes, rules.windows], maker
    )


def stream_key(task: Task, config: Experiment) -> str:
    """Return what a config's training examples depend on, and how they are cut into batches: configs with equal keys
    train on the same stream."""
    training = config.training
    made = [config.data, config.mixing, task.example_maker(config), *_heard(task, config)]
    cut = [training.worker_batch_size, training.workers]
    return configs.fingerprint(task.name, task.classes(config), *made, config.seed, *cut)


def training_bytes(task: Task, config: Experiment) -> int:
    """Return how large a training example is, apart from its labels.

    What the library's embeddings are like has been filled in.
    """
    teacher, recipe = config.taught_by, config.mixing
    sound = 0 if task.hears_embeddings(config) else example_bytes(recipe, task.example_maker(config))
    if not reads_embeddings(task, config):
        return sound
    return sound + embedding_bytes(recipe.seconds, teacher.hop_s, teacher.dimension)


def reads_embeddings(task: Task, config: Experiment) -> bool:
    """Return whether examples carry embeddings of the library, or are some."""
    teacher = config.taught_by
    return bool(teacher.name) and (not teacher.weights or task.hears_embeddings(config))


def _heard(task: Task, config: Experiment) -> list[Any]:
    """Return which embeddings examples carry, and whether they are all that is heard; nothing if they carry none."""
    if not reads_embeddings(task, config):
        return []
    teacher = config.taught_by
    return [teacher.name, *teacher.normalisation, task.hears_embeddings(config)]


def training_stream(
    task: Task, config: Experiment, library: Library, index: StemIndex, keep: Keep | None = None
) -> Stream:
    """Return the stream of training examples; ``index`` is that of the training split.

    Raises:
        UserError: the examples are to carry embeddings that the library lacks.
    """
    maker = task.example_maker(config)
    return Stream(index, config.mixing, config.seed, "train", keep, maker, _embeddings(task, config, library, index))


def _embeddings(task: Task, config: Experiment, library: Library, index: StemIndex) -> SongEmbeddings | None:
    if not reads_embeddings(task, config):
        return None
    return song_embeddings(library, index, config.mixing, config.taught_by, heard=task.hears_embeddings(config))


def render_evaluation_sets(task: Task, config: Experiment, library: Library, pool: Pool) -> EvaluationSets:
    """Mix the validation and test examples, and keep them in Ray's object store.

    Raises:
        UserError: a split has no song.
    """
    rules = config.evaluation
    streams = [evaluation_stream(task, config, library, split) for split in ("valid", "test")]
    sets: Any = collect.options(num_returns=2).remote(streams, [rules.valid_examples, rules.test_examples], pool)
    ray.get(sets)
    return EvaluationSets(*sets)


def evaluation_stream(task: Task, config: Experiment, library: Library, split: str) -> Stream:
    """Return the stream that validation or test examples are taken from.

    Raises:
        UserError: the split has no song.
    """
    index = evaluation_index(library, split, task, config)
    maker = task.example_maker(config)
    embeddings = _embeddings(task, config, library, index) if task.hears_embeddings(config) else None
    recipe = evaluation_recipe(config)
    return Stream(ray.put(index), recipe, config.evaluation.seed, split, maker=maker, embeddings=embeddings)


def train_run(
    task: Task,
    config: Experiment,
    library: Library,
    sets: EvaluationSets,
    pretrained: Any,
    teaching: tuple[Any, Any],
    share: Share,
    folder: str,
    name: str,
    callbacks: list[Any],
    keep: Keep | None = None,
) -> ray.train.Result:
    """Train one run with a ``Trainer``; a second call with the same ``folder`` and ``name`` goes on where it was.

    ``pretrained``, and head and network of ``teaching``, are references in Ray's object store, or None. ``keep`` says
    where the mixtures are kept for other runs on the same stream.

    Raises:
        UserError: the training can't work as it was asked for, for instance because the loss is no longer finite.
    """
    with failures_noted(Path(folder), name) as failure:
        drop_damaged(Path(folder) / name)  # Ray Train can be killed while it writes its record
        index = build_index(library, "train", task, config)
        stream = replace(training_stream(task, config, library, index, keep), index=ray.put(index))
        training = config.training
        total = training.epochs * training.examples_per_epoch
        size = training.worker_batch_size

        def dataset() -> ray.data.Dataset:
            # Called each time the workers start, so a restarted group's stream begins where its checkpoint ends.
            epochs = epochs_done(Path(folder) / name)
            start = min(epochs * training.examples_per_epoch, total - training.batch_size)
            return stream_batches(stream, start, total, size, share.pool, training.workers)

        options = look_ahead(size, size * stream.example_bytes, share.pool, training.workers)
        result = Trainer(
            train_worker,
            train_loop_config={
                "task": task.name,
                "config": configs.to_json(config),
                "threads": share.threads,
                "valid": sets.valid,
                "test": sets.test,
                "pretrained": pretrained,
                "head": teaching[0],
                "network": teaching[1],
                "failure": str(failure),
            },
            datasets={"train": dataset},
            dataset_config=ray.train.DataConfig(execution_options=options),
            scaling_config=ScalingConfig(
                num_workers=training.workers,
                use_gpu=share.worker_gpus > 0,
                resources_per_worker={
                    "CPU": share.worker_cpus,
                    **({"GPU": share.worker_gpus} if share.worker_gpus else {}),
                },
            ),
            run_config=RunConfig(
                name=name,
                storage_path=folder,
                failure_config=FailureConfig(max_failures=RESTARTS),
                checkpoint_config=CheckpointConfig(num_to_keep=2),
                worker_runtime_env={"env_vars": WORKER_ENVIRONMENT},
                callbacks=callbacks,
            ),
        ).fit()
    if "finished" not in (result.metrics or {}):
        raise RuntimeError(f"run {name} ended without its last report; see Ray's logs")
    return result
