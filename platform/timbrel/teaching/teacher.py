"""What a network is taught by beside its labels: the part of a training step that knows of embeddings."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from timbrel.errors import UserError
from timbrel.settings import Experiment
from timbrel.task import Task
from timbrel.teaching.config import TeacherConfig
from timbrel.teaching.regulariser import Regulariser


class Teacher(nn.Module):
    """Adds the regulariser to a loss.

    Args:
        config: of the regulariser.
        head: the classifier on the embeddings that distillation imitates.
        network: makes the embeddings of audio ``(batch, sample)`` where the examples bring none, ``(batch, time,
            dimension)``.
    """

    def __init__(self, config: TeacherConfig, head: nn.Linear | None = None, network: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.regulariser = Regulariser(config, head)
        self.network = network
        self.requires_grad_(False)
        self.eval()

    @property
    def staged(self) -> bool:
        """Whether the student's stages are asked for."""
        return self.config.needs_stages

    def forward(
        self,
        terms: Mapping[str, torch.Tensor],
        outputs: torch.Tensor,
        stages: Sequence[torch.Tensor],
        batch: Mapping[str, torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """Return the terms of the objective with ``(1 - weight) * loss + weight * regulariser`` as the ``loss``, and
        beside them ``loss_prediction``, which was the loss, and the regulariser's own."""
        weight = self.config.share
        own = self.regulariser(stages, outputs, batch["teacher"], batch["labels"])
        regulariser = own.pop("regulariser")
        return {
            **terms,
            "loss": (1 - weight) * terms["loss"] + weight * regulariser,
            "loss_prediction": terms["loss"],
            "loss_regulariser": regulariser,
            **{f"loss_{name}": value for name, value in own.items()},
        }

    def heard(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return a batch with ``teacher``, ``(batch, time, dimension)``, offset and scale applied: what the network
        makes of its audio, unless the examples brought their embeddings along."""
        if self.network is None:
            return dict(batch)
        offset, scale = self.config.normalisation
        with torch.no_grad():
            return {**batch, "teacher": (self.network(batch["audio"]) - offset) * scale}


def teacher_of(
    task: Task, config: Experiment, head: Mapping[str, torch.Tensor] | None, network: nn.Module | None
) -> Teacher | None:
    """Return what teaches a config's model; None if nothing does, or the model hears the embeddings itself.

    Args:
        task: of the config.
        config: of the experiment.
        head: weights of the classifier that ``teacher.head`` names, if it is needed.
        network: that ``teacher.weights`` names.

    Raises:
        UserError: no classifier is named though one is to be imitated, or ``head`` is something else, or not of the
            task's classes.
    """
    asked = config.taught_by
    if not asked.name or task.hears_embeddings(config):
        return None
    if asked.needs_head and not asked.own_head:
        raise UserError(
            f"teacher.kd={asked.kd:g} imitates a linear classifier on the embeddings '{asked.name}': set teacher.head "
            "to its run or file (`timbrel train clip_tagging --config system=teacher_lr` makes one), or teacher.kd=0."
        )
    linear = linear_of(head, asked.own_head) if asked.needs_head and head else None
    classes = len(task.classes(config))
    if linear is not None and linear.out_features != classes:
        raise UserError(
            f"teacher.head={asked.own_head} is a classifier of {linear.out_features} classes, task {task.name} has "
            f"{classes}: train one on the same vocabulary."
        )
    return Teacher(asked, linear, network)


def linear_of(weights: Mapping[str, torch.Tensor], where: str) -> nn.Linear:
    """Return the linear classifier that is all there is in some weights.

    Raises:
        UserError: they are of something else; ``where`` names them.
    """
    matrices = [tensor for tensor in weights.values() if tensor.dim() == 2]
    vectors = [tensor for tensor in weights.values() if tensor.dim() == 1]
    if len(weights) != 2 or len(matrices) != 1 or len(vectors) != 1:
        raise UserError(
            f"teacher.head={where}: expected the weights of a linear classifier on embeddings, such as a run of "
            "`timbrel train clip_tagging --preset teacher_lr`, got those of another network."
        )
    (matrix,), (bias,) = matrices, vectors
    linear = nn.Linear(matrix.shape[1], matrix.shape[0])
    linear.load_state_dict({"weight": matrix, "bias": bias})
    return linear
