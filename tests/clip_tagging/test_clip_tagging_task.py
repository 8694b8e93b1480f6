"""Task clip_tagging: labels with what nobody judged, networks, figures, and learning without Ray."""

import math

import mlflow.pyfunc
import numpy as np
import pytest
import soundfile
import torch

from tasks.clip_tagging import TASK
from tasks.clip_tagging.model import Student, TeacherLR
from timbrel.clip_labels import OPENMIC
from timbrel.config import with_values
from timbrel.errors import UserError
from timbrel.export import export_model, write_onnx
from timbrel.library import Library
from timbrel.logged_model import LoggedModel, save_logged_model
from timbrel.mixing.index import build_index
from timbrel.mixing.pool import Stream, mix
from timbrel.outputs import Outputs
from timbrel.predict import predict_files
from timbrel.tags import JudgedSong
from timbrel.trained import TrainedModel
from timbrel.training.loop import Learner
from timbrel.training.run import evaluation_key, judged_key, stream_key

RATE_HZ = 16_000


def test_labels_of_songs_are_nan_where_nobody_judged(settings_of):
    songs = [
        JudgedSong("clips", "one", {"piano": 1.0, "violin": 0.2, "voice": 0.5}, ()),
        JudgedSong("clips", "two", {}, ()),
    ]
    labels = TASK.song_labels(songs, settings_of())
    assert labels.dtype == np.float32
    known = {OPENMIC[i]: labels[0, i] for i in np.flatnonzero(~np.isnan(labels[0]))}
    assert known == {"piano": 1.0, "violin": 0.0}  # 0.5 is neither, as the authors have it
    assert np.isnan(labels[1]).all()


def test_stems_speak_where_no_song_was_judged(settings_of):
    songs = [JudgedSong("band", "one", {}, ())]
    assert TASK.song_labels(songs, settings_of()) is None
    labels = TASK.stem_labels(["piano", "violin", "?"], np.array([0, 40, -1], dtype=np.int16), settings_of())
    assert [[OPENMIC[i] for i in np.flatnonzero(row)] for row in labels] == [["piano"], ["violin"], []]


def test_tags_are_not_known_of_stems(settings_of):
    with pytest.raises(UserError, match=r"no song was judged on a tag of magnatagatune.*data\.datasets"):
        TASK.song_labels([JudgedSong("band", "one", {}, ())], settings_of("magnatagatune"))
    judged = JudgedSong("magnatagatune", "one", {"guitar": 1.0}, TASK.classes(settings_of("magnatagatune")))
    labels = TASK.song_labels([judged], settings_of("magnatagatune"))
    assert labels.shape == (1, 50)
    assert labels.sum() == 1


def test_which_network_is_built(settings_of):
    config = settings_of("small")
    assert isinstance(TASK.build_model(config), Student)
    assert not TASK.hears_embeddings(config)
    linear = settings_of("small", system="teacher_lr", teacher__name="vggish")
    assert TASK.hears_embeddings(linear)
    with pytest.raises(ValueError, match=r"teacher\.dimension"):
        TASK.build_model(linear)
    model = TASK.build_model(with_values(linear, {"teacher.dimension": 128}))
    assert isinstance(model, TeacherLR)
    assert model(torch.zeros(2, 10, 128)).shape == (2, 20)


def test_what_the_optimiser_is_given(settings_of):
    model = TASK.build_model(settings_of("small"))
    (group,) = TASK.parameter_groups(model, settings_of("small"))
    assert (group["lr"], group["weight_decay"]) == (0.01, 1e-4)
    assert sum(values.numel() for values in group["params"]) == 22_852
    (group,) = TASK.parameter_groups(TeacherLR(4, 20), settings_of("teacher_lr"))
    assert (group["lr"], group["weight_decay"]) == (0.1, 0.0)


def f1(hits, misses, false_alarms):
    return 2 * hits / (2 * hits + misses + false_alarms)


