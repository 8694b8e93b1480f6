"""The training step, epoch and evaluation in plain PyTorch: no Ray, so it runs, and is tested, anywhere."""

import contextlib
import inspect
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from timbrel import whole_batch
from timbrel.errors import UserError
from timbrel.outputs import Outputs
from timbrel.settings import Experiment
from timbrel.task import Task
from timbrel.teaching.teacher import Teacher
from timbrel.training.optimizers import make_optimizer

Examples = Mapping[str, np.ndarray]
"""A batch or a whole evaluation set: ``audio`` float32 ``(example, sample)``, or ``features`` and targets as the task's
example maker has them, ``labels`` float32 ``(example, class)``, NaN where nobody judged, ``teacher`` float32
``(example, time, dimension)`` where there is one to learn from, and in an evaluation set ``song``, str ``(example,)``.
"""

NOT_FOR_THE_MODEL = ("number", "song")
"""Columns that say which example it is."""


class Learner:
    """A model with its optimiser, as it moves through the epochs of one run."""

    def __init__(
        self,
        task: Task,
        config: Experiment,
        device: torch.device,
        pretrained: Mapping[str, torch.Tensor] | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        torch.manual_seed(config.seed)
        self.task = task
        self.config = config
        self.device = device
        self.classes = task.classes(config)
        self.model = task.build_model(config)
        if pretrained is not None:
            task.load_pretrained(self.model, config, pretrained)
        self.model.to(device)
        if teacher and teacher.staged and "stages" not in inspect.signature(self.model.forward).parameters:
            raise UserError(
                f"the network of task {task.name} has no stages that a teacher's embeddings could be compared with: "
                "leave teacher.name empty."
            )
        self.teacher = teacher.to(device) if teacher else None
        """What the model is regularised by; no part of it is learned."""
        self.stage = 0
        """Switches of the schedule that were made."""
        self.fitted = not any(list(group["params"]) for group in task.parameter_groups(self.model, config))
        """Whether the model is trained by the task itself, at once, for want of anything that a gradient could move."""
        self.optimizer = self._optimizer()
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.plateau = self._plateau()
        self.epoch = 0
        """Epochs completed."""
        self.best_loss = math.inf
        self.best_epoch = 0
        """The epoch of the lowest validation loss, counted from 1."""
        self.best_weights: dict[str, torch.Tensor] = {}
        self.stalled = 0
        """Epochs since the validation loss was lowest, as all workers know them."""
        self.least_loss = math.inf
        self.heard = torch.zeros(len(self.classes))
        """In how many training examples each class was heard, ``(class,)``."""
        self.examples = 0
        """Training examples seen."""

    @property
    def class_shares(self) -> dict[str, float]:
        """Return in which share of the training examples each class was heard."""
        return {name: float(count) / self.examples for name, count in zip(self.classes, self.heard, strict=True)}

    @property
    def learning_rate(self) -> float:
        """Return the first group's learning rate in the last epoch."""
        return float(self.optimizer.param_groups[0]["lr"])

    def train_epoch(self, batches: Iterable[Examples], parallel: nn.Module | None = None) -> dict[str, float]:
        """Train for one epoch and return the mean of each term of the objective: ``loss``, and what the task adds.

        ``parallel`` is the model wrapped for several workers, if there are several. ``batches`` are this one's shares;
        what is returned is of the whole batches, and the same for all.

        Raises:
            UserError: the loss is no longer finite.
        """
        training, shared = self.config.training, parallel is not None
        self._enter_stage(training.stage_at(self.epoch), shared)
        if shared:
            whole_batch.seed_share(self.config.seed, self.epoch)
        if self.plateau is None:
            factor = training.decay_at(self.epoch)
            for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
                group["lr"] = rate * factor
        model = parallel or self.model
        model.train()
        seen = torch.zeros(len(self.classes) + 1)
        counted = (_counted(batch, seen) for batch in batches)
        with whole_batch.sharing(shared):
            if not self.fitted:
                steps = [self._step(model, batch) for batch in counted]
                terms = [torch.stack([step[name] for step in steps]).mean() for name in steps[0]]
                means = dict(zip(steps[0], whole_batch.average(torch.stack(terms)).tolist(), strict=True))
            else:
                means = self.task.fit(self.model, counted, self.config)
            *heard, examples = whole_batch.total(seen.to(self.device)).tolist()
        self.heard += torch.tensor(heard)
        self.examples += int(examples)
        if not math.isfinite(means["loss"]):
            raise _diverged(f"the training loss is {means['loss']} in epoch {self.epoch + 1}")
        self.epoch += 1
        return means

    def _step(self, model: nn.Module, batch: Examples) -> dict[str, torch.Tensor]:
        """Take one step and return the terms of the objective."""
        tensors = self._tensors(batch)
        if self.teacher is not None:
            tensors = self.teacher.heard(tensors)
        tensors = self.task.augmented(tensors, self.config)
        staged = self.teacher is not None and self.teacher.staged
        with _autocast(self.config.training.precision, self.device):
            outputs, stages = model(heard(tensors), stages=True) if staged else (model(heard(tensors)), [])
        outputs = outputs.float()
        terms = self.task.losses(outputs, tensors, self.config)
        if self.teacher is not None:
            terms = self.teacher(terms, outputs, stages, tensors)
        self.optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        if self.config.training.gradient_clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.training.gradient_clip)
        self.optimizer.step()
        return {name: value.detach() for name, value in terms.items()}

    def predict(self, examples: Examples) -> Outputs:
        """Return the model's outputs on examples beside their labels."""
        found = predict(self.task, self.model, heard(examples), self.device, self.config.training.precision)
        return self.task.outputs(examples, found, self.config)

    def validate(self, valid: Examples) -> dict[str, float]:
        """Return the validation metrics, and remember the weights if the loss is the lowest so far.

        Raises:
            UserError: the output is no longer finite.
        """
        outputs = self.predict(valid)
        if not np.isfinite(outputs.scores).all():  # the last step of an epoch may overflow after its loss was finite
            raise _diverged(f"the model's output on the validation set is not finite after epoch {self.epoch}")
        values = self.task.evaluate(outputs, self.task.thresholds(outputs, self.config), self.config)
        if math.isnan(values["loss"]):
            raise UserError(
                "nobody judged the validation examples on any class, so that no epoch can be told from another: "
                "prepare songs that were judged, or raise evaluation.valid_examples."
            )
        if values["loss"] < self.best_loss:
            self.best_loss, self.best_epoch = values["loss"], self.epoch
            self.best_weights = {
                name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()
            }
        return values

    def follow(self, loss: float) -> None:
        """Let the schedule plateau go on from an epoch's validation loss, which all workers are told."""
        self.stalled = 0 if loss < self.least_loss else self.stalled + 1
        self.least_loss = min(loss, self.least_loss)
        if self.plateau is not None:
            self.plateau.step(loss)

    @property
    def done(self) -> bool:
        """Whether training is at its end."""
        training = self.config.training
        given_up = training.schedule == "plateau" and self.stalled >= training.stop_patience
        return given_up or self.epoch >= training.epochs

    def finish(self, valid: Examples, test: Examples) -> tuple[dict[str, float], dict[str, float], dict[str, Outputs]]:
        """Return to the best epoch; choose thresholds on validation, judge on test.

        Returns the thresholds and the test metrics by name, and the outputs on both sets by the split's name.
        """
        self.model.load_state_dict(self.best_weights)
        outputs = {split: self.predict(examples) for split, examples in (("valid", valid), ("test", test))}
        thresholds = self.task.thresholds(outputs["valid"], self.config)
        return thresholds, judge(self.task, outputs["test"], thresholds, self.config), outputs

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs to go on as if nothing had happened."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "stage": self.stage,
            "epoch": self.epoch,
            "best_loss": self.best_loss,
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
            "stalled": self.stalled,
            "least_loss": self.least_loss,
            "plateau": self.plateau.state_dict() if self.plateau is not None else None,
            "heard": self.heard,
            "examples": self.examples,
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a state that ``state_dict`` returned."""
        self.model.load_state_dict(state["model"])
        self.stage = state["stage"]
        self.optimizer = self._optimizer()
        self.optimizer.load_state_dict(state["optimizer"])
        self.stalled, self.least_loss = state["stalled"], state["least_loss"]
        self.plateau = self._plateau()
        if self.plateau is not None:
            self.plateau.load_state_dict(state["plateau"])
        self.epoch, self.best_loss, self.best_epoch = state["epoch"], state["best_loss"], state["best_epoch"]
        self.best_weights = state["best_weights"]
        self.heard, self.examples = state["heard"].cpu(), state["examples"]
        torch.set_rng_state(state["torch_rng"].cpu())
        if state["cuda_rng"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"].cpu(), self.device)

    def _optimizer(self) -> torch.optim.Optimizer:
        groups = self.task.parameter_groups(self.model, self.config)
        if self.fitted:  # an optimiser refuses to have nothing to do
            groups = [{"params": [nn.Parameter(torch.zeros(0))], "lr": 0.0}]
        return make_optimizer(groups, self.stage, self.config.training)

    def _plateau(self) -> torch.optim.lr_scheduler.ReduceLROnPlateau | None:
        training = self.config.training
        if training.schedule != "plateau":
            return None
        return torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimizer, factor=training.plateau_factor, patience=training.plateau_patience
        )

    def _enter_stage(self, stage: int, shared: bool) -> None:
        """Go back to the best epoch where a stage begins, and on with its optimiser.

        ``shared``: several workers train the model. Only the first knows the best epoch, and tells the others.
        """
        if stage == self.stage:
            return
        if self.best_weights:
            self.model.load_state_dict(self.best_weights)
        if shared:
            whole_batch.take_from_first(self.model)
        before, self.stage = self.stage, stage
        if before == 0:
            self.optimizer = self._optimizer()

    def _tensors(self, batch: Examples) -> dict[str, torch.Tensor]:
        # Arrays that come out of Ray's object store are read-only; torch wants to be told that we know.
        return {
            name: torch.from_numpy(np.array(values, copy=not values.flags.writeable)).to(self.device, non_blocking=True)
            for name, values in batch.items()
            if name not in NOT_FOR_THE_MODEL
        }


def _counted(batch: Examples, seen: torch.Tensor) -> Examples:
    """Add up in ``seen``, ``(class + 1,)``, in how many examples each class is heard, and how many there are."""
    labels = batch["labels"]
    seen += torch.from_numpy(np.append(np.nansum(labels, axis=0), len(labels)).astype(np.float32))
    return batch


def judge(task: Task, outputs: Outputs, thresholds: Mapping[str, float], config: Experiment) -> dict[str, float]:
    """Return all figures of a test split by name."""
    return task.evaluate(outputs, thresholds, config) | task.last_figures(outputs, thresholds, config)


def heard(columns: Mapping[str, Any]) -> Any:
    """Return what a model is given of examples: their features if they have any, else their audio."""
    return columns["features"] if "features" in columns else columns["audio"]


def _diverged(what: str) -> UserError:
    return UserError(f"{what}: lower the learning rates or use training.precision=float32.")


def _autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager:
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def predict(
    task: Task,
    model: nn.Module,
    inputs: np.ndarray,
    device: torch.device,
    precision: str = "float32",
    batch_size: int = 32,
) -> dict[str, np.ndarray]:
    """Return a task's predictions on what its model hears, ``(example, ...)``, by name: see ``Task.predictions``."""
    model.eval()
    rows: list[dict[str, np.ndarray]] = []
    with torch.inference_mode():
        for start in range(0, len(inputs), batch_size):
            chunk = torch.from_numpy(np.array(inputs[start : start + batch_size])).to(device)
            with _autocast(precision, device):
                outputs = model(chunk)
            rows.append({name: kept.cpu().numpy() for name, kept in task.predictions(outputs.float()).items()})
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
