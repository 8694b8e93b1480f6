"""Plans: pure functions of (index, recipe, seed, stream, number), with the statistics that the recipe asks for."""

import dataclasses
import random
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from timbrel.mixing.index import StemIndex
from timbrel.mixing.plan import MixturePlan, SourcePlan, mixture_labels, plan_mixture
from timbrel.mixing.recipe import ALL_SOURCES, NO_EFFECTS, Effect, Effects, Recipe
from timbrel.taxonomy import CLASSES, PARENT

PLANS = 20_000
UNLIKELY = 1e-4  # Seeds are fixed: a test that passes once passes always.
EFFECTS = Effects().drawn
RANGES = {"gain": (-6, 6), "pitch_shift": (-2, 2), "time_stretch": (0.8, 1.25)}


def make_index(songs_of=(8, 3, 5), stems_of=(6, 4, 5, 1, 3, 8), seconds=(20.0, 6.0, 3.0), active=None):
    """An index without audio: songs get numbers of stems and lengths in turn; all stems sound throughout."""
    songs = sum(songs_of)
    stems = [stems_of[song % len(stems_of)] for song in range(songs)]
    frames = np.repeat([round(seconds[song % len(seconds)] * 1000) for song in range(songs)], stems)
    total = sum(stems)
    spans = active if active is not None else [[(0.0, 100.0)]] * total
    return StemIndex(
        root="nowhere",
        datasets=tuple("abcdefg"[: len(songs_of)]),
        songs=pa.array([f"song {song}" for song in range(songs)]),
        dataset_songs=np.concatenate([[0], np.cumsum(songs_of)]),
        song_stems=np.concatenate([[0], np.cumsum(stems)]),
        paths=pa.array([f"{stem}.wav" for stem in range(total)]),
        names=pa.array(["piano"] * total),
        sample_rates=np.full(total, 1000, dtype=np.int32),
        frames=frames.astype(np.int64),
        labels=np.eye(total, dtype=bool),
        active_rows=np.concatenate([[0], np.cumsum([len(stem) for stem in spans])]),
        active=np.array([span for stem in spans for span in stem], dtype=np.float32).reshape(-1, 2),
    )


INDEX = make_index()


@pytest.fixture(scope="module")
def plans():
    return [plan_mixture(INDEX, Recipe(), 0, "train", number) for number in range(PLANS)]


def song_of(stem):
    return int(np.searchsorted(INDEX.song_stems, stem, side="right")) - 1


def dataset_of(stem):
    return int(np.searchsorted(INDEX.dataset_songs, song_of(stem), side="right")) - 1


def strengths_of(source):
    """Strength by name of the effects that were applied to a source."""
    strengths = {}
    for name, parameters in source.effects:
        if name == "gain":
            strengths[name] = 20 * np.log10(parameters["amplitude_ratio"])
        elif name == "pitch_time":
            strengths |= {"pitch_shift": parameters["semitones"]} if parameters["semitones"] else {}
            strengths |= {"time_stretch": parameters["rate"]} if parameters["rate"] != 1 else {}
        else:
            strengths[name] = parameters["gain_db"]
    return strengths


def assert_share(hits, of, share):
    assert stats.binomtest(hits, of, share).pvalue > UNLIKELY, f"{hits} of {of}, expected {share:.3f}"


def assert_uniform(values, choices):
    counts = Counter(values)
    assert set(counts) <= set(choices)
    assert stats.chisquare([counts[choice] for choice in choices]).pvalue > UNLIKELY, counts


# Purity


