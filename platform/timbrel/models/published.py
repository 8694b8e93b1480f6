"""The published music taggers CRNN, FCN and Musicnn, in the layout of their authors' weight files.

Source: Won, Ferraro, Bogdanov and Serra, "Evaluation of CNN-based automatic music tagging models" (SMC 2020), whose
code (``minzwon/sota-music-tagging-models``, MIT) ships weights trained on MTG-Jamendo, MagnaTagATune and the Million
Song Dataset. The nets are from Choi et al., "Convolutional recurrent neural networks for music classification" (ICASSP
2017; CRNN), Choi et al., "Automatic tagging using deep convolutional neural networks" (ISMIR 2016; FCN) and Pons and
Serra, "musicnn" (ISMIR 2019 late-breaking demo).

All of them hear 16 kHz through a log-mel front end of 96 bands (window 512, hop 256). As backbones they end where their
authors' classifier begins: what lies behind is in each class's ``classifier``, and is not loaded for transfer.

For a teacher (`timbrel.teaching`) each has three ``stages`` beside its embedding, from first to last
``(batch, frame, channel)``, averaged over frequency. ``forward`` computes the same embedding without them.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from timbrel.errors import UserError
from timbrel.models.short_chunk_cnn import over_frequency

SAMPLE_RATE = 16_000
"""Hz; that of every published weight file."""
BANDS = 96
"""Mel bands of every published weight file."""


class Block(nn.Module):
    """Convolution, batch norm, ReLU, max pooling: ``(batch, channel, band, frame)`` to the same, smaller."""

    def __init__(self, before: int, after: int, pooling: tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel_size=3, padding=1)
        self.bn = nn.BatchNorm2d(after)
        self.pooling = pooling

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.max_pool2d(torch.relu(self.bn(self.conv(x))), self.pooling)


class ConvCRNN(nn.Module):
    """The CRNN's four convolution blocks: ``(batch, 1, 96, frame)`` to ``(batch, 128)``, the maximum over time.

    Without the recurrent layer, which has only two steps to work on in 4 s of sound.
    """

    weights: ClassVar[str] = "crnn"
    """Whose weight file it reads."""
    classifier: ClassVar[Mapping[str, str]] = {}
    """The authors' classifier: their layers by the name that each has in this platform's tag head."""
    left_out: ClassVar[tuple[str, ...]] = ("layer5.", "dense.")
    """Beginnings of the names of tensors in the weight file that are not part of the backbone."""
    least_frames: ClassVar[int] = 2 * 3 * 4 * 4
    seconds: ClassVar[float] = 4.0
    embedding_size = 128
    head_size = 128

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = Block(1, 64, (2, 2))
        self.layer2 = Block(64, 128, (3, 3))
        self.layer3 = Block(128, 128, (4, 4))
        self.layer4 = Block(128, 128, (4, 4))

    def sequence(self, spectrogram: torch.Tensor) -> torch.Tensor:
        """Return what the convolutions make of each 96 frames: ``(batch, 128, step)``."""
        spectrogram = spectrogram.contiguous(memory_format=torch.channels_last)
        return self.layer4(self.layer3(self.layer2(self.layer1(spectrogram)))).squeeze(2)

    def blocks(self, spectrogram: torch.Tensor) -> list[torch.Tensor]:
        """Return what comes out of each block."""
        x, found = spectrogram.contiguous(memory_format=torch.channels_last), []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            found.append(x)
        return found

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        return self.sequence(spectrogram).amax(dim=2)

    def stages(self, spectrogram: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the embedding, and the stages after the second, third and fourth block: of 6, 24 and 96 frames of the
        spectrogram each, where a teacher's second is 62."""
        blocks = self.blocks(spectrogram)
        return blocks[3].squeeze(2).amax(dim=2), [over_frequency(block) for block in blocks[1:]]


