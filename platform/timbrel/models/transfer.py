"""Classifiers made of front end, backbone and head, and the three ways to start one from pre-trained weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import nn

from timbrel.errors import UserError
from timbrel.models.backbones import BackboneName, build_backbone, input_of
from timbrel.models.front_end import LogMel, LogMelConfig
from timbrel.models.published import is_published, read_published
from timbrel.models.short_chunk_cnn import ShortChunkConfig


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Transfer learning as in Table 1 of the transfer-and-mixing paper."""

    mode: Literal["scratch", "frozen", "finetune"] = "scratch"
    """scratch: no pre-trained weights; frozen: pre-trained backbone that stays as it is, batch-norm statistics
    included; finetune: pre-trained backbone that learns on. The head always starts anew."""
    backbone: BackboneName = "short_chunk_cnn"
    """The network below the head: short_chunk_cnn, the paper's; or a published tagger up to its classifier: crnn,
    crnn_conv (the CRNN's convolutions and the maximum over time; for short clips), fcn (from 20.5 s on), musicnn.
    The published ones take 96 bands, and their weights mixing.sample_rate=16000."""
    checkpoint: str = ""
    """Where frozen and finetune start from: the id of a run of this platform, or a file of weights, for instance the
    authors' of a published tagger."""
    head_lr: Annotated[float, Ge(0)] = 0.01
    """Learning rate of the head (paper: 0.01)."""
    backbone_lr: Annotated[float, Ge(0)] | None = None
    """Learning rate of front end and backbone; none: the paper's for the mode (scratch 0.01, finetune 0.0001).
    A frozen backbone has none."""

    @property
    def effective_backbone_lr(self) -> float:
        """Learning rate of the backbone after the mode's default is filled in."""
        if self.mode == "frozen":
            return 0.0
        if self.backbone_lr is not None:
            return self.backbone_lr
        return {"scratch": 0.01, "finetune": 0.0001}[self.mode]


class Head(nn.Sequential):
    """Embedding ``(batch, channel)`` to logits ``(batch, class)``: dense, batch norm, ReLU, dropout 0.5, dense.

    The hidden layer is as wide as the backbone says (``head_size``): the paper's as its embedding, Musicnn's 200.
    """

    def __init__(self, embedding_size: int, hidden: int, classes: int) -> None:
        super().__init__(
            nn.Linear(embedding_size, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(hidden, classes),
        )


class Classifier(nn.Module):
    """Waveform ``(batch, sample)`` to logits ``(batch, class)``.

    With ``stages`` it returns the logits, and what the backbone has at three depths, from first to last: each
    ``(batch, frame, channel)``, averaged over frequency, for a teacher to be compared with.
    """

    def __init__(self, front_end: nn.Module, backbone: nn.Module, head: nn.Module, frozen: bool = False) -> None:
        super().__init__()
        self.front_end = front_end
        self.backbone = backbone
        self.head = head
        self.frozen = frozen
        if frozen:
            for part in (front_end, backbone):
                part.requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # in no stub

    def train(self, mode: bool = True) -> "Classifier":
        """Set training mode; a frozen front end and backbone stay in evaluation mode, so their statistics stay."""
        super().train(mode)
        if self.frozen:
            self.front_end.eval()
            self.backbone.eval()
        return self

    def embed(self, waveform: torch.Tensor) -> torch.Tensor:
        """Return the backbone's embedding: ``(batch, channel)``."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self.backbone(self.front_end(waveform))

    def forward(
        self, waveform: torch.Tensor, stages: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, list[torch.Tensor]]:
        if not stages:
            return self.head(self.embed(waveform))
        if self.frozen:
            raise UserError(
                "a frozen backbone learns nothing from a teacher's embeddings: set transfer.mode to finetune or "
                "scratch, or teacher.kd=1, which teaches the head."
            )
        embedding, found = self.backbone.stages(self.front_end(waveform))  # type: ignore[operator]  # a tensor, says nn.Module
        return self.head(embedding), found


def build_classifier(
    backbone: BackboneName, size: ShortChunkConfig, front_end: LogMelConfig, sample_rate: int, classes: int, **how: bool
) -> Classifier:
    """Return a classifier of the given parts with a new head; ``how`` as ``Classifier`` takes it."""
    body = build_backbone(backbone, size)
    head = Head(int(body.embedding_size), int(body.head_size), classes)  # type: ignore[arg-type]  # a Tensor or Module, to mypy
    return Classifier(LogMel(input_of(backbone, front_end), sample_rate), body, head, **how)


def load_backbone(model: Classifier, weights: Mapping[str, torch.Tensor], where: str, *, head: bool = False) -> None:
    """Copy front end and backbone, and the head if asked to, from another classifier's ``state_dict``.

    The weights may be those of a run, or a published tagger's in its authors' layout.

    Raises:
        UserError: the weights are of another architecture, or were trained behind another front end; ``where`` names
            them.
    """
    if is_published(weights):
        weights = read_published(weights, model.backbone, where, head=head)
    own = model.state_dict()
    wanted = {name: tensor for name, tensor in own.items() if head or not name.startswith("head.")}
    unused = tuple(f"backbone.{layer}" for layer in getattr(model.backbone, "left_out", ()))
    given = {
        name: tensor
        for name, tensor in weights.items()
        if (head or not name.startswith("head.")) and not (unused and name.startswith(unused))
    }
    strange = [name for name, tensor in given.items() if name not in wanted or not isinstance(tensor, torch.Tensor)]
    if strange:
        raise UserError(f"the weights of {where} are of another architecture: this model has no tensor '{strange[0]}'.")
    for name, tensor in wanted.items():
        if name not in given:
            if name.startswith("front_end.power."):  # left empty by some versions of torchaudio; a constant anyway
                continue
            raise UserError(f"the weights of {where} are of another architecture: they lack '{name}'.")
        if given[name].shape != tensor.shape:
            raise UserError(
                f"the weights of {where} are of another architecture: '{name}' has shape {tuple(given[name].shape)}, "
                f"this model's has {tuple(tensor.shape)}; give both the same model and mixing.sample_rate settings."
            )
        # The authors' filterbanks differ from today's torchaudio's by rounding (1.1e-5).
        if name.startswith("front_end.power.") and not torch.allclose(tensor, given[name].to(tensor), atol=1e-4):
            raise UserError(
                f"the weights of {where} were trained behind another front end ('{name}' differs): "
                "give both the same mixing.sample_rate and front_end settings."
            )
    model.load_state_dict({**own, **given})


def transfer_groups(model: Classifier, transfer: Transfer) -> list[dict[str, Any]]:
    """Return the optimiser's groups: the head, and the rest unless it is frozen."""
    groups: list[dict[str, Any]] = [{"name": "head", "params": list(model.head.parameters()), "lr": transfer.head_lr}]
    if transfer.mode != "frozen":
        rest = [*model.front_end.parameters(), *model.backbone.parameters()]
        groups.append({"name": "backbone", "params": rest, "lr": transfer.effective_backbone_lr})
    return groups