def test_a_plan_depends_on_nothing_but_its_arguments(plans):
    random.seed(1)
    np.random.seed(1)
    for number in (PLANS - 1, 17, 3, 17, 0):
        random.random()
        np.random.random()
        assert plan_mixture(INDEX, Recipe(), 0, "train", number) == plans[number]
    state = np.random.get_state()[1].copy()
    plan_mixture(INDEX, Recipe(), 0, "train", 5)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_seeds_streams_and_numbers_are_independent(plans):
    # A song shorter than the chunk starts at 0; all other starts are 53 random bits.
    starts = [plan.sources[0].start_s for plan in plans if plan.sources[0].start_s]
    assert len(set(starts)) == len(starts) > PLANS / 2
    for seed, stream in ((1, "train"), (0, "valid"), (0, "test")):
        others = {plan_mixture(INDEX, Recipe(), seed, stream, number).sources[0].start_s for number in range(1000)}
        assert not others & set(starts)


def test_another_probability_leaves_the_other_effects_as_they_were(plans):
    effects = dataclasses.replace(Effects(), gain=Effect(p=0, low=-6, high=6))
    recipe = dataclasses.replace(Recipe(), effects=effects)
    for plan in plans[:300]:
        changed = plan_mixture(INDEX, recipe, 0, "train", plan.number)
        assert [(source.stem, source.start_s) for source in changed.sources] == [
            (source.stem, source.start_s) for source in plan.sources
        ]
        for source, other in zip(plan.sources, changed.sources, strict=True):
            assert tuple(effect for effect in source.effects if effect.name != "gain") == other.effects


# Statistics of the paper's recipe


def test_share_of_musical_mixtures(plans):
    assert_share(sum(plan.musical for plan in plans), PLANS, 0.4)


def test_number_of_sources(plans):
    lone = [plan for plan in plans if not plan.musical]
    single = [plan for plan in lone if len(plan.sources) == 1]
    assert_share(len(single), len(lone), 0.2)
    assert_uniform([len(plan.sources) for plan in lone if len(plan.sources) > 1], [2, 3, 4, 5])


def test_musical_mixtures_take_no_more_than_their_song_has(plans):
    musical = [plan for plan in plans if plan.musical]
    sizes = {song: int(INDEX.song_stems[song + 1] - INDEX.song_stems[song]) for song in range(len(INDEX.songs))}
    big = [plan for plan in musical if sizes[song_of(plan.sources[0].stem)] >= 5]
    assert_share(sum(len(plan.sources) == 1 for plan in big), len(big), 0.2)
    assert_uniform([len(plan.sources) for plan in big if len(plan.sources) > 1], [2, 3, 4, 5])
    for plan in musical:
        assert 1 <= len(plan.sources) <= min(5, sizes[song_of(plan.sources[0].stem)])


def test_data_sets_are_equally_likely(plans):
    for musical in (True, False):
        assert_uniform([dataset_of(plan.sources[0].stem) for plan in plans if plan.musical == musical], [0, 1, 2])


def test_songs_of_a_data_set_and_stems_of_a_song_are_equally_likely(plans):
    for musical in (True, False):
        stems = [plan.sources[0].stem for plan in plans if plan.musical == musical]
        assert_uniform([song_of(stem) for stem in stems if dataset_of(stem) == 0], range(8))
        assert_uniform([stem for stem in stems if song_of(stem) == 0], range(6))


def test_a_lone_mixture_draws_from_one_data_set_and_many_songs(plans):
    lone = [plan for plan in plans if not plan.musical and len(plan.sources) > 1]
    assert all(len({dataset_of(source.stem) for source in plan.sources}) == 1 for plan in lone)
    assert np.mean([len({song_of(source.stem) for source in plan.sources}) > 1 for plan in lone]) > 0.8


def test_musical_mixtures_are_one_moment_of_one_song(plans):
    for plan in plans:
        if plan.musical:
            stems = [source.stem for source in plan.sources]
            assert len({song_of(stem) for stem in stems}) == 1
            assert len(set(stems)) == len(stems)
            assert len({source.start_s for source in plan.sources}) == 1
            assert {source.seconds for source in plan.sources} == {4.0}
            names = {effect.name for source in plan.sources for effect in source.effects}
            assert "pitch_time" not in names


