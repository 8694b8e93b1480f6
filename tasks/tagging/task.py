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

from timbrel.clip_labels import vocabulary
from timbrel.config import with_values
from timbrel.errors import UserError
from timbrel.mixing.recipe import Recipe, whole_song
from timbrel.models.backbones import PUBLISHED, BackboneName, build_backbone, check_input, input_of
from timbrel.models.front_end import LogMel, LogMelConfig
from timbrel.models.published import SAMPLE_RATE, published_head, published_net
from timbrel.models.short_chunk_cnn import ShortChunkConfig
from timbrel.models.transfer import Classifier, build_classifier, load_backbone
from timbrel.settings import Experiment, Training
from timbrel.tags import JudgedSong
from timbrel.task import Task

DRUMS = 128
PROGRAMS = (*(pretty_midi.program_to_instrument_name(program) for program in range(DRUMS)), "Drum Kit")

TagSet = Literal["general_midi", "mtg_jamendo", "magnatagatune"]
PUBLISHED_TAGS: tuple[TagSet, ...] = ("mtg_jamendo", "magnatagatune")
"""Those that published taggers answer with, and data sets of tagged recordings are judged on."""
PRESENT = 0.5
"""From this likelihood on a tag is there. MTG-Jamendo and MagnaTagATune have 0 and 1 alone."""


@cache
def tags_of(tag_set: TagSet) -> tuple[str, ...]:
    """Return the names of a set's tags in the order of a network's outputs.

    ``general_midi``: the 128 programs and the drum kit. ``mtg_jamendo`` and ``magnatagatune``: the 50 most frequent
    tags, in the order of the published taggers' outputs, which is alphabetical with the category in front for the one
    and by frequency for the other.
    """
    if tag_set == "general_midi":
        return PROGRAMS
    if tag_set == "magnatagatune":
        return vocabulary(tag_set)
    return tuple(resources.files("tasks.tagging").joinpath(f"{tag_set}.txt").read_text().split("\n")[:50])


WHOLE_SONG = whole_song()
"""A clip of the song as it is: every stem, no effect."""


@dataclass(frozen=True, kw_only=True)
class TaggingConfig(Experiment):
    """Config of task tagging.

    The CNN authors' schedule: 200 epochs of batches of 16; Adam, learning rate and weight decay 1e-4, after 80 epochs
    SGD at 1e-3, from 100 on 1e-4, from 120 on 1e-5. Their epoch is a random chunk of each song; here it has a fixed
    number of batches, of random chunks of random songs.
    """

    tags: TagSet = "general_midi"
    """The tags to predict: mtg_jamendo or magnatagatune, the 50 most frequent tags of either, from a library of songs
    that were judged on them; general_midi from one whose stems have programs."""
    backbone: BackboneName = "short_chunk_cnn"
    """The network below the classifier; see transfer.backbone of task multi_instrument."""
    mixing: Recipe = WHOLE_SONG
    training: Training = field(default_factory=lambda: Training(epochs=200, schedule="two_stage", decay=1.0))
    front_end: LogMelConfig = field(default_factory=LogMelConfig)
    model: ShortChunkConfig = field(default_factory=ShortChunkConfig)
    lr: Annotated[float, Ge(0)] = 1e-4
    """Learning rate of the whole network."""
    weight_decay: Annotated[float, Ge(0)] = 1e-4
    """Of the whole network."""
    start_from: str = ""
    """Where training starts from: the id of a run of this platform, or a file of weights, for instance the authors' of
    a published tagger (backbone and mixing.sample_rate=16000 to match); empty: from scratch."""
    start_head: bool = False
    """Start from its classifier too, which must be of the same tags; otherwise the classifier starts anew."""

    def __post_init__(self) -> None:
        check_input(self.backbone, self.front_end, self.mixing.samples)


SMALL = {
    "mixing.sample_rate": 16_000,
    "model.width": 16,
    "lr": 3e-3,
    "training.schedule": "decay",
    "training.epochs": 8,
    "training.batches_per_epoch": 20,
    "training.decay": 0.3,
    "training.decay_steps": 3,
}
"""The network of multi_instrument's preset of the same name; learning rates that suit so short a run."""

SMOKE = {
    **SMALL,
    "training.epochs": 2,
    "training.batches_per_epoch": 4,
    "evaluation.valid_examples": 32,
    "evaluation.test_examples": 32,
}


class Tagging(Task[TaggingConfig]):
    """Which tags a clip's song has."""

    name = "tagging"
    summary = "pre-training: the 50 tags of MTG-Jamendo or MagnaTagATune, or which General MIDI programs sound"
    config_type = TaggingConfig
    presets = MappingProxyType({"paper": {}, "small": SMALL, "smoke": SMOKE})

    def classes(self, config: TaggingConfig) -> tuple[str, ...]:
        return tags_of(config.tags)

    def stem_labels(self, instruments: Sequence[str], programs: np.ndarray, config: TaggingConfig) -> np.ndarray:
        return programs[:, None] == np.arange(len(PROGRAMS))

    def song_labels(self, songs: Sequence[JudgedSong], config: TaggingConfig) -> np.ndarray | None:
        if config.tags == "general_midi":
            return None
        tags = tags_of(config.tags)
        values = np.array([[song.value(tag) for tag in tags] for song in songs]).reshape(-1, len(tags))
        unknown = np.isnan(values)
        if unknown.any():
            number = int(unknown.any(axis=1).argmax())
            song, missing = songs[number], tags[int(unknown[number].argmax())]
            if unknown[number].all():
                raise UserError(
                    f"the stems of a library have no tags of {config.tags}: learn tags=general_midi from them, or name "
                    f"by data.datasets data sets that have ('{song.dataset}' has none)."
                )
            raise UserError(
                f"the songs of '{song.dataset}' were not judged on the tag '{missing}' of {config.tags} ('{song.name}' "
                "for one): name by data.datasets data sets that were."
            )
        return values >= PRESENT

    def build_model(self, config: TaggingConfig) -> Classifier:
        tags = len(tags_of(config.tags))
        if config.tags == "general_midi" or not getattr(PUBLISHED.get(config.backbone), "classifier", None):
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
            "mixing.seconds": PUBLISHED[net].seconds,  # type: ignore[attr-defined]  # of each class there
        }
        config = with_values(self.config_type(), {**own, **values})
        model = self.build_model(config)
        load_backbone(model, weights, where, head=True)
        return config, model.eval()

    def pretrained(self, config: TaggingConfig) -> str | None:
        return config.start_from or None

    def load_pretrained(self, model: nn.Module, config: TaggingConfig, weights: Mapping[str, torch.Tensor]) -> None:
        assert isinstance(model, Classifier)
        load_backbone(model, weights, config.start_from, head=config.start_head)

    def parameter_groups(self, model: nn.Module, config: TaggingConfig) -> list[dict[str, Any]]:
        return [
            {
                "name": "all",
                "params": list(model.parameters()),
                "lr": config.lr,
                "weight_decay": config.weight_decay,
            }
        ]
