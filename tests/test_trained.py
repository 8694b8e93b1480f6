"""A trained model on the disk, and what `timbrel predict` does with it."""

import json
import pickle
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tqdm import tqdm

from timbrel.errors import UserError
from timbrel.evaluation import evaluate_run
from timbrel.predict import _in_words, _output_names, load_trained, predict_file, predict_files
from timbrel.recording import mono_blocks, windows_of
from timbrel.tracking import Tracker
from timbrel.trained import TrainedModel, load_weights


@pytest.fixture(scope="module")
def trained(instrument_task, tiny_config):
    torch.manual_seed(0)
    weights = instrument_task.build_model(tiny_config).state_dict()
    thresholds = {name: 0.3 + 0.01 * number for number, name in enumerate(instrument_task.classes(tiny_config))}
    return TrainedModel(instrument_task, tiny_config, thresholds, weights)


@pytest.fixture
def saved(trained, tmp_path):
    return trained.save(tmp_path / "model")


class Boom:
    """What a malicious file would run."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code from the file ran')",))


# On the disk


def test_round_trip(trained, saved):
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "thresholds.json", "weights.pt"]
    loaded = TrainedModel.load(saved)
    assert loaded.task is trained.task
    assert loaded.config == trained.config
    assert loaded.thresholds == trained.thresholds
    assert loaded.classes == trained.classes == trained.task.classes(trained.config)
    assert all(torch.equal(loaded.weights[name], tensor) for name, tensor in trained.weights.items())
    windows = np.random.default_rng(0).normal(scale=0.1, size=(5, trained.config.mixing.samples)).astype(np.float32)
    first, second = (list(model.probabilities(iter(windows), batch_size=2)) for model in (trained, loaded))
    np.testing.assert_array_equal(first, second)
    assert not loaded.model.training


@pytest.mark.parametrize("name", ["weights.pt", "config.json", "thresholds.json"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(UserError, match=f"holds no trained model: {name} is missing"):
        TrainedModel.load(saved)


@pytest.mark.parametrize("name", ["weights.pt", "config.json", "thresholds.json"])
@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_damaged_file_is_named(saved, name, content):
    (saved / name).write_text(content)
    with pytest.raises(UserError, match=name.split(".")[0]):
        TrainedModel.load(saved)


@pytest.mark.parametrize("content", [Boom(), {"a": Boom()}, types.SimpleNamespace(a=1)])
@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_code_in_a_file_of_weights_is_never_run(tmp_path, content, write):
    write(content, tmp_path / "weights.pt")
    with pytest.raises(UserError, match=r"weights\.pt is no readable file of weights"):
        load_weights(tmp_path / "weights.pt")


def test_weights_that_are_none(tmp_path):
    with pytest.raises(UserError, match=r"no file of weights at .*missing\.pt"):
        load_weights(tmp_path / "missing.pt")
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    with pytest.raises(UserError, match="holds a list, not a state_dict"):
        load_weights(tmp_path / "list.pt")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keep=st.floats(0, 0.999), junk=st.binary(max_size=30))
def test_truncated_and_garbled_weights_are_refused(saved, tmp_path, keep, junk):
    content = (saved / "weights.pt").read_bytes()
    for damaged in (content[: int(keep * len(content))], junk, junk + content[: int(keep * len(content))]):
        (tmp_path / "damaged.pt").write_bytes(damaged)
        with pytest.raises(UserError, match=r"damaged\.pt"):
            load_weights(tmp_path / "damaged.pt")


@pytest.mark.parametrize("name", ["weights.pt", "config.json", "thresholds.json"])
def test_a_model_cut_short_in_mlflow_is_named_by_its_run(saved, tmp_path, tone_library, name):
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[: len(content) // 2])
    tracker = Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = tracker.start("cut short", {})
    run.log_folder(saved, "model")
    for use in (
        lambda: load_trained(run.id, tracker, None, {}),
        lambda: evaluate_run(run.id, tone_library, {}, tracker),
    ):
        with pytest.raises(UserError, match=rf"run {run.id}'s artifact model") as raised:
            use()
        assert "timbrel-" not in str(raised.value)
    assert len(tracker.find({})) == 1


# Windows


def direct_windows(audio, rate, samples):
    """The windows cut from the whole file at once: around the middle of each second, silence beyond the ends."""
    count = int(np.ceil(len(audio) / rate))
    lead = (samples - rate) // 2
    padded = np.pad(audio, (max(lead, 0), samples + rate))
    return [padded[first : first + samples] for first in range(max(-lead, 0), max(-lead, 0) + count * rate, rate)]


@pytest.mark.parametrize("seconds", [0.01, 0.5, 1.0, 1.5, 4.0, 29.99, 30.0, 61.3, 90.0])
@pytest.mark.parametrize("window_s", [4.0, 1.0, 0.5, 3.0001])
def test_windows_are_those_cut_from_the_whole(tmp_path, seconds, window_s):
    rate = 1000
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", audio, rate, subtype="FLOAT")
    got = list(windows_of(mono_blocks(tmp_path / "a.wav", rate), rate, round(window_s * rate)))
    expected = direct_windows(audio, rate, round(window_s * rate))
    assert len(got) == len(expected) == int(np.ceil(round(seconds * rate) / rate))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(("stored", "rate"), [(4410, 1600), (800, 1600), (4800, 3200), (2205, 1600)])
@pytest.mark.parametrize("seconds", [1.0, 5.0, 31.0, 60.0, 2.75])
def test_windows_of_other_rates(tmp_path, stored, rate, seconds):
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, (round(seconds * stored), 2)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", audio, stored, subtype="FLOAT")
    got = list(windows_of(mono_blocks(tmp_path / "a.wav", rate), rate, 4 * rate))
    assert len(got) == int(np.ceil(seconds))
    expected = direct_windows(soxr.resample(audio.mean(axis=1), stored, rate), rate, 4 * rate)
    np.testing.assert_allclose(got, expected[: len(got)], atol=1e-3)


def test_windows_come_as_the_file_is_read(tmp_path):
    """Ten hours of audio would not fit; a window needs no more than a block of the file."""
    rate = 100
    soundfile.write(tmp_path / "long.wav", np.zeros(36_000 * rate), rate)
    windows = windows_of(mono_blocks(tmp_path / "long.wav", rate), rate, 4 * rate)
    first = [next(windows) for _ in range(100)]
    assert all(len(window) == 4 * rate for window in first)
    held = windows.gi_frame.f_locals["held"]
    assert len(held) < 60 * rate
    assert held.base is None or held.base.size < 120 * rate


# Predictions


@pytest.mark.parametrize(
    ("seconds", "rate", "channels"), [(0.2, 16_000, 1), (2.5, 16_000, 2), (3.0, 22_050, 1), (7.0, 44_100, 6)]
)
def test_a_row_a_second(trained, tmp_path, seconds, rate, channels):
    audio = np.random.default_rng(0).normal(scale=0.1, size=(round(seconds * rate), channels))
    soundfile.write(tmp_path / "a.wav", audio, rate)
    got = predict_file(trained, tmp_path / "a.wav")
    assert got.shape == (int(np.ceil(seconds)), 15)
    assert ((got >= 0) & (got <= 1)).all()


def test_what_is_no_recording_is_named(trained, tmp_path):
    with pytest.raises(UserError, match=r"there is no file .*gone\.wav"):
        predict_file(trained, tmp_path / "gone.wav")
    (tmp_path / "text.wav").write_text("not audio")
    with pytest.raises(UserError, match=r"text\.wav can't be read as audio"):
        predict_file(trained, tmp_path / "text.wav")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16_000)
    with pytest.raises(UserError, match=r"empty\.wav holds no audio"):
        predict_file(trained, tmp_path / "empty.wav")
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan), 16_000, subtype="FLOAT")
    with pytest.raises(UserError, match=r"nan\.wav holds NaN"):
        predict_file(trained, tmp_path / "nan.wav")
    with pytest.raises(UserError, match="there is no file"):
        predict_file(trained, tmp_path)


def test_no_bar_outlives_an_interrupted_prediction(trained, tmp_path):
    """While the error is held, as by whoever prints its message: a bar closed later would draw over that."""
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(scale=0.1, size=320_000), 16_000)  # two batches

    def interrupt(*_):
        raise KeyboardInterrupt

    hook = trained.model.register_forward_pre_hook(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt) as held:
            predict_file(trained, tmp_path / "a.wav")
        assert held.value is not None
        assert not tqdm._instances
    finally:
        hook.remove()


def test_bad_files_are_named_after_the_good_ones_are_done(trained, saved, tmp_path, capsys):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        soundfile.write(tmp_path / folder / "song.wav", np.zeros(16_000), 16_000)
    files = [tmp_path / "gone.wav", tmp_path / "one/song.wav", tmp_path / "two/song.wav"]
    with pytest.raises(UserError, match=r"gone\.wav"):
        predict_files(files, load_trained(str(saved), None, None, {}), tmp_path / "out")
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == sorted(f"{name}.{kind}" for name in ("song", "song-2") for kind in ("csv", "json", "png"))
    answer = json.loads((tmp_path / "out/song-2.json").read_text())
    assert answer["classes"]["piano"]["threshold"] == trained.thresholds["piano"]
    for name, facts in answer["classes"].items():
        assert facts["present"] == (name in answer["seconds"][0]["present"])
    rows = (tmp_path / "out/song.csv").read_text().splitlines()
    assert rows[0] == ",".join(["second", *trained.classes])
    assert len(rows) == 2
    assert "song.wav" in capsys.readouterr().out


@given(st.lists(st.sampled_from(["a.wav", "x/a.wav", "a.flac", "b.wav", "a-2.wav", "a-2.mp3"])))
def test_output_names_are_unique(files):
    names = _output_names([Path(file) for file in files])
    assert len(set(names)) == len(names) == len(files)


def test_what_is_printed(trained):
    """What is present; or the likeliest, as "nothing" alone would tell little."""
    whole = np.linspace(0.0, 0.29, len(trained.classes))
    last = list(reversed(trained.classes))[:3]
    assert (
        _in_words(trained, whole)
        == f"nothing above its threshold; highest {last[0]} 0.29, {last[1]} 0.27, {last[2]} 0.25"
    )
    whole[0] = 0.9
    assert _in_words(trained, whole) == f"{trained.classes[0]} 0.90"
