"""The constant-Q transform: what the engines librosa and torch must agree on, and what they refuse."""

import subprocess
import sys
import warnings

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from timbrel.config import with_values
from timbrel.cqt import CqtConfig, check_cqt, cqt_db
from timbrel.errors import UserError
from timbrel.models.cqt import Cqt

RATE_HZ = 16_000
CONFIG = CqtConfig()


def by_torch(audio, sample_rate=RATE_HZ, config=CONFIG):
    with torch.inference_mode():
        pictures = Cqt(config, sample_rate)(torch.from_numpy(np.atleast_2d(audio).astype(np.float32)))
    return pictures.numpy().reshape(*audio.shape[:-1], *pictures.shape[1:])


def by_librosa(audio, sample_rate=RATE_HZ, config=CONFIG):
    return cqt_db(audio, sample_rate, config)


both = pytest.mark.parametrize("picture", [by_librosa, by_torch])


def tone(hz, seconds=1.0, sample_rate=RATE_HZ):
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * sample_rate)) / sample_rate)).astype(np.float32)


@pytest.fixture(scope="module")
def music():
    """Ten seconds of three voices with overtones that begin and decay, ``(sample,)``."""
    generator = np.random.default_rng(0)
    audio = np.zeros(10 * RATE_HZ)
    for low, high, count in [(28, 45, 12), (50, 72, 30), (65, 90, 40)]:
        for onset_s in generator.uniform(0, 9, count):
            hz = 440 * 2 ** ((generator.integers(low, high) - 69) / 12)
            since_s = np.arange(len(audio) - round(onset_s * RATE_HZ)) / RATE_HZ
            for partial in range(1, 9):
                if partial * hz < 7000:
                    sound = np.sin(2 * np.pi * partial * hz * since_s) * np.exp(-since_s * (1 + partial)) / partial
                    audio[-len(since_s) :] += np.minimum(since_s / 0.005, 1) * sound
    noise = generator.normal(scale=1e-4, size=len(audio))
    return (0.5 * audio / np.abs(audio).max() + noise).astype(np.float32)


# What is in a picture


@both
@pytest.mark.parametrize(
    ("samples", "sample_rate", "config", "shape"),
    [
        (160_000, 16_000, CONFIG, (88, 312)),  # the paper's
        (512, 16_000, CONFIG, (88, 1)),
        (1023, 16_000, CONFIG, (88, 1)),
        (16_384, 16_000, CONFIG, (88, 32)),
        (44_100, 44_100, CqtConfig(hop=441, bins=100), (100, 100)),  # halved at most twice: 441 is odd
        (22_050, 22_050, CqtConfig(hop=1024, f_min=110, bins=30, bins_per_octave=24), (30, 21)),
        (8000, 8000, CqtConfig(bins=1, f_min=440), (1, 15)),
    ],
)
def test_shape(picture, samples, sample_rate, config, shape):
    audio = np.random.default_rng(0).normal(scale=0.1, size=samples).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = picture(audio, sample_rate, config)
    assert config.frames(samples) == shape[1]
    assert found.shape == shape
    assert found.dtype == np.float32
    assert found.max() == 1
    assert found.min() >= 0


@both
@pytest.mark.parametrize("key", [0, 12, 39, 48, 60, 87])
def test_a_key_of_the_piano_is_its_bin(picture, key):
    hz = 440 * 2 ** ((key - 48) / 12)  # A4 is the 49th key
    middle = picture(tone(hz, 2.0))[:, 31]
    assert middle.argmax() == key
    # A semitone off a Hann-windowed filter responds 7 to 8 dB less: bins are told apart, and a neighbour is one.
    for neighbour in {max(key - 1, 0), min(key + 1, 87)} - {key}:
        assert -9 < 80 * (middle[neighbour] - middle[key]) < -5


@both
def test_decibels_are_decibels(picture):
    low, high = tone(220, 4.0), tone(880, 4.0)
    middle = picture(low + 0.01 * high)[:, 60]
    # librosa scales by the root of a filter's length, so two octaves up is 6 dB less.
    assert 80 * (middle[60] - middle[36]) == pytest.approx(-40 - 6, abs=0.3)


@both
@given(frame=st.integers(0, 29), hop=st.sampled_from([256, 441, 512]))
@settings(max_examples=12)
def test_a_click_is_in_its_frame(picture, frame, hop):
    audio = np.zeros(30 * hop, dtype=np.float32)
    audio[frame * hop] = 1
    config = CqtConfig(hop=hop, f_min=440, bins=36)
    assert (picture(audio, RATE_HZ, config).argmax(axis=1)[-12:] == frame).all()


@both
def test_a_note_begins_in_its_frame(picture):
    onset = 20 * 512
    audio = tone(880, 2.0) * (np.arange(2 * RATE_HZ) >= onset)
    loudness = picture(audio)[60]
    steady = loudness[30]
    # Half of the filter hears the note, which is 6 dB less.
    assert 80 * (loudness[20] - steady) == pytest.approx(-6, abs=1)
    assert loudness[19] < loudness[20] < loudness[21]
    assert loudness[22:60] == pytest.approx(steady, abs=0.01)


@both
@pytest.mark.parametrize("gain", [1e-4, 0.1, 3.0, 1000.0])
def test_the_level_does_not_show(picture, gain, music):
    np.testing.assert_allclose(picture(music * np.float32(gain)), picture(music), atol=2e-3)


