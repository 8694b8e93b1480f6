"""The objective: cross-entropy where somebody judged."""

import torch
from torch import Tensor

from timbrel import whole_batch

LEAST = 1e-7
"""Probabilities are kept this far from 0 and 1, whose logarithm no gradient survives."""


def judged_cross_entropy(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the binary cross-entropy (nats), the mean over the judged entries of a batch; 0 if there is none.

    Args:
        probabilities: ``(batch, class)``.
        labels: 1 present, 0 absent, NaN where nobody judged, ``(batch, class)``.

    A probability of NaN where somebody judged makes it NaN, so that a diverged training is seen.
    """
    judged = ~torch.isnan(labels)
    present = torch.where(judged, labels, 0.0)
    said = probabilities.clamp(LEAST, 1 - LEAST)
    entropies = -(present * said.log() + (1 - present) * (1 - said).log())
    return whole_batch.mean_where(entropies, judged)
