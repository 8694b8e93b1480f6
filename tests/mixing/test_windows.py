"""Whole songs, cut into windows: each once, none past the end, all stems; in an order of which any part is fair."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from timbrel import registry
from timbrel.config import with_values
from timbrel.errors import UserError
from timbrel.library import Library
from timbrel.mixing.index import StemIndex, build_index, evaluation_index, with_windows
from timbrel.mixing.plan import plan_mixture
from timbrel.mixing.pool import Stream, mix
from timbrel.mixing.recipe import Recipe
from timbrel.settings import evaluation_recipe
from timbrel.training.run import evaluation_key

TASK = registry.load("task", "pianoroll")
PIANO, VIOLIN, DRUMS = 0, 40, 128
RATE_HZ = 1000


def make_index(lengths_s, stems_of):
    """An index without audio of songs of given lengths, with so many stems each."""
    total = sum(stems_of)
    frames = np.repeat(np.round(np.array(lengths_s) * RATE_HZ).astype(np.int64), stems_of)
    return StemIndex(
        root="nowhere",
        datasets=("d",),
        songs=pa.array([f"song {song}" for song in range(len(lengths_s))]),
        dataset_songs=np.array([0, len(lengths_s)]),
        song_stems=np.concatenate([[0], np.cumsum(stems_of)]),
        paths=pa.array([f"{stem}.wav" for stem in range(total)]),
        names=pa.array(["piano"] * total),
        sample_rates=np.full(total, RATE_HZ, dtype=np.int32),
        frames=frames,
        labels=np.ones((total, 1), dtype=bool),
        active_rows=np.arange(total + 1),
        active=np.array([(0, 100)] * total, dtype=np.float32),
    )


def windows_of(index, seconds=10.0, seed=0):
    """Song and start of all examples, in their order, as the plans have them."""
    cut = with_windows(index, seconds, seed)
    plans = [plan_mixture(cut, Recipe(seconds=seconds), 7, "test", number) for number in range(cut.examples(0))]
    for plan in plans:
        song = index.song_of(plan.sources[0].stem)
        assert [source.stem for source in plan.sources] == list(range(*index.song_stems[song : song + 2]))
        assert len({source.start_s for source in plan.sources}) == 1
        assert {source.seconds for source in plan.sources} == {seconds}
        assert all(source.effects == () and source.variant is None for source in plan.sources)
    return [(index.song_of(plan.sources[0].stem), plan.sources[0].start_s) for plan in plans]


def test_windows_by_hand():
    index = make_index([30.0, 9.9, 10.0, 25.0, 0.5], [2, 1, 3, 1, 1])
    expected = [(0, 0.0), (0, 10.0), (0, 20.0), (1, 0.0), (2, 0.0), (3, 0.0), (3, 10.0), (4, 0.0)]
    assert sorted(windows_of(index)) == expected
    assert windows_of(index) != expected  # in random order


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0.01, 100), st.integers(1, 4)), min_size=1, max_size=8),
    st.floats(0.5, 20),
    st.integers(0, 2**40),
)
def test_every_window_of_every_song_once(songs, seconds, seed):
    lengths_s, stems_of = zip(*songs, strict=True)
    index = make_index(lengths_s, stems_of)
    found = windows_of(index, seconds, seed)
    assert set(Counter(found).values()) == {1}
    assert set(found) == set(windows_of(index, seconds, seed + 1))
    for song in range(len(songs)):
        length_s = index.seconds_of(int(index.song_stems[song]))
        starts = sorted(start for at, start in found if at == song)
        np.testing.assert_allclose(starts, seconds * np.arange(len(starts)))
        # All that fit and no more; of a song that is shorter than one, the song.
        assert starts[-1] + seconds <= max(length_s, seconds) + 1e-3
        assert length_s - (starts[-1] + seconds) < seconds


def test_a_length_that_is_a_whole_number_of_windows_but_for_rounding():
    """3 * 0.1 s is a hair less than 300 samples at 1 kHz would have to be."""
    assert len(windows_of(make_index([0.3], [1]), 0.1)) == 3
    assert len(windows_of(make_index([0.7], [1]), 0.1)) == 7


def test_the_first_so_many_are_a_prefix_and_a_fair_sample():
    index = with_windows(make_index([100.0] * 200, [1] * 200), 10.0, 0)
    assert [index.examples(wanted) for wanted in (0, 1, 150, 2000, 2001, 10**6)] == [2000, 1, 150, 2000, 2000, 2000]
    assert len(set(index.window_songs[:150])) > 90  # of 200 songs; one after the other would be 15
    for values, bins in ((index.window_songs[:1000] // 20, 10), (index.window_starts[:1000] / 10, 10)):
        counts = np.bincount(values.astype(int), minlength=bins)
        assert stats.chisquare(counts).pvalue > 1e-3


def test_drawn_examples_are_without_end():
    index = make_index([30.0], [1])
    assert [index.examples(wanted) for wanted in (1, 120, 10**6)] == [1, 120, 10**6]
    assert len(index.window_songs) == 0


# Of a library


@pytest.fixture
def library(note_library):
    notes = tuple((0.5 * i, 0.5 * i + 0.4, 60 + i, 90) for i in range(11))
    low = tuple((on, off, pitch - 24, velocity) for on, off, pitch, velocity in notes)
    songs = {}
    for name in ("train 1", "valid 1", "valid 2", "test 1"):
        songs[name] = [("piano", PIANO, notes), ("violin", VIOLIN, low), ("drums", DRUMS, low)]
    return Library.open(note_library(songs))


def config_of(**values):
    plain = {"mixing.seconds": 1.6, "mixing.sample_rate": 16_000}
    return with_values(TASK.config_type(), {**plain, **{path.replace("__", "."): v for path, v in values.items()}})


def examples_of(library, config, numbers, split="valid"):
    index = evaluation_index(library, split, TASK, config)
    recipe = evaluation_recipe(config)
    return mix(Stream(index, recipe, config.evaluation.seed, split, maker=TASK.example_maker(config)), index, numbers)


def test_windows_join_to_the_song(library):
    """The rolls of a song's windows, one after the other, are the roll of the song."""
    config = config_of()
    index = evaluation_index(library, "valid", TASK, config)
    assert index.examples(config.evaluation.valid_examples) == 6  # two songs of 6 s, the last 1.2 s left out
    examples = examples_of(library, config, range(6))
    for song in (0, 1):
        (rows,) = np.nonzero(examples["song"] == song)
        rows = rows[np.argsort(index.window_starts[rows])]
        joined = np.concatenate(list(examples["roll"][rows]), axis=-1)
        piano = joined[0].any(axis=0)
        assert piano.mean() == pytest.approx(0.8, abs=0.12)
        assert np.flatnonzero(joined[0].any(axis=1)).tolist() == [pitch - 21 for pitch in range(60, 70)]
        np.testing.assert_array_equal(joined[config.instruments.index("violin")][:-24], joined[0][24:])


