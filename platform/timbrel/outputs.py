"""A model's outputs on an evaluation set, beside what was true: all that figures, thresholds and intervals need.

Every finished run keeps those of its validation and test sets as ``outputs/valid.npz`` and ``outputs/test.npz``, so a
question that comes up later (another decision rule, another figure) needs neither the audio nor the network.
"""

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from timbrel.errors import UserError

SPLITS = ("valid", "test")
FOLDER = "outputs"
"""The artifact of a run that holds them, a file ``SPLIT.npz`` each."""


@dataclass(frozen=True)
class Outputs:
    """Labels and probabilities of the examples of one split."""

    classes: tuple[str, ...]
    songs: np.ndarray
    """Name of the song that each (musical) mixture is from: str ``(example,)``."""
    labels: np.ndarray
    """0 or 1, float32 ``(example, class)``."""
    scores: np.ndarray
    """Probabilities, float32 ``(example, class)``."""

    def save(self, path: Path) -> None:
        """Write the arrays to an ``.npz`` file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            path, classes=np.array(self.classes), songs=self.songs, labels=self.labels, scores=self.scores
        )

    @staticmethod
    def load(path: Path) -> "Outputs":
        """Read what ``save`` wrote; nothing in the file is executed.

        Raises:
            UserError: the file is missing or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                return Outputs(tuple(map(str, file["classes"])), file["songs"], file["labels"], file["scores"])
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise UserError(f"{path} can't be read as outputs of a run ({error}): train the run again.") from None
