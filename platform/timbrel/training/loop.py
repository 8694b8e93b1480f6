"""The training step, epoch and evaluation in plain PyTorch: no Ray, so it runs, and is tested, anywhere."""

import contextlib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import nn

from timbrel import metrics
from timbrel.errors import UserError
from timbrel.outputs import Outputs
from timbrel.settings import Experiment
from timbrel.task import Task
from timbrel.training.optimizers import make_optimizer

Examples = Mapping[str, np.ndarray]
"""A batch or a whole evaluation set: ``audio`` float32 ``(example, sample)``, ``labels`` float32 ``(example, class)``,
and in an evaluation set ``song``, str ``(example,)``."""

LOSS = "binary_cross_entropy"
"""The validation metric whose lowest value marks the best epoch."""


class Learner:
    """A model with its optimiser, as it moves through the epochs of one run."""

    def __init__(
        self,
        task: Task,
        config: Experiment,
        device: torch.device,
        pretrained: Mapping[str, torch.Tensor] | None = None,
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
        self.stage = 0
        """Switches of the schedule that were made."""
        self.optimizer = self._optimizer()
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.epoch = 0
        """Epochs completed."""
        self.best_loss = math.inf
        self.best_epoch = 0
        """The epoch of the lowest validation loss, counted from 1."""
        self.best_weights: dict[str, torch.Tensor] = {}
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

    def train_epoch(self, batches: Iterable[Examples], parallel: nn.Module | None = None) -> float:
        """Train for one epoch and return the mean loss.

        ``parallel`` is the model wrapped for several workers, if there are several.

        Raises:
            UserError: the loss is no longer finite.
        """
        self._enter_stage(self.config.training.stage_at(self.epoch), shared=parallel is not None)
        model = parallel or self.model
        model.train()
        factor = self.config.training.decay_at(self.epoch)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor
        losses = []
        for batch in batches:
            audio, labels = self._tensors(batch)
            with _autocast(self.config.training.precision, self.device):
                logits = model(audio)
            loss = self.task.loss(logits.float(), labels)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            losses.append(loss.detach())
            self.heard += torch.from_numpy(batch["labels"].sum(axis=0))
            self.examples += len(batch["labels"])
        mean = float(torch.stack(losses).mean())
        if not math.isfinite(mean):
            raise _diverged(f"the training loss is {mean} in epoch {self.epoch + 1}")
        self.epoch += 1
        return mean

    def predict(self, examples: Examples, batch_size: int = 32) -> np.ndarray:
        """Return probabilities ``(example, class)`` for ``examples['audio']``."""
        return predict(self.model, examples["audio"], self.device, self.config.training.precision, batch_size)

    def validate(self, valid: Examples) -> dict[str, float]:
        """Return the validation metrics, and remember the weights if the loss is the lowest so far.

        Raises:
            UserError: the output is no longer finite.
        """
        scores = self.predict(valid)
        if not np.isfinite(scores).all():  # the last step of an epoch may overflow after its loss was finite
            raise _diverged(f"the model's output on the validation set is not finite after epoch {self.epoch}")
        values = metrics.evaluate(valid["labels"], scores, self.classes, self._thresholds(valid, scores))
        if values[LOSS] < self.best_loss:
            self.best_loss, self.best_epoch = values[LOSS], self.epoch
            self.best_weights = {
                name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()
            }
        return values

    def finish(self, valid: Examples, test: Examples) -> tuple[np.ndarray, dict[str, float], dict[str, Outputs]]:
        """Return to the best epoch; choose thresholds on validation, judge on test.

        Returns the thresholds ``(class,)``, the test metrics, and the outputs on both sets by the split's name.
        """
        self.model.load_state_dict(self.best_weights)
        outputs = {
            split: Outputs(self.classes, examples["song"], examples["labels"], self.predict(examples))
            for split, examples in (("valid", valid), ("test", test))
        }
        thresholds = self._thresholds(valid, outputs["valid"].scores)
        test_scores = outputs["test"].scores
        return thresholds, metrics.evaluate(test["labels"], test_scores, self.classes, thresholds), outputs

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
        self.epoch, self.best_loss, self.best_epoch = state["epoch"], state["best_loss"], state["best_epoch"]
        self.best_weights = state["best_weights"]
        self.heard, self.examples = state["heard"].cpu(), state["examples"]
        torch.set_rng_state(state["torch_rng"].cpu())
        if state["cuda_rng"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"].cpu(), self.device)

    def _optimizer(self) -> torch.optim.Optimizer:
        return make_optimizer(self.task.parameter_groups(self.model, self.config), self.stage)

    def _enter_stage(self, stage: int, shared: bool) -> None:
        """Go back to the best epoch where a stage begins, and on with its optimiser.

        ``shared``: several workers train the model. Only the first knows the best epoch, and tells the others.
        """
        if stage == self.stage:
            return
        if self.best_weights:
            self.model.load_state_dict(self.best_weights)
        if shared:
            for tensor in self.model.state_dict().values():
                sent = tensor.contiguous()  # convolutions are laid out channels last
                torch.distributed.broadcast(sent, src=0)
                tensor.copy_(sent)
        before, self.stage = self.stage, stage
        if before == 0:
            self.optimizer = self._optimizer()

    def _thresholds(self, valid: Examples, scores: np.ndarray) -> np.ndarray:
        rules = self.config.evaluation
        return metrics.choose_thresholds(valid["labels"], scores, rules.threshold_rule, rules.fixed_threshold)

    def _tensors(self, batch: Examples) -> tuple[torch.Tensor, torch.Tensor]:
        # Arrays that come out of Ray's object store are read-only; torch wants to be told that we know.
        audio, labels = (
            torch.from_numpy(np.array(batch[name], copy=not batch[name].flags.writeable))
            for name in ("audio", "labels")
        )
        return audio.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)


def _diverged(what: str) -> UserError:
    return UserError(f"{what}: lower the learning rates or use training.precision=float32.")


def _autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager:
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def predict(
    model: nn.Module,
    audio: np.ndarray,
    device: torch.device,
    precision: str = "float32",
    batch_size: int = 32,
) -> np.ndarray:
    """Return a model's probabilities ``(example, class)`` for audio ``(example, sample)``."""
    model.eval()
    rows = []
    with torch.inference_mode():
        for start in range(0, len(audio), batch_size):
            chunk = torch.from_numpy(np.array(audio[start : start + batch_size])).to(device)
            with _autocast(precision, device):
                logits = model(chunk)
            rows.append(torch.sigmoid(logits.float()).cpu().numpy())
    return np.concatenate(rows)
