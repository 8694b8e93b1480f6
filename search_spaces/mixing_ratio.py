"""How many of the mixtures should be musical? Figure 3 of the transfer-and-mixing paper."""

from ray import tune

from search_spaces.pretraining import TAGGING
from timbrel.study import Study

STUDY = Study(
    name="mixing_ratio",
    summary="the share of musical mixtures, p_musical, from 0 to 1 (Fig. 3 of the transfer-and-mixing paper)",
    why=(
        "Non-musical mixtures show more combinations of instruments, musical ones show them as they sound together; "
        "the test is on musical mixtures only. The paper found 0.4 best for a fine-tuned backbone, and 0.6 is what "
        "its other experiments use."
    ),
    task="multi_instrument",
    space={"mixing.p_musical": tune.grid_search([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])},
    fixed={"transfer.mode": "finetune"},
    pretraining=TAGGING,
)
