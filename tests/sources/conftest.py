"""Small data sets in the layouts of the large ones."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from upath import UPath


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
