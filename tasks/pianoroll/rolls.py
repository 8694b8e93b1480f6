"""The network's output as probabilities, and how much each instrument plays."""

import itertools
from dataclasses import dataclass

import numpy as np
import torch

from tasks.pianoroll.model import heads
from timbrel.mixing.index import StemIndex

ROLL, PITCH = "pianoroll", "pitch roll"
"""The decisions beside those of the instruments, by the names under which their thresholds are kept."""
EXAMPLES = 64
"""Taken at once, so that the single precision of many does not fill the memory."""


@dataclass(frozen=True)
class Rolls:
    """Probabilities of the three tasks."""

    roll: np.ndarray
    """float16 ``(example, instrument, pitch, frame)``."""
    pitch: np.ndarray
    """float16 ``(example, pitch, frame)``."""
    instrument: np.ndarray
    """float32 ``(example, instrument, frame)``."""

    @staticmethod
    def of(logits: np.ndarray) -> "Rolls":
        """Return what the network's outputs ``(example, instrument, pitch, frame)`` say."""
        parts: list[list[np.ndarray]] = [[], [], []]
        for first in range(0, len(logits), EXAMPLES):
            found = heads(torch.from_numpy(np.array(logits[first : first + EXAMPLES], dtype=np.float32)))
            for part, values, kept in zip(parts, found, (torch.half, torch.half, torch.float), strict=True):
                part.append(torch.sigmoid(values).to(kept).numpy())
        return Rolls(*(np.concatenate(part) for part in parts))


def active_shares(index: StemIndex, classes: int) -> np.ndarray:
    """Return each class's share of the time for which instruments sound in all songs, ``(class,)``.

    Two stems of one class that play together are one instrument, as in the instrument roll.
    """
    seconds = np.zeros(classes)
    for first, last in itertools.pairwise(index.note_rows[index.song_stems]):
        times, of_note = index.note_times[first:last].astype(np.float64), index.note_classes[first:last]
        for label in np.unique(of_note):
            seconds[label] += _union_s(times[of_note == label])
    return np.asarray(seconds / max(seconds.sum(), 1e-9))


def _union_s(times: np.ndarray) -> float:
    """Return for how many s at least one of some notes sounds: onsets and offsets ``(note, 2)``."""
    times = times[np.argsort(times[:, 0])]
    reached = np.maximum.accumulate(times[:, 1])
    begins = np.maximum(times[:, 0], np.append(0.0, reached[:-1]))
    return float(np.maximum(times[:, 1] - begins, 0).sum())
