"""Where does a probability become a decision? The rules compared on the outputs of a run that is there already."""

from ray import tune

from timbrel.study import Study

STUDY = Study(
    name="thresholds",
    summary="the decision rule: one fixed threshold, one chosen for all classes, or one for each; no retraining",
    why=(
        "The paper decides at 0.35 for every class. Rare classes seldom get so high: a threshold of their own, chosen "
        "on validation, should raise their F1; on a handful of positives it is mostly noise. The rules are applied to "
        "the validation outputs of a finished run and judged on its test outputs."
    ),
    task="multi_instrument",
    space={"evaluation.threshold_rule": tune.grid_search(["fixed", "global", "per_class"])},
    retrains=False,
    metric="valid/f1_macro",
)
