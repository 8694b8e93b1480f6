"""Rendering: a plan becomes sound, and every effect is audiomentations' own."""

import dataclasses
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import audiomentations
import numpy as np
import pyarrow as pa
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from timbrel.errors import UserError
from timbrel.mixing.index import StemIndex
from timbrel.mixing.plan import EffectPlan, MixturePlan, SourcePlan, mixture_labels, plan_mixture
from timbrel.mixing.recipe import Recipe
from timbrel.mixing.render import apply_effects, render_example, render_source

RATE_HZ = 16_000
RECIPE = Recipe(sample_rate=RATE_HZ, seconds=1.0)
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * RATE_HZ).astype(np.float32)
CHUNK = NOISE[:RATE_HZ]


def make_index(root, *stems):
    """An index of stems given as (file name, sample rate)."""
    infos = [soundfile.info(root / name) for name, _ in stems]
    count = len(stems)
    return StemIndex(
        root=str(root),
        datasets=("d",),
        songs=pa.array(["song"]),
        dataset_songs=np.array([0, 1]),
        song_stems=np.array([0, count]),
        paths=pa.array([name for name, _ in stems]),
        names=pa.array(["piano"] * count),
        sample_rates=np.array([rate for _, rate in stems], dtype=np.int32),
        frames=np.array([info.frames for info in infos]),
        labels=np.ones((count, 1), dtype=bool),
        active_rows=np.arange(count + 1),
        active=np.array([(0, 100)] * count, dtype=np.float32),
    )


@pytest.fixture
def stored(tmp_path):
    """Store samples as a library file of its own and return the index that knows it."""

    def store(samples, rate_hz=RATE_HZ, subtype="PCM_16"):
        soundfile.write(tmp_path / "stem.wav", samples, rate_hz, subtype=subtype)
        return make_index(tmp_path, ("stem.wav", rate_hz))

    return store


def source(start_s=0.0, seconds=1.0, *effects, stem=0):
    return SourcePlan(stem, start_s, seconds, effects)


def mixture(*sources):
    return MixturePlan(0, False, sources)


def render_mixture(plan, index, recipe):
    audio, *_ = render_example(plan, index, recipe)
    return audio


def tone(frequency_hz, rate_hz, seconds=3.0):
    return 0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * rate_hz)) / rate_hz)


def rms(samples):
    return float(np.sqrt(np.mean(np.square(samples))))


# Labels


def test_a_source_that_is_digital_silence_has_no_label(stored):
    """Its activity may say otherwise: it is smoothed over time."""
    index = stored(np.concatenate([np.zeros(2 * RATE_HZ), NOISE[:RATE_HZ]]))
    for start_s, label in ((0.0, 0), (0.99, 0), (1.01, 1), (2.0, 1)):
        _, labels, _ = render_example(mixture(source(start_s)), index, RECIPE)
        assert labels.tolist() == [label], start_s
    _, labels, _ = render_example(mixture(source(0.0), source(2.0)), index, RECIPE)
    assert labels.tolist() == [1]


def test_the_labels_of_what_is_heard_are_those_of_the_plan(tone_index, short_recipe):
    heard = 0
    for number in range(40):
        plan = plan_mixture(tone_index, short_recipe, 0, "train", number)
        _, labels, _ = render_example(plan, tone_index, short_recipe)
        np.testing.assert_array_equal(labels, mixture_labels(plan, tone_index, short_recipe))
        heard += labels.sum()
    assert heard > 40


# Without effects


@pytest.mark.parametrize(("subtype", "tolerance"), [("PCM_16", 1e-4), ("FLOAT", 0)])
@pytest.mark.parametrize("start_s", [0.0, 0.5, 1.99, 1 / 3])
def test_one_stem_is_the_stem(stored, subtype, tolerance, start_s):
    got = render_mixture(mixture(source(start_s)), stored(NOISE, subtype=subtype), RECIPE)
    assert got.dtype == np.float32
    first = round(start_s * RATE_HZ)
    np.testing.assert_allclose(got, NOISE[first : first + RATE_HZ], atol=tolerance)