def test_figures_of_openmic_by_hand(settings_of):
    """Two classes are judged; of the third nobody knows anything, so that it counts nowhere."""
    config = settings_of()
    labels = np.full((6, 20), np.nan, dtype=np.float32)
    scores = np.full((6, 20), 0.9, dtype=np.float32)
    labels[:5, 0], scores[:5, 0] = (1, 1, 0, 0, 0), (0.8, 0.3, 0.4, 0.1, 0.2)
    labels[1:, 1], scores[1:, 1] = (1, 0, 1, 0, 1), (0.9, 0.1, 0.5, 0.3, 0.6)
    outputs = Outputs(TASK.classes(config), np.arange(6).astype(str), labels, scores)
    figures = TASK.evaluate(outputs, dict.fromkeys(outputs.classes, 0.5), config)
    first = (f1(1, 1, 1) + f1(2, 1, 1)) / 2  # at 0.4 on, present: the first, missed: the second, false: the third
    assert figures["openmic_f1"] == pytest.approx((first + 1.0) / 2)
    assert figures["roc_auc_macro"] == pytest.approx((5 / 6 + 1.0) / 2)
    assert figures["pr_auc_macro"] == pytest.approx(((1 + 2 / 3) / 2 + 1.0) / 2)
    judged = ~np.isnan(labels)
    likelihood = np.where(labels == 1, scores, 1 - scores)[judged]
    assert figures["loss"] == pytest.approx(-np.log(likelihood).mean(), rel=1e-5)


def test_magnatagatune_has_no_openmic_f1(settings_of):
    config = settings_of("magnatagatune")
    labels = np.tile(np.eye(2, dtype=np.float32), (1, 25))
    outputs = Outputs(TASK.classes(config), np.array(["a", "b"]), labels, np.full((2, 50), 0.5, dtype=np.float32))
    assert "openmic_f1" not in TASK.evaluate(outputs, dict.fromkeys(outputs.classes, 0.5), config)


def test_a_library_of_stems_is_heard_as_it_is(band_library, settings_of):
    """Every stem with a class at once, labelled by its program; and a student can take a step on it."""
    config = settings_of("smoke", training__precision="float32")
    index = build_index(Library.open(band_library), "train", TASK, config)
    examples = mix(Stream(index, config.mixing, config.seed, "train"), index, range(4))
    assert examples["audio"].shape == (4, config.mixing.samples)
    assert examples["labels"].shape == (4, 20)
    assert (examples["labels"].sum(axis=1) > 1).any()
    step = Learner(TASK, config, torch.device("cpu")).train_epoch([examples])
    assert math.isfinite(step["loss"])


@pytest.fixture(scope="module")
def tones():
    """Make a second of sound each whose pitch says which of the first three classes is there; all are judged."""

    def make(count, seed=0):
        generator = np.random.default_rng(seed)
        labels = np.zeros((count, 20), dtype=np.float32)
        labels[:, :3] = generator.integers(0, 2, (count, 3))
        time_s = np.arange(RATE_HZ) / RATE_HZ
        waves = np.stack([0.2 * np.sin(2 * np.pi * hz * time_s) for hz in (500, 1500, 4000)])
        audio = labels[:, :3] @ waves + generator.normal(scale=0.01, size=(count, RATE_HZ))
        return {"audio": audio.astype(np.float32), "labels": labels, "song": np.arange(count).astype(str)}

    return make


def test_the_small_student_learns(settings_of, tones):
    config = settings_of("small", mixing__seconds=1.0, training__precision="float32", training__decay=1.0)
    learner = Learner(TASK, config, torch.device("cpu"))
    train = tones(32)
    batches = [{name: values[i : i + 8] for name, values in train.items()} for i in range(0, 32, 8)]
    losses = [learner.train_epoch(batches)["loss"] for _ in range(20)]
    assert losses[-1] < 0.1 * losses[0]
    figures = learner.validate(tones(32, seed=1))
    assert figures["loss"] == learner.best_loss
    assert math.isfinite(figures["openmic_f1"])
    assert figures["roc_auc_macro"] > 0.9


def test_teacher_lr_learns(settings_of):
    config = settings_of(
        "small", system="teacher_lr", teacher__name="vggish", teacher__dimension=8, training__precision="float32"
    )
    learner = Learner(TASK, config, torch.device("cpu"))
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, (32, 20)).astype(np.float32)
    mixing = generator.normal(size=(20, 8))
    embedding = np.repeat((labels @ mixing)[:, None], 5, axis=1) + generator.normal(scale=0.1, size=(32, 5, 8))
    batch = {"features": embedding.astype(np.float32), "labels": labels}
    losses = [learner.train_epoch([batch] * 20)["loss"] for _ in range(4)]
    assert losses[-1] < 0.8 * losses[0]


