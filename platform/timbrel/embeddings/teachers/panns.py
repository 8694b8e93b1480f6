"""PANNs: 2,048 numbers a clip, of Cnn14.

Source: Kong et al., "PANNs: large-scale pretrained audio neural networks for audio pattern recognition" (TASLP 2020),
in its author's ``panns_inference`` (MIT). A clip of up to 30 s is heard as a whole, a longer song in pieces of 30 s,
whose mean it is, each weighted by its length.
"""

import importlib
import importlib.util
import sys
import types
from collections.abc import Iterable

import numpy as np
import torch

from timbrel.embeddings.teachers.network import NetworkTeacher
from timbrel.embeddings.teachers.packaged import Packaged, package
from timbrel.recording import windows_of

LEAST_S = 1.0
"""A shorter clip is heard with silence after it: five poolings need something to halve."""


class PannsTeacher(NetworkTeacher):
    """Hears a clip as a whole."""

    def of_blocks(self, blocks: Iterable[np.ndarray]) -> np.ndarray:
        """Return the one vector of a recording: ``(1, 2048)``."""
        piece = round(self.window_s * self.sample_rate)
        lengths: list[int] = []
        windows = windows_of(_counted(blocks, lengths), piece, piece)
        vectors, weights = [], []
        for number, window in enumerate(windows):
            # How long the last piece is, is known once it is there.
            seconds = min(piece, sum(lengths) - number * piece)
            heard = window[: max(seconds, round(LEAST_S * self.sample_rate))]
            vectors.append(self.vectors(heard[None])[0])
            weights.append(seconds)
        if not vectors:
            return np.zeros((0, self.dimension), dtype=np.float32)
        return np.average(vectors, axis=0, weights=weights).astype(np.float32)[None]


class Cnn14(Packaged):
    """Waveforms at 32 kHz ``(batch, sample)`` to ``(batch, 2048)``."""

    name = "panns"
    sample_rate = 32_000
    dimension = 2048
    hop_s = 0.0
    window_s = 30.0
    file = "Cnn14_mAP=0.431.pth"
    where = "Zenodo (record 3987831)"
    kind = PannsTeacher

    def __init__(self) -> None:
        super().__init__()
        with package(self.name):
            models = _models()
        self.network = models.Cnn14(
            sample_rate=self.sample_rate,
            window_size=1024,
            hop_size=320,
            mel_bins=64,
            fmin=50,
            fmax=14_000,
            classes_num=527,
        )

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Return what lies below the network's classifier."""
        return self.network(windows)["embedding"]


load = Cnn14.load


def _counted(blocks: Iterable[np.ndarray], lengths: list[int]) -> Iterable[np.ndarray]:
    for block in blocks:
        lengths.append(len(block))
        yield block


def _models() -> types.ModuleType:
    """Return the package's module of networks, without its own ``__init__``, which downloads a list of labels."""
    name = "panns_inference"
    if f"{name}.models" in sys.modules:
        return sys.modules[f"{name}.models"]
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ImportError(f"No module named '{name}'")
    hollow = types.ModuleType(name)
    hollow.__path__ = list(spec.submodule_search_locations or ())
    sys.modules[name] = hollow
    try:
        return importlib.import_module(f"{name}.models")
    finally:
        del sys.modules[name]
