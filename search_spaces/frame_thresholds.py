"""Where does a frame's probability become a note? The rules compared on the outputs of a run that is there already."""

from ray import tune

from timbrel.study import Study

STUDY = Study(
    name="frame_thresholds",
    summary="decision rules for pianoroll, pitches and instruments by frame; no retraining",
    why=(
        "The multitask paper's code decides at 0.85 for every pitch and every instrument's pianoroll, and leaves the "
        "instruments as probabilities. Is a threshold that was chosen on validation better, and does each instrument "
        "want its own? The rules are applied to the validation outputs of a finished run and judged on its test "
        "outputs."
    ),
    task="pianoroll",
    space={
        "evaluation.roll_rule": tune.grid_search(["fixed", "chosen"]),
        "evaluation.threshold_rule": tune.grid_search(["fixed", "global", "per_class"]),
    },
    fixed={"evaluation.fixed_threshold": 0.5},
    retrains=False,
    metric="valid/roll_accuracy",
)
