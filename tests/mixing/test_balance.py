"""Balanced classes and drawn levels: what rare and quiet instruments gain, and what stays as it was."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from timbrel.config import with_values
from timbrel.library import Library
from timbrel.mixing.effects import level_db
from timbrel.mixing.index import build_index, with_class_songs
from timbrel.mixing.plan import class_shares, mixture_labels, plan_mixture, sounding_s
from timbrel.mixing.recipe import NO_EFFECTS, Recipe
from timbrel.mixing.render import render_source
from timbrel.taxonomy import CLASSES

UNLIKELY = 1e-4  # Seeds are fixed: a test that passes once passes always.
SAMPLE_RATE = 16_000


@pytest.fixture(scope="module")
def build(tone_library, tiny_config, instrument_task):
    def run(**values):
        config = with_values(tiny_config, {f"mixing.{name}": value for name, value in values.items()})
        return build_index(Library.open(tone_library), "train", instrument_task, config), config.mixing

    return run


def one_class_each(index):
    """The index with every stem counted for its most particular class alone."""
    labels = np.zeros_like(index.labels)
    labels[np.arange(len(labels)), [np.flatnonzero(row)[-1] for row in index.labels]] = True
    return dataclasses.replace(index, labels=labels)


@pytest.mark.parametrize("musical", [0.0, 1.0])
def test_a_class_is_drawn_first_and_each_is_as_likely(build, musical):
    index, recipe = build(class_balance=1.0, p_musical=musical, p_single_source=1.0)
    drawn = [plan_mixture(index, recipe, 0, "train", number).sources[0].stem for number in range(4000)]
    shares = index.labels[drawn].mean(axis=0)
    known = index.known_classes
    assert {CLASSES[number] for number in known} == set(CLASSES) - {
        "voice", "woodwind", "synth", "singer", "electric guitar", "acoustic guitar"
    }  # fmt: skip
    assert (shares[known] >= 0.9 / len(known)).all()
    assert shares[np.setdiff1d(np.arange(len(CLASSES)), known)].sum() == 0


def test_exclusive_classes_come_equally_often(build):
    index, recipe = build(class_balance=1.0, p_musical=0.0)
    index = with_class_songs(one_class_each(index))
    stems = [
        source.stem for number in range(3000) for source in plan_mixture(index, recipe, 0, "train", number).sources
    ]
    counts = index.labels[stems].sum(axis=0)[index.known_classes]
    assert stats.chisquare(counts).pvalue > UNLIKELY, counts


def test_within_a_class_data_sets_songs_and_stems_are_equally_likely(build):
    index, recipe = build(class_balance=1.0, p_musical=0.0)
    label = CLASSES.index("drums")
    stems = [
        source.stem for number in range(2000) for source in plan_mixture(index, recipe, 0, "train", number).sources
    ]
    drums = [stem for stem in stems if index.labels[stem, label]]
    songs = [index.song_of(stem) for stem in drums]
    counts = [songs.count(song) for song in index.songs_with(label)]
    assert stats.chisquare(counts).pvalue > UNLIKELY, counts


def test_the_stem_that_is_sought_is_heard(build):
    index, recipe = build(class_balance=1.0, p_single_source=1.0)
    violin = CLASSES.index("violin")
    seen = 0
    for number in range(2000):
        plan = plan_mixture(index, recipe, 0, "train", number)
        source = plan.sources[0]
        if index.labels[source.stem, violin]:
            seen += 1
            heard = sounding_s(source, index, recipe)
            assert heard > 0
            assert 0 <= source.start_s <= max(0, index.seconds_of(source.stem) - source.seconds)
    assert seen > 100


def test_no_balance_leaves_every_plan_as_it_was(build):
    index, recipe = build()
    balanced, _ = build(class_balance=1.0)
    assert index.class_rows.size == 0
    for number in range(200):
        assert plan_mixture(index, recipe, 0, "train", number) == plan_mixture(balanced, recipe, 0, "train", number)


def test_half_the_balance_lies_between(build):
    violin = CLASSES.index("violin")
    shares = []
    for balance in (0.0, 0.5, 1.0):
        index, recipe = build(class_balance=balance)
        shares.append(class_shares(index, recipe, 0, 3000)[violin])
    assert shares[0] < shares[1] < shares[2]


def test_the_shares_are_those_of_the_labels(build):
    index, recipe = build(class_balance=1.0)
    labels = [mixture_labels(plan_mixture(index, recipe, 3, "train", number), index, recipe) for number in range(100)]
    np.testing.assert_allclose(class_shares(index, recipe, 3, 100), np.mean(labels, axis=0))


# Levels


def test_each_source_is_brought_to_the_level_that_was_drawn(build):
    index, recipe = build(level_db=(-40.0, -24.0), p_musical=0.5)
    plain = dataclasses.replace(recipe, effects=NO_EFFECTS)
    levels = []
    for number in range(150):
        for source in plan_mixture(index, plain, 0, "train", number).sources:
            sounds = sounding_s(source, index, plain) >= plain.active_seconds
            assert [effect.name for effect in source.effects] == (["level"] if sounds else [])
            audio = render_source(source, index, plain)
            if sounds and audio.any():
                wanted = source.effects[0].parameters["level_db"]
                assert level_db(audio, SAMPLE_RATE) == pytest.approx(wanted, abs=0.1)
                levels.append(wanted)
    assert stats.kstest((np.array(levels) + 40) / 16, "uniform").pvalue > UNLIKELY


def test_a_level_comes_before_all_other_effects(build):
    index, recipe = build(level_db=(-30.0, -20.0))
    plans = [plan_mixture(index, recipe, 0, "train", number) for number in range(100)]
    names = [[effect.name for effect in source.effects] for plan in plans for source in plan.sources]
    assert all("level" not in chain[1:] for chain in names)
    assert any(chain[:1] == ["level"] and len(chain) > 1 for chain in names)


@pytest.mark.parametrize("level", [(-20.0,), (-20.0, -30.0), (-30.0, float("nan"))])
def test_impossible_levels_are_refused(level):
    with pytest.raises(ValueError, match="level_db"):
        Recipe(level_db=level)
