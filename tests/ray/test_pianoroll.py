"""Task pianoroll through Ray: trained, evaluated, judged by other rules, predicted and reported."""

import numpy as np
import pretty_midi
import pytest
import soundfile

from timbrel import registry
from timbrel.config import with_values
from timbrel.errors import UserError
from timbrel.evaluation import evaluate_run
from timbrel.experiment import run_rules, train_once
from timbrel.outputs import SPLITS, Outputs
from timbrel.predict import load_trained, predict_files
from timbrel.report import report
from timbrel.trained import TrainedModel

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

TERMS = ("loss", "loss_roll", "loss_pitch", "loss_instrument")
TINY = {
    "model.width": 2,
    "mixing.seconds": 4.096,  # 128 frames of the CQT, 64 of the roll
    "training.batches_per_epoch": 2,
    "training.batch_size": 4,
    "loss.class_weights": "rare",
    "loss.roll": 0.0,
    "evaluation.valid_examples": 3,
    "evaluation.test_examples": 0,
}


@pytest.fixture(scope="module")
def task():
    return registry.load("task", "pianoroll")


@pytest.fixture(scope="module")
def trained(place, task):
    return train_once(task, with_values(task.config_type(), {**task.presets["smoke"], **TINY}), place)


def metrics_of(place, run_id):
    return place.tracker.get(run_id).data.metrics


def test_a_run_logs_its_terms_figures_and_thresholds(place, task, trained):
    run = place.tracker.get(trained)
    assert run.info.status == "FINISHED"
    for name in TERMS:
        for split in ("train", "valid"):
            assert sorted(place.tracker.history(trained, f"{split}/{name}")) == [1, 2], (split, name)
        assert np.isfinite(run.data.metrics[f"test/{name}"])
    assert run.data.metrics["train/loss_roll"] > 0  # of weight 0, and logged
    for name in ("pitch_accuracy", "roll_accuracy", "f1_micro"):
        assert 0 <= run.data.metrics[f"test/{name}"] <= 1
    assert 0 <= run.data.metrics["test/note_f1_onset"] <= 1
    assert not any(name.startswith("valid/note_f1") for name in run.data.metrics)
    assert {"threshold/pianoroll", "threshold/pitch roll"} <= {n.replace("_", " ") for n in run.data.metrics}
    assert {f"threshold/{name}" for name in task.classes(task.config_type())} <= set(run.data.metrics)
    # The loss is not that of the outputs' frames, so they don't say how far it would move.
    assert "test/f1_macro_low" in run.data.metrics
    assert "test/loss_low" not in run.data.metrics


def test_the_config_is_logged_and_stored_as_it_was_settled(place, trained):
    params = place.tracker.get(trained).data.params
    assert params["front_end.engine"] in ("librosa", "torch")
    with place.tracker.artifacts(trained, "model") as folder:
        config = TrainedModel.load(folder).config
    assert config.front_end.engine == params["front_end.engine"]
    assert len(config.loss.class_shares) == 9
    assert sum(config.loss.class_shares) == pytest.approx(1)


def test_outputs_and_pictures_are_kept(place, trained):
    rows = place.library.catalogue(columns=["song", "split", "frames", "sample_rate"]).to_pylist()
    with place.tracker.artifacts(trained, "outputs") as folder:
        for split in SPLITS:
            outputs = Outputs.load(folder / f"{split}.npz")
            windows = {
                row["song"]: max(1, int(row["frames"] / row["sample_rate"] / 4.096))
                for row in rows
                if row["split"] == split
            }
            assert set(outputs.songs) <= set(windows)
            all_of_them = sum(windows[song] for song in set(outputs.songs))
            count = len(outputs.more["roll"])
            assert count == all_of_them if split == "test" else 1 <= count <= 3
            assert outputs.more["logits"].shape == outputs.more["roll"].shape == (count, 9, 88, 64)
            assert outputs.scores.shape == (count * 64, 9)
    with place.tracker.artifacts(trained, "figures") as folder:
        names = {file.name for file in folder.iterdir()}
    assert {"confusion.png", "per_class.png", "precision_recall.png", "pianoroll_1.png"} <= names


def test_evaluate_repeats_the_test_figures(place, trained, capsys):
    evaluation = evaluate_run(trained, place.library.root, {}, place.tracker)
    expected, got = metrics_of(place, trained), metrics_of(place, evaluation)
    for name in ("test/roc_auc_macro", "test/pitch_accuracy", "test/roll_accuracy", "test/loss"):
        assert got[name] == pytest.approx(expected[name], abs=5e-3), name
    assert got["threshold/pianoroll"] == expected["threshold/pianoroll"]
    assert "test/note_f1_onset" in got
    assert "mean over classes" in capsys.readouterr().out


