"""One loss, or all three? Table 2 of the multitask paper."""

from ray import tune

from timbrel.study import Study

STUDY = Study(
    name="multitask_ablation",
    summary="learn the pianoroll, the instruments or the pitches alone, or all three (Table 2 of the multitask paper)",
    why=(
        "Does it help to learn what follows from the pianoroll beside the pianoroll itself? The paper found the three "
        "losses together best at each: frame F1 of the instruments .947 (alone .896), accuracy of the pitches .803 "
        "(.799), of the pianoroll .647 (.623). A task whose loss has weight 0 is judged all the same: it follows from "
        "the network's output without parameters of its own."
    ),
    task="pianoroll",
    space={
        "loss": tune.grid_search(
            [
                {"roll": 1.0, "instrument": 0.0, "pitch": 0.0},
                {"roll": 0.0, "instrument": 1.0, "pitch": 0.0},
                {"roll": 0.0, "instrument": 0.0, "pitch": 1.0},
                {"roll": 1.0, "instrument": 1.0, "pitch": 1.0},
            ]
        )
    },
    metric="valid/roll_accuracy",
)
