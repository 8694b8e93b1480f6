"""The model of docs/scale.md: what is fitted is what was put in, and the slowest part decides."""

import pytest

from benchmarks.scale_model import CLUSTERS, checked, cluster_limits, held_gb, suggestion_s
from benchmarks.scale_pool import PARTS, fit

TRUE = {part: {"mixture_ms": 0.1 + 0.1 * n, "block_ms": 2.0 + n, "cores": 0.02 * n} for n, part in enumerate(PARTS)}


def case(block, rate, actors=1, rest_ms=10.0):
    cpu = {part: of["mixture_ms"] + of["block_ms"] / block + 1000 * of["cores"] / rate for part, of in TRUE.items()}
    return {"block": block, "mixtures_per_s": rate, "cpu_ms": cpu, "actors": actors, "rest_ms": rest_ms, "work_ms": 0.0}


@pytest.fixture
def figures():
    cases = [case(block, rate) for block in (16, 64) for rate in (100, 300, 900)]
    mixing = [case(64, 50, rest_ms=0.0) | {"work_ms": 20.0}]
    return {"cores": 2, "nodes": [], "pool": {"example_bytes": 5e5, "actors": cases, "mixing": mixing}}


def test_the_fit_finds_what_each_process_takes(figures):
    for part, of in fit(figures["pool"]["actors"]).items():
        assert of == pytest.approx(TRUE[part])


def test_an_actor_takes_its_work_and_what_ray_adds(figures):
    resting, mixing = checked(figures)[0], checked(figures)[-1]
    assert resting["bound"] == mixing["bound"] == "actors"
    assert resting["predicted"] == pytest.approx(1000 / (10 + 0.3 + 4 / 16))
    assert mixing["predicted"] == pytest.approx(1000 / (20 + 0.3 + 4 / 64))


def test_one_run_has_one_leader_for_all(figures):
    several, one = (cluster_limits(figures, cluster, 18.5) for cluster in CLUSTERS)
    assert min(one, key=one.get) == "leaders"
    assert one["leaders"] == pytest.approx(1000 * (1 - 0.02) / (0.2 + 3 / 64))
    assert several["leaders"] == pytest.approx(8 * one["leaders"])
    assert several["links"] == one["links"] == pytest.approx(8 * 10e9 / 8 / 5e5)


def test_what_is_held_is_what_may_be_ahead(figures):
    # 8 batches for the reader, and 3 blocks of 4 batches for each of 25 actors, in each of 8 runs.
    assert held_gb(figures, CLUSTERS[0]) == pytest.approx(8 * (8 + 3 * 4 * 25) * 16 * 5e5 / 1e9)
    # 2 blocks of 32 batches of 2 for each of 8 readers, and 3 such blocks for each of 200 actors.
    assert held_gb(figures, CLUSTERS[1]) == pytest.approx((2 * 8 + 3 * 200) * 64 * 5e5 / 1e9)


def test_suggestions_grow_with_the_trials_that_are_done():
    figures = {"suggestions": [{"done": 100, "ms": 1}, {"done": 1000, "ms": 10}, {"done": 4000, "ms": 40}]}
    assert suggestion_s(figures, 10_000) == pytest.approx(0.05)
