"""A trained model as data: weights, config, labels and thresholds, loaded without running code from any file.

::

    model/
        weights.pt         state_dict, read with weights_only=True
        config.json        the task's whole config
        thresholds.json    {"task": ..., "version": ..., "thresholds": {class: probability}}

In a run's artifacts these files are the data of an MLflow model, in its folder ``data/timbrel``.
"""

import itertools
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import timbrel
from timbrel import config as configs
from timbrel import registry
from timbrel.errors import UserError
from timbrel.mixing.notes import NO_NOTES
from timbrel.safety import without_secrets
from timbrel.settings import Experiment
from timbrel.task import Task
from timbrel.training.loop import heard, predict

DATA = "data/timbrel"
"""Where in the folder of an MLflow model the files are."""


@dataclass(frozen=True)
class TrainedModel:
    """A model that can predict."""

    task: Task
    config: Experiment
    thresholds: dict[str, float]
    """Probability from which each class counts as present, in the order of the model's outputs, and those of other
    decisions of the task, by name."""
    weights: Mapping[str, torch.Tensor]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return self.task.classes(self.config)

    @property
    def class_thresholds(self) -> dict[str, float]:
        """Probability from which each class counts as present, in the order of the model's outputs."""
        return {name: self.thresholds[name] for name in self.classes}

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of a clip as the model hears it: ``(sample,)``, or of embeddings ``(time, dimension)``."""
        mixing, teacher = self.config.mixing, self.config.taught_by
        if not self.task.hears_embeddings(self.config):
            return (mixing.samples,)
        return max(1, round(mixing.seconds / teacher.hop_s)) if teacher.hop_s else 1, teacher.dimension

    @cached_property
    def model(self) -> nn.Module:
        """The network with its weights, in evaluation mode."""
        model = self.task.build_model(self.config)
        model.load_state_dict(dict(self.weights))
        return model.eval()

    def save(self, folder: Path) -> Path:
        """Write the files of the layout above into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "weights.pt").open("wb") as file:  # opened here, so that a full disk is told from a defect
            torch.save(dict(self.weights), file)
        (folder / "config.json").write_text(without_secrets(configs.to_json(self.config)))
        facts = {"task": self.task.name, "version": timbrel.__version__, "thresholds": self.thresholds}
        (folder / "thresholds.json").write_text(json.dumps(facts, indent=2))
        return folder

    @staticmethod
    def load(folder: Path) -> "TrainedModel":
        """Read what ``save`` wrote, into a folder of its own or into that of an MLflow model.

        Raises:
            UserError: a file is missing or damaged.
        """
        folder = folder / DATA if (folder / DATA).is_dir() else folder
        for name in ("weights.pt", "config.json", "thresholds.json"):
            if not (folder / name).is_file():
                raise UserError(f"{folder} holds no trained model: {name} is missing.")
        try:
            facts = json.loads((folder / "thresholds.json").read_text())
            name, thresholds = facts["task"], {key: float(value) for key, value in facts["thresholds"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{folder / 'thresholds.json'} is damaged: fetch or train the model again.") from None
        task: Task = registry.load("task", name)
        config = configs.from_json(task.config_type, (folder / "config.json").read_text(), str(folder))
        return TrainedModel(task, config, thresholds, load_weights(folder / "weights.pt"))

    def probabilities(self, windows: Iterable[np.ndarray], batch_size: int = 16) -> Iterator[np.ndarray]:
        """Yield ``(class,)`` for every window ``(sample,)``."""
        for predictions in self.predictions(windows, batch_size):
            yield self.task.clip_scores(predictions)

    def predictions(self, windows: Iterable[np.ndarray], batch_size: int = 16) -> Iterator[dict[str, np.ndarray]]:
        """Yield what the task predicts for every window ``(sample,)``, by name, a batch at a time, so that long files
        need little memory."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model, maker = self.model.to(device), self.task.example_maker(self.config)
        remaining = iter(windows)
        while batch := list(itertools.islice(remaining, batch_size)):
            inputs = np.stack(batch)
            if maker:
                inputs = heard(maker(inputs, [NO_NOTES] * len(batch)))
            found = predict(self.task, model, inputs, device)
            yield from ({name: rows[i] for name, rows in found.items()} for i in range(len(batch)))


def load_weights(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a ``state_dict``, or the state of a run, to a device; nothing in the file is executed.

    Raises:
        UserError: the file is missing, damaged, or holds more than tensors.
    """
    if not path.is_file():
        raise UserError(f"there is no file of weights at {path}.")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)  # what follows says enough
            state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # damaged bytes make the unpickler stumble in any way
        raise UserError(
            f"{path} is no readable file of weights ({(str(error) or type(error).__name__).splitlines()[0]}): fetch or "
            "train it again."
        ) from None
    if not isinstance(state, dict):
        raise UserError(f"{path} holds a {type(state).__name__}, not a state_dict.")
    return state
