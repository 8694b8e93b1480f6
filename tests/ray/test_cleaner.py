"""What a run holds of the cluster comes back when the process that leads it is killed, whenever that is."""

import time
from types import SimpleNamespace

import pytest
import ray
import ray._private.state

from timbrel.training.trainer import _Freeing

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]
LOOKS_EVERY_S = 1.0


@pytest.fixture
def leader(ray_cluster):
    """A process that takes CPUs as Ray Train's controller does."""

    class Leader:  # of the test alone: the actors can't import its module
        def __init__(self):
            self.freeing = _Freeing(check_interval_s=LOOKS_EVERY_S)
            self.freeing.after_controller_start(SimpleNamespace(run_id="of a test"))

        def take(self, cpus):
            """Take CPUs for workers, which then start, and when they have, the cleaner is told."""
            self.group = ray.util.placement_group([{"CPU": cpus}])
            return self.group.id.hex()

        def tell(self):
            handle = SimpleNamespace(placement_group=self.group)
            self.freeing.after_worker_group_start(
                SimpleNamespace(get_worker_group_state=lambda: SimpleNamespace(placement_group_handle=handle))
            )

    made = ray.remote(num_cpus=0)(Leader).remote()
    yield made
    ray.kill(made)


def state(group):
    return ray.util.placement_group_table()[group]["state"]


def cleaners():
    actors = ray._private.state.actors().values()
    return [actor for actor in actors if actor["ActorClassName"] == "Cleaner" and actor["State"] != "DEAD"]


def wait_until(when, seconds=60):
    deadline = time.monotonic() + seconds
    while not when():
        assert time.monotonic() < deadline, "it never came to this point"
        time.sleep(0.2)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize(("cpus", "then"), [(0.5, "CREATED"), (1000, "PENDING")])
def test_what_a_killed_leader_had_taken_comes_back(leader, cpus, then, told):
    """Also where the workers it was for have not started, so that nobody was told of it, or where it waits for room."""
    group = ray.get(leader.take.remote(cpus))
    wait_until(lambda: state(group) == then)
    if told:
        ray.get(leader.tell.remote())
    ray.kill(leader)
    wait_until(lambda: state(group) == "REMOVED")
    wait_until(lambda: not cleaners())


def test_what_a_living_leader_has_taken_stays(leader):
    first, second = (ray.get(leader.take.remote(0.1)) for _ in range(2))
    wait_until(lambda: any(actor["State"] == "ALIVE" for actor in cleaners()))
    time.sleep(3 * LOOKS_EVERY_S)
    assert state(first) == state(second) == "CREATED"
    ray.kill(leader)
    wait_until(lambda: state(first) == state(second) == "REMOVED")
