"""`timbrel list`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import tyro

from timbrel.cli.arguments import TrackingUri, at_least


def list_(
    what: Annotated[
        tyro.conf.Positional[Literal["tasks", "studies", "sources", "runs"]],
        tyro.conf.arg(metavar="tasks|studies|sources|runs"),
    ],
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[NAME]")] = "",
    /,
    *,
    tracking_uri: TrackingUri = "",
    limit: Annotated[int, tyro.conf.arg(metavar="N")] = 20,
) -> None:
    """Show what there is: tasks, studies, sources, or the runs logged so far.

    All of them, or one in detail:

        timbrel list tasks                      all tasks
        timbrel list tasks multi_instrument     every config field of one, with default and meaning
        timbrel list runs RUN                   what one run was, what it measured, what it left

    Args:
        what: Kind of thing.
        name: One of them, in detail: a task's config fields, a study's search space, a source's options and layout, a
            run's settings and figures.
        limit: Newest runs to show.
    """
    at_least(1, limit=limit)
    if what == "runs":
        _run(tracking_uri, name) if name else _runs(tracking_uri, limit)
    elif name:
        {"tasks": _task, "studies": _study, "sources": _source}[what](name)
    else:
        from timbrel import registry

        kinds: dict[str, Literal["task", "study", "source"]]
        kinds = {"tasks": "task", "studies": "study", "sources": "source"}
        kind = kinds[what]
        for installed in registry.names(kind):
            print(f"{installed:<20} {registry.load(kind, installed).summary}")


def _task(name: str) -> None:
    from timbrel import config as configs
    from timbrel import registry

    task = registry.load("task", name)
    print(f"{task.name}: {task.summary}\n")
    _fields(configs.field_help(task.config_type))
    for preset, values in task.presets.items():
        print(f"\npreset {preset}: " + (", ".join(f"{k}={v}" for k, v in values.items()) or "the defaults above"))


def _study(name: str) -> None:
    from timbrel import registry

    study = registry.load("study", name)
    print(f"{study.name}: {study.summary}\n\n{study.why}\n\ntask: {study.task}\nvaries:")
    for path in study.space:
        print(f"  {path}: {study.describe(path)}")
    for path, value in study.fixed.items():
        print(f"fixed: {path}={value}")


def _source(name: str) -> None:
    import inspect

    from timbrel import config as configs
    from timbrel import registry

    source = registry.load("source", name)
    module = inspect.getmodule(type(source))
    print(f"{source.name}: {source.summary}\n\n{inspect.cleandoc((module and module.__doc__) or '')}\n\noptions:")
    _fields(configs.field_help(source.options_type))


def _fields(rows: list[tuple[str, object, str]]) -> None:
    import textwrap

    for path, default, text in rows:
        print(f"{path} = {default if default != '' else '(none)'}")
        for line in textwrap.wrap(text, 96):
            print(f"    {line}")


def _runs(tracking_uri: str, limit: int) -> None:
    from timbrel.safety import without_secrets
    from timbrel.tracking import Tracker, frame

    tracker = Tracker(tracking_uri)
    table = frame(tracker.find({}, limit))
    if table.empty:
        print(f"no runs at {without_secrets(tracker.uri)} yet: `timbrel train` or `timbrel tune` log there.")
        return
    columns = {
        "run_id": "run",
        "name": "name",
        "status": "status",
        "start": "started (UTC)",
        "metrics.test/roc_auc_macro": "test ROC-AUC",
        "metrics.test/pr_auc_macro": "test PR-AUC",
    }
    shown = table[[column for column in columns if column in table]].rename(columns=columns)
    shown["started (UTC)"] = shown["started (UTC)"].dt.strftime("%Y-%m-%d %H:%M")
    print(shown.to_string(index=False, na_rep="-", float_format="%.3f"))


def _run(tracking_uri: str, run_id: str) -> None:
    from timbrel import config as configs
    from timbrel import registry
    from timbrel.tracking import Tracker, as_param

    tracker = Tracker(tracking_uri)
    run = tracker.get(run_id)
    own = "timbrel."
    tags = {name.removeprefix(own): value for name, value in run.data.tags.items() if name.startswith(own)}
    print(f"{run.info.run_name}, {run.info.status}: run {run.info.run_id}, {_when(run.info)}\n")
    for name, value in sorted(tags.items()):
        print(f"{name} = {value}")
    task = registry.load("task", tags["task"]) if tags.get("task") in registry.names("task") else None
    defaults = configs.flatten(task.config_type()) if task else {}
    changed = {
        name: value
        for name, value in run.data.params.items()
        if name not in defaults or as_param(defaults[name]) != value
    }
    _values("what differs from the defaults" if task else "settings", changed)
    measured = ("train", "valid", "test")  # not the thresholds and shares of the classes, either
    figures = {name: value for name, value in run.data.metrics.items() if name.rpartition("/")[0] in measured}
    _values("last figures, without those of single classes", {name: f"{value:.4g}" for name, value in figures.items()})
    artifacts = sorted(entry.path for entry in tracker.client.list_artifacts(run_id))
    print(f"\nartifacts: {', '.join(artifacts) or 'none'}")


def _when(info: Any) -> str:
    from pandas import Timestamp

    from timbrel.progress import duration

    began = Timestamp(info.start_time, unit="ms")
    said = f"started {began:%Y-%m-%d %H:%M} UTC"
    return f"{said}, took {duration((info.end_time - info.start_time) / 1000)}" if info.end_time else said


def _values(what: str, values: Mapping[str, str]) -> None:
    print(f"\n{what}:" if values else f"\n{what}: nothing")
    for name, value in sorted(values.items()):
        print(f"  {name} = {value}")
