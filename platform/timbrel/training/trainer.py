"""Ray Train's trainer, but for the process beside each run that gives back what its workers held."""

from typing import Any

from ray.train.v2._internal.callbacks import placement_group_callback
from ray.train.v2.torch.torch_trainer import TorchTrainer

from timbrel.training.cleaner import Cleaner


class Trainer(TorchTrainer):
    """A ``TorchTrainer`` that needs no dashboard."""

    def _create_default_callbacks(self) -> list[Any]:
        stock = placement_group_callback.PlacementGroupCleanerCallback
        return [_Freeing() if isinstance(each, stock) else each for each in super()._create_default_callbacks()]


class _Freeing(placement_group_callback.PlacementGroupCleanerCallback):
    def after_controller_start(self, train_run_context: Any) -> None:
        # In the process of this run's controller, and nowhere else.
        placement_group_callback.PlacementGroupCleaner = Cleaner  # type: ignore[misc, assignment]  # of Ray's
        super().after_controller_start(train_run_context)
