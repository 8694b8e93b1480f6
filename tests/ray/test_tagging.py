"""Pre-training on tags, and a run that starts from it by its id, as the command does it."""

from dataclasses import dataclass

import numpy as np
import pytest

from tasks.tagging.task import tags_of
from timbrel import registry
from timbrel.config import with_values
from timbrel.experiment import train_once
from timbrel.launch import Workplace
from timbrel.library import Library
from timbrel.prepare import prepare
from timbrel.sources import Found, Performance, Song, Stem
from timbrel.tracking import Tracker
from timbrel.trained import TrainedModel

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

RATE_HZ = 16_000
TAGS = tags_of("mtg_jamendo")
SHARED = {
    "mixing.sample_rate": RATE_HZ,
    "mixing.seconds": 2.1,
    "model.width": 2,
    "training.batches_per_epoch": 2,
    "training.batch_size": 4,
    "evaluation.valid_examples": 12,
    "evaluation.test_examples": 12,
}


@dataclass(frozen=True)
class Options:
    """A source needs some."""


@dataclass(frozen=True)
class Tone:
    """A recording; the stems of a source must pickle."""

    hz: float

    def __call__(self):
        return Performance(0.3 * np.sin(self.hz * np.arange(4 * RATE_HZ) / RATE_HZ, dtype=np.float32)[None], RATE_HZ)


class Tagged:
    """Songs with two tags each, of data that was judged on all 50."""

    name, summary, needs_path, options_type = "tagged", "for tests", False, Options

    def find(self, path, options):
        songs = [
            Song(
                f"song {number}",
                (Stem("mix", "mix", Tone(1000.0 + 500 * number)),),
                split=("train", "valid", "test")[number % 3],
                tags={TAGS[number]: 1.0, TAGS[40]: 1.0 if number > 5 else 0.0},
            )
            for number in range(12)
        ]
        return Found(songs, len(songs), vocabulary=TAGS)


def test_instruments_are_learned_from_a_run_on_tags(ray_cluster, composed_library, tmp_path):
    prepare(Tagged(), None, composed_library, Options())
    tracker = Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}")
    place = Workplace(Library.open(composed_library), tracker, tmp_path / "runs")
    tagging, instruments = registry.load("task", "tagging"), registry.load("task", "multi_instrument")
    own = {
        "tags": "mtg_jamendo",
        "data.datasets": ("tagged",),
        "training.epochs": 3,
        "training.switches": (1, 2),
        "lr": 1e-3,
    }
    first = train_once(tagging, with_values(tagging.config_type(), {**SHARED, **own}), place)
    figures = tracker.get(first).data.metrics
    rates = tracker.history(first, "train/learning_rate")
    np.testing.assert_allclose([rates[epoch] for epoch in (1, 2, 3)], [1e-3, 1e-2, 1e-3])
    assert 0 <= figures["test/roc_auc_macro"] <= 1
    assert figures["test/support/instrument---violin"] == 0
    assert "test/roc_auc/instrument---violin" not in figures

    other = {
        "data.datasets": ("house_band",),
        "training.epochs": 1,
        "transfer.mode": "frozen",
        "transfer.checkpoint": first,
    }
    second = train_once(instruments, with_values(instruments.config_type(), {**SHARED, **other}), place)
    with tracker.artifacts(first, "model") as one, tracker.artifacts(second, "model") as two:
        pretrained, trained = TrainedModel.load(one).weights, TrainedModel.load(two).weights
    backbone = [name for name in pretrained if not name.startswith("head.")]
    assert len(backbone) > 20
    for name in backbone:
        np.testing.assert_array_equal(pretrained[name].numpy(), trained[name].numpy(), err_msg=name)
