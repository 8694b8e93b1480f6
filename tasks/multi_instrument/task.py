"""The classes, model and optimiser of the multi-instrument experiment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from timbrel.errors import UserError
from timbrel.models.backbones import check_input
from timbrel.models.front_end import LogMelConfig
from timbrel.models.short_chunk_cnn import ShortChunkConfig
from timbrel.models.transfer import Classifier, Transfer, build_classifier, load_backbone, transfer_groups
from timbrel.settings import Experiment
from timbrel.task import Task
from timbrel.taxonomy import CLASSES, TAXONOMY


@dataclass(frozen=True, kw_only=True)
class MultiInstrumentConfig(Experiment):
    """Config of task multi_instrument; the defaults are the paper's, from scratch."""

    front_end: LogMelConfig = field(default_factory=LogMelConfig)
    model: ShortChunkConfig = field(default_factory=ShortChunkConfig)
    transfer: Transfer = field(default_factory=Transfer)

    def __post_init__(self) -> None:
        check_input(self.transfer.backbone, self.front_end, self.mixing.samples)


SMALL = {
    "mixing.sample_rate": 16_000,
    "front_end.hop": 256,
    "model.width": 16,
    "training.epochs": 8,
    "training.batches_per_epoch": 20,
    "evaluation.valid_examples": 120,
    "evaluation.test_examples": 240,
}
"""A network an eighth as wide, at half the sample rate, on 2,560 mixtures: a minute on two cores."""

SMOKE = {
    **SMALL,
    "training.epochs": 2,
    "training.batches_per_epoch": 4,
    "evaluation.valid_examples": 32,
    "evaluation.test_examples": 32,
}
"""Only to see the path run."""


PUBLISHED = {
    "mixing.sample_rate": 16_000,
    "mixing.p_musical": 0.6,
    "transfer.backbone": "crnn_conv",
    "training.epochs": 10,
    "training.batches_per_epoch": 60,
    "training.decay_steps": 3,
    "evaluation.valid_examples": 240,
    "evaluation.test_examples": 480,
}
"""A published tagger's convolutions, whose weights transfer.checkpoint names; 600 steps, ten minutes on two cores."""


class MultiInstrument(Task[MultiInstrumentConfig]):
    """Instrument families and instruments heard in a short mixture."""

    name = "multi_instrument"
    summary = "15 instrument families and instruments in 4 s; by transfer learning and mixing"
    config_type = MultiInstrumentConfig
    presets = MappingProxyType({"paper": {}, "published": PUBLISHED, "small": SMALL, "smoke": SMOKE})

    def classes(self, config: MultiInstrumentConfig) -> tuple[str, ...]:
        return CLASSES

    def stem_labels(
        self, instruments: Sequence[str], programs: np.ndarray, config: MultiInstrumentConfig
    ) -> np.ndarray:
        return TAXONOMY.encode_stems(instruments, programs.tolist())

    def build_model(self, config: MultiInstrumentConfig) -> Classifier:
        return build_classifier(
            config.transfer.backbone,
            config.model,
            config.front_end,
            config.mixing.sample_rate,
            len(CLASSES),
            frozen=config.transfer.mode == "frozen",
        )

    def pretrained(self, config: MultiInstrumentConfig) -> str | None:
        transfer = config.transfer
        if transfer.mode == "scratch":
            return None
        if not transfer.checkpoint:
            raise UserError(
                f"transfer.mode={transfer.mode} starts from pre-trained weights: set transfer.checkpoint to the id of "
                "a run of `timbrel train tagging`, or to a file of weights."
            )
        return transfer.checkpoint

    def load_pretrained(
        self, model: nn.Module, config: MultiInstrumentConfig, weights: Mapping[str, torch.Tensor]
    ) -> None:
        assert isinstance(model, Classifier)
        load_backbone(model, weights, config.transfer.checkpoint)

    def parameter_groups(self, model: nn.Module, config: MultiInstrumentConfig) -> list[dict[str, Any]]:
        assert isinstance(model, Classifier)
        return transfer_groups(model, config.transfer)
