"""A run through Ray Tune, Ray Train and Ray Data, as `timbrel train` makes it, and what it leaves in MLflow."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import soundfile

from timbrel import metrics, registry
from timbrel.config import with_values
from timbrel.errors import UserError, find_user_error
from timbrel.evaluation import evaluate_run
from timbrel.experiment import run_rules, run_study, train_once
from timbrel.library import Library
from timbrel.outputs import SPLITS, Outputs
from timbrel.predict import load_trained, predict_file, predict_files
from timbrel.report import report
from timbrel.search import Search
from timbrel.study import Study
from timbrel.trained import TrainedModel

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

TINY = {
    "mixing.sample_rate": 16_000,
    "mixing.seconds": 2.1,
    "model.width": 2,
    "training.epochs": 2,
    "training.batches_per_epoch": 2,
    "training.batch_size": 4,
    "evaluation.valid_examples": 12,
    "evaluation.test_examples": 12,
}


@pytest.fixture(scope="module")
def task():
    return registry.load("task", "multi_instrument")


@pytest.fixture(scope="module")
def trained(place, task):
    return train_once(task, with_values(task.config_type(), TINY), place)


def test_a_run_logs_config_metrics_model_and_identity(place, task, trained):
    run = place.tracker.get(trained)
    assert run.info.status == "FINISHED"
    assert run.data.params["mixing.p_musical"] == "0.4"
    assert run.data.tags["timbrel.task"] == "multi_instrument"
    assert run.data.tags["timbrel.data_digest"] == place.library.digest()
    assert "timbrel.version" in run.data.tags
    losses = place.tracker.client.get_metric_history(trained, "train/loss")
    assert [point.step for point in losses] == [1, 2]
    assert any(name.startswith("valid/f1/") for name in run.data.metrics)
    assert any(name.startswith("test/roc_auc/") for name in run.data.metrics)
    assert {f"threshold/{name}" for name in task.classes(None)} <= set(run.data.metrics)
    with place.tracker.artifacts(trained, "model") as folder:
        assert (folder / "MLmodel").is_file()
        assert TrainedModel.load(folder).classes == task.classes(None)
    with place.tracker.artifacts(trained, "outputs") as folder:
        outputs = {split: Outputs.load(folder / f"{split}.npz") for split in SPLITS}
        rows = place.library.catalogue(columns=["song", "split"]).to_pylist()
        for split, of_split in outputs.items():
            assert of_split.scores.shape == (12, 15)
            assert set(of_split.songs) <= {row["song"] for row in rows if row["split"] == split}
        areas = metrics.roc_auc(outputs["test"].labels, outputs["test"].scores)
        assert metrics.macro(areas) == pytest.approx(run.data.metrics["test/roc_auc_macro"])
    with place.tracker.artifacts(trained, "figures") as folder:
        names = sorted(file.name for file in folder.iterdir())
        assert names == ["confusion.png", "per_class.png", "precision_recall.png"]
    low, high = (run.data.metrics[f"test/f1_macro_{end}"] for end in ("low", "high"))
    rounding = 1e-9  # a mean of draws that are all alike differs from the mean itself in its last bits
    assert low - rounding <= run.data.metrics["test/f1_macro"] <= high + rounding
    with place.tracker.artifacts(trained, "per_class.csv") as table:
        assert len(table.read_text().splitlines()) == 1 + len(task.classes(None))


def test_nothing_is_left_beside_mlflow(place, trained):
    assert not any(place.storage.iterdir())


def test_the_same_config_seed_and_data_give_the_same_figures(place, task, trained):
    again = train_once(task, with_values(task.config_type(), TINY), place)
    first, second = (place.tracker.get(run_id).data.metrics for run_id in (trained, again))
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value == second[name], name


def test_evaluate_repeats_the_test_figures(place, trained, capsys):
    evaluation = evaluate_run(trained, place.library.root, {}, place.tracker)
    expected, got = (place.tracker.get(run_id).data.metrics for run_id in (trained, evaluation))
    assert got["test/roc_auc_macro"] == pytest.approx(expected["test/roc_auc_macro"], abs=1e-6)
    assert "mean over classes" in capsys.readouterr().out


def test_predict_writes_table_answer_and_picture(place, trained, tmp_path):
    rate = 22_050
    stereo = np.random.default_rng(0).normal(scale=0.1, size=(int(6.5 * rate), 2))
    soundfile.write(tmp_path / "noise.flac", stereo, rate)
    predict_files([tmp_path / "noise.flac"], load_trained(trained, place.tracker, None, {}), tmp_path / "out")
    answer = json.loads((tmp_path / "out" / "noise.json").read_text())
    assert len(answer["seconds"]) == 7
    assert all(0 <= value <= 1 for second in answer["seconds"] for value in second["probabilities"])
    assert len((tmp_path / "out" / "noise.csv").read_text().splitlines()) == 8
    assert (tmp_path / "out" / "noise.png").stat().st_size > 10_000


def test_a_study_is_a_parent_run_with_a_child_a_trial(place, task, trained):
    """Its trials share their mixtures; that of the same config as the run by itself has its figures to the bit."""
    from ray import tune

    study = Study(
        name="modes",
        summary="",
        why="",
        task="multi_instrument",
        space={"transfer.mode": tune.grid_search(["scratch", "frozen"])},
        fixed={},
    )
    config = with_values(task.config_type(), {**TINY, "transfer.checkpoint": trained})
    assert list(place.kept(Search(task, config, study.space)).values()) == [16]
    parent = run_study(study, task, config, place, preset="smoke")
    children = place.tracker.find({"mlflow.parentRunId": parent})
    assert {run.info.status for run in children} == {"FINISHED"}
    trials = {run.data.params["transfer.mode"]: run.data.metrics for run in children}
    assert trials.keys() == {"scratch", "frozen"}
    assert trials["scratch"] == place.tracker.get(trained).data.metrics
    assert not any(place.storage.iterdir())
    assert place.tracker.get(parent).info.status == "FINISHED"
    text = report(place.tracker, [parent])
    assert "| frozen" in text
    assert "| scratch" in text
    with place.tracker.artifacts(parent, "report") as folder:
        assert (folder / "report.md").read_text().startswith(text.split("\n\n")[0])
        assert (folder / "comparison.png").stat().st_size > 5_000


def test_trials_that_may_share_nothing_mix_for_themselves(place, task, trained):
    """The trial of the same config as the run by itself has its figures to the bit then, too."""
    from ray import tune

    study = Study(
        name="rates", summary="", why="", task=task.name, space={"transfer.head_lr": tune.grid_search([0.01, 0.02])}
    )
    config = with_values(task.config_type(), TINY)
    where = dataclasses.replace(place, share_gb=0)
    assert list(where.kept(Search(task, config, study.space)).values()) == [0]
    parent = run_study(study, task, config, where, preset="smoke")
    runs = place.tracker.find({"mlflow.parentRunId": parent, "timbrel.kind": "trial"})
    (same,) = [run.data.metrics for run in runs if run.data.params["transfer.head_lr"] == "0.01"]
    assert same == place.tracker.get(trained).data.metrics
    assert not any(place.storage.iterdir())


def test_a_dry_run_says_what_a_study_costs_and_starts_nothing(place, task, capsys):
    study = registry.load("study", "mixing_ratio")
    config = with_values(task.config_type(), {**TINY, **study.fixed, "transfer.checkpoint": "x"})
    before = len(place.tracker.find({}))
    assert run_study(study, task, config, place, preset="smoke", seeds=[0, 1], dry_run=True) is None
    said = capsys.readouterr().out
    assert "mixing_ratio: 12 trials of 2 epochs of 2 batches, " in said
    assert re.search(r"time: about [\d.]+ (s|min|h)", said)
    assert re.search(r"disk: about [\d.]+ [MG]B in .* are free", said)
    assert "nothing was started" in said
    assert len(place.tracker.find({})) == before
    assert not place.storage.exists() or not any(place.storage.iterdir())


def test_decision_rules_on_the_outputs_of_a_run(place, task, trained, tmp_path):
    study = registry.load("study", "thresholds")
    parent = run_rules(study, task, trained, {}, place.tracker, tmp_path / "runs")
    children = place.tracker.find({"mlflow.parentRunId": parent})
    assert sorted(run.data.params["evaluation.threshold_rule"] for run in children) == ["fixed", "global", "per_class"]
    first = place.tracker.get(trained).data
    for run in children:
        assert run.info.status == "FINISHED"
        assert run.data.metrics["test/roc_auc_macro"] == pytest.approx(first.metrics["test/roc_auc_macro"])
        thresholds = {v for name, v in run.data.metrics.items() if name.startswith("threshold/")}
        rule = run.data.params["evaluation.threshold_rule"]
        if rule == "fixed":
            assert thresholds == {0.35}
        if rule == first.params["evaluation.threshold_rule"]:
            assert run.data.metrics["test/f1_macro"] == pytest.approx(first.metrics["test/f1_macro"])
        again = load_trained(run.info.run_id, place.tracker, None, {})
        assert set(again.thresholds.values()) == thresholds
    assert place.tracker.get(parent).data.tags["timbrel.judged_run"] == trained
    assert not any((tmp_path / "runs").iterdir())


def test_files_spread_over_a_cluster_are_those_done_here(place, trained, tmp_path, ray_cluster, monkeypatch):
    model = load_trained(trained, place.tracker, None, {})
    generator = np.random.default_rng(0)
    files = [tmp_path / f"{number}.wav" for number in range(4)]
    for number, file in enumerate(files):
        soundfile.write(file, generator.normal(scale=0.1, size=16_000 * (3 + number)), 16_000)
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no sound")
    with pytest.raises(UserError, match=r"bad\.wav can't be read as audio"):
        predict_files([*files[:2], bad, *files[2:]], model, tmp_path / "spread")
    for file in files:
        alone = predict_file(model, file)
        rows = np.loadtxt(tmp_path / "spread" / f"{file.stem}.csv", delimiter=",", skiprows=1)
        np.testing.assert_allclose(rows[:, 1:], alone, atol=1e-4)


def test_garbage_in_the_library_ends_the_run_as_failed_with_one_sentence(place, task, tmp_path):
    root = tmp_path / "library"
    shutil.copytree(place.library.root, root)
    library = Library.open(root)
    for row in library.catalogue(columns=["path", "split"]).to_pylist():
        if row["split"] == "train":
            (root / row["path"]).write_bytes(b"not audio at all")
    with pytest.raises(Exception) as raised:  # noqa: PT011  Ray raises classes that it makes at run time
        train_once(task, with_values(task.config_type(), TINY), dataclasses.replace(place, library=library))
    sentence = str(find_user_error(raised.value))
    assert str(root) in sentence
    assert "prepare its data set anew" in sentence
    newest = place.tracker.find({"timbrel.task": "multi_instrument"}, limit=1)[0]
    assert newest.info.status == "FAILED"
    with place.tracker.artifacts(newest.info.run_id, "error.txt") as error:
        assert sentence in error.read_text()
