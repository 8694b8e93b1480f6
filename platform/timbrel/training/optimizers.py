"""The optimiser of each stage of a training.

A training has one stage, with Adam, or the two of the short-chunk CNN's authors (``training/solver.py`` in
``minzwon/sota-music-tagging-models``): Adam, then SGD with Nesterov momentum 0.9 at falling rates. Each switch goes
back to the weights of the lowest validation loss. When only its rates fall, SGD keeps its momentum, as theirs does.
Weight decay is that of the task's parameter groups in both stages.
"""

from typing import Any

import torch

MOMENTUM = 0.9
"""Of SGD."""


def make_optimizer(groups: list[dict[str, Any]], stage: int) -> torch.optim.Optimizer:
    """Return the optimiser of a stage as ``timbrel.settings.Training.stage_at`` counts them: Adam for 0, else SGD."""
    if stage == 0:
        return torch.optim.Adam(groups)
    return torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True)
