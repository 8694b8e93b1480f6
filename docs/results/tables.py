"""Make the tables of docs/results.md, docs/performance.md and docs/scale.md from the files of figures in this folder.

    python docs/results/tables.py

A table stands between two comments, ``<!-- table NAME -->`` and ``<!-- end -->``. NAME is a folder here that
`timbrel report STUDY --out docs/results/NAME` wrote; or FOLDER/epochs, for validation figures on the way; or
FOLDER/classes, for figures by class; or published_taggers or tagged_pieces, from the file of that name; or
performance/NAME, for what `python benchmarks/NAME.py --json` printed, or performance/NAME#PART, for one of the tables
that it makes of it. The paper's figures are put beside ours from
``paper.csv``, which says for each table and setting what the paper reports, on other data.
"""

import csv
import importlib
import json
import re
import statistics
import sys
from pathlib import Path

from timbrel import markdown

HERE = Path(__file__).parent
METRICS = ("ROC-AUC", "PR-AUC", "F1", "loss")
"""Shown of tasks that have no figures of their own."""
SHOWN_TAGS = 5
"""So many of a piece's tags has the table of pieces."""
SHOWN_EPOCHS = 5
"""So many columns at most has a table of validation figures, the last epoch among them."""


def settings_table(name: str) -> list[list[str]]:
    """Return a study's table: a row a setting, ours with interval, and the paper's beside it."""
    paper = {}
    for row in rows_of(HERE / "paper.csv"):
        if row["table"] == name:
            paper[row["setting"], row["metric"]] = row["value"]
    ours = rows_of(HERE / name / "settings.csv")
    fields = list(ours[0])[: list(ours[0]).index("runs")]
    there = [column.removesuffix(" mean") for column in ours[0] if column.endswith(" mean")]
    shown = [metric for metric in there if metric not in METRICS] or list(METRICS)
    known = [metric for metric in shown if any(key[1] == metric for key in paper)]
    head = [*fields, "seeds", *shown, *(f"paper's {metric}" for metric in known)]
    table = [head]
    for row in ours:
        cells = [
            f"{float(row[f'{metric} mean']):.3f} ± {float(row[f'{metric} sd'] or 'nan'):.3f}"
            + (
                f" [{float(row[f'{metric} low']):.3f}, {float(row[f'{metric} high']):.3f}]"
                if row.get(f"{metric} low")
                else ""
            )
            for metric in shown
        ]
        values = [row[field] for field in fields]
        named = ", ".join(f"{field.split('.')[-1]} {value}" for field, value in zip(fields, values, strict=True))
        theirs = [paper.get((values[0] if len(fields) == 1 else named, metric), "–") for metric in known]
        table.append([*(row[field] or "none" for field in fields), row["runs"], *cells, *theirs])
    return table


def epochs_table(name: str) -> list[list[str]]:
    """Return the mean validation ROC-AUC / PR-AUC of each setting after some of its epochs."""
    rows = rows_of(HERE / f"{name}.csv")
    fields = list(rows[0])[: list(rows[0]).index("seed")]
    figures: dict[tuple[str, ...], dict[int, list[tuple[float, float]]]] = {}
    for row in rows:
        by_epoch = figures.setdefault(tuple(row[field] for field in fields), {})
        pair = float(row["valid/roc_auc_macro"]), float(row["valid/pr_auc_macro"])
        by_epoch.setdefault(int(row["epoch"]), []).append(pair)
    epochs = sorted({epoch for by_epoch in figures.values() for epoch in by_epoch})
    shown = [epochs[round(i * (len(epochs) - 1) / (SHOWN_EPOCHS - 1))] for i in range(SHOWN_EPOCHS)]
    shown = list(dict.fromkeys(shown))
    table = [[*fields, *(f"epoch {epoch}" for epoch in shown)]]
    for setting, by_epoch in figures.items():
        means = ([statistics.fmean(column) for column in zip(*by_epoch[epoch], strict=True)] for epoch in shown)
        table.append([*setting, *(f"{roc:.3f} / {pr:.3f}" for roc, pr in means)])
    return table


