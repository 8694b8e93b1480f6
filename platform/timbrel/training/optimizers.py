"""The optimiser of each stage of a training.

A training has one stage, with Adam or plain SGD, or the two of the short-chunk CNN's authors (``training/solver.py`` in
``minzwon/sota-music-tagging-models``): Adam, then SGD with Nesterov momentum 0.9 at falling rates. Each switch goes
back to the weights of the lowest validation loss. When only its rates fall, SGD keeps its momentum, as theirs does.
Weight decay is that of the task's parameter groups in both stages.
"""

from typing import Any

import torch

from timbrel.settings import Training

MOMENTUM = 0.9
"""Of the second stage's SGD."""


def make_optimizer(groups: list[dict[str, Any]], stage: int, training: Training) -> torch.optim.Optimizer:
    """Return the optimiser of a stage as ``timbrel.settings.Training.stage_at`` counts them."""
    if stage:
        return torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True)
    if training.schedule != "two_stage" and training.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=training.momentum)
    return torch.optim.Adam(groups)
