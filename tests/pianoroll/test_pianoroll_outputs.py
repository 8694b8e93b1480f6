"""What is kept of an evaluation set, how thresholds are chosen on it, and how it is judged, now and later."""

import numpy as np
import pytest
import torch

from tasks.pianoroll.model import heads
from tasks.pianoroll.rolls import PITCH, ROLL, Rolls
from timbrel import metrics, registry, report, transcription
from timbrel.compare import Judged
from timbrel.config import with_values
from timbrel.mixing.rolls import instrument_roll, pitch_roll
from timbrel.outputs import Outputs
from timbrel.rejudge import rejudge
from timbrel.study import Study

EXAMPLES, CLASSES, PITCHES, FRAMES = 6, 3, 88, 32


@pytest.fixture(scope="module")
def judged_config(tiny_rolls):
    return with_values(tiny_rolls, {"evaluation.roll_rule": "chosen"})


def examples(seed=0, songs=("a", "b", "c")):
    """Return examples of long notes, each of one instrument."""
    generator = np.random.default_rng(seed)
    roll = np.zeros((EXAMPLES, CLASSES, PITCHES, FRAMES), dtype=bool)
    for example in roll:
        for label in range(CLASSES):
            for pitch in generator.choice(PITCHES, 4, replace=False):
                start = generator.integers(0, FRAMES - 8)
                example[label, pitch, start : start + 8] = True
    return {"roll": roll, "song": np.array([songs[i % len(songs)] for i in range(EXAMPLES)])}


def predictions(roll, seed=0, loud=400.0, spread=150.0):
    """Return logits that know the notes, and err."""
    noise = np.random.default_rng(seed).normal(scale=spread, size=roll.shape)
    return {"logits": (np.where(roll, loud, -5.0) + noise * roll).astype(np.float16)}


@pytest.fixture(scope="module")
def splits(roll_task, judged_config):
    made = {}
    for split, seed, loud in (("valid", 0, 300.0), ("test", 1, 60.0)):
        some = examples(seed)
        made[split] = roll_task.outputs(some, predictions(some["roll"], seed, loud, loud), judged_config)
    return made


def test_a_row_is_a_frame(roll_task, judged_config):
    some = examples()
    logits = predictions(some["roll"])
    outputs = roll_task.outputs(some, logits, judged_config)
    assert outputs.labels.shape == outputs.scores.shape == (EXAMPLES * FRAMES, CLASSES)
    assert outputs.unit == "frame"
    expected = torch.sigmoid(heads(torch.from_numpy(logits["logits"]).float()).instrument).numpy()
    for example, frame in ((0, 0), (3, 17), (5, 31)):
        row = example * FRAMES + frame
        np.testing.assert_array_equal(outputs.labels[row], some["roll"][example, :, :, frame].any(axis=1))
        np.testing.assert_allclose(outputs.scores[row], expected[example, :, frame], rtol=1e-6)
        assert outputs.songs[row] == some["song"][example]


def test_outputs_come_back_from_the_disk(splits, tmp_path):
    for outputs in splits.values():
        outputs.save(tmp_path / "outputs.npz")
        again = Outputs.load(tmp_path / "outputs.npz")
        assert (again.classes, again.unit) == (outputs.classes, "frame")
        for name in ("songs", "labels", "scores"):
            np.testing.assert_array_equal(getattr(again, name), getattr(outputs, name))
        assert again.more.keys() == {"logits", "roll"}
        assert (again.more["logits"].dtype, again.more["roll"].dtype) == (np.float16, bool)
        for name, values in outputs.more.items():
            np.testing.assert_array_equal(again.more[name], values)
        lean = Outputs.load(tmp_path / "outputs.npz", more=False)
        assert not lean.more
        np.testing.assert_array_equal(lean.scores, outputs.scores)


