"""How a teacher's embeddings regularise best, by search with early stopping."""

from ray import tune

from search_spaces.teacher_head import NEAREST_IN_TIME, TEACHER_HEAD
from timbrel.study import EMBEDDINGS, Study

STUDY = Study(
    name="teacher_regularisation",
    summary="teacher, weight, distance, stages, share of distillation and temperature, by TPE with early stopping",
    why=(
        "EAsT weighs its regulariser by 0.6 to 0.9, depending on teacher and data set, compares the last stage or all, "
        "and gives distillation at temperature 2 none, three tenths or all of the regulariser. What lies between was "
        "not published. Mean average precision on validation decides. The teachers are those whose embeddings the "
        "library has; --config teacher.name=NAME takes one alone."
    ),
    task="clip_tagging",
    space={
        "teacher.name": EMBEDDINGS,
        "teacher.weight": tune.uniform(0.0, 1.0),
        "teacher.distance": tune.choice(["distance_correlation", "cosine_difference"]),
        "teacher.stages": tune.choice(["final", "all"]),
        "teacher.kd": tune.uniform(0.0, 1.0),
        "teacher.temperature": tune.loguniform(1.0, 8.0),
    },
    fixed={"system": "custom", **NEAREST_IN_TIME},
    samples=16,
    early_stopping=True,
    pretraining=TEACHER_HEAD,
    metric="valid/pr_auc_macro",
)
