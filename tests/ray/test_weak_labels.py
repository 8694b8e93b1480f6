"""OpenMIC in its authors' layout, through Ray: prepared, taught by its own embeddings, attended to, and compared."""

import dataclasses

import numpy as np
import pytest
from ray import tune

from timbrel import registry
from timbrel.config import with_values
from timbrel.embeddings.embed import embed
from timbrel.embeddings.sound import songs_of
from timbrel.embeddings.teachers import load_teacher
from timbrel.embeddings.teachers.options import TeacherOptions
from timbrel.errors import UserError
from timbrel.experiment import run_study, train_once
from timbrel.launch import Workplace
from timbrel.library import Library
from timbrel.tracking import Tracker
from timbrel.trained import TrainedModel

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def place(openmic_place):
    return openmic_place


@pytest.fixture(scope="module")
def tagging():
    return registry.load("task", "clip_tagging")


@pytest.fixture(scope="module")
def student_config(tagging):
    """A student of some hundred weights, taught by what OpenMIC ships."""

    def make(**values):
        own = {
            "teacher.name": "vggish",
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


def test_a_table_of_systems_and_teachers(place, tagging, student_config, tmp_path):
    """Over the embeddings that the library has, each with its classifier for distillation trained first."""
    for song in songs_of(place.library, place.library.datasets[0]):
        np.save(tmp_path / f"{song.name}.npy", np.random.default_rng(0).normal(size=(5, 4)))
    wide = load_teacher("files", TeacherOptions(path=str(tmp_path), hop_s=2.0), place.tracker)
    embed(place.library, wide, "wide")
    study = registry.load("study", "east_table")
    space = {**study.space, "system": tune.grid_search(["east_kd"])}
    parent = run_study(
        dataclasses.replace(study, space=space),
        tagging,
        student_config(teacher__name="passt", **study.fixed),
        place,
        preset="smoke",
    )
    runs = trials_of(place, parent)
    trials = {run.data.params["teacher.name"]: run for run in runs if run.data.tags["timbrel.kind"] == "trial"}
    assert trials.keys() == {"vggish", "wide"}
    first = {
        run.data.params["teacher.name"]: run.info.run_id for run in runs if run.data.tags["timbrel.kind"] == "train"
    }
    assert {place.tracker.get(run_id).data.params["system"] for run_id in first.values()} == {"teacher_lr"}
    heads = f"vggish={first['vggish']},wide={first['wide']}"
    assert {run.data.params["teacher.head"] for run in trials.values()} == {heads}
    expected = {f"train/loss_{name}" for name in ("prediction", "regulariser", "distance", "kd")}
    for run in trials.values():
        assert run.info.status == "FINISHED"
        assert {name for name in run.data.metrics if name.startswith("train/loss_")} == expected


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
