"""Files of weights, states and arrays are data: a pickle that would run something is refused in a sentence."""

import ast
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import ray.train
import soundfile
import torch

from timbrel import config as configs
from timbrel.embeddings.teachers import load_teacher
from timbrel.embeddings.teachers.files import read_array
from timbrel.embeddings.teachers.options import TeacherOptions
from timbrel.embeddings.teachers.packaged import load_arrays
from timbrel.errors import UserError
from timbrel.launch import resolve_weights
from timbrel.logged_model import save_logged_model
from timbrel.mixing.keep import Keep, Keeper
from timbrel.multitrack import read_rolls
from timbrel.outputs import Outputs
from timbrel.search import TUNE, Search, run_trials
from timbrel.tracking import Tracker
from timbrel.trained import TrainedModel
from timbrel.training.worker import STATE, train_worker

ROOT = Path(__file__).parents[2]
FORMS = ["zip", "legacy", "bare"]


@pytest.fixture
def tracker(tmp_path):
    return Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.fixture
def exported(instrument_task, tiny_config, tmp_path):
    """A folder as `timbrel export` writes it."""
    weights = instrument_task.build_model(tiny_config).state_dict()
    thresholds = dict.fromkeys(instrument_task.classes(tiny_config), 0.5)
    return TrainedModel(instrument_task, tiny_config, thresholds, weights).save(tmp_path / "model")


@pytest.fixture
def song(tmp_path):
    soundfile.write(tmp_path / "song.wav", np.zeros(16_000), 16_000)
    return tmp_path / "song.wav"


def test_the_attack_would_work(tmp_path, attack):
    with attack.pickle(tmp_path / "evil.pt", "bare").open("rb") as file:
        pickle.load(file)
    assert attack.ran
    attack.marker.unlink()


# Each way to hand in weights


@pytest.mark.parametrize("form", FORMS)
def test_a_published_taggers_file(command, song, tmp_path, attack, form):
    file = attack.pickle(tmp_path / "best_model.pth", form)
    status, out, err = command("predict", song, "--run", file, "--task", "tagging", "--config", "tags=mtg_jamendo")
    assert (status, out) == (2, "")
    assert err.startswith(f"timbrel: {file} is no readable file of weights (")
    assert err.count("\n") == 1


@pytest.mark.parametrize("form", FORMS)
def test_weights_that_training_starts_from(tracker, tmp_path, attack, form):
    """`transfer.checkpoint`, `start_from` of tagging, and `teacher.head`."""
    file = attack.pickle(tmp_path / "backbone.pth", form)
    with pytest.raises(UserError, match=r"backbone\.pth is no readable file of weights"):
        resolve_weights(tracker, str(file))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["musicnn", "crnn", "fcn"])
def test_a_teachers_weights(tracker, tmp_path, attack, name, form):
    file = attack.pickle(tmp_path / "teacher.pth", form)
    with pytest.raises(UserError, match=r"teacher\.pth is no readable file of weights"):
        load_teacher(name, TeacherOptions(weights=str(file)), tracker)


@pytest.mark.parametrize("form", FORMS)
def test_a_teachers_weights_with_arrays(tmp_path, attack, form):
    """Those of vggish, openl3, passt and panns, which may hold NumPy arrays beside tensors."""
    with pytest.raises(UserError, match=r"teacher\.pth is no readable file of weights"):
        load_arrays(attack.pickle(tmp_path / "teacher.pth", form))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("verb", ["predict", "export"])
def test_an_exported_folder(command, exported, song, attack, verb, form):
    attack.pickle(exported / "weights.pt", form)
    arguments = ["predict", song, "--run", exported] if verb == "predict" else ["export", exported, "--out", "again"]
    status, _, err = command(*arguments)
    assert status == 2
    assert "weights.pt is no readable file of weights" in err
    assert err.count("\n") == 1


def test_a_runs_artifact(command, exported, song, tmp_path, attack):
    tracker = Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = tracker.start("one", {})
    attack.pickle(exported / "weights.pt")
    run.log_folder(exported, "model")
    status, _, err = command("predict", song, "--run", run.id)
    assert status == 2
    assert "weights.pt is no readable file of weights" in err


