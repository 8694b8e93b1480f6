"""Rare and quiet instruments: classes drawn evenly, sources brought to like levels."""

from ray import tune

from search_spaces.pretraining import TAGGING
from timbrel.study import Study

STUDY = Study(
    name="class_balance",
    summary="balance the classes, and draw each source's level (rare classes; beyond the transfer-and-mixing paper)",
    why=(
        "The paper's brass class ended at an F1 of 0 for lack of data. Does it help to draw a class first and then a "
        "stem of it, and to bring every source to a level drawn in dB, so that quiet instruments are heard? Validation "
        "and test stay as they are: songs as recorded."
    ),
    task="multi_instrument",
    space={
        "mixing.class_balance": tune.grid_search([0.0, 1.0]),
        "mixing.level_db": tune.grid_search([(), (-40.0, -24.0)]),
    },
    fixed={"mixing.p_musical": 0.6, "transfer.mode": "finetune"},
    pretraining=TAGGING,
)
