"""The pre-training that the studies of task multi_instrument begin with where the user names no checkpoint."""

from timbrel.study import Pretraining

SAME = ("data.datasets", "data.overlaps", "mixing.sample_rate", "mixing.seconds", "front_end.", "model.")

TAGGING = Pretraining(
    task="tagging",
    target="transfer.checkpoint",
    shared={**{path: path for path in SAME}, "transfer.backbone": "backbone"},
)
"""Tags of whole songs, on songs that the trials don't see; the network and what it hears are the same."""
