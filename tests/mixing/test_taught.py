"""Embeddings that examples carry, and labels that nobody judged."""

import dataclasses
import math

import numpy as np
import pytest

from timbrel.config import with_values
from timbrel.errors import UserError
from timbrel.library import Library
from timbrel.mixing.index import build_index
from timbrel.mixing.plan import class_shares, mixture_labels, plan_mixture
from timbrel.mixing.pool import Stream, mix
from timbrel.mixing.recipe import ALL_SOURCES, NO_EFFECTS, Effect, Recipe
from timbrel.mixing.taught import SongEmbeddings, recipe_changes, song_embeddings
from timbrel.teaching.config import TeacherConfig

WHOLE = Recipe(
    sample_rate=16_000,
    seconds=1.0,
    p_musical=1.0,
    p_single_source=0.0,
    min_sources=ALL_SOURCES,
    max_sources=ALL_SOURCES,
    effects=NO_EFFECTS,
)


class Store:
    """Embeddings whose values say which window they are of."""

    dimension, hop_s = 3, 0.5

    def window(self, dataset, song, start_s, seconds):
        frames = round(seconds / self.hop_s)
        return np.full((frames, self.dimension), start_s, dtype=np.float32) + np.float32(len(dataset) + len(song))


@pytest.fixture
def judged(instrument_task, monkeypatch):
    """Return the index of songs that were judged on the first two classes, every second one on neither."""

    def make(library):
        classes = len(instrument_task.classes(None))

        def song_labels(songs, config):
            values = np.full((len(songs), classes), np.nan, dtype=np.float32)
            values[::2, :2] = [1, 0]
            return values

        monkeypatch.setattr(instrument_task, "song_labels", song_labels)
        config = with_values(instrument_task.config_type(), {"data.datasets": ("tones",)})
        return build_index(Library.open(library), "train", instrument_task, config)

    return make


def test_what_nobody_judged_is_nan_and_songs_never_judged_are_left_out(judged, tone_library, tone_index):
    index = judged(tone_library)
    tones = [name for dataset, name in tone_index.song_names() if dataset == "tones"]
    assert index.songs.to_pylist() == tones[::2]
    assert index.judged.shape == index.labels.shape
    columns = mix(Stream(index, WHOLE, 0, "train"), index, range(4))
    np.testing.assert_array_equal(columns["labels"][:, :2], [[1, 0]] * 4)
    assert np.isnan(columns["labels"][:, 2:]).all()
    shares = class_shares(index, WHOLE, 0, 4)
    assert shares[0] == 1
    assert not shares[1:].any()


def test_a_mixture_of_songs_has_what_one_of_them_has_and_lacks_what_all_lack(judged, tone_library):
    index = judged(tone_library)
    song_of = [index.song_of(stem) for stem in range(len(index.labels))]
    labels, known = index.labels.copy(), index.judged.copy()
    first, second = song_of.index(0), song_of.index(1)
    labels[[first, second], :4] = [[1, 0, 0, 0], [0, 0, 0, 1]]
    known[[first, second], :4] = [[1, 1, 1, 0], [0, 1, 0, 1]]
    index = dataclasses.replace(index, labels=labels, judged=known)
    plan = plan_mixture(index, WHOLE, 0, "train", 0)
    source = plan.sources[0]
    both = dataclasses.replace(
        plan, sources=(dataclasses.replace(source, stem=first), dataclasses.replace(source, stem=second))
    )
    np.testing.assert_array_equal(mixture_labels(both, index, WHOLE)[:4], [1, 0, np.nan, 1])


def test_songs_judged_on_everything_have_no_mask(tone_index):
    assert tone_index.judged.size == 0


def test_examples_carry_the_embeddings_of_their_window_scaled(tone_index):
    store = SongEmbeddings(Store(), offset=2.0, scale=0.5, seconds=1.0, heard=False)
    columns = mix(Stream(tone_index, WHOLE, 0, "train", embeddings=store), tone_index, range(5))
    assert columns["teacher"].shape == (5, 2, 3)
    assert columns["teacher"].dtype == np.float32
    assert columns["audio"].shape == (5, 16_000)
    for number in range(5):
        plan = plan_mixture(tone_index, WHOLE, 0, "train", number)
        song = tone_index.song_of(plan.sources[0].stem)
        dataset, name = tone_index.song_names()[song]
        assert dataset == tone_index.dataset_of(song)
        expected = (plan.sources[0].start_s + len(dataset) + len(name) - 2.0) * 0.5
        np.testing.assert_allclose(columns["teacher"][number], expected, rtol=1e-6)


def test_what_hears_embeddings_alone_renders_nothing(tone_index):
    carried = SongEmbeddings(Store(), 0.0, 1.0, seconds=1.0, heard=False)
    heard = dataclasses.replace(carried, heard=True)
    gone = dataclasses.replace(tone_index, root="/nowhere")  # reading any audio would fail
    with_audio = mix(Stream(tone_index, WHOLE, 0, "train", embeddings=carried), tone_index, range(3))
    without = mix(Stream(gone, WHOLE, 0, "train", embeddings=heard), gone, range(3))
    assert without.keys() == {"number", "song", "features", "labels"}
    np.testing.assert_array_equal(without["features"], with_audio["teacher"])
    for name in ("number", "song", "labels"):
        np.testing.assert_array_equal(without[name], with_audio[name])
    stream = Stream(gone, WHOLE, 0, "train", embeddings=heard)
    assert stream.example_bytes == without["features"][0].nbytes


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"p_musical": 0.4}, "mixing.p_musical=0.4"),
        ({"p_single_source": 0.2}, "mixing.p_single_source=0.2"),
        ({"min_sources": 2}, "mixing.min_sources=2"),
        ({"level_db": (-30.0, -20.0)}, "mixing.level_db"),
        ({"effects": dataclasses.replace(NO_EFFECTS, gain=Effect(p=0.5, low=-6, high=6))}, "mixing.effects.gain"),
        ({"effects": dataclasses.replace(NO_EFFECTS, others=("Reverse(p=0.5)",))}, "mixing.effects.others"),
    ],
)
def test_a_store_has_no_embeddings_of_mixtures(tone_library, tone_index, values, named):
    recipe = dataclasses.replace(WHOLE, **values)
    assert recipe_changes(recipe) == named
    with pytest.raises(UserError, match=rf"teacher.name=crnn: .*{named}.*set teacher.weights"):
        song_embeddings(Library.open(tone_library), tone_index, recipe, TeacherConfig(name="crnn"), heard=False)


def test_songs_as_they_are_change_nothing():
    assert recipe_changes(WHOLE) == ""
    shifted = dataclasses.replace(NO_EFFECTS, pitch_shift=Effect(p=1, low=-2, high=2))
    assert recipe_changes(dataclasses.replace(WHOLE, effects=shifted)) == ""  # of mixtures that are no songs alone


def test_a_library_without_the_embeddings_says_how_to_get_them(tone_library, tone_index):
    with pytest.raises(UserError, match="timbrel embed"):
        song_embeddings(Library.open(tone_library), tone_index, WHOLE, TeacherConfig(name="crnn"), heard=False)


def test_one_vector_a_song_is_one_frame(tone_index):
    store = Store()
    store.hop_s = 0
    assert SongEmbeddings(store, 0.0, 1.0, math.pi, True).example_bytes == 4 * 3