def test_seeds_change_the_order_alone(library):
    """Runs with several seeds are judged alike; another evaluation seed is another order of the same windows."""
    same = [evaluation_key(TASK, config_of(seed=seed)) for seed in (0, 1)]
    assert same[0] == same[1]
    first, second = (
        examples_of(library, config_of(evaluation__seed=seed), range(6))["roll"].reshape(6, -1) for seed in (0, 3)
    )
    assert {row.tobytes() for row in first} == {row.tobytes() for row in second}
    assert (first != second).any()


def test_as_many_as_asked_for_are_the_first_of_all(library):
    everything, few = (examples_of(library, config_of(), range(count)) for count in (6, 2))
    for name, values in few.items():
        np.testing.assert_array_equal(values, everything[name][:2])


def test_windows_are_not_what_drawn_examples_are(library):
    """Drawn ones are as they were before there were windows: from the plan's generator."""
    drawn = config_of(evaluation__windows="drawn", evaluation__valid_examples=5, evaluation__test_examples=5)
    index, recipe = evaluation_index(library, "valid", TASK, drawn), evaluation_recipe(drawn)
    plain = build_index(library, "valid", TASK, drawn)
    assert len(index.window_songs) == 0
    plans = [plan_mixture(index, recipe, 0, "valid", number) for number in range(20)]
    assert plans == [plan_mixture(plain, recipe, 0, "valid", number) for number in range(20)]
    for plan in plans:
        generator = np.random.default_rng([0, 1, plan.number])
        generator.integers(1)
        generator.random()
        generator.random()
        generator.integers(recipe.min_sources, recipe.max_sources + 1)
        song = int(generator.integers(0, 2))
        generator.permutation(2)
        assert {plain.song_of(source.stem) for source in plan.sources} == {song}
        assert plan.sources[0].start_s == generator.uniform(0, 6.0 - 1.6)
    assert evaluation_key(TASK, drawn) != evaluation_key(TASK, config_of())


def test_a_song_shorter_than_a_window_is_one_with_silence_behind(note_library):
    library = Library.open(note_library({"valid short": [("piano", PIANO, ((0.0, 0.9, 60, 90),))]}, seconds=1.0))
    config = config_of()
    examples = examples_of(library, config, [0])
    on = np.flatnonzero(examples["roll"][0, 0, 60 - 21])
    assert on.tolist() == list(range(15))  # up to 0.9 s, in frames of 64 ms
    assert (examples["features"][0, :, -8:] < 0.3).all()


def test_drawn_windows_must_be_counted():
    for field in ("valid_examples", "test_examples"):
        with pytest.raises(UserError, match=r"at least 1 where windows are drawn.*evaluation\.windows=whole_songs"):
            config_of(**{"evaluation__windows": "drawn", f"evaluation__{field}": 0})
        assert getattr(config_of(**{f"evaluation__{field}": 0}).evaluation, field) == 0
    with pytest.raises(UserError, match=r"evaluation\.test_examples=-1"):
        config_of(evaluation__test_examples=-1)
