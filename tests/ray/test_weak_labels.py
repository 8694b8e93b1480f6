"""OpenMIC in its authors' layout, through Ray: prepared, taught by its own embeddings, attended to, and compared."""

import dataclasses
import json

import numpy as np
import pytest
import soundfile
from ray import tune

from timbrel import registry
from timbrel.config import with_values
from timbrel.errors import UserError
from timbrel.experiment import run_study, train_once
from timbrel.launch import Workplace
from timbrel.library import Library
from timbrel.prepare import prepare
from timbrel.tracking import Tracker
from timbrel.trained import TrainedModel

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

RATE_HZ, SECONDS = 16_000, 10
CLIPS = {"train": 20, "test": 10}
PITCHES_HZ = {"clarinet": 300.0, "flute": 1700.0, "voice": 4000.0}


def write_openmic(root):
    """Write clips of tones, one pitch an instrument, of which listeners judged two each."""
    generator = np.random.default_rng(0)
    time_s = np.arange(RATE_HZ * SECONDS) / RATE_HZ
    names = list(PITCHES_HZ)
    labels, metadata = ["sample_key,instrument,relevance,num_responses"], ["track_id,artist_name,sample_key,start_time"]
    for split, count in CLIPS.items():
        keys = []
        for number in range(count):
            key = f"{len(metadata):06d}_3840"
            sounding = [names[(number + each) % 3] for each in range(1 + number % 2)]
            audio = sum(0.2 * np.sin(2 * np.pi * PITCHES_HZ[name] * time_s) for name in sounding)
            (root / f"audio/{key[:3]}").mkdir(parents=True, exist_ok=True)
            (root / f"vggish/{key[:3]}").mkdir(parents=True, exist_ok=True)
            soundfile.write(root / f"audio/{key[:3]}/{key}.ogg", audio, RATE_HZ)
            features = generator.integers(100, 140, (10, 128))
            for column, name in enumerate(names):
                features[:, column * 40 : column * 40 + 40] += 100 * (name in sounding)
            (root / f"vggish/{key[:3]}/{key}.json").write_text(
                json.dumps({"time_points": [0.96 * row for row in range(10)], "features": features.tolist()})
            )
            judged = [names[number % 3], names[(number + 2) % 3]]
            labels += [f"{key},{name},{0.9 if name in sounding else 0.1},3" for name in judged]
            metadata.append(f"1,Artist {number},{key},3.84")
            keys.append(key)
        (root / "partitions").mkdir(exist_ok=True)
        (root / f"partitions/split01_{split}.csv").write_text("\n".join(keys) + "\n")
    (root / "openmic-2018-aggregated-labels.csv").write_text("\n".join(labels) + "\n")
    (root / "openmic-2018-metadata.csv").write_text("\n".join(metadata) + "\n")
    (root / "class-map.json").write_text(json.dumps({name: number for number, name in enumerate(names)}))
    return root


