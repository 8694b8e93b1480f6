"""A small config of task attention_mil, and bags in which one instance says what sounds."""

import numpy as np
import pytest

from tasks.attention_mil import TASK
from timbrel.config import with_values

DIMENSION, INSTANCES = 8, 5


@pytest.fixture(scope="session")
def mil_task():
    return TASK


@pytest.fixture(scope="session")
def small_mil():
    """Make a config of bags of 5 instances of 8 dimensions."""

    def make(**values):
        named = {path.replace("__", "."): value for path, value in values.items()}
        return with_values(
            TASK.config_type(),
            {
                "teacher.dimension": DIMENSION,
                "instances": INSTANCES,
                "training.epochs": 3,
                "training.batches_per_epoch": 4,
                "training.batch_size": 16,
                "teacher.scale": 1.0,
                **named,
            },
        )

    return make


@pytest.fixture(scope="session")
def bags():
    """Make examples whose first two dimensions say, in one instance of each bag, whether the first two classes sound.

    Of the labels of those two about a third was not judged, of the other classes all.
    """

    def make(count, seed=0, judged=0.7):
        generator = np.random.default_rng(seed)
        features = generator.normal(0, 0.1, size=(count, INSTANCES, DIMENSION)).astype(np.float32)
        labels = np.full((count, 20), np.nan, dtype=np.float32)
        present = generator.random((count, 2)) < 0.5
        where = generator.integers(INSTANCES, size=(count, 2))
        for label in range(2):
            features[np.arange(count), where[:, label], label] += 3.0 * present[:, label]
            labels[:, label] = np.where(generator.random(count) < judged, present[:, label], np.nan)
        songs = np.array([f"song {number}" for number in range(count)])
        return {"features": features, "labels": labels, "song": songs, "where": where}

    return make
