"""OpenL3: 512 numbers each 0.96 s, of the network that learned from music, with 128 mel bands.

Source: Cramer et al., "Look, listen and learn more: design choices for deep audio embeddings" (ICASSP 2019), in the
port ``torchopenl3`` (MIT). It hears 1 s at 48 kHz. EAsT subtracts 2.24 from the values.
"""

import torch

from timbrel.embeddings.teachers.packaged import Packaged, package


class OpenL3(Packaged):
    """Windows of 1 s at 48 kHz ``(batch, 48000)`` to ``(batch, 512)``."""

    name = "openl3"
    sample_rate = 48_000
    dimension = 512
    hop_s = 0.96
    window_s = 1.0
    file = "torchopenl3_mel128_music_512.pth.tar"
    where = "torchopenl3/torchopenl3-models on GitHub"

    def __init__(self) -> None:
        super().__init__()
        with package(self.name):
            import torchopenl3.models
        self.network = torchopenl3.models.PytorchOpenl3(
            input_repr="mel128", content_type="music", embedding_size=self.dimension
        )

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Return what the network says of each window."""
        return self.network(windows[:, None]).reshape(len(windows), -1)


load = OpenL3.load
