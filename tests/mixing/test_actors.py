"""Which pools a cluster has room for, by what it says of its nodes; nothing here starts Ray."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timbrel.errors import UserError
from timbrel.mixing.actors import MIXER_RESOURCE, Numbers, Pool, block_numbers, check_room, look_ahead
from timbrel.mixing.scheduling import FIRST_BATCHES


@pytest.fixture
def nodes(monkeypatch):
    """Stand in for a cluster: say which resources its nodes have."""

    def say(*resources):
        total = {name: sum(each.get(name, 0) for each in resources) for each in resources for name in each}
        monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": each} for each in resources])
        monkeypatch.setattr("ray.cluster_resources", lambda: total)

    return say


@pytest.mark.parametrize(
    ("pool", "beside"),
    [(Pool(2, 0.95), 0.0), (Pool(4, 0.95), 1.05), (Pool(4, 0.95, least=2), 0.1), (Pool(40, 0.0), 2.0)],
    ids=["all", "some of them", "the smallest", "without CPUs"],
)
def test_pools_with_room(nodes, pool, beside):
    nodes({"CPU": 1.0}, {"CPU": 1.0})
    check_room(pool, beside)


def test_an_actor_larger_than_any_node(nodes):
    nodes({"CPU": 1.0}, {"CPU": 1.0}, {"CPU": 1.0})
    with pytest.raises(UserError, match=r"1 mixing actors with 1.5 CPUs each .* has 1 \+ 1 \+ 1 CPUs"):
        check_room(Pool(1, 1.5))


def test_only_the_nodes_for_mixers_count(nodes):
    nodes({"CPU": 16.0, "GPU": 1.0}, {"CPU": 2.0, MIXER_RESOURCE: 1.0})
    check_room(Pool(12, 1.0, least=2))
    with pytest.raises(UserError, match="which has 2 CPUs on nodes with the resource 'mixer'"):
        check_room(Pool(12, 1.0, least=3))


def test_a_pool_that_fits_alone_but_not_beside_the_training(nodes):
    nodes({"CPU": 4.0})
    check_room(Pool(4, 1.0, least=2), beside=2.0)
    with pytest.raises(UserError, match=r"2 mixing actors with 1 CPUs each .* beside the 2.1 CPUs of the training"):
        check_room(Pool(4, 1.0, least=2), beside=2.1)


@pytest.mark.parametrize(
    ("pool", "readers", "batches"),
    [(Pool(1, 1.0), 1, 8 + 3 * 4), (Pool(5, 1.0), 1, 8 + 5 * 3 * 4), (Pool(5, 1.0), 2, 2 * 8 + 5 * 3 * 4)],
    ids=["one actor", "five", "two readers"],
)
def test_how_far_ahead_does_not_depend_on_the_length_of_the_stream(pool, readers, batches):
    """Every reader has its eight batches, every actor three blocks of four."""
    assert look_ahead(16, 1000, pool, readers).resource_limits.object_store_memory == 1000 * batches


@given(
    start=st.integers(0, 100),
    length=st.integers(1, 5000),
    batch_size=st.integers(1, 40),
    block_batches=st.integers(1, 70),
    actors=st.integers(1, 300),
)
def test_blocks_are_whole_batches_in_order(start, length, batch_size, block_batches, actors):
    blocks = list(Numbers(start, start + length, batch_size, block_batches, actors).blocks())
    assert [number for first, after in blocks for number in range(first, after)] == list(range(start, start + length))
    sizes = [after - first for first, after in blocks]
    assert all(size % batch_size == 0 for size in sizes[:-1])
    assert max(sizes) <= block_batches * batch_size
    assert max(sizes[:FIRST_BATCHES]) <= batch_size  # the first batch is soon there
    last = sizes[-actors:]
    assert len(sizes) <= FIRST_BATCHES or sum(last) <= max(
        length / 2, batch_size * actors
    )  # and the last ones are small


@given(
    steps=st.integers(1, 300),
    batch_size=st.integers(1, 20),
    block_batches=st.integers(1, 70),
    actors=st.integers(1, 300),
    readers=st.integers(2, 8),
)
def test_several_readers_have_their_parts_of_the_same_steps(steps, batch_size, block_batches, actors, readers):
    start, step = 7, batch_size * readers
    blocks = list(Numbers(start, start + steps * step, batch_size, block_batches, actors, readers).blocks())
    read = [
        [block_numbers(*block, batch_size, readers) for block in blocks[reader::readers]] for reader in range(readers)
    ]
    for of_turn in zip(*read, strict=True):
        assert len({len(numbers) for numbers in of_turn}) == 1
        assert len(of_turn[0]) <= block_batches * batch_size
    parts = [np.concatenate(of_reader).reshape(steps, batch_size) for of_reader in read]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1).ravel(), np.arange(start, start + steps * step))
    assert all(len(numbers) == batch_size for numbers in read[0][:FIRST_BATCHES])
