"""The U-net's sizes, what it refuses, how it starts, and the heads."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tasks.pianoroll.model import Heads, PianorollNet, UNetConfig, check_input, heads


def net(instruments=3, bins=24, pool=2, front_end=None, **size):
    torch.manual_seed(0)
    return PianorollNet(UNetConfig(**{"width": 2, "depth": 2, **size}), instruments, bins, pool, front_end)


def conv(before, after, kernel):
    """Return the number of weights and biases of a convolution of either kind."""
    return before * after * kernel**2 + after


def encoder(before, after):
    return (
        conv(before, after, 3)
        + conv(after, after, 3)
        + conv(before, after, 1)  # shortcut
        + conv(after, after, 2)  # down-sampler
        + 2 * 2 * after  # two batch normalisations
    )


def decoder(up, skip, after, last=False):
    half = (up + skip) // 2
    normalised = half if last else half + after
    return conv(up, up, 2) + conv(up + skip, half, 3) + conv(half, after, 3) + 2 * normalised


def test_published_size_has_the_published_number_of_parameters():
    encoders = encoder(1, 32) + encoder(32, 64) + encoder(64, 128) + encoder(128, 256)
    assert encoders == 13_888 + 74_240 + 295_936 + 1_181_696
    skips = conv(32, 32, 3) + conv(64, 64, 3) + conv(128, 128, 3)
    assert skips == 9_248 + 36_928 + 147_584
    decoders = decoder(256, 128, 128) + decoder(128, 64, 64) + decoder(64, 32, 32) + decoder(32, 0, 9, last=True)
    assert decoders == 1_148_096 + 287_328 + 71_984 + 10_089
    scale = 2  # the batch normalisation of the single input channel
    assert encoders + skips + decoders + scale == 3_277_019

    def count(instruments):
        return sum(weights.numel() for weights in PianorollNet(UNetConfig(), instruments).parameters())

    assert count(9) == 3_277_019
    assert count(10) == 3_277_164  # the authors' network, about 3.28 million


def test_published_size_passes_through_the_published_sizes():
    model = PianorollNet(UNetConfig(), 9).eval()
    sizes = {}
    for name, module in model.named_modules():
        module.register_forward_hook(lambda _, __, out, name=name: sizes.update({name: tuple(out.shape[1:])}))
    with torch.inference_mode():
        assert model(torch.rand(1, 88, 312)).shape == (1, 9, 88, 156)
    encoders = [sizes[f"encoders.{i}"] for i in range(4)]
    assert encoders == [(32, 44, 156), (64, 22, 78), (128, 11, 39), (256, 5, 19)]
    assert [sizes[f"encoders.{i}.convolutions"] for i in range(4)] == [
        (32, 88, 312),
        (64, 44, 156),
        (128, 22, 78),
        (256, 11, 39),
    ]
    assert [sizes[f"skips.{i}"] for i in range(3)] == encoders[:3]
    assert [sizes[f"decoders.{i}.up"] for i in range(4)] == [
        (256, 11, 39),
        (128, 22, 78),
        (64, 44, 156),
        (32, 88, 312),
    ]
    assert [sizes[f"decoders.{i}"] for i in range(4)] == [(128, 11, 39), (64, 22, 78), (32, 44, 156), (9, 88, 312)]


@settings(max_examples=30)
@given(
    depth=st.integers(1, 4),
    width=st.integers(2, 5),
    more_bins=st.integers(0, 30),
    pools=st.integers(0, 9),
    pool=st.integers(1, 3),
    instruments=st.integers(1, 4),
)
def test_any_size_of_network_and_input(depth, width, more_bins, pools, pool, instruments):
    bins = 2**depth + more_bins
    frames = pool * (math.ceil(2**depth / pool) + pools)
    model = net(instruments, bins, pool, width=width, depth=depth).eval()
    with torch.inference_mode():
        out = model(torch.rand(2, bins, frames))
    assert out.shape == (2, instruments, bins, frames // pool)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((2, 24, 7), "multiple of the pooling over time (2), not 7"),
        ((2, 24, 2), "needs at least 4 bins and 4 frames, not 24 and 2"),
        ((2, 23, 8), "expected a spectrogram (batch, 24 bins, frame), got (2, 23, 8)"),
        ((2, 1, 24, 8), "expected a spectrogram (batch, 24 bins, frame), got (2, 1, 24, 8)"),
        ((2, 16_000), "only a network with a front end takes waveforms"),
    ],
)
def test_input_that_does_not_fit_is_refused(shape, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        net()(torch.rand(shape))


@pytest.mark.parametrize("values", [{"width": 1}, {"depth": 0}, {"depth": 5}, {"pool": 0}, {"instruments": 0}])
def test_network_that_does_not_fit_is_refused(values):
    with pytest.raises(ValueError, match="at least"):
        net(**values)


def test_config_can_check_the_input_beforehand():
    check_input(UNetConfig(), 88, 312, 2)
    check_input(UNetConfig(depth=4), 16, 16, 1)
    with pytest.raises(ValueError, match="lower the depth"):
        check_input(UNetConfig(depth=4), 15, 16, 1)


class Spectrogram(nn.Module):
    """Samples in rows of 24, to have anything."""

    def forward(self, waveform):
        return waveform.unflatten(1, (24, -1))


def test_front_end_turns_waveforms_into_what_is_otherwise_given():
    spectrogram = torch.rand(2, 24, 8)
    model = net(front_end=Spectrogram()).eval()
    from_waveform, from_spectrogram = model(spectrogram.flatten(1)), model(spectrogram)
    torch.testing.assert_close(from_waveform, from_spectrogram, rtol=0, atol=0)
    odd = torch.rand(2, 24, 9)
    torch.testing.assert_close(model(odd.flatten(1)), model(odd[..., :8]), rtol=0, atol=0)  # as the rolls have it
    with pytest.raises(ValueError, match="multiple of the pooling"):
        model(odd)


def test_weights_start_as_published():
    model = PianorollNet(UNetConfig(width=8), 9)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            one, other = module.weight.shape[:2]
            bound = math.sqrt(2) * math.sqrt(6 / ((one + other) * module.weight[0, 0].numel()))
            spread = bound / math.sqrt(3)  # of a uniform distribution
            assert module.weight.abs().max() <= bound
            if module.weight.numel() > 1000:
                assert module.weight.detach().std().item() == pytest.approx(spread, rel=0.1)
            assert not module.bias.any()
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert not module.bias.any()


def test_level_and_contrast_of_each_bin_make_no_difference():
    """What the authors' stored means and deviations are for; the batch has those of its own."""
    model = net()
    x = torch.rand(4, 24, 16)
    gains, offsets = torch.linspace(0.5, 2, 24)[:, None], torch.linspace(-1, 1, 24)[:, None]
    torch.testing.assert_close(model(gains * x + offsets), model(x), rtol=1e-2, atol=1e-2)
    assert "standardise.running_mean" in model.state_dict()
    assert not list(model.standardise.parameters())


