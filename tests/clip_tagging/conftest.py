"""Configs of task clip_tagging, and batches of noise with labels that are partly NaN."""

import pytest
import torch

from tasks.clip_tagging import TASK, ClipTaggingConfig
from timbrel.config import with_values


@pytest.fixture(scope="session")
def settings_of():
    """Return the config of a preset with some values changed: ``front_end__bands=64``."""

    def make(preset="paper", **values):
        changed = {path.replace("__", "."): value for path, value in values.items()}
        return with_values(ClipTaggingConfig(), {**TASK.presets[preset], **changed})

    return make


@pytest.fixture
def batch_of():
    """Make noise, labels of which two thirds were not judged, and embeddings of ten frames."""

    def make(config, examples=4, dimension=6, seed=0):
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(0, 2, (examples, len(TASK.classes(config))), generator=generator).float()
        labels[torch.rand(labels.shape, generator=generator) < 2 / 3] = torch.nan
        return {
            "audio": 0.1 * torch.randn(examples, config.mixing.samples, generator=generator),
            "labels": labels,
            "teacher": torch.randn(examples, 10, dimension, generator=generator),
        }

    return make
