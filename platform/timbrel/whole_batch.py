"""What a batch is as a whole, while several workers each learn from an equal share of it.

Workers step by the mean of their gradients. That is the gradient of the whole batch if the mean of their losses is the
loss of the whole batch. A mean over examples is so by itself, because shares are equally large. A mean over what was
judged is not, since more may have been judged of one share than of another; nor is anything that compares examples
with each other, or divides by a figure of the batch. Those are computed with the functions below.

They ask the other workers within `sharing` alone, which the training step is: evaluation is the first worker's, who
would wait for the others for ever. Everywhere else the batch at hand is the whole one.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import numpy as np
import torch
import torch.distributed
from torch import Tensor, nn

_shared = ContextVar("shared", default=False)


@contextlib.contextmanager
def sharing(shared: bool) -> Iterator[None]:
    """Within it the batch at hand is one worker's share of a whole one, if ``shared``."""
    before = _shared.set(shared)
    try:
        yield
    finally:
        _shared.reset(before)


def workers() -> int:
    """Return how many workers share a batch: 1 outside of ``sharing``."""
    return torch.distributed.get_world_size() if _shared.get() else 1


def total(values: Tensor) -> Tensor:
    """Return the sum over workers of numbers that each has, as far as nothing is learned from them: no gradient."""
    values = values.detach()
    if workers() > 1:
        values = values.clone()
        torch.distributed.all_reduce(values)
    return values


def average(values: Tensor) -> Tensor:
    """Return the mean over workers of numbers that each has; no gradient. A mean over examples becomes that of the
    whole batch."""
    return total(values) / workers()


def mean_where(values: Tensor, counted: Tensor) -> Tensor:
    """Return the mean of ``values`` over those that are ``counted``, bool of the same shape; 0 if none is.

    Among several workers the mean of what they are given is that of the whole batch: each has the sum over its share,
    divided by the mean number that a share counts.
    """
    return torch.where(counted, values, 0.0).sum() * workers() / total(counted.sum()).clamp(min=1)


def gathered(values: Tensor) -> Tensor:
    """Return the rows of the whole batch, ``(batch, ...)``, from those of this worker's share.

    A loss of them is the same number for every worker, and each sends back what its own rows have part in; as many
    times as there are workers, because the mean of the gradients is taken.
    """
    count = workers()
    if count == 1:
        return values
    rows = [torch.empty_like(values, memory_format=torch.contiguous_format) for _ in range(count)]
    torch.distributed.all_gather(rows, values.detach().contiguous())
    own = values.clone()
    if own.requires_grad:
        own.register_hook(lambda gradient: count * gradient)
    rows[torch.distributed.get_rank()] = own
    return torch.cat(rows)


def seed_share(seed: int, epoch: int) -> None:
    """Give this worker random numbers of its own for dropout and augmentation in an epoch.

    They are seeded anew at each, so that they are the same after an interruption: a checkpoint has those of the first
    worker alone.
    """
    own = np.random.SeedSequence([seed, epoch, torch.distributed.get_rank()])
    torch.manual_seed(int(own.generate_state(1, np.uint64)[0]))


def of_first(value: float, device: torch.device) -> float:
    """Return what the first worker gave; all workers have to ask."""
    shared = torch.tensor(value, dtype=torch.float64, device=device)
    torch.distributed.broadcast(shared, src=0)
    return float(shared)


def take_from_first(model: nn.Module) -> None:
    """Give the models of all workers the weights and buffers that the first worker's has."""
    for tensor in model.state_dict().values():
        sent = tensor.contiguous()  # convolutions are laid out channels last
        torch.distributed.broadcast(sent, src=0)
        tensor.copy_(sent)


def normalised_together(model: nn.Module, device: torch.device) -> nn.Module:
    """Return the model with batch norm over the whole batch, where the device can: PyTorch has it on GPUs alone.

    It has the tensors of the model that is given, under the same names. Layers in evaluation mode, such as those of a
    frozen backbone, do as they did.
    """
    return nn.SyncBatchNorm.convert_sync_batchnorm(model) if device.type == "cuda" else model
