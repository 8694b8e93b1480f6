"""Teachers: what each hears, in which windows, and what is said where something is missing."""

import importlib.util
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from timbrel import registry
from timbrel.config import with_values
from timbrel.embeddings.live import live_teacher
from timbrel.embeddings.sound import songs_of
from timbrel.embeddings.teachers import load_teacher
from timbrel.embeddings.teachers.options import TeacherOptions
from timbrel.errors import UserError
from timbrel.tracking import Tracker
from timbrel.trained import TrainedModel

WEIGHTS = os.environ.get("TIMBREL_PUBLISHED_WEIGHTS", "")
"""Folder of the authors' weight files; they are not in this repository."""
RATE_HZ = 16_000
SIZES = {"musicnn": 200, "crnn": 32, "fcn": 64}
SOURCE = importlib.util.spec_from_file_location(
    "make_expected_weights", Path(__file__).parents[1] / "published/make_expected.py"
)
independent = importlib.util.module_from_spec(SOURCE)
SOURCE.loader.exec_module(independent)


@pytest.fixture
def tracker(tmp_path):
    return Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    """Files in the authors' layout, with weights from a seed."""
    folder = tmp_path_factory.mktemp("weights")
    for net in SIZES:
        weights = {name: torch.from_numpy(values) for name, values in independent.seeded_weights(net).items()}
        counts = [name.replace("running_mean", "num_batches_tracked") for name in weights if "running_mean" in name]
        torch.save(weights | dict.fromkeys(counts, torch.tensor(7)), folder / f"{net}.pth")
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory, instrument_task, tiny_config):
    torch.manual_seed(0)
    weights = instrument_task.build_model(tiny_config).state_dict()
    thresholds = dict.fromkeys(instrument_task.classes(tiny_config), 0.5)
    return TrainedModel(instrument_task, tiny_config, thresholds, weights).save(
        tmp_path_factory.mktemp("run") / "model"
    )


def noise(seconds, rate=RATE_HZ, seed=0):
    return np.random.default_rng(seed).normal(scale=0.1, size=round(seconds * rate)).astype(np.float32)


def windows_by_hand(audio, rate, window_s):
    """Windows around the middle of each second, silence beyond the ends."""
    samples = round(window_s * rate)
    lead = (samples - rate) // 2
    padded = np.pad(audio, (lead, samples))
    return np.stack([padded[first : first + samples] for first in range(0, len(audio), rate)])


# Published taggers


@pytest.mark.parametrize(("net", "window_s"), [("musicnn", None), ("crnn", 4.0), ("crnn", 2.5), ("fcn", 20.5)])
def test_a_published_tagger_gives_what_its_last_layer_hears(seeded, tracker, net, window_s):
    file = seeded / f"{net}.pth"
    teacher = load_teacher(net, TeacherOptions(weights=str(file), window_s=window_s), tracker)
    assert (teacher.name, teacher.sample_rate, teacher.dimension, teacher.hop_s) == (net, RATE_HZ, SIZES[net], 1.0)
    audio = noise(2.5)
    got = teacher(audio)
    assert got.shape == (3, SIZES[net])
    assert got.dtype == np.float32
    heard = torch.from_numpy(windows_by_hand(audio, RATE_HZ, window_s or 3.0))
    _, model = registry.load("task", "tagging").from_weights(torch.load(file), str(file), {"tags": "mtg_jamendo"})
    last = [layer for layer in model.head if isinstance(layer, torch.nn.Linear)][-1]
    with torch.inference_mode():
        # The answer of the whole network, from the embedding through the last layer.
        torch.testing.assert_close(last(torch.from_numpy(got)), model(heard), atol=1e-4, rtol=1e-3)


@pytest.mark.skipif(not WEIGHTS, reason="TIMBREL_PUBLISHED_WEIGHTS names no folder of the authors' weight files")
@pytest.mark.parametrize("net", ["musicnn", "crnn"])
def test_the_authors_weights(tracker, net):
    teacher = load_teacher(net, TeacherOptions(weights=f"{WEIGHTS}/jamendo_{net}.pth", window_s=4.0), tracker)
    loud, quiet = teacher(noise(3)), teacher(np.zeros(3 * RATE_HZ, dtype=np.float32))
    assert loud.shape == (3, SIZES[net])
    assert np.isfinite(loud).all()
    assert np.abs(loud - quiet).max() > 0.1
    assert (loud >= 0).all() == (net == "musicnn")  # after a ReLU; the CRNN's are a recurrent layer's


