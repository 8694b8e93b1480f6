"""The three losses of the multitask paper, and how they become one.

Source: Hung et al., "Multitask learning for frame-level instrument recognition" (ICASSP 2019), and the authors' code.
The paper scales the losses "to the same range" without saying how; the code multiplies the pianoroll's loss by 2. Both
are here: ``scaling`` chooses.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn import functional

from tasks.pianoroll.model import heads
from timbrel import whole_batch

RARITY_EXPONENT = 0.3
"""How far the weights of rare instruments go (the authors' code)."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is minimised. A term of weight 0 is computed and logged, but not learned from."""

    roll: Annotated[float, Ge(0)] = 1.0
    """Weight of the pianoroll's loss (the authors' code: 2, with scaling=fixed)."""
    pitch: Annotated[float, Ge(0)] = 1.0
    """Weight of the pitch roll's loss (the authors' code: 1)."""
    instrument: Annotated[float, Ge(0)] = 1.0
    """Weight of the instrument roll's loss (the authors' code: 1)."""
    scaling: Literal["automatic", "fixed"] = "automatic"
    """automatic: each term is brought to the same range before it is weighted (the paper); fixed: weighted as it is
    (the authors' code)."""
    positive_weight: Annotated[float, Gt(0)] = 10.0
    """How much more something that sounds counts than something that doesn't (the authors' code: 10)."""
    class_weights: Literal["none", "rare"] = "none"
    """rare: instruments count the more, where they sound, the rarer they are (the authors' code); in the instrument
    roll's loss only."""
    class_shares: tuple[float, ...] = ()
    """For class_weights=rare: which share of all frames of sounding instruments each one has. Taken from the training
    songs when the run starts."""

    def __post_init__(self) -> None:
        weights = {"roll": self.roll, "pitch": self.pitch, "instrument": self.instrument}
        for name, weight in weights.items():
            if not 0 <= weight < math.inf:  # false for NaN, too
                raise ValueError(f"{name} must be a finite weight of at least 0, not {weight}")
        if not any(weights.values()):
            raise ValueError("roll, pitch and instrument are all 0: at least one loss needs a weight above 0")
        if not 0 < self.positive_weight < math.inf:
            raise ValueError(f"positive_weight must be finite and above 0, not {self.positive_weight}")
        if not all(0 <= share <= 1 for share in self.class_shares):
            raise ValueError(f"class_shares must lie between 0 and 1, not {self.class_shares}")


def losses(r: Tensor, roll: Tensor, config: LossConfig) -> dict[str, Tensor]:
    """Return ``loss``, which is to be minimised, and the three terms ``roll``, ``pitch`` and ``instrument``.

    Args:
        r: what ``PianorollNet`` returns, ``(batch, instrument, pitch, frame)``, of any floating-point type.
        roll: the pianoroll that is true, 0 or 1, of the same shape. The targets of pitch and of instrument follow
            from it: a pitch sounds where any instrument plays it, an instrument where it plays any pitch.
        config: weights and scaling.

    Each term is a binary cross-entropy (nats) with weighted positives, the mean over all elements of the batch; the
    terms are neither scaled nor multiplied by their weights, and carry no gradient. The authors add up the items of
    a batch instead, so that the same learning rate goes further by the size of the batch: for their rate, multiply
    by it.

    ``scaling="fixed"``: the weighted sum of the terms. ``scaling="automatic"``: of the terms in units of what each
    would be at logits of 0, where every probability is 1/2. That depends on the targets alone, so that nothing is
    remembered from batch to batch, and a term that is already learned is not learned from all the more. (Dividing by
    the term's present value does just that: on a handful of examples the losses of instrument and pitch went to 0,
    and the pianoroll's rose.)
    """
    if r.shape != roll.shape or r.dim() != 4:
        raise ValueError(
            "expected logits and pianoroll of one shape (batch, instrument, pitch, frame), "
            f"got {tuple(r.shape)} and {tuple(roll.shape)}"
        )
    roll = roll.float()
    logits = heads(r.float())  # in full precision: sums over 88 pitches, and logarithms
    positive = torch.tensor(config.positive_weight, device=r.device)
    rare = positive * _class_weights(config, r.shape[1]).to(r.device)
    parts = {
        "roll": (logits.roll, roll, positive),
        "pitch": (logits.pitch, roll.amax(dim=1), positive),
        "instrument": (logits.instrument, roll.amax(dim=2), rare),
    }
    terms = {name: _cross_entropy(*part) for name, part in parts.items()}
    undecided = {
        name: whole_batch.average(_cross_entropy(torch.zeros_like(logit), targets, weight))
        for name, (logit, targets, weight) in parts.items()
    }
    return {"loss": _total(terms, undecided, config), **{name: term.detach() for name, term in terms.items()}}


def rarity_weights(shares: Sequence[float]) -> list[float]:
    """Return a weight for each instrument, above 1 for those rarer than the mean, from their shares of all activity.

    An instrument without any has weight 1, as has one without which there is none: the formula has no value there.
    """
    mean = sum(shares) / len(shares)
    return [
        ((mean / share) * ((1 - share) / (1 - mean))) ** RARITY_EXPONENT if 0 < share < 1 else 1.0 for share in shares
    ]


def _class_weights(config: LossConfig, instruments: int) -> Tensor:
    """Return the weights of the instruments' positives, ``(instrument, 1)``: the same in every frame."""
    if config.class_weights == "none":
        return torch.ones(instruments, 1)
    if len(config.class_shares) != instruments:
        raise ValueError(
            f"class_weights=rare needs the share of each of {instruments} instruments, "
            f"but class_shares has {len(config.class_shares)}"
        )
    return torch.tensor(rarity_weights(config.class_shares))[:, None]


def _cross_entropy(logits: Tensor, targets: Tensor, positive_weight: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=positive_weight)


def _total(terms: dict[str, Tensor], undecided: dict[str, Tensor], config: LossConfig) -> Tensor:
    """Return what is minimised. Terms of weight 0 are left out, so that nothing flows back from them.

    Scaled or not, it is the same where nothing is decided: at logits of 0.
    """
    weights = {"roll": config.roll, "pitch": config.pitch, "instrument": config.instrument}
    weights = {name: weight for name, weight in weights.items() if weight > 0}
    if config.scaling == "fixed" or len(weights) == 1:
        return torch.stack([weight * terms[name] for name, weight in weights.items()]).sum()
    mean = torch.stack([weight * undecided[name] for name, weight in weights.items()]).sum() / sum(weights.values())
    return torch.stack([weight * mean * terms[name] / undecided[name] for name, weight in weights.items()]).sum()
