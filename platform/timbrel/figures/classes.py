"""Metrics of runs, class by class."""

import math
from collections.abc import Sequence

import numpy as np
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
    SKY,
    beside,
    clean,
    head,
    key,
    mean_and_sd,
    new_figure,
)


def f1_and_accuracy_figure(
    classes: Sequence[str],
    f1: np.ndarray,
    accuracy: np.ndarray,
    positives: np.ndarray,
    examples: int | np.ndarray,
    *,
    title: str = "F1 and accuracy per class",
    unit: str = "example",
) -> Figure:
    """Draw F1 and accuracy side by side, mean ± sample standard deviation over runs, one row a class.

    A tick marks the accuracy of always giving the more frequent answer, mostly "absent": what lies below it is
    worse than no model at all, however high it looks. F1 is not flattered so.

    Args:
        classes: names of the classes, from top to bottom.
        f1: shape ``(run, class)``; NaN where undefined.
        accuracy: shape ``(run, class)``.
        positives: number of positive examples of each class, shape ``(class,)``.
        examples: number of examples in the split; where not all were judged, of those that were, shape ``(class,)``.
        title: above the figure.
        unit: what is counted as an example.
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
                axes.text(0.012, place, NO_EXAMPLE, va="center", fontsize=FONT_PT, style="italic", color=MUTED)
            else:
                beside(axes, place, f"{mean:.2f}" + ("" if math.isnan(spread) else f" ± {spread:.2f}"))
        axes.set(xlim=(0, 1), ylim=(len(classes) - 0.5, -0.5))
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.set_xlabel(name, fontsize=FONT_PT)
        axes.grid(axis="x", color=FAINT, linewidth=0.6, zorder=0)
        clean(axes, "bottom")
    judged = np.broadcast_to(examples, positives.shape)
    share = np.divide(positives, judged, out=np.full(len(classes), np.nan), where=judged > 0)
    by_default = np.maximum(share, 1 - share)
    panels[1].vlines(by_default, places - 0.45, places + 0.45, color=INK, linewidth=1.6, zorder=4, clip_on=False)
    alike = len(set(judged)) == 1
    of = [""] * len(classes) if alike else [f" of {number:.0f}" for number in judged]
    labels = [f"{name} ({number:.0f}{each})" for name, number, each in zip(classes, positives, of, strict=True)]
    panels[0].set_yticks(places, labels, fontsize=FONT_PT)
    head(panels[0], f"class (positives of {f'{judged[0]:.0f}' if alike else 'judged'} {unit}s)", left=True)
    handles = {
        "accuracy of always giving the more frequent answer": Line2D(
            [], [], color=INK, marker="|", ms=10, mew=1.6, ls="none"
        )
    }
    if len(f1) > 1:
        handles[f"mean ± sd of {len(f1)} runs"] = Line2D([], [], color=INK, lw=1, marker="|", ms=5)
    key(figure, handles)
    return figure
