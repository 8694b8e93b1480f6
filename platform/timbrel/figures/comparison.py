"""Metrics of runs, setting by setting."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from timbrel.bootstrap import Interval
from timbrel.figures.base import (
    BLUE,
    FAINT,
    FONT_PT,
    INK,
    MUTED,
    SKY,
    beside,
    clean,
    key,
    mean_and_sd,
    new_figure,
    wrapped,
)

Key = TypeVar("Key")

EACH: dict[str, Any] = {"s": 14, "color": FAINT, "edgecolors": MUTED, "linewidths": 0.5, "zorder": 2}
BAND: dict[str, Any] = {"color": SKY, "alpha": 0.28, "zorder": 1}


def comparison_figure(
    groups: Mapping[str, Sequence[float]],
    *,
    metric: str,
    title: str,
    intervals: Mapping[str, Interval] | None = None,
) -> Figure:
    """Draw a metric's mean and sample standard deviation by group of trials, and each trial as a dot.

    Args:
        groups: the trials' values by group, in the order drawn; NaN where a trial has none.
        metric: name of the metric, for the axis.
        title: above the figure.
        intervals: bootstrap intervals of groups, drawn as a band behind.
    """
    if not groups:
        raise ValueError("expected at least one group of trials, got none")
    intervals = _drawable(intervals or {}, groups)
    figure = new_figure(8.4 if intervals else 7.2, 0.4 * len(groups) + 1.1 + 0.2 * bool(intervals), title)
    axes = figure.subplots()
    for place, (name, values) in enumerate(groups.items()):
        text = []
        mean, spread = mean_and_sd(values)
        numbers = np.array([value for value in values if not math.isnan(value)])
        if numbers.size:
            axes.scatter(numbers, np.full(numbers.size, place + 0.26), **EACH)  # under the bar, which would hide them
            axes.errorbar(mean, place, xerr=spread, fmt="D", ms=5, lw=1.6, capsize=3.5, color=BLUE, zorder=3)
            plus_minus = f" ± {spread:.3f}" if numbers.size > 1 else ""
            text.append(f"{mean:.3f}{plus_minus}  (n = {numbers.size})")
        else:
            text.append("no value")
        if name in intervals:
            ends = intervals[name]
            axes.barh(place, ends.high - ends.low, left=ends.low, height=0.74, linewidth=0, **BAND)
            text.append(f"[{ends.low:.3f}, {ends.high:.3f}]")
        beside(axes, place, "  ".join(text))
    axes.set_yticks(range(len(groups)), [wrapped(name, 34) for name in groups], fontsize=FONT_PT)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.use_sticky_edges = False  # or a band would begin at the very edge
    axes.margins(x=0.08)
    axes.set_xlabel(f"{metric}: mean ± sd of trials", fontsize=FONT_PT)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.grid(axis="x", color=FAINT, linewidth=0.6, zorder=0)
    clean(axes, "bottom")
    if intervals:
        key(figure, _key_of_intervals(intervals.values()))
    return figure


def sweep_figure(
    values: Sequence[float],
    metrics: Mapping[str, Sequence[float]],
    *,
    setting: str,
    title: str,
    intervals: Mapping[str, Mapping[float, Interval]] | None = None,
    log: bool = False,
) -> Figure:
    """Draw metrics over a setting that is a number: mean ± sample standard deviation, and each run as a dot.

    Args:
        values: the setting's value in each run (several runs of one value: seeds), at any distances.
        metrics: for each metric the runs' numbers, in the order of ``values``; NaN where a run has none. Each
            metric has a panel and a scale of its own.
        setting: name of the setting, for the axis.
        title: above the figure.
        intervals: for each metric the bootstrap intervals of some of the values, drawn as a band.
        log: space the values by their ratios. 0 stands at the left, where no ratio would put it.
    """
    if not metrics or not len(values):
        raise ValueError(f"expected at least one metric and one run, got {len(metrics)} and {len(values)}")
    settings = np.asarray(values, dtype=np.float64)
    if not np.isfinite(settings).all() or (log and settings.min() < 0):
        raise ValueError(f"expected {'values of 0 or more' if log else 'finite values'} of {setting}, got {values}")
    for name, numbers in metrics.items():
        if len(numbers) != len(settings):
            raise ValueError(f"expected {len(settings)} values of {name}, one a run, got {len(numbers)}")
    unknown = set(intervals or {}) - set(metrics)
    if unknown:
        raise ValueError(f"expected intervals of {list(metrics)}, got one of {unknown.pop()!r}")
    bands = {name: _drawable((intervals or {}).get(name, {}), settings.tolist()) for name in metrics}
    columns = min(len(metrics), 3)
    rows = math.ceil(len(metrics) / columns)
    figure = new_figure(max(3.3 * columns, 4.6), 2.7 * rows + 0.9, title)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    places = np.unique(settings)
    for axes, (name, numbers) in zip(panels, metrics.items(), strict=False):
        _sweep_axis(axes, places, log)
        _sweep_panel(axes, settings, np.asarray(numbers, dtype=np.float64), bands[name])
        axes.set_xlabel(wrapped(setting, 45), fontsize=FONT_PT)
        axes.set_ylabel(wrapped(name, 32), fontsize=FONT_PT)
    for axes in panels[len(metrics) :]:
        axes.remove()
    handles: dict[str, Any] = {
        "mean ± sd of runs": Line2D([], [], color=BLUE, marker="D", ms=5, lw=1.4),
        "a run": Line2D([], [], ls="none", marker="o", ms=4, color=FAINT, markeredgecolor=MUTED),
    }
    handles |= _key_of_intervals([ends for band in bands.values() for ends in band.values()])
    key(figure, handles, columns=3 if columns > 1 else 2)
    return figure


def _sweep_panel(axes: Axes, settings: np.ndarray, numbers: np.ndarray, band: Mapping[float, Interval]) -> None:
    """Draw the curve of one metric; settings and numbers ``(run,)``."""
    places = np.unique(settings[~np.isnan(numbers)])
    if not places.size:
        axes.text(0.5, 0.5, "no value", transform=axes.transAxes, ha="center", color=MUTED, fontsize=FONT_PT)
        clean(axes, "bottom", "left")
        axes.set_yticks([])
        return
    means, spreads = np.reshape([mean_and_sd(numbers[settings == place]) for place in places], (-1, 2)).T
    axes.errorbar(places, means, yerr=spreads, fmt="-D", ms=4.5, lw=1.4, capsize=3, color=BLUE, zorder=3)
    aside = ScaledTranslation(5 / 72, 0, axes.figure.dpi_scale_trans)  # inches: beside the bar, which would hide them
    axes.scatter(settings, numbers, transform=axes.transData + aside, **EACH)
    if band:
        at = sorted(band)
        low, high = np.transpose([(band[place].low, band[place].high) for place in at])
        axes.fill_between(at, low, high, linewidth=0, **BAND)
        if len(at) == 1:
            axes.vlines(at, low, high, linewidth=8, **BAND)
    axes.margins(y=0.1)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.grid(color=FAINT, linewidth=0.6, zorder=0)
    clean(axes, "bottom", "left")
    axes.tick_params(axis="y", labelsize=FONT_PT - 0.5, labelcolor=INK)


def _sweep_axis(axes: Axes, places: np.ndarray, log: bool) -> None:
    """Scale the axis of the setting, and mark its values where there is room for them."""
    if log and places.max() > 0:
        smallest = places[places > 0].min()
        if places.min() == 0:
            axes.set_xscale("symlog", linthresh=smallest, linscale=0.7)  # 0 about as far off as a factor of 5
        else:
            axes.set_xscale("log")
    shown = axes.transScale.transform(np.column_stack([places, places]))[:, 0]
    if len(places) > 1:
        pad = 0.07 * np.ptp(shown)
        back = axes.xaxis.get_transform().inverted()
        axes.set_xlim(*back.transform(np.array([shown[0] - pad, shown[-1] + pad])))
    if len(places) == 1 or np.diff(shown).min() >= 0.11 * np.ptp(shown):
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.xaxis.set_minor_locator(NullLocator())


def _drawable(intervals: Mapping[Key, Interval], known: Collection[Key]) -> dict[Key, Interval]:
    """Return the intervals that are defined, after a check that each belongs to something that is drawn."""
    unknown = [name for name in intervals if name not in known]
    if unknown:
        raise ValueError(f"expected intervals of {list(known)}, got one of {unknown[0]!r}")
    return {name: ends for name, ends in intervals.items() if not math.isnan(ends.low)}


def _key_of_intervals(intervals: Iterable[Interval]) -> dict[str, Patch]:
    """Return the key's entry for the bands, with their level, if there are any."""
    levels = sorted({ends.level for ends in intervals})
    if not levels:
        return {}
    return {
        " and ".join(f"{100 * level:g} %" for level in levels) + " bootstrap interval over songs": Patch(
            linewidth=0, **BAND
        )
    }