@both
def test_what_is_below_the_floor_is_at_it(picture, music):
    deep, shallow = picture(music), picture(music, config=CqtConfig(floor_db=40))
    np.testing.assert_allclose(shallow, np.maximum(2 * deep - 1, 0), atol=1e-5)


@both
@pytest.mark.parametrize("level", [0, 1e-30, 1e-8])
def test_silence(picture, level):
    assert not picture(level * tone(440)).any()


@both
def test_what_can_be_heard_is_not_silence(picture):
    assert picture(10 ** (-120 / 20) * tone(440))[48].min() > 0.9


@both
def test_one_silent_segment_among_others(picture, music):
    pictures = picture(np.stack([music, np.zeros_like(music), 0.1 * music]))
    assert not pictures[1].any()
    np.testing.assert_allclose(pictures[2], pictures[0], atol=2e-3)


@both
def test_the_same_each_time_alone_and_among_others(picture, music):
    segments = np.stack([music, tone(440, 10.0), music[::-1]])
    pictures = picture(segments)
    assert np.array_equal(picture(segments), pictures)
    for segment, expected in zip(segments, pictures, strict=True):
        np.testing.assert_allclose(picture(segment), expected, atol=1e-5)


# The two engines


def test_it_is_the_plain_recipe_of_librosa(music):
    # Loud, as amplitude_to_db cuts off below 1e-5; a power of two, which float32 does not round.
    magnitude = np.abs(librosa.cqt(128 * music, sr=RATE_HZ, hop_length=512, fmin=27.5, n_bins=88, bins_per_octave=12))
    expected = librosa.amplitude_to_db(magnitude, ref=np.max, top_db=80.0) / 80 + 1
    assert expected.shape == (88, 313)
    np.testing.assert_allclose(cqt_db(music, RATE_HZ, CONFIG), expected[:, :312], atol=1e-6)


def test_the_engines_agree(music):
    ours, theirs = by_torch(music), by_librosa(music)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.99
    loud = theirs > 0.5
    assert np.abs(ours - theirs)[loud].mean() < 0.005


@pytest.mark.parametrize(
    ("sample_rate", "config"),
    [(44_100, CqtConfig(hop=441, bins=96)), (32_000, CqtConfig(hop=1024, bins=160, bins_per_octave=24))],
)
def test_the_engines_agree_in_other_shapes(sample_rate, config, music):
    both_pictures = [engine(music[:64_000], sample_rate, config) for engine in (by_librosa, by_torch)]
    assert np.corrcoef(*(each.ravel() for each in both_pictures))[0, 1] > 0.98


# Refused


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        CqtConfig(bins=1, f_min=3000),
        CqtConfig(bins=120, bins_per_octave=24),
        CqtConfig(bins_per_octave=1, bins=7),
    ],
)
def test_the_highest_bin_is_where_librosa_has_it(config):
    """The least rate is found by our formula; librosa must take it, and refuse a rate that is a little less."""
    rates = range(1000, 12_000)
    least = next(rate for rate in rates if not refused(config, rate))
    cqt_db(tone(440, sample_rate=least), least, config)
    with pytest.raises(librosa.ParameterError, match="Nyquist"):
        librosa.cqt(
            tone(440, sample_rate=least),
            sr=least - 2,
            fmin=config.f_min,
            n_bins=config.bins,
            bins_per_octave=config.bins_per_octave,
        )


def refused(config, sample_rate):
    try:
        check_cqt(config, sample_rate)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize(
    ("values", "sample_rate", "said"),
    [
        ({}, 8000, r"bins=88 .* f_min=27.5 Hz reach 4367 Hz, .* 8000 Hz: lower bins or f_min, .*mixing.sample_rate"),
        ({"bins": 100}, 16_000, "bins=100"),
        ({"f_min": 100.0}, 16_000, "f_min=100"),
        ({"hop": 0}, 16_000, r"hop \(0\) must be above 0"),
        ({"hop": -1}, 16_000, r"hop \(-1\)"),
        ({"bins": 0}, 16_000, r"bins \(0\)"),
        ({"bins_per_octave": 0}, 16_000, r"bins_per_octave \(0\)"),
        ({"floor_db": 0.0}, 16_000, r"floor_db \(0.0\)"),
        ({"floor_db": float("inf")}, 16_000, r"floor_db \(inf\)"),
        ({"f_min": float("nan")}, 16_000, r"f_min \(nan\)"),
    ],
)
def test_what_cannot_be(values, sample_rate, said):
    config = CqtConfig(**values)
    audio = np.zeros(sample_rate, dtype=np.float32)
    for refusing in (
        lambda: check_cqt(config, sample_rate),
        lambda: cqt_db(audio, sample_rate, config),
        lambda: Cqt(config, sample_rate),
    ):
        with pytest.raises(ValueError, match=said):
            refusing()


@both
def test_too_short_for_a_frame(picture):
    with pytest.raises(ValueError, match="511 samples are too few for a frame: hop=512"):
        picture(tone(440)[:511])


@pytest.mark.parametrize(
    ("field", "value"), [("hop", "0"), ("f_min", "5"), ("bins", "0"), ("floor_db", "-1"), ("engine", "nnaudio")]
)
def test_a_config_refuses(field, value):
    with pytest.raises(UserError, match=field):
        with_values(CONFIG, {field: value})


def test_without_torch():
    code = "import sys, timbrel.cqt; sys.exit(any(name in sys.modules for name in ('torch', 'librosa', 'scipy')))"
    subprocess.run([sys.executable, "-c", code], check=True)
