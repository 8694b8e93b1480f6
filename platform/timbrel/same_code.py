"""One code on the whole cluster: what a process imports, beside what is installed and what other nodes would import.

A job brings its own modules (``PYTHONPATH`` in its runtime environment), but tasks, sources and studies are found
through the entry points of the distribution that is installed on the nodes. Where the two differ, a study would be
missing, or trained with other code than its neighbour, and nobody would see it in the figures.
"""

import hashlib
import socket
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, entry_points
from importlib.util import find_spec
from pathlib import Path

import timbrel
from timbrel.errors import UserError

GROUPS = ("timbrel.tasks", "timbrel.sources", "timbrel.studies")
ANSWER_S = 60
"""A node that has not answered by then is not waited for: it is leaving, or too busy to be given work."""
REMEDY = "install it again (`ray up` does it on every node of a cluster), or run the code that is installed."
BRING = """submit it with `--working-dir . --runtime-env-json '{"env_vars": {"PYTHONPATH": "platform"}}'`"""


@dataclass(frozen=True)
class Code:
    """What a process would run."""

    version: str
    """Of the package that is imported."""
    installed: str
    """Of the distribution whose entry points are read; empty: none is installed."""
    digest: str
    """Of the modules of ``timbrel`` and of all packages that offer tasks, sources or studies."""


def code_here() -> Code:
    """Return what this process would run; nothing is imported for it."""
    try:
        installed = distribution("timbrel").version
    except PackageNotFoundError:
        installed = ""
    packages = {"timbrel"} | {entry.module.partition(".")[0] for group in GROUPS for entry in entry_points(group=group)}
    return Code(timbrel.__version__, installed, _digest(packages))


def check_installed(source: Path | None = None) -> None:
    """Refuse code whose version or entry points are not those that are installed.

    ``source`` is the folder that the package is imported from, with its ``pyproject.toml`` if it is a working tree.

    Raises:
        UserError: they differ.
    """
    here, node = code_here(), socket.gethostname()
    if here.version != here.installed:
        there = here.installed or "none"
        raise UserError(f"this code is Timbrel {here.version}, and the one installed on {node} is {there}: {REMEDY}")
    project = (source or Path(timbrel.__file__).parents[2]) / "pyproject.toml"
    if not project.is_file():  # an installed package, whose entry points are its own
        return
    declared = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {}).get("entry-points", {})
    for group in GROUPS:
        known = {(entry.name, entry.value) for entry in distribution("timbrel").entry_points.select(group=group)}
        names = ", ".join(sorted({name for name, _ in known ^ set(declared.get(group, {}).items())}))
        if names:
            raise UserError(f"this code and the Timbrel installed on {node} differ in {group} ({names}): {REMEDY}")


def check_submitted(uploaded: Path = Path("platform/timbrel")) -> None:
    """Refuse a job that brings a working tree of Timbrel, but would run another copy, installed on the node.

    Raises:
        UserError: it would.
    """
    if uploaded.is_dir() and _modules(uploaded) != _modules(Path(timbrel.__file__).parent):
        raise UserError(
            f"{uploaded.resolve()} is not the Timbrel that would run, {Path(timbrel.__file__).parent}: {BRING}."
        )


def check_nodes() -> None:
    """Refuse a cluster on which another node would run other code than this process.

    Raises:
        UserError: one would; it is named.
    """
    here = code_here()
    for address, there in _codes_of_others():
        if there != here:
            raise UserError(
                f"node {address} would run other code ({_shown(there)}) than this process ({_shown(here)}): {BRING}, "
                "or run `ray up` again, which installs it on every node."
            )


def _codes_of_others() -> Iterator[tuple[str, Code | None]]:
    """Yield the address of each other node of the cluster, with the code that a task finds there."""
    import ray
    from ray.exceptions import NodeDiedError, TaskUnschedulableError, WorkerCrashedError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def found() -> Code | None:  # sent as it is, since the node's own copy may not have it
        try:
            from timbrel.same_code import code_here
        except ImportError:
            return None
        return code_here()

    own = ray.get_runtime_context().get_node_id()
    asked = {}
    for node in ray.nodes():
        if node["Alive"] and node["NodeID"] != own:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = ray.remote(found).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
            asked[task.remote()] = node["NodeManagerAddress"]
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S) if asked else ([], [])
    for answer in answered:
        try:
            yield asked[answer], ray.get(answer)
        except (NodeDiedError, TaskUnschedulableError, WorkerCrashedError):
            continue  # it has left the cluster


def _digest(packages: Iterable[str]) -> str:
    """Return a hash of the Python modules of packages, found without importing them."""
    specs = [spec for package in sorted(packages) if (spec := find_spec(package))]
    folders = [Path(folder) for spec in specs for folder in spec.submodule_search_locations or []]
    return hashlib.sha256(b"".join(map(_modules, folders))).hexdigest()[:12]


def _modules(folder: Path) -> bytes:
    """Return a hash of the names and contents of all Python modules in a folder."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(f"{file.relative_to(folder).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    return digest.digest()


def _shown(code: Code | None) -> str:
    return f"Timbrel {code.version}, {code.digest}" if code else "an older Timbrel"