@pytest.mark.parametrize("name", EFFECTS)
def test_effects_come_as_often_and_as_strong_as_asked(plans, name):
    effect = getattr(Recipe().effects, name)
    only_lone = name in ("pitch_shift", "time_stretch")
    sources = [source for plan in plans if not (only_lone and plan.musical) for source in plan.sources]
    strengths = np.array([found[name] for source in sources if name in (found := strengths_of(source))])
    assert_share(len(strengths), len(sources), effect.p)
    low, high = RANGES.get(name, (-6, 6))
    assert ((strengths >= low) & (strengths <= high)).all()
    assert stats.kstest((strengths - low) / (high - low), "uniform").pvalue > UNLIKELY


def test_effects_are_independent_and_in_random_order(plans):
    sources = [source for plan in plans if not plan.musical for source in plan.sources]
    used = np.array([[name in found for name in EFFECTS] for source in sources for found in [strengths_of(source)]])
    correlations = np.corrcoef(used.T) - np.eye(len(EFFECTS))
    assert np.abs(correlations).max() < 4 / np.sqrt(len(sources))
    both = [
        [effect.name for effect in source.effects if effect.name in ("gain", "peaking")]
        for source in sources
        if len({effect.name for effect in source.effects} & {"gain", "peaking"}) == 2
    ]
    assert_share(sum(names[0] == "gain" for names in both), len(both), 0.5)


def test_filters_have_audiomentations_ranges(plans):
    ranges = {"low_shelf": (50, 4000, 0.1, 1), "high_shelf": (300, 7500, 0.1, 1), "peaking": (50, 7500, 0.5, 5)}
    seen = {name: [] for name in ranges}
    for plan in plans[:2000]:
        for source in plan.sources:
            for effect in source.effects:
                if effect.name in ranges:
                    low_hz, high_hz, low_q, high_q = ranges[effect.name]
                    assert low_hz <= effect.parameters["center_freq"] <= high_hz
                    assert low_q <= effect.parameters["q_factor"] <= high_q
                    seen[effect.name].append(effect.parameters["center_freq"])
    assert all(np.ptp(centres) > 0.9 * (ranges[name][1] - ranges[name][0]) for name, centres in seen.items())


def test_chunks_lie_within_their_song(plans):
    for plan in plans:
        for source in plan.sources:
            rate = strengths_of(source).get("time_stretch", 1.0)
            assert source.seconds == pytest.approx(4.0 * rate)
            last = INDEX.seconds_of(source.stem) - source.seconds
            assert 0 <= source.start_s <= max(last, 0)


def test_starts_are_uniform(plans):
    shares = [
        source.start_s / (INDEX.seconds_of(source.stem) - source.seconds)
        for plan in plans
        for source in plan.sources[:1]
        if INDEX.seconds_of(source.stem) > source.seconds
    ]
    assert stats.kstest(shares, "uniform").pvalue > UNLIKELY


@given(
    p_musical=st.sampled_from([0.0, 1.0]),
    p_single=st.sampled_from([0.0, 1.0]),
    sources=st.tuples(st.integers(1, 4), st.integers(4, ALL_SOURCES)),
    number=st.integers(0, 2**40),
)
def test_certain_choices(p_musical, p_single, sources, number):
    recipe = Recipe(
        p_musical=p_musical,
        p_single_source=p_single,
        min_sources=sources[0],
        max_sources=min(sources[1], 50 if p_musical == 0 else ALL_SOURCES),
        effects=NO_EFFECTS,
    )
    plan = plan_mixture(INDEX, recipe, 3, "valid", number)
    assert (plan.number, plan.musical) == (number, bool(p_musical))
    assert all(source.effects == () and source.seconds == recipe.seconds for source in plan.sources)
    if p_single:
        assert len(plan.sources) == 1
    elif not p_musical:
        assert sources[0] <= len(plan.sources) <= recipe.max_sources


def test_all_sources_of_a_song():
    recipe = Recipe(p_musical=1, p_single_source=0, min_sources=ALL_SOURCES, max_sources=ALL_SOURCES)
    for number in range(50):
        plan = plan_mixture(INDEX, recipe, 0, "train", number)
        song = song_of(plan.sources[0].stem)
        whole = set(range(INDEX.song_stems[song], INDEX.song_stems[song + 1]))
        assert {source.stem for source in plan.sources} == whole


