"""How far it goes: mixtures by actors and nodes, what trials cost beside training, a catalogue of 344,166 songs.

    python benchmarks/scale.py

and what follows for a cluster of 8 GPUs and 200 mixer cores and for studies of 10,000 trials (docs/scale.md). It needs
no library. What each part measures says its module, scale_pool, scale_study or scale_catalogue; scale_model does the
sums.
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import scale_catalogue, scale_pool, scale_study
from benchmarks.scale_model import CLUSTERS, checked, cluster_limits, driver_s, held_gb, served, study
from timbrel import markdown
from timbrel.runtime import ray_session

STAGES = Path(__file__).parents[1] / "docs" / "results" / "performance" / "stages.json"
"""What a mixture costs apart from Ray, by `benchmarks/stages.py`."""
STRETCHES = ("exact", "fast", "bank")
TRIALS = 10_000
EPOCHS = (150, 10)
"""Of a trial: the paper's, and those of a quick search."""


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of the parts that are asked for, beside those of a file for the others."""
    figures: dict[str, Any] = json.loads(arguments.keep.read_text(encoding="utf-8")) if arguments.keep else {}
    figures["cores"] = os.cpu_count()
    for part in arguments.parts:
        figures[part] = MEASURED[part](arguments)
    return figures


def measure_pool(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of a pool on this machine."""
    with ray_session():
        scale_pool.measure(scale_pool.Rest, 0.0, 0.0, 1, scale_pool.BLOCKS[0], 0.1)  # Ray Data starts some of its own
        return {
            "example_bytes": scale_pool.example_bytes(),
            "actors": scale_pool.measure_actors(arguments.window_s, arguments.actors),
            "mixing": scale_pool.measure_mixing(arguments.window_s, arguments.actors),
        }


MEASURED: dict[str, Callable[[argparse.Namespace], Any]] = {
    "pool": measure_pool,
    "nodes": lambda arguments: scale_pool.measure_nodes(arguments.window_s, arguments.nodes),
    "mlflow": lambda arguments: scale_study.measure_mlflow(arguments.runs, arguments.epochs),
    "tune": lambda arguments: [scale_study.measure_tune(trials) for trials in arguments.trials],
    "suggestions": lambda arguments: scale_study.measure_suggestions(),
    "catalogue": lambda arguments: scale_catalogue.measure_all(arguments.songs, arguments.plans),
}
"""What is measured, by name."""


def fit_table(figures: dict[str, Any]) -> str:
    """Return what Ray takes, a row a kind of process."""
    words = {
        "reader": "reader (in the trainer)",
        "leader": "leader (Ray Data's loop)",
        "actors": "actors, beside their work",
        "others": "all other processes of Ray",
    }
    rows = [
        [words[part], f"{of['mixture_ms']:.3f}", f"{of['block_ms']:.2f}", f"{of['cores']:.3f}"]
        for part, of in scale_pool.fit(figures["pool"]["actors"]).items()
    ]
    head = ["CPU that Ray takes", "ms a mixture", "ms a block", "cores all the time"]
    return (
        f"{markdown.table(head, rows)}\n\nA mixture of 4 s at 32 kHz is {figures['pool']['example_bytes']:,.0f} bytes "
        "in the object store."
    )


def pool_table(figures: dict[str, Any]) -> str:
    """Return predicted beside measured, a row a case."""
    rows = []
    for row in checked(figures):
        cpu = sum(row["cpu_ms"].values())
        work = f"{row['rest_ms']:g} ms at rest" if row["kind"] != "mixing" else f"mixing, {row['work_ms']:.1f} ms"
        measured, predicted = row["mixtures_per_s"], row["predicted"]
        speeds = (f"{predicted:.0f}", f"{measured:.0f}", f"{measured / predicted:.2f}", row["bound"])
        held = f"{row['held_mb']:.0f} of {row['held_at_most_mb']:.0f}"
        rows.append([work, row.get("nodes", "here"), row["actors"], row["block"], *speeds, f"{cpu:.2f}", held])
    head = ["a mixture's work", "nodes", "actors", "block", "predicted/s", "measured/s", "ratio", "held up by"]
    return markdown.table([*head, "Ray's CPU, ms", "store, MB"], rows)


def study_table(figures: dict[str, Any]) -> str:
    """Return what is written and scheduled, a row an operation."""
    stores = figures["mlflow"]
    rows = [
        [what, *(f"{row['ms'][what][kind]:.1f}" for row in stores for kind in ("wall", "cpu"))]
        for what in stores[0]["ms"]
    ]
    head = ["a trial's", *(f"{row['store']}: {kind} ms" for row in stores for kind in ("wall", "CPU"))]
    epoch = served(figures)
    lines = [
        f"An epoch has {epoch['metrics']} figures, of {epoch['value_bytes']:.0f} bytes each in the database.",
        *(
            f"Ray Tune: {row['trials_per_s']:.1f} trials a second that do nothing, {row['concurrent']} at a time, of "
            f"{row['trials']}; {row['driver_cpu_s']:.3f} s of CPU each in the command's process."
            for row in figures["tune"]
        ),
        "Optuna suggests a trial in "
        + ", ".join(f"{row['ms']:.0f} ms after {row['done']:,}" for row in figures["suggestions"])
        + ".",
    ]
    return "\n\n".join([markdown.table(head, rows), *lines])


