"""Runs compared: grouped by what differs, with intervals over songs, as Markdown, CSV and pictures."""

import csv
import math
import re

import numpy as np
import pytest

from timbrel import bootstrap, metrics
from timbrel.compare import _briefly, alike, compared_runs, numeric, settings_of
from timbrel.config import with_values
from timbrel.errors import UserError
from timbrel.figures.base import DPI
from timbrel.outputs import FOLDER, Outputs
from timbrel.report import COLUMNS, comparison_table, report
from timbrel.taxonomy import CLASSES
from timbrel.tracking import Tracker

EXAMPLES, SONGS = 120, 12


@pytest.fixture(scope="module")
def tracker(tmp_path_factory):
    return Tracker(f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}")


def outputs(skill, seed):
    """Labels that are the same for all, and scores that know them the better the greater the skill."""
    shared, own = np.random.default_rng(0), np.random.default_rng(seed + 1)
    labels = (shared.random((EXAMPLES, 15)) < np.linspace(0.5, 0.1, 15)).astype(np.float32)
    labels[:, CLASSES.index("singer")] = 0
    scores = np.clip(skill * labels + own.random(labels.shape) * (1 - skill / 2), 0, 1).astype(np.float32)
    songs = np.array([f"song {example % SONGS}" for example in range(EXAMPLES)])
    return Outputs(CLASSES, songs, labels, scores)


@pytest.fixture(scope="module")
def log_study(tracker, tiny_config, tmp_path_factory):
    """Log a study as `timbrel tune` leaves it: ``{(values, seed): skill}``, skill None for an unfinished trial."""

    def log(name, trials, keep=True, **tags):
        parent = tracker.start(name, {"timbrel.kind": "study", "timbrel.task": "multi_instrument"})
        for (values, seed), skill in trials.items():
            own = {"timbrel.kind": "trial", "timbrel.task": "multi_instrument", "timbrel.data_digest": "d1", **tags}
            run = tracker.start(f"{dict(values)} seed={seed}", own, parent.id)
            run.log_config(with_values(tiny_config, {**dict(values), "seed": seed}))
            if skill is not None:
                made, thresholds = outputs(skill, seed), np.full(15, 0.5)
                figures = metrics.evaluate(made.labels, made.scores, CLASSES, thresholds)
                named = {f"test/{'loss' if k == 'binary_cross_entropy' else k}": v for k, v in figures.items()}
                run.log_metrics({**named, **{f"threshold/{c}": 0.5 for c in CLASSES}})
                for epoch in (1, 2):
                    run.log_metrics({"train/loss": 1 / epoch, "valid/roc_auc_macro": skill}, step=epoch)
                if keep:
                    folder = tmp_path_factory.mktemp("outputs")
                    made.save(folder / "test.npz")
                    run.log_folder(folder, FOLDER)
            run.close()
        parent.close()
        return parent.id

    return log


@pytest.fixture(scope="module")
def study(log_study):
    """Two modes with two seeds each; one trial has no test figures."""
    scratch, finetune = (("transfer.mode", "scratch"),), (("transfer.mode", "finetune"),)
    return log_study("modes", {(scratch, 0): 0.2, (scratch, 1): 0.2, (finetune, 0): 0.6, (finetune, 1): None})


@pytest.fixture(scope="module")
def sweep(log_study):
    return log_study(
        "sweep", {((("mixing.p_musical", p),), seed): 0.1 + p / 2 for p in (0.0, 1.0, 0.4) for seed in (0, 1)}
    )


def cells(table):
    """The rows of a Markdown table as lists, checked for its form."""
    lines = table.splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert len({len(line) for line in lines}) == 1
    assert re.fullmatch(r"(\|-+)+\|", lines[1])
    assert all(line.startswith("| ") and line.endswith(" |") for line in (lines[0], *lines[2:]))
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in (lines[0], *lines[2:])]


def settings(tracker, *ids):
    return settings_of(tracker, compared_runs(tracker, ids))


