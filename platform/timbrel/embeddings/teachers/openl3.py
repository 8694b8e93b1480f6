"""OpenL3: 512 numbers each 0.96 s, of the network that learned from music, with 128 mel bands.

Source: Cramer et al., "Look, listen and learn more: design choices for deep audio embeddings" (ICASSP 2019), in the
port ``torchopenl3`` (MIT). It hears 1 s at 48 kHz. EAsT subtracts 2.24 from the values.
"""

import torch

from timbrel.embeddings.teachers.network import (
    NetworkTeacher,
    Packaged,
    file_digest,
    given_weights,
    load_arrays,
    load_into,
    package,
)
from timbrel.embeddings.teachers.options import TeacherOptions
from timbrel.tracking import Tracker

SAMPLE_RATE = 48_000
HOP_S = 0.96
WINDOW_S = 1.0
DIMENSION = 512
FILE = "torchopenl3_mel128_music_512.pth.tar"
WHERE = "torchopenl3/torchopenl3-models on GitHub"
INSTALL = "pip install --no-deps 'torchopenl3>=1.0.1' julius resampy six"
"""It asks for a resampler that is too old for today's NumPy."""


class OpenL3(Packaged):
    """Windows of 1 s at 48 kHz ``(batch, 48000)`` to ``(batch, 512)``."""

    def __init__(self) -> None:
        super().__init__()
        with package("openl3", INSTALL):
            import torchopenl3.models
        self.network = torchopenl3.models.PytorchOpenl3(
            input_repr="mel128", content_type="music", embedding_size=DIMENSION
        )

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Return what the network says of each window."""
        return self.network(windows[:, None]).reshape(len(windows), -1)


def load(name: str, options: TeacherOptions, tracker: Tracker) -> NetworkTeacher:
    """Return OpenL3 with its authors' weights.

    Raises:
        UserError: the package or the file is missing, or the file is another.
    """
    network = OpenL3()
    file = given_weights(options.weights, name, FILE, WHERE)
    load_into(network.network, load_arrays(file), str(file), name)
    return teacher(network, file.name, file_digest(file))


def teacher(network: OpenL3, weights: str, digest: str) -> NetworkTeacher:
    """Return the teacher of a network."""
    return NetworkTeacher(
        name="openl3",
        network=network.eval(),
        sample_rate=SAMPLE_RATE,
        dimension=DIMENSION,
        hop_s=HOP_S,
        window_s=WINDOW_S,
        weights=weights,
        digest=digest,
        whole=True,
    )
