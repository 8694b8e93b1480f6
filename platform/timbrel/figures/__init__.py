"""Figures of predictions and results, ready to be saved: ``figure.savefig("violin.png")``.

Drawn through matplotlib's object interface only. ``pyplot`` keeps figures and settings that are global to
the process, so it leaks memory in a long run and is not safe in Ray's actors.

Conventions
-----------
Probabilities have the shape ``(second, class)``, thresholds and whole-file probabilities ``(class,)``, the
metrics of several runs (seeds of one setting) ``(run, class)``, pianorolls ``(class, pitch, frame)``, attention
``(class, time)``. NaN means
undefined, and is drawn as "no example" or "no value", never as 0. The colours are those of Okabe and Ito and
shades of a single hue, so they survive colour blindness and grey print.
"""

from timbrel.figures.activity import activity_figure
from timbrel.figures.attention import attention_figure
from timbrel.figures.base import INK, MUTED
from timbrel.figures.classes import f1_and_accuracy_figure
from timbrel.figures.comparison import comparison_figure, sweep_figure
from timbrel.figures.confusion import missed_figure
from timbrel.figures.pianoroll import pianoroll_figure
from timbrel.figures.precision_recall import precision_recall_figure

__all__ = [
    "INK",
    "MUTED",
    "activity_figure",
    "attention_figure",
    "comparison_figure",
    "f1_and_accuracy_figure",
    "missed_figure",
    "pianoroll_figure",
    "precision_recall_figure",
    "sweep_figure",
]
