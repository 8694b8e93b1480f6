"""The networks of a run: a student behind its front end, or TeacherLR."""

import torch
from torch import nn

from tasks.clip_tagging.config import PUBLISHED_WIDTHS, ClipTaggingConfig
from tasks.clip_tagging.cp_resnet import CPResNet
from tasks.clip_tagging.front_end import KaldiLogMel
from tasks.clip_tagging.mobile_fcn import MobileFCN, small_fcn


class Student(nn.Module):
    """Waveform ``(batch, sample)`` to logits ``(batch, class)``.

    In place of the waveform it takes the front end's spectrogram ``(batch, band, frame)``, such as an augmented one.
    With ``stages`` it returns the three stages of its network, too: the mean over frequency, ``(batch, frame,
    channel)`` each.
    """

    def __init__(self, front_end: KaldiLogMel, body: CPResNet | MobileFCN, classes: int) -> None:
        super().__init__()
        self.front_end = front_end
        self.body = body
        self.dropout = nn.Dropout(body.dropout)
        self.head = nn.Linear(body.embedding_size, classes)
        nn.init.zeros_(self.head.bias)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stub

    def forward(
        self, heard: torch.Tensor, stages: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the logits, and the stages if they are asked for."""
        spectrogram = self.front_end(heard) if heard.dim() == 2 else heard
        pictures = self.body(spectrogram.unsqueeze(1).contiguous(memory_format=torch.channels_last))
        logits = self.head(self.dropout(pictures[-1]).mean(dim=(2, 3)))
        if not stages:
            return logits
        return logits, [picture.mean(dim=2).transpose(1, 2) for picture in pictures]


class TeacherLR(nn.Module):
    """A teacher's embeddings ``(batch, frame, dimension)`` to logits ``(batch, class)``: their mean, and one layer."""

    def __init__(self, dimension: int, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(dimension, classes)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        return self.head(embedding.mean(dim=1))


def build_student(config: ClipTaggingConfig, classes: int) -> Student:
    """Return an untrained student."""
    width = config.width or PUBLISHED_WIDTHS[config.student]
    body: CPResNet | MobileFCN
    if config.student == "cp_resnet":
        body = CPResNet(width)
    elif config.student == "mobile_fcn":
        body = MobileFCN(config.front_end.bands, width)
    else:
        body = small_fcn(config.front_end.bands, width)
    return Student(KaldiLogMel(config.front_end, config.mixing.sample_rate), body, classes)
