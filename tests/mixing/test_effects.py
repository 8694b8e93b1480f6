"""Our transforms do what audiomentations' own ones do, in fewer passes; and they are transforms in its form."""

import json
import random
import re
from functools import cache

import audiomentations
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.stretch_quality import RATE_HZ, WAYS, onset_errors_ms, pitch_errors_cents, stems
from timbrel.mixing import vocoder
from timbrel.mixing.effects import (
    MOST_GAIN_DB,
    FastPitchTime,
    Filters,
    Level,
    PitchTime,
    apply_frozen,
    level_db,
    named_transform,
    seeded,
)

NOISE = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
STOCK = {
    "gain": audiomentations.Gain,
    "low_shelf": audiomentations.LowShelfFilter,
    "high_shelf": audiomentations.HighShelfFilter,
    "peaking": audiomentations.PeakingFilter,
}
STEMS = stems()
CHANGES = [(4.0, 1.0), (-4.0, 1.0), (1.0, 1.0), (0.0, 0.8), (0.0, 1.25), (-3.0, 1.1)]


@cache
def truth(name, semitones=0.0, rate=1.0):
    """A stem as it must sound."""
    return STEMS[name].sound(2 ** (semitones / 12), rate)


def tone(frequency_hz, seconds=4.0, rate_hz=RATE_HZ):
    return (0.3 * np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def rms(samples):
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


# Gain and filters


filters = st.tuples(
    st.sampled_from(["low_shelf", "high_shelf", "peaking"]),
    st.fixed_dictionaries(
        {"center_freq": st.floats(50, 7500), "gain_db": st.floats(-18, 18), "q_factor": st.floats(0.1, 0.999)}
    ),
)
gains = st.tuples(st.just("gain"), st.fixed_dictionaries({"amplitude_ratio": st.floats(0.1, 4)}))


@settings(max_examples=60)
@given(effects=st.lists(filters | gains, min_size=1, max_size=7), rate_hz=st.sampled_from([16_000, 32_000, 44_100]))
def test_one_pass_is_the_stock_transforms_one_after_the_other(effects, rate_hz):
    expected = NOISE
    for name, parameters in effects:
        expected = apply_frozen(STOCK[name](p=1), expected, rate_hz, **parameters)
    got = apply_frozen(Filters(p=1), NOISE, rate_hz, effects=effects)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-5 * max(1, np.abs(expected).max()))


def test_filters_leave_their_input_alone_and_treat_channels_apart():
    effects = [("low_shelf", {"center_freq": 300.0, "gain_db": 6.0, "q_factor": 0.7})]
    before = NOISE.copy()
    both = apply_frozen(Filters(p=1), np.stack([NOISE, -2 * NOISE]), RATE_HZ, effects=effects)
    np.testing.assert_array_equal(NOISE, before)
    one = apply_frozen(Filters(p=1), NOISE, RATE_HZ, effects=effects)
    np.testing.assert_allclose(both, [one, -2 * one], atol=1e-6)


def test_gains_add_up_in_db():
    for first_db, second_db in ((-6, 3), (4, 4)):
        effects = [("gain", {"amplitude_ratio": 10 ** (value / 20)}) for value in (first_db, second_db)]
        got = apply_frozen(Filters(p=1), NOISE, RATE_HZ, effects=effects)
        assert 20 * np.log10(rms(got) / rms(NOISE)) == pytest.approx(first_db + second_db, abs=1e-4)


def test_what_is_loud_is_not_clipped():
    got = apply_frozen(Filters(p=1), 0.9 * np.sign(NOISE), RATE_HZ, effects=[("gain", {"amplitude_ratio": 4.0})])
    np.testing.assert_allclose(np.abs(got), 3.6, rtol=1e-6)


# Pitch and speed


@pytest.mark.parametrize("semitones", [-4.0, 1.5, 4.0])
def test_exact_pitch_is_that_of_the_stock_transform(semitones):
    expected = apply_frozen(audiomentations.PitchShift(p=1), NOISE, 16_000, num_semitones=semitones)
    got = apply_frozen(PitchTime(p=1), NOISE, 16_000, semitones=semitones, rate=1.0)
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("rate", [0.8, 1.25])
def test_exact_speed_is_that_of_the_stock_transform(rate):
    kind = audiomentations.TimeStretch(leave_length_unchanged=False, p=1)
    expected = apply_frozen(kind, NOISE, 16_000, rate=rate)
    got = apply_frozen(PitchTime(p=1), NOISE, 16_000, semitones=0.0, rate=rate)
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("way", ["exact", "fast"])
@pytest.mark.parametrize(("semitones", "rate"), CHANGES)
def test_pitch_is_as_near_to_what_was_asked_as_the_stock_transforms_come(way, semitones, rate):
    ours, stock = (
        np.abs(pitch_errors_cents(WAYS[name](truth("melody"), semitones, rate), STEMS["melody"], semitones, rate))
        for name in (way, "stock")
    )
    assert ours.mean() < stock.mean() + 5


@pytest.mark.parametrize(("way", "most_ms"), [("exact", 5), ("fast", 6)])
@pytest.mark.parametrize(("semitones", "rate"), CHANGES)
def test_onsets_are_where_they_belong(way, most_ms, semitones, rate):
    changed = WAYS[way](truth("percussive"), semitones, rate)
    errors = onset_errors_ms(changed, STEMS["percussive"], truth("percussive", semitones, rate), rate)
    assert np.abs(errors).max() < most_ms