def test_probabilities_do_not_depend_on_how_many_are_done_at_once(monkeypatch):
    logits = predictions(examples()["roll"])["logits"]
    whole = Rolls.of(logits)
    monkeypatch.setattr("tasks.pianoroll.rolls.EXAMPLES", 4)
    for one, other in zip(vars(whole).values(), vars(Rolls.of(logits)).values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_thresholds_are_chosen_on_validation(roll_task, judged_config, splits):
    thresholds = roll_task.thresholds(splits["valid"], judged_config)
    for split, is_best in (("valid", True), ("test", False)):
        found, true = Rolls.of(splits[split].more["logits"]), splits[split].more["roll"]
        for name, targets, scores in ((ROLL, true, found.roll), (PITCH, pitch_roll(true), found.pitch)):
            tried = np.arange(1, 1001) / 1000
            scores = scores.astype(np.float64)
            accuracies = [transcription.multipitch_accuracy(targets, scores >= each) for each in tried[::20]]
            here = transcription.multipitch_accuracy(targets, scores >= thresholds[name])
            if is_best:
                assert here >= max(accuracies), (split, name)
    again, figures = rejudge(roll_task, splits, judged_config)
    assert again == thresholds
    own = roll_task.thresholds(splits["test"], judged_config)
    assert own[ROLL] != thresholds[ROLL]  # so that it shows where they are from
    expected = roll_task.evaluate(splits["test"], thresholds, judged_config)
    assert figures["test/roll_accuracy"] == expected["roll_accuracy"]


def test_instruments_have_the_thresholds_of_every_task(roll_task, judged_config, splits):
    outputs = splits["valid"]
    for rule in ("fixed", "global", "per_class"):
        config = with_values(judged_config, {"evaluation.threshold_rule": rule, "evaluation.fixed_threshold": 0.6})
        thresholds = roll_task.thresholds(outputs, config)
        expected = metrics.choose_thresholds(outputs.labels, outputs.scores, rule, 0.6)
        assert [thresholds[name] for name in outputs.classes] == expected.tolist()


def test_figures_are_those_of_the_decisions(roll_task, judged_config, splits):
    outputs = splits["test"]
    thresholds = dict.fromkeys([*outputs.classes, ROLL, PITCH], 0.85)
    figures = roll_task.evaluate(outputs, thresholds, judged_config)
    found, true = Rolls.of(outputs.more["logits"]), outputs.more["roll"]
    decided = found.roll.astype(np.float64) >= 0.85
    assert figures["roll_accuracy"] == pytest.approx((decided & true).sum() / (decided | true).sum())
    playing, heard = instrument_roll(true), found.instrument >= 0.85
    hits = (playing & heard).sum()
    assert figures["f1_micro"] == pytest.approx(2 * hits / (playing.sum() + heard.sum()))
    assert figures["support/violin"] == playing[:, 1].sum() == figures["instrument_support/violin"]
    assert {"roc_auc_1s_macro", "roc_auc_track_macro", "loss", "loss_roll"} <= figures.keys()


def test_notes_are_counted_at_the_end(roll_task, judged_config):
    some = examples()
    thresholds = dict.fromkeys([*judged_config.instruments, ROLL, PITCH], 0.85)
    perfect = {"logits": np.where(some["roll"], 400.0, -5.0).astype(np.float16)}
    outputs = roll_task.outputs(some, perfect, judged_config)
    figures = roll_task.last_figures(outputs, thresholds, judged_config)
    assert figures["note_f1_onset_offset"] == figures["pitch_note_f1_onset"] == 1
    late = {"logits": np.roll(perfect["logits"], 1, axis=-1)}  # by 64 ms: no onset within 50 ms
    outputs = roll_task.outputs(some, late, judged_config)
    assert roll_task.last_figures(outputs, thresholds, judged_config)["note_f1_onset"] < 0.1
    assert set(roll_task.headline.values()) <= roll_task.evaluate(outputs, thresholds, judged_config).keys()


def test_the_study_of_rules_judges_outputs_anew(roll_task, splits):
    study = registry.load("study", "frame_thresholds")
    base = with_values(roll_task.config_type(), {"instruments": ("piano", "violin", "flute"), "mixing.seconds": 2.048})
    rows = {}
    for values in Study.variants(study.space):
        config = with_values(base, {**study.fixed, **values})
        rows[config.evaluation.roll_rule, config.evaluation.threshold_rule] = rejudge(roll_task, splits, config)
    assert len(rows) == 6
    for (rule, of_classes), (thresholds, figures) in rows.items():
        assert (thresholds[ROLL] == 0.85) == (rule == "fixed")
        if of_classes == "fixed":
            assert {thresholds[name] for name in base.instruments} == {0.5}
        assert study.metric in figures
        assert {"test/note_f1_onset", "test/f1_micro", "valid/loss_pitch"} <= figures.keys()
        assert "valid/note_f1_onset" not in figures
    assert rows["chosen", "fixed"][1][study.metric] > rows["fixed", "fixed"][1][study.metric]
    assert rows["chosen", "global"][1]["test/loss"] == rows["fixed", "fixed"][1]["test/loss"]


def test_pictures_show_the_busiest_window_of_each_song(roll_task, judged_config):
    some = examples(songs=("a", "b", "c", "d"))
    some["roll"][:, 2] = False
    some["roll"][5, 2, 40, :9] = True  # of song b: the only one in which three play
    outputs = roll_task.outputs(some, predictions(some["roll"]), judged_config)
    thresholds = dict.fromkeys([*judged_config.instruments, ROLL, PITCH], 0.85)
    pictures = roll_task.pictures(outputs, thresholds, judged_config)
    assert list(pictures) == ["pianoroll_1", "pianoroll_2", "pianoroll_3"]
    titles = [figure.get_suptitle() for figure in pictures.values()]
    assert titles[0] == "b: true and predicted"
    assert len(set(titles)) == 3
    for figure in pictures.values():
        assert [axes.get_ylabel() for axes in figure.axes] == ["true", "predicted"]
    legend = {text.get_text() for text in pictures["pianoroll_1"].legends[0].get_texts()}
    assert legend == {"piano", "violin", "flute"}


def test_the_probability_of_a_clip_is_that_of_its_surest_frame(roll_task):
    logits = predictions(examples()["roll"])["logits"][0]
    expected = Rolls.of(logits[None]).instrument[0].max(axis=1)
    np.testing.assert_array_equal(roll_task.clip_scores({"logits": logits}), expected)


def test_reports_speak_of_frames(splits):
    judged = [Judged(splits["test"], np.full(CLASSES, 0.5))]
    pictures = {name: figure for name, (_, figure) in report.run_figures(judged).items()}
    written = {
        name: " ".join(text.get_text() for axes in figure.axes for text in axes.findobj() if hasattr(text, "get_text"))
        for name, figure in pictures.items()
    }
    assert f"positives of {EXAMPLES * FRAMES} frames" in written["per_class"]
    assert "all frames" in written["confusion"]
    assert not any("examples" in text for text in written.values())
