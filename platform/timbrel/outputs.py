"""A model's outputs on an evaluation set, beside what was true: all that figures, thresholds and intervals need.

Every finished run keeps those of its validation and test sets as ``outputs/valid.npz`` and ``outputs/test.npz``, so a
question that comes up later (another decision rule, another figure) needs neither the audio nor the network.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from timbrel.errors import UserError

SPLITS = ("valid", "test")
FOLDER = "outputs"
"""The artifact of a run that holds them, a file ``SPLIT.npz`` each."""
MORE = "more."
"""Before the names, in the file, of what else the task judges by."""


@dataclass(frozen=True)
class Outputs:
    """Labels and probabilities of the examples of one split: a row each, or several, such as one a frame."""

    classes: tuple[str, ...]
    songs: np.ndarray
    """Name of the song that each (musical) mixture is from: str ``(example,)``."""
    labels: np.ndarray
    """0 or 1, NaN where nobody judged, float32 ``(example, class)``."""
    scores: np.ndarray
    """Probabilities, float32 ``(example, class)``."""
    more: Mapping[str, np.ndarray] = field(default_factory=dict)
    """What else the task judges by."""
    unit: str = "example"
    """What a row is, in reports."""

    def save(self, path: Path) -> None:
        """Write the arrays to an ``.npz`` file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        named = {"classes": np.array(self.classes), "unit": np.array(self.unit)}
        own = {**named, "songs": self.songs, "labels": self.labels, "scores": self.scores}
        more = {MORE + name: values for name, values in self.more.items()}
        np.savez_compressed(path, **own, **more)  # type: ignore[arg-type]  # its stub takes the names for options

    @staticmethod
    def load(path: Path, more: bool = True) -> "Outputs":
        """Read what ``save`` wrote; nothing in the file is executed.

        Args:
            path: of the file.
            more: False: without what else the task judges by, which may be many times as large.

        Raises:
            UserError: the file is missing or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                others = [name for name in file.files if more and name.startswith(MORE)]
                return Outputs(
                    tuple(map(str, file["classes"])),
                    file["songs"],
                    file["labels"],
                    file["scores"],
                    {name.removeprefix(MORE): file[name] for name in others},
                    str(file["unit"]) if "unit" in file.files else Outputs.unit,
                )
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise UserError(f"{path} can't be read as outputs of a run ({error}): train the run again.") from None
