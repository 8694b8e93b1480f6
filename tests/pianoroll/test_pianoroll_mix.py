"""`timbrel mix --task pianoroll`: what a run hears and the windows that it is judged on, with their labels."""

import json

import numpy as np
import pytest
from scipy.io import wavfile

from timbrel.config import with_values
from timbrel.library import Library
from timbrel.mixing.index import evaluation_index
from timbrel.mixing.pool import Stream, mix
from timbrel.settings import evaluation_recipe


@pytest.fixture
def mixed(command, band_library, tmp_path):
    def run(*arguments):
        shared = ("mix", "--task", "pianoroll", "--library", band_library, "--out", "mixed")
        status, _, errors = command(*shared, "--config", "mixing.seconds=4.096", *arguments)
        if status:
            return errors
        return json.loads((tmp_path / "mixed/mixtures.json").read_text())

    return run


def test_test_mixtures_are_the_windows_that_a_model_is_judged_on(mixed, roll_task, band_library, tmp_path):
    config = with_values(roll_task.config_type(), {"mixing.seconds": 4.096, "front_end.engine": "torch"})
    index = evaluation_index(Library.open(band_library), "test", roll_task, config)
    stream = Stream(index, evaluation_recipe(config), 0, "test", maker=roll_task.example_maker(config))
    windows = len(index.window_songs)
    facts = mixed("--split", "test", "-n", 50)  # more than there are
    assert [each["number"] for each in facts["mixtures"]] == list(range(windows))
    expected = mix(stream, index, range(windows))
    for number, each in enumerate(facts["mixtures"]):
        _, audio = wavfile.read(tmp_path / "mixed" / each["file"])
        np.testing.assert_array_equal(audio, expected["audio"][number])
        heard = np.flatnonzero(expected["labels"][number])
        assert each["labels"] == [config.instruments[label] for label in heard]
        played = expected["roll"][number].any(axis=(1, 2))
        assert {config.instruments[label] for label in np.flatnonzero(played)} <= set(each["labels"])
        assert all(source["start_s"] % 4.096 == pytest.approx(0) for source in each["sources"])


def test_sources_have_the_classes_of_their_notes(mixed):
    facts = mixed("-n", 4)
    assert facts["recipe_name"] == "training"
    for each in facts["mixtures"]:
        assert each["musical"]
        for source in each["sources"]:
            assert len(source["classes"]) == 1  # of one program each; drums and others are left out
        assert set(each["labels"]) <= {name for source in each["sources"] for name in source["classes"]}


def test_windows_that_are_not_there(mixed):
    assert "windows, numbered from 0" in mixed("--split", "test", "--start", 1000)


def test_windows_that_activity_is_judged_on_have_drums_of_no_class(mixed):
    facts = mixed("--split", "test", "-n", 1, "--config", "evaluation.truth=activity")
    (mixture,) = facts["mixtures"]
    assert [source["instrument"] for source in mixture["sources"] if not source["classes"]]
    assert set(mixture["labels"]) == {name for source in mixture["sources"] for name in source["classes"]}
    assert mixture["labels"]
