"""The command line: help, and errors of the user's as one sentence without a traceback."""

import re

import pytest

from timbrel import registry
from timbrel.cli import VERBS
from timbrel.config import with_values
from timbrel.tracking import Tracker


def assert_sentence(result, *parts):
    status, _, errors = result
    assert status == 2
    assert "Traceback" not in errors
    assert errors.startswith("timbrel: ")
    assert errors.strip().count("\n") == 0
    for part in parts:
        assert part in errors


# Help


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_has_an_example(command, verb):
    status, out, _ = command(verb, "--help")
    assert status == 0
    assert f"timbrel {verb} " in re.sub(r"usage:.*", "", out)
    assert "(required)" in out or verb in ("doctor", "list", "report", "predict")


def test_help_names_every_verb_and_a_first_study(command):
    status, out, _ = command("--help")
    assert status == 0
    assert all(verb in out for verb in VERBS)
    assert "timbrel prepare house_band --library library" in out


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_explained(command, verb):
    """tyro shows an option without help as its name and default alone."""
    _, out, _ = command(verb, "--help")
    options = re.findall(r"^.*?(--[a-z-]+) .*$", out, re.MULTILINE)
    assert options
    lines = out.splitlines()
    for number, line in enumerate(lines):
        if re.match(r"^[│ ]*--[a-z-]+ ", line):
            text = " ".join(lines[number : number + 2])
            words = re.sub(r"\([^)]*\)|--[a-z-]+|[A-Z=|{}\[\],.│]+", " ", text).split()
            assert len(words) >= 2, line


# Errors of the user's


def test_an_unknown_verb(command):
    assert_sentence(command("trian"), "unknown verb 'trian': did you mean 'train'?")
    assert_sentence(command("$"), "choose one of check, doctor, embed, evaluate, export, list")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("train multi_instruments --library l", ["unknown task", "did you mean 'multi_instrument'"]),
        ("tune transfer_mode --library l", ["unknown study", "did you mean 'transfer_modes'"]),
        ("prepare houseband --library l", ["unknown source", "did you mean 'house_band'"]),
        ("train tagging --library l --preset smal", ["unknown preset of task tagging", "did you mean 'small'"]),
        ("tune transfer_modes --library l --preset smal", ["did you mean 'small'"]),
        (
            "train tagging --library l --config mixing.p_musicl=1",
            ["unknown config field 'mixing.p_musicl'", "did you mean 'mixing.p_musical'"],
        ),
        ("train tagging --library l --config mixing.p_musical=7", ["mixing.p_musical=7", "less than or equal to 1"]),
        ("train tagging --library l --config training.epochs=x", ["training.epochs=x", "integer"]),
        ("train tagging --library l --config lr", ["--config takes field=value, not 'lr'"]),
        ("train tagging --library l --config lr=1 lr=2", ["sets 'lr' twice"]),
        ("train tagging --library l --seed 1 --config seed=2", ["sets 'seed' twice"]),
        ("prepare house_band --library l --option song=3", ["'song'", "did you mean 'songs'"]),
        ("prepare house_band --library l --option songs=0", ["songs=0", "greater than or equal to 1"]),
        ("train tagging --library nowhere", ["nowhere is no prepared library", "timbrel prepare"]),
        ("tune transfer_modes --library nowhere", ["nowhere is no prepared library"]),
        ("tune transfer_modes", ["transfer_modes trains on a library", "--library DIR", "timbrel prepare"]),
        ("tune thresholds", ["judges the outputs of a finished run", "--from-run RUN", "timbrel list runs"]),
        ("tune transfer_modes --library l --from-run RUN", ["trains its own runs", "leave --from-run out"]),
        ("tune transfer_modes --library l --share-gb -1", ["--share-gb -1: must be at least 0"]),
        ("evaluate RUN --library nowhere --config model.width=3", ["'model.width' belongs to the trained model"]),
        ("evaluate RUN --library nowhere", ["nowhere is no prepared library"]),
        ("embed crnn --library nowhere", ["nowhere is no prepared library"]),
        ("embed crnn --library nowhere --hop-s -1", ["--hop-s -1 must be from 0 to 3600 s"]),
        ("embed crn --library nowhere", ["unknown teacher 'crn': did you mean 'crnn'"]),
        ("predict --run RUN", ["which recordings?"]),
        ("report", ["which runs?", "timbrel list runs"]),
        ("list tasks taging", ["unknown task 'taging': did you mean 'tagging'"]),
        ("list studies learning", ["did you mean 'learning_rates'"]),
        ("list sources stem", ["did you mean 'stems'"]),
    ],
)
def test_errors_are_one_sentence(command, tmp_path, arguments, parts):
    assert_sentence(command(*arguments.split()), *parts)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        "train tagging",
        "tune transfer_modes",
        "prepare house_band",
        "list plugins",
        "train tagging --library l --epoch 3",
    ],
)
def test_what_the_parser_refuses(command, arguments):
    status, out, errors = command(*arguments.split())
    assert status == 2
    assert "Traceback" not in out + errors
    assert errors


