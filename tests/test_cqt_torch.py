"""The constant-Q front end as a part of a network."""

import copy
import pickle

import numpy as np
import pytest
import torch
from nnAudio.features.cqt import CQT1992v2
from torch import nn

from timbrel.cqt import CqtConfig, quality
from timbrel.models.cqt import Cqt

RATE_HZ = 16_000
SAMPLES = 32_000


@pytest.fixture(scope="module")
def front_end():
    return Cqt(CqtConfig(), RATE_HZ)


@pytest.fixture(scope="module")
def waveforms():
    return torch.from_numpy(np.random.default_rng(0).normal(scale=0.1, size=(3, SAMPLES)).astype(np.float32))


def test_it_adds_nothing_to_a_checkpoint(front_end, waveforms):
    assert not front_end.state_dict()
    assert not list(front_end.parameters())
    other = nn.Sequential(Cqt(CqtConfig(), RATE_HZ), nn.Conv1d(88, 2, 1))
    assert set(other.state_dict()) == {"1.weight", "1.bias"}
    other.load_state_dict(nn.Sequential(front_end, nn.Conv1d(88, 2, 1)).state_dict())  # strict
    torch.testing.assert_close(other[0](waveforms), front_end(waveforms), rtol=0, atol=0)


def test_it_moves_with_the_network():
    moved = nn.Sequential(Cqt(CqtConfig(), RATE_HZ)).to("meta")
    assert {buffer.device.type for buffer in moved.buffers()} == {"meta"}


def test_the_zeros_that_are_cut_off_change_nothing(front_end, waveforms):
    config = CqtConfig()
    whole = CQT1992v2(
        sr=RATE_HZ,
        hop_length=512,
        fmin=27.5,
        n_bins=88,
        filter_scale=quality(config) * (2 ** (1 / 12) - 1),
        pad_mode="constant",
        verbose=False,
    )
    kept = front_end.transform.cqt_kernels_real.shape[-1]
    assert kept < 0.65 * whole.cqt_kernels_real.shape[-1]
    torch.testing.assert_close(front_end.transform(waveforms), whole(waveforms), rtol=1e-4, atol=1e-6)


def test_it_is_silent(capfd):
    Cqt(CqtConfig(), RATE_HZ)(torch.zeros(1, SAMPLES))
    assert capfd.readouterr() == ("", "")


def test_no_gradient_no_mode_no_autocast_changes_it(front_end, waveforms):
    expected = front_end(waveforms)
    assert not expected.requires_grad
    with torch.inference_mode():
        assert torch.equal(front_end(waveforms), expected)
    front_end.train()
    assert torch.equal(front_end(waveforms), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = front_end(waveforms)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_sound_of_other_precision(front_end, waveforms, dtype):
    found = front_end(waveforms.to(dtype))
    assert found.dtype == torch.float32
    assert torch.equal(found, front_end(waveforms.to(dtype).float()))


def test_a_batch_of_one(front_end, waveforms):
    pictures = front_end(waveforms)
    assert pictures.shape == (3, 88, 62)
    for waveform, expected in zip(waveforms, pictures, strict=True):
        torch.testing.assert_close(front_end(waveform[None])[0], expected, rtol=0, atol=1e-5)


def test_a_silent_batch_has_no_nan(front_end):
    assert not front_end(torch.zeros(1, SAMPLES)).any()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies(front_end, waveforms, copied):
    other = copied(front_end)
    assert not other.state_dict()
    assert torch.equal(other(waveforms), front_end(waveforms))


def test_it_can_be_exported(front_end, waveforms):
    batch = torch.export.Dim("batch")
    program = torch.export.export(front_end, (waveforms,), dynamic_shapes=({0: batch},))
    torch.testing.assert_close(program.module()(waveforms[:2]), front_end(waveforms[:2]), rtol=0, atol=1e-5)
