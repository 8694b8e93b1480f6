"""What a task is: the contract between the platform and an experiment.

A task says which classes there are, which of them a stem counts for, what the model and its loss are, and what
its config holds. The platform does the rest: mixing, training, searching, logging, evaluating. A task is plain
PyTorch and NumPy; it imports neither Ray nor MLflow, and so does nothing in this module.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import nn

from timbrel import metrics, whole_batch
from timbrel.errors import UserError
from timbrel.mixing.examples import ExampleMaker
from timbrel.mixing.index import StemIndex
from timbrel.outputs import Outputs
from timbrel.settings import Experiment
from timbrel.tags import JudgedSong

if TYPE_CHECKING:
    from timbrel.trained import TrainedModel

ExperimentT = TypeVar("ExperimentT", bound=Experiment)


class Predictor(Protocol):
    """What a task does with a recording; it pickles."""

    def read(self, trained: "TrainedModel", file: Path) -> Any:
        """Return what is heard in a recording, in a form that pickles.

        Raises:
            UserError: the file is missing, not audio, or holds no sound.
        """
        ...

    def write(self, trained: "TrainedModel", file: Path, found: Any, stem: Path) -> tuple[str, tuple[str, ...]]:
        """Write what was heard to files whose names begin as ``stem``; return it in words, and the names' endings."""
        ...