@pytest.mark.parametrize("kind", [PitchTime, FastPitchTime])
def test_no_level_is_lost_and_no_direct_current_added(kind):
    for semitones, rate in CHANGES:
        got = apply_frozen(kind(p=1), tone(440), RATE_HZ, semitones=semitones, rate=rate)
        assert abs(len(got) - 4 * RATE_HZ / rate) <= 1
        middle = got[len(got) // 4 : -len(got) // 4]
        assert rms(middle) == pytest.approx(rms(tone(440)), rel=0.05)
        assert abs(middle.mean()) < 1e-3


@pytest.mark.parametrize("kind", [PitchTime, FastPitchTime])
def test_stereo_stays_stereo(kind):
    both = np.stack([tone(330), np.zeros(4 * RATE_HZ, dtype=np.float32)])
    got = apply_frozen(kind(p=1), both, RATE_HZ, semitones=1.0, rate=0.9)
    assert got.shape == (2, got.shape[1])
    assert rms(got[0]) > 0.15
    assert rms(got[1]) < 1e-3


def test_the_vocoder_gives_back_what_it_need_not_change():
    got = vocoder.stretch(NOISE, 16_000, 0.0, 1.0, len(NOISE))
    np.testing.assert_allclose(got, NOISE, atol=1e-5)


@pytest.mark.parametrize("samples", [0, 1, 100, 5000])
@pytest.mark.parametrize("length", [0, 1, 3000])
def test_the_vocoder_takes_any_length(samples, length):
    got = vocoder.stretch(NOISE[:length], 16_000, 2.0, 0.9, samples)
    assert got.shape == (samples,)
    assert np.isfinite(got).all()


@given(semitones=st.floats(-24, 24), rate_hz=st.sampled_from([8000, 16_000, 32_000, 44_100]))
def test_frames_have_the_ratio_that_was_asked_for(semitones, rate_hz):
    base = round(vocoder.FRAME_S * rate_hz)
    read, written = vocoder._lengths(base, 2 ** (semitones / 12))
    assert read % vocoder.OVERLAP == written % vocoder.OVERLAP == 0
    # The lower the rate, the fewer lengths there are.
    most_cents = {8000: 5.0, 16_000: 3.2}.get(rate_hz, 2.5)
    if abs(semitones) <= 12:
        assert abs(1200 * np.log2(read / written) - 100 * semitones) < most_cents


# Level


@pytest.mark.parametrize("wanted_db", [-40.0, -24.0])
def test_a_level_is_reached_where_the_stem_sounds(wanted_db):
    sounding = np.concatenate([tone(440, 1.0), np.zeros(3 * RATE_HZ, dtype=np.float32)])
    for audio in (sounding, tone(440), np.stack([sounding, sounding])):
        got = apply_frozen(Level(p=1), audio, RATE_HZ, level_db=wanted_db)
        assert level_db(got, RATE_HZ) == pytest.approx(wanted_db, abs=0.01)
    assert 20 * np.log10(rms(got[0, :RATE_HZ])) == pytest.approx(wanted_db, abs=0.01)


def test_next_to_nothing_is_not_raised_to_music():
    got = apply_frozen(Level(p=1), 1e-4 * NOISE, 16_000, level_db=-20.0)
    assert 20 * np.log10(rms(got) / rms(1e-4 * NOISE)) == pytest.approx(MOST_GAIN_DB, abs=1e-3)
    silence = np.zeros(1000, dtype=np.float32)
    np.testing.assert_array_equal(apply_frozen(Level(p=1), silence, 16_000, level_db=-20.0), silence)


# As transforms


@pytest.mark.parametrize("kind", [PitchTime, FastPitchTime, Level])
def test_ours_can_be_used_where_theirs_can(kind):
    chain = audiomentations.Compose([kind(p=1.0), audiomentations.Gain(p=1.0)])
    with seeded(3):
        first = chain(NOISE, sample_rate=16_000)
        drawn = json.dumps(chain.transforms[0].serialize_parameters())
    with seeded(3):
        np.testing.assert_array_equal(chain(NOISE, sample_rate=16_000), first)
    assert json.loads(drawn)["should_apply"] is True
    assert len(json.loads(drawn)) > 1
    assert kind.__name__ in repr(chain.transforms[0])


def test_a_seed_is_taken_back():
    random.seed(5)
    np.random.seed(5)
    expected = random.random(), np.random.random()
    random.seed(5)
    np.random.seed(5)
    with seeded(1):
        random.random()
        np.random.random()
    assert (random.random(), np.random.random()) == expected


def test_transforms_are_found_by_name():
    transform, probability = named_transform("AddGaussianSNR(min_snr_db=5, max_snr_db=10, p=0.3)")
    assert isinstance(transform, audiomentations.AddGaussianSNR)
    assert (transform.min_snr_db, transform.p, probability) == (5, 1.0, 0.3)
    assert named_transform("Normalize")[1] == 0.5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("NoSuch()", "no waveform transform 'NoSuch'"),
        ("Compose()", "no waveform transform 'Compose'"),
        ("__import__('os')", "is not of the form"),
        ("Gain(5)", "is not of the form"),
        ("Gain(min_gain_db=open('x'))", "is not of the form"),
        ("Gain(", "is not of the form"),
        ("Gain(p=2)", "p must be between 0 and 1"),
        ("Gain(colour=3)", "audiomentations refuses"),
        ("Gain(min_gain_db=5, max_gain_db=1)", "audiomentations refuses"),
    ],
)
def test_other_texts_are_refused(text, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        named_transform(text)
