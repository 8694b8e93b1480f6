"""Reports: runs compared as Markdown and pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from timbrel import bootstrap, figures, markdown, metrics, registry
from timbrel.compare import Judged, Setting, alike, compared_runs, numeric, settings_of
from timbrel.errors import UserError
from timbrel.task import Task
from timbrel.tracking import Tracker

COLUMNS = {
    "ROC-AUC": "metrics.test/roc_auc_macro",
    "PR-AUC": "metrics.test/pr_auc_macro",
    "F1": "metrics.test/f1_macro",
    "loss": "metrics.test/loss",
}
"""Headline figures: macro averages over the classes that the test split has examples of."""
EPOCH_FIGURES = ("train/loss", "valid/roc_auc_macro", "valid/pr_auc_macro")
RUN_FIGURES = ("metrics.test/", "metrics.thresh", "metrics.share/")
"""What a report keeps of each run."""
MOST_CLASSES = 50
MOST_PICTURED = 8
"""Settings of which a report has pictures by class; of more, only the best."""


def comparison_table(settings: Sequence[Setting]) -> str:
    """Return settings as a Markdown table: mean ± standard deviation over seeds, and bootstrap intervals over songs."""
    rows = []
    for setting in settings:
        judged = len(setting.table)
        row = dict(setting.shown)
        row["runs"] = f"{judged}" + (f" of {setting.runs}" if judged < setting.runs else "")
        for label, column in columns_of(_task_of(setting)).items():
            if column in setting.table:
                row[label] = _spread(setting.table[column], _interval(setting, column))
        rows.append(row)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return markdown.table(columns, ([row.get(name) for name in columns] for row in rows)) if rows else ""


def columns_of(task: Task | None) -> dict[str, str]:
    """Return the figures that are shown of a task's runs, by title: first its own, then everybody's."""
    own = task.headline if task else {}
    return {**{title: f"metrics.test/{name}" for title, name in own.items()}, **COLUMNS}


def _interval(setting: Setting, column: str) -> bootstrap.Interval | None:
    """Return the bootstrap interval of a column, None where the runs' outputs don't tell it."""
    task = _task_of(setting)
    if column == COLUMNS["loss"] and task and not task.loss_of_outputs:
        return None
    return setting.interval(column)


def _task_of(setting: Setting) -> Task | None:
    """Return the task of a setting's runs, None if it is not installed, or they are of several."""
    names = set(setting.table.get("tags.timbrel.task", ())) & set(registry.names("task"))
    return registry.load("task", names.pop()) if len(names) == 1 else None


def report(tracker: Tracker, run_ids: Sequence[str], folder: Path | None = None) -> str:
    """Return the whole report: what was compared, on which data, the table, and figures per class.

    With a ``folder``, the pictures are drawn into it, the report that shows them is written as ``report.md``, and the
    figures as ``runs.csv`` (a row a run), ``epochs.csv`` (a row an epoch: how they got there) and ``settings.csv`` (a
    row a setting, with the bootstrap intervals).

    Raises:
        UserError: an unknown run, or none that was judged on a test split.
    """
    runs = compared_runs(tracker, run_ids)
    settings = settings_of(tracker, runs)
    if not settings:
        raise UserError("none of these runs has test figures yet: a run gets them when it finishes.")
    parts = [_head(runs), comparison_table(settings), *_paired(settings)]
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        parts += [f"![{caption}]({name})" for name, caption in draw(settings, folder).items()]
    parts.append(_per_class(settings))
    text = "\n\n".join(parts)
    if folder is not None:
        (folder / "report.md").write_text(text + "\n", encoding="utf-8")
        _runs_table(settings).to_csv(folder / "runs.csv", index=False)
        _epochs_table(tracker, settings).to_csv(folder / "epochs.csv", index=False)
        _settings_table(settings).to_csv(folder / "settings.csv", index=False)
    return text


