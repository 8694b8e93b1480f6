"""Make the tables of docs/results.md from the files of figures in this folder.

    python docs/results/tables.py

A table stands between two comments, ``<!-- table NAME -->`` and ``<!-- end -->``. NAME is a folder here that
`timbrel report STUDY --out docs/results/NAME` wrote, or a file NAME.csv. The paper's figures are put beside ours from
``paper.csv``, which says for each table and setting what the paper reports, on other data.
"""

import csv
import re
from pathlib import Path

HERE = Path(__file__).parent
METRICS = ("ROC-AUC", "PR-AUC", "F1", "loss")


def settings_table(name: str) -> list[list[str]]:
    """Return a study's table: a row a setting, ours with interval, and the paper's beside it."""
    paper = {}
    for row in rows_of(HERE / "paper.csv"):
        if row["table"] == name:
            paper[row["setting"], row["metric"]] = row["value"]
    known = [metric for metric in METRICS if any(key[1] == metric for key in paper)]
    ours = rows_of(HERE / name / "settings.csv")
    fields = list(ours[0])[: list(ours[0]).index("runs")]
    head = [*fields, "seeds", *METRICS, *(f"paper's {metric}" for metric in known)]
    table = [head]
    for row in ours:
        cells = [
            f"{float(row[f'{metric} mean']):.3f} ± {float(row[f'{metric} sd'] or 'nan'):.3f} "
            f"[{float(row[f'{metric} low']):.3f}, {float(row[f'{metric} high']):.3f}]"
            for metric in METRICS
        ]
        setting = row[fields[0]]
        theirs = [paper.get((setting, metric), "–") for metric in known]
        table.append([*(row[field] for field in fields), row["runs"], *cells, *theirs])
    return table


def plain_table(name: str) -> list[list[str]]:
    """Return a CSV file as it is."""
    rows = rows_of(HERE / f"{name}.csv")
    return [list(rows[0]), *(list(row.values()) for row in rows)]


def rows_of(file: Path) -> list[dict[str, str]]:
    """Read a CSV file."""
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def markdown(table: list[list[str]]) -> str:
    """Return a table, its head first, as Markdown."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in table]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def filled(text: str) -> str:
    """Return the page with its tables made anew."""

    def make(match: re.Match[str]) -> str:
        name = match[1]
        table = settings_table(name) if (HERE / name).is_dir() else plain_table(name)
        return f"<!-- table {name} -->\n\n{markdown(table)}\n\n<!-- end -->"

    return re.sub(r"<!-- table (\S+) -->.*?<!-- end -->", make, text, flags=re.DOTALL)


if __name__ == "__main__":
    page = HERE.parent / "results.md"
    page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
