"""The front end agrees with one written in NumPy from the description, and its augmentation does what it says."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks.clip_tagging.config import Augmentation, FrontEndConfig
from tasks.clip_tagging.front_end import KaldiLogMel, masked

RATE_HZ = 16_000
PLAIN = {"mixup": 0.0, "low_jitter_hz": 0, "high_jitter_hz": 0, "band_mask": 0, "frame_mask": 0}
NORMALISED_ZERO = 3.7 / 3.1


def mel(hz):
    return 1127 * np.log(1 + np.asarray(hz) / 700)


def triangles(bands, fft, rate_hz, low_hz, high_hz):
    """Return Kaldi's bank from its definition, ``(band, bin)``."""
    edges = np.linspace(mel(low_hz), mel(high_hz), bands + 2)
    bins = mel(np.arange(fft // 2) * rate_hz / fft)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.pad(np.maximum(0, np.minimum(rising, falling)), ((0, 0), (0, 1)))


def by_hand(waveform, rate_hz, bands, low_hz=0.0, high_hz=None, fft=1024, length=800, hop=320):
    """Return a log-mel spectrogram ``(band, frame)``, frame by frame and bin by bin."""
    sharpened = waveform[1:] - 0.97 * waveform[:-1]
    mirrored = np.pad(sharpened, fft // 2, mode="reflect")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - 1))
    window = np.pad(hann, (fft - length) // 2)
    starts = range(0, len(mirrored) - fft + 1, hop)
    power = np.stack([np.abs(np.fft.rfft(mirrored[i : i + fft] * window)) ** 2 for i in starts], axis=1)
    bank = triangles(bands, fft, rate_hz, low_hz, high_hz or rate_hz / 2)
    return (np.log(bank @ power + 1e-5) + 3.7) / 3.1


def noise(samples, examples=1, seed=0):
    return np.random.default_rng(seed).normal(scale=0.1, size=(examples, samples))


@pytest.mark.parametrize(("rate_hz", "bands"), [(32_000, 128), (16_000, 96)])
def test_it_is_the_published_front_end(rate_hz, bands):
    audio = noise(rate_hz, examples=2)
    found = KaldiLogMel(FrontEndConfig(bands=bands), rate_hz)(torch.from_numpy(audio).float())
    assert found.shape == (2, bands, FrontEndConfig(bands=bands).frames(rate_hz))
    for example in range(2):
        np.testing.assert_allclose(found[example], by_hand(audio[example], rate_hz, bands), atol=2e-3)


@pytest.mark.parametrize(("seconds", "rate_hz", "frames"), [(10, 32_000, 1000), (29, 16_000, 1450)])
def test_frames_of_a_clip(seconds, rate_hz, frames):
    config = FrontEndConfig()
    assert config.frames(seconds * rate_hz) == frames
    assert KaldiLogMel(config, rate_hz)(torch.zeros(1, seconds * rate_hz)).shape[2] == frames


@given(samples=st.integers(600, 5000), hop=st.integers(20, 700))
def test_frames_of_any_length(samples, hop):
    config = FrontEndConfig(bands=32, hop=hop)
    assert KaldiLogMel(config, RATE_HZ)(torch.zeros(1, samples)).shape == (1, 32, config.frames(samples))


def test_silence_is_the_floor():
    found = KaldiLogMel(FrontEndConfig(), RATE_HZ)(torch.zeros(1, 3200))
    assert torch.allclose(found, torch.full_like(found, (math.log(1e-5) + 3.7) / 3.1))


def test_half_precision_around_it_changes_nothing():
    front_end, audio = KaldiLogMel(FrontEndConfig(), RATE_HZ), torch.from_numpy(noise(3200)).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(front_end(audio), front_end(audio.clone()))
        found = front_end(audio)
    assert torch.equal(found, front_end(audio))


def test_each_example_has_its_own_range_of_frequencies():
    """Each spectrogram is that of some whole numbers of Hz within the jitter, and they differ."""
    front_end = KaldiLogMel(FrontEndConfig(bands=32), RATE_HZ)
    audio = noise(3200)
    augmentation = Augmentation(**PLAIN | {"low_jitter_hz": 3, "high_jitter_hz": 2})
    torch.manual_seed(0)
    found = front_end(torch.from_numpy(np.repeat(audio, 12, axis=0)).float(), augmentation)
    known = {
        (low, down): by_hand(audio[0], RATE_HZ, 32, low, RATE_HZ / 2 - down) for low in range(3) for down in range(2)
    }
    ranges = {min(known, key=lambda key: np.abs(known[key] - each.numpy()).max()) for each in found}
    assert len(ranges) > 3
    for each in found:
        assert min(np.abs(values - each.numpy()).max() for values in known.values()) < 2e-3


def test_masks_are_one_run_of_bands_and_one_of_frames_in_each_example():
    augmentation = Augmentation(**PLAIN | {"band_mask": 48, "frame_mask": 192})
    torch.manual_seed(0)
    found = masked(torch.full((40, 128, 1000), -5.0), augmentation).numpy() == 0
    bands, frames = found.all(axis=2), found.all(axis=1)
    for rows, most in ((bands, 48), (frames, 192)):
        widths = rows.sum(axis=1)
        assert widths.max() < most
        assert len(set(widths.tolist())) > 10
        assert (np.abs(np.diff(rows.astype(int), axis=1, prepend=0, append=0)).sum(axis=1) <= 2).all()
    np.testing.assert_array_equal(found, bands[:, :, None] | frames[:, None, :])


def test_what_is_masked_is_louder_than_silence():
    front_end = KaldiLogMel(FrontEndConfig(), 32_000)
    augmentation = Augmentation(**PLAIN | {"band_mask": 128})
    torch.manual_seed(0)
    found = front_end(torch.zeros(8, 32_000), augmentation)
    assert found.max().item() == pytest.approx(NORMALISED_ZERO)
    assert found.min().item() == pytest.approx((math.log(1e-5) + 3.7) / 3.1)


def test_without_variation_it_hears_as_in_evaluation():
    front_end, audio = KaldiLogMel(FrontEndConfig(), RATE_HZ), torch.from_numpy(noise(3200, 3)).float()
    assert torch.equal(front_end(audio, Augmentation(**PLAIN)), front_end(audio))
