"""Recordings through a model that hears embeddings: clip by clip, with the network that makes them."""

import json

import numpy as np
import pytest
import torch

from timbrel.errors import UserError
from timbrel.export import export_model
from timbrel.predict import load_trained, predict_files
from timbrel.trained import TrainedModel


class Loudness:
    """A teacher whose vectors are the level of each second, in each of 8 dimensions."""

    sample_rate, dimension, hop_s = 8000, 8, 1.0

    def __call__(self, audio):
        seconds = audio[: len(audio) // self.sample_rate * self.sample_rate].reshape(-1, self.sample_rate)
        return np.repeat(np.abs(seconds).mean(axis=1, keepdims=True), self.dimension, axis=1).astype(np.float32)


@pytest.fixture
def trained(mil_task, small_mil):
    def make(**values):
        config = small_mil(mixing__seconds=5.0, teacher__scale=2.0, **values)
        torch.manual_seed(0)
        thresholds = dict.fromkeys(mil_task.classes(config), 0.5)
        return TrainedModel(mil_task, config, thresholds, mil_task.build_model(config).state_dict())

    return make


@pytest.fixture
def recording(tmp_path, write_stems):
    samples = np.repeat(np.arange(12) / 20, 8000).astype(np.float32)
    write_stems(tmp_path, {"recordings": {"a": samples}}, 8000, "FLOAT")
    return tmp_path / "recordings" / "a.wav"


def test_recording_is_heard_clip_by_clip(mil_task, trained, recording, tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.attention_mil.predictor._network", lambda config: Loudness())
    model = trained()
    found = mil_task.predictor.read(model, recording)
    assert found.scores.shape == (3, 20)
    assert found.attention.shape == (3, 20, 5)
    levels = np.array([0.0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 11, 11, 11]) / 20 * 2.0  # the last clip filled up
    heard = np.repeat(levels[:, None], 8, axis=1).astype(np.float32).reshape(3, 5, 8)
    np.testing.assert_allclose(found.scores, np.stack(list(model.probabilities(heard))), atol=1e-5)
    words, endings = mil_task.predictor.write(model, recording, found, tmp_path / "out")
    assert endings == (".csv", ".json", ".png")
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows] == ["start_s", "0.0", "5.0", "10.0"]
    answer = json.loads((tmp_path / "out.json").read_text())
    assert [clip["start_s"] for clip in answer["clips"]] == [0.0, 5.0, 10.0]
    assert all((name in words) == each["present"] for name, each in answer["classes"].items() if "nothing" not in words)
    assert (tmp_path / "out.png").stat().st_size > 5000


def test_recording_through_a_model_without_attention_has_no_picture(
    mil_task, trained, recording, tmp_path, monkeypatch
):
    monkeypatch.setattr("tasks.attention_mil.predictor._network", lambda config: Loudness())
    model = trained(model="rnn")
    _, endings = mil_task.predictor.write(model, recording, mil_task.predictor.read(model, recording), tmp_path / "out")
    assert endings == (".csv", ".json")
    assert not (tmp_path / "out.png").exists()


def test_recording_needs_the_network_that_makes_the_embeddings(mil_task, trained, recording, monkeypatch):
    with pytest.raises(UserError, match=r"hears the embeddings 'vggish', not sound, .* --config teacher\.weights"):
        mil_task.predictor.read(trained(), recording)
    monkeypatch.setattr("tasks.attention_mil.predictor._network", lambda config: Loudness())
    with pytest.raises(UserError, match=r"makes embeddings of 8 dimensions, the model hears 6"):
        mil_task.predictor.read(trained(teacher__dimension=6), recording)


def test_network_is_named_when_it_is_needed(trained, recording, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "tasks.attention_mil.predictor._network", lambda config: asked.append(config.teacher.weights) or Loudness()
    )
    model = trained()
    folder = str(model.save(tmp_path / "model"))
    given = {"teacher.weights": "vggish.pth"}
    predict_files([recording], load_trained(folder, None, None, given), tmp_path / "out")
    assert asked == ["vggish.pth"]
    assert (tmp_path / "out/a.csv").read_text().startswith("start_s,")
    export_model(load_trained(folder, None, None, given), tmp_path / "exported", onnx=False)
    assert load_trained(str(tmp_path / "exported"), None, None, {}).config.teacher.weights == "vggish.pth"
    for path in ("teacher.name", "model"):
        with pytest.raises(UserError, match=rf"'{path}' belongs to the trained model .* only teacher\.weights can be"):
            load_trained(folder, None, None, {path: "mean"})


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"teacher__name": "crnn"}, "there is no file of weights /nowhere/best_model.pth for teacher crnn"),
        ({"teacher__name": "a name of my own"}, "takes a run's id or an exported folder, not /nowhere/best_model.pth"),
    ],
)
def test_network_that_cannot_be_run_says_why(trained, recording, mil_task, values, told):
    with pytest.raises(UserError, match=told):
        mil_task.predictor.read(trained(teacher__weights="/nowhere/best_model.pth", **values), recording)
