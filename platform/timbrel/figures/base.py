"""The look that all figures share: sizes, colours, and the furniture of axes."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

DPI = 150
FONT_PT = 8.5
INK, MUTED, FAINT = "#1a1a1a", "#767676", "#d9d9d9"
BLUE, SKY, VERMILION = "#0072B2", "#56B4E9", "#D55E00"
"""Of Okabe and Ito's palette for colour-blind readers."""
ERROR_BAR = {"ecolor": INK, "elinewidth": 1.0, "capsize": 2.0, "capthick": 1.0, "zorder": 3}
NO_EXAMPLE = "no example"


def new_figure(width_in: float, height_in: float, title: str) -> Figure:
    """Return an empty figure of a size in inches, with a title that stays inside."""
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.09, wspace=0.02)  # pads in inches
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(wrapped(title, int(width_in * 11)), fontsize=FONT_PT + 2.5, fontweight="bold", color=INK)
    return figure


def clean(axes: Axes, *spines: str) -> None:
    """Keep only the named spines; no tick marks on the class axis."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in spines)
        spine.set_color(MUTED)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", color=MUTED, labelsize=FONT_PT - 0.5 if spines else None, labelcolor=INK)


def beside(axes: Axes, place: float, text: str, size_pt: float = FONT_PT) -> None:
    """Write ``text`` to the right of a row."""
    axes.annotate(
        text,
        (1, place),
        xycoords=("axes fraction", "data"),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=size_pt,
        color=INK,
    )


def head(axes: Axes, text: str, *, left: bool) -> None:
    """Write what the labels at the left, or the texts at the right, of the rows are, above the uppermost."""
    axes.annotate(
        text,
        (0 if left else 1, 1),
        xycoords="axes fraction",
        xytext=(-5 if left else 6, 3),
        textcoords="offset points",
        ha="right" if left else "left",
        va="bottom",
        fontsize=FONT_PT - 1,
        color=MUTED,
    )


def key(figure: Figure, handles: Mapping[str, Any], columns: int = 3) -> None:
    """Explain under the figure what is drawn how."""
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=min(len(handles), columns),
        fontsize=FONT_PT - 0.5,
        frameon=False,
    )


def time_axis(axes: Axes, seconds: float) -> None:
    """Label the time axis in seconds, or in minutes and seconds from two minutes on."""
    if seconds < 120:
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
        axes.set_xlabel("Time (s)", fontsize=FONT_PT)
        return
    step = next((step for step in (15, 30, 60, 120, 300, 600) if seconds / step <= 10), 1200)
    axes.xaxis.set_major_locator(MultipleLocator(step))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda time, _: f"{int(time) // 60}:{int(time) % 60:02d}"))
    axes.set_xlabel("Time (min:s)", fontsize=FONT_PT)


def mean_and_sd(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Return the mean and the sample standard deviation of the values that are defined.

    NaN stands for the mean of none, and for the deviation of fewer than two.
    """
    defined = np.array([value for value in values if not math.isnan(value)])
    mean = float(defined.mean()) if defined.size else math.nan
    return mean, float(defined.std(ddof=1)) if defined.size > 1 else math.nan


def wrapped(text: str, characters: int) -> str:
    """Return ``text`` in lines of at most so many characters, so that a long name is not cut off."""
    return "\n".join(textwrap.wrap(text, characters)) or text
