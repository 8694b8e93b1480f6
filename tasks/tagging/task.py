"""The tags, model and optimiser of the pre-training phase."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Annotated, Any, Literal

import numpy as np
import pretty_midi
import torch
from annotated_types import Ge
from torch import nn

from timbrel.config import with_values
from timbrel.errors import UserError
from timbrel.mixing.recipe import ALL_SOURCES, NO_EFFECTS, Recipe
from timbrel.models.backbones import PUBLISHED, BackboneName, build_backbone, check_input, input_of
from timbrel.models.front_end import LogMel, LogMelConfig
from timbrel.models.published import SAMPLE_RATE, published_head, published_net
from timbrel.models.short_chunk_cnn import ShortChunkConfig
from timbrel.models.transfer import Classifier, build_classifier, load_backbone
from timbrel.settings import Experiment, Training
from timbrel.task import Task

DRUMS = 128
PROGRAMS = (*(pretty_midi.program_to_instrument_name(program) for program in range(DRUMS)), "Drum Kit")

TagSet = Literal["general_midi", "mtg_jamendo", "magnatagatune"]
PUBLISHED_TAGS: tuple[TagSet, ...] = ("mtg_jamendo", "magnatagatune")
"""Those that published taggers answer with."""


@cache
def tags_of(tag_set: TagSet) -> tuple[str, ...]:
    """Return the names of a set's tags in the order of a network's outputs.

    ``general_midi``: the 128 programs and the drum kit. ``mtg_jamendo`` and ``magnatagatune``: the 50 most frequent
    tags, in the order of the published taggers' outputs, which is alphabetical with the category in front for the one
    and by frequency for the other.
    """
    if tag_set == "general_midi":
        return PROGRAMS
    return tuple(resources.files("tasks.tagging").joinpath(f"{tag_set}.txt").read_text().split("\n")[:50])


WHOLE_SONG = Recipe(
    p_musical=1.0, p_single_source=0.0, min_sources=ALL_SOURCES, max_sources=ALL_SOURCES, effects=NO_EFFECTS
)
"""A clip of the song as it is: every stem, no effect."""


@dataclass(frozen=True, kw_only=True)
class TaggingConfig(Experiment):
    """Config of task tagging.

    Optimiser of the CNN authors' first stage: Adam, learning rate and weight decay 1e-4, batches of 16.
    """

    tags: TagSet = "general_midi"
    """The tags to predict. Only general_midi can be learned from a library of stems; the other two are those of the
    published taggers: `timbrel predict FILE --run WEIGHTS.pth --task tagging --config tags=mtg_jamendo`."""
    backbone: BackboneName = "short_chunk_cnn"
    """The network below the classifier; see transfer.backbone of task multi_instrument."""
    mixing: Recipe = WHOLE_SONG
    training: Training = field(default_factory=lambda: Training(epochs=200, decay=1.0))
    front_end: LogMelConfig = field(default_factory=LogMelConfig)
    model: ShortChunkConfig = field(default_factory=ShortChunkConfig)
    lr: Annotated[float, Ge(0)] = 1e-4
    """Learning rate of the whole network."""
    weight_decay: Annotated[float, Ge(0)] = 1e-4
    """Of the whole network."""

    def __post_init__(self) -> None:
        check_input(self.backbone, self.front_end, self.mixing.samples)


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
        return tags_of(config.tags)

    def stem_labels(self, instruments: Sequence[str], programs: np.ndarray, config: TaggingConfig) -> np.ndarray:
        if config.tags != "general_midi":
            raise UserError(f"the stems of a library have no tags of {config.tags}: learn tags=general_midi from them.")
        return programs[:, None] == np.arange(len(PROGRAMS))

    def build_model(self, config: TaggingConfig) -> Classifier:
        tags = len(tags_of(config.tags))
        if config.tags == "general_midi":
            return build_classifier(config.backbone, config.model, config.front_end, config.mixing.sample_rate, tags)
        backbone = build_backbone(config.backbone, config.model)
        front_end = LogMel(input_of(config.backbone, config.front_end), config.mixing.sample_rate)
        return Classifier(front_end, backbone, published_head(backbone, tags))

    def from_weights(
        self, weights: Mapping[str, torch.Tensor], where: str, values: Mapping[str, Any]
    ) -> tuple[TaggingConfig, nn.Module]:
        """Return a published tagger: a CRNN, FCN or Musicnn in its authors' layout.

        ``values`` must say by ``tags`` which data set it was trained on, as the file does not.
        """
        net = published_net(weights)
        if net not in PUBLISHED:
            raise UserError(f"{where} holds none of the published taggers {', '.join(sorted(PUBLISHED))}.")
        if values.get("tags") not in PUBLISHED_TAGS:
            raise UserError(
                f"{where} does not say what its outputs are called: add --config tags=NAME, NAME one of "
                f"{', '.join(PUBLISHED_TAGS)}."
            )
        own = {
            "backbone": net,
            "mixing.sample_rate": SAMPLE_RATE,
            "mixing.seconds": PUBLISHED[net].seconds,  # type: ignore[attr-defined]
        }
        config = with_values(self.config_type(), {**own, **values})
        model = self.build_model(config)
        load_backbone(model, weights, where, head=True)
        return config, model.eval()

    def parameter_groups(self, model: nn.Module, config: TaggingConfig) -> list[dict[str, Any]]:
        return [
            {
                "name": "all",
                "params": list(model.parameters()),
                "lr": config.lr,
                "weight_decay": config.weight_decay,
            }
        ]
