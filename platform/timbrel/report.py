"""The comparison of runs as Markdown: one row a setting, mean and standard deviation over seeds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from timbrel.errors import UserError
from timbrel.tracking import EVALUATION, Tracker, frame

COLUMNS = {
    "ROC-AUC": "metrics.test/roc_auc_macro",
    "PR-AUC": "metrics.test/pr_auc_macro",
    "F1": "metrics.test/f1_macro",
    "loss": "metrics.test/loss",
}
"""Headline figures: macro averages over the classes that the test split has examples of."""


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


def comparison_table(tracker: Tracker, run_ids: Sequence[str]) -> str:
    """Return the comparison of runs and studies as a Markdown table; empty if none of them was judged on a test split.

    Rows are the settings in which the runs differ, apart from the seed.
    """
    runs = compared_runs(tracker, run_ids)
    if not runs:
        return ""
    table = frame(runs)
    if COLUMNS["ROC-AUC"] not in table:
        return ""
    table = table.rename(columns={"params.seed": "seed"})
    settings = [
        str(column)
        for column in table.columns
        if str(column).startswith("params.") and len(set(table[column].fillna(""))) > 1
    ]
    if not settings:
        settings = ["name"]
    rows = []
    for setting, group in table.groupby(settings, sort=False, dropna=False):
        judged = group[group[COLUMNS["ROC-AUC"]].notna()]
        row = {name.removeprefix("params."): value for name, value in zip(settings, setting, strict=True)}
        row["runs"] = f"{len(judged)}" + (f" of {len(group)}" if len(judged) < len(group) else "")
        row |= {label: _spread(judged[column]) for label, column in COLUMNS.items() if column in judged}
        rows.append((float(judged[COLUMNS["ROC-AUC"]].mean()), row))
    rows.sort(key=lambda item: -np.nan_to_num(item[0], nan=-1))
    return _markdown(pd.DataFrame([row for _, row in rows]))


def report(tracker: Tracker, run_ids: Sequence[str]) -> str:
    """Return the whole report: what was compared, on which data, the table, and F1 per class.

    Raises:
        UserError: an unknown run, or none that was judged on a test split.
    """
    table = comparison_table(tracker, run_ids)
    if not table:
        raise UserError("none of these runs has test figures yet: a run gets them when it finishes.")
    runs = compared_runs(tracker, run_ids)
    digests = sorted({run.data.tags.get("timbrel.data_digest", "?") for run in runs})
    versions = sorted({run.data.tags.get("timbrel.version", "?") for run in runs})
    tasks = sorted({run.data.tags.get("timbrel.task", "?") for run in runs})
    head = (
        f"Task {', '.join(tasks)}; data {', '.join(digests)}; timbrel {', '.join(versions)}. Test split, macro "
        "averages over the classes with an example; mean ± standard deviation over seeds; thresholds chosen on "
        "validation."
    )
    if len({(run.data.tags.get("timbrel.data_digest"), run.data.tags.get(EVALUATION)) for run in runs}) > 1:
        head += "\n\n**The runs were judged on different examples: their figures can't be compared.**"
    return f"{head}\n\n{table}\n\n{_per_class(runs)}"


def _per_class(runs: Sequence[Any]) -> str:
    columns = {}
    for run in runs:
        scores = {
            key.removeprefix("test/f1/"): value for key, value in run.data.metrics.items() if key.startswith("test/f1/")
        }
        if scores:
            columns[f"{run.info.run_name} ({run.info.run_id[:6]})"] = scores
    table = pd.DataFrame(columns)
    table.insert(0, "F1 of", table.index)
    return _markdown(table.map(lambda cell: f"{cell:.3f}" if isinstance(cell, float) and not pd.isna(cell) else cell))


def _spread(values: pd.Series) -> str:
    if values.empty or values.isna().all():
        return "-"
    return f"{values.mean():.3f}" + (f" ± {values.std():.3f}" if len(values) > 1 else "")


def _markdown(table: pd.DataFrame) -> str:
    cells = [
        [str(name) for name in table.columns],
        *[["-" if pd.isna(c) else str(c).replace("|", "/") for c in row] for row in table.to_numpy()],
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.columns))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
