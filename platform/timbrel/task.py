"""What a task is: the contract between the platform and an experiment.

A task says which classes there are, which of them a stem counts for, what the model and its loss are, and what
its config holds. The platform does the rest: mixing, training, searching, logging, evaluating. A task is plain
PyTorch and NumPy; it imports neither Ray nor MLflow, and so does nothing in this module.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import nn

from timbrel.errors import UserError
from timbrel.settings import Experiment
from timbrel.tags import JudgedSong

ExperimentT = TypeVar("ExperimentT", bound=Experiment)


class Task(ABC, Generic[ExperimentT]):
    """One published system, as the platform sees it."""

    name: str
    summary: str
    """One line for ``timbrel list tasks``, with the source."""
    config_type: type[ExperimentT]
    presets: Mapping[str, Mapping[str, Any]]
    """Config values by dotted path, by name of preset; ``paper`` (no change) is the default."""

    @abstractmethod
    def classes(self, config: ExperimentT) -> tuple[str, ...]:
        """Return the names of the model's outputs, in order."""

    @abstractmethod
    def stem_labels(self, instruments: Sequence[str], programs: np.ndarray, config: ExperimentT) -> np.ndarray:
        """Return which classes each stem counts for where it sounds: bool of shape ``(stem, class)``.

        Args:
            instruments: the data set's own word for each stem.
            programs: General MIDI program of each stem, 128 for drums, -1 where unknown; int16 ``(stem,)``.
            config: of the experiment.

        A stem with no class at all is never drawn: a mixture would hold sound that no label speaks of.
        """

    def song_labels(self, songs: Sequence[JudgedSong], config: ExperimentT) -> np.ndarray | None:
        """Return which classes each song counts for as a whole: bool of shape ``(song, class)``.

        They hold for all of its stems, whatever part of the song is heard, and take the place of ``stem_labels``. None,
        as here: labels are those of the stems.

        Raises:
            UserError: a song was not judged on what the task asks for.
        """
        return None

    @abstractmethod
    def build_model(self, config: ExperimentT) -> nn.Module:
        """Return the untrained model: waveform ``(batch, sample)`` to logits ``(batch, class)``."""

    def load_pretrained(self, model: nn.Module, config: ExperimentT, weights: Mapping[str, torch.Tensor]) -> None:
        """Put pre-trained weights into the model; only called where ``pretrained`` names some."""
        raise NotImplementedError(f"task {self.name} takes no pre-trained weights")

    def from_weights(
        self, weights: Mapping[str, torch.Tensor], where: str, values: Mapping[str, Any]
    ) -> tuple[ExperimentT, nn.Module]:
        """Return the config and network of a file of weights that comes without a config: a published network.

        Args:
            weights: the file's ``state_dict``.
            where: names the file in errors.
            values: what the user says of it, by config field.

        Raises:
            UserError: the task knows no such network, or more must be said of it.
        """
        raise UserError(f"task {self.name} reads no weights without a config: give a run's id or an exported folder.")

    def pretrained(self, config: ExperimentT) -> str | None:
        """Return the run id or file that training starts from, or None.

        Raises:
            UserError: the config wants pre-trained weights and names none.
        """
        return None

    @abstractmethod
    def parameter_groups(self, model: nn.Module, config: ExperimentT) -> list[dict[str, Any]]:
        """Return the optimiser's parameter groups, each with its learning rate ``lr``."""

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return binary cross-entropy, averaged over batch and class."""
        return nn.functional.binary_cross_entropy_with_logits(logits, labels)