@pytest.fixture(scope="module")
def place(ray_cluster, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weak")
    source = registry.load("source", "openmic")
    data = write_openmic(folder / "openmic-2018")
    prepare(source, data, folder / "library", source.options_type(valid_share=0.3))
    tracker = Tracker(f"sqlite:///{folder / 'mlflow.db'}")
    return Workplace(Library.open(folder / "library"), tracker, folder / "runs")


@pytest.fixture(scope="module")
def tagging():
    return registry.load("task", "clip_tagging")


@pytest.fixture(scope="module")
def student_config(tagging):
    """A student of some hundred weights, taught by what OpenMIC ships."""

    def make(**values):
        own = {
            "teacher.name": "vggish",
            "teacher.offset": 128.0,
            "teacher.scale": 1 / 256,
            "training.batch_size": 8,
            "training.epochs": 1,
            "evaluation.valid_examples": 0,
            "evaluation.test_examples": 0,
        }
        given = {path.replace("__", "."): value for path, value in values.items()}
        return with_values(tagging.config_type(), {**tagging.presets["smoke"], **own, **given})

    return make


def trials_of(place, parent):
    return place.tracker.find({"mlflow.parentRunId": parent})


def test_attention_and_forest_in_one_study(place):
    study = dataclasses.replace(
        registry.load("study", "attention_mil"), space={"model": tune.grid_search(["attention", "random_forest"])}
    )
    task = registry.load("task", "attention_mil")
    values = {
        "training.batch_size": 4,
        "forest.trees": 10,
        "evaluation.valid_examples": 0,
        "evaluation.test_examples": 0,
    }
    config = with_values(task.config_type(), {**task.presets["smoke"], **values})
    parent = run_study(study, task, config, place, preset="smoke")
    trials = {run.data.params["model"]: run for run in trials_of(place, parent)}
    assert trials.keys() == {"attention", "random_forest"}
    for run in trials.values():
        assert run.info.status == "FINISHED"
        metrics = run.data.metrics
        assert metrics["test/judged/flute"] + metrics["test/judged/voice"] + metrics["test/judged/clarinet"] == 20
        assert 0 <= metrics["test/openmic_f1"] <= 1
    assert trials["random_forest"].data.metrics["test/roc_auc_macro"] > 0.9  # the features say it all
    with place.tracker.artifacts(trials["attention"].info.run_id, "model") as folder:
        trained = TrainedModel.load(folder)
    assert (trained.config.teacher.dimension, trained.config.teacher.hop_s) == (128, 0.96)
    with place.tracker.artifacts(trials["attention"].info.run_id, "figures") as folder:
        assert {"attention_1.png", "attention_2.png", "attention_3.png"} <= {path.name for path in folder.iterdir()}


def test_a_student_is_taught_until_nothing_is_learned(place, tagging, student_config):
    values = {"training__schedule": "plateau", "training__stop_patience": 1, "training__epochs": 40, "lr": 1e-9}
    run_id = train_once(tagging, student_config(system="final", **values), place)
    run = place.tracker.get(run_id)
    assert run.info.status == "FINISHED"
    metrics = run.data.metrics
    assert 2 <= len(place.tracker.history(run_id, "valid/loss")) < 40
    assert metrics["train/loss"] == pytest.approx(
        0.2 * metrics["train/loss_prediction"] + 0.8 * metrics["train/loss_distance"], rel=1e-4
    )
    assert "test/openmic_f1" in metrics


def test_distillation_has_its_classifier_trained_first(place, tagging, student_config):
    study = dataclasses.replace(
        registry.load("study", "east_table"), space={"system": tune.grid_search(["baseline", "teacher_lr", "east_kd"])}
    )
    parent = run_study(study, tagging, student_config(), place, preset="smoke")
    runs = trials_of(place, parent)
    trials = {run.data.params["system"]: run for run in runs if run.data.tags["timbrel.kind"] == "trial"}
    (first,) = (run for run in runs if run.data.tags["timbrel.kind"] == "train")
    assert trials.keys() == {"baseline", "teacher_lr", "east_kd"}
    assert first.data.params["system"] == "teacher_lr"
    assert {run.data.params["teacher.head"] for run in trials.values()} == {first.info.run_id}
    terms = {
        system: {name for name in run.data.metrics if name.startswith("train/loss_")} for system, run in trials.items()
    }
    assert terms["baseline"] == terms["teacher_lr"] == set()
    assert terms["east_kd"] == {f"train/loss_{name}" for name in ("prediction", "regulariser", "distance", "kd")}


def test_embeddings_that_are_not_there_are_told_before_anything_runs(place, tagging, student_config):
    with pytest.raises(UserError, match=r"no embeddings 'passt'.*there are vggish.*timbrel embed"):
        train_once(tagging, student_config(system="final", teacher__name="passt"), place)


def test_a_teacher_listens_to_mixtures_beside_the_training(composed_library, tmp_path):
    """Task multi_instrument, whose mixtures no store can hold, by a model that was trained a moment before."""
    task = registry.load("task", "multi_instrument")
    place = Workplace(Library.open(composed_library), Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}"), tmp_path / "runs")
    tiny = {"model.width": 2, "training.epochs": 1, "training.batches_per_epoch": 2, "training.batch_size": 4}
    config = with_values(task.config_type(), {**task.presets["smoke"], **tiny})
    teacher = train_once(task, config, place)
    taught = with_values(config, {"teacher.name": "checkpoint", "teacher.weights": teacher, "model.width": 3})
    metrics = place.tracker.get(train_once(task, taught, place)).data.metrics
    assert 0 < metrics["train/loss_distance"] < 1
    assert metrics["train/loss_regulariser"] == metrics["train/loss_distance"]