def test_evaluate_by_activity(place, trained, tmp_path, write_stems, prepare_stems):
    """Table 3's protocol, on stems that nobody knows the notes or the programs of."""
    time_s = np.arange(16_000 * 9) / 16_000
    tone = {hz: (0.2 * np.sin(2 * np.pi * hz * time_s)) for hz in (110, 220, 330, 440, 660)}
    songs = {
        f"song {number}": {
            "violin": tone[660] * (time_s > 2 + number),
            "cello": tone[220] * (time_s < 5 - number),
            "double bass": tone[110] * (time_s % 4 < 1),
            "guitar": tone[330] * ((time_s > 3) & (time_s < 7)),
            "drums": np.random.default_rng(number).normal(scale=0.05, size=len(time_s)),
        }
        for number in range(2)
    }
    for split in ("train", "valid", "test"):
        write_stems(tmp_path / "stems" / split, songs if split == "test" else {f"{split} song": {"flute": tone[440]}})
    prepare_stems(tmp_path / "stems", tmp_path / "library", "stems")
    with pytest.raises(UserError, match=r"no song of the split 'test'.* has notes of an instrument"):
        evaluate_run(trained, tmp_path / "library", {}, place.tracker)
    with pytest.raises(UserError, match=r"'evaluation\.windows' belongs to the trained model"):
        evaluate_run(trained, tmp_path / "library", {"evaluation.windows": "drawn"}, place.tracker)
    run = evaluate_run(trained, tmp_path / "library", {"evaluation.truth": "activity"}, place.tracker)
    figures, params = metrics_of(place, run), place.tracker.get(run).data.params
    assert params["evaluation.truth"] == "activity"
    # Who is never there has no figure: flutes and pianos, and guitars that are called acoustic or electric.
    played = {name.removeprefix("test/roc_auc_1s/") for name in figures if name.startswith("test/roc_auc_1s/")}
    assert played == {"violin", "cello", "guitar", "bass"}
    assert figures["test/table3_roc_auc_1s"] == pytest.approx(
        np.mean([figures[f"test/roc_auc_1s/{name}"] for name in ("violin", "cello", "guitar")])
    )
    assert figures["test/support/bass"] > 0
    assert not [name for name in figures if "accuracy_per_song" in name or "note_" in name]
    with place.tracker.artifacts(run, "outputs") as folder:
        outputs = Outputs.load(folder / "test.npz")
    assert outputs.more["activity"].shape == (4, 11, 64)  # two windows of each song
    assert outputs.more["activity"][:, 10].mean() > 0.9  # the drums
    assert outputs.labels.shape == (4 * 64, 9)
    assert 0.2 < outputs.labels[:, 5].mean() < 0.6  # the double bass, a quarter of the time and what smoothing adds
    assert 0.3 < outputs.more["activity"][:, 9].mean() < 0.8  # the guitar, 4 of 9 s
    with place.tracker.artifacts(run, "figures") as folder:
        assert not list(folder.glob("pianoroll*"))


def test_rules_and_report(place, task, trained, tmp_path):
    parent = run_rules(registry.load("study", "frame_thresholds"), task, trained, {}, place.tracker, tmp_path / "runs")
    children = place.tracker.find({"mlflow.parentRunId": parent})
    assert len(children) == 6
    first = metrics_of(place, trained)
    for run in children:
        assert run.info.status == "FINISHED"
        assert run.data.metrics["test/loss"] == pytest.approx(first["test/loss"])
        if run.data.params["evaluation.threshold_rule"] == "fixed":
            assert run.data.metrics["threshold/piano"] == 0.5  # the study's own
        if run.data.params["evaluation.roll_rule"] == "fixed":
            assert run.data.metrics["threshold/pianoroll"] == 0.85
        else:
            assert run.data.metrics["threshold/pianoroll"] == first["threshold/pianoroll"]
    text = report(place.tracker, [parent], tmp_path / "report")
    table = text.split("\n\n")[1]
    for title in (*task.headline, "ROC-AUC", "loss"):
        assert title in table.splitlines()[0]
    assert len(table.splitlines()) == 2 + 6


def test_predict_with_a_run(place, trained, tmp_path):
    noise = np.random.default_rng(0).normal(scale=0.1, size=(22_050 * 9, 2))
    soundfile.write(tmp_path / "noise.flac", noise, 22_050)
    predict_files([tmp_path / "noise.flac"], load_trained(trained, place.tracker, None, {}), tmp_path / "out")
    pretty_midi.PrettyMIDI(str(tmp_path / "out/noise.mid"))
    with np.load(tmp_path / "out/noise.npz") as rolls:
        assert rolls["roll"].shape == (9, 88, int(np.ceil(9 * 16_000 / 1024)))
