"""Classifiers made of front end, backbone and head, and the three ways to start one from pre-trained weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import nn

from timbrel.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Transfer learning as in Table 1 of the transfer-and-mixing paper."""

    mode: Literal["scratch", "frozen", "finetune"] = "scratch"
    """scratch: no pre-trained weights; frozen: pre-trained backbone that stays as it is, batch-norm statistics
    included; finetune: pre-trained backbone that learns on. The head always starts anew."""
    checkpoint: str = ""
    """Where frozen and finetune start from: the id of a run of this platform, or a file of weights."""
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
    """Embedding ``(batch, channel)`` to logits ``(batch, class)``: dense, batch norm, ReLU, dropout 0.5, dense."""

    def __init__(self, embedding_size: int, classes: int) -> None:
        super().__init__(
            nn.Linear(embedding_size, embedding_size),
            nn.BatchNorm1d(embedding_size),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(embedding_size, classes),
        )


class Classifier(nn.Module):
    """Waveform ``(batch, sample)`` to logits ``(batch, class)``."""

    def __init__(self, front_end: nn.Module, backbone: nn.Module, head: nn.Module, frozen: bool = False) -> None:
        super().__init__()
        self.front_end = front_end
        self.backbone = backbone
        self.head = head
        self.frozen = frozen
        if frozen:
            for part in (front_end, backbone):
                part.requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

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

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(waveform))


def load_backbone(model: Classifier, weights: Mapping[str, torch.Tensor], where: str) -> None:
    """Copy front end and backbone, but not the head, from another classifier's ``state_dict``.

    Raises:
        UserError: the weights are of another architecture; ``where`` names them.
    """
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items() if not name.startswith("head.")}
    given = {name: tensor for name, tensor in weights.items() if not name.startswith("head.")}
    strange = [name for name, tensor in given.items() if name not in wanted or not isinstance(tensor, torch.Tensor)]
    if strange:
        raise UserError(f"the weights of {where} are of another architecture: this model has no tensor '{strange[0]}'.")
    for name, shape in wanted.items():
        if name not in given:
            raise UserError(f"the weights of {where} are of another architecture: they lack '{name}'.")
        if given[name].shape != shape:
            raise UserError(
                f"the weights of {where} are of another architecture: '{name}' has shape {tuple(given[name].shape)}, "
                f"this model's has {tuple(shape)}; give both the same model and mixing.sample_rate settings."
            )
    for name, buffer in model.named_buffers():
        if name.startswith("front_end.power.") and not torch.allclose(buffer, given[name]):
            raise UserError(
                f"the weights of {where} were trained behind another front end ('{name}' differs): "
                "give both the same mixing.sample_rate and front_end settings."
            )
    model.load_state_dict({**given, **{k: v for k, v in model.state_dict().items() if k.startswith("head.")}})


def transfer_groups(model: Classifier, transfer: Transfer) -> list[dict[str, Any]]:
    """Return the optimiser's groups: the head, and the rest unless it is frozen."""
    groups: list[dict[str, Any]] = [{"name": "head", "params": list(model.head.parameters()), "lr": transfer.head_lr}]
    if transfer.mode != "frozen":
        rest = [*model.front_end.parameters(), *model.backbone.parameters()]
        groups.append({"name": "backbone", "params": rest, "lr": transfer.effective_backbone_lr})
    return groups
