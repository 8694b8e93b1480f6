"""Networks from a bag of embeddings to the probability of each class: attention, and the baselines it is compared with.

Source: Gururani, Sharma and Lerch, "An attention mechanism for musical instrument recognition" (ISMIR 2019), and the
authors' code, which decides where the two differ. All take ``(batch, time, dimension)``: each instance of a bag is the
embedding of about a second.

Every network answers ``attend(x)`` with the probabilities ``(batch, class)`` and its attention ``(batch, class,
time)``, which adds up to 1 over time; those without attention have none, ``(batch, class, 0)``. ``forward`` has both in
one tensor, as the training loop wants it: see ``unpacked``.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from timbrel.errors import UserError

NetworkName = Literal["attention", "mean", "fc", "fc_t", "rnn"]

LAYERS = 3
"""Of the embedding below the attention, of the instances' own layers in ``fc_t``, and of the recurrent network."""
LEAST_ATTENTION = 1e-7
"""Before attention is divided by its sum over time, which would be 0 where all of it is."""
WIDE, NARROW = 512, 128
"""Units of the fully-connected network's hidden layers: 512, 512, 128."""
GRU_UNITS = 64


class BagNet(nn.Module, ABC):
    """What all networks on bags have in common."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension = dimension

    @abstractmethod
    def attend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the probabilities ``(batch, class)`` and the attention ``(batch, class, time)`` or ``(batch, class,
        0)``, for bags ``(batch, time, dimension)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Return both side by side, ``(batch, class, 1 + time)``.

        Raises:
            UserError: the embeddings are of another size than those it was made for.
        """
        if x.dim() != 3 or x.shape[2] != self.dimension:
            raise UserError(
                f"the model hears embeddings (time, {self.dimension}), and these are {tuple(x.shape[1:])}: name by "
                "teacher.name those that it was made for, or leave teacher.dimension to be filled in."
            )
        probabilities, attention = self.attend(x)
        return torch.cat([probabilities.unsqueeze(-1), attention], dim=-1)


