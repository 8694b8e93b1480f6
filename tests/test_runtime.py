"""Sharing a cluster: what is asked for always fits."""

import socket
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from timbrel.errors import UserError
from timbrel.runtime import DRIVER_CPUS, ray_session, share_cluster

SHARING = {
    "cpus": st.integers(1, 64),
    "gpus": st.integers(0, 8),
    "runs": st.integers(1, 40),
    "workers": st.integers(1, 8),
    "mixers": st.integers(0, 16),
}


def test_a_machine_too_busy_to_start_ray(monkeypatch):
    def late(**_):
        raise Exception("The current node timed out during startup. This could happen because ...")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.init", late)
    with pytest.raises(UserError, match="Ray did not start in 30 s"), ray_session():
        pass


@given(**SHARING)
@example(cpus=1, gpus=8, runs=8, workers=1, mixers=0)
@example(cpus=1, gpus=0, runs=1, workers=8, mixers=16)
@example(cpus=64, gpus=0, runs=1, workers=1, mixers=0)
def test_what_is_asked_for_fits(cpus, gpus, runs, workers, mixers):
    share = share_cluster(cpus, gpus, runs, workers, mixers)
    assert 1 <= share.concurrent <= runs
    assert share.pool.actors == mixers if mixers else share.pool.actors >= 1
    assert share.worker_cpus >= 0
    assert share.pool.cpus >= 0
    assert 1 <= share.pool.least <= share.pool.actors
    each = DRIVER_CPUS + workers * share.worker_cpus + share.pool.actors * share.pool.cpus
    assert share.concurrent * each <= cpus
    assert share.concurrent * workers * share.worker_gpus <= gpus
    assert share.worker_gpus in (0, 1)
    assert share.threads >= 1


@given(**SHARING)
def test_a_worker_and_a_mixer_are_never_left_without_cpu(cpus, gpus, runs, workers, mixers):
    share = share_cluster(cpus, gpus, runs, workers)
    assert share.pool.cpus > 0
    assert share.worker_cpus > 0


@pytest.mark.parametrize(
    ("cpus", "gpus", "runs", "workers", "concurrent", "worker_gpus"),
    [
        (1, 0, 3, 1, 1, 0),
        (2, 0, 9, 1, 1, 0),
        (8, 0, 9, 1, 4, 0),
        (8, 0, 2, 1, 2, 0),
        (8, 0, 9, 2, 2, 0),
        (16, 1, 4, 1, 1, 1),
        (16, 4, 4, 2, 2, 1),
        (16, 1, 4, 2, 4, 0),
    ],
)
def test_how_many_runs_at_once(cpus, gpus, runs, workers, concurrent, worker_gpus):
    share = share_cluster(cpus, gpus, runs, workers)
    assert (share.concurrent, share.worker_gpus) == (concurrent, worker_gpus)


def test_beside_a_gpu_the_other_cpus_mix():
    share = share_cluster(16, 1, 1, 1)
    assert (share.worker_cpus, share.pool.actors, share.pool.least) == (1.0, 15, 4)
    assert share.pool.cpus > 0.98


def test_more_mixers_change_nothing_but_the_pool():
    few, many = (share_cluster(16, 1, 1, 1, mixers) for mixers in (1, 40))
    assert (few.worker_cpus, few.concurrent) == (many.worker_cpus, many.concurrent)
    assert (few.pool.actors, few.pool.cpus) == (1, 1.0)
    assert many.pool.actors == 40
    assert 0 < many.pool.cpus * 40 <= 15


@pytest.mark.parametrize(
    "address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}", "no.such.host.invalid:6379", "nonsense"]
)
def test_a_cluster_that_does_not_answer(monkeypatch, address):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = address.format(port=server.getsockname()[1])
    monkeypatch.setenv("RAY_ADDRESS", address)
    started = time.monotonic()
    with (
        pytest.raises(UserError, match=rf"no Ray cluster answers at RAY_ADDRESS={address} .*unset RAY_ADDRESS"),
        ray_session(),
    ):
        pass
    assert time.monotonic() - started < 30


@pytest.mark.ray
def test_an_unexpected_failure_says_where_rays_logs_lie(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ZeroDivisionError) as caught, ray_session():
        raise ZeroDivisionError
    (note,) = caught.value.__notes__
    folder = Path(note.removeprefix("Ray's full logs: "))
    assert (folder / "raylet.out").is_file()
