"""Teachers that are networks: they hear a song window by window."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from timbrel.embeddings.sound import SongSound
from timbrel.errors import UserError
from timbrel.recording import windows_of

BATCH = 16
BATCH_S = 64.0
"""Windows, and seconds of them, that a network hears at a time: 64 s of spectrogram are some hundred MB in a CNN."""


@dataclass
class NetworkTeacher:
    """A network that maps windows ``(batch, sample)`` to vectors ``(batch, dimension)``; see ``teachers.Teacher``."""

    name: str
    network: nn.Module
    sample_rate: int
    dimension: int
    hop_s: float
    window_s: float
    """Length of a window."""
    weights: str
    """Name of the file, or id of the run."""
    digest: str
    """Of the weights."""
    whole: bool = False
    """Windows begin where their hop does, and what the end of a song cuts off is left out; otherwise a window lies
    around the middle of its hop, silence beyond the ends."""
    dtype: str = "<f4"
    """In which the values are stored."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What else the values depend on."""
    least_samples: int = 1
    """Without which the network can't hear anything."""

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        """Return the embedding of mono audio ``(sample,)``: float32 ``(time, dimension)``."""
        return self.of_blocks([audio])

    def of_song(self, song: SongSound) -> np.ndarray:
        """Return the embedding of a song: float32 ``(time, dimension)``.

        Raises:
            UserError: its sound can't be read.
        """
        return self.of_blocks(song.blocks(self.sample_rate))

    def of_blocks(self, blocks: Iterable[np.ndarray]) -> np.ndarray:
        """Return the embedding of a recording that comes block by block."""
        hop, samples = round(self.hop_s * self.sample_rate), round(self.window_s * self.sample_rate)
        windows = windows_of(blocks, hop, samples, whole=self.whole)
        size = max(1, min(BATCH, int(BATCH_S / self.window_s)))
        found = [self.vectors(np.stack(batch)) for batch in _batches(windows, size)]
        return np.concatenate(found) if found else np.zeros((0, self.dimension), dtype=np.float32)

    def vectors(self, windows: np.ndarray) -> np.ndarray:
        """Return the vector of each window: ``(batch, sample)`` to float32 ``(batch, dimension)``."""
        with torch.inference_mode():
            heard = torch.from_numpy(np.ascontiguousarray(windows, dtype=np.float32)).to(self._device)
            return self._placed(heard).float().cpu().numpy()

    @cached_property
    def _device(self) -> torch.device:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def _placed(self) -> nn.Module:
        return self.network.eval().to(self._device)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_device", "_placed")}


class Penultimate(nn.Module):
    """What the last linear layer of a classifier hears: waveform ``(batch, sample)`` to ``(batch, dimension)``."""

    def __init__(self, model: nn.Module, last: nn.Linear) -> None:
        super().__init__()
        self.model, self.last = model, last

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """Run the whole network and keep what reaches its last layer."""
        heard: list[torch.Tensor] = []
        with self.last.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0])):
            self.model(waveform)
        # A layer that is heard at each of several frames: their mean.
        return heard[-1].flatten(1, -2).mean(dim=1) if heard[-1].ndim > 2 else heard[-1]


def last_linear(head: nn.Module) -> nn.Linear | None:
    """Return the last linear layer of a head, or None if it has none."""
    return next((layer for layer in reversed(list(head.modules())) if isinstance(layer, nn.Linear)), None)


def digest_of(weights: Mapping[str, Any]) -> str:
    """Return a hash of a ``state_dict``."""
    total = hashlib.sha256()
    for name in sorted(weights):
        if isinstance(weights[name], torch.Tensor):
            total.update(name.encode())
            total.update(weights[name].detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:16]


def given_weights(weights: str, name: str, file: str, where: str) -> Path:
    """Return the file of weights that the user gave.

    Raises:
        UserError: none was given, or it is not there.
    """
    advice = f"get {file} from {where} and give it as --weights FILE"
    if not weights:
        raise UserError(f"teacher {name} needs its weights: {advice}.")
    path = Path(weights).expanduser()
    if not path.is_file():
        raise UserError(f"there is no file of weights {path} for teacher {name}: {advice}.")
    return path


def _batches(windows: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    remaining = iter(windows)
    while batch := list(itertools.islice(remaining, size)):
        yield batch
