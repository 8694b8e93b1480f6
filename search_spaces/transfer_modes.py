"""Scratch, frozen or fine-tuned: Table 1 of the transfer-and-mixing paper."""

from ray import tune

from search_spaces.pretraining import TAGGING
from timbrel.study import Study

STUDY = Study(
    name="transfer_modes",
    summary="train from scratch, on a frozen backbone, or fine-tune it (Table 1 of the transfer-and-mixing paper)",
    why=(
        "Does pre-training on tags help to recognise instruments, and should the backbone learn on? The "
        "paper found fine-tuning best (ROC-AUC 0.943), then a frozen backbone (0.891), then training from "
        "scratch (0.849), all at p_musical 0.6. Without transfer.checkpoint a backbone is pre-trained "
        "first, on songs that the trials never see."
    ),
    task="multi_instrument",
    space={"transfer.mode": tune.grid_search(["scratch", "frozen", "finetune"])},
    fixed={"mixing.p_musical": 0.6},
    pretraining=TAGGING,
)
