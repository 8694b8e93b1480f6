"""Two rules for the loop with which Ray Data leads the pool: rest while there is nothing to do, and add actors only for
a reader who waits.

Both hang on places that Ray Data keeps for such rules, callbacks and back-pressure policies; its version is pinned.
"""

import time
from typing import Any

import ray.data
from ray.data._internal.execution.backpressure_policy import (
    ENABLED_BACKPRESSURE_POLICIES,
    ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
)
from ray.data._internal.execution.backpressure_policy.backpressure_policy import BackpressurePolicy
from ray.data._internal.execution.execution_callback import ExecutionCallback

IDLE_STEP_S = 0.05
"""Between two steps of the loop of which the second finds nothing to do."""
LONGEST_STEP_S = 0.2
"""To which the steps grow while there is nothing to do and a block lies ready for the reader, so that nobody waits."""
QUEUED_BATCHES = 4
"""Given to an actor at a time, in at least three blocks: one that is made and two in wait. The loop looks only every
0.1 s whose are done; with Ray Data's own two, an actor that makes a batch in less than 50 ms would wait half its time,
and two actors that make long blocks together some 3 %."""
AHEAD_BATCHES = 8
"""Batches that the pool may be ahead of each reader: enough to ride out an evaluation, little enough that a slow
learner does not fill the object store."""
FIRST_BATCHES = 20
"""Of each reader: it takes some seven before it works on the first, and waits until then however slow it is. The first
blocks of each have one batch, so this is as many blocks."""
NEVER = -1.0


def queued_blocks(block_batches: int) -> int:
    """Return how many blocks of so many batches are given to an actor at a time."""
    return max(3, QUEUED_BATCHES // block_batches)


def lead_gently(dataset: ray.data.Dataset, growth: int, block_batches: int) -> None:
    """Have a dataset executed by these rules, its pool growing by at most ``growth`` actors at a time."""
    context = dataset.context
    context.custom_execution_callback_classes = [Rest]
    context.set_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, [*ENABLED_BACKPRESSURE_POLICIES, GrowOnDemand])
    context.autoscaling_config.actor_pool_max_upscaling_delta = growth
    # When no actor can be given another block.
    context.autoscaling_config.actor_pool_util_upscaling_threshold = queued_blocks(block_batches)
    # A reader a little faster than n actors would have the next one stopped and started again every few seconds, which
    # costs more than it idles.
    context.autoscaling_config.actor_pool_util_downscaling_threshold = NEVER


class Rest(ExecutionCallback):
    """Makes the loop rest while it finds nothing to do.

    When the reader is slow, every task is done and its batch held back; the loop's wait for "the next task" then
    returns at once, and it would spin: 80 % of a core, for nothing.
    """

    def __init__(self) -> None:
        self.progress = -1
        self.began = time.monotonic()
        self.step_s = IDLE_STEP_S

    def on_execution_step(self, executor: Any) -> None:
        """Sleep for what is left of an idle step."""
        states = list(executor._topology.values())
        progress = sum(state.num_completed_tasks for state in states)
        ready = len(states[-1].output_queue) > 0
        self.step_s = min(2 * self.step_s, LONGEST_STEP_S) if ready and progress == self.progress else IDLE_STEP_S
        if progress == self.progress:
            time.sleep(max(0.0, self.began + self.step_s - time.monotonic()))
        self.progress, self.began = progress, time.monotonic()


class GrowOnDemand(BackpressurePolicy):
    """Lets a pool whose actors are all busy grow if a reader waits.

    Ray Data itself adds actors whenever all are busy, and at the start, when nothing is ahead yet, they are. It adds
    none to an operator that has to hold back; one whose actors are all busy can do so without losing anything.
    """

    def can_add_input(self, op: Any) -> bool:
        """Return False for an operator that is to stay as it is."""
        if op.can_add_input() or not op.get_autoscaling_actor_pools():
            return True
        last = next(reversed(self._topology.values()))
        begun = op.metrics.num_task_outputs_generated >= FIRST_BATCHES * last.op.num_output_splits()
        return begun and last.num_waiting_consumers > 0
