"""Tasks, sources and studies, found by name through entry points.

The platform never imports one of them by name, so somebody else's package can add its own: it declares an
entry point in the group ``timbrel.tasks``, ``timbrel.sources`` or ``timbrel.studies``.
"""

from importlib.metadata import entry_points
from typing import Any, Literal

from timbrel.errors import unknown_name
from timbrel.same_code import check_installed

Kind = Literal["task", "source", "study"]
_GROUPS: dict[Kind, str] = {"task": "timbrel.tasks", "source": "timbrel.sources", "study": "timbrel.studies"}


def names(kind: Kind) -> list[str]:
    """Return the names of all installed tasks, sources or studies, sorted."""
    return sorted({entry.name for entry in entry_points(group=_GROUPS[kind])})


def load(kind: Kind, name: str) -> Any:
    """Return the installed task, source or study called ``name``.

    Raises:
        UserError: no such name is installed; the message suggests the nearest, or says that the working tree declares
            what is not installed yet.
    """
    for entry in entry_points(group=_GROUPS[kind]):
        if entry.name == name:
            return entry.load()
    check_installed()
    raise unknown_name(kind, name, names(kind))
