"""What a study will cost: trials, time and disk, from a few mixtures and training steps measured on the spot."""

import dataclasses
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from timbrel import config as configs
from timbrel.errors import UserError
from timbrel.library import Library
from timbrel.mixing.index import build_index, evaluation_index
from timbrel.mixing.pool import mix
from timbrel.runtime import Share
from timbrel.settings import Experiment
from timbrel.task import Task
from timbrel.teaching.parts import NOTHING, Parts
from timbrel.teaching.teacher import Teacher, teacher_of
from timbrel.training.loop import Learner
from timbrel.training.run import training_stream
from timbrel.training.trial import with_embeddings

START_S = 20.0
"""From the start of a trial to its first step: four processes import torch and Ray one after the other (2 cores)."""
MEASURED = 4
"""Configs measured, evenly taken from a study's different ones."""
MIXTURES = 8
STEPS = 2
CHECKPOINTS = 3
"""On disk at a time for each running trial: two that are kept and one being written."""
COPIES = 4
"""Of the weights in a checkpoint: as they are, at their best, and Adam's two moments."""


@dataclass(frozen=True)
class Cost:
    """What one training run of a config costs."""

    mixing_s: float
    """CPU time to mix one example."""
    step_s: float
    """Wall time of a training step on one batch."""
    predict_s: float
    """Wall time to predict one example."""
    weights_bytes: int
    outputs_bytes: float
    """Of what is kept of one evaluation example, before it is compressed."""


@dataclass(frozen=True)
class Estimate:
    """What a list of training runs costs together."""

    trials: int
    seconds: float
    mixing_s: float
    """CPU time to mix one example, on the average of the configs measured."""
    step_s: float
    """Wall time of a training step, likewise."""
    scratch_bytes: int
    """Disk while the study runs: checkpoints, and the mixtures that trials share."""
    shared_bytes: int
    """Of them, the mixtures."""
    logged_bytes: int
    """Disk for good: the models and outputs in MLflow."""


def measure(
    task: Task,
    config: Experiment,
    library: Library,
    threads: int,
    teaching: Parts = NOTHING,
) -> Cost:
    """Mix a few examples and take a few training steps of a config in this process.

    Raises:
        UserError: the library has no song for it, or no embeddings of the songs.
    """
    index = build_index(library, "train", task, config)
    stream = training_stream(task, config, library, index)
    mix(stream, index, [0])  # reads what is read once
    begin = time.process_time()
    some = mix(stream, index, range(1, MIXTURES + 1))
    mixing_s = (time.process_time() - begin) / MIXTURES
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        learner = Learner(task, config, device, teacher=_teacher(task, config, teaching))
        rows = np.arange(config.training.worker_batch_size) % MIXTURES
        batch = {name: values[rows] for name, values in some.items()}
        learner.train_epoch([batch])
        begin = time.perf_counter()
        learner.train_epoch([batch] * STEPS)
        step_s = (time.perf_counter() - begin) / STEPS
        begin = time.perf_counter()
        outputs = learner.predict(some)
        predict_s = (time.perf_counter() - begin) / MIXTURES
    finally:
        torch.set_num_threads(before)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in learner.model.state_dict().values())
    kept = (outputs.labels, outputs.scores, *outputs.more.values())
    return Cost(mixing_s, step_s, predict_s, weights, sum(values.nbytes for values in kept) / MIXTURES)


def _teacher(task: Task, config: Experiment, teaching: Parts) -> Teacher | None:
    asked = config.taught_by
    head, network = teaching.of(config)
    if head is None and asked.needs_head and asked.own_head:
        # It will be trained first; what it says makes no difference to the time.
        classes = len(task.classes(config))
        head = {"weight": torch.zeros(classes, asked.dimension), "bias": torch.zeros(classes)}
    return teacher_of(task, config, head, network)


def estimate(
    task: Task,
    trials: Sequence[Experiment],
    library: Library,
    share: Share,
    cpus: float,
    shared: float,
    shared_bytes: int,
    teaching: Parts = NOTHING,
) -> Estimate:
    """Estimate what training runs with these configs cost.

    Args:
        task: that of all configs.
        trials: a config for each run.
        library: that they mix from.
        share: what each gets of the cluster.
        cpus: of the cluster.
        shared: share of all mixtures that is read from disk rather than mixed, because another trial has mixed them.
        shared_bytes: disk for these.
        teaching: what teachers need beside the library.
    """
    different = list({configs.fingerprint(dataclasses.replace(config, seed=0)): config for config in trials}.values())
    some = different[:: max(1, -(-len(different) // MEASURED))]
    costs = [measure(task, with_embeddings(task, config, library), library, share.threads, teaching) for config in some]
    mixing_s, step_s, predict_s = (
        float(np.mean([getattr(cost, name) for cost in costs])) for name in ("mixing_s", "step_s", "predict_s")
    )
    weights = max(cost.weights_bytes for cost in costs)
    valid, test = (_evaluation_examples(task, trials[0], library, split) for split in ("valid", "test"))
    seconds = 0.0
    for config in trials:
        training = config.training
        mixing = training.epochs * training.examples_per_epoch * (1 - shared) * mixing_s
        steps = training.epochs * training.batches_per_epoch * step_s
        judging = ((training.epochs + 1) * valid + test) * predict_s
        if share.worker_gpus:
            busy = max(steps, mixing / (share.pool.actors * share.pool.cpus))
        else:  # worker and pool share the CPUs, and neither can be faster than its own
            busy = max(steps, mixing / share.pool.actors, (steps * share.threads + mixing) * share.concurrent / cpus)
        seconds += START_S + busy + judging
    sets = (valid + test) * mixing_s / cpus
    outputs = round((valid + test) * max(cost.outputs_bytes for cost in costs))
    return Estimate(
        trials=len(trials),
        seconds=seconds / share.concurrent + sets,
        mixing_s=mixing_s,
        step_s=step_s,
        scratch_bytes=shared_bytes + share.concurrent * CHECKPOINTS * COPIES * weights,
        shared_bytes=shared_bytes,
        logged_bytes=len(trials) * (weights + outputs),
    )


def _evaluation_examples(task: Task, config: Experiment, library: Library, split: str) -> int:
    wanted = config.evaluation.valid_examples if split == "valid" else config.evaluation.test_examples
    if config.evaluation.windows == "drawn":
        return wanted
    return evaluation_index(library, split, task, config).examples(wanted)


def check_disk(folder: Path, needed: int) -> int:
    """Return the free bytes of the disk that a folder is (or will be) on.

    Raises:
        UserError: fewer are free than needed.
    """
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise UserError(
            f"the disk of {there} has {size(free)} free and about {size(needed)} are needed: free some, choose another "
            "--storage, or lower --share-gb."
        )
    return free


def size(count: int) -> str:
    """Return a number of bytes for people."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(count, 1e6) / 1e6:.0f} MB"
