"""What a Ray Train worker does: a stream of mixtures and a learner, epoch by epoch, with a checkpoint after each."""

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed

from timbrel import config as configs
from timbrel import registry
from timbrel.training.loop import LOSS, Examples, Learner
from timbrel.trained import TrainedModel

STATE = "state.pt"
"""In a checkpoint: everything that a resumed run needs."""
MODEL = "model"
"""In the last checkpoint: the trained model, as `timbrel.trained` lays it out."""


def train_worker(settings: dict[str, Any]) -> None:
    """Train one run, or the rest of it, in each Train worker.

    ``settings``: ``task`` (name), ``config`` (JSON), ``threads``, and references ``valid``, ``test`` and ``pretrained`` in
    Ray's object store. Only worker 0 evaluates, on whole sets, so metrics are never averages of averages.
    """
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    if device.type == "cpu":
        torch.set_num_threads(settings["threads"])
    task = registry.load("task", settings["task"])
    config = configs.from_json(task.config_type, settings["config"], "this run")
    pretrained = ray.get(settings["pretrained"]) if settings["pretrained"] else None
    learner = Learner(task, config, device, pretrained)
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            learner.load_state_dict(torch.load(Path(folder) / STATE, map_location=device, weights_only=True))
    parallel = ray.train.torch.prepare_model(learner.model) if workers > 1 else None
    valid = ray.get(settings["valid"]) if rank == 0 else None
    training = config.training
    batches = _batches(training.batch_size // workers, learner.epoch * training.examples_per_epoch)
    while learner.epoch < training.epochs:
        epoch_batches = itertools.islice(batches, training.batches_per_epoch)
        loss = _mean_over_workers(learner.train_epoch(epoch_batches, parallel), workers, device)
        values: dict[str, float] = {"epoch": learner.epoch, "train/loss": loss}
        if valid is not None:
            values |= _named("valid", learner.validate(valid))
            values |= {"best_epoch": learner.best_epoch, "train/learning_rate": learner.base_rates[0] * training.decay_at(learner.epoch - 1)}
        _report(values, learner if rank == 0 else None)
    if valid is None:
        ray.train.report({"epoch": training.epochs})
        return
    test = ray.get(settings["test"])
    thresholds, figures = learner.finish(valid, test)
    trained = TrainedModel(
        task, config, dict(zip(learner.classes, map(float, thresholds), strict=True)), learner.best_weights
    )
    _report({"epoch": training.epochs, "best_epoch": learner.best_epoch, "finished": 1, **_named("test", figures)}, learner, trained)


def _batches(batch_size: int, start: int) -> Iterator[Examples]:
    """Yield this worker's share of the stream, checking that it starts where the run stands and misses nothing."""
    shard = ray.train.get_dataset_shard("train")
    for batch in shard.iter_batches(batch_size=batch_size, prefetch_batches=2, batch_format="numpy"):
        first = int(np.min(batch["number"]))
        if first < start:
            raise RuntimeError(f"the stream of mixtures starts at {first}, the run stands at {start}")
        yield batch


def _report(values: dict[str, float], learner: Learner | None, trained: TrainedModel | None = None) -> None:
    """Report an epoch; worker 0 adds a checkpoint, which Ray stores as a whole or not at all."""
    if learner is None:
        ray.train.report(values)
        return
    with tempfile.TemporaryDirectory(prefix="timbrel-") as folder:
        torch.save(learner.state_dict(), Path(folder) / STATE)
        if trained is not None:
            trained.save(Path(folder) / MODEL)
        ray.train.report(values, checkpoint=ray.train.Checkpoint.from_directory(folder))


def _named(split: str, values: dict[str, float]) -> dict[str, float]:
    """Prefix metrics with their split; the loss gets the short name under which all tools look for it."""
    return {f"{split}/{'loss' if name == LOSS else name}": value for name, value in values.items()}


def _mean_over_workers(value: float, workers: int, device: torch.device) -> float:
    if workers == 1:
        return value
    total = torch.tensor(value, device=device)
    torch.distributed.all_reduce(total)
    return float(total / workers)
