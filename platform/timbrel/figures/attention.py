"""Where a network listened: its attention over a clip, class by class."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from timbrel.figures.base import BLUE, FAINT, FONT_PT, INK, MUTED, clean, new_figure, time_axis

DARKEST = 3.0
"""Attention is darkest at so many times an even share, or the highest there is: what is nearly even stays pale."""
MARK = 1.1
"""Where truth is marked, right of the probabilities."""


def attention_figure(
    attention: np.ndarray,
    classes: Sequence[str],
    probabilities: np.ndarray,
    instance_s: float,
    *,
    title: str,
    thresholds: np.ndarray | None = None,
    truth: np.ndarray | None = None,
    clip: int = 0,
) -> Figure:
    """Draw a network's attention: time across, classes down, darker where it counted more; at the right what it found.

    Labels of classes that it found are black, the others grey. The sum over a clip is 1 for each class, so that a row
    says when the network listened for a class, not whether it heard it; it is not where the class sounds, either.

    Args:
        attention: shape ``(class, time)``.
        classes: names of the classes.
        probabilities: for the clip, or the recording as a whole, shape ``(class,)``.
        instance_s: seconds from one instance to the next.
        title: for instance the file's name.
        thresholds: from which a class counts as found, shape ``(class,)``; 0.5 where there are none.
        truth: 1 present, 0 absent, NaN where nobody judged, shape ``(class,)``; drawn beside the probabilities.
        clip: instances of a clip, where several follow one another; 0: they are all of one.
    """
    count, instances = len(classes), attention.shape[-1]
    if attention.shape != (count, instances) or not attention.size:
        raise ValueError(f"expected attention ({count}, time), got {attention.shape}")
    thresholds = np.full(count, 0.5) if thresholds is None else thresholds
    for name, array in (("probabilities", probabilities), ("thresholds", thresholds), ("truth", truth)):
        if array is not None and array.shape != (count,):
            raise ValueError(f"expected {name} ({count},), got {array.shape}")

    clip = clip or instances
    seconds = instances * instance_s
    row_in = 0.24 if count <= 20 else 0.18
    time_in = float(np.clip(0.1 * seconds, 3.6, 7.5))
    figure = new_figure(time_in + 3.2, row_in * count + 1.6, title)
    over_time, found = figure.subplots(1, 2, sharey=True, width_ratios=[time_in, 1.7])

    darkest = max(float(attention.max()), DARKEST / clip)
    over_time.imshow(
        attention,
        extent=(0, seconds, count, 0),
        aspect="auto",
        interpolation="nearest",
        cmap="Blues",
        vmin=0,
        vmax=darkest,
    )
    over_time.hlines(np.arange(1, count), 0, seconds, color="white", linewidth=1)
    over_time.vlines(np.arange(clip, instances, clip) * instance_s, 0, count, color=INK, linewidth=0.5)
    over_time.set(xlim=(0, seconds), ylim=(count, 0))
    over_time.set_title("Attention", fontsize=FONT_PT, loc="left", color=INK)
    time_axis(over_time, seconds)
    clean(over_time, "bottom")

    present = probabilities >= thresholds
    _draw_found(found, probabilities, thresholds, present)
    if truth is not None:
        _mark(found, truth)
    over_time.set_yticks(np.arange(count) + 0.5, list(classes))
    for label, is_present in zip(over_time.get_yticklabels(), present, strict=True):
        label.set(fontsize=FONT_PT if row_in > 0.2 else FONT_PT - 1.5, color=INK if is_present else MUTED)
    _explain(figure, darkest, several=clip < instances, truth=truth is not None)
    return figure


def _draw_found(axes: Axes, probabilities: np.ndarray, thresholds: np.ndarray, present: np.ndarray) -> None:
    rows = np.arange(len(probabilities)) + 0.5
    colours = [BLUE if is_present else MUTED for is_present in present]
    axes.hlines(rows, 0, 1, color=FAINT, linewidth=0.5, zorder=1)
    axes.barh(rows, probabilities, height=0.72, color=colours, zorder=2)
    axes.vlines(thresholds, rows - 0.44, rows + 0.44, color=INK, linewidth=1.1, zorder=3)
    axes.set(xlim=(0, 1), xticks=[0, 0.5, 1], xticklabels=["0", "0.5", "1"])
    axes.set_xlabel("Probability", fontsize=FONT_PT)
    axes.set_title("Found", fontsize=FONT_PT, loc="left", color=INK)
    clean(axes, "bottom")
    axes.tick_params(labelleft=False)


def _mark(axes: Axes, truth: np.ndarray) -> None:
    """Put a full dot beside classes that are there, and an empty one beside those that are not."""
    axes.set_xlim(0, MARK + 0.06)
    axes.spines["bottom"].set_bounds(0, 1)
    rows = np.arange(len(truth)) + 0.5
    for value, colour in ((1, INK), (0, "white")):
        those = rows[truth == value]
        axes.scatter(np.full(len(those), MARK), those, s=16, c=colour, edgecolors=INK, linewidths=0.8, zorder=3)


def _explain(figure: Figure, darkest: float, *, several: bool, truth: bool) -> None:
    shades = tuple(Patch(facecolor=colour) for colour in colormaps["Blues"](np.linspace(0, 1, 6)))
    tick = Line2D([], [], color=INK, linewidth=1.1, marker="|", markersize=9, linestyle="none")
    whole = "a clip" if several else "the clip"
    handles: dict[str, Any] = {f"attention 0 to {darkest:.2f} (over {whole}: 1)": shades, "threshold": tick}
    if truth:
        dot: dict[str, Any] = {
            "marker": "o",
            "markersize": 4,
            "linestyle": "none",
            "markeredgecolor": INK,
            "markeredgewidth": 0.8,
        }
        handles["there"] = Line2D([], [], markerfacecolor=INK, **dot)
        handles["not there (neither: not judged)"] = Line2D([], [], markerfacecolor="white", **dot)
    figure.legend(
        handles.values(),
        handles.keys(),
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
        handlelength=4,
        loc="outside lower center",
        ncols=2,
        fontsize=FONT_PT - 1,
        frameon=False,
    )
