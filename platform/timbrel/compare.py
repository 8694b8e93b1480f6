"""Runs brought together to be compared: grouped by the settings in which they differ, with their outputs."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from timbrel import bootstrap
from timbrel.config import short
from timbrel.metrics import metric_name
from timbrel.outputs import FOLDER, Outputs
from timbrel.tracking import EVALUATION, Tracker, frame

BOOTSTRAPPED = {
    "metrics.test/roc_auc_macro": "roc_auc_macro",
    "metrics.test/pr_auc_macro": "pr_auc_macro",
    "metrics.test/f1_macro": "f1_macro",
    "metrics.test/loss": "binary_cross_entropy",
}
"""By column of the table of runs, the name that ``timbrel.bootstrap`` has for a metric."""
_FRACTION = re.compile(r"-?\d+(\.\d*|(\.\d*)?e[+-]\d+)")


@dataclass(frozen=True)
class Judged:
    """A run's outputs on its test split, and the thresholds at which it decides."""

    outputs: Outputs
    thresholds: np.ndarray
    """``(class,)``."""

    @property
    def decisions(self) -> np.ndarray:
        """Which classes are said to be present: bool ``(example, class)``."""
        return self.outputs.scores >= self.thresholds

    def of_classes(self, chosen: np.ndarray) -> "Judged":
        """Return the same for some of the classes, by their indices ``(class,)``."""
        full = self.outputs
        some = Outputs(
            tuple(full.classes[i] for i in chosen),
            full.songs,
            full.labels[:, chosen],
            full.scores[:, chosen],
            unit=full.unit,
        )
        return Judged(some, self.thresholds[chosen])


@dataclass(frozen=True)
class Setting:
    """The runs that differ in nothing but the seed."""

    fields: dict[str, str]
    """What tells this setting from the others, by config field."""
    shown: dict[str, str]
    """The same for people: numbers have few digits, where that keeps them apart."""
    table: pd.DataFrame
    """A row a run that was judged: see ``timbrel.tracking.frame``."""
    runs: int
    """Of this setting, unfinished ones included."""
    judged: list[Judged]
    """In the order of the table's rows; empty if a run has not kept its outputs."""

    @property
    def name(self) -> str:
        """The setting in a few words."""
        if list(self.shown) == ["name"]:
            return self.shown["name"]
        return ", ".join(f"{path.split('.')[-1]} {value or 'none'}" for path, value in self.shown.items())

    @cached_property
    def draws(self) -> dict[str, np.ndarray]:
        """What ``timbrel.bootstrap.draws`` makes of the runs together; empty if there is nothing to draw from."""
        return _draws(self.judged)

    def interval(self, column: str) -> bootstrap.Interval | None:
        """Return the bootstrap interval over songs of a column of the table, None where there is none."""
        name = BOOTSTRAPPED.get(column, "")
        return bootstrap.interval(self.draws[name]) if name in self.draws else None


def intervals(judged: Sequence[Judged]) -> dict[str, bootstrap.Interval]:
    """Return the bootstrap intervals over songs of the macro means and the loss; empty with a single song."""
    drawn = _draws(judged)
    return {
        column.removeprefix("metrics.test/"): bootstrap.interval(drawn[name])
        for column, name in BOOTSTRAPPED.items()
        if name in drawn
    }


def compared_runs(tracker: Tracker, run_ids: Sequence[str]) -> list[Any]:
    """Return the runs to compare: a study stands for its trials.

    Raises:
        UserError: one of the ids is unknown.
    """
    runs: dict[str, Any] = {}
    for run_id in run_ids:
        run = tracker.get(run_id)
        children = tracker.find({"mlflow.parentRunId": run_id, "timbrel.kind": "trial"})
        for each in reversed(children) if children else [run]:
            runs[each.info.run_id] = each
    return list(runs.values())


def alike(runs: Sequence[Any]) -> bool:
    """Return whether all runs were judged on the same examples."""
    return len({(run.data.tags.get("timbrel.data_digest"), run.data.tags.get(EVALUATION)) for run in runs}) <= 1


def settings_of(tracker: Tracker, runs: Sequence[Any]) -> list[Setting]:
    """Group runs by what they differ in apart from the seed; the best first, or by value where one number varies.

    Empty if none of them was judged on a test split.
    """
    table = frame(runs)
    column = "metrics.test/roc_auc_macro"
    if table.empty or column not in table:
        return []
    table = table.rename(columns={"params.seed": "seed"})
    differing = [
        str(name) for name in table.columns if str(name).startswith("params.") and len(set(table[name].fillna(""))) > 1
    ] or ["name" if len(table) == 1 else "tags.timbrel.task"]
    table[differing] = table[differing].fillna("none")
    briefly = {name: _briefly(table[name].astype(str).unique()) for name in differing}
    settings = []
    for values, group in table.groupby(differing, sort=False, dropna=False):
        finished = group[group[column].notna()]
        names = [path.removeprefix("params.").removeprefix("tags.timbrel.") for path in differing]
        fields = dict(zip(names, map(str, values), strict=True))
        shown = {name: briefly[path][fields[name]] for name, path in zip(names, differing, strict=True)}
        judged = [_judged(tracker, row) for _, row in finished.iterrows()]
        kept = [each for each in judged if each is not None]
        settings.append(Setting(fields, shown, finished, len(group), kept if len(kept) == len(judged) else []))
    if numeric(settings):
        return sorted(settings, key=lambda each: float(next(iter(each.fields.values()))))
    return sorted(settings, key=lambda each: -np.nan_to_num(float(each.table[column].mean()), nan=-1))


def _briefly(values: Iterable[str]) -> dict[str, str]:
    """Return each value of a field in few digits, or all as they are where that would make two of them one."""
    # What is written as a fraction: a run's id, too, may look like a number.
    brief = {value: short(float(value)) if _FRACTION.fullmatch(value) else value for value in values}
    return brief if len(set(brief.values())) == len(brief) else {value: value for value in brief}


def numeric(settings: Sequence[Setting]) -> str | None:
    """Return the config field if the settings differ in one number alone, with three values or more; else None."""
    if len(settings) < 3 or len(settings[0].fields) != 1:
        return None
    try:
        [float(next(iter(each.fields.values()))) for each in settings]
    except ValueError:
        return None
    return next(iter(settings[0].fields))


def _draws(judged: Sequence[Judged]) -> dict[str, np.ndarray]:
    if not judged or len(np.unique(judged[0].outputs.songs)) < 2:
        return {}
    first = judged[0].outputs
    return bootstrap.draws(
        first.labels,
        np.stack([each.outputs.scores for each in judged]),
        first.songs,
        np.stack([each.thresholds for each in judged]),
    )


def _judged(tracker: Tracker, row: pd.Series) -> Judged | None:
    """Return a run's outputs on its test split, None if it is of a version that kept none."""
    if FOLDER not in {entry.path for entry in tracker.client.list_artifacts(row["run_id"])}:
        return None
    with tracker.artifacts(row["run_id"], FOLDER) as folder:
        outputs = Outputs.load(folder / "test.npz", more=False)
    thresholds = [row[f"metrics.threshold/{metric_name(name)}"] for name in outputs.classes]
    return Judged(outputs, np.array(thresholds, dtype=float))
