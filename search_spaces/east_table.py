"""Students with and without a teacher, and teachers by themselves: the table of EAsT."""

from ray import tune

from search_spaces.teacher_head import NEAREST_IN_TIME, TEACHER_HEAD
from timbrel.study import EMBEDDINGS, Study

STUDY = Study(
    name="east_table",
    summary="baseline, TeacherLR, KD, Cos-Diff, Final, All, EAsT-KD by each teacher in the library (EAsT, Tables 1, 2)",
    why=(
        "Does a small network learn more from few labels if the distances between its features are to be those between "
        "a large network's embeddings? EAsT found so for each of four teachers, on OpenMIC and on MagnaTagATune. The "
        "teachers are those whose embeddings the library has, each with its published weight; --config "
        "teacher.name=NAME takes one alone. Each frame of a student meets the teacher's nearest in time; the authors "
        "repeat both, by other numbers for each teacher. --seeds 0 1 2, or more: the differences are small."
    ),
    task="clip_tagging",
    space={
        "teacher.name": EMBEDDINGS,
        "system": tune.grid_search(["baseline", "teacher_lr", "kd", "cos_diff", "final", "all", "east_kd"]),
    },
    fixed=NEAREST_IN_TIME,
    pretraining=TEACHER_HEAD,
    metric="valid/pr_auc_macro",
)
