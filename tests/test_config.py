"""Configs: what a dotted path, a text from the command line, and the stored JSON mean."""

import json
import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timbrel import registry
from timbrel.config import (
    SCHEMA_VERSION,
    assignments,
    field_help,
    field_types,
    fingerprint,
    flatten,
    from_json,
    from_tree,
    spread_branches,
    to_json,
    with_values,
)
from timbrel.errors import UserError

TASKS = registry.names("task")
MULTI_INSTRUMENT = registry.load("task", "multi_instrument").config_type

VALUES = {
    "seed": st.integers(0, 2**40),
    "data.datasets": st.lists(st.text("abc_-. ", min_size=1).map(str.strip).filter(bool), max_size=3).map(tuple),
    "data.songs_from": st.floats(0, 0.5),
    "data.songs_to": st.floats(0.6, 1),
    "mixing.sample_rate": st.integers(16_000, 96_000),
    "mixing.seconds": st.floats(4, 60),
    "mixing.p_musical": st.floats(0, 1),
    "mixing.min_sources": st.integers(1, 3),
    "mixing.max_sources": st.integers(3, 9),
    "mixing.effects.gain.p": st.floats(0, 1),
    "mixing.effects.gain.low": st.floats(-60, -6),
    "training.precision": st.sampled_from(["bf16", "float32"]),
    "training.decay": st.floats(0, 1, exclude_min=True),
    "evaluation.threshold_rule": st.sampled_from(["per_class", "global", "fixed"]),
    "transfer.mode": st.sampled_from(["scratch", "frozen", "finetune"]),
    "transfer.checkpoint": st.sampled_from(["", "none", "a,b", "weights.pt", "0" * 32]),
    "transfer.backbone_lr": st.none() | st.floats(0, 1),
}