def test_past_the_end_is_silence(stored):
    index = stored(NOISE)
    got = render_mixture(mixture(source(2.25)), index, RECIPE)
    np.testing.assert_allclose(got[: 3 * RATE_HZ // 4], NOISE[9 * RATE_HZ // 4 :], atol=1e-4)
    assert not got[3 * RATE_HZ // 4 :].any()
    assert not render_mixture(mixture(source(7.0)), index, RECIPE).any()
    short = render_mixture(mixture(source()), stored(NOISE[:10]), RECIPE)
    assert len(short) == RATE_HZ
    assert not short[10:].any()


@pytest.mark.parametrize(("stored_hz", "length"), [(44_100, 3.0), (44_100, 0.001), (22_050, 0.3)])
def test_past_the_end_is_silence_where_the_rate_differs(stored, stored_hz, length):
    index = stored(np.full(round(length * stored_hz), 0.5), stored_hz)
    for start_s in (0.0, length / 2, length, 9.0):
        got = render_mixture(mixture(source(start_s)), index, RECIPE)
        assert got.shape == (RATE_HZ,)
        past = got[round((length - start_s + 0.01) * RATE_HZ) if start_s < length else 100 :]
        assert np.abs(past).max(initial=0) < 1e-6 or length > 2


def test_channels_are_averaged(stored):
    stereo = np.stack([NOISE, NOISE[::-1] / 2], axis=1)
    got = render_mixture(mixture(source()), stored(stereo), RECIPE)
    np.testing.assert_allclose(got, stereo.mean(axis=1)[:RATE_HZ], atol=1e-4)


def test_a_mixture_is_the_sum_of_its_sources_in_any_order(tone_index, short_recipe):
    shuffler = random.Random(0)
    for number in range(20):
        plan = plan_mixture(tone_index, short_recipe, 0, "train", number)
        whole = render_mixture(plan, tone_index, short_recipe)
        parts = [render_source(part, tone_index, short_recipe) for part in plan.sources]
        np.testing.assert_allclose(whole, np.sum(parts, axis=0), atol=1e-6)
        shuffled = list(plan.sources)
        shuffler.shuffle(shuffled)
        other = MixturePlan(number, plan.musical, tuple(shuffled))
        np.testing.assert_allclose(render_mixture(other, tone_index, short_recipe), whole, atol=1e-6)


def test_the_sum_is_not_clipped(stored):
    index = stored(np.full(RATE_HZ, 0.9))
    np.testing.assert_allclose(render_mixture(mixture(source(), source()), index, RECIPE), 1.8, atol=1e-4)


# Other rates


@pytest.mark.parametrize(("stored_hz", "wanted_hz"), [(44_100, 32_000), (16_000, 32_000), (48_000, 16_000)])
@pytest.mark.parametrize("start_s", [0.0, 1.234])
def test_resampling_keeps_pitch_and_level(stored, stored_hz, wanted_hz, start_s):
    index = stored(tone(1000, stored_hz), stored_hz)
    got = render_mixture(mixture(source(start_s)), index, Recipe(sample_rate=wanted_hz, seconds=1.0))
    spectrum = np.abs(np.fft.rfft(got)) / (wanted_hz / 2)
    assert np.argmax(spectrum) == 1000
    assert spectrum[1000] == pytest.approx(0.5, rel=1e-3)
    # No ringing at the borders, and no shift in time but the rounding to a stored sample.
    first_s = round(start_s * stored_hz) / stored_hz
    expected = 0.5 * np.sin(2 * np.pi * 1000 * (first_s + np.arange(wanted_hz) / wanted_hz))
    inner = slice(100 if start_s == 0 else 0, None)
    np.testing.assert_allclose(got[inner], expected[inner], atol=2e-3)


def test_what_the_new_rate_cannot_hold_is_gone(stored):
    index = stored(tone(12_000, 44_100), 44_100)
    assert rms(render_mixture(mixture(source(1.0)), index, RECIPE)) < 1e-3


def test_a_chunk_is_that_of_the_song_resampled_as_a_whole(stored):
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, 3 * 44_100)
    index, whole = stored(noise, 44_100), soxr.resample(noise, 44_100, 32_000)
    got = render_mixture(mixture(source(1.0)), index, Recipe(sample_rate=32_000, seconds=1.0))
    np.testing.assert_allclose(got, whole[32_000:64_000], atol=1e-3)


@pytest.mark.parametrize("start_s", [0.0, 0.01, 0.7, 0.777])
def test_stems_of_different_rates_stay_together(tmp_path, start_s):
    for rate_hz in (44_100, 32_000):
        click = np.zeros(3 * rate_hz)
        click[round(1.0 * rate_hz)] = 0.9
        soundfile.write(tmp_path / f"{rate_hz}.wav", click, rate_hz)
    index = make_index(tmp_path, ("44100.wav", 44_100), ("32000.wav", 32_000))
    recipe = Recipe(sample_rate=32_000, seconds=2.0)
    first, second = (
        int(np.argmax(np.abs(render_source(source(start_s, 2.0, stem=stem), index, recipe)))) for stem in (0, 1)
    )
    assert abs(first - second) <= 1
    assert abs(second - (1.0 - start_s) * 32_000) <= 1


@pytest.mark.parametrize(("wanted_hz", "seconds"), [(32_000, 4.0), (16_000, 10.0), (44_100, 6.0)])
def test_one_library_serves_several_rates_and_lengths(stored, wanted_hz, seconds):
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, 12 * 44_100)
    index = stored(noise, 44_100)
    whole = soxr.resample(noise, 44_100, wanted_hz) if wanted_hz != 44_100 else noise
    got = render_mixture(mixture(source(1.0, seconds)), index, Recipe(sample_rate=wanted_hz, seconds=seconds))
    assert got.shape == (round(seconds * wanted_hz),)
    np.testing.assert_allclose(got, whole[wanted_hz : wanted_hz + len(got)], atol=1e-3)


@pytest.mark.parametrize("wanted_hz", [RATE_HZ, 22_050])
def test_stereo_is_kept_where_a_task_asks_for_it(stored, wanted_hz):
    left, right = tone(500, RATE_HZ), 0.5 * tone(750, RATE_HZ)
    recipe = Recipe(sample_rate=wanted_hz, seconds=1.0, channels=2)
    index = stored(np.stack([left, right], axis=1))
    got = render_mixture(mixture(source(0.5), source(0.5, 1.0, pitch_time(2.0))), index, recipe)
    assert got.shape == (2, wanted_hz)
    for side, frequency in ((0, 500), (1, 750)):
        spectrum = np.abs(np.fft.rfft(got[side] * np.hanning(wanted_hz)))
        strongest = set(np.argsort(spectrum)[-2:])
        assert strongest & {frequency - 1, frequency, frequency + 1}
        assert spectrum[round(frequency * 2 ** (2 / 12))] > 0.2 * spectrum.max()
        assert spectrum[1250 - frequency] < 0.01 * spectrum.max()
    plain = render_mixture(mixture(source(0.5)), index, dataclasses.replace(recipe, channels=1))
    both = render_mixture(mixture(source(0.5)), index, recipe)
    np.testing.assert_allclose(plain, both.mean(axis=0), atol=1e-6)


def test_mono_stems_sound_on_both_sides(stored):
    got = render_mixture(mixture(source()), stored(NOISE), dataclasses.replace(RECIPE, channels=2))
    np.testing.assert_array_equal(got[0], got[1])
    np.testing.assert_allclose(got[0], CHUNK, atol=1e-4)


# Effects


@pytest.mark.parametrize("gain_db", [-6.0, 0.0, 6.0])
def test_gain_is_in_decibels(stored, gain_db):
    effect = EffectPlan("gain", {"amplitude_ratio": 10 ** (gain_db / 20)})
    index = stored(NOISE)
    plain, louder = (render_mixture(mixture(part), index, RECIPE) for part in (source(), source(0.0, 1.0, effect)))
    assert 20 * np.log10(rms(louder) / rms(plain)) == pytest.approx(gain_db, abs=1e-3)
    twice = render_mixture(mixture(source(0.0, 1.0, effect, effect)), index, RECIPE)
    assert 20 * np.log10(rms(twice) / rms(plain)) == pytest.approx(2 * gain_db, abs=1e-3)


def pitch_time(semitones=0.0, rate=1.0):
    return EffectPlan("pitch_time", {"semitones": semitones, "rate": rate})


def stock(name, parameters):
    """The transform as audiomentations' users make it, with ranges of one value."""
    if name == "gain":
        gain_db = 20 * np.log10(parameters["amplitude_ratio"])
        return audiomentations.Gain(min_gain_db=gain_db, max_gain_db=gain_db, p=1)
    if name == "pitch_time" and parameters["rate"] == 1:
        semitones = parameters["semitones"]
        return audiomentations.PitchShift(min_semitones=semitones, max_semitones=semitones, p=1)
    if name == "pitch_time":
        rate = parameters["rate"]
        return audiomentations.TimeStretch(min_rate=rate, max_rate=rate, leave_length_unchanged=False, p=1)
    kind = {
        "low_shelf": audiomentations.LowShelfFilter,
        "high_shelf": audiomentations.HighShelfFilter,
        "peaking": audiomentations.PeakingFilter,
    }[name]
    centre, gain_db, q = parameters["center_freq"], parameters["gain_db"], parameters["q_factor"]
    return kind(centre, centre, gain_db, gain_db, q, q, p=1)


FILTER = {"center_freq": 1234.0, "gain_db": 4.5, "q_factor": 0.8}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("gain", {"amplitude_ratio": 0.7}),
        ("low_shelf", FILTER),
        ("high_shelf", FILTER),
        ("peaking", FILTER),
        ("pitch_time", {"semitones": -1.5, "rate": 1.0}),
        ("pitch_time", {"semitones": 0.0, "rate": 0.8}),
        ("pitch_time", {"semitones": 0.0, "rate": 1.25}),
    ],
)
def test_effects_are_stock_audiomentations(name, parameters):
    before = CHUNK.copy()
    got = apply_effects((EffectPlan(name, parameters),), CHUNK, RECIPE)
    np.testing.assert_array_equal(CHUNK, before)
    expected = stock(name, parameters)(before.copy(), sample_rate=RATE_HZ)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert not np.array_equal(got[:100], CHUNK[:100])