def classes_table(name: str) -> list[list[str]]:
    """Return each class's share of the training examples, F1 and PR-AUC: a row a class, three columns a setting."""
    rows = rows_of(HERE / f"{name.removesuffix('/classes')}/runs.csv")
    fields = list(rows[0])[: list(rows[0]).index("seed")]
    settings: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        setting = ", ".join(f"{field.split('.')[-1]} {row[field] or 'none'}" for field in fields)
        settings.setdefault(setting, []).append(row)
    classes = [key.removeprefix("test/support/") for key in rows[0] if key.startswith("test/support/")]

    def cells(runs: list[dict[str, str]], label: str) -> list[str]:
        share, f1, pr_auc = (
            [float(run[f"{kind}/{label}"]) for run in runs] for kind in ("share", "test/f1", "test/pr_auc")
        )
        spread = (f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}" for values in (f1, pr_auc))
        return [f"{statistics.fmean(share):.2f}", *spread]

    head = ["class (test examples)"]
    for setting in settings:
        head += [f"{setting}: share", "F1", "PR-AUC"]
    table = [head]
    for label in classes:
        support = float(rows[0][f"test/support/{label}"])
        if support:
            row = [f"{label} ({support:.0f})"]
            for runs in settings.values():
                row += cells(runs, label)
            table.append(row)
    return table


def taggers_table(name: str) -> list[list[str]]:
    """Return the ROC-AUC of published taggers with its interval: a row a class, a column a tagger."""
    cells: dict[str, dict[str, str]] = {}
    taggers = []
    for row in rows_of(HERE / f"{name}.csv"):
        level = "" if row["level_dbfs"] == "as mixed" else f", {float(row['level_dbfs']):g} dBFS"
        times = "" if row["times"] == "1" else f", {row['times']} times"
        tagger = row["weights"] + level + times
        if tagger not in taggers:
            taggers.append(tagger)
        figures = f"{float(row['roc_auc']):.2f} [{float(row['low']):.2f}, {float(row['high']):.2f}]"
        cells.setdefault(f"{row['class']} ({row['positives']})", {})[tagger] = figures
    return [
        ["class", *taggers],
        *([name, *(row.get(tagger, "–") for tagger in taggers)] for name, row in cells.items()),
    ]


def pieces_table(name: str) -> list[list[str]]:
    """Return the highest tags of each piece with their probabilities: a row a piece, a column a tagger."""
    pieces: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows_of(HERE / f"{name}.csv"):
        facts = row["title"], row["kind"], row["instruments"]
        values = {tag.split("---")[-1]: float(value) for tag, value in row.items() if "---" in tag}
        highest = sorted(values, key=lambda tag: -values[tag])[:SHOWN_TAGS]
        pieces.setdefault(facts, {})[row["weights"]] = ", ".join(f"{tag} {values[tag]:.2f}" for tag in highest)
    taggers = list(dict.fromkeys(tagger for found in pieces.values() for tagger in found))
    head = ["piece", "kind", "instruments in the MIDI", *taggers]
    return [head, *([*facts, *(found.get(tagger, "–") for tagger in taggers)] for facts, found in pieces.items())]


def benchmark_text(name: str) -> str:
    """Return what a benchmark would have printed for people."""
    file, _, part = name.partition("#")
    figures = json.loads((HERE / f"{file}.json").read_text(encoding="utf-8"))
    benchmark = importlib.import_module(Path(file).name)
    text: str = benchmark.table(figures, part) if part else benchmark.table(figures)
    return text


def rows_of(file: Path) -> list[dict[str, str]]:
    """Read a CSV file."""
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def filled(text: str) -> str:
    """Return the page with its tables made anew."""

    def make(match: re.Match[str]) -> str:
        name = match[1]
        if name.startswith("performance/"):
            text = benchmark_text(name)
        else:
            if name.endswith("/epochs"):
                head, *rows = epochs_table(name)
            elif name.endswith("/classes"):
                head, *rows = classes_table(name)
            elif name == "tagged_pieces":
                head, *rows = pieces_table(name)
            elif (HERE / name).is_dir():
                head, *rows = settings_table(name)
            else:
                head, *rows = taggers_table(name)
            text = markdown.table(head, rows)
        return f"<!-- table {name} -->\n\n{text}\n\n<!-- end -->"

    return re.sub(r"<!-- table (\S+) -->.*?<!-- end -->", make, text, flags=re.DOTALL)


if __name__ == "__main__":
    sys.path.append(str(HERE.parents[1] / "benchmarks"))
    for page in (HERE.parent / name for name in ("results.md", "performance.md", "scale.md")):
        try:
            text = filled(page.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            sys.exit(f"{page} has a table of the figures in {error.filename}, which is not there: measure them first.")
        page.write_text(text, encoding="utf-8")
