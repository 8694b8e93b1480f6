"""The stages of each backbone: what forward returns stays as it is, and what comes beside it."""

import pytest
import torch

from timbrel.errors import UserError
from timbrel.models.front_end import LogMelConfig
from timbrel.models.short_chunk_cnn import ShortChunkConfig
from timbrel.models.transfer import build_classifier

RATE_HZ = 16_000
HOP = 256
SHAPES = {
    # frames of the spectrogram; frames and channels of each stage, by hand from the pooling
    "short_chunk_cnn": (128, [(16, 4), (4, 4), (1, 8)]),
    "crnn": (200, [(33, 128), (2, 128), (2, 32)]),
    "crnn_conv": (200, [(33, 128), (8, 128), (2, 128)]),
    "fcn": (1280, [(80, 128), (20, 128), (1, 64)]),
    "musicnn": (70, [(70, 64)] * 3),
}


def built(name, **how):
    torch.manual_seed(0)
    return build_classifier(name, ShortChunkConfig(width=2), LogMelConfig(hop=HOP), RATE_HZ, 3, **how)


def noise(name):
    samples = (SHAPES[name][0] - 1) * HOP
    return torch.randn(2, samples, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name):
    with torch.inference_mode():
        outputs, stages = built(name).eval()(noise(name), stages=True)
    assert outputs.shape == (2, 3)
    assert [tuple(stage.shape) for stage in stages] == [(2, *shape) for shape in SHAPES[name][1]]
    assert all(torch.isfinite(stage).all() for stage in stages)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_outputs_are_the_same_with_stages_and_without(name, precision):
    model = built(name).eval()
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        plain = model(noise(name))
        outputs, stages = model(noise(name), stages=True)
    assert torch.equal(plain, outputs)
    assert len(stages) == 3
    if name != "musicnn":
        assert {stage.dtype for stage in stages} == {torch.float32}


def test_stages_are_the_blocks_means_over_frequency():
    model = built("short_chunk_cnn").eval()
    found = []
    for block in model.backbone.blocks:
        block.register_forward_hook(lambda module, given, result: found.append(result))
    with torch.inference_mode():
        _, stages = model(noise("short_chunk_cnn"), stages=True)
    for stage, number in zip(stages, (3, 5, 7), strict=True):
        torch.testing.assert_close(stage, found[number - 1].mean(dim=2).transpose(1, 2))


@pytest.mark.parametrize("name", ["short_chunk_cnn", "crnn", "crnn_conv", "musicnn"])
def test_each_stage_teaches_what_lies_before_it(name):
    model = built(name).train()
    _, stages = model(noise(name), stages=True)
    reached = []
    for stage in stages:
        model.zero_grad()
        stage.square().sum().backward(retain_graph=True)
        reached.append({name for name, parameter in model.named_parameters() if parameter.grad is not None})
    assert reached[0] < reached[1] < reached[2]
    assert all(name.startswith(("front_end.", "backbone.")) for name in reached[2])


def test_the_last_stage_of_the_recurrent_net_ends_in_the_embedding():
    model = built("crnn").eval()
    with torch.inference_mode():
        _, stages = model(noise("crnn"), stages=True)
        assert torch.equal(stages[-1][:, -1], model.embed(noise("crnn")))


def test_a_frozen_backbone_is_not_taught():
    with pytest.raises(UserError, match=r"frozen .* transfer\.mode to finetune or scratch, or teacher\.kd=1"):
        built("short_chunk_cnn", frozen=True)(noise("short_chunk_cnn"), stages=True)
