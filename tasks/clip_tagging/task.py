"""The classes, networks and figures of weakly labelled clips."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from tasks.clip_tagging.augmentation import augmented
from tasks.clip_tagging.config import ClipTaggingConfig
from tasks.clip_tagging.model import TeacherLR, build_student
from tasks.clip_tagging.systems import MAGNATAGATUNE, SYSTEMS, TRAINING_OF_TEACHER_LR, teacher_values
from timbrel import metrics
from timbrel.clip_labels import clip_labels, openmic_of_programs, vocabulary
from timbrel.errors import UserError
from timbrel.outputs import Outputs
from timbrel.tags import JudgedSong
from timbrel.task import Task
from timbrel.teaching.config import PUBLISHED

OPENMIC_THRESHOLD = 0.4
"""Of ``openmic_f1``, as the authors decide."""

SMALL = {
    "system": "baseline",
    "student": "small",
    "mixing.sample_rate": 16_000,
    "front_end.bands": 64,
    "front_end.fft": 512,
    "front_end.window": 400,
    "augmentation.mixup": 0.0,
    "augmentation.low_jitter_hz": 0,
    "augmentation.high_jitter_hz": 0,
    "augmentation.band_mask": 0,
    "augmentation.frame_mask": 0,
    "teacher.name": "musicnn",
    "teacher.student_repeat": (),
    "teacher.teacher_repeat": (),
    "lr": 0.01,
    "training.schedule": "decay",
    "training.epochs": 12,
    "training.batches_per_epoch": 50,
    "training.decay": 0.3,
    "training.decay_steps": 3,
}
"""A student of 23,000 parameters: minutes on two cores. Without augmentation, for which so short a run is too short."""

SMOKE = {
    **SMALL,
    "width": 4,
    "mixing.seconds": 2.0,
    "training.epochs": 2,
    "training.batches_per_epoch": 4,
    "evaluation.valid_examples": 32,
    "evaluation.test_examples": 32,
}
"""Only to see the path run."""


def _presets() -> dict[str, dict[str, Any]]:
    """Return the published settings by name: of each system, of each teacher, of both data sets."""
    presets: dict[str, dict[str, Any]] = {"paper": {}}
    presets |= {system: {"system": system} for system in SYSTEMS if system != "custom"}
    presets["teacher_lr"] |= TRAINING_OF_TEACHER_LR
    presets |= {name: teacher_values("openmic", name) for name in PUBLISHED}
    presets["magnatagatune"] = {**MAGNATAGATUNE, **teacher_values("magnatagatune", "passt")}
    for name in PUBLISHED:
        presets[f"magnatagatune_{name}"] = {**MAGNATAGATUNE, **teacher_values("magnatagatune", name)}
    return presets | {"small": SMALL, "smoke": SMOKE}


class ClipTagging(Task[ClipTaggingConfig]):
    """What is heard in a clip of which few things are known."""

    name = "clip_tagging"
    summary = "instruments or tags of weakly labelled clips, with embeddings as teachers (EAsT; Ding and Lerch, 2023)"
    config_type = ClipTaggingConfig
    presets = MappingProxyType(_presets())
    headline = MappingProxyType({"mAP": "pr_auc_macro", "OpenMIC F1": "openmic_f1"})

    def classes(self, config: ClipTaggingConfig) -> tuple[str, ...]:
        return vocabulary(config.vocabulary)

    def stem_labels(self, instruments: Sequence[str], programs: np.ndarray, config: ClipTaggingConfig) -> np.ndarray:
        return openmic_of_programs(programs)

    def song_labels(self, songs: Sequence[JudgedSong], config: ClipTaggingConfig) -> np.ndarray | None:
        labels = clip_labels(songs, self.classes(config), half="unjudged")
        if not np.isnan(labels).all():
            return labels
        if config.vocabulary == "openmic":
            return None
        raise UserError(
            f"no song was judged on a tag of {config.vocabulary}: name by data.datasets data sets that were, or give "
            "vocabulary=openmic, which knows the instruments of stems."
        )

    def hears_embeddings(self, config: ClipTaggingConfig) -> bool:
        return config.system == "teacher_lr"

    def build_model(self, config: ClipTaggingConfig) -> nn.Module:
        classes = len(self.classes(config))
        if not self.hears_embeddings(config):
            return build_student(config, classes)
        if not config.teacher.dimension:
            raise ValueError("expected teacher.dimension, that of the teacher's embeddings, to be filled in")
        return TeacherLR(config.teacher.dimension, classes)

    def augmented(self, batch: dict[str, torch.Tensor], config: ClipTaggingConfig) -> dict[str, torch.Tensor]:
        return batch if self.hears_embeddings(config) else augmented(batch, config)

    def parameter_groups(self, model: nn.Module, config: ClipTaggingConfig) -> list[dict[str, Any]]:
        decay = 0.0 if self.hears_embeddings(config) else config.weight_decay
        params = list(model.parameters())
        return [{"name": "all", "params": params, "lr": config.effective_lr, "weight_decay": decay}]

    def answer(self, config: ClipTaggingConfig) -> str:
        if not self.hears_embeddings(config):
            return super().answer(config)
        return (
            f"Which of {len(self.classes(config))} classes (`labels.txt`) are heard in a clip, from its embedding by "
            f"{config.teacher.name}: (time, {config.teacher.dimension})."
        )

    def evaluate(
        self, outputs: Outputs, thresholds: Mapping[str, float], config: ClipTaggingConfig
    ) -> dict[str, float]:
        """Return the figures that all tasks have, ``pr_auc_macro`` (mAP) and ``roc_auc_macro`` among them; and, of
        OpenMIC, ``openmic_f1``."""
        figures = super().evaluate(outputs, thresholds, config)
        if config.vocabulary != "openmic":
            return figures
        both = metrics.both_sides_f1(outputs.labels, outputs.scores, OPENMIC_THRESHOLD)
        return figures | {"openmic_f1": metrics.macro(both)}
