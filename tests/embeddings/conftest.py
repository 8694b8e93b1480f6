"""A library to write to, and a teacher whose answers can be worked out by hand."""

import shutil
from dataclasses import dataclass, field

import numpy as np
import pytest

from timbrel.embeddings.sound import SongSound
from timbrel.errors import UserError
from timbrel.library import Library


@dataclass
class LevelTeacher:
    """The RMS and the peak of each second."""

    name: str = "level"
    sample_rate: int = 8_000
    dimension: int = 2
    hop_s: float = 1.0
    weights: str = "none"
    digest: str = "0"
    dtype: str = "<f4"
    settings: dict = field(default_factory=dict)
    fails: tuple = ()
    heard: list = field(default_factory=list)

    def __call__(self, audio):
        seconds = audio[: len(audio) // self.sample_rate * self.sample_rate].reshape(-1, self.sample_rate)
        return np.stack([np.sqrt((seconds**2).mean(axis=1)), np.abs(seconds).max(axis=1)], axis=1).astype(np.float32)

    def of_song(self, song: SongSound):
        self.heard.append(song.name)
        for name, error in self.fails:
            if name == song.name:
                raise error
        return self(np.concatenate(list(song.blocks(self.sample_rate))))


@pytest.fixture
def library(tone_library, tmp_path):
    shutil.copytree(tone_library, tmp_path / "library")
    return Library.open(tmp_path / "library")


@pytest.fixture
def level():
    return LevelTeacher()


@pytest.fixture
def failing():
    return LevelTeacher(fails=(("song 3", UserError("its sound is odd")), ("song 5", ValueError("no\nidea"))))