def test_silence_is_taken_and_one_excerpt_is_a_batch():
    model = net()
    assert torch.isfinite(model(torch.zeros(1, 24, 8))).all()
    assert torch.isfinite(model.eval()(torch.zeros(1, 24, 8))).all()


def test_output_is_the_louder_of_two_frames():
    """Pooling over time is the last thing that happens."""
    fine, pooled = net(pool=1).eval(), net(pool=2).eval()
    pooled.load_state_dict(fine.state_dict())
    x = torch.rand(2, 24, 8)
    by_hand = fine(x).detach().numpy().reshape(2, 3, 24, 4, 2).max(axis=-1)
    np.testing.assert_array_equal(pooled(x).detach().numpy(), by_hand)


def test_activations_lie_with_channels_last():
    model = net(width=4)
    model.load_state_dict(net(width=4).state_dict())
    layouts = []
    for module in [*model.encoders, *model.decoders]:
        module.register_forward_hook(
            lambda _, __, out: layouts.append(out.is_contiguous(memory_format=torch.channels_last))
        )
    model(torch.rand(2, 24, 8))
    assert layouts == [True] * 4


def test_every_weight_learns():
    model = net(width=4)
    out = heads(model(torch.rand(4, 24, 16)))
    sum((each**2).mean() for each in out).backward()
    without = [name for name, weights in model.named_parameters() if weights.grad is None or not weights.grad.any()]
    # What batch normalisation subtracts anyway has no gradient but for rounding, so it may be exactly 0.
    assert all(name.endswith("bias") for name in without)


# Heads


def test_heads_agree_with_loops():
    generator = np.random.default_rng(0)
    r = generator.normal(scale=20, size=(2, 3, 5, 4))
    got = heads(torch.from_numpy(r))
    assert isinstance(got, Heads)
    instrument, pitch, roll = np.zeros((2, 3, 4)), np.zeros((2, 5, 4)), np.zeros((2, 3, 5, 4))
    for b, m, t in np.ndindex(2, 3, 4):
        instrument[b, m, t] = 0.01 * sum(r[b, m, f, t] for f in range(5))
        for f in range(5):
            roll[b, m, f, t] = r[b, m, f, t] / (1 + math.exp(-instrument[b, m, t]))
    for b, f, t in np.ndindex(2, 5, 4):
        pitch[b, f, t] = 0.1 * sum(r[b, m, f, t] for m in range(3))
    np.testing.assert_allclose(got.instrument, instrument, rtol=1e-12)
    np.testing.assert_allclose(got.pitch, pitch, rtol=1e-12)
    np.testing.assert_allclose(got.roll, roll, rtol=1e-12)


def test_nothing_heard_gives_nothing():
    """R = -20: instrument -0.01 x 88 x 20, pitch -0.1 x 9 x 20, and a pianoroll gated to just under 0.5."""
    out = heads(torch.full((1, 9, 88, 4), -20.0))
    torch.testing.assert_close(out.instrument, torch.full((1, 9, 4), -17.6))
    torch.testing.assert_close(out.pitch, torch.full((1, 88, 4), -18.0))
    probability = torch.sigmoid(out.roll.double())
    assert (probability < 0.5).all()
    assert (probability > 0.499).all()  # as the gate works on logits: see `heads`


def test_one_note_gives_its_instrument_and_its_pitch():
    r = torch.full((1, 9, 88, 2), -1.0)
    r[0, 6, 40, 1] = 300.0
    out = heads(r)
    assert (out.instrument > 0).nonzero().tolist() == [[0, 6, 1]]
    assert (out.pitch > 0).nonzero().tolist() == [[0, 40, 1]]
    assert (out.roll > 0).nonzero().tolist() == [[0, 6, 40, 1]]
