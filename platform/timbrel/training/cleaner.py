"""The process beside each run that gives back the CPUs and GPUs of its workers when what leads the run is gone, as
where a trial is stopped early.

Ray Train's own asks the State API, which is the dashboard's, and gives up on a machine with two Rays: where there is
none, or two, the next trial would wait for ever. This one asks the cluster's own table of actors. Ray's version is
pinned. Apart from `timbrel.training.trainer`, since that imports PyTorch, for which this process has no use.
"""

from typing import Any

import ray._private.state
from ray.train.v2._internal.execution.controller import placement_group_cleaner


class Cleaner(placement_group_cleaner.PlacementGroupCleaner):
    """Ray Train's ``PlacementGroupCleaner``, but for how it learns that the process it watches is gone."""

    def start_monitoring(self) -> Any:
        """Begin to watch the process that leads the run, in a thread."""
        placement_group_cleaner.is_actor_alive = _is_alive  # the process has nothing else to do
        return super().start_monitoring()


def _is_alive(actor_id: str, timeout: int) -> bool:
    known = ray._private.state.state.actor_table(actor_id)
    return bool(known) and known["State"] != "DEAD"
