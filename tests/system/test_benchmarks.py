"""The benchmarks run, and their figures add up; how fast anything is, no test says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from timbrel import registry
from timbrel.mixing.bank import Bank, add_bank
from timbrel.prepare import prepare
from timbrel.sources.house_band import HouseBandOptions

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    root = tmp_path_factory.mktemp("bench")
    prepare(
        registry.load("source", "house_band"), None, root, HouseBandOptions(songs=4, seconds=10, sample_rate=32_000)
    )
    add_bank(root, "house_band", Bank(steps=2))
    return root


def run(name, *arguments):
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *map(str, arguments), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=900).stdout)


def test_mixing(library):
    # More mixtures than the pool makes in advance, or some sides would have done their work before the clock starts.
    figures = run("mixing", "--library", library, "--rounds", 1, "--examples", 320, "--whole", 64)
    assert set(figures["sides"]) == {"plain", "plain, 1 worker", "exact", "exact, 1 actor", "fast", "bank"}
    for side in figures["sides"].values():
        assert side["cpu_ms"]["median"] > 0
        assert side["wall_ms"]["median"] > 0
    plain, exact = (figures["sides"][name]["cpu_ms"]["median"] for name in ("plain", "exact"))
    assert figures["ratios"]["cpu_ratio.exact"]["median"] == pytest.approx(plain / exact)
    assert set(figures["whole_run_s"]) == {"plain", "exact"}


def test_stages(library):
    figures = run("stages", "--library", library, "--examples", 20)
    for name, stages in figures.items():
        assert stages["all"] == pytest.approx(sum(value for stage, value in stages.items() if stage != "all")), name
    assert figures["bank"]["pitch and speed"] == 0 < figures["fast"]["pitch and speed"]


def test_rates():
    for row in run("rates"):
        assert row["cpu_ms"] > 0


def test_cqt():
    figures = run("cqt", "--rounds", 1, "--segments", 2)
    assert figures["agreement"]["torch, 1 a call, 1 core"]["correlation"] > 0.98
    for side in figures["sides"].values():
        assert side["cpu_ms"]["median"] > 0


def test_pianoroll(tmp_path):
    options = HouseBandOptions(songs=4, seconds=20, sample_rate=16_000)
    prepare(registry.load("source", "house_band"), None, tmp_path, options)
    figures = run("pianoroll", "--library", tmp_path, "--rounds", 1, "--examples", 96, "--steps", 2, "--widths", 8)
    sides = figures["data"]["sides"]
    assert figures["data"]["cpu_ratio"]["median"] == pytest.approx(
        sides["plain loop"]["cpu_ms"]["median"] / sides["pool, 1 actor"]["cpu_ms"]["median"]
    )
    for step in figures["step"].values():
        ratio = step["ready_ms"]["median"] / step["stream_ms"]["median"]
        assert step["step_ratio"]["median"] == pytest.approx(ratio)
    assert all(value["median"] > 0 for value in figures["prediction"].values())


def test_teaching():
    figures = run("teaching", "--rounds", 1, "--steps", 2)
    assert set(figures["step"]) == {"small, 128", "small, 768"}
    for systems in figures["step"].values():
        assert systems["baseline"]["ratio"]["median"] == 1
        for row in systems.values():
            plain = systems["baseline"]["ms"]["median"]
            assert row["ratio"]["median"] == pytest.approx(row["ms"]["median"] / plain)


def test_complexity():
    figures = run("complexity", "--rounds", 1, "--clips", 2, "--batch", 2)["networks"]
    assert figures["student CP-ResNet"]["parameters"] == 5_534_612
    assert figures["on embeddings: attention"]["parameters"] == 55_336
    # Three 1 x 1 convolutions of 128 to 128 channels and two of 128 to 20, on ten instances.
    assert figures["on embeddings: attention"]["multiply_adds"] == 10 * (3 * 128 * 128 + 2 * 128 * 20)
    assert all(row["clips_per_s"]["median"] > 0 for row in figures.values())


def test_scale():
    sizes = ("--window-s", 0.5, "--actors", 1, "--nodes", 1, "--runs", 1, "--epochs", 2, "--trials", 8)
    figures = run("scale", *sizes, "--songs", 40, 400, "--plans", 200)
    pool = figures["pool"]
    assert pool["example_bytes"] == pytest.approx(4 * 4 * 32_000, rel=0.01)
    assert len(pool["actors"]) == 4
    for case in (*pool["actors"], *pool["mixing"], *figures["nodes"]):
        assert case["mixtures_per_s"] > 0 < case["held_mb"] <= 1.1 * case["held_at_most_mb"]
        assert all(value >= 0 for value in case["cpu_ms"].values())
    assert [row["store"] for row in figures["mlflow"]] == ["SQLite file", "mlflow server"]
    assert figures["catalogue"]["rows"][1]["activity_mb"] > 9 * figures["catalogue"]["rows"][0]["activity_mb"]
