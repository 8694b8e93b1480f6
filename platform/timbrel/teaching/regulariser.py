"""What a teacher adds to a task's loss: `Regulariser`, from the config branch `teacher`.

Source: Ding and Lerch, "Audio embeddings as teachers for music classification" (EAsT, ISMIR 2023; arXiv 2306.17424),
and the authors' code. Where they differ, or leave something open:

* Distance correlation is squared in the code; here too.
* All stages weigh the same: inferred from the paper, as the code comes without settings for it.
* Hard targets cannot run in the code; here they are what it evidently means, over judged entries.
* A mean over time of a stage alone, or of the embeddings alone, fails in the code; here the config refuses it.

The authors' mixup is no part of this. It belongs to the task, which has to mix embeddings with the sound, and to say
which labels of a mixed pair count as judged.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from timbrel.errors import UserError
from timbrel.teaching import distances
from timbrel.teaching.config import TeacherConfig


class Regulariser(nn.Module):
    """The regulariser of EAsT: a distance to the teacher's embeddings, knowledge distillation, or both.

    ``head`` is the linear classifier on the mean over time of the embeddings, whose logits distillation imitates. It
    learns nothing here.

    ``forward`` takes the student's stages from first to last, each ``(batch, frame, channel)``; its logits
    ``(batch, class)``; the embeddings ``(batch, frame, dimension)``, offset and scale applied; and the labels
    ``(batch, class)``, NaN where nobody judged, for distillation is over judged entries alone. It returns
    ``regulariser``, which is to be minimised, and without a gradient its terms: ``distance`` and ``kd``, as the config
    has them. Distillation alone needs no stages.
    """

    def __init__(self, config: TeacherConfig, head: nn.Linear | None = None) -> None:
        super().__init__()
        self.config = config
        if not config.name:
            raise ValueError("expected a config that names a teacher, got one without")
        if config.needs_head and head is None:
            raise ValueError(f"expected a classifier on the embeddings, as kd is {config.kd:g}, got none")
        self.head = head.eval().requires_grad_(False) if config.needs_head and head is not None else None

    def forward(self, stages: Sequence[Tensor], logits: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return ``regulariser`` and its terms, each a number."""
        terms, kd = {}, self.config.kd
        if self.config.needs_stages:
            terms["distance"] = self._distance(stages, teacher)
        if self.head is not None:
            terms["kd"] = self._distillation(self.head, logits, teacher, labels)
        total = terms["distance"] if "kd" not in terms else terms["kd"]
        if len(terms) == 2:
            total = (1 - kd) * terms["distance"] + kd * terms["kd"]
        return {"regulariser": total, **{name: term.detach() for name, term in terms.items()}}

    def _distance(self, stages: Sequence[Tensor], teacher: Tensor) -> Tensor:
        config = self.config
        compare = getattr(distances, config.distance)
        repeats: Sequence[tuple[int | None, int | None]] = [(None, None)] * len(stages)
        if config.student_repeat:
            repeats = list(zip(config.student_repeat, config.teacher_repeat, strict=True))
        if len(repeats) != len(stages):
            raise UserError(
                f"teacher.student_repeat and teacher.teacher_repeat are for {len(repeats)} stages, the network has "
                f"{len(stages)}: give one number a stage, or none."
            )
        chosen = list(zip(stages, repeats, strict=True))
        if config.stages == "final":
            chosen = chosen[-1:]
        losses = [compare(*distances.align(stage, teacher, *repeat)) for stage, repeat in chosen]
        return torch.stack(losses).mean()

    def _distillation(self, head: nn.Linear, logits: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        name = f"the classifier teacher.head={self.config.head}"
        if teacher.shape[-1] != head.in_features:
            raise UserError(
                f"{name} is for embeddings of dimension {head.in_features}, those of '{self.config.name}' have "
                f"{teacher.shape[-1]}: name one that was trained on them."
            )
        if logits.shape[-1] != head.out_features:
            raise UserError(
                f"{name} knows {head.out_features} classes, the task has {logits.shape[-1]}: name one that was trained "
                "for this task."
            )
        with torch.no_grad(), torch.autocast(teacher.device.type, enabled=False):
            imitated = head(teacher.to(head.weight.dtype).mean(dim=1))
        hard = self.config.kd_targets == "hard"
        return distances.kd_loss(logits, imitated, ~labels.isnan(), self.config.temperature, hard)
