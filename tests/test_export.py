"""Models taken elsewhere: as a folder without Ray, as ONNX, and as MLflow loads them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from timbrel import export as module
from timbrel.config import with_values
from timbrel.errors import UserError
from timbrel.export import export_model
from timbrel.logged_model import LoggedModel, save_logged_model
from timbrel.predict import load_trained
from timbrel.tracking import Tracker
from timbrel.trained import TrainedModel


def make_trained(task, config, **values):
    config = with_values(config, {path.replace("__", "."): value for path, value in values.items()})
    torch.manual_seed(0)
    model = task.build_model(config)
    thresholds = {name: 0.3 + 0.01 * number for number, name in enumerate(task.classes(config))}
    return TrainedModel(task, config, thresholds, model.state_dict())


@pytest.fixture(scope="module")
def trained(instrument_task, tiny_config):
    return make_trained(instrument_task, tiny_config)


def clips(trained, count=5):
    return np.random.default_rng(0).normal(scale=0.1, size=(count, trained.config.mixing.samples)).astype(np.float32)


def expected(trained, waveforms):
    with torch.inference_mode():
        return torch.sigmoid(trained.model(torch.from_numpy(waveforms))).numpy()


# The folder


def test_an_exported_folder_is_the_model(trained, tmp_path):
    files = export_model(trained, tmp_path / "mine")
    assert [file.name for file in files] == ["README.md", "config.json", "labels.txt", "thresholds.json", "weights.pt"]
    again = TrainedModel.load(tmp_path / "mine")
    np.testing.assert_array_equal(expected(again, clips(trained)), expected(trained, clips(trained)))
    assert (tmp_path / "mine/labels.txt").read_text().splitlines() == list(trained.classes)
    readme = (tmp_path / "mine/README.md").read_text()
    assert "timbrel predict song.wav --run mine" in readme
    assert "model.onnx" not in readme
    assert "{" not in readme


def test_nothing_is_overwritten(trained, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/song.wav").touch()
    for out in (tmp_path / "there", tmp_path / "there/song.wav"):
        with pytest.raises(UserError, match="is not empty: name a new folder"):
            export_model(trained, out)
    assert [file.name for file in (tmp_path / "there").iterdir()] == ["song.wav"]


def test_an_exported_folder_works_where_there_is_neither_ray_nor_mlflow(trained, tmp_path):
    export_model(trained, tmp_path / "mine")
    np.save(tmp_path / "clips.npy", clips(trained))
    script = """
import sys
sys.modules["ray"] = sys.modules["mlflow"] = None  # importing them fails
import numpy as np
from pathlib import Path
from timbrel.trained import TrainedModel
model = TrainedModel.load(Path("mine"))
np.save("answer.npy", np.stack(list(model.probabilities(np.load("clips.npy")))))
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, env=os.environ)
    np.testing.assert_allclose(np.load(tmp_path / "answer.npy"), expected(trained, clips(trained)), atol=1e-6)


# ONNX


@pytest.mark.parametrize("backbone", ["short_chunk_cnn", "crnn_conv", "crnn", "musicnn"])
def test_onnx_gives_the_same_probabilities(instrument_task, tiny_config, tmp_path, backbone):
    import onnxruntime

    trained = make_trained(instrument_task, tiny_config, transfer__backbone=backbone, front_end__level_dbfs=-16.0)
    export_model(trained, tmp_path / "mine", onnx=True)
    assert "(batch, 17600)" in (tmp_path / "mine/README.md").read_text()
    session = onnxruntime.InferenceSession(tmp_path / "mine/model.onnx", providers=["CPUExecutionProvider"])
    assert [file.name for file in (tmp_path / "mine").glob("*.onnx*")] == ["model.onnx"]
    for count in (1, 5):
        (got,) = session.run(["probabilities"], {"waveform": clips(trained, count)})
        np.testing.assert_allclose(got, expected(trained, clips(trained, count)), atol=1e-5)


def test_onnx_without_its_packages_is_one_sentence(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"needs the package 'onnxscript': pip install 'timbrel\[onnx\]'"):
        export_model(trained, tmp_path / "mine", onnx=True)
    assert not (tmp_path / "mine").exists()
    assert module.ONNX == "model.onnx"


# As MLflow loads it