def test_a_teacher_that_is_a_folder(tracker, exported, attack):
    attack.pickle(exported / "weights.pt")
    with pytest.raises(UserError, match=r"weights\.pt is no readable file of weights"):
        load_teacher(str(exported), TeacherOptions(), tracker)


def test_a_task_is_an_installed_one(exported):
    """The folder names a task, not a module to import."""
    facts = json.loads((exported / "thresholds.json").read_text())
    (exported / "thresholds.json").write_text(json.dumps(facts | {"task": "os:system"}))
    with pytest.raises(UserError, match="unknown task 'os:system'"):
        TrainedModel.load(exported)


# Each way to go on


@pytest.mark.parametrize("form", FORMS)
def test_the_state_of_a_run(instrument_task, tiny_config, tmp_path, attack, monkeypatch, form):
    attack.pickle(tmp_path / "checkpoint" / STATE, form)
    context = type("Context", (), {"get_world_rank": lambda self: 0, "get_world_size": lambda self: 1})()
    monkeypatch.setattr("ray.train.get_context", lambda: context)
    monkeypatch.setattr("ray.train.torch.get_device", lambda: torch.device("cpu"))
    checkpoint = ray.train.Checkpoint.from_directory(tmp_path / "checkpoint")
    monkeypatch.setattr("ray.train.get_checkpoint", lambda: checkpoint)
    failure = tmp_path / "failure.json"
    none = dict.fromkeys(("pretrained", "head", "network", "valid", "test"))
    config = configs.to_json(tiny_config)
    train_worker({"task": instrument_task.name, "config": config, "threads": 1, "failure": str(failure), **none})
    assert f"{STATE} is no readable file of weights" in json.loads(failure.read_text())["sentence"]


def test_the_state_of_a_study_that_is_not_ones_own(instrument_task, tiny_config, tmp_path, attack):
    """Ray Tune's state is a pickle, which can only be trusted or not."""
    state = tmp_path / TUNE / "tuner.pkl"
    state.parent.mkdir()
    state.write_bytes(pickle.dumps(attack.payload))
    state.chmod(0o666)
    with pytest.raises(UserError, match=r"tuner\.pkl was written by another user, or may be by anybody.*--storage"):
        run_trials(Search(instrument_task, tiny_config), None, tmp_path, None, concurrent=1, resume=True)


# Each array


def test_arrays(tmp_path, attack):
    with pytest.raises(UserError, match=r"test\.npz can't be read as outputs"):
        Outputs.load(attack.array(tmp_path / "test.npz"))
    with pytest.raises(UserError, match=r"song\.npy is no readable array"):
        read_array(attack.array(tmp_path / "song.npy"))
    with pytest.raises(UserError, match=r"song\.npz is no readable array|holds 8 arrays"):
        read_array(attack.array(tmp_path / "song.npz"))
    with pytest.raises(UserError, match=r"song\.npz can't be read as rolls"):
        read_rolls(tmp_path / "song.npz")


def test_a_kept_mixture_is_rendered_anew(tmp_path, attack):
    attack.array(tmp_path / "000000000.npz")
    rendered = {"number": np.arange(4)}
    keeper = Keeper(Keep(str(tmp_path), 100, 4), lambda numbers: rendered)
    assert keeper.batch(np.arange(4)) is rendered


def test_the_lists_of_magnatagatune(tmp_path, attack):
    from timbrel.sources.magnatagatune import _cleaned_split

    attack.array(tmp_path / "train.npy")
    with pytest.raises(UserError, match=r"train\.npy: not a list of text"):
        _cleaned_split(tmp_path)


# The logged model


@pytest.fixture
def logged(exported, tmp_path):
    save_logged_model(TrainedModel.load(exported), tmp_path / "logged")
    return tmp_path / "logged"


def test_a_logged_model_holds_no_code(logged):
    import yaml

    files = [file for file in logged.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} <= {"", ".pt", ".json", ".yaml", ".txt"}
    described = yaml.safe_load((logged / "MLmodel").read_text())["flavors"]["python_function"]
    assert described["loader_module"] == "timbrel.logged_model"
    assert described.get("code") is None
    assert "python_model" not in described


