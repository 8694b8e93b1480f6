"""Effects, levels and times in words."""

import pytest

from timbrel.listen.words import clock, dbfs, effect_words, signed


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("gain", {"amplitude_ratio": 10 ** (-3.2 / 20)}, "gain −3.2 dB"),
        ("low_shelf", {"center_freq": 220.4, "gain_db": 4.13, "q_factor": 0.709}, "low shelf 220 Hz, +4.1 dB, Q 0.71"),
        ("peaking", {"center_freq": 99.5, "gain_db": 0.0, "q_factor": 5.0}, "peak filter 100 Hz, 0.0 dB, Q 5.00"),
        ("pitch_time", {"semitones": 1.31, "rate": 1.0}, "pitch +1.3 semitones"),
        ("pitch_time", {"semitones": 0.0, "rate": 0.912}, "speed 0.91×"),
        ("pitch_time", {"semitones": -2.0, "rate": 1.25}, "pitch −2.0 semitones, speed 1.25×"),
        ("level", {"level_db": -12.34}, "level −12.3 dB"),
    ],
)
def test_effects_of_the_recipe(name, parameters, words):
    assert effect_words(name, parameters) == words


def test_any_transform_has_words():
    assert effect_words("AddGaussianSNR(p=0.3)", {"seed": 7, "snr": 12.345}) == "Add Gaussian SNR: snr 12.3"
    assert effect_words("AddShortNoises", {"snr_db": -3.0}) == "Add Short Noises: snr −3 dB"
    assert effect_words("HighPassFilter", {"cutoff_freq": 1000.0}) == "High Pass Filter: cutoff 1000 Hz"
    assert effect_words("TimeMask", {"t0": 3, "fade": True}) == "Time Mask: t0 3, fade True"
    assert effect_words("Reverse", {}) == "Reverse"
    assert effect_words("AddGaussianSNR(min_snr_db=10, p=0.3)", {"seed": 7}) == "Add Gaussian SNR"
    assert effect_words("gain", {"amplitude_ratio": 0.0}) == "gain silence"
    assert effect_words("gain", {"amplitude_ratio": "?"}) == "gain amplitude ratio ?"
    noise = effect_words("AddNoise", {"noise": list(range(1000))})
    assert noise.startswith("Add Noise: noise [")
    assert len(noise) < 90


def test_numbers():
    assert [signed(value, 1) for value in (0.04, -0.04, 1.25, -6.0)] == ["0.0", "0.0", "+1.2", "−6.0"]
    assert [dbfs(value) for value in (None, 0.0, -12.06, 1.2)] == ["silence", "0.0 dBFS", "−12.1 dBFS", "+1.2 dBFS"]
    assert [clock(value) for value in (0.0, 62.349, 59.999, 3600.5)] == ["0:00.00", "1:02.35", "1:00.00", "60:00.50"]
