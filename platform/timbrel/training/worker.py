"""What a Ray Train worker does: a stream of mixtures and a learner, epoch by epoch, with a checkpoint after each."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import ray.train
import ray.train.torch
import torch

from timbrel import config as configs
from timbrel import registry
from timbrel.errors import UserError, find_user_error
from timbrel.mixing.pool import read_batches
from timbrel.outputs import FOLDER
from timbrel.training.checkpoints import STATE, check_room, lacks_room, release_reserve, written
from timbrel.training.failures import note_failure, process_died

if TYPE_CHECKING:
    from timbrel.outputs import Outputs
    from timbrel.trained import TrainedModel
    from timbrel.training.loop import Examples, Learner

MODEL = "model"
"""In the last checkpoint: the trained model, as `timbrel.trained` lays it out."""


def train_worker(settings: dict[str, Any]) -> None:
    """Train in each Train worker; an exception that would only repeat itself is written down rather than raised.

    Ray Train starts failed workers again, which is right where a process died, this one or one that it needs, and wrong
    for a config that can't work. Among several workers the others would wait for the one that has returned, so there
    exceptions are raised, and workers that are started again after a sentence for the user return at once.
    The note goes to the file ``settings['failure']``, since Ray drops what is reported without a checkpoint.
    """
    failure, context = Path(settings["failure"]), ray.train.get_context()
    several = context.get_world_size() > 1
    if failure.exists():
        return
    try:
        _train(settings)
    except Exception as error:
        if process_died(error):
            raise
        if not several or find_user_error(error):
            note_failure(failure, error, by=context.get_world_rank())
        if several:
            raise


def _train(settings: dict[str, Any]) -> None:
    """Train one run, or the rest of it.

    ``settings``: ``task`` (name), ``config`` (JSON), ``threads``, and references ``valid``, ``test``, ``pretrained``,
    ``head`` and ``network`` (of the teacher) in Ray's object store. Only worker 0 evaluates, on
    whole sets, so metrics are never averages of averages.
    """
    # Imported here, because the processes that only pass this function on have no use for it.
    from timbrel import whole_batch
    from timbrel.metrics import metric_name
    from timbrel.teaching.teacher import teacher_of
    from timbrel.trained import TrainedModel
    from timbrel.training.loop import Learner

    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    if device.type == "cpu":
        torch.set_num_threads(settings["threads"])
    task = registry.load("task", settings["task"])
    config = configs.from_json(task.config_type, settings["config"], "this run")
    pretrained, head, network = (
        ray.get(settings[name]) if settings[name] else None for name in ("pretrained", "head", "network")
    )
    learner = Learner(task, config, device, pretrained, teacher_of(task, config, head, network))
    history: list[dict[str, float]] = []
    earlier: list[dict[str, float]] = []
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            state = _load_state(Path(folder) / STATE, device)
            learner.load_state_dict(state)
            history, earlier = state["history"], list(state["history"])
    parallel = None
    if workers > 1:
        learner.model = whole_batch.normalised_together(learner.model, device)
        parallel = ray.train.torch.prepare_model(learner.model)
    valid = ray.get(settings["valid"]) if rank == 0 else None
    training = config.training
    batches = _batches(learner.epoch * training.examples_per_epoch, rank, workers, training.worker_batch_size)
    while not learner.done:
        epoch_batches = itertools.islice(batches, training.batches_per_epoch)
        means = learner.train_epoch(epoch_batches, parallel)
        values: dict[str, float] = {"epoch": learner.epoch, **named("train", means)}
        loss = 0.0
        if valid is not None:
            figures = learner.validate(valid)
            loss = figures["loss"]
            values |= named("valid", figures)
            values |= {
                "best_epoch": learner.best_epoch,
                "train/learning_rate": learner.learning_rate,
            }
        learner.follow(whole_batch.of_first(loss, device) if workers > 1 else loss)
        history.append(values)
        _report(values, learner if rank == 0 else None, history, earlier)
        earlier = []
    if valid is None:
        ray.train.report({"epoch": learner.epoch})
        return
    test = ray.get(settings["test"])
    thresholds, figures, outputs = learner.finish(valid, test)
    trained = TrainedModel(task, config, thresholds, learner.best_weights)
    # Search algorithm and scheduler want to see their metric in every report; the model is that of the best epoch.
    best = {name: value for name, value in history[learner.best_epoch - 1].items() if name.startswith("valid/")}
    final = {"epoch": learner.epoch, "best_epoch": learner.best_epoch, "finished": 1}
    shares = {f"share/{metric_name(name)}": share for name, share in learner.class_shares.items()}
    values = {**final, **best, **shares, **named("test", figures)}
    _report(values, learner, history, earlier, trained, outputs)


def _batches(start: int, rank: int, workers: int, batch_size: int) -> Iterator[Examples]:
    """Yield this worker's part of every batch, checking that it is the part which the run needs next."""
    expected = start + rank * batch_size
    for batch in read_batches(ray.train.get_dataset_shard("train"), batch_size):
        if batch["number"][0] != expected or len(batch["number"]) != batch_size:
            raise RuntimeError(
                f"worker {rank} needs mixtures {expected} to {expected + batch_size - 1} next, "
                f"the stream brought {batch['number'][0]} to {batch['number'][-1]}"
            )
        yield batch
        expected += workers * batch_size


def _report(
    values: dict[str, float],
    learner: Learner | None,
    history: list[dict[str, float]],
    earlier: list[dict[str, float]],
    trained: TrainedModel | None = None,
    outputs: Mapping[str, Outputs] | None = None,
) -> None:
    """Report an epoch; worker 0 adds a checkpoint, which Ray stores as a whole or not at all.

    The checkpoint holds the figures of all epochs: those of the last one before an interruption may never have
    reached the driver, so a resumed run sends them again (``earlier``), and the driver logs what it lacks.
    """
    if learner is None:
        ray.train.report(values)
        return
    home = Path(ray.train.get_context().get_storage().experiment_fs_path)
    there = written(home)
    try:
        # Beside the checkpoints: what a killed worker leaves of it goes with the run's folder at its end.
        with tempfile.TemporaryDirectory(prefix="timbrel-", dir=home) as folder:
            with (Path(folder) / STATE).open("wb") as file:  # opened here, so that a full disk is told from a defect
                torch.save({**learner.state_dict(), "history": history}, file)
            if trained is not None:
                trained.save(Path(folder) / MODEL)
            for split, of_split in (outputs or {}).items():
                of_split.save(Path(folder) / FOLDER / f"{split}.npz")
            check_room(Path(folder), home)
            checkpoint = ray.train.Checkpoint.from_directory(folder)
            ray.train.report({**values, "earlier": earlier}, checkpoint=checkpoint)
    except Exception as error:
        if not lacks_room(error):
            raise
        for partial in written(home) - there:
            shutil.rmtree(partial)
        release_reserve(home.parent)
        raise UserError(
            f"no room in {home.parent} for the checkpoint of epoch {learner.epoch}: make some, then the same command "
            "with --resume goes on from the one before it."
        ) from error


def _load_state(file: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        UserError: it is damaged.
    """
    from timbrel.trained import load_weights

    try:
        return load_weights(file, device)
    except UserError as error:
        raise UserError(
            f"{str(error).rstrip('.')}: the same command with --resume goes on from the checkpoint before it."
        ) from None


def named(split: str, values: Mapping[str, float]) -> dict[str, float]:
    """Prefix metrics with their split."""
    return {f"{split}/{name}": value for name, value in values.items()}
