"""The linear classifier on a teacher's embeddings, which studies with distillation train first."""

from timbrel.study import Pretraining

SAME = ("vocabulary", "data.", "mixing.", "evaluation.", "teacher.")

TEACHER_HEAD = Pretraining(
    task="clip_tagging",
    target="teacher.head",
    songs=0.0,
    fixed={"system": "teacher_lr"},
    each="teacher.name",
    shared={path: path for path in SAME},
)
"""EAsT's TeacherLR, on the songs that the students are trained on."""
