"""The stream of mixtures over a real pool of actors: the same bytes, however it is made."""

import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import ray

from timbrel.errors import UserError, find_user_error
from timbrel.mixing import actors
from timbrel.mixing.pool import Pool, Stream, collect, mix, read_batches, stream_batches
from timbrel.training.failures import process_died

pytestmark = pytest.mark.ray
EXAMPLES = 40


@pytest.fixture(scope="module")
def stream(ray_cluster, composed_index, short_recipe):
    return Stream(ray.put(composed_index), short_recipe, seed=3, name="train")


@pytest.fixture(scope="module")
def expected(stream, composed_index):
    """The examples as this process makes them, one after the other."""
    return mix(Stream(composed_index, stream.recipe, stream.seed, stream.name), composed_index, range(EXAMPLES))


def read(stream, start, stop, batch_size, actors):
    batches = list(read_batches(stream_batches(stream, start, stop, batch_size, Pool(actors, 0.4)), batch_size))
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


@pytest.mark.parametrize(
    ("actors", "batch_size", "start"),
    [(1, 8, 0), (2, 8, 0), (2, 5, 0), (1, 40, 0), (2, 4, 7), (2, 1, 0)],
    ids=["one actor", "two actors", "uneven batches", "one batch", "resumed at 7", "blocks of several batches"],
)
def test_example_i_is_the_same_bytes(stream, expected, actors, batch_size, start):
    rows = read(stream, start, EXAMPLES, batch_size, actors)
    np.testing.assert_array_equal(rows["number"], np.arange(start, EXAMPLES))
    assert rows["audio"].tobytes() == expected["audio"][start:].tobytes()
    np.testing.assert_array_equal(rows["labels"], expected["labels"][start:])


def test_several_sets_by_one_pool(stream, expected, composed_index):
    """The second begins in the middle of a batch."""
    other = replace(stream, name="valid")
    sets = ray.get(collect.remote([stream, other], [21, 14], Pool(2, 0.4)))
    songs = np.array(composed_index.songs.to_pylist())
    of_other = mix(replace(other, index=composed_index), composed_index, range(14))
    for got, mixed, count in ((sets[0], expected, 21), (sets[1], of_other, 14)):
        assert got.keys() == mixed.keys()
        assert len(got["audio"]) == count
        assert got["audio"].tobytes() == mixed["audio"][:count].tobytes()
        np.testing.assert_array_equal(got["labels"], mixed["labels"][:count])
        np.testing.assert_array_equal(got["song"], songs[mixed["song"][:count]])


def test_another_seed_or_stream_is_another_sequence(stream, expected, composed_index):
    for changed in (
        Stream(composed_index, stream.recipe, stream.seed + 1, stream.name),
        Stream(composed_index, stream.recipe, stream.seed, "valid"),
    ):
        rows = mix(changed, composed_index, range(4))
        assert not np.array_equal(rows["audio"], expected["audio"][:4])


def test_a_consumer_that_stops_early_gets_its_actors_back(stream):
    """A stream of a million is mixed as it is read; leaving it ends the pool."""
    total = ray.cluster_resources()["CPU"]
    batches = read_batches(stream_batches(stream, 0, 1_000_000, 8, Pool(1, 0.4)), 8)
    np.testing.assert_array_equal(next(batches)["number"], np.arange(8))
    assert ray.available_resources()["CPU"] < total
    batches.close()
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU", 0) < total:
        assert time.monotonic() < deadline, "the mixing actors still run"
        time.sleep(0.5)


class Deadly:
    """Makes examples until it comes to one that kills the process, as the system does, whoever makes it."""

    def __init__(self, victim):
        self.victim = victim

    def __call__(self, numbers):
        if self.victim in numbers:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"number": numbers}


class Refusing:
    """Can't be made."""

    def __init__(self, why):
        raise UserError(why)


def test_what_the_making_of_an_actor_raises_is_told(ray_cluster):
    """Ray says of it, too, that an actor died."""
    dataset = actors.numbered_batches(Refusing, "no such file: get one.", 0, 40, 4, 4 * 8, Pool(1, 0.4))
    with pytest.raises(ray.exceptions.RayActorError) as raised:
        list(read_batches(dataset, 4))
    assert str(find_user_error(raised.value)) == "no such file: get one."
    assert not process_died(raised.value)


def test_an_example_that_kills_every_actor_ends_the_stream(ray_cluster, monkeypatch):
    monkeypatch.setattr(actors, "RESTARTS", 1)
    dataset = actors.numbered_batches(Deadly, 12, 0, 40, 4, 4 * 8, Pool(1, 0.4))
    with pytest.raises(UserError, match="a mixing actor was killed 2 times"):
        list(read_batches(dataset, 4))
