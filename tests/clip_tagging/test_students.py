"""The students' shapes, sizes and beginnings, against what the tables of the source give by hand."""

import math

import numpy as np
import pytest
import torch

from tasks.clip_tagging.config import BANDS_OF, LEAST_FRAMES, PUBLISHED_WIDTHS
from tasks.clip_tagging.cp_resnet import Block, CPResNet
from tasks.clip_tagging.mobile_fcn import MobileFCN, small_fcn
from tasks.clip_tagging.model import TeacherLR, build_student


def parameters(module):
    return sum(values.numel() for values in module.parameters())


def cp_resnet_by_hand(width, classes):
    """Add up the table: a convolution has in x out x k x k weights, each norm twice its channels."""
    stages = [
        (width, [(3, 1), (3, 3), (3, 3), (3, 3)]),
        (2 * width, [(3, 1), (1, 3), (1, 3), (1, 3)]),
        (4 * width, [(1, 1), (1, 1), (1, 1), (1, 1)]),
    ]
    total, before = 25 * width + 2 * width, width
    for after, blocks in stages:
        for first, second in blocks:
            total += before * after * first**2 + after * after * second**2 + 4 * after
            total += before * after + 2 * after if before != after else 0
            before = after
    return total + before * classes + classes


def mobile_fcn_by_hand(width, classes):
    total = 9 * width + 2 * width + 9 * width * 2 * width + 4 * width
    two, four = 2 * width, 4 * width
    for before, after in [(two, two)] * 3 + [(two, four)] + [(four, four)] * 2:
        total += 9 * before + 2 * before + before * after + 2 * after
    return total + four * classes + classes


def test_parameters_of_the_published_students(settings_of):
    cp_resnet = build_student(settings_of(), 20)
    assert parameters(cp_resnet) == cp_resnet_by_hand(128, 20) == 5_534_612
    mobile_fcn = build_student(settings_of("magnatagatune"), 50)
    assert parameters(mobile_fcn) == mobile_fcn_by_hand(64, 50) == 314_098
    assert parameters(build_student(settings_of("small"), 20)) == mobile_fcn_by_hand(16, 20) == 22_852


@pytest.mark.parametrize("width", [1, 3, 8])
def test_parameters_of_other_widths(settings_of, width):
    assert parameters(build_student(settings_of(width=width), 7)) == cp_resnet_by_hand(width, 7)
    fcn = settings_of(student="mobile_fcn", width=width)
    assert parameters(build_student(fcn, 7)) == mobile_fcn_by_hand(width, 7)


def test_teacher_lr_is_one_layer_on_the_mean():
    model = TeacherLR(128, 20)
    assert parameters(model) == 128 * 20 + 20
    embedding = torch.randn(3, 10, 128)
    weights = {name: values.detach().numpy() for name, values in model.named_parameters()}
    by_hand = embedding.numpy().mean(axis=1) @ weights["head.weight"].T + weights["head.bias"]
    np.testing.assert_allclose(model(embedding).detach(), by_hand, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("preset", "values", "stages"),
    [
        ("paper", {"width": 2}, [(62, 2), (62, 4), (62, 8)]),
        ("magnatagatune", {"width": 2}, [(30, 4), (15, 8), (15, 8)]),
        ("magnatagatune", {"width": 2, "front_end__bands": 128}, [(30, 4), (15, 8), (15, 8)]),
        ("small", {}, [(10, 32), (10, 64), (10, 64)]),
        ("small", {"student": "mobile_fcn", "mixing__seconds": 29.0, "width": 2}, [(30, 4), (15, 8), (15, 8)]),
        ("small", {"student": "cp_resnet", "mixing__seconds": 29.0, "width": 2}, [(90, 2), (90, 4), (90, 8)]),
    ],
)
def test_shapes_of_a_clip(settings_of, preset, values, stages):
    config = settings_of(preset, **values)
    model = build_student(config, 20).eval()
    with torch.inference_mode():
        logits, found = model(torch.zeros(2, config.mixing.samples), stages=True)
        assert torch.equal(model(torch.zeros(2, config.mixing.samples)), logits)
    assert logits.shape == (2, 20)
    assert [tuple(stage.shape) for stage in found] == [(2, *shape) for shape in stages]


def test_bands_and_frames_within_the_networks():
    """As the table pools: CP-ResNet has 8 of 128 bands left, the FCN four after its fourth layer and one at the end."""
    with torch.inference_mode():
        assert [tuple(p.shape[2:]) for p in CPResNet(1)(torch.zeros(1, 1, 128, 1000))] == [(8, 62)] * 3
        for bands in (96, 128):
            found = [tuple(p.shape[2:]) for p in MobileFCN(bands, 1)(torch.zeros(1, 1, bands, 1457))]
            assert found == [(4, 30), (1, 15), (1, 15)]
    assert len([part for part in CPResNet(1).modules() if isinstance(part, Block)]) == 12