def test_a_run_that_is_not_there(command, tmp_path):
    uri = "http://127.0.0.1:9"
    assert_sentence(command("report", "abc", "--tracking-uri", uri), f"no MLflow server answers at {uri}")
    assert_sentence(command("list", "runs", "--tracking-uri", uri), f"no MLflow server answers at {uri}")
    assert_sentence(command("predict", "a.wav", "--run", tmp_path), "holds no trained model: weights.pt is missing")


# Lists

STUDIES = [
    "attention_mil",
    "class_balance",
    "east_table",
    "frame_thresholds",
    "learning_rates",
    "loss_weights",
    "mixing_ratio",
    "multitask_ablation",
    "teacher_regularisation",
    "thresholds",
    "transfer_modes",
]
SOURCES = [
    "house_band",
    "magnatagatune",
    "medleydb",
    "midi",
    "midi_audio_pairs",
    "mixing_secrets",
    "mtg_jamendo",
    "musdb18hq",
    "openmic",
    "slakh",
    "stems",
    "weak_clips",
]


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("tasks", ["attention_mil", "clip_tagging", "multi_instrument", "pianoroll", "tagging"]),
        ("studies", STUDIES),
        ("sources", SOURCES),
    ],
)
def test_lists(command, what, names):
    status, out, errors = command("list", what)
    assert (status, errors) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == names


def test_a_task_in_detail(command):
    status, out, _ = command("list", "tasks", "multi_instrument")
    assert status == 0
    for part in ("mixing.p_musical = 0.4", "transfer.mode = scratch", "preset small: mixing.sample_rate=16000"):
        assert part in out
    assert "Share of musical mixtures" in out


def test_a_source_in_detail(command):
    status, out, _ = command("list", "sources", "stems")
    assert status == 0
    for part in ("my_stems/", "unknown = skip", "is not in the taxonomy"):
        assert part in out


@pytest.mark.parametrize("study", ["transfer_modes", "learning_rates"])
def test_a_study_in_detail(command, study):
    status, out, _ = command("list", "studies", study)
    assert status == 0
    assert f"task: {registry.load('study', study).task}" in out
    assert "object at 0x" not in out


def test_a_run_in_detail(command, tmp_path):
    task = registry.load("task", "multi_instrument")
    tracker = Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}")
    tags = {"timbrel.task": task.name, "timbrel.kind": "train"}
    run = tracker.start("by hand", tags)
    run.log_config(with_values(task.config_type(), {"mixing.p_musical": 0.7}))
    run.log_metrics({"test/loss": 0.25, "test/f1/flute": 0.5, "threshold/flute": 0.3}, step=1)
    status, out, _ = command("list", "runs", run.id, "--tracking-uri", tracker.uri)
    assert status == 0
    assert out.startswith(f"by hand, RUNNING: run {run.id}, started ")
    assert out.endswith("\nartifacts: config.json\n")
    assert "\nkind = train\ntask = multi_instrument\n" in out
    assert "\nwhat differs from the defaults:\n  mixing.p_musical = 0.7\n\n" in out
    assert "\n  test/loss = 0.25\n" in out
    assert "flute" not in out
    run.close()
    tracker.start("of another version", {"timbrel.task": "gone"}).log_params({"width": 3})
    newest = tracker.find({}, limit=1)[0].info.run_id
    _, out, _ = command("list", "runs", newest, "--tracking-uri", tracker.uri)
    assert "\nsettings:\n  width = 3\n" in out
    assert out.endswith("\nartifacts: none\n")
    assert_sentence(command("list", "runs", "nothing", "--tracking-uri", tracker.uri), "there is no run 'nothing'")
