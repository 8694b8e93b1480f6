"""Configs: frozen dataclass trees whose fields are addressed by dotted path.

A config is declared once, as a dataclass with the paper's values as defaults, ranges as ``Annotated`` types and
a docstring under each field. From that one declaration come the command line (``--config mixing.p_musical=0.6``),
the keys of a search space, the parameters in MLflow, and the JSON that is stored with every run. pydantic does the
checking; this module only maps between trees and dotted paths, and turns errors into sentences.
"""

import ast
import dataclasses
import hashlib
import inspect
import itertools
import json
import math
import re
import textwrap
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from timbrel.errors import UserError, unknown_name

Config = TypeVar("Config")

SCHEMA_VERSION = 1


def flatten(config: Any) -> dict[str, Any]:
    """Return ``{"mixing.p_musical": 0.4, ...}``: every leaf of the tree by its dotted path."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            flat |= {f"{field.name}.{path}": leaf for path, leaf in flatten(value).items()}
        else:
            flat[field.name] = value
    return flat


def field_types(config_type: type) -> dict[str, Any]:
    """Return the type, annotations included, of every leaf of a config type by its dotted path."""
    hints = typing.get_type_hints(config_type, include_extras=True)
    types: dict[str, Any] = {}
    for field in dataclasses.fields(config_type):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            types |= {f"{field.name}.{path}": leaf for path, leaf in field_types(typing.cast(type, hint)).items()}
        else:
            types[field.name] = hint
    return types


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """Return ``config`` with the leaves at the given dotted paths replaced, everything checked again.

    Strings are read as the field's type (``"0.4"``, ``"true"``, ``"a,b"`` for a tuple), so this serves the command
    line as well as a search space; ``"none"`` is None where the field may be. The value of a branch is a mapping from
    what is below it: ``{"loss": {"roll": 1.0, "pitch": 0.0}}``.

    Raises:
        UserError: an unknown path (naming the nearest), or a value of the wrong type or out of range.
    """
    types = field_types(type(config))
    tree = dataclasses.asdict(typing.cast(Any, config))
    for path, value in spread_branches(values).items():
        if path not in types:
            raise unknown_name("config field", path, types)
        *parents, leaf = path.split(".")
        branch = tree
        for parent in parents:
            branch = branch[parent]
        branch[leaf] = _read(types[path], value) if isinstance(value, str) else value
    return from_tree(type(config), tree)


def spread_branches(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by the dotted paths of fields, where some are given for a branch: ``{"loss": {"roll": 1.0}}``.

    Raises:
        UserError: a field is given both by itself and in its branch.
    """
    spread: dict[str, Any] = {}
    for path, value in values.items():
        below = {f"{path}.{name}": each for name, each in value.items()} if isinstance(value, Mapping) else {}
        found = spread_branches(below) if below else {path: value}
        if twice := sorted(spread.keys() & found.keys()):
            raise UserError(f"'{twice[0]}' is given twice, by itself and in a branch of the config: keep one of them.")
        spread |= found
    return spread


def from_tree(config_type: type[Config], tree: Mapping[str, Any]) -> Config:
    """Build and check a config from nested dictionaries.

    Raises:
        UserError: naming the dotted path, the value and what would be right.
    """
    known = field_types(config_type)
    for path in _leaves(tree):
        if path not in known and not any(path.startswith(f"{leaf}.") for leaf in known):
            raise unknown_name("config field", path, known)
    try:
        config = TypeAdapter(config_type).validate_python(tree)
    except ValidationError as error:
        raise UserError(_sentence(error)) from None
    for path, value in flatten(config).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{path}={value}: must be a finite number")
    return config


def short(value: Any) -> str:
    """Return a value of a field, or of fields of a branch, for people."""
    if isinstance(value, Mapping):
        return " ".join(f"{name}={short(each)}" for name, each in value.items())
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def assignments(texts: Iterable[str], what: str = "--config") -> dict[str, str]:
    """Parse ``["mixing.p_musical=0.6", ...]`` into a mapping.

    Raises:
        UserError: a text without ``=``, or a path given twice.
    """
    values: dict[str, str] = {}
    for text in texts:
        path, separator, value = text.partition("=")
        if not separator or not path:
            raise UserError(f"{what} takes field=value, not '{text}'.")
        if path in values:
            raise UserError(f"{what} sets '{path}' twice: keep one of '{values[path]}' and '{value}'.")
        values[path] = value
    return values


