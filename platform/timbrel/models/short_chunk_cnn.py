"""The short-chunk CNN: seven blocks of 3 x 3 convolution, each halving time and frequency.

Source: Won et al., "Evaluation of CNN-based automatic music tagging models" (SMC 2020), class ``ShortChunkCNN``
in their code; used by the transfer-and-mixing paper for instrument recognition.
"""

import itertools
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import nn


@dataclass(frozen=True, kw_only=True)
class ShortChunkConfig:
    """Size of the network."""

    width: Annotated[int, Ge(1)] = 128
    """Channels of the first block; the others have 1, 2, 2, 2, 2 and 4 times as many (paper: 128)."""


WIDENING = (1, 1, 2, 2, 2, 2, 4)
STAGES = (3, 5, 7)
"""Blocks that a stage ends with: the thirds of the depth, rounded up. Of 4 s at 32 kHz they have 62, 15 and 3 frames:
the last is as coarse as most teachers' embeddings, of about a second each."""
LEAST = 2 ** len(WIDENING)
"""Bands, and frames, that an input needs: each block halves both."""


def check_input(bands: int, frames: int) -> None:
    """Raise ValueError, for a config to refuse, unless the network can take so small a spectrogram."""
    if min(bands, frames) < LEAST:
        raise ValueError(
            f"the short-chunk CNN needs {LEAST} mel bands and {LEAST} frames, not {bands} and {frames}: raise "
            "mixing.seconds or mixing.sample_rate, lower front_end.hop, or raise front_end.bands"
        )


class ShortChunkCNN(nn.Module):
    """Log-mel spectrogram ``(batch, 1, band, frame)`` to embedding ``(batch, channel)``.

    Needs at least 128 bands and 128 frames (``check_input``). What is left of the time axis after seven
    halvings (3 frames of 501) is max-pooled, and so is frequency if more than one band is left.
    """

    def __init__(self, config: ShortChunkConfig) -> None:
        super().__init__()
        channels = [1, *(config.width * factor for factor in WIDENING)]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, kernel_size=3, padding=1),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                    nn.MaxPool2d(2),
                )
                for before, after in itertools.pairwise(channels)
            )
        )
        self.embedding_size = self.head_size = channels[-1]

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        spectrogram = spectrogram.contiguous(memory_format=torch.channels_last)
        return self.blocks(spectrogram).amax(dim=(2, 3))

    def stages(self, spectrogram: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the embedding as ``forward`` does, and the stages ``(batch, frame, channel)``: see ``STAGES``."""
        x = spectrogram.contiguous(memory_format=torch.channels_last)
        found = []
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            if number in STAGES:
                found.append(over_frequency(x))
        return x.amax(dim=(2, 3)), found


def over_frequency(x: torch.Tensor) -> torch.Tensor:
    """Return a stage ``(batch, frame, channel)`` of what a block returns, ``(batch, channel, band, frame)``.

    The mean over frequency, in float32 at least: what a teacher is compared by is differences.
    """
    return x.mean(dim=2, dtype=torch.promote_types(x.dtype, torch.float32)).transpose(1, 2)