def test_a_song_is_heard_as_its_whole_sound(seeded, tracker, library):
    teacher = load_teacher("crnn", TeacherOptions(weights=str(seeded / "crnn.pth"), window_s=2.0), tracker)
    song = songs_of(library, "tones")[0]
    expected = teacher(np.concatenate(list(song.blocks(RATE_HZ))))
    assert expected.shape == (4, 32)
    np.testing.assert_allclose(teacher.of_song(song), expected, atol=1e-5)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(teacher)).of_song(song), expected, atol=1e-5)


def test_what_published_taggers_refuse(seeded, tracker, tmp_path):
    def refused(name, why, **options):
        with pytest.raises(UserError, match=why):
            load_teacher(name, TeacherOptions(**options), tracker)

    refused("crnn", r"needs its weights: get best_model\.pth from minzwon/.* --weights FILE")
    refused("crnn", r"no file of weights nowhere\.pth for teacher crnn: get", weights="nowhere.pth")
    refused("crnn", r"fcn\.pth holds the weights of fcn, not of crnn", weights=str(seeded / "fcn.pth"))
    refused(
        "fcn", r"--window-s 4 is too short for fcn, which needs 20\.48 s", weights=str(seeded / "fcn.pth"), window_s=4
    )
    weights = torch.load(seeded / "crnn.pth")
    del weights["dense.bias"]
    torch.save(weights, tmp_path / "headless.pth")
    refused("crnn", r"has no classifier \('dense\.bias' is missing\)", weights=str(tmp_path / "headless.pth"))


# Runs of this platform


def test_a_classifier_of_this_platform(exported, tracker, tiny_config):
    for name, options in (("checkpoint", TeacherOptions(weights=str(exported))), (str(exported), TeacherOptions())):
        teacher = load_teacher(name, options, tracker)
        assert (teacher.name, teacher.sample_rate, teacher.window_s) == ("checkpoint", RATE_HZ, 1.1)
        audio = noise(2.2)
        got = teacher(audio)
        model = TrainedModel.load(exported).model
        assert got.shape == (3, model.head[-1].in_features)
        with torch.inference_mode():
            heard = torch.from_numpy(windows_by_hand(audio, RATE_HZ, tiny_config.mixing.seconds))
            torch.testing.assert_close(model.head[-1](torch.from_numpy(got)), model(heard), atol=1e-4, rtol=1e-3)


def test_what_a_checkpoint_refuses(exported, tmp_path):
    tracker = Tracker("http://127.0.0.1:9")
    for options, why in (
        ({}, "give a run's id or an exported folder"),
        ({"weights": str(tmp_path)}, "holds no trained model"),
        ({"weights": "a.pth"}, "takes a run's id or an exported folder, not a.pth: name a published tagger"),
        ({"weights": "0" * 32}, "no MLflow server answers"),
        ({"weights": str(exported), "window_s": 2.0}, "--window-s belongs to the model"),
    ):
        with pytest.raises(UserError, match=why):
            load_teacher("checkpoint", TeacherOptions(**options), tracker)
    task = registry.load("task", "pianoroll")
    config = with_values(task.config_type(), task.presets["smoke"])
    model = TrainedModel(task, config, dict.fromkeys(task.classes(config), 0.5), task.build_model(config).state_dict())
    with pytest.raises(UserError, match=r"\(task pianoroll\) is no classifier of sound"):
        load_teacher(str(model.save(tmp_path / "roll")), TeacherOptions(), tracker)


# Files


