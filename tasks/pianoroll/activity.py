"""Instruments by the second, where it is known when stems sound but not which notes they play.

Table 3 of the multitask paper is of MedleyDB and Mixing Secrets, which know no notes: the ROC-AUC of piano, guitar,
violin, cello and flute by the second. How frames became seconds the paper doesn't say; here the highest frame stands
for the second, and an instrument is there in a second in which a stem of it sounds at all.

The two guitars of the paper are one there. It is there where a stem sounds that is called an acoustic guitar, an
electric one, or a guitar without more; its probability is the higher of the two.
"""

from collections.abc import Sequence

import numpy as np

from tasks.pianoroll.instruments import GUITAR
from timbrel import metrics
from timbrel.transcription import pooled_auc

MORE = 2
"""Rows of an activity after those of the instruments: guitars of which nobody says whether they are electric, and
whatever else is heard."""
GUITARS = ("acoustic guitar", "electric guitar")
TABLE_3 = ("piano", GUITAR, "violin", "cello", "flute")
"""Instruments of the paper's Table 3."""
SECOND = "1s"
"""Its window, as ``pooled_auc`` calls it."""


def evaluate(
    activity: np.ndarray, scores: np.ndarray, songs: np.ndarray, classes: Sequence[str], frame_s: float
) -> dict[str, float]:
    """Return the ROC-AUC by windows of time: ``roc_auc_1s/violin``, ``roc_auc_1s_macro``, ``table3_roc_auc_1s``.

    ``roc_auc_1s/guitar`` is there for models that tell acoustic guitars from electric ones, and no part of the macro
    mean; ``table3_roc_auc_1s``, the mean over ``TABLE_3``, for those that know all of its instruments. An instrument
    that is there always or never has NaN and is left out of the means.

    Args:
        activity: bool ``(example, class + 2, frame)``: the classes, and the rows that ``MORE`` says.
        scores: probabilities ``(example, class, frame)``.
        songs: the song of each example, ``(example,)``.
        classes: names of the instruments.
        frame_s: length of a frame in s.
    """
    numbers = {name.casefold(): i for i, name in enumerate(classes)}
    present, names = activity[:, : len(classes)], [*classes]
    if set(GUITARS) <= set(numbers):
        own = [numbers[name] for name in GUITARS]
        guitar = present[:, own].any(axis=1) | activity[:, len(classes)]
        present = np.concatenate([present, guitar[:, None]], axis=1)
        scores = np.concatenate([scores, scores[:, own].max(axis=1, keepdims=True)], axis=1)
        names.append(GUITAR)
    found = {}
    for window, areas in pooled_auc(present, scores, songs, frame_s).items():
        found[f"roc_auc_{window}_macro"] = metrics.macro(areas[: len(classes)])
        of_class = dict(zip(map(str.casefold, names), areas, strict=True))
        found |= {f"roc_auc_{window}/{metrics.metric_name(name)}": float(of_class[name.casefold()]) for name in names}
        if window == SECOND and set(TABLE_3) <= set(of_class):
            found[f"table3_roc_auc_{window}"] = metrics.macro(np.array([of_class[name] for name in TABLE_3]))
    return found
