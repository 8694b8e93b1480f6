"""Precision against recall, class by class."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.metrics import precision_recall_curve

from timbrel import metrics
from timbrel.figures.base import (
    BLUE,
    FAINT,
    FONT_PT,
    INK,
    MUTED,
    NO_EXAMPLE,
    VERMILION,
    clean,
    key,
    new_figure,
    wrapped,
)


def precision_recall_figure(
    targets: np.ndarray,
    scores: np.ndarray,
    classes: Sequence[str],
    thresholds: np.ndarray,
    *,
    title: str = "Precision and recall per class",
) -> Figure:
    """Draw the precision-recall curve of each class, its average precision, and where its threshold puts it.

    The average precision is the area under the curve as it is drawn. Chance is the share of positive examples:
    the precision of a model that guesses. All is of the examples that were judged on the class.

    Args:
        targets: 0 or 1, NaN where nobody judged, shape ``(example, class)``.
        scores: probabilities, shape ``(example, class)``.
        classes: names of the classes, drawn row by row.
        thresholds: shape ``(class,)``.
        title: above the figure.
    """
    decisions = metrics.decide(scores, thresholds)
    average = metrics.pr_auc(targets, scores)
    precision, recall = metrics.precision(targets, decisions), metrics.recall(targets, decisions)
    if len(classes) != targets.shape[1]:
        raise ValueError(f"expected the names of {targets.shape[1]} classes, got {len(classes)}")
    columns = min(len(classes), 5 if len(classes) <= 20 else 8)
    rows = math.ceil(len(classes) / columns)
    panel_in = 1.55 if columns > 2 else 2.6
    figure = new_figure(max(panel_in * columns + 0.5, 4.2), (panel_in + 0.25) * rows + 1.1, title)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for index, (axes, name) in enumerate(zip(panels, classes, strict=False)):
        judged = metrics.is_judged(targets[:, index])
        truth = targets[judged, index]
        positives = int(truth.sum())
        undefined = math.isnan(average[index])
        numbers = f"{positives} of {len(truth)}" if undefined else f"AP {average[index]:.2f}, n = {positives}"
        colour = MUTED if undefined else INK
        axes.set_title(f"{wrapped(name, 21)}\n{numbers}", fontsize=FONT_PT - 1, color=colour, pad=3)
        _square(axes, labels_below=index + columns >= len(classes))
        if undefined:
            axes.set_facecolor("#f4f4f4")
            axes.grid(False)
            _in_panel(axes, 0.5, "no other example" if positives else NO_EXAMPLE)
            continue
        heights, widths, _ = precision_recall_curve(truth, scores[judged, index])
        # scikit-learn ends in a point of its own making, (0, 1): the first step is as high as the first cut.
        widths, heights = widths[::-1], np.append(heights[-2], heights[-2::-1])
        widths = widths[: np.argmax(widths == 1) + 1]  # beyond, nothing is left to find
        heights = heights[: len(widths)]
        axes.plot(widths, heights, drawstyle="steps-pre", color=BLUE, lw=1.4, zorder=3)
        axes.fill_between(widths, heights, step="pre", color=BLUE, alpha=0.12, linewidth=0, zorder=1)
        axes.axhline(positives / len(truth), color=MUTED, lw=1, ls=(0, (4, 2)), zorder=2)
        if math.isnan(precision[index]):
            _in_panel(axes, 0.06, "never predicted")
        else:
            axes.plot(
                recall[index],
                precision[index],
                "o",
                ms=6,
                color=VERMILION,
                mec="white",
                mew=0.8,
                zorder=5,
                clip_on=False,
            )
    for axes in panels[len(classes) :]:
        axes.remove()
    for axes in panels[max(len(classes) - columns, 0) : len(classes)]:
        axes.set_xlabel("Recall", fontsize=FONT_PT - 0.5)
    for axes in panels[: len(classes) : columns]:
        axes.set_ylabel("Precision", fontsize=FONT_PT - 0.5)
    handles = {
        "area: average precision (AP)": Line2D([], [], color=BLUE, lw=1.4),
        "at the threshold": Line2D([], [], ls="none", marker="o", ms=6, color=VERMILION, mec="white"),
        "chance": Line2D([], [], color=MUTED, lw=1, ls=(0, (4, 2))),
    }
    key(figure, handles, columns=3 if columns > 3 else 2)
    return figure


def _square(axes: Axes, labels_below: bool) -> None:
    """Set both axes from 0 to 1, with the numbers at the outer edges alone."""
    axes.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    axes.set_xticklabels(["0", ".5", "1"])
    axes.set_yticklabels(["0", ".5", "1"])
    axes.grid(color=FAINT, linewidth=0.5, zorder=0)
    clean(axes, "bottom", "left")
    axes.tick_params(labelsize=FONT_PT - 1, labelcolor=INK, labelbottom=labels_below)


def _in_panel(axes: Axes, height: float, text: str) -> None:
    """Write ``text`` where there is no curve."""
    axes.text(0.5, height, text, ha="center", va="center", fontsize=FONT_PT - 1, style="italic", color=MUTED)