class CRNN(ConvCRNN):
    """The CRNN as published: ``(batch, 1, 96, frame)`` to ``(batch, 32)``, the recurrent layer's last output."""

    classifier: ClassVar[Mapping[str, str]] = {"dense": "1"}
    left_out: ClassVar[tuple[str, ...]] = ("dense.",)
    seconds: ClassVar[float] = 29.0
    """Length of the input that it was trained on, in s; so in all classes here."""
    embedding_size = 32
    head_size = 32

    def __init__(self) -> None:
        super().__init__()
        self.layer5 = nn.GRU(128, 32, 2, batch_first=True)

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        with torch.autocast(spectrogram.device.type, enabled=False):
            steps, _ = self.layer5(self.sequence(spectrogram).float().permute(0, 2, 1))
        return steps[:, -1]

    def stages(self, spectrogram: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the embedding, and the stages after the second and the fourth block and after the recurrent layer."""
        with torch.autocast(spectrogram.device.type, enabled=False):
            blocks = self.blocks(spectrogram)
            steps, _ = self.layer5(blocks[3].squeeze(2).float().permute(0, 2, 1))
        return steps[:, -1], [over_frequency(blocks[1]), over_frequency(blocks[3]), steps]


class FCN(nn.Module):
    """The fully convolutional net: ``(batch, 1, 96, frame)`` to ``(batch, 64)``.

    Trained on 29 s, which it reduces to one step. It needs 1,280 frames (20.5 s); of longer input than that the
    maximum over time is taken, which the authors' code does not provide for.
    """

    weights: ClassVar[str] = "fcn"
    classifier: ClassVar[Mapping[str, str]] = {"dense": "1"}
    left_out: ClassVar[tuple[str, ...]] = ("dense.",)
    least_frames: ClassVar[int] = 4 * 4 * 4 * 5 * 4
    seconds: ClassVar[float] = 29.0
    embedding_size = 64
    head_size = 64

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = Block(1, 64, (2, 4))
        self.layer2 = Block(64, 128, (2, 4))
        self.layer3 = Block(128, 128, (2, 4))
        self.layer4 = Block(128, 128, (3, 5))
        self.layer5 = Block(128, 64, (4, 4))

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        x = spectrogram.contiguous(memory_format=torch.channels_last)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4, self.layer5):
            x = layer(x)
        return x.amax(dim=(2, 3))

    def stages(self, spectrogram: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the embedding, and the stages after the second, third and fifth block: of 0.26, 1.0 and 20.5 s."""
        x, found = spectrogram.contiguous(memory_format=torch.channels_last), []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4, self.layer5):
            x = layer(x)
            if layer in (self.layer2, self.layer3, self.layer5):
                found.append(over_frequency(x))
        return x.amax(dim=(2, 3)), found


class _Vertical(nn.Module):
    """Timbre: filters as tall as most of the spectrum, the maximum over frequency: to ``(batch, channel, frame)``."""

    def __init__(self, channels: int, bands: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, channels, (bands, 7), padding=(0, 3))
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.bn(self.conv(spectrogram))).amax(dim=2)


class _Horizontal(nn.Module):
    """Rhythm: long filters over the mean of the spectrum: to ``(batch, channel, frame)``."""

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, channels, frames, padding=frames // 2)
        self.bn = nn.BatchNorm1d(channels)

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.bn(self.conv(spectrogram.mean(dim=2))))