def test_the_weights_alone_make_the_student_again(settings_of):
    """The front end is built from the config and has no weights."""
    config = settings_of("small", width=4)
    torch.manual_seed(0)
    first, second = TASK.build_model(config).eval(), TASK.build_model(config).eval()
    assert not [name for name in first.state_dict() if name.startswith("front_end")]
    second.load_state_dict(first.state_dict())
    audio = 0.1 * torch.randn(2, config.mixing.samples)
    with torch.inference_mode():
        assert torch.equal(first(audio), second(audio))


def test_onnx_gives_the_same_probabilities(settings_of, tmp_path):
    import onnxruntime

    config = settings_of("small", width=2, mixing__seconds=1.0)
    model = TASK.build_model(config)
    trained = TrainedModel(TASK, config, dict.fromkeys(TASK.classes(config), 0.5), model.state_dict())
    write_onnx(trained, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    clips = 0.1 * torch.randn(3, config.mixing.samples)
    (got,) = session.run(["probabilities"], {"waveform": clips.numpy()})
    with torch.inference_mode():
        np.testing.assert_allclose(got, torch.sigmoid(trained.model(clips)), atol=1e-5)


def test_teacher_lr_hears_no_sound(settings_of):
    config = with_values(settings_of("teacher_lr"), {"teacher.dimension": 768})
    assert "its embedding by passt: (time, 768)" in TASK.answer(config)
    assert "10 s of mono sound at 32000 Hz" in TASK.answer(settings_of())
    with pytest.raises(UserError, match="leave out --onnx"):
        TASK.onnx_network(TASK.build_model(config), config)


def test_a_model_on_embeddings_is_kept_and_used_as_such(settings_of, tmp_path):
    values = {"teacher.name": "t", "teacher.dimension": 6, "teacher.hop_s": 0.96}
    config = with_values(settings_of("small", system="teacher_lr"), values)
    weights = TASK.build_model(config).state_dict()
    trained = TrainedModel(TASK, config, dict.fromkeys(TASK.classes(config), 0.5), weights)
    save_logged_model(trained, tmp_path / "logged")
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "logged"))
    clips = np.random.default_rng(0).normal(size=(3, 10, 6)).astype(np.float32)
    logits = clips.mean(axis=1) @ weights["head.weight"].numpy().T + weights["head.bias"].numpy()
    np.testing.assert_allclose(loaded.predict(clips).to_numpy(), 1 / (1 + np.exp(-logits)), rtol=1e-5)
    with pytest.raises(UserError, match=r"takes embeddings 't' of shape \('batch', 10, 6\), not \(2, 16000\)"):
        LoggedModel(trained).predict(np.zeros((2, 16_000)))
    export_model(trained, tmp_path / "exported")
    assert "float32 (clip, 10, 6) -> (class,)" in (tmp_path / "exported" / "README.md").read_text()
    with pytest.raises(UserError, match="hears the embeddings 't'"):
        write_onnx(trained, tmp_path / "model.onnx")
    soundfile.write(tmp_path / "song.wav", np.zeros(16_000), 16_000)
    with pytest.raises(UserError, match=r"song\.wav: the model hears the embeddings 't' of clips and no sound"):
        predict_files([tmp_path / "song.wav"], trained, tmp_path / "out")


def test_who_hears_embeddings_is_judged_on_the_same_clips_but_not_from_the_same_sets(settings_of):
    student, linear, other = (
        settings_of("small", **values)
        for values in (
            {"system": "baseline"},
            {"system": "teacher_lr"},
            {"system": "teacher_lr", "teacher__name": "crnn"},
        )
    )
    assert judged_key(TASK, student) == judged_key(TASK, linear) == judged_key(TASK, other)
    assert len({evaluation_key(TASK, config) for config in (student, linear, other)}) == 3
    taught = settings_of("small", system="final")
    assert evaluation_key(TASK, taught) == evaluation_key(TASK, student)
    assert len({stream_key(TASK, config) for config in (student, linear, other, taught)}) == 4
