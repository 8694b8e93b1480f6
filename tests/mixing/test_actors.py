"""Which pools a cluster has room for, by what it says of its nodes; nothing here starts Ray."""

import pytest

from timbrel.errors import UserError
from timbrel.mixing.actors import MIXER_RESOURCE, Pool, check_room, look_ahead


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


def test_how_far_ahead_does_not_depend_on_the_length_of_the_stream():
    """Every reader has its eight batches, every actor the four that it is given."""
    limits = [look_ahead(1000, Pool(actors, 1.0), readers).resource_limits for actors, readers in ((1, 1), (5, 2))]
    assert [each.object_store_memory for each in limits] == [12_000, 36_000]
