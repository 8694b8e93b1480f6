"""Students with and without a teacher, and the teacher by itself: the table of EAsT."""

from ray import tune

from search_spaces.teacher_head import TEACHER_HEAD
from timbrel.study import Study

STUDY = Study(
    name="east_table",
    summary="baseline, TeacherLR, KD, Cos-Diff, Final, All and EAsT-KD by one teacher (EAsT, Tables 1 and 2)",
    why=(
        "Does a small network learn more from few labels if the distances between its features are to be those between "
        "a large network's embeddings? EAsT found so for each of four teachers, on OpenMIC and on MagnaTagATune. One "
        "study has one teacher, whose embeddings `timbrel embed` has put into the library: --preset vggish, openl3, "
        "passt or panns, or --config teacher.name=NAME. `timbrel report` shows several studies as one table."
    ),
    task="clip_tagging",
    space={
        "system": tune.grid_search(["baseline", "teacher_lr", "kd", "cos_diff", "final", "all", "east_kd"]),
    },
    pretraining=TEACHER_HEAD,
    metric="valid/pr_auc_macro",
)
