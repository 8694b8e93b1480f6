"""Arguments that several verbs share, and the reading of ``--option`` and ``--config``."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import tyro

from timbrel import config as configs
from timbrel import registry
from timbrel.errors import UserError, unknown_name

LibraryDir = Annotated[Path, tyro.conf.arg(metavar="DIR", help="Folder of the prepared library.")]
ConfigValues = Annotated[
    tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]],
    tyro.conf.arg(
        metavar="FIELD=VALUE",
        help="Config fields by dotted path, such as mixing.p_musical=0.6; `timbrel list tasks TASK` shows them all.",
    ),
]
Preset = Annotated[
    str,
    tyro.conf.arg(metavar="PRESET", help="A named set of values: paper, small (minutes on a laptop), smoke (seconds)."),
]
TrackingUri = Annotated[
    str,
    tyro.conf.arg(metavar="URI", help="MLflow; default: MLFLOW_TRACKING_URI, or mlflow.db in the current folder."),
]
Storage = Annotated[
    Path,
    tyro.conf.arg(metavar="DIR", help="Where checkpoints are kept until a run has finished; shared by all nodes."),
]
Mixers = Annotated[
    int,
    tyro.conf.arg(
        metavar="N", help="Most mixing actors a run; 0: what the cluster's CPUs leave. Changes speed, not results."
    ),
]
ShareGb = Annotated[
    float,
    tyro.conf.arg(
        metavar="GB",
        help="Disk for mixtures that trials share: those with the same recipe and seed render each once between them. "
        "0: each trial mixes for itself. Changes speed, not results.",
    ),
]
RunIds = Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN", help="MLflow run ids.")]


def flat(groups: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """Return ``--config a=1 b=2 --config c=3`` as one sequence."""
    return tuple(text for group in groups for text in group)


def at_least(least: int, **values: int | None) -> None:
    """Check numbers of the command line, by the names of their options; None is one that wasn't given.

    Raises:
        UserError: one is below ``least``.
    """
    for name, value in values.items():
        if value is not None and value < least:
            raise UserError(f"--{name} {value}: must be at least {least}.")


def make_config(
    task: Any, preset: str, values: tuple[tuple[str, ...], ...], fixed: Mapping[str, Any] = MappingProxyType({})
) -> Any:
    """Return the task's config: the user's values win over a study's ``fixed`` ones, and those over the preset's.

    Raises:
        UserError: an unknown preset, field, or a value out of range.
    """
    if preset not in task.presets:
        raise unknown_name(f"preset of task {task.name}", preset, task.presets)
    chosen = configs.assignments(flat(values))
    return configs.with_values(task.config_type(), {**task.presets[preset], **fixed, **chosen})


def make_options(source_name: str, values: tuple[tuple[str, ...], ...]) -> tuple[Any, Any]:
    """Return a source and its options."""
    source = registry.load("source", source_name)
    return source, configs.with_values(source.options_type(), configs.assignments(flat(values), "--option"))
