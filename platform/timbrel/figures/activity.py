"""Who plays when in one file."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from timbrel.figures.base import FAINT, FONT_PT, INK, MUTED, clean, new_figure, time_axis


def activity_figure(
    probabilities: np.ndarray,
    classes: Sequence[str],
    thresholds: np.ndarray,
    file_probabilities: np.ndarray,
    *,
    title: str,
    parents: Mapping[str, str] | None = None,
) -> Figure:
    """Draw who plays when in one file: time across, classes down, and at the right the file as a whole.

    A second at or above the class's threshold is blue, one below it grey; both are darker for a higher
    probability. Labels of classes that the file as a whole contains are black, the others grey.

    Args:
        probabilities: for each second, shape ``(second, class)``.
        classes: names of the classes.
        thresholds: shape ``(class,)``.
        file_probabilities: for the file as a whole, shape ``(class,)``.
        title: for instance the file's name.
        parents: the family of each specific instrument; an instrument is drawn below its family.
    """
    if probabilities.shape[1:] != (len(classes),) or not len(probabilities):
        raise ValueError(f"expected probabilities (second, {len(classes)}), got {probabilities.shape}")
    for name, array in (("thresholds", thresholds), ("file_probabilities", file_probabilities)):
        if array.shape != (len(classes),):
            raise ValueError(f"expected {name} ({len(classes)},), got {array.shape}")

    seconds = len(probabilities)
    groups = _families(classes, parents or {})
    gap = 0.35 if len(groups) < len(classes) else 0.0
    rows = [index for group in groups for index in group]
    tops = np.arange(len(rows)) + gap * np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    row_in = 0.24 if len(rows) <= 20 else 0.18
    time_in = float(np.clip(0.1 * seconds, 3.2, 7.5))
    figure = new_figure(time_in + 3.4, row_in * (tops[-1] + 1) + 1.5, title)
    over_time, in_all = figure.subplots(1, 2, sharey=True, width_ratios=[time_in, 1.5])

    start = 0
    for group in groups:
        top = tops[start]
        over_time.imshow(
            _shades(probabilities[:, group], thresholds[group]).transpose(1, 0, 2),
            extent=(0, seconds, top + len(group), top),
            aspect="auto",
            interpolation="nearest",
        )
        start += len(group)
    over_time.hlines(tops, 0, seconds, color="white", linewidth=1)
    over_time.set(xlim=(0, seconds), ylim=(tops[-1] + 1, 0))
    over_time.set_title("Second by second", fontsize=FONT_PT, loc="left", color=INK)
    time_axis(over_time, seconds)
    clean(over_time, "bottom")

    present = file_probabilities >= thresholds
    colours = _shades(file_probabilities[None], thresholds)[0]
    in_all.barh(tops + 0.5, file_probabilities[rows], height=0.72, color=colours[rows], zorder=2)
    in_all.vlines(thresholds[rows], tops + 0.06, tops + 0.94, color=INK, linewidth=1.1, zorder=3)
    in_all.hlines(tops + 0.5, 0, 1, color=FAINT, linewidth=0.5, zorder=1)
    in_all.set(xlim=(0, 1), xticks=[0, 0.5, 1], xticklabels=["0", "0.5", "1"])
    in_all.set_title("Whole file", fontsize=FONT_PT, loc="left", color=INK)
    in_all.set_xlabel("Probability", fontsize=FONT_PT)
    clean(in_all, "bottom")
    in_all.tick_params(labelleft=False)

    over_time.set_yticks(tops + 0.5, [classes[index] for index in rows])
    heads = {group[0] for group in groups if gap}
    for label, index in zip(over_time.get_yticklabels(), rows, strict=True):
        label.set(
            fontsize=FONT_PT if row_in > 0.2 else FONT_PT - 1.5,
            fontweight="bold" if index in heads else "normal",
            color=INK if present[index] else MUTED,
        )
    _activity_key(figure)
    return figure


def _families(classes: Sequence[str], parents: Mapping[str, str]) -> list[list[int]]:
    """Return the indices of the classes in groups, each a family followed by its instruments."""
    groups = {name: [index] for index, name in enumerate(classes) if parents.get(name) not in classes}
    for index, name in enumerate(classes):
        if name not in groups:
            groups[parents[name]].append(index)
    return list(groups.values())


def _shades(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return RGBA colours ``(..., class, 4)``: blue at or above the threshold, grey below it."""
    above = colormaps["Blues"](0.45 + 0.55 * probabilities)
    below = colormaps["Greys"](0.06 + 0.3 * probabilities)
    return np.where((probabilities >= thresholds)[..., None], above, below)


def _activity_key(figure: Figure) -> None:
    """Explain the colours of ``_shades``, pale to dark for probability 0 to 1, and the threshold's tick."""
    ramp = np.linspace(0, 1, 6)
    above, below = (
        tuple(Patch(facecolor=colour) for colour in _shades(ramp, np.full(len(ramp), threshold)))
        for threshold in (0.0, math.inf)
    )
    tick = Line2D([], [], color=INK, linewidth=1.1, marker="|", markersize=9, linestyle="none")
    handles: list[Any] = [above, below, tick]
    figure.legend(
        handles,
        ["at or above the threshold", "below it (darker: more probable)", "threshold"],
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
        handlelength=4,
        loc="outside lower center",
        ncols=3 if figure.get_figwidth() > 7.5 else 1,
        fontsize=FONT_PT - 1,
        frameon=False,
    )