def area(skill, *seeds):
    return [metrics.macro(metrics.roc_auc(o.labels, o.scores)) for o in (outputs(skill, seed) for seed in seeds)]


def test_mean_deviation_and_interval(tracker, study):
    table = cells(comparison_table(settings(tracker, study)))
    assert table[0] == ["transfer.mode", "runs", *COLUMNS]
    assert [row[:2] for row in table[1:]] == [["finetune", "1 of 2"], ["scratch", "2"]]
    values = area(0.2, 0, 1)
    both = [outputs(0.2, seed) for seed in (0, 1)]
    drawn = bootstrap.draws(both[0].labels, np.stack([o.scores for o in both]), both[0].songs, np.full((2, 15), 0.5))[
        "roc_auc_macro"
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert table[2][2] == f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} [{low:.3f}, {high:.3f}]"
    assert low < np.mean(values) < high
    assert "±" not in table[1][2]


def test_runs_beside_a_study_and_by_themselves(tracker, study):
    runs = [run.info.run_id for run in tracker.find({"mlflow.parentRunId": study})]
    assert {run.info.run_id for run in compared_runs(tracker, [study])} == set(runs)
    assert len(compared_runs(tracker, [study, *runs])) == 4
    (alone,) = settings(tracker, runs[-1])
    assert list(alone.fields) == ["name"]
    assert alone.name == alone.fields["name"]
    assert alone.table["metrics.test/roc_auc_macro"].tolist() == pytest.approx(area(0.2, 0))


def test_runs_without_figures(tracker, tiny_config):
    run = tracker.start("unfinished", {})
    run.log_config(tiny_config)
    assert settings(tracker, run.id) == []
    assert settings(tracker) == []
    with pytest.raises(UserError, match="none of these runs has test figures yet"):
        report(tracker, [run.id])
    with pytest.raises(UserError, match="there is no run 'abc'"):
        report(tracker, ["abc"])


def test_runs_of_a_version_that_kept_no_outputs(tracker, log_study):
    mode = (("transfer.mode", "scratch"),)
    old = log_study("old", {(mode, 0): 0.2, (mode, 1): 0.3}, keep=False)
    (setting,) = settings(tracker, old)
    assert setting.fields == {"task": "multi_instrument"}
    assert len(setting.table) == 2
    assert setting.judged == []
    assert setting.draws == {}
    assert "[" not in comparison_table([setting])


def test_a_number_that_varies_is_a_sweep_in_its_order(tracker, sweep, study):
    swept = settings(tracker, sweep)
    assert numeric(swept) == "mixing.p_musical"
    assert [each.fields["mixing.p_musical"] for each in swept] == ["0.0", "0.4", "1.0"]
    assert numeric(settings(tracker, study)) is None


def pixels(file):
    header = file.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")


def test_values_are_short_in_tables_and_whole_in_files(tracker, log_study, tmp_path):
    rates = (0.0123456789, 0.5, 1e-05)
    values = {((("transfer.head_lr", rate), ("training.epochs", 16000)), 0): rate for rate in rates}
    found = settings(tracker, log_study("short", values))
    table = cells(comparison_table(found))
    assert [row[0] for row in table[1:]] == ["1e-05", "0.0123", "0.5"]
    assert [each.name for each in found] == ["head_lr 1e-05", "head_lr 0.0123", "head_lr 0.5"]
    text = report(tracker, [log_study("short", values)], tmp_path)
    assert "0.0123456789" not in text
    for name in ("runs.csv", "settings.csv"):
        with (tmp_path / name).open() as opened:
            assert {row["transfer.head_lr"] for row in csv.DictReader(opened)} == set(map(str, rates))


def test_values_that_few_digits_would_make_one_are_whole(tracker, log_study):
    close = {((("transfer.head_lr", rate),), 0): 0.3 for rate in (0.12345, 0.12346)}
    table = cells(comparison_table(settings(tracker, log_study("close", close))))
    assert {row[0] for row in table[1:]} == {"0.12345", "0.12346"}


