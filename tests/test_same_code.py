"""A job runs the code that was submitted, and says so where it would not."""

from pathlib import Path

import pytest

import timbrel
from timbrel import registry, same_code
from timbrel.errors import UserError
from timbrel.runtime import ray_session
from timbrel.same_code import Code, check_installed, check_nodes, check_submitted, code_here

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture
def tree(tmp_path):
    """Return a function that makes a working tree whose pyproject.toml declares the given lines."""

    def make(old, new):
        text = (REPOSITORY / "pyproject.toml").read_text()
        assert old in text
        (tmp_path / "pyproject.toml").write_text(text.replace(old, new))
        return tmp_path

    return make


def test_what_is_installed_here_agrees_with_the_code(tmp_path):
    check_installed()
    check_installed(tmp_path)  # no working tree: a package whose entry points are its own
    here = code_here()
    assert here.version == here.installed == timbrel.__version__
    assert here == code_here()


def test_another_version_is_refused(monkeypatch):
    monkeypatch.setattr(timbrel, "__version__", "7.0.0")
    with pytest.raises(UserError, match=r"this code is Timbrel 7.0.0, and the one installed on .* is 0.1.0: install"):
        check_installed()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("transfer_modes =", 'mine = "mine:STUDY"\ntransfer_modes =', r"differ in timbrel.studies \(mine\)"),
        ("transfer_modes =", "moved =", r"differ in timbrel.studies \(moved, transfer_modes\)"),
        ("tasks.pianoroll:TASK", "tasks.rolls:TASK", r"differ in timbrel.tasks \(pianoroll\)"),
    ],
)
def test_other_entry_points_are_refused(tree, old, new, said):
    with pytest.raises(UserError, match=said):
        check_installed(tree(old, new))


def test_a_name_that_is_declared_and_not_installed_is_told_from_one_that_is_unknown(tree, monkeypatch):
    with pytest.raises(UserError, match="unknown study 'mine'"):
        registry.load("study", "mine")
    folder = tree("transfer_modes =", 'mine = "mine:STUDY"\ntransfer_modes =')
    monkeypatch.setattr(timbrel, "__file__", str(folder / "platform" / "timbrel" / "__init__.py"))
    with pytest.raises(UserError, match=r"differ in timbrel.studies \(mine\): install it again"):
        registry.load("study", "mine")


def test_a_working_folder_with_another_timbrel_is_refused(tmp_path, monkeypatch):
    check_submitted(tmp_path / "none")
    check_submitted(REPOSITORY / "platform" / "timbrel")  # the same
    (tmp_path / "platform" / "timbrel").mkdir(parents=True)
    (tmp_path / "platform" / "timbrel" / "__init__.py").write_text('__version__ = "0.1.0"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match=r"is not the Timbrel that would run.*PYTHONPATH"), ray_session():
        pass


@pytest.mark.parametrize("there", [Code("0.1.0", "0.1.0", "another"), None])
def test_a_node_with_other_code_is_named(monkeypatch, there):
    monkeypatch.setattr(same_code, "_codes_of_others", lambda: [("10.0.0.2", code_here()), ("10.0.0.3", there)])
    with pytest.raises(UserError, match=r"node 10.0.0.3 would run other code .* than this process"):
        check_nodes()


def test_a_digest_is_of_names_and_contents(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    seen = set()
    for name, text in [("one.py", "1"), ("one.py", "2"), ("two.py", "2"), ("notes.txt", "2")]:
        package = tmp_path / f"package_{len(seen)}"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / name).write_text(text)
        seen.add(same_code._digest({package.name}))
    assert len(seen) == 4
    assert same_code._digest({"no_such_package"}) == same_code._digest(set())
