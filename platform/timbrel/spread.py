"""One function over many items, by the Ray cluster if there is one."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import ray

Item = TypeVar("Item")
Result = TypeVar("Result")


def spread(
    function: Callable[[Item], Result], items: Iterable[Item], *, gpus: float = 0, window: int = 0
) -> Iterator[Result]:
    """Yield ``function(item)`` for all items, as they finish: in Ray tasks if Ray runs, else one after the other here.

    Args:
        function: picklable; it is sent once.
        items: read as they are needed, so a hundred thousand of them need not be in flight.
        gpus: that each task asks for.
        window: tasks waiting or running at a time; 0: twice the cluster's CPUs.
    """
    if not ray.is_initialized():
        yield from map(function, items)
        return
    task: Any = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=3)(_call)
    shared = ray.put(function)
    waiting = iter(items)
    window = window or 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
    running = [task.remote(shared, item) for item in itertools.islice(waiting, window)]
    while running:
        (done,), running = ray.wait(running, num_returns=1)
        yield ray.get(done)
        running += [task.remote(shared, item) for item in itertools.islice(waiting, 1)]


def _call(function: Callable[[Item], Result], item: Item) -> Result:
    return function(item)
