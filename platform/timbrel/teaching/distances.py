"""How far what a student makes of a batch is from its teacher's embeddings: the losses of EAsT.

Source: Ding and Lerch, "Audio embeddings as teachers for music classification" (EAsT, ISMIR 2023; arXiv 2306.17424),
and the authors' code, constants included. Distance correlation is that of Szekely, Rizzo and Bakirov, "Measuring and
testing dependence by correlation of distances" (Annals of Statistics, 2007).

Student and teacher are ``(batch, frame, channel)``, each with its own frames and channels. Neither loss compares
channels: both compare how the examples of a batch lie to each other, frame by frame, so that a batch has to hold two at
least. All of it is computed in float32, or in float64 if it is given so, whatever the precision around it.

Where a frame of the teacher's meets several of the student's, its distances are computed once: ``Pairs`` say which
frames meet, and stand for repeated tensors.

Of several workers each gathers the examples of all, so that they are compared across the whole batch.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from timbrel import whole_batch
from timbrel.errors import UserError
from timbrel.teaching.config import MEAN

DISTANCE_EPS = 1e-12
"""Under the root of each distance; there the root would have no gradient between two examples that are alike."""
CORRELATION_EPS = 1e-9
"""Under the root that a correlation is divided by: examples that are all alike are uncorrelated with anything."""
KD_EPS = 1e-9
"""Beside the probabilities whose logarithms are taken."""

Pairs = tuple[Tensor, Tensor]
"""Which frames meet: numbers of the student's and of the teacher's, int64 ``(pair,)`` each."""


def align(
    student: Tensor, teacher: Tensor, student_repeat: int | None = None, teacher_repeat: int | None = None
) -> tuple[Tensor, Tensor, Pairs]:
    """Return student and teacher, and which of their frames meet.

    Frames meet as if each of the student's were repeated ``student_repeat`` times, each of the teacher's
    ``teacher_repeat`` times, and both cut to the shorter (the authors' way). -1: the mean over time instead, for both.
    Without numbers each of the student's frames meets that of the teacher's which sounds at its middle, both taken to
    last as long.
    """
    frames, taught = student.shape[1], teacher.shape[1]
    if student_repeat is None or teacher_repeat is None:
        mine = torch.arange(frames, device=student.device)
        return student, teacher, (mine, (2 * mine + 1) * taught // (2 * frames))
    if student_repeat == MEAN and teacher_repeat == MEAN:
        first = torch.zeros(1, dtype=torch.int64, device=student.device)
        return student.mean(dim=1, keepdim=True), teacher.mean(dim=1, keepdim=True), (first, first)
    if min(student_repeat, teacher_repeat) < 1:
        raise ValueError(f"expected repetitions from 1, or twice {MEAN}, got {student_repeat} and {teacher_repeat}")
    steps = torch.arange(min(frames * student_repeat, taught * teacher_repeat), device=student.device)
    return student, teacher, (steps // student_repeat, steps // teacher_repeat)


def distance_correlation(student: Tensor, teacher: Tensor, pairs: Pairs | None = None) -> Tensor:
    """Return 1 minus the distance correlation of student and teacher across the batch, the mean over frames.

    0 where the distances between the teacher's examples are those between the student's, but for one factor. The paper
    calls it distance correlation; as its code computes it, without the root of the ratio, it is that squared
    (``dcor.distance_correlation_sqr``). The features are not normalised. Without ``pairs`` frame meets frame.

    Raises:
        UserError: the batch has one example.
    """
    return _compare(student, teacher, pairs, _centred_distances, _uncorrelated)


def cosine_difference(student: Tensor, teacher: Tensor, pairs: Pairs | None = None) -> Tensor:
    """Return by how much the cosines between the student's examples differ from those between the teacher's.

    The mean of the magnitudes, over all pairs of examples (each with itself, too) and over frames.

    Raises:
        UserError: the batch has one example.
    """
    return _compare(student, teacher, pairs, _cosines, lambda ours, theirs: (ours - theirs).abs().mean())


def kd_loss(
    student_logits: Tensor, teacher_logits: Tensor, judged: Tensor, temperature: float = 2.0, hard: bool = False
) -> Tensor:
    """Return the loss of knowledge distillation between logits ``(batch, class)``, the mean over judged entries.

    Soft: the Kullback-Leibler divergence (nats) of Bernoulli distributions, both of logits divided by the temperature,
    times its square. Hard: the cross-entropy with the teacher's decisions at a probability of 1/2; the authors' code
    for it cannot run, as its ``reduce="none"``, read as true, leaves no entries for the mask to choose from.

    ``judged`` is bool ``(batch, class)``. If nothing is, the loss is 0 and its gradient, too.
    """
    with torch.autocast(student_logits.device.type, enabled=False):
        ours, theirs = _full(student_logits), _full(teacher_logits).detach()
        if hard:
            losses = functional.binary_cross_entropy_with_logits(ours, (theirs > 0).to(ours), reduction="none")
        else:
            ours, theirs = ours / temperature, theirs / temperature
            # sigmoid(-z) is 1 - sigmoid(z), which would be 0 from logits of 17 on.
            absent = torch.log(torch.sigmoid(-theirs) + KD_EPS) - torch.log(torch.sigmoid(-ours) + KD_EPS)
            losses = temperature**2 * (torch.sigmoid(theirs) * (theirs - ours) + absent)
        return whole_batch.mean_where(losses, judged)


def _compare(
    student: Tensor,
    teacher: Tensor,
    pairs: Pairs | None,
    relations: Callable[[Tensor], Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Return the loss between how the student's and the teacher's examples lie to each other in the frames that meet.

    ``relations`` makes ``(frame, batch, batch)`` of ``(frame, batch, channel)``.
    """
    if student.dim() != 3 or teacher.dim() != 3 or len(student) != len(teacher):
        raise ValueError(
            "expected student and teacher of shape (batch, frame, channel) and one batch, "
            f"got {tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    if pairs is None and student.shape[1] != teacher.shape[1]:
        raise ValueError(f"expected as many frames of both, got {student.shape[1]} and {teacher.shape[1]}: align them")
    if len(student) * whole_batch.workers() < 2:
        raise UserError(
            "a teacher's embeddings are compared across a batch, and a batch of one has nothing to compare: raise "
            "training.batch_size to at least 2."
        )
    with torch.autocast(student.device.type, enabled=False):
        ours, theirs = (relations(whole_batch.gathered(_full(each)).transpose(0, 1)) for each in (student, teacher))
        if pairs is not None:
            ours, theirs = ours[pairs[0]], theirs[pairs[1]]
        return loss(ours, theirs)


def _full(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _centred_distances(features: Tensor) -> Tensor:
    """Return the Euclidean distances within each frame, minus the means of row and column, plus the mean of all."""
    # The differences' squares from products of vectors; taken from their mean, which keeps those products small.
    features = features - features.mean(dim=1, keepdim=True).detach()
    products = features @ features.transpose(1, 2)
    squares = products.diagonal(dim1=1, dim2=2)
    squared = squares[:, :, None] + squares[:, None, :] - 2 * products
    # No gradient between examples that are alike: of great numbers that cancel, it would be what rounding leaves.
    distances = torch.sqrt(torch.where(squared > 0, squared, 0.0) + DISTANCE_EPS)
    rows = distances.mean(dim=2, keepdim=True)
    return distances - rows - rows.transpose(1, 2) + rows.mean(dim=1, keepdim=True)


def _uncorrelated(ours: Tensor, theirs: Tensor) -> Tensor:
    covariance = (ours * theirs).mean(dim=(1, 2))
    variances = ours.square().mean(dim=(1, 2)) * theirs.square().mean(dim=(1, 2))
    return (1 - covariance / torch.sqrt(variances + CORRELATION_EPS)).mean()


def _cosines(features: Tensor) -> Tensor:
    unit = functional.normalize(features, dim=2)
    return unit @ unit.transpose(1, 2)
