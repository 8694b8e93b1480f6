"""CP-ResNet, the students' larger network: a ResNet whose receptive field is kept small by kernels of 1.

Source: Koutini, Eghbal-zadeh and Widmer, "Receptive field regularization techniques for audio classification and
tagging with deep convolutional neural networks" (IEEE/ACM TASLP 2021), at the rho of 7 and the width of 128 that EAsT
takes (`tasks.clip_tagging.front_end` has the source). Blocks begin as in Fixup (Zhang, Dauphin and Ma, ICLR 2019),
with second convolutions of zero.

The authors divide the first convolutions' spread by the root of the number of blocks that the process has built so
far: 12, unless it has built another such network before. Here it is that of the network.
"""

import math

import torch
from torch import nn

KERNELS = (
    ((3, 3, 3, 3), (1, 3, 3, 3)),
    ((3, 1, 1, 1), (1, 3, 3, 3)),
    ((1, 1, 1, 1), (1, 1, 1, 1)),
)
"""Of each stage, the sizes of each block's first and second convolution."""
WIDENING = (1, 2, 4)
"""Channels of each stage, as a multiple of the first's."""
POOLED = ((1, 2, 4), (), ())
"""Of each stage, the blocks after which time and frequency are halved, counted from 1."""
BLOCKS = sum(len(first) for first, _ in KERNELS)


class Block(nn.Module):
    """Two convolutions beside a shortcut: ``(batch, channel, band, frame)`` of one width to one of another."""

    def __init__(self, before: int, after: int, first: int, second: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, first, padding=first // 3, bias=False)
        self.first_norm = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, second, padding=second // 3, bias=False)
        self.second_norm = nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential()
        if before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after))
            nn.init.normal_(self.shortcut[0].weight, std=math.sqrt(2 / after))  # type: ignore[arg-type]  # a layer's own
        nn.init.normal_(self.first.weight, std=BLOCKS**-0.5 * math.sqrt(2 / (first**2 * after)))
        nn.init.zeros_(self.second.weight)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Return the picture in the block's width."""
        inner = torch.relu(self.first_norm(self.first(picture)))
        return torch.relu(self.second_norm(self.second(inner)) + self.shortcut(picture))


class CPResNet(nn.Module):
    """Spectrogram ``(batch, 1, band, frame)`` to its three stages, ``(batch, channel, band, frame)`` each.

    Time and frequency are halved once on entry and three times in the first stage: 62 frames of 1000.
    """

    dropout = 0.0
    """Before the head."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        entry = nn.Conv2d(1, width, 5, stride=2, padding=2, bias=False)
        nn.init.kaiming_normal_(entry.weight, nonlinearity="relu")
        self.entry = nn.Sequential(entry, nn.BatchNorm2d(width), nn.ReLU())
        self.stages = nn.ModuleList()
        before = width
        for kernels, widening, pooled in zip(KERNELS, WIDENING, POOLED, strict=True):
            stage = nn.Sequential()
            for number, (first, second) in enumerate(zip(*kernels, strict=True), start=1):
                stage.append(Block(before, width * widening, first, second))
                if number in pooled:
                    stage.append(nn.MaxPool2d(2))
                before = width * widening
            self.stages.append(stage)
        self.embedding_size = before

    def forward(self, spectrogram: torch.Tensor) -> list[torch.Tensor]:
        """Return the three stages."""
        picture = self.entry(spectrogram)
        found = []
        for stage in self.stages:
            picture = stage(picture)
            found.append(picture)
        return found