def test_files_of_others(library, tracker, tmp_path):
    folder = tmp_path / "vectors"
    (folder / "clicks").mkdir(parents=True)
    values = np.arange(12, dtype=np.float64).reshape(4, 3)
    np.save(folder / "song 0.npy", values)
    np.savez(folder / "song 1.npz", any=values + 1)
    np.save(folder / "clicks/train song.npy", values + 2)
    np.save(folder / "song 2.npy", np.array([{}]), allow_pickle=True)
    np.savez(folder / "song 3.npz", a=values, b=values)
    (folder / "song 4.npy").write_bytes(b"")
    np.save(folder / "song 5.npy", np.array(["a"]))
    teacher = load_teacher("files", TeacherOptions(path=str(folder), hop_s=1.0), tracker)
    assert (teacher.dimension, teacher.hop_s, teacher.sample_rate) == (3, 1.0, 0)
    songs = {song.name: song for name in ("clicks", "tones") for song in songs_of(library, name)}
    for name, more in (("song 0", 0), ("song 1", 1), ("train song", 2)):
        np.testing.assert_array_equal(teacher.of_song(songs[name]), values + more)
    for name, why in (
        ("song 2", r"song 2\.npy is no readable array"),
        ("song 3", r"song 3\.npz holds 2 arrays \(a, b\)"),
        ("song 4", r"song 4\.npy is no readable array"),
        ("song 5", r"song 5\.npy holds <U1, not numbers"),
        ("song 6", r"there is no .*song 6\.npy \(or \.npz\)"),
    ):
        with pytest.raises(UserError, match=why):
            teacher.of_song(songs[name])


def test_what_files_refuse(tracker, tmp_path):
    for options, why in (
        ({}, "give it as --path FOLDER"),
        ({"path": str(tmp_path)}, "say --hop-s SECONDS"),
        ({"path": str(tmp_path), "hop_s": 1.0}, r"holds no \.npy or \.npz file"),
        ({"weights": "x"}, "teacher files takes no --weights x"),
    ):
        with pytest.raises(UserError, match=why):
            load_teacher("files", TeacherOptions(**options), tracker)


# Names


def test_names_and_options(tracker, exported):
    for name, options, why in (
        ("musicn", {}, "unknown teacher 'musicn': did you mean 'musicnn'"),
        ("crnn", {"path": "x"}, "teacher crnn takes no --path x"),
        ("crnn", {"hop_s": 0.0}, "teacher crnn takes more than 0 s"),
        ("vggish", {"hop_s": 1.0}, "teacher vggish takes no --hop-s"),
        ("panns", {"window_s": 1.0}, "teacher panns takes no --window-s"),
        (str(exported), {"weights": "x"}, "is a model already"),
    ):
        with pytest.raises(UserError, match=why):
            load_teacher(name, TeacherOptions(**options), tracker)
    for values in ({"hop_s": -1.0}, {"window_s": 0.0}, {"window_s": 61.0}):
        with pytest.raises(ValueError, match=r"_s .* must be"):
            TeacherOptions(**values)


# Beside the training


def test_live_windows_are_those_of_the_store(seeded, tracker):
    weights = str(seeded / "musicnn.pth")
    live = live_teacher("musicnn", weights, tracker)
    audio = np.stack([noise(4.5, seed=seed) for seed in range(2)])
    found = live(torch.from_numpy(audio))
    assert found.shape == (2, 5, 200)
    assert not found.requires_grad
    teacher = load_teacher("musicnn", TeacherOptions(weights=weights), tracker)
    for one, expected in zip(found, audio, strict=True):
        np.testing.assert_allclose(one.numpy(), teacher(expected), atol=1e-4)


def test_a_live_teacher_of_longer_windows_hears_the_example_as_it_is(seeded, tracker):
    live = live_teacher("crnn", str(seeded / "crnn.pth"), tracker)
    assert live(torch.from_numpy(noise(4))[None]).shape == (1, 1, 32)
    with pytest.raises(UserError, match=r"examples of 1\.00 s are too short for teacher crnn"):
        live(torch.from_numpy(noise(1))[None])


def test_a_live_teacher_at_another_rate_does_not_learn(exported, tracker):
    live = live_teacher("", str(exported), tracker, sample_rate=8_000)
    live.train()
    assert not any(part.training for part in live.modules())
    assert not any(parameter.requires_grad for parameter in live.parameters())
    before = {name: tensor.clone() for name, tensor in live.state_dict().items()}
    found = live(torch.from_numpy(noise(3, rate=8_000))[None])
    assert found.shape[:2] == (1, 3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in live.state_dict().items())


def test_teachers_that_do_not_run_beside_the_training(tracker, tmp_path):
    np.save(tmp_path / "song.npy", np.zeros((2, 2)))
    with pytest.raises(UserError, match="teacher files needs a folder"):
        live_teacher("files", "", tracker)
