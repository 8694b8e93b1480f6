"""The two learning rates and the knobs of the mixing together, by search with early stopping."""

from ray import tune

from search_spaces.pretraining import TAGGING
from timbrel.study import Study

STUDY = Study(
    name="learning_rates",
    summary="learning rates of head and backbone and how mixtures are made, by TPE with early stopping (ASHA)",
    why=(
        "The paper fixes 0.01 for the head and 0.0001 for a fine-tuned backbone, tunes p_musical by hand, and does "
        "not say how many sources a mixture has. A shorter budget or another backbone wants other values; they "
        "interact, so they are searched together. The learning rates span a factor of thirty on either side of the "
        "paper's values."
    ),
    task="multi_instrument",
    space={
        "transfer.head_lr": tune.loguniform(3e-4, 0.1),
        "transfer.backbone_lr": tune.loguniform(3e-6, 3e-3),
        "mixing.p_musical": tune.uniform(0.0, 1.0),
        "mixing.p_single_source": tune.uniform(0.0, 0.5),
        "mixing.max_sources": tune.choice([2, 3, 5, 8]),
        "mixing.effects.pitch_shift.p": tune.uniform(0.0, 0.5),
        "mixing.effects.time_stretch.p": tune.uniform(0.0, 0.5),
    },
    fixed={"transfer.mode": "finetune"},
    samples=16,
    early_stopping=True,
    pretraining=TAGGING,
)
