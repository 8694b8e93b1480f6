"""The config branch `teacher` that every task has: whose embeddings, how much they weigh, and by which loss.

Source: Ding and Lerch, "Audio embeddings as teachers for music classification" (EAsT, ISMIR 2023; arXiv 2306.17424),
and the authors' code. What is minimised is ``(1 - weight) * L_pred + weight * L_reg``: the task's own loss, and the
regulariser of `timbrel.teaching.regulariser`. Free of PyTorch, because a mixing actor reads it.
"""

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal, NamedTuple

from annotated_types import Gt

from timbrel.mixing.recipe import Probability

MEAN = -1
"""As a number of repetitions: the mean over time instead."""


class Published(NamedTuple):
    """What the authors give with a teacher."""

    weight: float
    """lambda on OpenMIC."""
    offset: float
    scale: float


PUBLISHED = MappingProxyType(
    {
        "vggish": Published(0.8, 128.0, 1 / 256),
        "openl3": Published(0.8, 2.24, 1.0),
        "passt": Published(0.9, 0.0, 1.0),
        "panns": Published(0.9, 0.0, 1.0),
    }
)
"""By name of the embeddings."""
OTHERS = Published(0.8, 0.0, 1.0)
"""Of other embeddings; ours."""


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """A regulariser by a teacher's embeddings. The paper's systems: Final (the defaults), All (``stages=all``),
    Cos-Diff (``distance=cosine_difference``), KD (``kd=1``) and EAsT-KD (``kd=0.3``)."""

    name: str = ""
    """Embeddings in the library, as `timbrel embed` names them, or with ``weights`` the network; empty: no teacher."""
    weights: str = ""
    """Run or file of weights: the network runs beside the training on the sound of each example, for mixtures, which no
    store can hold; empty: embeddings come from the library. A model that hears embeddings is always trained on the
    library's, and `timbrel predict` makes those of a recording by these weights."""
    weight: Probability | None = None
    """lambda, the regulariser's share of the loss; the prediction has the rest. None: as the authors on OpenMIC for
    embeddings of that name (0.9 for passt and panns, 0.8 for vggish and openl3), 0.8 for others. On MagnaTagATune they
    have 0.6."""
    distance: Literal["distance_correlation", "cosine_difference"] = "distance_correlation"
    """How the embeddings of a batch are compared with what the network makes of it: by the correlation of the distances
    between examples (paper), or by the difference of their cosines (the paper's Cos-Diff)."""
    stages: Literal["final", "all"] = "final"
    """Which stages of the network are regularised: the last, or all, each with the same weight. (The paper says all
    stages; that they weigh the same is inferred, as the authors' settings for it are not published.)"""
    kd: Probability = 0.0
    """Share of knowledge distillation in the regulariser; the distance has the rest. 0: the distance alone; 1:
    distillation alone; EAsT-KD: 0.3."""
    kd_targets: Literal["soft", "hard"] = "soft"
    """What distillation imitates: the teacher's probabilities at a temperature, or its decisions."""
    head: str = ""
    """Run or file of a linear classifier on the embeddings (the paper's TeacherLR), which distillation imitates; of
    several teachers one each, as ``NAME=RUN,NAME=RUN``."""
    temperature: Annotated[float, Gt(0)] = 2.0
    """Of soft targets: logits are divided by it (authors: 2)."""
    offset: float | None = None
    """Embeddings are given as ``(value - offset) * scale``. None: as the authors for embeddings of that name (vggish
    128 and 1/256, openl3 2.24 and 1), 0 and 1 for others."""
    scale: Annotated[float, Gt(0)] | None = None
    """See offset."""
    student_repeat: tuple[int, ...] = ()
    """How often each frame of each stage is repeated before it meets the teacher's frames, whose surplus is cut off,
    such as ``1,2,2``; -1: the mean over time. Empty: each frame meets the teacher's nearest in time. Ours; the authors
    repeat by numbers chosen for each teacher."""
    teacher_repeat: tuple[int, ...] = ()
    """How often each of the teacher's frames is repeated, for each stage, such as ``6,6,6``; see student_repeat."""

    dimension: int = 0
    """Of the embeddings in the library; filled in before a run."""
    hop_s: float = 0.0
    """From one of them to the next, in s, 0 if there is one a song; filled in likewise."""

    def __post_init__(self) -> None:
        for field, value in (("weight", self.share), ("kd", self.kd)):
            if not 0 <= value <= 1:  # false for NaN, too
                raise ValueError(f"{field} must lie between 0 and 1, not {value}")
        offset, scale = self.normalisation
        for field, value in (("temperature", self.temperature), ("scale", scale)):
            if not 0 < value < math.inf:
                raise ValueError(f"{field} must be finite and above 0, not {value}")
        if not math.isfinite(offset):
            raise ValueError(f"offset must be finite, not {offset}")
        if self.weights and not self.name:
            raise ValueError(f"weights ({self.weights}) are of no teacher: name it by teacher.name")
        self._check_repeats()

    def _check_repeats(self) -> None:
        repeats = {"student_repeat": self.student_repeat, "teacher_repeat": self.teacher_repeat}
        for name, counts in repeats.items():
            if not all(count >= 1 or count == MEAN for count in counts):
                raise ValueError(f"{name} ({_listed(counts)}) must be of numbers from 1, or {MEAN} for the mean")
        shown = " and ".join(f"{name} ({_listed(counts)})" for name, counts in repeats.items())
        if len(self.student_repeat) != len(self.teacher_repeat):
            raise ValueError(f"{shown} must have one number a stage each, or both be empty")
        if any((a == MEAN) != (b == MEAN) for a, b in zip(self.student_repeat, self.teacher_repeat, strict=True)):
            raise ValueError(f"{shown} must ask for the mean ({MEAN}) at the same stages: it leaves one frame")

    @property
    def share(self) -> float:
        """The regulariser's share of the loss."""
        return self._published.weight if self.weight is None else self.weight

    @property
    def normalisation(self) -> tuple[float, float]:
        """What is taken from the embeddings, and what they are multiplied by then."""
        published = self._published
        return (
            published.offset if self.offset is None else self.offset,
            published.scale if self.scale is None else self.scale,
        )

    @property
    def _published(self) -> Published:
        return PUBLISHED.get(self.name, OTHERS)

    @property
    def heads(self) -> tuple[str, ...]:
        """All runs and files that ``head`` names."""
        return tuple(self._heads.values()) if self._heads else (self.head,) if self.head else ()

    @property
    def own_head(self) -> str:
        """The one of them that is on this teacher's embeddings; empty if none is."""
        return self._heads.get(self.name, "") if self._heads else self.head

    @property
    def _heads(self) -> dict[str, str]:
        parts = [part.partition("=") for part in self.head.split(",")]
        return {name: run for name, _, run in parts} if all(run for _, _, run in parts) else {}

    @property
    def needs_stages(self) -> bool:
        """Whether the network's stages are compared with the embeddings."""
        return bool(self.name) and self.kd < 1

    @property
    def needs_head(self) -> bool:
        """Whether a classifier on the embeddings is imitated."""
        return bool(self.name) and self.kd > 0


def _listed(counts: tuple[int, ...]) -> str:
    return ",".join(map(str, counts)) or "none"