def as_text(value):
    """A value as somebody types it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


@settings(max_examples=50)
@given(st.fixed_dictionaries({}, optional=VALUES))
def test_every_config_survives_dotted_paths_texts_and_json(values):
    config = with_values(MULTI_INSTRUMENT(), values)
    flat = flatten(config)
    assert values.items() <= flat.items()
    assert with_values(MULTI_INSTRUMENT(), flat) == config
    assert with_values(MULTI_INSTRUMENT(), {path: as_text(value) for path, value in flat.items()}) == config
    assert from_json(MULTI_INSTRUMENT, to_json(config), "a test") == config
    assert fingerprint(from_json(MULTI_INSTRUMENT, to_json(config), "a test")) == fingerprint(config)


def test_with_values_leaves_the_original_as_it_was():
    original = MULTI_INSTRUMENT()
    changed = with_values(original, {"mixing.p_musical": 0.9})
    assert (original.mixing.p_musical, changed.mixing.p_musical) == (0.4, 0.9)
    assert changed.training == original.training


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("mixing.p_musical", "0.6", 0.6),
        ("training.epochs", "3", 3),
        ("data.datasets", "a,b", ("a", "b")),
        ("data.datasets", " a , b ,", ("a", "b")),
        ("data.datasets", "a", ("a",)),
        ("data.datasets", "", ()),
        ("transfer.backbone_lr", "none", None),
        ("transfer.backbone_lr", "None", None),
        ("transfer.backbone_lr", "1e-3", 1e-3),
        ("transfer.checkpoint", "none", "none"),
        ("transfer.checkpoint", "a,b", "a,b"),
    ],
)
def test_a_text_is_read_as_the_type_of_its_field(path, text, value):
    assert flatten(with_values(MULTI_INSTRUMENT(), {path: text}))[path] == value


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("mixing.p_musicl", "mixing.p_musical"),
        ("p_musical", "mixing.p_musical"),
        ("transfer.mod", "transfer.mode"),
        ("training.epoch", "training.epochs"),
        ("mixing.effects.gain.hi", "mixing.effects.gain.high"),
    ],
)
def test_an_unknown_path_suggests_the_nearest(path, nearest):
    with pytest.raises(UserError, match=f"'{path}': did you mean '{nearest}'"):
        with_values(MULTI_INSTRUMENT(), {path: 1})


@pytest.mark.parametrize("path", ["mixing", "mixing.effects", "mixing.p_musical.low"])
def test_a_branch_is_no_field(path):
    with pytest.raises(UserError, match="unknown config field"):
        with_values(MULTI_INSTRUMENT(), {path: "1"})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mixing.p_musical": 1.5}, r"mixing\.p_musical=1\.5: .*less than or equal to 1"),
        ({"mixing.p_musical": "-0.1"}, r"mixing\.p_musical=-0\.1"),
        ({"mixing.p_musical": "nan"}, r"mixing\.p_musical=nan"),
        ({"training.epochs": 0}, r"training\.epochs=0: .*greater than or equal to 1"),
        ({"training.epochs": "2.5"}, r"training\.epochs=2\.5: .*integer"),
        ({"training.epochs": "many"}, r"training\.epochs=many: .*integer"),
        ({"transfer.mode": "thawed"}, r"transfer\.mode=thawed: .*'frozen'"),
        ({"transfer.backbone_lr": -1}, r"transfer\.backbone_lr=-1"),
        ({"mixing.effects.gain.p": 2}, r"mixing\.effects\.gain\.p=2"),
        ({"mixing.effects.gain.low": 9}, r"mixing\.effects\.gain: low \(9.*high \(6"),
        ({"mixing.effects.time_stretch.low": 0}, r"mixing\.effects: time_stretch\.low \(0.*above 0"),
        ({"mixing.min_sources": 7}, r"mixing: min_sources \(7\).*max_sources \(5\)"),
        ({"training.batch_size": 9, "training.workers": 2}, r"training: batch_size \(9\).*workers \(2\)"),
        (
            {"training.batch_size": 2, "training.workers": 2},
            r"batch_size \(2\) must be at least 2 for each of 2 workers",
        ),
        ({"data.songs_from": 0.5, "data.songs_to": 0.5}, r"data: songs_from \(0\.5\)"),
        ({"training.epochs": 0, "mixing.p_musical": 2}, r"mixing\.p_musical=2.*; training\.epochs=0"),
    ],
)
def test_what_is_out_of_range_is_named_with_its_value(values, message):
    with pytest.raises(UserError, match=message):
        with_values(MULTI_INSTRUMENT(), values)


@pytest.mark.parametrize("path", ["mixing.seconds", "transfer.head_lr", "mixing.effects.gain.high"])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_numbers_are_finite(path, value):
    with pytest.raises(UserError, match=path.split(".")[-1]):
        with_values(MULTI_INSTRUMENT(), {path: value})


@pytest.mark.parametrize("path", ["seed", "evaluation.seed"])
@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_are_what_numpy_and_pytorch_take(path, seed):
    with pytest.raises(UserError, match=f"{path}={seed}"):
        with_values(MULTI_INSTRUMENT(), {path: seed})


def test_branches_are_spread_to_their_fields():
    values = {"seed": 1, "mixing": {"p_musical": 0.5, "effects": {"gain": {"p": 0.0}}, "effects.peaking.p": 1.0}}
    assert spread_branches(values) == {
        "seed": 1,
        "mixing.p_musical": 0.5,
        "mixing.effects.gain.p": 0.0,
        "mixing.effects.peaking.p": 1.0,
    }
    assert spread_branches(spread_branches(values)) == spread_branches(values)
    assert spread_branches({}) == {}
    with pytest.raises(UserError, match=r"'mixing\.seconds' is given twice"):
        spread_branches({"mixing.seconds": 4.0, "mixing": {"seconds": 5.0}})


@settings(max_examples=30)
@given(st.fixed_dictionaries({}, optional=VALUES))
def test_a_branch_is_as_good_as_its_fields(values):
    tree = {}
    for path, value in values.items():
        *parents, leaf = path.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[leaf] = value
    assert spread_branches(tree) == values
    assert with_values(MULTI_INSTRUMENT(), tree) == with_values(MULTI_INSTRUMENT(), values)


def test_a_branch_changes_no_more_than_it_names():
    config = with_values(MULTI_INSTRUMENT(), {"mixing": {"p_musical": 0.9, "effects": {"gain": {"p": "0.1"}}}})
    changed = {path for path, value in flatten(config).items() if flatten(MULTI_INSTRUMENT())[path] != value}
    assert changed == {"mixing.p_musical", "mixing.effects.gain.p"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mixing": {"p_musicl": 0.5}}, r"'mixing\.p_musicl': did you mean 'mixing\.p_musical'"),
        (
            {"mixing": {"effects": {"gian": {"p": 1}}}},
            r"'mixing\.effects\.gian\.p': did you mean 'mixing\.effects\.gain\.p'",
        ),
        ({"mixin": {"p_musical": 0.5}}, r"'mixin\.p_musical': did you mean 'mixing\.p_musical'"),
        ({"mixing": {"p_musical": {"low": 0.5}}}, r"unknown config field 'mixing\.p_musical\.low'"),
        ({"mixing": {}}, "unknown config field 'mixing'"),
        ({"mixing": {"p_musical": 1.5}}, r"mixing\.p_musical=1\.5: .*less than or equal to 1"),
    ],
)
def test_what_is_wrong_in_a_branch_is_named_by_its_path(values, message):
    with pytest.raises(UserError, match=message):
        with_values(MULTI_INSTRUMENT(), values)


def test_assignments():
    assert assignments(["a.b=1", "c=x=y", "d="]) == {"a.b": "1", "c": "x=y", "d": ""}
    with pytest.raises(UserError, match="--config takes field=value, not 'a'"):
        assignments(["a"])
    with pytest.raises(UserError, match="--option takes field=value"):
        assignments(["=1"], "--option")
    with pytest.raises(UserError, match="sets 'a' twice: keep one of '1' and '2'"):
        assignments(["a=1", "a=2"])


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, SCHEMA_VERSION - 1, None])
def test_json_of_another_schema_is_refused(version):
    tree = json.loads(to_json(MULTI_INSTRUMENT()))
    tree |= {"schema": version}
    with pytest.raises(UserError, match=f"run 7 has schema {version}, this timbrel reads {SCHEMA_VERSION}"):
        from_json(MULTI_INSTRUMENT, json.dumps(tree), "run 7")


@pytest.mark.parametrize("text", ["", "{", "3", "null", '"{}"', "[[1, 2]]", "[]", "[" * 100_000, '{"a":' * 100_000])
def test_json_that_is_no_object_is_refused(text):
    with pytest.raises(UserError, match="the config of run 7 is damaged"):
        from_json(MULTI_INSTRUMENT, text, "run 7")


def test_json_with_a_field_that_is_no_more_is_refused():
    tree = json.loads(to_json(MULTI_INSTRUMENT()))
    tree["mixing"]["p_musicle"] = 0.4
    with pytest.raises(UserError, match=r"mixing\.p_musicle.*did you mean 'mixing\.p_musical'"):
        from_json(MULTI_INSTRUMENT, json.dumps(tree), "run 7")


def test_a_tree_may_leave_out_what_has_a_default():
    assert from_tree(MULTI_INSTRUMENT, {"mixing": {"p_musical": 0.1}}) == with_values(
        MULTI_INSTRUMENT(), {"mixing.p_musical": 0.1}
    )


def test_fingerprints_do_not_change():
    """Runs are found again by them: a change of this value orphans every run that can still be resumed."""
    assert fingerprint("task", {"b": 1, "a": [0.1, None]}, True) == "85d38787a5f8482b"


def test_fingerprints_tell_configs_apart():
    changes = {
        "seed": 1,
        "data.datasets": ("a",),
        "data.songs_to": 0.5,
        "mixing.seconds": 4.5,
        "mixing.max_sources": 6,
        "mixing.effects.gain.p": 0.25,
        "mixing.effects.peaking.p": 0.25,
        "mixing.effects.gain.high": 7,
        "training.epochs": 151,
        "training.precision": "float32",
        "evaluation.seed": 1,
        "model.width": 64,
        "transfer.mode": "frozen",
        "transfer.backbone_lr": 0.01,
        "transfer.checkpoint": "x",
    }
    config = with_values(MULTI_INSTRUMENT(), {})
    seen = {fingerprint(with_values(config, {path: value})) for path, value in changes.items()}
    seen |= {fingerprint(config), fingerprint(config, "task"), fingerprint("task", config)}
    assert len(seen) == len(changes) + 3


@pytest.mark.parametrize("task", TASKS)
def test_equal_configs_have_equal_fingerprints(task):
    config = registry.load("task", task).config_type()
    checked = with_values(config, {})
    assert checked == config
    assert fingerprint(checked) == fingerprint(config)


@pytest.mark.parametrize("task", TASKS)
def test_help_covers_every_field(task):
    config_type = registry.load("task", task).config_type
    rows = field_help(config_type)
    defaults = flatten(config_type())
    assert {path: default for path, default, _ in rows} == defaults
    assert [path for path, _, _ in rows] == list(defaults) == list(field_types(config_type))
    assert not [path for path, _, text in rows if len(text) < 5]


@pytest.mark.parametrize("source", registry.names("source"))
def test_help_covers_every_option(source):
    rows = field_help(registry.load("source", source).options_type)
    assert rows
    assert not [path for path, _, text in rows if len(text) < 5]


def test_help_shows_a_field_without_default():
    @dataclass(frozen=True, kw_only=True)
    class Inner:
        size: int = 2
        """How big."""

    @dataclass(frozen=True, kw_only=True)
    class Outer:
        name: str
        """What it is called,
        in one word."""
        inner: Inner = field(default_factory=Inner)

    Outer.__annotations__["inner"] = Inner
    assert field_help(Outer) == [("name", "", "What it is called, in one word."), ("inner.size", 2, "How big.")]
