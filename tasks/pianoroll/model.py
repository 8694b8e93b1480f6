"""The residual U-net from a constant-Q spectrogram to a pianoroll, and the heads that follow from the pianoroll.

Source: Hung et al., "Multitask learning for frame-level instrument recognition" (ICASSP 2019), and the authors'
code, which decides where the two differ. Axes: ``(batch, channel, bin, frame)``; a bin of the spectrogram becomes
a pitch of the pianoroll, so that both have as many.

Three things differ from the authors' network:

- It has as many outputs as there are instruments. Theirs has a tenth one beside the nine, which is never used.
- They standardise each bin by a mean and a deviation taken once over their training data, which is not public. Here
  batch normalisation without parameters does so: by the batch in training, by running means thereafter.
- Width, depth, the numbers of bins and frames, and the pooling over time are free.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional

INSTRUMENT_SCALE = 0.01
"""What the sum over the pitches is multiplied by, for the instrument logits (the authors' code)."""
PITCH_SCALE = 0.1
"""What the sum over the instruments is multiplied by, for the pitch logits (the authors' code)."""


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Size of the network."""

    width: Annotated[int, Ge(2)] = 32
    """Channels of the first block; each further one has twice as many (paper: 32)."""
    depth: Annotated[int, Ge(1)] = 4
    """Blocks of the encoder, each of which halves pitch and time, and of the decoder (paper: 4)."""

    def __post_init__(self) -> None:
        if self.width < 2 or self.depth < 1:
            raise ValueError(f"width must be at least 2 and depth at least 1, not {self.width} and {self.depth}")


class Heads(NamedTuple):
    """Logits of the three tasks."""

    roll: Tensor
    """Which instrument plays which pitch, ``(batch, instrument, pitch, frame)``."""
    pitch: Tensor
    """Which pitch sounds, ``(batch, pitch, frame)``."""
    instrument: Tensor
    """Which instrument sounds, ``(batch, instrument, frame)``."""


def heads(r: Tensor) -> Heads:
    """Return the logits of the three tasks, which follow from the network's output without any parameter.

    Args:
        r: what ``PianorollNet`` returns, ``(batch, instrument, pitch, frame)``.

    The instrument's probability gates its row of the pianoroll. The gate works on logits, so that where no instrument
    is heard the pianoroll's probability tends to 0.5, not to 0: only thresholds above 0.5 make sense for it
    (the authors': 0.85).
    """
    instrument = INSTRUMENT_SCALE * r.sum(dim=2)
    pitch = PITCH_SCALE * r.sum(dim=1)
    return Heads(roll=r * torch.sigmoid(instrument).unsqueeze(2), pitch=pitch, instrument=instrument)


class Probabilities(nn.Module):
    """A network, and the probabilities of the three tasks instead of its logits: pianoroll, pitch roll, instrument
    roll."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.sigmoid(logits) for logits in heads(self.network(x)))


def check_input(config: UNetConfig, bins: int, frames: int, pool: int) -> None:
    """Raise ValueError, for a config to refuse, unless the network can take such a spectrogram."""
    least = 2**config.depth
    if bins < least or frames < least:
        raise ValueError(
            f"a U-net of depth {config.depth} needs at least {least} bins and {least} frames, not {bins} and {frames}: "
            "lower the depth (model.depth), or give it a longer excerpt (mixing.seconds) or more bins (front_end.bins)"
        )
    if frames % pool:
        raise ValueError(f"the number of frames must be a multiple of the pooling over time ({pool}), not {frames}")


class Encoder(nn.Module):
    """Two 3 x 3 convolutions and a shortcut; then a learned down-sampler halves pitch and time, rounding down."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(before, after, kernel_size=3, padding=1),
            nn.BatchNorm2d(after),
            nn.LeakyReLU(0.01),
            nn.Conv2d(after, after, kernel_size=3, padding=1),
            nn.BatchNorm2d(after),
            nn.LeakyReLU(0.01),
        )
        self.shortcut = nn.Conv2d(before, after, kernel_size=1)
        self.down = nn.Conv2d(after, after, kernel_size=2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(batch, after, bin // 2, frame // 2)``."""
        return self.down(self.convolutions(x) + self.shortcut(x))


class Decoder(nn.Module):
    """A learned up-sampler, the encoder's skip beside it, and two 3 x 3 transposed convolutions.

    ``last``: without batch normalisation and activation after the second one, so that it gives logits.
    """

    def __init__(self, before: int, skip: int, after: int, last: bool = False) -> None:
        super().__init__()
        joined = before + skip
        self.up = nn.ConvTranspose2d(before, before, kernel_size=2, stride=2)
        self.convolutions = nn.Sequential(
            nn.ConvTranspose2d(joined, joined // 2, kernel_size=3, padding=1),
            nn.BatchNorm2d(joined // 2),
            nn.LeakyReLU(0.01),
            nn.ConvTranspose2d(joined // 2, after, kernel_size=3, padding=1),
        )
        if not last:
            self.convolutions.extend([nn.BatchNorm2d(after), nn.LeakyReLU(0.01)])

    def forward(self, x: Tensor, size: torch.Size, skip: Tensor | None) -> Tensor:
        """Return ``(batch, after, *size)``: what the halving rounded off comes back."""
        x = self.up(x, output_size=size)
        return self.convolutions(x if skip is None else torch.cat([x, skip], dim=1))


class PianorollNet(nn.Module):
    """Spectrogram ``(batch, bin, frame)`` to pianoroll logits ``(batch, instrument, bin, frame // pool)``.

    With a front end it takes waveforms ``(batch, sample)``, too, which the front end turns into spectrograms. ``heads``
    makes the logits of the three tasks from what it returns.

    The weights lie in memory with the channels last, and so does what is computed with them: on CPUs convolutions are
    faster so. An input of one channel has no such order to pass on, so that it has to come from the weights.
    """

    def __init__(
        self, config: UNetConfig, instruments: int, bins: int = 88, pool: int = 2, front_end: nn.Module | None = None
    ) -> None:
        super().__init__()
        if instruments < 1 or pool < 1:
            raise ValueError(
                f"expected at least 1 instrument and a pooling of at least 1, got {instruments} and {pool}"
            )
        check_input(config, bins, 2**config.depth * pool, pool)
        self.config, self.bins, self.pool, self.front_end = config, bins, pool, front_end
        widths = [config.width * 2**i for i in range(config.depth)]
        self.standardise = nn.BatchNorm1d(bins, affine=False)
        self.scale = nn.BatchNorm2d(1)
        self.encoders = nn.ModuleList(Encoder(*pair) for pair in itertools.pairwise([1, *widths]))
        self.skips = nn.ModuleList(nn.Conv2d(width, width, kernel_size=3, padding=1) for width in widths[:-1])
        self.decoders = nn.ModuleList(
            [Decoder(width, skip, skip) for skip, width in reversed(list(itertools.pairwise(widths)))]
        )
        self.decoders.append(Decoder(widths[0], 0, instruments, last=True))
        for part in (self.encoders, self.skips, self.decoders):
            part.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        x = self._spectrogram(x)
        x = self.scale(self.standardise(x).unsqueeze(1))
        sizes, skips = [], []
        for encoder in self.encoders:
            sizes.append(x.shape[2:])
            x = encoder(x)
            skips.append(x)
        skips.pop()  # of the last block, from which the decoder starts
        for decoder in self.decoders:
            skip = self.skips[len(skips) - 1](skips.pop()) if skips else None
            x = decoder(x, sizes.pop(), skip)
        return functional.max_pool2d(x, kernel_size=(1, self.pool))

    def _spectrogram(self, x: Tensor) -> Tensor:
        """Return ``x`` as a spectrogram ``(batch, bin, frame)`` of a size that the network takes."""
        if x.dim() == 2:
            if self.front_end is None:
                raise ValueError(
                    f"expected a spectrogram (batch, bin, frame), got a tensor {tuple(x.shape)}: only a network with "
                    "a front end takes waveforms (batch, sample)"
                )
            x = self.front_end(x)
            x = x[..., : x.shape[-1] - x.shape[-1] % self.pool]  # without those that the pooling would leave over
        if x.dim() != 3 or x.shape[1] != self.bins:
            raise ValueError(f"expected a spectrogram (batch, {self.bins} bins, frame), got {tuple(x.shape)}")
        check_input(self.config, self.bins, x.shape[2], self.pool)
        return x


def initialise(module: nn.Module) -> None:
    """Set a convolution's weights as the authors do: Xavier-uniform with the gain for rectifiers, biases 0."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight, gain=math.sqrt(2))
        assert module.bias is not None
        nn.init.zeros_(module.bias)
        module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)  # see PianorollNet
