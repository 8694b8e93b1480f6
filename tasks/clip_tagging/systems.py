"""The published systems, by what they set: which loss a teacher has, and how each teacher's embeddings are used.

Source: EAsT (`tasks.clip_tagging.front_end` has it). Final and EAsT-KD are as the authors' code configures them. It
has no configs of All, Cos-Diff, KD alone and the baseline: these are rebuilt from the paper, and from what the code's
losses can do.
"""

from collections.abc import Mapping
from typing import Any, Literal

System = Literal["final", "all", "cos_diff", "kd", "east_kd", "baseline", "teacher_lr", "custom"]

SYSTEMS: Mapping[System, Mapping[str, Any]] = {
    "final": {"distance": "distance_correlation", "stages": "final", "kd": 0.0},
    "all": {"distance": "distance_correlation", "stages": "all", "kd": 0.0},
    "cos_diff": {"distance": "cosine_difference", "stages": "final", "kd": 0.0},
    "kd": {"kd": 1.0},
    "east_kd": {"distance": "distance_correlation", "stages": "final", "kd": 0.3},
    "baseline": {},
    "teacher_lr": {},
    "custom": {},
}
"""Fields of `teacher` that a system sets."""
UNTAUGHT: tuple[System, ...] = ("baseline", "teacher_lr")

TRAINING_OF_TEACHER_LR = {
    "training.optimizer": "sgd",
    "training.momentum": 0.0,
    "training.plateau_factor": 0.1,
    "training.plateau_patience": 1,
    "training.stop_patience": 3,
}
LINEAR_LR = 0.1
"""Learning rate of TeacherLR under SGD."""
LINEAR_LRS = {("openmic", "vggish"): 0.2, ("magnatagatune", "passt"): 0.2}
"""Where it is another, by vocabulary and teacher."""

MAGNATAGATUNE = {
    "vocabulary": "magnatagatune",
    "student": "mobile_fcn",
    "mixing.sample_rate": 16_000,
    "mixing.seconds": 29.0,
    "front_end.bands": 96,
    "augmentation.mixup": 0.0,
    "augmentation.low_jitter_hz": 0,
    "augmentation.high_jitter_hz": 0,
    "augmentation.band_mask": 0,
    "augmentation.frame_mask": 0,
    "training.epochs": 105,
    "training.batches_per_epoch": 950,
    "training.plateau_patience": 5,
    "training.stop_patience": 12,
}
"""What differs from OpenMIC: 100,000 batches of the 15,247 training clips of the usual clean split."""

MAGNATAGATUNE_WEIGHT = 0.6
"""lambda, of all teachers; those on OpenMIC are the defaults of `teacher.weight`."""


def teacher_values(vocabulary: Literal["openmic", "magnatagatune"], name: str) -> dict[str, Any]:
    """Return the published values of `teacher` by config path, for one of its four teachers.

    Of ten seconds of OpenMIC a student has 62 frames, the teachers 10 and PANNs one. Of a clip of MagnaTagATune it has
    30, 15 and 15 frames, the teachers 30 and PANNs one.
    """
    one_a_clip = name == "panns"
    weight = {}
    if vocabulary == "openmic":
        student, teacher = (1, 1, 1), (60, 60, 60) if one_a_clip else (6, 6, 6)
    else:
        weight = {"teacher.weight": MAGNATAGATUNE_WEIGHT}
        student, teacher = ((1, 1, 1), (30, 15, 15)) if one_a_clip else ((1, 2, 2), (1, 1, 1))
    repeats = {"teacher.student_repeat": student, "teacher.teacher_repeat": teacher}
    return {"teacher.name": name, **weight, **repeats}
