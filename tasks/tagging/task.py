"""The tags, model and optimiser of the pre-training phase."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
import pretty_midi
from annotated_types import Ge
from torch import nn

from timbrel.mixing.recipe import ALL_SOURCES, NO_EFFECTS, Recipe
from timbrel.models.front_end import LogMel, LogMelConfig
from timbrel.models.short_chunk_cnn import ShortChunkCNN, ShortChunkConfig, check_input
from timbrel.models.transfer import Classifier, Head
from timbrel.settings import Experiment, Training
from timbrel.task import Task

DRUMS = 128
TAGS = (*(pretty_midi.program_to_instrument_name(program) for program in range(DRUMS)), "Drum Kit")

WHOLE_SONG = Recipe(
    p_musical=1.0, p_single_source=0.0, min_sources=ALL_SOURCES, max_sources=ALL_SOURCES, effects=NO_EFFECTS
)
"""A clip of the song as it is: every stem, no effect."""


@dataclass(frozen=True, kw_only=True)
class TaggingConfig(Experiment):
    """Config of task tagging.

    Optimiser of the CNN authors' first stage: Adam, learning rate and weight decay 1e-4, batches of 16.
    """

    mixing: Recipe = WHOLE_SONG
    training: Training = field(default_factory=lambda: Training(epochs=200, decay=1.0))
    front_end: LogMelConfig = field(default_factory=LogMelConfig)
    model: ShortChunkConfig = field(default_factory=ShortChunkConfig)
    lr: Annotated[float, Ge(0)] = 1e-4
    """Learning rate of the whole network."""
    weight_decay: Annotated[float, Ge(0)] = 1e-4
    """Of the whole network."""

    def __post_init__(self) -> None:
        check_input(self.front_end.bands, self.front_end.frames(self.mixing.samples))


SMALL = {
    "mixing.sample_rate": 16_000,
    "model.width": 16,
    "lr": 3e-3,
    "training.epochs": 8,
    "training.batches_per_epoch": 20,
    "training.decay": 0.3,
    "training.decay_steps": 3,
}
"""The network of multi_instrument's preset of the same name; a learning rate that suits so short a run."""

SMOKE = {
    **SMALL,
    "training.epochs": 2,
    "training.batches_per_epoch": 4,
    "evaluation.valid_examples": 32,
    "evaluation.test_examples": 32,
}


class Tagging(Task[TaggingConfig]):
    """Which General MIDI programs sound in a clip."""

    name = "tagging"
    summary = "pre-training: which of 128 General MIDI programs and drums sound in a clip"
    config_type = TaggingConfig
    presets = MappingProxyType({"paper": {}, "small": SMALL, "smoke": SMOKE})

    def classes(self, config: TaggingConfig) -> tuple[str, ...]:
        return TAGS

    def stem_labels(self, instruments: Sequence[str], programs: np.ndarray, config: TaggingConfig) -> np.ndarray:
        return programs[:, None] == np.arange(len(TAGS))

    def build_model(self, config: TaggingConfig) -> Classifier:
        backbone = ShortChunkCNN(config.model)
        return Classifier(
            LogMel(config.front_end, config.mixing.sample_rate),
            backbone,
            Head(backbone.embedding_size, len(TAGS)),
        )

    def parameter_groups(self, model: nn.Module, config: TaggingConfig) -> list[dict[str, Any]]:
        return [
            {
                "name": "all",
                "params": list(model.parameters()),
                "lr": config.lr,
                "weight_decay": config.weight_decay,
            }
        ]
