"""A teacher that runs beside the training, on each example's own audio: for mixtures, which no store can hold."""

import torch
from torch import nn

from timbrel.embeddings.teachers import load_teacher
from timbrel.embeddings.teachers.network import NetworkTeacher
from timbrel.embeddings.teachers.options import TeacherOptions
from timbrel.errors import UserError
from timbrel.torchaudio_cpu import torchaudio
from timbrel.tracking import Tracker


class LiveTeacher(nn.Module):
    """Audio ``(batch, sample)`` to embeddings ``(batch, time, dimension)``, without gradients.

    Windows are as in the store: of the network's length, around the middle of each hop, silence beyond the ends. What
    is not longer than the network's own window is heard as it is, and gives one vector.
    """

    def __init__(self, teacher: NetworkTeacher, sample_rate: int) -> None:
        super().__init__()
        self.network = teacher.network.eval().requires_grad_(False)
        self.name, self.dimension, self.hop_s = teacher.name, teacher.dimension, teacher.hop_s
        self.sample_rate = sample_rate
        """Of the audio, in Hz."""
        self.resample = (
            torchaudio.transforms.Resample(sample_rate, teacher.sample_rate)
            if sample_rate != teacher.sample_rate
            else nn.Identity()
        )
        self.hop = round(teacher.hop_s * teacher.sample_rate)
        self.window = round(teacher.window_s * teacher.sample_rate)
        self.least = teacher.least_samples

    def train(self, mode: bool = True) -> "LiveTeacher":
        """Stay in evaluation mode: it does not learn."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Return the vectors of each example.

        Raises:
            UserError: the examples are too short for the network.
        """
        with torch.autocast(audio.device.type, enabled=False):
            heard = self.resample(audio.float())
            samples = heard.shape[1]
            if samples < self.least:
                raise UserError(
                    f"examples of {audio.shape[1] / self.sample_rate:.2f} s are too short for teacher {self.name}: "
                    "raise mixing.seconds, or choose another teacher.name."
                )
            if samples <= self.window:
                return self.network(heard)[:, None]
            count = -(-samples // self.hop)
            lead = (self.window - self.hop) // 2
            tail = max(0, (count - 1) * self.hop + self.window - lead - samples)
            padded = nn.functional.pad(heard, (lead, tail))  # a negative lead cuts off
            windows = padded.unfold(1, self.window, self.hop)[:, :count]
            return self.network(windows.reshape(-1, self.window)).unflatten(0, (len(audio), count))


def live_teacher(name: str, weights: str, tracker: Tracker, sample_rate: int = 0) -> LiveTeacher:
    """Return a teacher as a module: audio ``(batch, sample)`` to ``(batch, time, dimension)``.

    Args:
        name: crnn, fcn, musicnn or checkpoint; or empty, for the run or folder that ``weights`` names.
        weights: file, run's id or exported folder.
        tracker: where runs are looked for.
        sample_rate: of the audio in Hz; 0: the teacher's own.

    Raises:
        UserError: there is no such teacher, or it can't run beside the training.
    """
    teacher = load_teacher(name or "checkpoint", TeacherOptions(weights=weights), tracker)
    if not isinstance(teacher, NetworkTeacher) or teacher.name not in ("crnn", "fcn", "musicnn", "checkpoint"):
        raise UserError(
            f"teacher {name} does not run beside the training: make its embeddings first with `timbrel embed {name}`, "
            "or choose crnn, fcn, musicnn or a run."
        )
    return LiveTeacher(teacher, sample_rate or teacher.sample_rate)
