"""Bad input that only shows once Ray runs: one sentence, and no MLflow run that still seems to run."""

import dataclasses

import numpy as np
import pytest
import soundfile
import torch

from timbrel import registry
from timbrel.config import with_values
from timbrel.errors import find_user_error
from timbrel.evaluation import evaluate_run
from timbrel.experiment import train_once
from timbrel.library import Library
from timbrel.prepare import prepare
from timbrel.sources.stems import StemsOptions
from timbrel.trained import TrainedModel

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

RATE_HZ = 16_000
TINY = {
    "mixing.sample_rate": RATE_HZ,
    "mixing.seconds": 2.1,
    "model.width": 2,
    "training.epochs": 1,
    "training.batches_per_epoch": 1,
    "training.batch_size": 4,
    "evaluation.valid_examples": 4,
    "evaluation.test_examples": 4,
}


@pytest.fixture(scope="module")
def task():
    return registry.load("task", "multi_instrument")


def sentence(call):
    """Return the sentence that a call ends with, wherever in Ray it comes from."""
    with pytest.raises(Exception) as raised:  # noqa: PT011  Ray raises classes that it makes at run time
        call()
    return str(find_user_error(raised.value))


def open_runs(place):
    return [run for run in place.tracker.find({}) if run.info.status == "RUNNING"]


@pytest.mark.parametrize("mode", ["frozen", "finetune"])
def test_weights_of_another_architecture(place, task, tmp_path, mode):
    wider = with_values(task.config_type(), {**TINY, "model.width": 3})
    torch.save(task.build_model(wider).state_dict(), tmp_path / "wider.pt")
    values = {**TINY, "transfer.mode": mode, "transfer.checkpoint": str(tmp_path / "wider.pt")}
    said = sentence(lambda: train_once(task, with_values(task.config_type(), values), place))
    assert "of another architecture" in said
    assert not open_runs(place)


def test_weights_that_are_not_there(place, task, tmp_path):
    for name, reason in ((str(tmp_path / "gone.pt"), "no file of weights"), ("abc", "there is no run 'abc'")):
        values = {**TINY, "transfer.mode": "frozen", "transfer.checkpoint": name}
        assert reason in sentence(lambda v=values: train_once(task, with_values(task.config_type(), v), place))
    assert not open_runs(place)


@pytest.fixture
def one_song(tmp_path):
    """A library of a single song, which falls into the training split; its silent stem and its rates are kept."""
    folder = tmp_path / "songs/Night Owl"
    folder.mkdir(parents=True)
    tone = 0.3 * np.sin(np.arange(3 * RATE_HZ) / 10)
    soundfile.write(folder / "piano.wav", np.stack([tone, tone], axis=1), 44_100)
    soundfile.write(folder / "violin.wav", 0 * tone, RATE_HZ)
    (folder / "drums.wav").write_bytes(b"RIFF")
    facts, _ = prepare(registry.load("source", "stems"), tmp_path / "songs", tmp_path / "library", StemsOptions())
    assert [what for what, _ in facts["skipped"]] == ["Night Owl/drums"]
    assert (facts["silent"], facts["channels"]) == (["Night Owl/violin"], {"1": 1, "2": 1})
    return Library.open(tmp_path / "library")


def test_an_empty_split(place, task, one_song):
    before = len(place.tracker.find({}))
    said = sentence(
        lambda: train_once(task, with_values(task.config_type(), TINY), dataclasses.replace(place, library=one_song))
    )
    assert "no song of the split 'valid' of stems" in said
    assert "prepare more songs" in said
    assert len(place.tracker.find({})) == before


def test_evaluation_on_an_empty_split(place, task, one_song, tmp_path):
    config = with_values(task.config_type(), TINY)
    thresholds = dict.fromkeys(task.classes(config), 0.5)
    weights = task.build_model(config).state_dict()
    run = place.tracker.start("trained", {"timbrel.task": task.name})
    run.log_folder(TrainedModel(task, config, thresholds, weights).save(tmp_path / "model"), "model")
    run.close()
    before = len(place.tracker.find({}))
    assert "no song of the split 'test'" in sentence(lambda: evaluate_run(run.id, one_song.root, {}, place.tracker))
    assert len(place.tracker.find({})) == before
