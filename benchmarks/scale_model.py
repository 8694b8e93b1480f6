"""What the figures of `benchmarks/scale.py` mean for a cluster: docs/scale.md says the formulas in words.

Everything here is arithmetic on measured figures; what is assumed of a cluster is a field of ``Cluster``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.scale_pool import BATCH, PARTS, fit
from timbrel.mixing.actors import BLOCK_EXAMPLES, Pool, look_ahead
from timbrel.mixing.scheduling import queued_blocks

LOOK_MS = 100.0
"""Ray Data's loop looks so often, at the least, which blocks are done."""
EPOCH = 1920
"""Mixtures of an epoch in the paper."""
Fit = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Cluster:
    """A cluster, and how its runs share it."""

    name: str
    runs: int
    """At once; they share workers and mixers equally."""
    batch: int = 16
    """Mixtures a training step, over all workers of a run: the paper's."""
    gpus: int = 8
    """A Train worker each, on a node each."""
    mixer_cores: int = 200
    """An actor each."""
    link_gbit: float = 10.0
    """Gbit/s that a GPU's node receives. Assumed."""


CLUSTERS = (
    Cluster("8 runs, a GPU and 25 mixers each", runs=8),
    Cluster("1 run on 8 GPUs", runs=1),
)


def ray_ms(fitted: Fit, part: str, block: int) -> float:
    """Return ms of CPU that Ray takes of one kind of process for a mixture, in blocks of so many."""
    return fitted[part]["mixture_ms"] + fitted[part]["block_ms"] / block


def limits(
    fitted: Fit, actors: int, work_ms: float, block: int, cores: float = 0, work_cpu_ms: float = 0
) -> dict[str, float]:
    """Return how many mixtures a second each part of a pool can make or pass on, if nothing else held it up.

    ``work_ms`` is what an actor takes for a mixture apart from Ray; ``cores``, if the pool has only so many for
    everything, of which the work takes ``work_cpu_ms`` a mixture.
    """
    found = {
        "actors": 1000 * actors / (work_ms + ray_ms(fitted, "actors", block)),
        "Ray Data's look": 1000 * actors * queued_blocks(max(1, block // BATCH)) * block / LOOK_MS,
        "leader": 1000 * (1 - fitted["leader"]["cores"]) / max(1e-9, ray_ms(fitted, "leader", block)),
        "reader": 1000 * (1 - fitted["reader"]["cores"]) / max(1e-9, ray_ms(fitted, "reader", block)),
    }
    if cores:
        busy = work_cpu_ms + sum(ray_ms(fitted, part, block) for part in PARTS)
        found["cores"] = 1000 * (cores - sum(fitted[part]["cores"] for part in PARTS)) / busy
    return found


def checked(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """Return predicted and measured mixtures a second of every case."""
    pool, rows = figures["pool"], []
    fitted = fit(pool["actors"])
    for kind, cases in (("actors", pool["actors"]), ("mixing", pool["mixing"]), ("nodes", figures["nodes"])):
        for case in cases:
            work_ms = case["rest_ms"] + case["work_ms"]
            found = limits(fitted, case["actors"], work_ms, case["block"], figures["cores"], case["work_ms"])
            bound = min(found, key=lambda name: found[name])
            rows.append({**case, "kind": kind, "predicted": found[bound], "bound": bound})
    return rows


def cluster_limits(figures: dict[str, Any], cluster: Cluster, mix_ms: float) -> dict[str, float]:
    """Return how many mixtures a second each part of a cluster can make or pass on, all runs together."""
    fitted = fit(figures["pool"]["actors"])
    found = limits(fitted, cluster.mixer_cores, mix_ms, BLOCK_EXAMPLES)
    link = cluster.gpus * cluster.link_gbit * 1e9 / 8 / figures["pool"]["example_bytes"]
    return {
        "mixer cores": found["actors"],
        "leaders": cluster.runs * found["leader"],
        "readers": cluster.gpus * found["reader"],
        "links": link,
    }


def held_gb(figures: dict[str, Any], cluster: Cluster) -> float:
    """Return GB that all runs hold in object stores at most."""
    readers = cluster.gpus // cluster.runs
    share = cluster.batch // readers
    pool = Pool(cluster.mixer_cores // cluster.runs, cpus=1)
    limits = look_ahead(share, round(share * figures["pool"]["example_bytes"]), pool, readers).resource_limits
    return float(cluster.runs * limits.object_store_memory / 1e9)


def driver_s(figures: dict[str, Any], epochs: int, trials: int) -> dict[str, float]:
    """Return s that the process of the command takes for a trial, one after the other, by what for."""
    written = {what: each["wall"] / 1000 for what, each in served(figures)["ms"].items()}
    return {
        "MLflow, each epoch": epochs * written.pop("log an epoch"),
        "pictures, intervals and the model": written.pop("log the model"),
        "MLflow, begin and end": sum(written.values()),
        "Ray Tune": figures["tune"][-1]["driver_cpu_s"],
        "Optuna": suggestion_s(figures, trials),
    }


def suggestion_s(figures: dict[str, Any], trials: int) -> float:
    """Return s of a suggestion half way through a study, on the line through the last two that were measured."""
    (x0, y0), (x1, y1) = ((row["done"], row["ms"] / 1000) for row in figures["suggestions"][-2:])
    return float(max(y1, y1 + (y1 - y0) / (x1 - x0) * (trials / 2 - x1)))


def served(figures: dict[str, Any]) -> dict[str, Any]:
    """Return the row of the MLflow server."""
    return next(dict(row) for row in figures["mlflow"] if row["store"] == "mlflow server")


def study(figures: dict[str, Any], rate: float, epochs: int, trials: int, concurrent: int) -> dict[str, Any]:
    """Return what a study on the whole of a large library takes, and what holds it up.

    ``rate`` is in mixtures a second for all trials that run at once. A trial begins by indexing the library, and then
    its mixtures are made; meanwhile the process of the command writes down what other trials have reported.
    """
    index_s = figures["catalogue"]["rows"][-1]["index_s"]
    mixing_s = epochs * EPOCH * concurrent / rate
    row = served(figures)
    driver = sum(driver_s(figures, epochs, trials).values())
    every_s = {
        "mixing": mixing_s / concurrent,
        "indexing": index_s / concurrent,
        "the command's process": driver,
        "Ray Tune": 1 / figures["tune"][-1]["trials_per_s"],
    }
    step_s = max((index_s + mixing_s) / concurrent, driver, every_s["Ray Tune"])
    server_s = sum((epochs if what == "log an epoch" else 1) * each["cpu"] / 1000 for what, each in row["ms"].items())
    return {
        "mixing_s": mixing_s,
        "index_s": index_s,
        "driver_s": driver,
        "every_s": step_s,
        "bottleneck": max(every_s, key=lambda name: every_s[name]),
        "days": trials * step_s / 86400,
        "driver_busy": driver / step_s,
        "tune_busy": every_s["Ray Tune"] / step_s,
        "mlflow_cores": server_s / step_s,
        "writes_per_s": (epochs + len(row["ms"])) / step_s,
        "database_gb": trials * epochs * row["metrics"] * row["value_bytes"] / 1e9,
    }