# Strengths in steps


def stepped(low, high, step):
    """The strengths of many draws of an effect with a step, by the plans of mixtures with nothing else."""
    effect = Effect(p=1.0, low=low, high=high, step=step)
    effects = dataclasses.replace(NO_EFFECTS, pitch_shift=effect)
    recipe = Recipe(p_musical=0.0, p_single_source=1.0, effects=effects)
    plans = [plan_mixture(INDEX, recipe, 0, "train", number) for number in range(3000)]
    return [strengths_of(plan.sources[0]).get("pitch_shift", 0.0) for plan in plans]


@pytest.mark.parametrize(
    ("low", "high", "step", "choices"),
    [
        (-2.0, 2.0, 1.0, [-2.0, -1.0, 0.0, 1.0, 2.0]),
        (-2.9, 2.9, 1.0, [-2.0, -1.0, 0.0, 1.0, 2.0]),
        (-5.0, 7.0, 3.0, [-3.0, 0.0, 3.0, 6.0]),
    ],
)
def test_steps_are_equally_likely(low, high, step, choices):
    found = stepped(low, high, step)
    assert_uniform(found, choices)
    assert set(found) == set(choices)


@pytest.mark.parametrize(("low", "high", "step", "strength"), [(0.6, 1.4, 0.5, 1.0), (3.0, 3.0, 3.0, 3.0)])
def test_one_step_alone(low, high, step, strength):
    assert set(stepped(low, high, step)) == {strength}


@given(
    low=st.floats(-10, 10),
    width=st.floats(0, 10),
    step=st.floats(0.05, 3),
    share=st.floats(0, 1, exclude_max=True),
)
def test_a_strength_is_a_whole_multiple_in_its_range(low, width, step, share):
    try:
        effect = Effect(p=1.0, low=low, high=low + width, step=step)
    except ValueError:
        assert np.floor((low + width) / step + 1e-9) < np.ceil(low / step - 1e-9)
        return
    strength = effect.strength(share)
    assert low <= strength <= low + width
    assert strength / step == pytest.approx(round(strength / step), abs=1e-6)
    assert effect.allows(strength)


def test_steps_that_are_no_binary_fractions():
    """3 * 0.1 is more than 0.3, and 0.3 / 0.1 less than 3."""
    effect = Effect(p=1.0, low=0.1, high=0.3, step=0.1)
    found = [effect.strength(share) for share in (0, 0.34, 0.99)]
    assert found == pytest.approx([0.1, 0.2, 0.3])
    assert max(found) <= 0.3
    assert [effect.allows(value) for value in (0.2, 0.30000000000000004, 0.25)] == [True, True, False]


@pytest.mark.parametrize(
    ("low", "high", "step", "reason"),
    [
        (0.1, 0.9, 1.0, r"no multiple of step \(1\.0\) lies between low \(0\.1\) and high \(0\.9\)"),
        (1.0, 2.0, 5.0, r"no multiple of step \(5\.0\)"),
        (-2.0, float("inf"), 1.0, r"high \(inf\) must be finite multiples of step \(1\.0\)"),
        (-2.0, 2.0, 5e-324, r"must be finite multiples of step \(5e-324\)"),
    ],
)
def test_steps_that_can_not_be_are_refused(low, high, step, reason):
    with pytest.raises(ValueError, match=reason):
        Effect(p=0.5, low=low, high=high, step=step)


def test_without_a_step_strengths_are_what_they_were():
    effect = Effect(p=1.0, low=-2.0, high=3.0)
    shares = np.random.default_rng(0).random(100)
    assert [effect.strength(float(share)) for share in shares] == [-2.0 + 5.0 * float(share) for share in shares]