def catalogue_table(figures: dict[str, Any]) -> str:
    """Return the figures of the catalogue."""
    return scale_catalogue.table(figures["catalogue"])


def cluster_table(figures: dict[str, Any]) -> str:
    """Return what a cluster can do, a row a way to share it and a way to mix."""
    stages = json.loads(STAGES.read_text(encoding="utf-8"))
    rows = []
    for cluster in CLUSTERS:
        for stretch in STRETCHES:
            found = cluster_limits(figures, cluster, stages[stretch]["all"])
            first = min(found, key=lambda name: found[name])
            cells = (f"{value:,.0f}" for value in found.values())
            each = f"{found[first] / cluster.gpus:,.0f}"
            rows.append([cluster.name, stretch, *cells, first, each, f"{held_gb(figures, cluster):.1f}"])
    names = ("mixer cores", "leaders", "readers", "links")
    head = ["8 GPUs, 200 mixer cores", "stretch", *(f"{name}, mixtures/s" for name in names)]
    return markdown.table([*head, "first bottleneck", "a GPU gets", "held, GB"], rows)


def trials_table(figures: dict[str, Any]) -> str:
    """Return what a study of 10,000 trials takes on the first of the clusters, a column a length of trial."""
    cluster = CLUSTERS[0]
    stages = json.loads(STAGES.read_text(encoding="utf-8"))
    rate = min(cluster_limits(figures, cluster, stages["exact"]["all"]).values())
    columns = [study(figures, rate, epochs, TRIALS, cluster.runs) for epochs in EPOCHS]
    lines = {
        "a trial's mixtures, s": ("mixing_s", "{:,.0f}"),
        "a trial's indexing of 344,166 songs, s": ("index_s", "{:.0f}"),
        "the command's process, s a trial": ("driver_s", "{:.1f}"),
        "so a trial is done every, s": ("every_s", "{:.1f}"),
        "first bottleneck": ("bottleneck", "{}"),
        "the study, days": ("days", "{:.1f}"),
        "the command's process is busy": ("driver_busy", "{:.0%}"),
        "of Ray Tune's rate is used": ("tune_busy", "{:.1%}"),
        "requests to MLflow a second": ("writes_per_s", "{:.1f}"),
        "cores that write to MLflow": ("mlflow_cores", "{:.2f}"),
        "MLflow's database, GB": ("database_gb", "{:.1f}"),
    }
    rows = [[what, *(form.format(column[name]) for column in columns)] for what, (name, form) in lines.items()]
    shares = [driver_s(figures, epochs, TRIALS) for epochs in EPOCHS]
    rows += [[f"command's process: {what}, s", *(f"{share[what]:.2f}" for share in shares)] for what in shares[0]]
    head = [f"{TRIALS:,} trials, {cluster.runs} at once", *(f"{epochs} epochs of 1,920" for epochs in EPOCHS)]
    return markdown.table(head, rows)


PARTS = {
    "ray": fit_table,
    "pool": pool_table,
    "study": study_table,
    "catalogue": catalogue_table,
    "cluster": cluster_table,
    "trials": trials_table,
}
"""Tables by the names under which docs/scale.md asks for them."""


def table(figures: dict[str, Any], part: str = "") -> str:
    """Return the figures for people, all tables or one of ``PARTS``."""
    return PARTS[part](figures) if part else "\n\n".join(make(figures) for make in PARTS.values())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--window-s", type=float, default=scale_pool.WINDOW_S, help="for which each case is measured, about"
    )
    parser.add_argument("--actors", type=int, nargs="+", default=list(scale_pool.ACTORS), metavar="N")
    parser.add_argument("--nodes", type=int, nargs="+", default=list(scale_pool.NODES), metavar="N")
    parser.add_argument("--runs", type=int, default=5, help="to write to each MLflow store")
    parser.add_argument("--epochs", type=int, default=20, help="of each of these")
    parser.add_argument("--trials", type=int, nargs="+", default=[16, 48], metavar="N", help="for Ray Tune to run")
    parser.add_argument("--songs", type=int, nargs="+", default=list(scale_catalogue.SONGS), metavar="N")
    parser.add_argument("--plans", type=int, default=scale_catalogue.PLANS, metavar="N", help="examples to plan")
    parser.add_argument("--parts", nargs="+", default=list(MEASURED), choices=MEASURED, help="to measure")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="of an earlier run's figures, for the other parts")
    parser.add_argument("--json", action="store_true", help="print figures for scripts")
    arguments = parser.parse_args()
    figures = measure(arguments)
    print(json.dumps(figures, indent=1) if arguments.json else table(figures))


if __name__ == "__main__":
    main()
