"""Ray Train's trainer, but for how it learns that the process which leads a run is gone.

Beside each run is a process that then gives back the CPUs and GPUs of its workers, as where a trial is stopped early.
It asks Ray's State API, which is the dashboard's, and gives up on a machine with two Rays: where there is none, or two,
the next trial would wait for ever. Here it asks the cluster's own table of actors. Ray's version is pinned.
"""

from typing import Any

import ray
import ray._private.state
from ray.train.v2._internal.callbacks import placement_group_callback
from ray.train.v2._internal.execution.controller import placement_group_cleaner
from ray.train.v2.torch.torch_trainer import TorchTrainer


class Trainer(TorchTrainer):
    """A ``TorchTrainer`` that needs no dashboard."""

    def _create_default_callbacks(self) -> list[Any]:
        stock = placement_group_callback.PlacementGroupCleanerCallback
        return [_Freeing() if isinstance(each, stock) else each for each in super()._create_default_callbacks()]


class _Freeing(placement_group_callback.PlacementGroupCleanerCallback):
    def after_controller_start(self, train_run_context: Any) -> None:
        # In the process of this run's controller, and nowhere else.
        placement_group_callback.PlacementGroupCleaner = _Cleaner  # type: ignore[misc]  # a class of Ray's
        super().after_controller_start(train_run_context)


class _Cleaner(placement_group_cleaner.PlacementGroupCleaner):
    def start_monitoring(self) -> Any:
        placement_group_cleaner.is_actor_alive = _is_alive  # likewise: the process has nothing else to do
        return super().start_monitoring()


def _is_alive(actor_id: str, timeout: int) -> bool:
    known = ray._private.state.state.actor_table(actor_id)
    return bool(known) and known["State"] != "DEAD"
