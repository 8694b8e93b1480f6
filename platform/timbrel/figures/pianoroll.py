"""Which instrument plays which notes when: the pianoroll of a recording, coloured by instrument."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, MultipleLocator

from timbrel.figures.base import BLUE, FONT_PT, INK, MUTED, SKY, VERMILION, clean, key, new_figure

COLOURS = (BLUE, "#E69F00", VERMILION, "#8C3212", "#CC79A7", INK, "#009E73", "#6A1FA0", SKY)
"""Of the instruments, by their place in the list of classes: Okabe and Ito's, with a brown and a violet instead of
their yellow, which is too pale for thin bars on white. To readers with any of the common kinds of colour blindness no
two are more alike than the most alike of Okabe and Ito's."""
ROW_S = 35.0
"""Longer recordings go on in a row below, like the systems of a score..."""
MOST_ROWS = 8
"""...and those too long for so many rows, or half as many pairs of rows, have longer ones."""
MARGIN, FEWEST = 2, 25
"""Semitones above and below the notes, and those shown at least: two octaves."""
BLACK_KEYS = (1, 3, 6, 8, 10)
KEY_SHADE, C_LINE = "#f6f6f6", "#dcdcdc"
BAR = 0.9
"""Height of a note in semitones."""
NO_NOTE = "no note"
MIN_S_FROM = 120.0
"""Seconds from which time is written in minutes and seconds."""


