"""What somebody who means harm would hand in."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


class Attack:
    """Writes pickles that would run something, and tells whether they did."""

    def __init__(self, folder: Path) -> None:
        self.marker = folder / "the payload ran"
        self.payload = Payload(self.marker)

    def pickle(self, file: Path, form: str = "zip") -> Path:
        """Write a file of weights as torch writes it now (zip), as it did before (legacy), or a bare pickle."""
        file.parent.mkdir(parents=True, exist_ok=True)
        state = {"spec_bn.weight": torch.zeros(1), "layer": self.payload}
        if form == "bare":
            file.write_bytes(pickle.dumps(state))
        else:
            torch.save(state, file, _use_new_zipfile_serialization=form == "zip")
        return file

    def array(self, file: Path) -> Path:
        """Write a NumPy file that holds a pickle."""
        file.parent.mkdir(parents=True, exist_ok=True)
        content = np.array([self.payload], dtype=object)
        if file.suffix == ".npy":
            np.save(file, content, allow_pickle=True)
        else:
            names = ("classes", "songs", "labels", "scores", "number", "roll", "pitch", "instrument")
            np.savez(file, **dict.fromkeys(names, content))
        return file

    @property
    def ran(self) -> bool:
        return self.marker.exists()


@pytest.fixture
def attack(tmp_path):
    made = Attack(tmp_path)
    yield made
    assert not made.ran
