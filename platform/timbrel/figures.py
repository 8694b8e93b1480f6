"""Figures of predictions and results, ready to be saved: ``figure.savefig("violin.png")``.

Drawn through matplotlib's object interface only. ``pyplot`` keeps figures and settings that are global to
the process, so it leaks memory in a long run and is not safe in Ray's actors.

Conventions
-----------
Probabilities have the shape ``(second, class)``, thresholds and whole-file probabilities ``(class,)``. NaN
means undefined, and is drawn as "no example", never as 0. The colours are those of Okabe and Ito and shades
of a single hue, so they survive colour blindness and grey print.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

DPI = 150
FONT_PT = 8.5
INK, MUTED, FAINT = "#1a1a1a", "#767676", "#d9d9d9"
RUN_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
"""Okabe and Ito's palette for colour-blind readers, in the order in which neighbours differ most."""
NO_EXAMPLE = "no example"
CLASSES_PER_COLUMN = 26
"""Longer lists of bars are set in two columns."""


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
    figure = _figure(time_in + 3.4, row_in * (tops[-1] + 1) + 1.5, title)
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
    _time_axis(over_time, seconds)
    _clean(over_time, "bottom")

    present = file_probabilities >= thresholds
    colours = _shades(file_probabilities[None], thresholds)[0]
    in_all.barh(tops + 0.5, file_probabilities[rows], height=0.72, color=colours[rows], zorder=2)
    in_all.vlines(thresholds[rows], tops + 0.06, tops + 0.94, color=INK, linewidth=1.1, zorder=3)
    in_all.hlines(tops + 0.5, 0, 1, color=FAINT, linewidth=0.5, zorder=1)
    in_all.set(xlim=(0, 1), xticks=[0, 0.5, 1], xticklabels=["0", "0.5", "1"])
    in_all.set_title("Whole file", fontsize=FONT_PT, loc="left", color=INK)
    in_all.set_xlabel("Probability", fontsize=FONT_PT)
    _clean(in_all, "bottom")
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
    figure = _figure(6.2 if columns == 1 else 10.5, per_column * group_in + 1.3, title)
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
        _clean(axes, "bottom")
    if len(rows) > 1:
        handles = grid[0].containers
        figure.legend(
            handles,
            [_wrapped(label, 40) for label in rows],
            loc="outside lower center",
            ncols=min(len(rows), 3),
            fontsize=FONT_PT,
            frameon=False,
        )
    return figure


def comparison_figure(groups: Mapping[str, Sequence[float]], *, metric: str, title: str) -> Figure:
    """Draw a metric's mean and sample standard deviation by group of trials, and each trial as a dot.

    Args:
        groups: the trials' values by group, in the order drawn; NaN where a trial has none.
        metric: name of the metric, for the axis.
        title: above the figure.
    """
    if not groups:
        raise ValueError("expected at least one group of trials, got none")
    figure = _figure(7.2, 0.4 * len(groups) + 1.1, title)
    axes = figure.subplots()
    for place, values in enumerate(groups.values()):
        numbers = np.array([value for value in values if not math.isnan(value)])
        if not numbers.size:
            _beside(axes, place, "no value")
            continue
        mean, spread = numbers.mean(), numbers.std(ddof=1) if numbers.size > 1 else math.nan
        axes.scatter(
            numbers,
            np.full(numbers.size, place + 0.26),  # under the bar, which would hide them
            s=14,
            color=FAINT,
            edgecolors=MUTED,
            linewidths=0.5,
            zorder=2,
        )
        axes.errorbar(mean, place, xerr=spread, fmt="D", ms=5, lw=1.6, capsize=3.5, color=RUN_COLOURS[0], zorder=3)
        plus_minus = f" ± {spread:.3f}" if numbers.size > 1 else ""
        _beside(axes, place, f"{mean:.3f}{plus_minus}  (n = {numbers.size})")
    axes.set_yticks(range(len(groups)), [_wrapped(name, 34) for name in groups], fontsize=FONT_PT)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.margins(x=0.08)
    axes.set_xlabel(f"{metric}: mean ± sd of trials", fontsize=FONT_PT)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.grid(axis="x", color=FAINT, linewidth=0.6, zorder=0)
    _clean(axes, "bottom")
    return figure


def _figure(width_in: float, height_in: float, title: str) -> Figure:
    """Return an empty figure of a size in inches, with a title that stays inside."""
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.09, wspace=0.02)  # pads in inches
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(_wrapped(title, int(width_in * 11)), fontsize=FONT_PT + 2.5, fontweight="bold", color=INK)
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


def _time_axis(axes: Axes, seconds: int) -> None:
    """Label the time axis in seconds, or in minutes and seconds from two minutes on."""
    if seconds < 120:
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
        axes.set_xlabel("Time (s)", fontsize=FONT_PT)
        return
    step = next((step for step in (15, 30, 60, 120, 300, 600) if seconds / step <= 10), 1200)
    axes.xaxis.set_major_locator(MultipleLocator(step))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda time, _: f"{int(time) // 60}:{int(time) % 60:02d}"))
    axes.set_xlabel("Time (min:s)", fontsize=FONT_PT)


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


def _beside(axes: Axes, place: float, text: str) -> None:
    """Write ``text`` to the right of a row."""
    axes.annotate(
        text,
        (1, place),
        xycoords=("axes fraction", "data"),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=FONT_PT,
        color=INK,
    )


def _clean(axes: Axes, *spines: str) -> None:
    """Keep only the named spines; no tick marks on the class axis."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in spines)
        spine.set_color(MUTED)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", color=MUTED, labelsize=FONT_PT - 0.5 if spines else None, labelcolor=INK)


def _wrapped(text: str, characters: int) -> str:
    """Return ``text`` in lines of at most so many characters, so that a long name is not cut off."""
    return "\n".join(textwrap.wrap(text, characters)) or text
