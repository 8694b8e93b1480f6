"""Bags of embeddings, weak labels, and what is asked of a model that learns from them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from tasks.attention_mil.config import AttentionMilConfig
from tasks.attention_mil.forest import Forest
from tasks.attention_mil.losses import judged_cross_entropy
from tasks.attention_mil.model import BagNet, build_network, unpacked
from tasks.attention_mil.predictor import AttentionPredictor
from timbrel import metrics
from timbrel.clip_labels import clip_labels, openmic_of_programs, vocabulary
from timbrel.errors import UserError
from timbrel.figures import attention_figure
from timbrel.outputs import Outputs
from timbrel.tags import JudgedSong
from timbrel.task import Task

PICTURES = 3
"""Clips of the test split that are drawn, each of another song."""
OPENMIC_THRESHOLD = 0.5
"""From which the figures as OpenMIC defines them count a class as present."""

SMALL = {
    "training.epochs": 20,
    "training.batches_per_epoch": 40,
    "training.batch_size": 32,
}
"""For libraries of some hundred clips: a minute."""

SMOKE = {
    "training.epochs": 2,
    "training.batches_per_epoch": 4,
    "training.batch_size": 8,
    "evaluation.valid_examples": 32,
    "evaluation.test_examples": 32,
}
"""Only to see the path run."""

ONCE = {"training.epochs": 1, "training.batches_per_epoch": 495}
"""Five times as many draws as there are clips: all but 1 in 150 are among them."""


class AttentionMil(Task[AttentionMilConfig]):
    """Which instruments sound in a clip, and which of its seconds say so."""

    name = "attention_mil"
    summary = "instruments of a clip from weak labels, by attention over embeddings (Gururani et al., ISMIR 2019)"
    config_type = AttentionMilConfig
    presets = MappingProxyType(
        {
            "paper": {},
            **{name: {"model": name, "training.epochs": 100} for name in ("mean", "fc", "fc_t", "rnn")},
            "random_forest": {"model": "random_forest", **ONCE},
            "small": SMALL,
            "smoke": SMOKE,
        }
    )
    headline = MappingProxyType({"OpenMIC F1": "openmic_f1"})
    given_later = ("teacher.weights",)
    predictor = AttentionPredictor()

    def classes(self, config: AttentionMilConfig) -> tuple[str, ...]:
        return vocabulary(config.vocabulary)

    def hears_embeddings(self, config: AttentionMilConfig) -> bool:
        """Return whether a model is given embeddings instead of sound: always."""
        return True

    def stem_labels(self, instruments: Sequence[str], programs: np.ndarray, config: AttentionMilConfig) -> np.ndarray:
        if config.vocabulary == "openmic":
            return openmic_of_programs(programs)
        return np.zeros((len(programs), len(self.classes(config))), dtype=bool)

    def song_labels(self, songs: Sequence[JudgedSong], config: AttentionMilConfig) -> np.ndarray | None:
        labels = clip_labels(songs, self.classes(config))
        if len(labels) and np.isnan(labels).all():
            names = ", ".join(sorted({song.dataset for song in songs}))
            raise UserError(
                f"nobody judged the songs of {names} on any class of {config.vocabulary}: name by data.datasets data "
                "sets that were judged, or by vocabulary what they were judged on."
            )
        return labels

    def build_model(self, config: AttentionMilConfig) -> BagNet:
        if not config.teacher.dimension:
            raise UserError(
                f"the size of the embeddings '{config.teacher.name}' is not known: it is filled in from the library, "
                "or set teacher.dimension (128 for vggish)."
            )
        classes = len(self.classes(config))
        if config.model == "random_forest":
            return Forest(config.teacher.dimension, classes)
        return build_network(config.model, config.instances, config.teacher.dimension, classes, config.drops)

    def parameter_groups(self, model: nn.Module, config: AttentionMilConfig) -> list[dict[str, Any]]:
        rates = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
        return [{"name": "all", "params": list(model.parameters()), **rates}]

    def fit(
        self, model: nn.Module, batches: Iterable[Mapping[str, np.ndarray]], config: AttentionMilConfig
    ) -> dict[str, float]:
        """Fit a forest to an epoch's examples, and return figures as ``Learner.train_epoch`` does.

        A forest is grown from all clips that it was given so far, each counted once, and left as it is by an epoch
        that brings hardly any new ones: so many epochs cost little more than the first few.
        """
        assert isinstance(model, Forest)
        return model.fit_stream(batches, config.forest, config.seed)

    def losses(
        self, outputs: torch.Tensor, batch: Mapping[str, torch.Tensor], config: AttentionMilConfig
    ) -> dict[str, torch.Tensor]:
        probabilities, _ = unpacked(outputs)
        return {"loss": judged_cross_entropy(probabilities, batch["labels"])}

    def predictions(self, outputs: torch.Tensor) -> dict[str, torch.Tensor]:
        probabilities, attention = unpacked(outputs)
        return {"scores": probabilities, "attention": attention}

    def outputs(
        self, examples: Mapping[str, np.ndarray], predictions: Mapping[str, np.ndarray], config: AttentionMilConfig
    ) -> Outputs:
        found = super().outputs(examples, predictions, config)
        attention = predictions["attention"]
        return replace(found, more={"attention": attention}) if attention.shape[-1] else found

    def evaluate(
        self, outputs: Outputs, thresholds: Mapping[str, float], config: AttentionMilConfig
    ) -> dict[str, float]:
        """Return the usual figures, and those of "present" and "absent" alike that are usual with OpenMIC."""
        judged = outputs.labels, outputs.scores, OPENMIC_THRESHOLD
        own = {
            "openmic_f1": metrics.both_sides_f1(*judged),
            "openmic_precision": metrics.both_sides_precision(*judged),
            "openmic_recall": metrics.both_sides_recall(*judged),
        }
        return super().evaluate(outputs, thresholds, config) | {
            name: metrics.macro(values) for name, values in own.items()
        }

    def pictures(self, outputs: Outputs, thresholds: Mapping[str, float], config: AttentionMilConfig) -> dict[str, Any]:
        if "attention" not in outputs.more:
            return {}
        attention = outputs.more["attention"]
        at = np.array([thresholds[name] for name in outputs.classes])
        return {
            f"attention_{number}": attention_figure(
                attention[row],
                outputs.classes,
                outputs.scores[row],
                config.instance_s(attention.shape[-1]),
                thresholds=at,
                truth=outputs.labels[row],
                title=f"{outputs.songs[row]}: attention over the clip",
            )
            for number, row in enumerate(_telling(outputs), start=1)
        }

    def answer(self, config: AttentionMilConfig) -> str:
        teacher = config.teacher
        offset, scale = teacher.normalisation
        return (
            f"Which of {len(self.classes(config))} classes (`labels.txt`) are heard in {config.mixing.seconds:g} s of "
            f"sound, given as its embeddings `{teacher.name}`: (value - {offset:g}) * {scale:.6g}, "
            f"float32 of shape (time, {config.teacher.dimension})."
        )

    def usage(self, config: AttentionMilConfig) -> str:
        if config.model != "attention":
            return ""
        return (
            "\nHow much each embedding counts for each class, `bags` of shape (time, dimension) each:\n\n"
            '    for found in model.predictions(bags):\n        found["scores"], found["attention"]  '
            "# (class,), (class, time)\n"
        )


def _telling(outputs: Outputs) -> list[int]:
    """Return the rows of a few clips, each of another song, of which most is known to sound."""
    present = np.nansum(outputs.labels, axis=1)
    rows: dict[str, int] = {}
    for row in np.argsort(-present, kind="stable"):
        rows.setdefault(str(outputs.songs[row]), int(row))
    return list(rows.values())[:PICTURES]


TASK = AttentionMil()