def test_mlflow_imports_nothing_that_lies_beside_the_model(logged, tmp_path, attack):
    import mlflow.pyfunc

    evil = f"import pathlib; pathlib.Path({str(attack.marker)!r}).touch()"
    for place in (logged, logged / "data", logged / "data/timbrel", logged / "code"):
        for name in ("timbrel.py", "sitecustomize.py", "timbrel/__init__.py", "loader.py", "torch.py"):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(evil)
    attack.pickle(logged / "python_model.pkl", "bare")
    waveforms = np.zeros((1, 17_600), dtype=np.float32)
    assert mlflow.pyfunc.load_model(str(logged)).predict(waveforms).shape == (1, 15)


def test_mlflow_runs_no_pickle_in_the_weights(logged, attack):
    import mlflow.pyfunc

    attack.pickle(logged / "data/timbrel/weights.pt")
    with pytest.raises(UserError, match=r"weights\.pt is no readable file of weights"):
        mlflow.pyfunc.load_model(str(logged))


def test_what_we_load_does_not_ask_the_artifact_what_to_import(command, logged, song, tmp_path, attack):
    """MLflow's `load_model` would: it imports what MLmodel names."""
    from timbrel.logged_model import load_model

    (logged / "code").mkdir()
    (logged / "code" / "loader.py").write_text(f"import pathlib; pathlib.Path({str(attack.marker)!r}).touch()")
    described = (logged / "MLmodel").read_text().replace("timbrel.logged_model", "loader")
    assert "loader_module: loader" in described
    (logged / "MLmodel").write_text(described.replace("loader_module:", "code: code\n    loader_module:"))
    tracker = Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = tracker.start("one", {})
    run.log_folder(logged, "model")
    waveforms = np.zeros((2, 17_600), dtype=np.float32)
    for source in (str(logged), run.id):
        assert load_model(source, tracker.uri).predict(waveforms).shape == (2, 15)
        status, _, err = command("predict", song, "--run", source)
        assert status == 0, err
    assert not attack.ran


# Every call in the tree


def calls():
    """Yield file, line, dotted name and arguments by name of each call in the project's own code."""
    for folder in ("platform/timbrel", "tasks", "search_spaces", "benchmarks"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    given = {each.arg: ast.unparse(each.value) for each in node.keywords}
                    yield f"{file.relative_to(ROOT)}:{node.lineno}", ast.unparse(node.func), node, given


SAYS = {
    "torch.load": ("weights_only", "True"),
    "np.load": ("allow_pickle", "False"),
    "numpy.load": ("allow_pickle", "False"),
}
NEVER = (
    "pickle.", "cloudpickle.", "ray.cloudpickle.", "dill.", "joblib.", "marshal.", "shelve.", "runpy.", "tarfile.",
    "zipfile.", "shutil.unpack_archive", "torch.jit.load", "torch.hub.", "pd.read_pickle", "eval", "exec", "compile",
    "__import__", "os.system",
)  # fmt: skip
BUT = {
    # Looks at the checksums of a checkpoint; nothing is taken out of it.
    ("platform/timbrel/training/checkpoints.py", "zipfile.ZipFile"),
    # The error of a trial of this very command, which Ray Tune has just written beside its own state.
    ("platform/timbrel/trial_log.py", "ray.cloudpickle.loads"),
    # From one process of the benchmark to the next, in a temporary folder of its own.
    ("benchmarks/scale_catalogue.py", "pickle.dump"),
    ("benchmarks/scale_catalogue.py", "pickle.load"),
}


def test_every_call_that_could_unpickle_says_that_it_must_not():
    found = [(where, name, given) for where, name, _, given in calls() if name in SAYS]
    assert {name for _, name, _ in found} >= {"torch.load", "np.load"}
    for where, name, given in found:
        option, value = SAYS[name]
        assert given.get(option) == value, f"{where}: {name} without {option}={value}"


def test_nothing_else_could_run_what_a_file_says_or_unpack_it():
    for where, name, node, _ in calls():
        assert not name.endswith((".extract", ".extractall")), f"{where}: {name}"
        for never in NEVER if (where.split(":")[0], name) not in BUT else ():
            assert not (name.startswith(never) if never.endswith(".") else name == never), f"{where}: {name}"
        if name == "yaml.load":
            loader = ast.unparse(node.args[1])
            assert "SafeLoader" in loader or loader == "_Loader", f"{where}: {loader}"  # _Loader is a BaseLoader
