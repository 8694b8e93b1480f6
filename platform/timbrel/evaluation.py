"""`timbrel evaluate`: a trained model on the test split of any library."""

import dataclasses
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch

from timbrel import config as configs
from timbrel import metrics
from timbrel.errors import UserError
from timbrel.library import Library
from timbrel.mixing.pool import collect
from timbrel.outputs import FOLDER
from timbrel.runtime import ray_session, share_cluster
from timbrel.settings import Data, Experiment
from timbrel.tracking import EVALUATION, Tracker
from timbrel.trained import TrainedModel
from timbrel.training.loop import heard, judge, predict
from timbrel.training.run import evaluation_stream, judged_key
from timbrel.training.worker import named
from timbrel.trial_log import log_judged

CHANGEABLE = ("data.", "evaluation.test_examples", "evaluation.seed")
"""What may differ from the config that the model was trained with, for any task; see ``Task.judged_by``."""

JUDGING = "evaluation."
"""Whether a task lets a field of this branch be changed is known when the run is read."""


def evaluate_run(run_id: str, root: Path, values: Mapping[str, Any], tracker: Tracker, mixers: int = 0) -> str:
    """Judge a run's model on the test split of a library and log the figures; return the id of the new run.

    Raises:
        UserError: an unknown or unfinished run, an unusable library, or a config value that is part of the model.
    """
    _check_values([path for path in values if not path.startswith(JUDGING)], CHANGEABLE)
    library = Library.open(root)
    with tracker.artifacts(run_id, "model") as folder:
        trained = TrainedModel.load(folder)
    _check_values(values, (*CHANGEABLE, *trained.task.judged_by))
    config = trained.config
    if tracker.get(run_id).data.tags.get("timbrel.data_digest") != _digest(library, config):
        print("this is not the data that the model was trained on: judging on all songs of its test split")
        config = dataclasses.replace(config, data=Data())
    config = configs.with_values(config, values)
    trained = dataclasses.replace(trained, config=config)
    with ray_session():
        resources = ray.cluster_resources()
        share = share_cluster(resources.get("CPU", 1), 0, 1, 1, mixers)
        stream = evaluation_stream(trained.task, config, library, "test")
        (found,) = ray.get(collect.remote([stream], [config.evaluation.test_examples], share.pool))
        test = {name: np.array(values) for name, values in found.items()}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    judged = predict(trained.task, trained.model.to(device), heard(test), device, config.training.precision)
    outputs = trained.task.outputs(test, judged, config)
    figures = judge(trained.task, outputs, trained.thresholds, config)
    run = tracker.start(
        f"evaluation of {run_id[:8]}",
        {
            "timbrel.kind": "evaluation",
            "timbrel.task": trained.task.name,
            "timbrel.evaluated_run": run_id,
            "timbrel.data_digest": library.digest(config.data.all_datasets),
            EVALUATION: judged_key(trained.task, config),
        },
    )
    status = "FAILED"
    try:
        run.log_config(config)
        run.log_metrics(named("test", figures))
        with tempfile.TemporaryDirectory(prefix="timbrel-") as folder:
            outputs.save(Path(folder) / "test.npz")
            run.log_folder(Path(folder), FOLDER)
        run.log_metrics({f"threshold/{metrics.metric_name(c)}": v for c, v in trained.thresholds.items()})
        log_judged(run, trained, outputs)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        run.close(status)
    print(per_class_table(figures, trained))
    print(f"logged as run {run.id}")
    return run.id


def _check_values(paths: Iterable[str], changeable: tuple[str, ...]) -> None:
    for path in paths:
        if not path.startswith(changeable):
            raise UserError(
                f"'{path}' belongs to the trained model: `timbrel evaluate` takes {', '.join(changeable)} only."
            )


def _digest(library: Library, config: Experiment) -> str:
    """Return the digest of the data sets that a config names, empty if the library lacks one of them."""
    return library.digest(config.data.all_datasets) if set(config.data.all_datasets) <= set(library.datasets) else ""


def per_class_table(figures: Mapping[str, float], trained: TrainedModel) -> str:
    """Return test figures as text, one row a class; a dash where a figure is undefined."""
    counts = ["support"]
    if any(name.startswith("judged/") for name in figures):  # else all examples were, on each class
        counts.append("judged")
    columns = ("f1", "precision", "recall", "roc_auc", "pr_auc")
    lines = [f"{'class':<28} threshold" + "".join(f"{name:>11}" for name in (*counts, *columns))]
    for name, threshold in trained.class_thresholds.items():
        label = metrics.metric_name(name)
        numbers = [figures[f"{column}/{label}"] for column in counts]
        cells = [figures[f"{column}/{label}"] for column in columns]
        if numbers[0] or len(trained.classes) <= 50:
            shown = [f"{number:.0f}" for number in numbers] + ["-" if np.isnan(c) else f"{c:.3f}" for c in cells]
            lines.append(f"{name:<28} {threshold:9.3f}" + "".join(f"{cell:>11}" for cell in shown))
    means = [figures[f"{column}_macro"] for column in columns]
    lines.append(f"{'mean over classes':<37} {'':>{11 * len(counts)}}" + "".join(f"{v:>11.3f}" for v in means))
    return "\n".join(lines)
