"""The weights of the three losses, by search with early stopping."""

from ray import tune

from timbrel.study import Study

STUDY = Study(
    name="loss_weights",
    summary="the weights of pianoroll, pitch and instrument loss, by TPE with early stopping (ASHA)",
    why=(
        "The multitask paper brings its three losses to the same range, its code gives the pianoroll's twice the "
        "weight of the others, and neither says what other weights would do. They are searched over two orders of "
        "magnitude around 1; the pianoroll's accuracy decides, since all else follows from the pianoroll. With "
        "loss.scaling=fixed they act on the losses as they are."
    ),
    task="pianoroll",
    space={
        "loss.roll": tune.loguniform(0.1, 10.0),
        "loss.pitch": tune.loguniform(0.1, 10.0),
        "loss.instrument": tune.loguniform(0.1, 10.0),
    },
    samples=16,
    early_stopping=True,
    metric="valid/roll_accuracy",
)