class Task(ABC, Generic[ExperimentT]):
    """One published system, as the platform sees it."""

    name: str
    summary: str
    """One line for ``timbrel list tasks``, with the source."""
    config_type: type[ExperimentT]
    presets: Mapping[str, Mapping[str, Any]]
    """Config values by dotted path, by name of preset; ``paper`` (no change) is the default."""
    headline: Mapping[str, str] = MappingProxyType({})
    """What reports show beside the figures that all tasks have: by title of the column, the name of a test figure."""
    loss_of_outputs: bool = True
    """Whether ``loss`` is the cross-entropy of what ``outputs`` returns, which then tells how far the loss would move
    with other songs."""
    judged_by: tuple[str, ...] = ()
    """Fields of ``evaluation``, by dotted path, that `timbrel evaluate` may change too: they say how a model is judged,
    and are no part of it."""
    given_later: tuple[str, ...] = ()
    """Config fields that `timbrel predict` and `timbrel export` may set of a trained model: they say how it gets what
    it hears, and are no part of it."""
    predictor: "Predictor | None" = None
    """What `timbrel predict` does with a recording; None: probabilities of the classes, second by second."""

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

        A stem with no class at all is never drawn: a mixture would hold sound that no label speaks of. To have stems
        heard that are no class of the model's, columns of their own may follow those of the classes; ``example_maker``
        is told of them too.
        """

    def song_labels(self, songs: Sequence[JudgedSong], config: ExperimentT) -> np.ndarray | None:
        """Return which classes each song counts for as a whole: bool, or float with NaN where nobody judged,
        ``(song, class)``.

        They hold for all of its stems, whatever part of the song is heard, and take the place of ``stem_labels``. None,
        as here: labels are those of the stems.

        Raises:
            UserError: a song was not judged on what the task asks for.
        """
        return None

    def note_classes(self, programs: np.ndarray, config: ExperimentT) -> np.ndarray | None:
        """Return the class of notes by the General MIDI program that plays them: int ``(note,)``, -1 for none.

        Where it returns classes, stems count for those of their notes, which take the place of ``stem_labels``, and
        ``example_maker`` is given the notes of each mixture. None, as here: the task has no use for notes, and a maker
        is given the times at which stems sound.

        Args:
            programs: 128 for drums, -1 where unknown; int16 ``(note,)``.
            config: of the experiment.
        """
        return None

    def hears_embeddings(self, config: ExperimentT) -> bool:
        """Return whether the model hears a teacher's embeddings, as ``features`` ``(batch, time, dimension)``, instead
        of audio."""
        return False

    def example_maker(self, config: ExperimentT) -> ExampleMaker | None:
        """Return what makes examples of mixtures, in the mixing actors. None, as here: their audio is one."""
        return None

    def settled(self, config: ExperimentT, index: Callable[[], StemIndex], gpu: bool) -> ExperimentT:
        """Return the config with what depends on the place of training filled in, before anything runs.

        What is returned is what is logged, and stored with the model.

        Args:
            config: as the user gave it.
            index: returns that of the training split.
            gpu: whether the model is trained on one.
        """
        return config

    @abstractmethod
    def build_model(self, config: ExperimentT) -> nn.Module:
        """Return the untrained model, from ``features`` of the examples if they have any, else from ``audio``.

        Usually: waveform ``(batch, sample)`` to logits ``(batch, class)``. What a model returns is for the task's own
        ``losses`` and ``predictions`` to read.
        """

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

    def augmented(self, batch: dict[str, torch.Tensor], config: ExperimentT) -> dict[str, torch.Tensor]:
        """Return what is trained on instead of a batch, drawn from PyTorch's global generator. Here: the batch."""
        return batch

    def fit(
        self, model: nn.Module, batches: Iterable[Mapping[str, np.ndarray]], config: ExperimentT
    ) -> dict[str, float]:
        """Train a model that is no network, on an epoch's batches at once.

        Called where ``parameter_groups`` returns none. Returns ``loss``, and what is logged beside it.
        """
        raise NotImplementedError(f"task {self.name} trains by gradients alone")

    def losses(
        self, outputs: torch.Tensor, batch: Mapping[str, torch.Tensor], config: ExperimentT
    ) -> dict[str, torch.Tensor]:
        """Return the terms of the objective by name; ``loss`` is what is minimised, the others are logged beside it.

        Here: binary cross-entropy of logits ``(batch, class)``, averaged over what was judged of the batch; 0 if
        nothing was.

        Of several workers each is given its share of the batch, and steps by the mean of all gradients. So the mean
        over workers of each term should be its value on the whole batch: see ``timbrel.whole_batch`` for what is no
        plain mean over examples.

        Args:
            outputs: the model's, as float32.
            batch: the examples' columns, such as ``labels`` ``(batch, class)``, NaN where nobody judged.
            config: of the experiment.
        """
        labels = batch["labels"]
        each = nn.functional.binary_cross_entropy_with_logits(outputs, labels.nan_to_num(), reduction="none")
        return {"loss": whole_batch.mean_where(each, ~labels.isnan())}

    def predictions(self, outputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return what is kept of the model's outputs on an evaluation set, by name. Here: probabilities, ``scores``."""
        return {"scores": torch.sigmoid(outputs)}

    def clip_scores(self, prediction: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the probability that each class is heard in a clip, ``(class,)``, from its predictions."""
        return prediction["scores"]

    def answer(self, config: ExperimentT) -> str:
        """Return what a model says of sound, as a sentence for those who are given one."""
        mixing = config.mixing
        return (
            f"Which of {len(self.classes(config))} classes (`labels.txt`) are heard in {mixing.seconds:g} s of mono "
            f"sound at {mixing.sample_rate} Hz."
        )

    def usage(self, config: ExperimentT) -> str:
        """Return what else a model can be asked for from Python, as Markdown that ends a line. Here: nothing."""
        return ""

    def onnx_network(self, model: nn.Module, config: ExperimentT) -> tuple[nn.Module, Mapping[str, str]]:
        """Return the network as it is exported to ONNX, and its outputs: their shapes in words, by name.

        It takes waveforms ``(batch, sample)`` and gives probabilities, those of its classes here.

        Raises:
            UserError: there is no such network.
        """
        if self.hears_embeddings(config):
            raise UserError(
                f"the model hears the embeddings '{config.taught_by.name}', and an ONNX file would have to hold the "
                "network that makes them from sound: leave out --onnx."
            )
        return nn.Sequential(model, nn.Sigmoid()), {"probabilities": "(batch, class)"}

    def outputs(
        self, examples: Mapping[str, np.ndarray], predictions: Mapping[str, np.ndarray], config: ExperimentT
    ) -> Outputs:
        """Return what was predicted beside what is true. Here: one row an example."""
        return Outputs(self.classes(config), examples["song"], examples["labels"], predictions["scores"])

    def thresholds(self, valid: Outputs, config: ExperimentT) -> dict[str, float]:
        """Return the probability from which on each class is present, chosen on validation.

        A task may add decisions of other names after its classes.
        """
        rules = config.evaluation
        chosen = metrics.choose_thresholds(valid.labels, valid.scores, rules.threshold_rule, rules.fixed_threshold)
        return dict(zip(valid.classes, map(float, chosen), strict=True))

    def evaluate(self, outputs: Outputs, thresholds: Mapping[str, float], config: ExperimentT) -> dict[str, float]:
        """Return the figures of a split, after every epoch; ``loss`` is the one whose lowest marks the best epoch."""
        decided_at = np.array([thresholds[name] for name in outputs.classes])
        figures = metrics.evaluate(outputs.labels, outputs.scores, outputs.classes, decided_at)
        return {"loss": figures.pop("binary_cross_entropy"), **figures}

    def last_figures(self, outputs: Outputs, thresholds: Mapping[str, float], config: ExperimentT) -> dict[str, float]:
        """Return figures that take too long for every epoch; of the test split, once. Here: none."""
        return {}

    def pictures(self, outputs: Outputs, thresholds: Mapping[str, float], config: ExperimentT) -> dict[str, Any]:
        """Return pictures of the test split beside those that every run has: matplotlib figures by file name."""
        return {}