def test_a_step_leaves_all_else_as_it_was(plans):
    """Another grid of strengths is no reason for other songs, times or effects."""
    effects = dataclasses.replace(Effects(), pitch_shift=Effect(p=0.25, low=-2.0, high=2.0, step=1.0))
    recipe = dataclasses.replace(Recipe(), effects=effects)
    fewer = 0
    for plan in plans[:500]:
        changed = plan_mixture(INDEX, recipe, 0, "train", plan.number)
        for source, other in zip(plan.sources, changed.sources, strict=True):
            before, after = strengths_of(source), strengths_of(other)
            assert (other.stem, other.start_s, other.seconds) == (source.stem, source.start_s, source.seconds)
            fewer += "pitch_shift" in before and "pitch_shift" not in after
            assert after.get("pitch_shift", 0.0) == (
                np.floor((before["pitch_shift"] + 2) / 0.8) - 2 if "pitch_shift" in before else 0.0
            )
            for strengths in (before, after):
                strengths.pop("pitch_shift", None)
            assert before == after
    assert fewer > 20  # by 0 semitones: no effect


# Labels


def labels_of(*sources, active, recipe=Recipe()):  # noqa: B008  frozen
    index = make_index((1,), (len(active),), active=active)
    return mixture_labels(MixturePlan(0, False, sources), index, recipe).tolist()


def test_labels_follow_activity():
    active = [[(1.0, 3.0)], [], [(0.0, 1.05), (4.95, 9.0)]]
    at = {stem: SourcePlan(stem, 1.0, 4.0, ()) for stem in range(3)}
    assert labels_of(at[0], at[1], active=active) == [1, 0, 0]
    assert labels_of(at[1], active=active) == [0, 0, 0]
    # 0.05 s at either end of the chunk make the 0.1 s that count.
    assert labels_of(at[2], active=active, recipe=Recipe(active_seconds=0.099)) == [0, 0, 1]
    assert labels_of(at[2], active=active, recipe=Recipe(active_seconds=0.101)) == [0, 0, 0]
    assert labels_of(SourcePlan(0, 3.0, 4.0, ()), active=active) == [0, 0, 0]
    assert labels_of(SourcePlan(0, 2.8, 4.0, ()), SourcePlan(2, 0.0, 4.0, ()), active=active) == [1, 0, 1]


def test_a_stretched_source_sounds_as_long_as_it_is_heard():
    active = [[(1.0, 1.11)]]
    for seconds, heard in ((4.0, 1), (4.0 * 1.25, 0), (4.0 * 0.8, 1)):
        assert labels_of(SourcePlan(0, 0.0, seconds, ()), active=active) == [heard]


def test_labels_are_float32_of_the_shape_of_the_classes(tone_index, short_recipe):
    for number in range(200):
        plan = plan_mixture(tone_index, short_recipe, 0, "train", number)
        labels = mixture_labels(plan, tone_index, short_recipe)
        assert labels.dtype == np.float32
        assert labels.shape == (len(CLASSES),)
        assert set(labels) <= {0, 1}


def test_an_instrument_switches_on_its_family(tone_index, short_recipe):
    rows = np.array(
        [
            mixture_labels(plan_mixture(tone_index, short_recipe, 0, "train", number), tone_index, short_recipe)
            for number in range(300)
        ]
    )
    for instrument, family in PARENT.items():
        assert (rows[:, CLASSES.index(instrument)] <= rows[:, CLASSES.index(family)]).all()
    heard = {name for name, share in zip(CLASSES, rows.mean(axis=0), strict=True) if share}
    # The electric bass of every second song is silent throughout.
    assert heard == {"key", "piano", "bowed string", "violin", "percussion", "drums", "brass"}


def test_a_violin_that_pauses_is_no_violin(tone_index, short_recipe):
    violin = tone_index.names.to_pylist().index("violin")
    for start_s, heard in ((1.2, 1), (2.9, 0), (0.0, 1)):
        plan = MixturePlan(0, False, (SourcePlan(violin, start_s, 1.0, ()),))
        assert mixture_labels(plan, tone_index, short_recipe)[CLASSES.index("violin")] == heard
