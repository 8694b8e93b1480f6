"""What becomes of a batch before the student hears it: its spectrogram, varied and masked, and mixup.

The authors mix what their front end makes of two clips, log-mel spectrograms whose bands and masks were varied one by
one, not the clips' sound. So it is done here: a sum of sounds is no weighted mean of logarithms. Their partner is any
clip of the training set; here it is another of the batch, which is all that is at hand, and as random.
"""

from functools import lru_cache

import torch

from tasks.clip_tagging.config import ClipTaggingConfig, FrontEndConfig
from tasks.clip_tagging.front_end import KaldiLogMel

Batch = dict[str, torch.Tensor]

MIXED: tuple[str, ...] = ("features", "teacher")
"""Columns that are mixed as the labels are."""


def augmented(batch: Batch, config: ClipTaggingConfig) -> Batch:
    """Return a training batch with ``features``, the augmented spectrogram ``(batch, band, frame)``, and what follows.

    Random numbers are those of PyTorch's global generator. Without any augmentation the batch is returned as it is.
    """
    if config.augmentation.idle:
        return batch
    front_end = _front_end(config.front_end, config.mixing.sample_rate).to(batch["audio"].device)
    batch = {**batch, "features": front_end(batch["audio"], config.augmentation)}
    if not config.augmentation.mixup:
        return batch
    shares = mixup_shares(len(batch["labels"]), config.augmentation.mixup)
    return mixed(batch, torch.randperm(len(shares)), shares)


def mixup_shares(examples: int, parameter: float) -> torch.Tensor:
    """Return how much each example keeps of itself, ``(example,)``: ``max(l, 1 - l)``, of a beta distribution."""
    drawn = torch.distributions.Beta(parameter, parameter).sample((examples,))
    return torch.maximum(drawn, 1 - drawn)


def mixed(batch: Batch, partners: torch.Tensor, shares: torch.Tensor) -> Batch:
    """Return each example mixed with its partner: spectrogram, embedding and labels.

    As the authors do it: a class that only one of the two was judged on counts as judged on both, and as absent from
    the other. Where neither was, the label stays NaN.

    Args:
        batch: ``features``, ``labels`` float32 ``(example, class)``, and ``teacher`` if there is one; the other columns
            stay as they are.
        partners: the number of each example's partner, ``(example,)``.
        shares: how much each example keeps of itself, ``(example,)``.
    """
    labels = batch["labels"]
    judged = ~torch.isnan(labels)
    neither = ~(judged | judged[partners])
    found = {name: _mean(batch[name], partners, shares) for name in MIXED if name in batch}
    known = _mean(torch.nan_to_num(labels, nan=0.0), partners, shares)
    return {**batch, **found, "labels": known.masked_fill(neither, torch.nan)}


def _mean(values: torch.Tensor, partners: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    own = shares.to(values).view(-1, *[1] * (values.dim() - 1))
    return own * values + (1 - own) * values[partners.to(values.device)]


@lru_cache(maxsize=4)
def _front_end(config: FrontEndConfig, sample_rate: int) -> KaldiLogMel:
    return KaldiLogMel(config, sample_rate)
