"""A small config of task pianoroll, and examples of tones whose notes are known by construction."""

import numpy as np
import pytest

from timbrel import registry
from timbrel.config import with_values
from timbrel.mixing.notes import Notes

PIANO, VIOLIN, FLUTE = range(3)


@pytest.fixture(scope="session")
def roll_task():
    return registry.load("task", "pianoroll")


@pytest.fixture(scope="session")
def tiny_rolls(roll_task):
    """Three instruments, segments of 2.048 s (64 frames of the CQT, 32 of the roll), a network an eighth as wide."""
    values = {
        "instruments": ("piano", "violin", "flute"),
        "mixing.seconds": 2.048,
        "front_end.engine": "librosa",
        "model.width": 4,
        "loss.positive_weight": 3.0,
        "training.optimizer": "adam",
        "training.precision": "float32",
        "training.epochs": 6,
        "training.batch_size": 4,
        "training.decay": 1.0,
        "lr": 0.01,
    }
    return with_values(roll_task.config_type(), values)


@pytest.fixture(scope="session")
def tones(roll_task, tiny_rolls):
    """Make examples as the mixing actors do, of two notes each and some noise: the piano is a sine, the violin has odd
    harmonics."""

    def make(count, seed=0, config=tiny_rolls):
        generator = np.random.default_rng(seed)
        samples, rate = config.mixing.samples, config.mixing.sample_rate
        time_s = np.arange(samples) / rate
        audio = generator.normal(scale=0.002, size=(count, samples)).astype(np.float32)
        notes, labels = [], np.zeros((count, 3), dtype=np.float32)
        for number in range(count):
            classes, pitches = np.arange(2), generator.choice(np.arange(48, 84), 2, replace=False)
            onsets = generator.uniform(0, 0.8, 2)
            times = np.stack([onsets, onsets + generator.uniform(0.5, 1.2, 2)], axis=1)
            for label, pitch, (onset, offset) in zip(classes, pitches, times, strict=True):
                phase = 2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * time_s
                wave = np.sin(phase) + (label == VIOLIN) * (np.sin(3 * phase) / 2 + np.sin(5 * phase) / 4)
                audio[number] += 0.2 * wave * ((time_s >= onset) & (time_s < offset))
            notes.append(Notes(times, pitches.astype(np.int64), classes.astype(np.int64)))
            labels[number, classes] = 1
        songs = np.array([f"song {number % 4}" for number in range(count)])
        return {**roll_task.example_maker(config)(audio, notes), "labels": labels, "song": songs}

    return make