@pytest.fixture(scope="module")
def logged(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("logged") / "model"
    save_logged_model(trained, folder)
    return folder


def test_the_artifact_holds_data_alone(logged):
    kinds = {file.suffix for file in logged.rglob("*") if file.is_file()}
    assert kinds <= {"", ".json", ".pt", ".txt", ".yaml"}  # no .pkl, no .py
    text = (logged / "MLmodel").read_text()
    assert "loader_module: timbrel.logged_model" in text
    assert "code: null" in text
    assert "[-1, 17600]" in text
    assert (logged / "input_example.json").exists()
    torch.load(logged / "data/timbrel/weights.pt", weights_only=True)


def test_mlflow_predicts_from_waveforms(trained, logged):
    import mlflow

    model = mlflow.pyfunc.load_model(str(logged))
    table = model.predict(clips(trained))
    assert list(table.columns) == list(trained.classes)
    np.testing.assert_allclose(table.to_numpy(), expected(trained, clips(trained)), atol=1e-6)
    assert len(model.predict(clips(trained, 1))) == 1
    with pytest.raises(mlflow.exceptions.MlflowException, match="17600"):
        model.predict(clips(trained)[:, :100])


def test_a_run_and_a_registered_model_load_by_their_names(trained, logged, tmp_path, monkeypatch):
    import mlflow

    tracker = Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = tracker.start("one", {"timbrel.task": "multi_instrument"})
    run.log_folder(logged, "model")
    run.close()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.uri)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracker.uri)
    try:
        mlflow.register_model(f"runs:/{run.id}/model", "instruments")
        for uri in (f"runs:/{run.id}/model", "models:/instruments/1"):
            table = mlflow.pyfunc.load_model(uri).predict(clips(trained))
            np.testing.assert_allclose(table.to_numpy(), expected(trained, clips(trained)), atol=1e-6)
    finally:
        mlflow.set_tracking_uri(before)
    assert load_trained(run.id, tracker, None, {}).thresholds == trained.thresholds


def test_shapes_and_values_that_are_no_clips(trained):
    model = LoggedModel(trained)
    with pytest.raises(UserError, match=r"takes waveforms \(batch, 17600\) at 16000 Hz, not \(17600,\)"):
        model.predict(clips(trained)[0])
    with pytest.raises(UserError, match="NaN"):
        model.predict(np.full((1, 17_600), np.nan))
    assert model.predict(np.zeros((0, 17_600))).shape == (0, 15)


# Which model is meant


def test_a_model_by_folder(trained, logged, tmp_path):
    export_model(trained, tmp_path / "mine")
    for folder in (tmp_path / "mine", logged):
        assert load_trained(str(folder), None, None, {}).thresholds == trained.thresholds


def test_a_model_of_sound_takes_no_config(trained, tmp_path):
    folder = str(trained.save(tmp_path / "model"))
    with pytest.raises(UserError, match=r"'model\.width' belongs to the trained model.*leave --config out"):
        load_trained(folder, None, None, {"model.width": "3"})


def test_a_file_of_weights_needs_its_task(trained, tmp_path):
    torch.save(dict(trained.weights), tmp_path / "some.pth")
    with pytest.raises(UserError, match=r"some\.pth holds weights alone: .*--task tagging"):
        load_trained(str(tmp_path / "some.pth"), None, None, {})
    with pytest.raises(UserError, match=r"there is no file of weights at .*gone\.pth"):
        load_trained(str(tmp_path / "gone.pth"), None, "tagging", {})
    with pytest.raises(UserError, match="holds none of the published taggers"):
        load_trained(str(tmp_path / "some.pth"), None, "tagging", {"tags": "mtg_jamendo"})
    with pytest.raises(UserError, match="multi_instrument reads no weights without a config"):
        load_trained(str(tmp_path / "some.pth"), None, "multi_instrument", {})


def test_a_published_tagger_tags_a_recording(tmp_path):
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("make_expected", Path(__file__).parent / "published/make_expected.py")
    independent = module_from_spec(spec)
    spec.loader.exec_module(independent)
    weights = {name: torch.from_numpy(values) for name, values in independent.seeded_weights("musicnn").items()}
    weights |= {
        name.replace("running_mean", "num_batches_tracked"): torch.tensor(1)
        for name in weights
        if name.endswith("running_mean")
    }
    torch.save(weights, tmp_path / "tagger.pth")
    with pytest.raises(UserError, match=r"--config tags=NAME, NAME one of mtg_jamendo, magnatagatune"):
        load_trained(str(tmp_path / "tagger.pth"), None, "tagging", {})
    tagger = load_trained(str(tmp_path / "tagger.pth"), None, "tagging", {"tags": "magnatagatune"})
    assert tagger.classes[:2] == ("guitar", "classical")
    answers = json.loads((Path(__file__).parent / "published/expected.json").read_text())
    signal = independent.test_signal(3.0)[None]
    got = next(iter(tagger.probabilities(signal)))
    np.testing.assert_allclose(got, answers["seeded"]["musicnn"]["probabilities"], atol=2e-3)
    soundfile.write(tmp_path / "song.wav", signal[0], 16_000)
