"""What is missed where something else is heard in its place."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure

from timbrel import metrics
from timbrel.figures.base import FONT_PT, INK, MUTED, NO_EXAMPLE, beside, head, new_figure

NUMBERED_CLASSES = 24
"""With more classes the cells have no room for numbers."""
COLOURS = colormaps["Blues"]
EMPTY = "#e9e9e9"
LUMINANCE = np.array([0.299, 0.587, 0.114])
FEW, PALE = 5, 0.45
"""Rows of fewer examples than this are pale, by this factor, and do not set the scale: one example is 100 %."""
NO_FALSE_ALARM = "no false alarm"
ON_EMPTY: dict[str, Any] = {"style": "italic", "color": MUTED}
WORD_IN = 0.055
"""About the width of a letter, in inches."""
ABOVE = -1.4
"""Upper edge of the row of all examples, in rows; the first class begins at 0."""


def missed_figure(
    targets: np.ndarray,
    decisions: np.ndarray,
    classes: Sequence[str],
    *,
    title: str = "Missed where another was falsely heard",
    unit: str = "example",
) -> Figure:
    """Draw ``metrics.missed_given_false_alarm``: a row for each class falsely heard, a column for each missed.

    The uppermost row is the share of *all* examples in which a class is missed: a cell tells of a confusion as
    far as it is darker than the one at the top of its column. At the right the number of examples of each row.
    Shares are of the examples that were judged on the column's class; a cell is grey where none was.

    Args:
        targets: 0 or 1, NaN where nobody judged, shape ``(example, class)``.
        decisions: whether the class is predicted, shape ``(example, class)``.
        classes: names of the classes.
        title: above the figure.
        unit: what a row of ``targets`` is.
    """
    shares = 100 * metrics.missed_given_false_alarm(targets, decisions)
    if len(classes) != len(shares):
        raise ValueError(f"expected the names of {len(shares)} classes, got {len(classes)}")
    present, predicted, judged = targets == 1, decisions == 1, metrics.is_judged(targets)
    never = ~present.any(axis=0)
    in_all = 100 * (np.sum(present & ~predicted, axis=0) / judged.sum(axis=0).clip(1))
    alarms = predicted & (targets == 0)
    false_alarms = alarms.sum(axis=0)
    examples = alarms.T.astype(np.float64) @ judged  # that each cell is of
    np.fill_diagonal(shares, np.nan)  # no class is both absent and missed
    shares[:, never], in_all[never] = np.nan, np.nan

    count = len(classes)
    roomy = count <= NUMBERED_CLASSES
    cell_in, size_pt = (0.29, FONT_PT - 0.5) if roomy else (0.17, FONT_PT - 1.5)
    names_in = 0.085 * max(len(name) for name in (*classes, f"all {unit}s")) * size_pt / FONT_PT
    side_in = max(cell_in * count, 1.6)
    figure = new_figure(side_in + names_in + 1.2, side_in + names_in + 1.9, title)
    axes = figure.subplots()
    solid = examples >= FEW
    highest = np.nanmax(np.append(shares[solid], in_all), initial=10)  # of few misses none is dark
    scale = Normalize(0, highest, clip=True)
    for first, block, opacity in ((ABOVE, in_all[None], np.ones((1, 1))), (0.0, shares, np.where(solid, 1, PALE))):
        colours = COLOURS(scale(np.ma.masked_invalid(block)))
        colours[..., :3] = 1 - opacity[..., None] * (1 - colours[..., :3])
        colours[np.isnan(block)] = to_rgba(EMPTY)
        axes.imshow(colours, extent=(0, count, first + len(block), first), aspect="auto", interpolation="nearest")
        if roomy:
            _numbers(axes, block, first, colours)
    axes.vlines(np.arange(count + 1), ABOVE, count, color="white", lw=0.8)
    axes.hlines(np.arange(count + 1), 0, count, color="white", lw=0.8)
    places = np.append(ABOVE, np.arange(count)) + 0.5
    axes.set_yticks(places, [f"all {unit}s", *classes], fontsize=size_pt)
    axes.set_xticks(np.arange(count) + 0.5, classes, fontsize=size_pt, rotation=90)
    axes.tick_params(length=0, labelbottom=False, labeltop=True)
    for label, empty in zip(axes.get_yticklabels(), [False, *(false_alarms == 0)], strict=True):
        label.set_color(MUTED if empty else INK)
    for label, empty in zip(axes.get_xticklabels(), never, strict=True):
        label.set_color(MUTED if empty else INK)
    for place, number in zip(places, [len(targets), *false_alarms], strict=True):
        beside(axes, place, f"{number}", size_pt)
    head(axes, f"{unit}s", left=False)
    axes.set(xlim=(0, count), ylim=(count, ABOVE))
    axes.set_xlabel("Missed", fontsize=FONT_PT)
    axes.xaxis.set_label_position("top")
    axes.set_ylabel("Falsely heard", fontsize=FONT_PT)
    for spine in axes.spines.values():
        spine.set_visible(False)
    # The words of columns reach up into the lowest rows, whose own go between them.
    tall, wide = (math.ceil(WORD_IN * len(words) / cell_in) for words in (NO_EXAMPLE, NO_FALSE_ALARM))
    gap = next((first for first in range(count - wide + 1) if not never[first : first + wide].any()), 0)
    for row in np.flatnonzero(false_alarms == 0):
        place = gap if row >= count - tall else 0
        axes.text(place + 0.2, row + 0.5, NO_FALSE_ALARM, **ON_EMPTY, ha="left", va="center", fontsize=size_pt - 0.5)
    for column in np.flatnonzero(never):
        axes.text(
            column + 0.5,
            count - 0.2,
            NO_EXAMPLE,
            **ON_EMPTY,
            ha="center",
            va="bottom",
            fontsize=size_pt - 0.5,
            rotation=90,
        )
    clipped = np.nanmax(shares, initial=0) > highest
    bar = figure.colorbar(
        ScalarMappable(scale, COLOURS), ax=axes, location="bottom", aspect=30, extend="max" if clipped else "neither"
    )
    bar.ax.tick_params(labelsize=FONT_PT - 1)
    bar.outline.set_visible(False)
    pale = f"\npale: fewer than {FEW} {unit}s" if np.any(~solid & (examples > 0)) else ""
    those = "" if judged.all() else ", of those judged on it"
    bar.set_label(f"% of the row's {unit}s in which\nthe column's class is missed{those}{pale}", fontsize=FONT_PT - 0.5)
    return figure


def _numbers(axes: Axes, block: np.ndarray, first: float, colours: np.ndarray) -> None:
    """Write the percentages of a block of rows ``(row, class)`` into its cells; nothing where it rounds to 0."""
    for row, column in np.argwhere(np.nan_to_num(block) >= 0.5):
        axes.text(
            column + 0.5,
            first + row + 0.5,
            f"{block[row, column]:.0f}",
            ha="center",
            va="center",
            fontsize=FONT_PT - 2,
            color="white" if colours[row, column, :3] @ LUMINANCE < 0.5 else INK,
        )
