"""Small data sets in the layouts of the large ones."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from upath import UPath

from timbrel import registry
from timbrel.config import with_values
from timbrel.library import Library
from timbrel.mixing.index import build_index
from timbrel.mixing.pool import Stream, mix
from timbrel.training.loop import Learner


@pytest.fixture(scope="session")
def layouts():
    """Return a folder of real metadata and miniatures of public data sets, where one is at hand."""
    root = os.environ.get("TIMBREL_LAYOUTS")
    if not root:
        pytest.skip("TIMBREL_LAYOUTS names no folder of the data sets' own metadata")
    return Path(root)


@pytest.fixture
def write_tone():
    """Write a file that holds a tone, and return its path; the format is that of its name."""

    def write(path, hz=220.0, seconds=1.0, sample_rate=44_100, channels=2):
        path.parent.mkdir(parents=True, exist_ok=True)
        tone = 0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * sample_rate)) / sample_rate)
        soundfile.write(path, np.tile(tone[:, None], (1, channels)), sample_rate)
        return path

    return write


@pytest.fixture
def in_bucket(tmp_path):
    """Copy a folder into a bucket, for which a file system in memory stands, and return where it is."""

    def copy(folder):
        bucket = UPath(f"memory://{tmp_path.name}") / folder.name
        for file in folder.rglob("*"):
            if file.is_file():
                there = bucket / file.relative_to(folder).as_posix()
                there.parent.mkdir(parents=True, exist_ok=True)
                there.write_bytes(file.read_bytes())
        return bucket

    return copy


@pytest.fixture
def pianoroll_step():
    """Take a training step of task pianoroll on a prepared library; return the examples and the terms of the loss."""

    def step(root):
        task = registry.load("task", "pianoroll")
        values = {"model.width": 2, "mixing.seconds": 4.096, "front_end.engine": "librosa", "training.batch_size": 4}
        config = with_values(task.config_type(), {**task.presets["smoke"], **values})
        index = build_index(Library.open(root), "train", task, config)
        stream = Stream(index, config.mixing, 0, "train", maker=task.example_maker(config))
        columns = mix(stream, index, range(4))
        return columns, Learner(task, config, torch.device("cpu")).train_epoch([columns])

    return step