def draw(settings: Sequence[Setting], folder: Path) -> dict[str, str]:
    """Draw the pictures of a report into a folder; return their captions by file name."""
    drawn: dict[str, tuple[str, Any]] = {}
    swept = numeric(settings)
    if swept:
        drawn["sweep.png"] = (f"ROC-AUC and PR-AUC over {swept}", _sweep(settings, swept))
    elif len(settings) > 1:
        column = COLUMNS["ROC-AUC"]
        intervals = {each.name: found for each in settings if (found := each.interval(column))}
        groups = {each.name: each.table[column].tolist() for each in settings}
        drawn["comparison.png"] = (
            "ROC-AUC by setting",
            figures.comparison_figure(
                groups, metric="ROC-AUC", title="Macro ROC-AUC on the test split", intervals=intervals or None
            ),
        )
    best = max(settings, key=lambda each: float(each.table[COLUMNS["ROC-AUC"]].mean()))
    for number, setting in enumerate(settings, start=1):
        if setting.judged and (setting is best or len(settings) <= MOST_PICTURED):
            suffix = f"-{number}-{_file_name(setting.name)}" if len(settings) > 1 else ""
            pictures = run_figures(setting.judged, setting.name)
            drawn |= {f"{name}{suffix}.png": picture for name, picture in pictures.items()}
    for name, (_, figure) in drawn.items():
        figure.savefig(folder / name)
    return {name: caption for name, (caption, _) in drawn.items()}


def run_figures(judged: Sequence[Judged], name: str = "") -> dict[str, tuple[str, Any]]:
    """Return the pictures by class of runs that differ in the seed alone: captions and figures by name.

    Of very many classes, as a tagger has, they show those with most examples.
    """
    frequent = np.argsort(-np.sum(judged[0].outputs.labels == 1, axis=0), kind="stable")[:MOST_CLASSES]
    judged = [each.of_classes(np.sort(frequent)) for each in judged]
    first = judged[0].outputs
    classes = first.classes
    f1 = np.stack([metrics.f1(each.outputs.labels, each.decisions) for each in judged])
    accuracy = np.stack([metrics.accuracy(each.outputs.labels, each.decisions) for each in judged])
    labels = np.concatenate([each.outputs.labels for each in judged])
    decisions = np.concatenate([each.decisions for each in judged])
    of = f": {name}" if name else ""
    seeds = f" ({len(judged)} seeds)" if len(judged) > 1 else ""
    return {
        "per_class": (
            f"F1 and accuracy per class{of}",
            figures.f1_and_accuracy_figure(
                classes,
                f1,
                accuracy,
                np.sum(first.labels == 1, axis=0),
                metrics.is_judged(first.labels).sum(axis=0),
                title=f"F1 and accuracy per class{of}{seeds}",
                unit=first.unit,
            ),
        ),
        "precision_recall": (
            f"precision and recall per class{of}",
            figures.precision_recall_figure(
                first.labels,
                first.scores,
                classes,
                judged[0].thresholds,
                title=f"Precision and recall per class{of}" + (", the first seed" if seeds else ""),
            ),
        ),
        "confusion": (
            f"what is missed where another class is falsely heard{of}",
            figures.missed_figure(
                labels,
                decisions,
                classes,
                title=f"Missed where another was falsely heard{of}{seeds}",
                unit=first.unit,
            ),
        ),
    }


def _sweep(settings: Sequence[Setting], swept: str) -> Any:
    labels = {label: COLUMNS[label] for label in ("ROC-AUC", "PR-AUC")}
    values = [float(each.fields[swept]) for each in settings for _ in range(len(each.table))]
    return figures.sweep_figure(
        values,
        {label: [v for each in settings for v in each.table[column]] for label, column in labels.items()},
        setting=swept,
        title=f"Macro ROC-AUC and PR-AUC on the test split, over {swept}",
        intervals={
            label: {
                float(each.fields[swept]): found for each in settings if (found := each.interval(column)) is not None
            }
            for label, column in labels.items()
        },
    )