def test_effects_do_not_leak_into_each_other():
    quiet, loud = (EffectPlan("gain", {"amplitude_ratio": ratio}) for ratio in (0.5, 2.0))
    for effect, ratio in ((quiet, 0.5), (loud, 2.0), (quiet, 0.5)):
        np.testing.assert_allclose(apply_effects((effect,), CHUNK, RECIPE), ratio * CHUNK, rtol=1e-6)


def test_effects_are_applied_in_the_order_of_the_plan(stored):
    index = stored(NOISE)
    shift, shelf = pitch_time(2.0), EffectPlan("low_shelf", FILTER)
    one, other = (
        render_source(source(0.0, 1.0, *effects), index, RECIPE) for effects in ((shift, shelf), (shelf, shift))
    )
    expected = apply_effects((shelf,), render_source(source(0.0, 1.0, shift), index, RECIPE), RECIPE)
    np.testing.assert_allclose(one[1000:], expected[1000:], atol=1e-4)  # the filter starts before the chunk
    assert np.abs(one - other)[1000:].max() > 1e-2


@pytest.mark.parametrize("rate", [0.8, 0.93, 1.0, 1.25])
def test_a_stretched_source_fills_the_mixture(stored, rate):
    index = stored(tone(440, RATE_HZ))
    got = render_source(source(0.3, rate, pitch_time(rate=rate)), index, RECIPE)
    assert got.shape == (RATE_HZ,)
    level = rms(tone(440, RATE_HZ))
    for tenth in np.split(got, 10):
        assert rms(tenth) == pytest.approx(level, rel=0.5)
    assert np.argmax(np.abs(np.fft.rfft(got * np.hanning(RATE_HZ)))) == pytest.approx(440, abs=3)