def to_json(config: Any) -> str:
    """Return the config as JSON, with the schema version that ``from_json`` checks."""
    return json.dumps({"schema": SCHEMA_VERSION, **dataclasses.asdict(config)}, indent=2)


def from_json(config_type: type[Config], text: str, where: str) -> Config:
    """Read what ``to_json`` wrote; ``where`` names the file or run in errors.

    Raises:
        UserError: it is damaged, or another version of the schema wrote it.
    """
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        tree = None
    if not isinstance(tree, dict):
        raise UserError(f"the config of {where} is damaged: it is no JSON object.")
    version = tree.pop("schema", None)
    if version != SCHEMA_VERSION:
        raise UserError(f"the config of {where} has schema {version}, this timbrel reads {SCHEMA_VERSION}.")
    return from_tree(config_type, tree)


def fingerprint(*parts: Any) -> str:
    """Return a short hash of configs and plain values: equal inputs, equal hash, on every machine."""
    canonical = [dataclasses.asdict(part) if dataclasses.is_dataclass(part) else part for part in parts]  # type: ignore[arg-type]  # a class is no part
    return hashlib.sha256(json.dumps(canonical, sort_keys=True).encode()).hexdigest()[:16]


def field_help(config_type: type, prefix: str = "") -> list[tuple[str, Any, str]]:
    """Return ``(dotted path, default, docstring)`` for every leaf, in the order of declaration."""
    docs = _field_docstrings(config_type)
    hints = typing.get_type_hints(config_type)
    rows: list[tuple[str, Any, str]] = []
    for field in dataclasses.fields(config_type):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            rows += field_help(typing.cast(type, hint), f"{prefix}{field.name}.")
        else:
            default = field.default if field.default is not dataclasses.MISSING else ""
            rows.append((prefix + field.name, default, docs.get(field.name, "")))
    defaults = _defaults(config_type) if not prefix else {}
    return [(path, defaults.get(path, default), text) for path, default, text in rows]


def _defaults(config_type: type) -> dict[str, Any]:
    try:
        return flatten(config_type())
    except TypeError:  # A field without a default: the caller shows the fields' own defaults.
        return {}


def _field_docstrings(config_type: type) -> dict[str, str]:
    """Return the string literals that follow the fields of a dataclass and of its bases."""
    docs: dict[str, str] = {}
    for base in reversed(config_type.__mro__[:-1]):
        if not dataclasses.is_dataclass(base) or not Path(inspect.getsourcefile(base) or "").is_file():
            continue
        (declaration,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        body = typing.cast(ast.ClassDef, declaration).body
        for statement, following in itertools.pairwise(body):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
            ):
                docs[statement.target.id] = " ".join(str(following.value.value).split())
    return docs


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    paths: list[str] = []
    for name, value in tree.items():
        paths += _leaves(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [prefix + name]
    return paths


def _read(hint: Any, text: str) -> Any:
    """Return what a text from the command line means, as far as pydantic does not know: tuples, and none."""
    if typing.get_origin(hint) is typing.Annotated:
        return _read(typing.get_args(hint)[0], text)
    if typing.get_origin(hint) is tuple:
        commas = r",(?![^(]*\))"  # not those between parentheses: AddGaussianSNR(min_snr_db=5, p=0.3)
        return [item.strip() for item in re.split(commas, text) if item.strip()]
    if type(None) in typing.get_args(hint) and text.lower() == "none":
        return None
    return text


def _sentence(error: ValidationError) -> str:
    sentences = []
    for fault in error.errors():
        path = ".".join(str(part) for part in fault["loc"])
        reason = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
        if fault["loc"] and not isinstance(fault["input"], Mapping):
            sentences.append(f"{path}={fault['input']}: {reason}")
        else:
            sentences.append(f"{path}: {reason}" if path else reason)
    return "; ".join(sentences)
