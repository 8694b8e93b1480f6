"""The config branches that every task has: which songs, which schedule, which evaluation.

Apart from ``timbrel.task`` because a mixing actor reads them, and has no use for PyTorch.
"""

import itertools
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from timbrel.mixing.recipe import NO_EFFECTS, PAPER, Probability, Recipe
from timbrel.teaching.config import TeacherConfig

Seed = Annotated[int, Ge(0), Le(2**63 - 1)]
"""What both NumPy and PyTorch take."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which songs of the library an experiment sees."""

    datasets: tuple[str, ...] = ()
    """Names of the prepared data sets to draw from, each equally likely; empty: all of the library."""
    test_datasets: tuple[str, ...] = ()
    """Names of the data sets whose test split is tested on; empty: those of ``datasets``. For instance the same
    compositions played by another SoundFont."""
    songs_from: Probability = 0.0
    """Together with songs_to: the share of each split's songs to use, in an order that depends on their names
    alone. 0..0.4 and 0.4..1 share no song, so one library can serve pre-training and its target."""
    songs_to: Probability = 1.0
    """See songs_from."""
    overlaps: Literal["refuse", "leave_out"] = "refuse"
    """What becomes of a song that two data sets have under their own names, on two sides (and of an artist, where one
    of them was prepared with --split artist): ``refuse`` the experiment, or ``leave_out`` all but those on the most
    held-out side, test before valid before train."""

    def __post_init__(self) -> None:
        if self.songs_from >= self.songs_to:
            raise ValueError(f"songs_from ({self.songs_from}) must be below songs_to ({self.songs_to})")

    def datasets_of(self, split: str) -> tuple[str, ...]:
        """Return the names of the data sets that a split is drawn from; empty: all of the library."""
        return (self.test_datasets or self.datasets) if split == "test" else self.datasets

    @property
    def all_datasets(self) -> tuple[str, ...]:
        """Names of all data sets that an experiment sees; empty: all of the library."""
        return tuple(sorted({*self.datasets, *self.test_datasets})) if self.datasets else ()


