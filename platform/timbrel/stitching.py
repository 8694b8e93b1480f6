"""Recordings of any length through a network that hears a window at a time, put together again without seams.

A network is least sure near the ends of its window, where it does not hear what comes before or after. So the windows
overlap, and where they do, the one fades into the other: at the very end of a window the next one decides.

Lengths are in samples and frames; a frame is ``samples / frames`` samples.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from timbrel.errors import UserError

OVERLAP_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How recordings are cut into windows, and what is predicted for each is joined."""

    samples: int
    """Samples of a window: a whole number for each frame."""
    hop: int
    """Samples from the beginning of one window to that of the next: whole frames, at most a window."""
    frames: int
    """Frames that are predicted for a window."""

    def __post_init__(self) -> None:
        if self.frames < 1 or self.samples < 1 or self.samples % self.frames:
            raise ValueError(f"samples must be a multiple of frames, not {self.samples} for {self.frames}")
        if not 0 < self.hop <= self.samples or self.hop % self.samples_per_frame:
            raise ValueError(
                f"hop must be a multiple of {self.samples_per_frame} samples, which is a frame, and at most samples "
                f"({self.samples}), not {self.hop}"
            )

    @staticmethod
    def overlapping(samples: int, frames: int, sample_rate: float, overlap_s: float = OVERLAP_S) -> "Windows":
        """Return windows that overlap by as many whole frames as fit into ``overlap_s``, half a window at most.

        Of windows of 159 744 samples and 156 frames at 16 kHz, these are 31 frames (1.984 s): a hop of 8 s.

        Raises:
            ValueError: ``samples`` is no multiple of ``frames``.
        """
        whole = Windows(samples=samples, hop=samples, frames=frames)
        overlap = max(0, min(int(overlap_s * sample_rate / whole.samples_per_frame), frames // 2))
        return Windows(samples=samples, hop=samples - overlap * whole.samples_per_frame, frames=frames)

    @property
    def samples_per_frame(self) -> int:
        """Samples for each frame."""
        return self.samples // self.frames

    def count(self, samples_total: int) -> int:
        """Return how many windows cover a recording of so many samples."""
        return 1 + max(0, math.ceil((samples_total - self.samples) / self.hop))

    def cut(self, blocks: Iterable[np.ndarray], name: str = "the recording") -> Iterator[np.ndarray]:
        """Yield the windows ``(sample,)`` of a recording that comes block by block, silence after its end.

        No more is held than a block and a window.

        Args:
            blocks: of any length, each ``(sample,)``.
            name: of the recording, for the message.

        Raises:
            UserError: there is not a single sample.
        """
        held = np.zeros(0, dtype=np.float32)
        total = emitted = 0
        for block in blocks:
            total += len(block)
            held = np.concatenate([held, block])
            while len(held) >= self.samples:
                yield held[: self.samples]
                held = held[self.hop :]
                emitted += 1
        if not total:
            raise UserError(f"{name} holds no audio.")
        if emitted < self.count(total):  # by one: what is held is shorter than a window
            yield np.pad(held, (0, self.samples - len(held)))

    def join(self, predictions: Iterable[np.ndarray], samples_total: int | Callable[[], int]) -> np.ndarray:
        """Return the predictions of all windows as one ``(..., frame)``, with a frame for each begun one of the audio.

        Where windows overlap, the result is a mean whose weights fall and rise linearly over the overlap. It is meant
        for logits: probabilities are close to 0 and 1, where a mean says little.

        Args:
            predictions: of the windows of ``cut``, in their order, each ``(..., frame)``; taken one by one.
            samples_total: samples of the recording; where they are not known before its end, a function that is asked
                after the last prediction.

        Raises:
            ValueError: a prediction has another shape, or there are more or fewer than windows.
        """
        step = self.hop // self.samples_per_frame
        weights = self._weights()
        done: list[np.ndarray] = []
        mean = np.zeros(0)
        summed = np.zeros(self.frames, dtype=np.float32)  # of the weights that went into each frame's mean
        number = 0
        for prediction in predictions:
            shape = (*mean.shape[:-1], self.frames) if number else (*prediction.shape[:-1], self.frames)
            if prediction.shape != shape:
                raise ValueError(f"expected predictions {shape}, got {prediction.shape}")
            if number:
                done.append(mean[..., :step].copy())
                mean = _moved(mean, step)
                summed = _moved(summed, step)
            else:
                mean = np.zeros(shape, dtype=np.result_type(prediction, np.float32))
            summed = summed + weights
            # A running mean, not a sum to be divided: where windows agree, their value comes out to the last bit.
            mean += (prediction - mean) * (weights / summed)
            number += 1
        total = samples_total() if callable(samples_total) else samples_total
        if total < 1 or number != self.count(total):
            raise ValueError(
                f"expected the predictions of {self.count(total)} windows of {total} samples, got {number}"
            )
        return np.concatenate([*done, mean], axis=-1)[..., : math.ceil(total / self.samples_per_frame)]

    def _weights(self) -> np.ndarray:
        """Return the weight of each frame of a window: 1 in the middle, straight down over the overlap at its ends.

        The weights of two windows that overlap add up to 1.
        """
        overlap = self.frames - self.hop // self.samples_per_frame
        to_end = np.minimum(np.arange(self.frames), np.arange(self.frames)[::-1]) + 0.5
        return np.minimum(1, to_end / max(overlap, 0.5)).astype(np.float32)


def _moved(array: np.ndarray, step: int) -> np.ndarray:
    """Return ``(..., frame)`` from frame ``step`` on, with zeros behind."""
    moved = np.zeros_like(array)
    moved[..., : array.shape[-1] - step] = array[..., step:]
    return moved


class Counted:
    """Blocks of audio, and how many samples have gone by: for ``Windows.join`` at the end of a recording."""

    def __init__(self, blocks: Iterable[np.ndarray]) -> None:
        self.blocks = blocks
        self.samples = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self.blocks:
            self.samples += len(block)
            yield block