def test_a_shifted_source_has_another_pitch(stored):
    index = stored(tone(440, RATE_HZ))
    got = render_source(source(0.3, 1.0, pitch_time(2.0)), index, RECIPE)
    assert np.argmax(np.abs(np.fft.rfft(got))) == pytest.approx(440 * 2 ** (2 / 12), abs=3)


@pytest.mark.parametrize("sample_rate", [8000, 12_000, 16_000, 32_000])
def test_mixtures_are_finite_at_any_rate(tone_index, sample_rate):
    recipe = Recipe(sample_rate=sample_rate, seconds=2.0)
    for number in range(60):
        audio = render_mixture(plan_mixture(tone_index, recipe, 0, "train", number), tone_index, recipe)
        assert audio.shape == (2 * sample_rate,)
        assert np.isfinite(audio).all()
        assert np.abs(audio).max() < 100


@pytest.mark.parametrize("stretch", ["exact", "fast"])
@pytest.mark.parametrize(("semitones", "rate"), [(2.0, 1.0), (-2.0, 1.0), (0.0, 0.8), (0.0, 1.25), (1.0, 1.2)])
def test_a_stretched_chunk_neither_fades_nor_clicks_at_its_borders(stored, stretch, semitones, rate):
    index = stored(tone(440, RATE_HZ))
    recipe = dataclasses.replace(RECIPE, stretch=stretch)
    got = render_source(source(0.5, rate, pitch_time(semitones, rate)), index, recipe)
    level = rms(tone(440, RATE_HZ))
    for edge in (got[:320], got[-320:]):
        assert rms(edge) == pytest.approx(level, rel=0.12)
    steps = np.abs(np.diff(got))
    assert max(steps[:100].max(), steps[-100:].max()) < 1.3 * steps[1000:-1000].max()