def _head(runs: Sequence[Any]) -> str:
    tags = {
        name: sorted({run.data.tags.get(f"timbrel.{name}", "?") for run in runs})
        for name in ("task", "data_digest", "version")
    }
    head = (
        f"Task {', '.join(tags['task'])}; data {', '.join(tags['data_digest'])}; timbrel {', '.join(tags['version'])}. "
        "Test split, macro averages over the classes with an example; mean ± standard deviation over seeds, and in "
        "brackets where 95 % of bootstrap draws of the test songs lie; thresholds chosen on validation."
    )
    if not alike(runs):
        head += "\n\n**The runs were judged on different examples: their figures can't be compared.**"
    return head


def _paired(settings: Sequence[Setting]) -> list[str]:
    """Say in how many draws of the test songs the best setting is above each other one, draw by draw."""
    drawn = [each for each in settings if each.draws]
    if len(drawn) < 2:
        return []
    best, *others = sorted(drawn, key=lambda each: -float(each.table[COLUMNS["ROC-AUC"]].mean()))
    labels = best.judged[0].outputs.labels
    if not all(np.array_equal(each.judged[0].outputs.labels, labels, equal_nan=True) for each in others):
        return []
    shares = (
        f"{other.name} in {bootstrap.probability_higher(best.draws['roc_auc_macro'], other.draws['roc_auc_macro']):.0%}"
        for other in others
    )
    return [f"ROC-AUC of {best.name} is higher, on the same drawn songs, than that of " + ", ".join(shares) + "."]


def _per_class(settings: Sequence[Setting]) -> str:
    columns = {}
    for setting in settings:
        names = [name for name in setting.table if str(name).startswith("metrics.test/f1/")]
        columns[setting.name] = {
            str(name).removeprefix("metrics.test/f1/"): _spread(setting.table[name], None) for name in names
        }
    table = pd.DataFrame(columns)
    table.insert(0, "F1 of", table.index)
    return markdown.table([str(name) for name in table.columns], table.to_numpy())


def _runs_table(settings: Sequence[Setting]) -> pd.DataFrame:
    rows = []
    for setting in settings:
        for _, run in setting.table.iterrows():
            kept = {name: run[name] for name in run.index if str(name).startswith(RUN_FIGURES)}
            figures_of = {str(name).removeprefix("metrics."): round(float(value), 6) for name, value in kept.items()}
            rows.append({**setting.fields, "seed": run.get("seed"), "run_id": run["run_id"], **figures_of})
    return pd.DataFrame(rows)


def _epochs_table(tracker: Tracker, settings: Sequence[Setting]) -> pd.DataFrame:
    """Return what was logged at the end of each epoch; empty for runs without one, as of a study of rules."""
    rows = []
    for setting in settings:
        task = _task_of(setting)
        names = (*EPOCH_FIGURES, *(f"valid/{name}" for name in (task.headline.values() if task else ())))
        for _, run in setting.table.iterrows():
            logged = {name: tracker.history(run["run_id"], name) for name in names}
            for epoch in sorted({step for points in logged.values() for step in points}):
                figures_of = {name: round(points.get(epoch, np.nan), 6) for name, points in logged.items()}
                rows.append({**setting.fields, "seed": run.get("seed"), "epoch": epoch, **figures_of})
    return pd.DataFrame(rows, columns=None if rows else ["epoch", *EPOCH_FIGURES])


def _settings_table(settings: Sequence[Setting]) -> pd.DataFrame:
    rows = []
    for setting in settings:
        row: dict[str, Any] = {**setting.fields, "runs": len(setting.table)}
        for label, column in columns_of(_task_of(setting)).items():
            values, found = setting.table[column], _interval(setting, column)
            ends = {f"{label} low": found.low, f"{label} high": found.high} if found else {}
            row |= {f"{label} mean": values.mean(), f"{label} sd": values.std(), **ends}
        rows.append(row)
    return pd.DataFrame(rows).round(6)


def _spread(values: pd.Series, interval: bootstrap.Interval | None) -> str:
    if values.empty or values.isna().all():
        return "-"
    spread = f" ± {values.std():.3f}" if len(values) > 1 else ""
    return f"{values.mean():.3f}{spread}" + (f" [{interval.low:.3f}, {interval.high:.3f}]" if interval else "")


def _file_name(name: str) -> str:
    return "".join(each if each.isalnum() or each in "._-" else "_" for each in name)[:60]
