"""The process beside each run that gives back the CPUs and GPUs of its workers when what leads the run is gone, as
where a trial is stopped early.

Ray Train's own differs in three points, each of which can leave the next trial waiting for ever:

- It asks the State API whether the leader lives. That is the dashboard's, and gives up on a machine with two Rays. This
  one asks the cluster's own table of actors.
- It gives back what it was told of, and is told when workers have started, which is seconds after their CPUs were
  taken. This one looks up what the leader has taken.
- It begins to watch when the leader asks it to, who may be gone by then. This one begins when it starts.

Ray's version is pinned. Apart from `timbrel.training.trainer`, since that imports PyTorch, for which this process has
no use.
"""

from typing import Any

import ray
import ray._private.state
from ray.core.generated.gcs_pb2 import PlacementGroupTableData  # type: ignore[attr-defined]  # made by protoc
from ray.train.v2._internal.execution.controller import placement_group_cleaner
from ray.util.placement_group import PlacementGroup, remove_placement_group


class Cleaner(placement_group_cleaner.PlacementGroupCleaner):
    """Ray Train's ``PlacementGroupCleaner``, but for the three points above."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        placement_group_cleaner.is_actor_alive = _is_alive  # the process has nothing else to do
        self.start_monitoring()

    def _cleanup_placement_group(self, placement_group: PlacementGroup | None) -> None:
        for each in taken_by(self._controller_actor_id):
            remove_placement_group(each)


def taken_by(actor_id: str) -> list[PlacementGroup]:
    """Return the placement groups that an actor has made and that are not removed, also those that wait for room."""
    rows = ray._private.state.state._connect_and_get_accessor().get_placement_group_table()
    groups = [PlacementGroupTableData.FromString(row) for row in rows]
    return [
        PlacementGroup(ray.PlacementGroupID(group.placement_group_id))
        for group in groups
        if group.creator_actor_id.hex() == actor_id and group.state != PlacementGroupTableData.REMOVED
    ]


def _is_alive(actor_id: str, timeout: int) -> bool:
    # Nothing is known of an actor only where the table could not be read: the run's workers are not to die of that.
    known = ray._private.state.state.actor_table(actor_id)
    return known.get("State") != "DEAD"