def test_silence_stays_silence_whatever_is_done_to_it(stored):
    effects = (pitch_time(1.0, 0.9), EffectPlan("low_shelf", FILTER), EffectPlan("level", {"level_db": -20.0}))
    got = render_source(source(0.5, 0.9, *effects), stored(np.zeros(3 * RATE_HZ)), RECIPE)
    np.testing.assert_array_equal(got, np.zeros(RATE_HZ))


# Named transforms


def test_any_transform_can_be_named_in_a_recipe(tone_index, short_recipe):
    texts = ("AddGaussianSNR(min_snr_db=5, max_snr_db=10, p=0.5)", "PitchShift(p=1.0)", "TanhDistortion(p=0.3)")
    recipe = dataclasses.replace(short_recipe, effects=dataclasses.replace(short_recipe.effects, others=texts))
    plans = [plan_mixture(tone_index, recipe, 0, "train", number) for number in range(60)]
    used = {plan.musical: [e.name for s in plan.sources for e in s.effects] for plan in plans}
    assert texts[1] in used[False]
    assert texts[1] not in [name for plan in plans if plan.musical for s in plan.sources for name in dict(s.effects)]
    first = [render_mixture(plan, tone_index, recipe).tobytes() for plan in plans[:20]]
    random.seed(1)
    np.random.seed(1)
    assert [render_mixture(plan, tone_index, recipe).tobytes() for plan in plans[:20]] == first
    plain = [plan_mixture(tone_index, short_recipe, 0, "train", number) for number in range(20)]
    assert [render_mixture(plan, tone_index, short_recipe).tobytes() for plan in plain] != first


def test_a_transform_that_changes_the_shape_is_refused(stored):
    effect = EffectPlan("AdjustDuration(duration_seconds=0.5, p=1.0)", {"seed": 1})
    with pytest.raises(UserError, match=r"mixing\.effects\.others: AdjustDuration.* made shape \(8000,\)"):
        render_source(source(0.0, 1.0, effect), stored(NOISE), RECIPE)


# Determinism


