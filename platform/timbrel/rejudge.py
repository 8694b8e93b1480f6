"""Studies of the decision rule: the outputs of a finished run judged anew, nothing trained."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray.tune

from timbrel.outputs import FOLDER, SPLITS, Outputs
from timbrel.settings import Experiment
from timbrel.task import Task
from timbrel.trained import TrainedModel
from timbrel.training.loop import judge
from timbrel.training.trial import TrialConfigs
from timbrel.training.worker import MODEL, named


def judge_trial(values: dict[str, Any], configs: TrialConfigs, model: str, outputs: str, folder: str) -> None:
    """Judge a run under the rule of one trial: what Ray Tune calls.

    Args:
        values: the trial's config values by dotted path.
        configs: how they become the trial's config.
        model: folder of the run's model.
        outputs: folder of its outputs.
        folder: where the trial leaves a model with the new thresholds, in a folder of its own.
    """
    config = configs.of(values)
    trained = TrainedModel.load(Path(model))
    loaded = {split: Outputs.load(Path(outputs) / f"{split}.npz") for split in SPLITS}
    thresholds, figures = rejudge(trained.task, loaded, config)
    target = Path(folder) / ray.tune.get_context().get_trial_id()
    dataclasses.replace(trained, config=config, thresholds=thresholds).save(target / MODEL)
    for split, of_split in loaded.items():
        of_split.save(target / FOLDER / f"{split}.npz")
    last = {"epoch": 1, "finished": 1, "earlier": [], "checkpoint_path": str(target)}
    ray.tune.report({**last, **figures})


def rejudge(
    task: Task, outputs: Mapping[str, Outputs], config: Experiment
) -> tuple[dict[str, float], dict[str, float]]:
    """Choose thresholds on the validation outputs by a config's rule, and judge both splits at them.

    Returns the thresholds by name, and the figures as ``valid/...`` and ``test/...``.
    """
    thresholds = task.thresholds(outputs["valid"], config)
    valid = task.evaluate(outputs["valid"], thresholds, config)
    return thresholds, named("valid", valid) | named("test", judge(task, outputs["test"], thresholds, config))
