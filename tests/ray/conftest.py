"""One small real Ray, and one small library, for each module of tests that need them; other tests run without Ray."""

import dataclasses
from pathlib import Path

import pytest

from timbrel import registry
from timbrel.library import Library
from timbrel.mixing.index import build_index
from timbrel.mixing.recipe import Recipe
from timbrel.prepare import prepare
from timbrel.runtime import ray_session


@pytest.fixture(scope="module")
def ray_cluster():
    with ray_session():
        yield


@pytest.fixture(scope="module")
def composed_library(ray_cluster, tmp_path_factory) -> Path:
    """Twelve short composed songs, stored by Ray tasks."""
    root = tmp_path_factory.mktemp("library")
    source = registry.load("source", "house_band")
    prepare(source, None, root, source.options_type(songs=12, seconds=10.0, sample_rate=16_000))
    return root


@pytest.fixture(scope="module")
def short_recipe() -> Recipe:
    return Recipe(sample_rate=8_000, seconds=1.0)


@pytest.fixture(scope="module")
def composed_index(composed_library, short_recipe):
    task = registry.load("task", "multi_instrument")
    # So short a hop only for the network, which is not used here, to accept so short a mixture.
    front_end = dataclasses.replace(task.config_type().front_end, hop=50)
    config = dataclasses.replace(task.config_type(), mixing=short_recipe, front_end=front_end)
    return build_index(Library.open(composed_library), "train", task, config)
