"""Examples that a maker makes: the same bytes however they are cut into batches, and of the size that is said."""

import dataclasses
import pickle

import numpy as np
import pytest

from timbrel import registry
from timbrel.config import with_values
from timbrel.cqt import cqt_db
from timbrel.library import Library
from timbrel.mixing.index import build_index
from timbrel.mixing.plan import plan_mixture
from timbrel.mixing.pool import Stream, example_bytes, mix
from timbrel.mixing.render import render_example

TASK = registry.load("task", "pianoroll")
PLAIN = {"mixing.seconds": 2.0, "front_end.engine": "librosa"}
CHANGED = {
    **PLAIN,
    "mixing.p_musical": 0.3,
    "mixing.min_sources": 1,
    "mixing.max_sources": 3,
    "mixing.stretch": "fast",
    "mixing.effects.gain.p": 0.5,
    "mixing.effects.gain.low": -6.0,
    "mixing.effects.pitch_shift.p": 0.5,
    "mixing.effects.pitch_shift.low": -2.0,
    "mixing.effects.pitch_shift.high": 2.0,
    "mixing.effects.pitch_shift.step": 1.0,
    "mixing.effects.time_stretch.p": 0.5,
    "mixing.effects.time_stretch.low": 0.8,
    "mixing.effects.time_stretch.high": 1.25,
}


@pytest.fixture(scope="module")
def stream_of(band_library):
    """Make a stream of the band's training songs, and its index."""

    def make(values=CHANGED, **more):
        config = with_values(TASK.config_type(), {**values, **more})
        index = build_index(Library.open(band_library), "train", TASK, config)
        return Stream(index, config.mixing, 0, "train", maker=TASK.example_maker(config)), index

    return make


def test_the_split_into_batches_makes_no_difference(stream_of):
    stream, index = stream_of()
    together = mix(stream, index, range(7))
    for cuts in ([[0], [1], [2], [3], [4], [5], [6]], [[0, 1, 2], [3, 4, 5, 6]]):
        batches = [mix(stream, index, numbers) for numbers in cuts]
        assert all(batch.keys() == together.keys() for batch in batches)
        for name, values in together.items():
            joined = np.concatenate([batch[name] for batch in batches])
            assert (joined.dtype, joined.shape) == (values.dtype, values.shape)
            assert joined.tobytes() == values.tobytes(), name
    backwards = mix(stream, index, [6, 3, 0])
    assert backwards["features"].tobytes() == together["features"][[6, 3, 0]].tobytes()
    assert backwards["roll"].tobytes() == together["roll"][[6, 3, 0]].tobytes()


def test_pictures_do_not_depend_on_what_is_beside_them():
    generator = np.random.default_rng(0)
    audio = generator.normal(scale=0.1, size=(5, 20_000)).astype(np.float32)
    audio[1] *= 1e-4  # a quiet one beside loud ones, and a silent one
    audio[3] = 0
    config = with_values(TASK.config_type(), {}).front_end
    together = cqt_db(audio, 16_000, config)
    for segment, picture in zip(audio, together, strict=True):
        assert cqt_db(segment, 16_000, config).tobytes() == picture.tobytes()
        assert cqt_db(segment[None], 16_000, config)[0].tobytes() == picture.tobytes()


def test_columns_and_their_sizes(stream_of):
    stream, index = stream_of()
    examples = mix(stream, index, [0, 1])
    assert set(examples) == {"number", "features", "roll", "labels", "song"}
    assert (examples["features"].shape, examples["features"].dtype) == ((2, 88, 62), np.float32)
    assert (examples["roll"].shape, examples["roll"].dtype) == ((2, 9, 88, 31), bool)
    said = stream.example_bytes
    assert said == example_bytes(stream.recipe, stream.maker)
    assert said == examples["features"][0].nbytes + examples["roll"][0].nbytes
    assert example_bytes(stream.recipe, None) == 4 * 32_000


def test_where_the_model_computes_the_front_end_examples_are_audio(stream_of):
    stream, index = stream_of(**{"front_end.engine": "torch"})
    by_librosa, _ = stream_of()
    examples, others = mix(stream, index, range(3)), mix(by_librosa, index, range(3))
    assert set(examples) == {"number", "audio", "roll", "labels", "song"}
    assert stream.example_bytes == examples["audio"][0].nbytes + examples["roll"][0].nbytes
    np.testing.assert_array_equal(examples["roll"], others["roll"])
    plans = [plan_mixture(index, stream.recipe, 0, "train", number) for number in range(3)]
    np.testing.assert_array_equal(
        examples["audio"], np.stack([render_example(plan, index, stream.recipe).audio for plan in plans])
    )
    front_end = with_values(TASK.config_type(), PLAIN).front_end
    np.testing.assert_array_equal(cqt_db(examples["audio"], 16_000, front_end), others["features"])


def test_without_a_maker_an_example_is_its_audio(stream_of):
    stream, index = stream_of()
    plain = mix(dataclasses.replace(stream, maker=None), index, [4])
    assert set(plain) == {"number", "audio", "labels", "song"}
    np.testing.assert_array_equal(plain["labels"], mix(stream, index, [4])["labels"])


def test_makers_travel(stream_of):
    maker = stream_of()[0].maker
    again = pickle.loads(pickle.dumps(maker))
    assert again == maker
    assert again.example_bytes == maker.example_bytes


def test_drums_and_other_instruments_are_not_heard_in_the_band(stream_of):
    """The mixtures hold only sources that the rolls speak of, and every one that sounds long enough is in them."""
    stream, index = stream_of(PLAIN)
    examples = mix(stream, index, range(12))
    played = examples["roll"].any(axis=(2, 3))
    assert played.any(axis=1).all()
    silent = played.sum() - (played & (examples["labels"] > 0)).sum()
    assert silent <= 0.1 * played.sum()  # notes so short, or so quiet, that they count for no label of the clip
    names = set(index.names.to_pylist())
    assert not [name for name in names if "drum" in name.lower() or "kit" in name.lower()]