def unpacked(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return what ``attend`` did from what ``forward`` made of it."""
    return outputs[..., 0], outputs[..., 1:]


class AttentionNet(BagNet):
    """Decision-level attention: each instance is judged by itself, and the clip by their weighted mean.

    Three layers make a new embedding of each instance, to which the instance as it came is added. From it follow, for
    each class, the probability that it sounds in the instance, and how much the instance counts. With 128 dimensions
    and 20 classes these are the authors' 55,336 parameters.

    A 1 x 1 convolution over time is the same layer at every instance, so that bags may be of any length.
    """

    def __init__(self, dimension: int, classes: int, dropout: float) -> None:
        super().__init__(dimension)
        self.normalise = nn.BatchNorm1d(dimension)
        self.embed = nn.Sequential(
            *(
                layer
                for _ in range(LAYERS)
                for layer in (
                    nn.Conv1d(dimension, dimension, kernel_size=1, bias=False),
                    nn.BatchNorm1d(dimension),
                    nn.ReLU(),
                    nn.Dropout(dropout),
                )
            )
        )
        self.attention = nn.Conv1d(dimension, classes, kernel_size=1)
        self.classifier = nn.Conv1d(dimension, classes, kernel_size=1)
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                bound = math.sqrt(3) * math.sqrt(2 / module.in_channels)
                nn.init.uniform_(module.weight, -bound, bound)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def attend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.transpose(1, 2)
        embedded = self.embed(self.normalise(x)) + x  # the input itself, not what was normalised
        # In float32, whatever the layers compute in: half as many bits know nothing next to 1.
        weights = torch.sigmoid(self.attention(embedded).float()).clamp(LEAST_ATTENTION, 1 - LEAST_ATTENTION)
        attention = weights / weights.sum(dim=2, keepdim=True)
        instances = torch.sigmoid(self.classifier(embedded).float())
        return (attention * instances).sum(dim=2).clamp(0, 1), attention


class _WithoutAttention(BagNet):
    """A network that answers for the bag as a whole."""

    def attend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        probabilities = torch.sigmoid(self.logits(x).float())
        return probabilities, probabilities.new_zeros(*probabilities.shape, 0)

    @abstractmethod
    def logits(self, x: Tensor) -> Tensor:
        """Return ``(batch, class)``."""


class FullyConnected(_WithoutAttention):
    """The instances one after the other as one long vector, through layers of 512, 512 and 128 units.

    Bags have to be of the length it was made for. With 10 x 128 these are the authors' 986,772 parameters.
    """

    def __init__(self, instances: int, dimension: int, classes: int, dropout: float) -> None:
        super().__init__(dimension)
        self.instances = instances
        self.layers = nn.Sequential(
            *_hidden([instances * dimension, WIDE, WIDE, NARROW], dropout), nn.Linear(NARROW, classes)
        )
        self.apply(_xavier)

    def logits(self, x: Tensor) -> Tensor:
        if x.shape[1] != self.instances:
            raise UserError(
                f"the fully-connected network is for bags of {self.instances} instances, and these have {x.shape[1]}: "
                f"set instances={x.shape[1]}, or take a model that hears bags of any length."
            )
        return self.layers(x.flatten(1))


class MeanPooling(_WithoutAttention):
    """The same layers on the mean of the instances: what is left of the clip when nobody knows when."""

    def __init__(self, dimension: int, classes: int, dropout: float) -> None:
        super().__init__(dimension)
        self.layers = nn.Sequential(*_hidden([dimension, WIDE, WIDE, NARROW], dropout), nn.Linear(NARROW, classes))
        self.apply(_xavier)

    def logits(self, x: Tensor) -> Tensor:
        return self.layers(x.mean(dim=1))


class InstanceWise(_WithoutAttention):
    """Three layers for each instance by itself, the instance as it came added, and a classifier on the mean over time.

    The authors' FC_T, 52,116 parameters with 128 dimensions and 20 classes: much the network with attention, without
    it.
    """

    def __init__(self, dimension: int, classes: int, dropout: float) -> None:
        super().__init__(dimension)
        self.embed = nn.Sequential(*_hidden([dimension] * (LAYERS + 1), dropout))
        self.classifier = nn.Linear(dimension, classes)
        self.apply(_xavier)

    def logits(self, x: Tensor) -> Tensor:
        return self.classifier((self.embed(x) + x).mean(dim=1))


class Recurrent(_WithoutAttention):
    """Three bidirectional layers of 64 gated recurrent units, and a classifier on the last instance.

    226,068 parameters with 128 dimensions and 20 classes. As in the authors' code, the backward half of what the
    classifier sees has only heard the last instance in the uppermost layer, and the weights start as PyTorch's own do.
    """

    def __init__(self, dimension: int, classes: int, dropout: float) -> None:
        super().__init__(dimension)
        self.rnn = nn.GRU(
            dimension, GRU_UNITS, num_layers=LAYERS, bidirectional=True, dropout=dropout, batch_first=True
        )
        self.classifier = nn.Linear(2 * GRU_UNITS, classes)

    def logits(self, x: Tensor) -> Tensor:
        states, _ = self.rnn(x)
        return self.classifier(states[:, -1])


def build_network(name: NetworkName, instances: int, dimension: int, classes: int, dropout: float) -> BagNet:
    """Return an untrained network; ``instances`` is the length of a bag, which only ``fc`` depends on."""
    if name == "fc":
        return FullyConnected(instances, dimension, classes, dropout)
    networks: dict[str, Callable[[int, int, float], BagNet]] = {
        "attention": AttentionNet,
        "mean": MeanPooling,
        "fc_t": InstanceWise,
        "rnn": Recurrent,
    }
    return networks[name](dimension, classes, dropout)


def _hidden(sizes: list[int], dropout: float) -> Iterator[nn.Module]:
    """Yield the hidden layers; dropping before the activation, as the authors do, is no other thing than after it."""
    for before, after in itertools.pairwise(sizes):
        yield from (nn.Linear(before, after), nn.Dropout(dropout), nn.LeakyReLU())


def _xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_normal_(module.weight)
        nn.init.zeros_(module.bias)
