"""Folders of mixtures, written as `timbrel mix` writes them."""

import dataclasses
import json

import pytest

from timbrel.library import Library
from timbrel.listen.folder import Request, write_mixtures
from timbrel.mixing.index import build_index


@pytest.fixture(scope="session")
def write(instrument_task):
    """Write mixtures of a library's split, and return what ``mixtures.json`` says."""

    def run(library, out, recipe, split="train", **changes):
        config = instrument_task.config_type()
        request = Request(
            task=instrument_task.name,
            classes=instrument_task.classes(config),
            split=split,
            recipe_name="training",
            recipe=recipe,
            seed=0,
            start=0,
            count=12,
        )
        opened = Library.open(library)
        index = build_index(opened, split, instrument_task, config)
        write_mixtures(dataclasses.replace(request, **changes), index, opened.digest(), out)
        return json.loads((out / "mixtures.json").read_text())

    return run


@pytest.fixture(scope="session")
def mixtures(write, tone_library, short_recipe, tmp_path_factory):
    """Twelve mixtures of ``tone_library`` in a folder, and what its ``mixtures.json`` says."""
    out = tmp_path_factory.mktemp("mixed") / "mixtures"
    return out, write(tone_library, out, short_recipe)
