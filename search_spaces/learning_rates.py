"""The two learning rates and the share of musical mixtures together, by search with early stopping."""

from ray import tune

from timbrel.study import Pretraining, Study

STUDY = Study(
    name="learning_rates",
    summary="learning rates of head and backbone and p_musical, by TPE with early stopping (ASHA)",
    why=(
        "The paper fixes 0.01 for the head and 0.0001 for a fine-tuned backbone and tunes p_musical by "
        "hand. A shorter budget or another backbone wants other values; they interact, so they are "
        "searched together. The ranges span a factor of thirty on either side of the paper's values."
    ),
    task="multi_instrument",
    space={
        "transfer.head_lr": tune.loguniform(3e-4, 0.1),
        "transfer.backbone_lr": tune.loguniform(3e-6, 3e-3),
        "mixing.p_musical": tune.uniform(0.0, 1.0),
    },
    fixed={"transfer.mode": "finetune"},
    samples=16,
    early_stopping=True,
    pretraining=Pretraining(
        task="tagging",
        field="transfer.checkpoint",
        shared=("data.datasets", "mixing.sample_rate", "mixing.seconds", "front_end.", "model."),
    ),
)