def pianoroll_figure(
    roll: np.ndarray,
    classes: Sequence[str],
    frame_s: float,
    *,
    low: int = 21,
    title: str = "",
    truth: np.ndarray | None = None,
    first_s: float = 0.0,
) -> Figure:
    """Draw a pianoroll in colours by instrument: time across, notes upwards, grey behind the piano's black keys.

    Where several instruments play one note at once, the bar is shared between them, the first class uppermost. An
    instrument's colour depends on its place among the classes alone, so the pictures of one model can be compared.
    What is longer than half a minute goes on in rows below.

    Args:
        roll: who plays what when, bool ``(class, pitch, frame)``.
        classes: names of the classes.
        frame_s: seconds a frame.
        low: MIDI number of the first pitch.
        title: for instance the file's name.
        truth: the same of what was really played, drawn above ``roll``, which is then what was predicted.
        first_s: time of the first frame in seconds.

    Raises:
        ValueError: the shapes do not fit, there is no frame, or a frame has no length.
    """
    panels = [("", roll)] if truth is None else [("true", truth), ("predicted", roll)]
    for name, each in panels:
        if each.ndim != 3 or len(each) != len(classes) or each.shape != roll.shape or not each[:1].size:
            raise ValueError(
                f"expected rolls ({len(classes)}, pitch, frame) of one shape with at least one pitch and one frame, "
                f"got {each.shape}{f' as what is {name}' if name else ''}"
            )
    if not (math.isfinite(frame_s) and frame_s > 0 and math.isfinite(first_s)):
        raise ValueError(f"expected frame_s above 0 and a finite first_s, got {frame_s} and {first_s}")

    end_s = first_s + roll.shape[2] * frame_s
    starts, row_s, shown_s = _rows(first_s, end_s, MOST_ROWS // len(panels))
    bottom, top = _range([each for _, each in panels], low)
    width_in = float(np.clip(0.65 * shown_s, 6.5, 11.0))
    smallest_in, note_in = (2.6, 0.065) if len(starts) == 1 else (1.3, 0.042 if truth is None else 0.036)
    panel_in = float(np.clip((top - bottom + 1) * note_in, smallest_in, 4.2))
    gap_in = 0.18 if len(panels) == 2 else 0.0
    height_in = len(starts) * (len(panels) * panel_in + 0.3) + (len(starts) - 1) * gap_in + 1.0
    figure = new_figure(width_in + 0.7, height_in, title)
    grid = _grid(figure, len(starts), len(panels), panel_in, gap_in)

    heard = np.any([each.any(axis=(1, 2)) for _, each in panels], axis=0)
    played = [index for index in range(len(classes)) if heard[index]]
    for number, (name, each) in enumerate(panels):
        bars = [list(_bars(each, index, frame_s, first_s, low)) for index in range(len(classes))]
        for row, start in enumerate(starts):
            axes = grid[row][number]
            axes.set(xlim=(start, start + shown_s), ylim=(bottom - 0.5, top + 0.5))
            stop = end_s if start == starts[-1] else start + row_s
            _keyboard(axes, start, stop, bottom, top)
            for index in played:
                shown = [bar for bar in bars[index] if bar[1][0] > start and bar[0][0] < stop]
                axes.add_collection(
                    PolyCollection(shown, facecolor=_colour(index), edgecolor="none", linewidth=0, zorder=2)
                )
            axes.set_ylabel(name, fontsize=FONT_PT, color=INK)
            _time_axis(axes, shown_s, end_s, labelled=number == len(panels) - 1)
            if row == 0 and not each.any():
                middle: dict[str, Any] = {"transform": axes.transAxes, "ha": "center", "va": "center"}
                axes.text(0.5, 0.5, NO_NOTE, color=MUTED, backgroundcolor="white", fontsize=FONT_PT + 1, **middle)
    long = end_s >= MIN_S_FROM
    grid[-1][-1].set_xlabel("Time (min:s)" if long else "Time (s)", fontsize=FONT_PT)
    if played:
        handles = {classes[index]: Patch(facecolor=_colour(index)) for index in played}
        name_in = 0.6 + 0.075 * max(len(name) for name in handles)
        lines = math.ceil(len(handles) / max(1, int(width_in / name_in)))
        key(figure, handles, columns=math.ceil(len(handles) / lines))
    return figure


def _rows(first_s: float, end_s: float, most: int) -> tuple[np.ndarray, float, float]:
    """Return when each row begins, the seconds from one row to the next, and those that the axis of a row spans.

    Several rows have a multiple of five seconds each. The last may be a little longer, lest a few frames beyond a round
    length take a row of their own.
    """
    seconds = end_s - first_s
    number = min(math.ceil(0.99 * seconds / ROW_S), most)
    if number == 1:
        return np.array([first_s]), seconds, max(seconds, math.ceil(seconds) if seconds > 3 else 0)
    row_s = 5.0 * math.ceil(0.99 * seconds / number / 5)
    starts = first_s + row_s * np.arange(math.ceil(0.99 * seconds / row_s))
    return starts, row_s, max(row_s, end_s - starts[-1])


def _range(rolls: Sequence[np.ndarray], low: int) -> tuple[int, int]:
    """Return the lowest and the highest pitch to draw, MIDI numbers: the notes and a margin, within the rolls."""
    pitches = np.flatnonzero(np.any([each.any(axis=(0, 2)) for each in rolls], axis=0)) + low
    highest = low + rolls[0].shape[1] - 1
    bottom, top = (pitches[0] - MARGIN, pitches[-1] + MARGIN) if len(pitches) else (60, 60)
    missing = max(0, FEWEST - (top - bottom + 1))
    bottom, top = bottom - missing // 2, top + missing - missing // 2
    bottom, top = (bottom - max(0, top - highest), top) if top > highest else (bottom, top + max(0, low - bottom))
    return max(int(bottom), low), min(int(top), highest)


def _grid(figure: Figure, rows: int, panels: int, panel_in: float, gap_in: float) -> list[list[Axes]]:
    """Return the axes ``[row][panel]``, all with the same notes, the panels of a row with the same time."""
    ratios = ([panel_in] * panels + [gap_in] * bool(gap_in)) * rows
    ratios = ratios[:-1] if gap_in else ratios
    cells = figure.add_gridspec(len(ratios), 1, height_ratios=ratios)
    first: Axes | None = None
    grid: list[list[Axes]] = []
    for row in range(rows):
        grid.append([])
        for panel in range(panels):
            cell = cells[row * (panels + bool(gap_in)) + panel]
            axes = figure.add_subplot(cell, sharey=first, sharex=grid[row][0] if panel else None)
            first = first or axes
            grid[row].append(axes)
    return grid


def _bars(
    roll: np.ndarray, index: int, frame_s: float, first_s: float, low: int
) -> Iterator[tuple[tuple[float, float], ...]]:
    """Yield the corners of the bars of a class: a note, or where others join and leave it, a part of one.

    The first corner is at the bar's beginning, the second at its end.
    """
    mine = roll[index].astype(bool)
    together = roll.sum(axis=0, dtype=np.int32)
    above = roll[:index].sum(axis=0, dtype=np.int32)
    state = np.where(mine, 1 + above + (len(roll) + 1) * together, 0)  # constant as long as the bar's place is
    edges = np.diff(np.pad(state, ((0, 0), (1, 1))), axis=1) != 0
    for pitch in np.flatnonzero(mine.any(axis=1)):
        at = np.flatnonzero(edges[pitch])
        for start, stop in itertools.pairwise(at):
            if not mine[pitch, start]:
                continue
            share = BAR / together[pitch, start]
            high_y = low + pitch + BAR / 2 - share * above[pitch, start]
            left, right = first_s + start * frame_s, first_s + stop * frame_s
            yield (left, high_y), (right, high_y), (right, high_y - share), (left, high_y - share)


def _keyboard(axes: Axes, start: float, stop: float, bottom: int, top: int) -> None:
    """Draw what the notes lie on: shades for black keys, a line below each C, and the names of the Cs."""
    for pitch in range(bottom, top + 1):
        if pitch % 12 in BLACK_KEYS:
            axes.fill_between((start, stop), pitch - 0.5, pitch + 0.5, color=KEY_SHADE, linewidth=0, zorder=0)
    cs = [pitch for pitch in range(bottom, top + 1) if pitch % 12 == 0]
    axes.hlines([pitch - 0.5 for pitch in cs], start, stop, color=C_LINE, linewidth=0.6, zorder=1)
    axes.yaxis.set_major_locator(FixedLocator(cs))
    axes.yaxis.set_major_formatter(FixedFormatter([f"C{pitch // 12 - 1}" for pitch in cs]))
    axes.tick_params(axis="y", labelsize=FONT_PT - 0.5, labelcolor=INK)
    clean(axes, "bottom")


def _time_axis(axes: Axes, shown_s: float, end_s: float, *, labelled: bool) -> None:
    """Label the time in seconds, or in minutes and seconds if the recording is long."""
    step = next((step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300) if shown_s / step <= 13), 600)
    axes.xaxis.set_major_locator(MultipleLocator(step))
    if end_s >= MIN_S_FROM:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda time, _: f"{round(time) // 60}:{round(time) % 60:02d}"))
    axes.tick_params(axis="x", labelbottom=labelled, length=2.5, labelsize=FONT_PT - 0.5)


def _colour(index: int) -> tuple[float, float, float]:
    """Return the colour of a class; those beyond the palette get it again, each time paler."""
    again = index // len(COLOURS)
    pale = 1 - 0.55**again
    red, green, blue = (value + pale * (1 - value) for value in to_rgb(COLOURS[index % len(COLOURS)]))
    return red, green, blue
