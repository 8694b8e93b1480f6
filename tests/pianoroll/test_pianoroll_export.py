"""A pianoroll model taken elsewhere: its folder says what it answers, ONNX holds it where it can, MLflow loads it."""

import numpy as np
import pytest
import torch

from tasks.pianoroll.rolls import Rolls
from timbrel.config import with_values
from timbrel.errors import UserError
from timbrel.export import export_model
from timbrel.logged_model import save_logged_model
from timbrel.trained import TrainedModel


@pytest.fixture(scope="module")
def make_trained(roll_task, tiny_rolls):
    def make(engine):
        config = with_values(tiny_rolls, {"front_end.engine": engine})
        torch.manual_seed(0)
        thresholds = {"piano": 0.2, "violin": 0.4, "flute": 0.6, "pianoroll": 0.55, "pitch roll": 0.7}
        return TrainedModel(roll_task, config, thresholds, roll_task.build_model(config).state_dict())

    return make


@pytest.fixture(scope="module")
def waveforms(tones, tiny_rolls):
    return tones(3, 1, with_values(tiny_rolls, {"front_end.engine": "torch"}))["audio"]


@pytest.mark.parametrize("engine", ["librosa", "torch"])
def test_the_folder_says_what_the_model_answers(make_trained, waveforms, tmp_path, engine):
    trained = make_trained(engine)
    export_model(trained, tmp_path / "mine")
    text = (tmp_path / "mine/README.md").read_text()
    assert "Which of 3 instruments (`labels.txt`) plays which note when" in text
    assert "2.048 s at a time, in frames of 64 ms and 88 pitches from MIDI note 21 on" in text
    assert "and those of pianoroll and pitch roll" in text
    assert "{" not in text
    # What it tells people to write works.
    lines = [line[4:] for line in text.splitlines() if line.startswith("    ") and "timbrel predict" not in line]
    program = "\n".join(lines).replace('Path("mine")', "folder")
    names = {"waveforms": waveforms, "folder": tmp_path / "mine"}
    exec(compile(program, "README.md", "exec"), names)
    assert names["playing"].shape == (3, 88, 32)
    assert set(names["present"]) <= {"piano", "violin", "flute"}


def test_onnx_of_a_front_end_outside_of_the_network_is_refused(make_trained, tmp_path):
    with pytest.raises(
        UserError, match=r"front_end\.engine=librosa, .* ONNX .*--config front_end\.engine=torch"
    ) as raised:
        export_model(make_trained("librosa"), tmp_path / "mine", onnx=True)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "mine").exists()


def test_onnx_gives_the_three_rolls(make_trained, waveforms, tmp_path):
    import onnxruntime

    trained = make_trained("torch")
    export_model(trained, tmp_path / "mine", onnx=True)
    text = (tmp_path / "mine/README.md").read_text()
    assert "`pianoroll` (batch, instrument, pitch, frame), `pitch_roll` (batch, pitch, frame)" in text
    session = onnxruntime.InferenceSession(tmp_path / "mine/model.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 3):
        found = session.run(["pianoroll", "pitch_roll", "instrument_roll"], {"waveform": waveforms[:count]})
        logits = np.stack([each["logits"] for each in trained.predictions(waveforms[:count])])
        for got, expected in zip(found, vars(Rolls.of(logits)).values(), strict=True):
            assert got.shape == expected.shape
            np.testing.assert_allclose(got, expected, atol=5e-3)  # float16, which is kept of predictions


@pytest.mark.parametrize("engine", ["librosa", "torch"])
def test_mlflow_predicts_from_waveforms(make_trained, waveforms, tmp_path, engine):
    import mlflow

    trained = make_trained(engine)
    save_logged_model(trained, tmp_path / "model")
    table = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(waveforms)
    assert list(table.columns) == ["piano", "violin", "flute"]
    np.testing.assert_allclose(table.to_numpy(), np.stack(list(trained.probabilities(waveforms))), atol=1e-6)
