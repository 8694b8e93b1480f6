"""The backbones to choose from: what each needs of its input, and how to build it."""

import dataclasses
from typing import Literal

from torch import nn

from timbrel.models import published, short_chunk_cnn
from timbrel.models.front_end import LogMelConfig
from timbrel.models.short_chunk_cnn import ShortChunkCNN, ShortChunkConfig

BackboneName = Literal["short_chunk_cnn", "crnn", "crnn_conv", "fcn", "musicnn"]

PUBLISHED: dict[str, type[nn.Module]] = {
    "crnn": published.CRNN,
    "crnn_conv": published.ConvCRNN,
    "fcn": published.FCN,
    "musicnn": published.Musicnn,
}


def build_backbone(name: BackboneName, config: ShortChunkConfig) -> nn.Module:
    """Return an untrained backbone: log-mel spectrogram ``(batch, 1, band, frame)`` to ``(batch, channel)``.

    It says by ``embedding_size`` how many channels it has, and by ``head_size`` how wide the hidden layer of a
    classifier on top should be. ``config`` is the size of the short-chunk CNN; the others have one size.
    """
    return ShortChunkCNN(config) if name == "short_chunk_cnn" else PUBLISHED[name]()


def input_of(name: BackboneName, front_end: LogMelConfig) -> LogMelConfig:
    """Return the front end with the number of bands filled in that the backbone was published with."""
    if front_end.bands is not None:
        return front_end
    return dataclasses.replace(front_end, bands=128 if name == "short_chunk_cnn" else published.BANDS)


def check_input(name: BackboneName, front_end: LogMelConfig, samples: int) -> None:
    """Raise ValueError, for a config to refuse, unless the backbone can take spectrograms of so many samples."""
    bands, frames = input_of(name, front_end).bands, front_end.frames(samples)
    assert bands is not None
    if name == "short_chunk_cnn":
        short_chunk_cnn.check_input(bands, frames)
        return
    if bands != published.BANDS:
        raise ValueError(f"the backbone {name} takes {published.BANDS} mel bands, not front_end.bands={bands}")
    least: int = PUBLISHED[name].least_frames  # type: ignore[attr-defined]  # of each class there
    if frames < least:
        raise ValueError(
            f"the backbone {name} needs {least} frames ({least * front_end.hop:,} samples), not {frames}: raise "
            "mixing.seconds, or choose another transfer.backbone"
        )
