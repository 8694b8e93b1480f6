"""`timbrel list`."""

from typing import Annotated, Literal

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

    Args:
        what: Kind of thing.
        name: One of them, in detail: a task's config fields, a study's search space, a source's options and layout.
        limit: Newest runs to show.
    """
    at_least(1, limit=limit)
    if what == "runs":
        _runs(tracking_uri, limit)
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