@pytest.mark.parametrize("student", PUBLISHED_WIDTHS)
def test_the_shortest_input_leaves_one_frame(settings_of, student):
    frames, bands = LEAST_FRAMES[student], max(15, BANDS_OF[student])
    model = build_student(settings_of("small", student=student, width=1, front_end__bands=max(32, bands)), 3).eval()
    with torch.inference_mode():
        assert [stage.shape[1] for stage in model(torch.zeros(1, bands, frames), stages=True)[1]][-1] == 1
        with pytest.raises(RuntimeError):
            model(torch.zeros(1, bands, frames - 1))


def test_stages_are_means_over_frequency_and_the_head_is_on_the_mean_of_the_last(settings_of):
    model = build_student(settings_of("small", student="cp_resnet", width=3), 4).eval()
    spectrogram = torch.randn(2, 64, 48)
    with torch.inference_mode():
        logits, stages = model(spectrogram, stages=True)
        pictures = model.body(spectrogram[:, None])
    for stage, picture in zip(stages, pictures, strict=True):
        np.testing.assert_allclose(stage, picture.numpy().mean(axis=2).transpose(0, 2, 1), rtol=1e-4, atol=1e-6)
    embedding = stages[-1].numpy().mean(axis=1)  # all frames have as many bands, so the mean of means is the mean
    by_hand = embedding @ model.head.weight.detach().numpy().T + model.head.bias.detach().numpy()
    np.testing.assert_allclose(logits, by_hand, rtol=1e-4, atol=1e-5)


def test_a_spectrogram_may_take_the_waveforms_place(settings_of):
    config = settings_of("small")
    model = build_student(config, 4).eval()
    waveform = 0.1 * torch.randn(2, config.mixing.samples)
    with torch.inference_mode():
        assert torch.equal(model(waveform), model(model.front_end(waveform)))


def test_blocks_begin_as_in_fixup():
    torch.manual_seed(0)
    model = CPResNet(128)
    blocks = [part for part in model.modules() if isinstance(part, Block)]
    for block in blocks:
        assert not block.second.weight.any()
        n = block.first.kernel_size[0] ** 2 * block.first.out_channels
        assert block.first.weight.std().item() == pytest.approx(math.sqrt(2 / n / 12), rel=0.03)
    shortcuts = [block.shortcut[0].weight for block in blocks if len(block.shortcut)]
    assert [weight.shape[:2] for weight in shortcuts] == [(256, 128), (512, 256)]
    for weight in shortcuts:
        assert weight.std().item() == pytest.approx(math.sqrt(2 / len(weight)), rel=0.03)
    assert model.entry[0].weight.std().item() == pytest.approx(math.sqrt(2 / 25), rel=0.05)


def test_a_block_begins_as_its_shortcut():
    block = Block(4, 4, 3, 3).eval()
    picture = torch.rand(2, 4, 8, 8)
    assert torch.equal(block(picture), picture)


def test_dropout_is_before_the_layers_5_and_7_and_the_head(settings_of):
    model = build_student(settings_of("magnatagatune", width=2), 50)
    rates = [part.p for part in model.modules() if isinstance(part, torch.nn.Dropout)]
    assert rates == [0.5, 0.5, 0.5]
    assert [isinstance(stage[0], torch.nn.Dropout) for stage in model.body.stages] == [False, True, True]
    assert build_student(settings_of(width=2), 20).dropout.p == 0


@pytest.mark.parametrize("student", PUBLISHED_WIDTHS)
def test_every_weight_learns(settings_of, student):
    torch.manual_seed(0)
    model = build_student(settings_of("small", student=student, width=4), 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = {name: values.detach().clone() for name, values in model.named_parameters()}
    for _ in range(3):  # the blocks' second convolutions begin at zero, so that the first have no gradient yet
        logits, stages = model(torch.randn(4, 64, 96), stages=True)
        optimizer.zero_grad()
        (logits.square().mean() + sum(stage.square().mean() for stage in stages)).backward()
        optimizer.step()
    assert [name for name, values in model.named_parameters() if torch.equal(values, before[name])] == []


def test_bands_that_the_fcn_cannot_take():
    for bands in (0, 80):
        with pytest.raises(ValueError, match=f"multiple of 32 bands, got {bands}"):
            MobileFCN(bands)
    assert small_fcn(64).embedding_size == 64
