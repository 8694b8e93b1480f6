"""What a mixing actor makes of a mixture, besides its clip labels: audio or features, and frame targets.

Nothing here imports PyTorch: a task whose model wants more than audio and labels names an ``ExampleMaker``, and the
actors, which have no use for the task itself, call it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from timbrel.cqt import CqtConfig, cqt_db
from timbrel.mixing.notes import Notes
from timbrel.mixing.rolls import RollGrid, pianoroll


class ExampleMaker(Protocol):
    """Makes the columns of examples; a frozen dataclass of plain values, so that it pickles and has a fingerprint."""

    def __call__(self, audio: np.ndarray, notes: Sequence[Notes]) -> dict[str, np.ndarray]:
        """Return the columns of some examples: of ``audio`` and ``features``, what the model hears, and any targets.

        Args:
            audio: of the mixtures, float32 ``(example, sample)`` or ``(example, 2, sample)``.
            notes: those heard in each; where the task has no use for notes, when its stems sound
                (``timbrel.mixing.notes.activity_notes``).
        """
        ...

    @property
    def example_bytes(self) -> int:
        """Size of what is returned for one example."""
        ...


@dataclass(frozen=True, kw_only=True)
class RollExamples:
    """``roll``, bool ``(example, class, pitch, frame)``, beside ``features``, CQTs ``(example, bin, frame)``, or
    ``audio``."""

    classes: int
    grid: RollGrid
    sample_rate: int
    """Hz."""
    samples: int
    """Of an example's audio."""
    cqt: CqtConfig | None
    """The front end, where the actors compute it; None: the model does, from the audio."""
    pitched: bool = True
    """False: at which pitches is not said. Whatever a class plays is on at the lowest pitch, and at no other: the
    instrument roll is true, the pitches are not."""

    def __call__(self, audio: np.ndarray, notes: Sequence[Notes]) -> dict[str, np.ndarray]:
        """Return the columns of some examples."""
        if self.cqt is None:
            heard = {"audio": audio}
        else:  # without the frames that the roll's would leave over
            heard = {"features": cqt_db(audio, self.sample_rate, self.cqt)[..., : self.grid.fine_frames]}
        if not self.pitched:
            notes = [each._replace(pitches=np.full_like(each.pitches, self.grid.lowest)) for each in notes]
        return heard | {"roll": np.stack([pianoroll(each, self.classes, self.grid) for each in notes])}

    @property
    def example_bytes(self) -> int:
        """Size of what is returned for one example."""
        heard = self.samples if self.cqt is None else self.cqt.bins * self.grid.fine_frames
        return 4 * heard + self.classes * self.grid.pitches * self.grid.frames
