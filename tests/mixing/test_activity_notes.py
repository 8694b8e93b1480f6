"""Where no notes are known, makers are told when stems sound: moved, cut and given to classes as notes are."""

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from timbrel import registry
from timbrel.config import with_values
from timbrel.library import Library
from timbrel.mixing.examples import RollExamples
from timbrel.mixing.index import StemIndex, build_index
from timbrel.mixing.notes import NO_PITCH, Notes, activity_notes
from timbrel.mixing.plan import EffectPlan, SourcePlan
from timbrel.mixing.pool import Stream, mix
from timbrel.mixing.recipe import Recipe
from timbrel.mixing.rolls import RollGrid, pianoroll

RECIPE = Recipe(sample_rate=16_000, seconds=4.0)
GRID = RollGrid(hop_s=0.1, fine_frames=40, lowest=40, pitches=5)
TASK = registry.load("task", "multi_instrument")
PIANO, VIOLIN, DRUMS = (TASK.classes(TASK.config_type()).index(name) for name in ("piano", "violin", "drums"))


def index_of(stems, classes=3):
    """Return as much of an index as activity needs: for each stem, its classes and the intervals in which it sounds."""
    labels = np.zeros((len(stems), classes), dtype=bool)
    for row, (own, _) in enumerate(stems):
        labels[row, own] = True
    active = [np.array(intervals, dtype=np.float32).reshape(-1, 2) for _, intervals in stems]
    blank = dict.fromkeys(field.name for field in dataclasses.fields(StemIndex))
    rows = np.append(0, np.cumsum([len(each) for each in active]))
    return StemIndex(**{**blank, "labels": labels, "active": np.concatenate(active), "active_rows": rows})


def source(stem=0, start_s=0.0, rate=1.0, semitones=0.0):
    effects = (EffectPlan("pitch_time", {"semitones": semitones, "rate": rate}),)
    return SourcePlan(stem, start_s, RECIPE.seconds * rate, effects if (semitones, rate) != (0, 1) else ())


def heard(index, *sources):
    notes = activity_notes(sources, index, RECIPE)
    assert (notes.pitches == NO_PITCH).all()
    return list(zip(*np.round(notes.times.T, 4).tolist(), notes.classes.tolist(), strict=True))


def test_activity_starts_where_the_mixture_does():
    index = index_of([([1], [(1.0, 2.0), (5.0, 9.0)])])
    assert heard(index, source()) == [(1, 2, 1)]
    assert heard(index, source(start_s=1.5)) == [(0, 0.5, 1), (3.5, 4, 1)]
    assert heard(index, source(start_s=9.0)) == []


def test_activity_is_stretched_and_not_shifted():
    index = index_of([([1], [(1.0, 2.0), (5.0, 9.0)])])
    assert heard(index, source(rate=2.0, semitones=3.0)) == [(0.5, 1, 1), (2.5, 4, 1)]


def test_a_stem_counts_for_all_of_its_classes_and_one_of_none_for_nothing():
    index = index_of([([0, 2], [(0.0, 1.0), (2.0, 3.0)]), ([], [(0.0, 4.0)])])
    assert heard(index, source(0), source(1)) == [(0, 1, 0), (0, 1, 2), (2, 3, 0), (2, 3, 2)]


def test_two_stems_of_a_class_are_one_where_they_overlap():
    index = index_of([([1], [(0.0, 1.0)]), ([1], [(0.5, 1.5), (3.0, 3.5)])])
    notes = activity_notes([source(0), source(1)], index, RECIPE)
    maker = RollExamples(classes=3, grid=GRID, sample_rate=16_000, samples=64_000, cqt=None, pitched=False)
    roll = maker(np.zeros((1, 64_000), dtype=np.float32), [notes])["roll"][0]
    assert roll.shape == (3, 5, 40)
    assert not roll[:, 1:].any()  # at the lowest pitch alone
    np.testing.assert_array_equal(np.flatnonzero(roll[1, 0]), [*range(15), *range(30, 35)])
    assert not roll[[0, 2]].any()
    assert not pianoroll(notes, 3, GRID).any()  # they have no place in a roll of pitches


@given(
    st.lists(
        st.tuples(st.integers(0, 39), st.integers(1, 20), st.integers(-3, 130), st.integers(0, 2)),
        min_size=1,
        max_size=12,
    )
)
def test_an_unpitched_roll_is_the_instrument_roll_of_the_same_notes(rows):
    """On a grid of all pitches that the notes have, so that none is lost."""
    onset, length, pitch, label = np.array(rows).T
    notes = Notes(np.stack([onset, np.minimum(onset + length, 40)], axis=1) / 10, pitch, label)
    wide = RollGrid(hop_s=0.1, fine_frames=40, pool=2, lowest=-3, pitches=134)
    shared = {"classes": 3, "grid": wide, "sample_rate": 16_000, "samples": 10, "cqt": None}
    audio = np.zeros((1, 10), dtype=np.float32)
    pitched, unpitched = (RollExamples(**shared, pitched=each)(audio, [notes])["roll"][0] for each in (True, False))
    np.testing.assert_array_equal(unpitched[:, 0], pitched.any(axis=1))
    assert not unpitched[:, 1:].any()


def test_no_sources_have_no_activity():
    notes = activity_notes([], index_of([([1], [(0.0, 1.0)])]), RECIPE)
    assert [values.shape for values in notes] == [(0, 2), (0,), (0,)]


def test_makers_of_a_task_without_notes_are_given_activity(tone_library):
    """The violins of the library sound from 1 to 2.5 s, the pianos throughout."""
    config = with_values(TASK.config_type(), {"data.datasets": "tones"})
    index = build_index(Library.open(tone_library), "train", TASK, config)
    assert not index.has_notes
    recipe = dataclasses.replace(config.mixing, sample_rate=16_000, seconds=4.0, p_musical=1.0, p_single_source=0.0)
    recipe = dataclasses.replace(recipe, min_sources=4, max_sources=4, effects=RECIPE.effects)
    grid = RollGrid(hop_s=0.05, fine_frames=80)
    maker = RollExamples(
        classes=index.labels.shape[1], grid=grid, sample_rate=16_000, samples=64_000, cqt=None, pitched=False
    )
    examples = mix(Stream(index, recipe, 0, "train", maker=maker), index, range(4))
    playing = examples["roll"].any(axis=2)
    assert playing[:, PIANO, 4:-4].all()
    assert playing[:, VIOLIN, 24:46].all()  # activity is smoothed, so it begins and ends some tenths around the sound
    assert not playing[:, VIOLIN, :10].any()
    assert not playing[:, VIOLIN, 62:].any()
    assert playing[:, DRUMS].any(axis=1).all()
