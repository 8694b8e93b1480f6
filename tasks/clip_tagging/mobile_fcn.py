"""The Mobile FCN, the students' smaller network: Choi's FCN with depthwise separable convolutions; and a small one.

Source: EAsT (`tasks.clip_tagging.front_end` has the source), after Choi, Fazekas and Sandler, "Automatic tagging using
deep convolutional neural networks" (ISMIR 2016).
"""

from collections.abc import Sequence

import torch
from torch import nn

TIME_POOLS = (4, 3, 2, 2, 2)
"""Of the first five layers; the others pool neither time nor frequency."""
FINER_TIME_POOLS = (4, 3, 2, 2, 1)
"""Of the small student: its last stage has a frame for each second or so, as most teachers have."""
SMALL_WIDTH = 16
SMALL_DROPOUT = 0.2
FEWEST_BANDS = 32
"""The bands must be a multiple of it, of which the fourth layer leaves four and the fifth one."""


def _convolution(before: int, after: int, kernel: int, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, kernel, padding=kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(after), nn.ReLU()]


def _layer(before: int, after: int, pool: tuple[int, int]) -> nn.Sequential:
    """Return a 3 x 3 convolution with pooling ``(band, frame)``."""
    return nn.Sequential(*_convolution(before, after, 3), nn.MaxPool2d(pool))


def _separable(before: int, after: int, pool: tuple[int, int] = (1, 1)) -> nn.Sequential:
    """Return a 3 x 3 convolution of each channel, one of 1 x 1 of all of them, and pooling ``(band, frame)``."""
    parts = [*_convolution(before, before, 3, groups=before), *_convolution(before, after, 1)]
    return nn.Sequential(*parts, *([] if pool == (1, 1) else [nn.MaxPool2d(pool)]))


class MobileFCN(nn.Module):
    """Spectrogram ``(batch, 1, band, frame)`` to its three stages, ``(batch, channel, 4 or 1, frame)``.

    They are taken after the layers 4, 6 and 8, before dropout. Of 1450 frames the first has 30, the others 15.

    Args:
        bands: of the spectrogram, a multiple of 32 (published for 96 and 128).
        width: channels of the first layer; the others have two and four times as many (published: 64).
        time_pools: frames that become one in each of the first five layers.
        dropout: before the layers 5 and 7 and the head.
    """

    def __init__(
        self, bands: int, width: int = 64, time_pools: Sequence[int] = TIME_POOLS, dropout: float = 0.5
    ) -> None:
        super().__init__()
        if bands % FEWEST_BANDS or not bands:
            raise ValueError(f"expected a multiple of {FEWEST_BANDS} bands, got {bands}")
        one, two, three, four, five = zip((2, 2, 2, bands // FEWEST_BANDS, 4), time_pools, strict=True)
        once, twice, fourfold = width, 2 * width, 4 * width
        self.stages = nn.ModuleList(
            [
                nn.Sequential(
                    _layer(1, once, one),
                    _layer(once, twice, two),
                    _separable(twice, twice, three),
                    _separable(twice, twice, four),
                ),
                nn.Sequential(nn.Dropout(dropout), _separable(twice, twice, five), _separable(twice, fourfold)),
                nn.Sequential(nn.Dropout(dropout), _separable(fourfold, fourfold), _separable(fourfold, fourfold)),
            ]
        )
        self.dropout = dropout
        self.embedding_size = fourfold

    def forward(self, spectrogram: torch.Tensor) -> list[torch.Tensor]:
        """Return the three stages."""
        picture = spectrogram
        found = []
        for stage in self.stages:
            picture = stage(picture)
            found.append(picture)
        return found


def small_fcn(bands: int, width: int = SMALL_WIDTH) -> MobileFCN:
    """Return the student for runs of minutes on a CPU: a quarter as wide, less dropout, finer in time. Ours."""
    return MobileFCN(bands, width, FINER_TIME_POOLS, SMALL_DROPOUT)