class _Dense(nn.Module):
    """Convolution over 7 frames, batch norm, ReLU: ``(batch, channel, frame)`` to ``(batch, 64, frame)``."""

    def __init__(self, before: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(before, 64, 7, padding=3)
        self.bn = nn.BatchNorm1d(64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.bn(self.conv(x)))


class Musicnn(nn.Module):
    """Musicnn: ``(batch, 1, 96, frame)`` to ``(batch, 1506)``, maximum and mean over time of all its layers."""

    weights: ClassVar[str] = "musicnn"
    classifier: ClassVar[Mapping[str, str]] = {"dense1": "0", "bn": "1", "dense2": "4"}
    left_out: ClassVar[tuple[str, ...]] = ("dense1.", "bn.", "dense2.")
    least_frames: ClassVar[int] = 1
    seconds: ClassVar[float] = 3.0
    embedding_size = 2 * (2 * 204 + 3 * 51 + 3 * 64)
    head_size = 200

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                _Vertical(204, int(0.7 * BANDS)),
                _Vertical(204, int(0.4 * BANDS)),
                *(_Horizontal(51, frames) for frames in (129, 65, 33)),
            ]
        )
        self.layer1 = _Dense(2 * 204 + 3 * 51)
        self.layer2 = _Dense(64)
        self.layer3 = _Dense(64)

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        return self._embed(spectrogram)[0]

    def stages(self, spectrogram: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the embedding, and as stages the three dense layers, whose frames are those of the spectrogram."""
        embedding, layers = self._embed(spectrogram)
        return embedding, [layer.transpose(1, 2) for layer in layers]

    def _embed(self, spectrogram: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the embedding, and what the dense layers make of each frame, ``(batch, 64, frame)``."""
        front = torch.cat([layer(spectrogram) for layer in self.layers], dim=1)
        first = self.layer1(front)
        second = self.layer2(first) + first
        third = self.layer3(second) + second
        features = torch.cat([front, first, second, third], dim=1)
        return torch.cat([features.amax(dim=2), features.mean(dim=2)], dim=1), [first, second, third]


def published_head(backbone: nn.Module, tags: int) -> nn.Sequential:
    """Return the authors' classifier on a net of this module: ``(batch, channel)`` to logits ``(batch, tag)``."""
    if isinstance(backbone, Musicnn):
        return nn.Sequential(
            nn.Linear(backbone.embedding_size, backbone.head_size),
            nn.BatchNorm1d(backbone.head_size),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(backbone.head_size, tags),
        )
    return nn.Sequential(nn.Dropout(0.5), nn.Linear(int(backbone.embedding_size), tags))  # type: ignore[arg-type]  # a Tensor or Module, to mypy


def is_published(weights: Mapping[str, torch.Tensor]) -> bool:
    """Return whether a ``state_dict`` is laid out as in the authors' weight files."""
    return "spec_bn.weight" in weights


def published_net(weights: Mapping[str, torch.Tensor]) -> str:
    """Return which net the weights are of: ``crnn``, ``fcn`` or ``musicnn``; ``an unknown net`` if none of them."""
    signs = {"layer5.weight_ih_l0": "crnn", "layers.0.conv.weight": "musicnn"}
    known = next((net for sign, net in signs.items() if sign in weights), None)
    if known is None and "layer5.conv.weight" in weights and "layer6.conv.weight" not in weights:
        return "fcn"
    return known or "an unknown net"


def read_published(
    weights: Mapping[str, torch.Tensor], backbone: nn.Module, where: str, *, head: bool = False
) -> dict[str, torch.Tensor]:
    """Rename the tensors of an authors' weight file as this platform's classifiers name them.

    Args:
        weights: the file's ``state_dict``.
        backbone: one of this module's nets.
        where: names the file in errors.
        head: keep the authors' classifier too; otherwise only front end and backbone are returned.

    Raises:
        UserError: the file is of another net.
    """
    net, wanted = published_net(weights), getattr(backbone, "weights", None)
    if net != wanted:
        raise UserError(
            f"the weights of {where} are of another architecture: they are of the published net '{net}', "
            f"the backbone reads those of '{wanted or 'a run of this platform'}'; set transfer.backbone (task tagging: "
            "backbone) to match."
        )
    classifier: Mapping[str, str] = backbone.classifier  # type: ignore[assignment]  # likewise
    left_out: tuple[str, ...] = backbone.left_out  # type: ignore[assignment]  # likewise
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        layer, _, rest = name.partition(".")
        if name.startswith("spec_bn."):
            renamed[f"front_end.norm.{rest}"] = tensor
        elif name.startswith("spec."):
            # Files written by some versions of torchaudio hold an empty filterbank; the model's own is the same.
            if tensor.numel():
                renamed[f"front_end.power.{rest}"] = tensor
        elif not name.startswith(left_out):
            renamed[f"backbone.{name}"] = tensor
        elif head and layer in classifier:
            renamed[f"head.{classifier[layer]}.{rest}"] = tensor
    return renamed
