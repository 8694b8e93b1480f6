"""What studies over teachers have in common: the classifier that distillation imitates, and which frames meet."""

from timbrel.study import Pretraining

SAME = ("vocabulary", "data.", "mixing.", "evaluation.", "teacher.")

NEAREST_IN_TIME = {"teacher.student_repeat": (), "teacher.teacher_repeat": ()}
"""How frames meet where teachers of several hops are compared; the authors' repetitions are of one teacher each."""

TEACHER_HEAD = Pretraining(
    task="clip_tagging",
    target="teacher.head",
    songs=0.0,
    fixed={"system": "teacher_lr"},
    each="teacher.name",
    shared={path: path for path in SAME},
)
"""EAsT's TeacherLR, on the songs that the students are trained on."""
