"""Configs: any dotted path, any value, any JSON."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from timbrel import registry
from timbrel.cli.arguments import make_config
from timbrel.config import field_types, flatten, from_json, to_json, with_values

FUZZ = settings.get_profile("fuzz")
TASKS = [registry.load("task", name) for name in registry.names("task")]
PATHS = sorted({path for task in TASKS for path in field_types(task.config_type)})
STRANGE_PATH = st.one_of(
    st.tuples(st.sampled_from(PATHS), st.sampled_from([".", "x", ".low", " "])).map("".join),
    st.sampled_from(PATHS).map(lambda path: path.rpartition(".")[0]),
    st.lists(st.text(max_size=8), max_size=4).map(".".join),
)
DEFAULTS = sorted({f"{path}={value}" for task in TASKS for path, value in flatten(task.config_type()).items()})
KNOWN_PATH = st.sampled_from(PATHS)
PATH = st.one_of(*[KNOWN_PATH] * 5, STRANGE_PATH)
NUMBERS = [
    "0",
    "1",
    "-1",
    "0.5",
    "1e400",
    "-0.0",
    "nan",
    "inf",
    "1_000",
    "0x10",
    "1" * 400,
    "9" * 5000,
    "１",
    "1e-400",
    "2.0",
]
TEXT = st.one_of(
    st.sampled_from([*NUMBERS, "", "none", "None", "true", "a,b", ",", "frozen", "bf16", "\0", "\udcff", "{}", "[1]"]),
    st.integers(0, 9).map(str),
    st.floats(0, 1).map(str),
    st.integers().map(str),
    st.floats().map(str),
    st.text(st.characters(), max_size=20),  # surrogates too: so Python hands on arguments that are not UTF-8
)
ASSIGNMENT = st.tuples(PATH, st.sampled_from([*"=========", ""]), TEXT).map("".join)
LEAF = (
    st.integers(0, 9)
    | st.floats(0, 1)
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.just(10**400)
)
JSON = st.recursive(
    LEAF, lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=5), each, max_size=3), max_leaves=5
)


def check(config):
    """Check that a config that was taken can be stored and read again."""
    text = to_json(config)
    json.loads(text, parse_constant=float.fromhex)
    assert from_json(type(config), text, "a test") == config
    assert with_values(config, flatten(config)) == config


@FUZZ
@given(
    task=st.sampled_from(TASKS),
    preset=st.sampled_from(["paper", "small", "smoke", "smoke", "smoke", "tiny"]),
    values=st.lists(st.one_of(*[st.sampled_from(DEFAULTS)] * 3, ASSIGNMENT), max_size=3),
)
def test_values_of_the_command_line(attempt, task, preset, values):
    config = attempt("config", lambda: make_config(task, preset, (tuple(values),)))
    if config is not None:
        check(config)


@FUZZ
@given(
    task=st.sampled_from(TASKS),
    changes=st.lists(st.tuples(PATH, JSON), max_size=3),
    cut=st.one_of(st.none(), st.none(), st.floats(0, 1)),
    inserted=st.sampled_from(["", "", "", "}", "[" * 5000, "NaN", "\0"]),
    schema=st.sampled_from([1] * 9 + [2, None, "1", [], 1.0, True]),
)
def test_json_that_was_changed(attempt, task, changes, cut, inserted, schema):
    tree = json.loads(to_json(task.config_type())) | {"schema": schema}
    for path, value in changes:
        *parents, leaf = path.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {}) if isinstance(branch, dict) else None
        if isinstance(branch, dict):
            branch[leaf] = value
    text = json.dumps(tree)
    if cut is not None:
        place = round(cut * len(text))
        text = text[:place] + inserted + (text[place:] if inserted else "")
    config = attempt("JSON", lambda: from_json(task.config_type, text, "run 7"))
    if config is not None:
        check(config)