def test_the_same_plan_gives_the_same_bytes(tone_index, short_recipe):
    plans = [plan_mixture(tone_index, short_recipe, 0, "train", number) for number in range(30)]
    first = [render_mixture(plan, tone_index, short_recipe).tobytes() for plan in plans]
    random.seed(1)
    np.random.seed(1)
    again = [render_mixture(plan, tone_index, short_recipe).tobytes() for plan in reversed(plans)]
    assert first == again[::-1]
    state = np.random.get_state()[1].copy()
    render_mixture(plans[0], tone_index, short_recipe)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_opening_many_files_at_once_changes_nothing(tone_index, short_recipe):
    plans = [MixturePlan(0, True, (source(0.1 * stem, 1.0, stem=stem),)) for stem in range(len(tone_index.paths))]
    alone = [render_mixture(plan, tone_index, short_recipe).tobytes() for plan in plans]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda p: render_mixture(p, tone_index, short_recipe).tobytes(), plans)) == alone


@settings(max_examples=30)
@given(number=st.integers(0, 2**50), seed=st.integers(0, 2**31))
def test_any_example_can_be_rendered(tone_index, short_recipe, number, seed):
    audio = render_mixture(plan_mixture(tone_index, short_recipe, seed, "train", number), tone_index, short_recipe)
    assert audio.shape == (short_recipe.samples,)
    assert audio.dtype == np.float32
    assert np.isfinite(audio).all()


# A library that has been damaged


def test_a_missing_file_is_named(stored, tmp_path):
    index = stored(NOISE)
    (tmp_path / "stem.wav").unlink()
    with pytest.raises(UserError, match=r"stem\.wav of the library can't be read .*prepare its data set anew"):
        render_mixture(mixture(source()), index, RECIPE)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"garbage" * 1000])
def test_a_garbled_file_is_named(stored, tmp_path, content):
    index = stored(NOISE)
    (tmp_path / "stem.wav").write_bytes(content)
    with pytest.raises(UserError, match=r"stem\.wav of the library"):
        render_mixture(mixture(source()), index, RECIPE)


def test_a_file_at_another_rate_is_named(stored, tmp_path):
    index = stored(NOISE)
    soundfile.write(tmp_path / "stem.wav", NOISE, 22_050)
    with pytest.raises(UserError, match=r"stem\.wav holds 48000 samples at 22050 Hz"):
        render_mixture(mixture(source()), index, RECIPE)


def test_a_file_with_nan_is_named(stored):
    index = stored(np.where(np.arange(len(NOISE)) == 5, np.nan, NOISE), subtype="FLOAT")
    with pytest.raises(UserError, match=r"stem\.wav of the library holds NaN"):
        render_mixture(mixture(source()), index, RECIPE)


@pytest.mark.parametrize("kept", [0.1, 0.5])
def test_a_truncated_file_is_named(stored, tmp_path, kept):
    index = stored(NOISE)
    content = (tmp_path / "stem.wav").read_bytes()
    (tmp_path / "stem.wav").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match=r"stem\.wav"):
        render_mixture(mixture(source(1.9)), index, RECIPE)


def cut_short(file):
    os.truncate(file, file.stat().st_size // 2)


def overwrite(file):
    with file.open("r+b") as opened:
        opened.write(b"garbage!" * 100)


def replace(file):
    other = file.with_suffix(".new")
    other.write_bytes(b"garbage" * 1000)
    other.rename(file)


def copy_another(file):
    soundfile.write(file, -NOISE, RATE_HZ)


@pytest.mark.parametrize("change", [cut_short, overwrite, replace, copy_another, Path.unlink])
@pytest.mark.parametrize("start_s", [0.0, 1.9])
def test_a_file_that_changes_while_it_is_in_use_is_named(stored, tmp_path, change, start_s):
    index = stored(NOISE)
    render_mixture(mixture(source()), index, RECIPE)
    change(tmp_path / "stem.wav")
    with pytest.raises(UserError, match=r"stem\.wav of the library (was changed while it was in use|can't be read)"):
        render_mixture(mixture(source(start_s)), index, RECIPE)


def test_a_file_that_was_put_back_is_read_anew(stored, tmp_path):
    index = stored(NOISE)
    before = render_mixture(mixture(source()), index, RECIPE)
    cut_short(tmp_path / "stem.wav")
    with pytest.raises(UserError, match="was changed"):
        render_mixture(mixture(source()), index, RECIPE)
    stored(NOISE)
    np.testing.assert_array_equal(render_mixture(mixture(source()), index, RECIPE), before)
