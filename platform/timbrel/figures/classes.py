"""Metrics of runs, class by class."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from timbrel.figures.base import (
    BLUE,
    ERROR_BAR,
    FAINT,
    FONT_PT,
    INK,
    MUTED,
    NO_EXAMPLE,
    RUN_COLOURS,
    SKY,
    beside,
    clean,
    head,
    key,
    mean_and_sd,
    new_figure,
    wrapped,
)

CLASSES_PER_COLUMN = 26
"""Longer lists of bars are set in two columns."""


def per_class_figure(
    rows: Mapping[str, Mapping[str, float]], *, title: str = "F1 per class", metric: str = "F1"
) -> Figure:
    """Draw one group of horizontal bars a class, one bar a run.

    Args:
        rows: for each run (1 to 6, by its label) the metric of each class; NaN or missing where undefined.
        title: above the figure.
        metric: name of the metric, which lies in [0, 1].
    """
    if not 1 <= len(rows) <= len(RUN_COLOURS):
        raise ValueError(f"expected 1 to {len(RUN_COLOURS)} runs, got {len(rows)}")
    classes = list(dict.fromkeys(name for values in rows.values() for name in values))
    if not classes:
        raise ValueError("expected at least one class, got none")
    absent = {name for name in classes if all(math.isnan(run.get(name, math.nan)) for run in rows.values())}
    columns = 1 if len(classes) <= CLASSES_PER_COLUMN else 2
    per_column = math.ceil(len(classes) / columns)
    bar_in, gap_in = (0.17, 0.07) if len(rows) == 1 else (0.115, 0.11)
    group_in = bar_in * len(rows) + gap_in
    figure = new_figure(6.2 if columns == 1 else 10.5, per_column * group_in + 1.3, title)
    grid = figure.subplots(1, columns, squeeze=False)[0]

    for column, axes in enumerate(grid):
        shown = classes[column * per_column : (column + 1) * per_column]
        middle = np.arange(len(shown)) * group_in
        for run, (values, colour) in enumerate(zip(rows.values(), RUN_COLOURS, strict=False)):
            y = middle + (run - (len(rows) - 1) / 2) * bar_in
            numbers = np.array([values.get(name, math.nan) for name in shown])
            axes.barh(y, np.nan_to_num(numbers), height=bar_in * 0.9, color=colour, zorder=2)
            for place, name, number in zip(y, shown, numbers, strict=True):
                if name not in absent:
                    _at_bar(axes, place, number, bar_in)
        for place, name in zip(middle, shown, strict=True):
            if name in absent:  # once, not for each run
                _at_bar(axes, place, math.nan, bar_in)
        axes.set_yticks(middle, shown, fontsize=FONT_PT)
        axes.set(xlim=(0, 1.09), ylim=((per_column - 0.5) * group_in, -0.5 * group_in))
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.set_xlabel(metric, fontsize=FONT_PT)
        axes.grid(axis="x", color=FAINT, linewidth=0.6, zorder=0)
        clean(axes, "bottom")
    if len(rows) > 1:
        handles = grid[0].containers
        figure.legend(
            handles,
            [wrapped(label, 40) for label in rows],
            loc="outside lower center",
            ncols=min(len(rows), 3),
            fontsize=FONT_PT,
            frameon=False,
        )
    return figure


def f1_and_accuracy_figure(
    classes: Sequence[str],
    f1: np.ndarray,
    accuracy: np.ndarray,
    positives: np.ndarray,
    examples: int,
    *,
    title: str = "F1 and accuracy per class",
) -> Figure:
    """Draw F1 and accuracy side by side, mean ± sample standard deviation over runs, one row a class.

    A tick marks the accuracy of always giving the more frequent answer, mostly "absent": what lies below it is
    worse than no model at all, however high it looks. F1 is not flattered so.

    Args:
        classes: names of the classes, from top to bottom.
        f1: shape ``(run, class)``; NaN where undefined.
        accuracy: shape ``(run, class)``.
        positives: number of positive examples of each class, shape ``(class,)``.
        examples: number of examples in the split.
        title: above the figure.
    """
    shape = (len(f1), len(classes))
    if 0 in shape or f1.shape != shape or accuracy.shape != shape or positives.shape != shape[1:]:
        raise ValueError(
            f"expected f1 and accuracy (run, {len(classes)}) and positives ({len(classes)},) of at least one run "
            f"and class, got {f1.shape}, {accuracy.shape} and {positives.shape}"
        )
    figure = new_figure(8.6, 0.24 * len(classes) + 1.6, title)
    panels = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(classes), dtype=np.float64)
    for axes, name, values, colour in zip(panels, ("F1", "Accuracy"), (f1, accuracy), (BLUE, SKY), strict=True):
        means, spreads = np.transpose([mean_and_sd(column) for column in values.T])
        axes.barh(places, np.nan_to_num(means), height=0.66, color=colour, zorder=2)
        axes.errorbar(means, places, xerr=spreads, fmt="none", **ERROR_BAR)
        for place, mean, spread in zip(places, means, spreads, strict=True):
            if math.isnan(mean):
                _at_bar(axes, place, mean, bar_in=0.16)
            else:
                beside(axes, place, f"{mean:.2f}" + ("" if math.isnan(spread) else f" ± {spread:.2f}"))
        axes.set(xlim=(0, 1), ylim=(len(classes) - 0.5, -0.5))
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.set_xlabel(name, fontsize=FONT_PT)
        axes.grid(axis="x", color=FAINT, linewidth=0.6, zorder=0)
        clean(axes, "bottom")
    share = positives / examples
    by_default = np.maximum(share, 1 - share)
    panels[1].vlines(by_default, places - 0.45, places + 0.45, color=INK, linewidth=1.6, zorder=4, clip_on=False)
    labels = [f"{name} ({number:.0f})" for name, number in zip(classes, positives, strict=True)]
    panels[0].set_yticks(places, labels, fontsize=FONT_PT)
    head(panels[0], f"class (positives of {examples})", left=True)
    handles = {
        "accuracy of always giving the more frequent answer": Line2D(
            [], [], color=INK, marker="|", ms=10, mew=1.6, ls="none"
        )
    }
    if len(f1) > 1:
        handles[f"mean ± sd of {len(f1)} runs"] = Line2D([], [], color=INK, lw=1, marker="|", ms=5)
    key(figure, handles)
    return figure


def _at_bar(axes: Axes, place: float, number: float, bar_in: float) -> None:
    """Write a bar's number at its end, so that 0 and undefined look different."""
    undefined = math.isnan(number)
    axes.text(
        0.012 + (0 if undefined else number),
        place,
        NO_EXAMPLE if undefined else f"{number:.2f}",
        va="center",
        fontsize=bar_in * 72 * 0.72,  # 72 points an inch; most of the bar's height
        style="italic" if undefined else "normal",
        color=MUTED if undefined else INK,
    )
