"""The pool of actors on small clusters: how it grows, that it does not run away, and where it is refused."""

import contextlib
import os
import time

import numpy as np
import psutil
import pytest
import ray

from timbrel.errors import UserError
from timbrel.mixing.actors import Pool, look_ahead, numbered_batches, read_batches
from timbrel.runtime import DRIVER_CPUS, ENVIRONMENT, share_cluster

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]
SAMPLES = 32_000


@pytest.fixture(scope="module")
def cluster(request):
    """A Ray with as many CPUs as the test's parameter says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "CRITICAL"}
        ray.init("local", num_cpus=request.param, **quiet)
        yield request.param
        ray.shutdown()


def cpu_seconds():
    """CPU time of this process and all of its Ray's."""
    total = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile
            total += sum(process.cpu_times()[:4])
    return total


@pytest.fixture
def numbered():
    """Batches of examples that take ``make_s`` each, and tell by which process they were made."""

    class Maker:  # of the test alone: the actors can't import its module
        def __init__(self, make_s):
            self.make_s = make_s

        def __call__(self, numbers):
            time.sleep(self.make_s * len(numbers))
            audio = np.ones((len(numbers), SAMPLES), dtype=np.float32)
            return {"number": numbers, "audio": audio, "process": np.full(len(numbers), os.getpid())}

    def batches(make_s, stop, batch_size, pool, readers=0):
        dataset = numbered_batches(Maker, make_s, 0, stop, batch_size, 4 * batch_size * SAMPLES, pool)
        return read_batches(dataset.streaming_split(1)[0] if readers else dataset, batch_size)

    return batches


@pytest.mark.parametrize("cluster", [1, 2], indirect=True, ids=["1 CPU", "2 CPUs"])
def test_all_examples_come_beside_a_trainer(cluster, numbered):
    """Whatever the pool and the batches; had the actors to wait for a CPU, the test would end by its timeout."""

    @ray.remote
    class Holder:
        def ready(self):
            return True

    for mixers, batch_size, readers in ((0, 16, 1), (1, 1, 0), (3, 5, 1)):
        share = share_cluster(cluster, 0, runs=3, workers=1, mixers=mixers)
        share.check_room(workers=1)
        trainer = Holder.options(num_cpus=share.worker_cpus + DRIVER_CPUS).remote()
        ray.get(trainer.ready.remote())
        made = list(numbered(0.001, 48, batch_size, share.pool, readers))
        np.testing.assert_array_equal(np.concatenate([batch["number"] for batch in made]), np.arange(48))
        ray.kill(trainer)


@pytest.mark.parametrize("cluster", [4], indirect=True)
@pytest.mark.parametrize("readers", [0, 1], ids=["plain", "as a Train worker"])
def test_the_pool_grows_while_a_reader_waits(cluster, numbered, readers):
    processes = set()
    deadline = time.monotonic() + 120
    for batch in numbered(0.01, 100_000, 4, Pool(3, 0.5, least=1), readers):
        processes.add(int(batch["process"][0]))
        if len(processes) == 3:
            break
        assert time.monotonic() < deadline, f"only {len(processes)} of 3 actors after two minutes"


@pytest.mark.parametrize("cluster", [4], indirect=True)
@pytest.mark.parametrize("readers", [0, 1], ids=["plain", "as a Train worker"])
def test_a_slow_reader_costs_little(cluster, numbered, readers):
    """One actor is enough for it, the store holds what may be ahead and no more, and Ray waits without work."""
    pool, batch_bytes = Pool(3, 0.5, least=1), 4 * 16 * SAMPLES
    capacity = ray.cluster_resources()["object_store_memory"]
    processes, most = set(), 0.0
    for count, batch in enumerate(numbered(0.001, 100_000, 16, pool, readers)):
        if count == 20:  # by now the pool is as far ahead as it may be
            before = cpu_seconds()
        if count == 60:
            break
        processes.add(int(batch["process"][0]))
        time.sleep(0.2)
        most = max(most, capacity - ray.available_resources()["object_store_memory"])
    assert len(processes) == 1
    held = 3 * 4 * batch_bytes  # by the reader: a block of four batches in advance, one in use, one on the way
    beside_audio = 1.01  # the other columns, and what Arrow adds
    assert most < beside_audio * (look_ahead(16, batch_bytes, pool).resource_limits.object_store_memory + held)
    assert (cpu_seconds() - before) / (40 * 0.2) < 0.5  # of a core; 1.1 where the loop spins


@pytest.mark.parametrize("cluster", [2], indirect=True)
def test_a_pool_without_room_is_refused_at_once(cluster, numbered):
    began = time.monotonic()
    with pytest.raises(UserError, match="1 mixing actors with 3 CPUs each find no room on this cluster, which has 2"):
        numbered(0.001, 48, 16, Pool(1, 3.0))
    with pytest.raises(UserError, match=r"3 mixing actors with .* find no room"):
        numbered(0.001, 48, 16, Pool(4, 0.9, least=3))
    assert time.monotonic() - began < 5