def test_what_only_looks_like_a_number_stays():
    texts = ["16000", "0.0", "12e45", "none", "(1, 2)", "", "-2.500001"]
    assert _briefly(texts) == dict(zip(texts, ["16000", "0", "12e45", "none", "(1, 2)", "", "-2.5"], strict=True))


def test_the_whole_report(tracker, study, tmp_path):
    text = report(tracker, [study], tmp_path / "out")
    head, table, paired, *pictures, per_class = text.split("\n\n")
    assert "Task multi_instrument; data d1;" in head
    assert cells(table)[1][0] == "finetune"
    assert paired == ("ROC-AUC of mode finetune is higher, on the same drawn songs, than that of mode scratch in 100%.")
    shown = [re.fullmatch(r"!\[.+\]\((.+)\)", each)[1] for each in pictures]
    made = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert made == sorted([*shown, "report.md", "runs.csv", "epochs.csv", "settings.csv"])
    assert len(shown) == 1 + 2 * 3
    for name in shown:
        width, height = pixels(tmp_path / "out" / name)
        assert width > 4 * DPI
        assert height > DPI
    scores = cells(per_class)
    assert scores[0] == ["F1 of", "mode finetune", "mode scratch"]
    assert [row[0] for row in scores[1:]] == [name for name in CLASSES if name != "singer"]
    assert (tmp_path / "out" / "report.md").read_text() == text + "\n"


def test_the_raw_figures_of_a_report(tracker, sweep, tmp_path):
    report(tracker, [sweep], tmp_path)
    assert (tmp_path / "sweep.png").exists()
    with (tmp_path / "runs.csv").open() as opened:
        runs = list(csv.DictReader(opened))
    assert [(run["mixing.p_musical"], run["seed"]) for run in runs] == [
        (p, seed) for p in ("0.0", "0.4", "1.0") for seed in ("0", "1")
    ]
    assert float(runs[0]["test/roc_auc_macro"]) == pytest.approx(area(0.1, 0)[0], abs=1e-6)
    assert float(runs[0]["threshold/piano"]) == 0.5
    with (tmp_path / "epochs.csv").open() as opened:
        epochs = list(csv.DictReader(opened))
    assert len(epochs) == 2 * len(runs)
    assert [(row["seed"], row["epoch"], row["train/loss"]) for row in epochs[:3]] == [
        ("0", "1", "1.0"),
        ("0", "2", "0.5"),
        ("1", "1", "1.0"),
    ]
    assert float(epochs[0]["valid/roc_auc_macro"]) == 0.1
    assert epochs[0]["valid/pr_auc_macro"] == ""
    with (tmp_path / "settings.csv").open() as opened:
        rows = list(csv.DictReader(opened))
    assert float(rows[0]["ROC-AUC mean"]) == pytest.approx(np.mean(area(0.1, 0, 1)), abs=1e-6)
    assert float(rows[0]["ROC-AUC sd"]) == pytest.approx(np.std(area(0.1, 0, 1), ddof=1), abs=1e-6)
    assert all(float(row["ROC-AUC low"]) < float(row["ROC-AUC mean"]) < float(row["ROC-AUC high"]) for row in rows)


def test_runs_with_long_names_have_pictures(tracker, log_study, tmp_path):
    ids = [log_study("long", {((("transfer.checkpoint", name * 300),), 0): 0.3}) for name in "xy"]
    report(tracker, ids, tmp_path)
    assert len(list(tmp_path.glob("per_class-*.png"))) == 2


def test_runs_on_different_data_are_not_compared_in_silence(tracker, study, tiny_config):
    run = tracker.start("elsewhere", {"timbrel.data_digest": "d2"})
    run.log_config(tiny_config)
    run.log_metrics({"test/roc_auc_macro": 0.5, "test/pr_auc_macro": 0.4, "test/f1_macro": 0.3, "test/loss": math.e})
    assert "**The runs were judged on different examples" in report(tracker, [study, run.id])
    assert not alike(compared_runs(tracker, [study, run.id]))
    assert alike(compared_runs(tracker, [study]))