@dataclass(frozen=True, kw_only=True)
class Training:
    """The transfer-and-mixing paper's schedule: an epoch is 120 batches of 16 mixtures; Adam; lowest validation
    loss kept."""

    epochs: Annotated[int, Ge(1)] = 150
    """Number of epochs."""
    batches_per_epoch: Annotated[int, Ge(1)] = 120
    """Batches an epoch; 120 x 16 = the paper's 1,920 mixtures."""
    batch_size: Annotated[int, Ge(2)] = 16
    """Mixtures a batch, over all workers together."""
    gradient_clip: Annotated[float, Ge(0)] = 0.0
    """Norm that the gradient is shortened to where it is longer; 0: never."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Of the schedules decay and plateau: adam, or sgd with ``momentum``."""
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    """Of the optimiser sgd."""
    schedule: Literal["decay", "plateau", "two_stage"] = "decay"
    """decay: the optimiser, whose learning rates fall in steps. plateau: they fall when the validation loss no longer
    does, and training ends when that doesn't help. two_stage: that of the short-chunk CNN's authors: Adam, and from the
    first of ``switches`` on SGD with Nesterov momentum 0.9."""
    plateau_factor: Annotated[float, Gt(0), Lt(1)] = 0.2
    """Of plateau: factor on the learning rates."""
    plateau_patience: Annotated[int, Ge(0)] = 8
    """Of plateau: epochs in a row without a lower validation loss that are put up with before the rates fall."""
    stop_patience: Annotated[int, Ge(1)] = 15
    """Of plateau: epochs since the lowest validation loss after which training ends."""
    switches: tuple[Annotated[int, Ge(1)], ...] = (80, 100, 120)
    """Of two_stage: the epochs after which training goes back to the best epoch so far, and on with SGD from there; at
    each switch but the first with a tenth of the learning rates (authors: 80,100,120 of 200)."""
    sgd_factor: Annotated[float, Gt(0)] = 10.0
    """Of two_stage: SGD's first learning rates, as a multiple of Adam's (authors: 1e-3 after 1e-4)."""
    decay: Annotated[float, Gt(0), Le(1)] = 0.3
    """Of decay: factor on the learning rates at each step."""
    decay_steps: Annotated[float, Ge(0)] = 7.5
    """Of decay: learning-rate steps in the whole run: 150 epochs / one step each 20. A shorter run keeps their number
    and takes them proportionally earlier."""
    precision: Literal["bf16", "float32"] = "bf16"
    """bf16: autocast, about three times faster on recent CPUs and on GPUs; float32: everywhere."""
    workers: Annotated[int, Ge(1)] = 1
    """Ray Train workers, which share each batch equally; on a cluster with GPUs one GPU each. They learn what one would
    from the same batches, except where docs/configuration.md says otherwise: batch norm on CPUs is over each worker's
    share, and random numbers (dropout, augmentation) are others."""

    def __post_init__(self) -> None:
        if self.batch_size % self.workers:
            raise ValueError(f"batch_size ({self.batch_size}) must be a multiple of workers ({self.workers})")
        if self.worker_batch_size < 2:
            raise ValueError(
                f"batch_size ({self.batch_size}) must be at least 2 for each of {self.workers} workers: one example "
                "has nothing to be normalised with"
            )
        if self.schedule == "two_stage":
            self._check_switches()

    def _check_switches(self) -> None:
        shown = ",".join(map(str, self.switches))
        if not self.switches or any(later <= earlier for earlier, later in itertools.pairwise(self.switches)):
            raise ValueError(f"switches ({shown}) must be one or more epochs, each later than the one before")
        if self.switches[-1] >= self.epochs:
            raise ValueError(
                f"switches ({shown}) must lie within the {self.epochs} epochs: give earlier ones, or "
                "training.schedule=decay"
            )

    @property
    def examples_per_epoch(self) -> int:
        """Mixtures an epoch."""
        return self.batches_per_epoch * self.batch_size

    @property
    def worker_batch_size(self) -> int:
        """Mixtures of each batch that a worker learns from."""
        return self.batch_size // self.workers

    def stage_at(self, epoch: int) -> int:
        """Return how many switches lie behind in the ``epoch``-th epoch (the first is 0): 0 is Adam, from 1 on SGD."""
        return sum(switch <= epoch for switch in self.switches) if self.schedule == "two_stage" else 0

    def decay_at(self, epoch: int) -> float:
        """Return the factor on the learning rates during the ``epoch``-th epoch (the first is 0)."""
        if self.schedule == "two_stage":
            stage = self.stage_at(epoch)
            return self.sgd_factor / 10 ** (stage - 1) if stage else 1.0
        if self.schedule == "plateau":
            return 1.0
        return self.decay ** int(epoch * self.decay_steps / self.epochs)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How a model is judged. Validation and test are musical mixtures without effects (paper: musical only)."""

    windows: Literal["drawn", "whole_songs"] = "drawn"
    """drawn: of random songs at random times, with as many sources as ``mixing`` says. whole_songs: all songs cut into
    windows, every stem; a rest shorter than a window is left out."""
    valid_examples: Annotated[int, Ge(0)] = 120
    """Mixtures of the validation split; the paper gives no number, so as many as for the test. Of whole songs so many
    windows, a random sample; 0: all."""
    test_examples: Annotated[int, Ge(0)] = 120
    """Mixtures of the test split (paper, section 4: 120). Of whole songs so many windows, a random sample; 0: all."""
    threshold_rule: Literal["per_class", "global", "fixed"] = "per_class"
    """Where a probability becomes a decision: chosen on validation by F1, for each class or for all; or fixed."""
    fixed_threshold: Probability = 0.35
    """The threshold of the rule 'fixed' (paper: 0.35)."""
    seed: Seed = 0
    """Of the evaluation mixtures; apart from the run's seed, so that runs with several seeds are judged alike."""

    def __post_init__(self) -> None:
        if self.windows == "drawn" and not (self.valid_examples and self.test_examples):
            raise ValueError(
                "valid_examples and test_examples must be at least 1 where windows are drawn: 0, for all, is for "
                "evaluation.windows=whole_songs"
            )


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What the config of every task has; a task adds its own branches (model, transfer, ...)."""

    seed: Seed = 0
    """Of the mixtures and of the weights' initialisation."""
    data: Data = field(default_factory=Data)
    mixing: Recipe = field(default_factory=Recipe)
    training: Training = field(default_factory=Training)
    evaluation: Evaluation = field(default_factory=Evaluation)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)

    @property
    def taught_by(self) -> TeacherConfig:
        """What teaches the model, or makes the embeddings that it hears: ``teacher``, unless the task knows better."""
        return self.teacher


def evaluation_recipe(config: Experiment) -> Recipe:
    """Return the recipe of validation and test mixtures: songs as they are.

    Musical, as in the paper. Whether effects were applied there it does not say; here a model is judged on unaltered
    sound.
    """
    return replace(
        config.mixing, p_musical=1.0, effects=NO_EFFECTS, class_balance=0.0, level_db=(), stretch=PAPER.stretch
    )
