"""`timbrel doctor`: what a run would find here, looked at before it does. Nothing is started or changed."""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import pyarrow.compute as pc

import timbrel
from timbrel.errors import UserError, one_line
from timbrel.estimate import size
from timbrel.library import Library
from timbrel.runtime import Share, ray_session, share_cluster
from timbrel.safety import without_secrets
from timbrel.splits import SPLITS
from timbrel.tracking import EXPERIMENT, Tracker

PINNED = ("ray", "torch", "torchaudio", "mlflow")
"""Packages whose versions are shown."""
NAMED = 3
"""Files and packages that a line names."""
LITTLE_BYTES, LEAST_BYTES = 5e9, 1e9
"""Free on a disk: less than the first is worth a warning, less than the second ends a run before long."""
RAY_FULL = 0.95
"""Share of a disk in use from which Ray writes no objects to it."""
STORE_SHARE, STORE_MOST_BYTES = 0.3, 200e9
"""Of the free memory, and at most, that Ray takes for its objects."""
SLOW_S = 2.0
"""An MLflow that takes longer to answer holds up every epoch."""
LOOKED_AT = 20_000
"""Files of a data set whose sizes are looked up; of more, so many that are evenly spread."""
WAV_HEADER_BYTES = 44
MANY = 1000
"""Trials of a study that leaves nothing of a cluster unused."""

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    topic: str
    state: State
    text: str
    remedy: str = ""
    """What to do, where something is to be done."""


def examine(library: Path | None, storage: Path, tracking_uri: str) -> Iterator[Finding]:
    """Yield what is found, topic by topic.

    Args:
        library: folder of a prepared library, if one is to be looked at.
        storage: where checkpoints will be kept.
        tracking_uri: of MLflow; empty: where runs are logged by default.
    """
    yield from _guarded("versions", versions)
    yield from _guarded("torch", torch_state)
    yield from _guarded("Ray", ray_state)
    yield from _guarded("MLflow", lambda: mlflow_state(tracking_uri))
    yield from _guarded("disk", lambda: disk_state(library, storage))
    if library is None:
        yield Finding("library", "ok", "none named: --library DIR looks at one")
    else:
        yield from _guarded("library", lambda: library_state(library))


def _guarded(topic: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield findings as they may be shown; what can't be looked at is a problem of its own."""
    try:
        for found in look():
            text, remedy = (without_secrets(one_line(each)) for each in (found.text, found.remedy))
            yield Finding(topic, found.state, text, remedy)
    except UserError as error:
        told, _, remedy = without_secrets(one_line(str(error))).rstrip(".").rpartition(": ")
        yield Finding(topic, "problem", told or remedy, remedy if told else "")
    except Exception as error:  # whatever it is, the other topics are looked at
        told = without_secrets(one_line(f"{type(error).__name__}: {error}"))
        yield Finding(topic, "problem", f"could not be looked at ({told})", "see `timbrel doctor` of another machine")


def versions() -> Iterator[Finding]:
    """Say which versions are installed, and which of them are not those that Timbrel was tested with."""
    installed = {name: _version(name) for name in PINNED}
    shown = ", ".join(f"{name} {version}" for name, version in installed.items() if version)
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("", "ok", f"Python {python}, timbrel {timbrel.__version__}, {shown}")
    if missing := [name for name, version in installed.items() if not version]:
        yield Finding("", "problem", f"not installed: {', '.join(missing)}", "pip install -c constraints.txt -e .")
    if (known := _version("timbrel")) != timbrel.__version__:
        told = f"the code is timbrel {timbrel.__version__}, what is installed {known or 'none'}"
        yield Finding("", "warning", told, "pip install -c constraints.txt -e . in the code's folder")
    pins = _pins(Path(timbrel.__file__).parents[2] / "constraints.txt")
    others = [
        f"{name} {version} (tested: {pin})"
        for name, pin in pins.items()
        if (version := _version(name)) and version.partition("+")[0] != pin
    ]
    if others:
        first = sorted(others, key=lambda each: each.split()[0] not in PINNED)
        told = f"other than in constraints.txt: {_some(first)}"
        yield Finding("", "warning", told, "pip install -c constraints.txt -e .")


def torch_state() -> Iterator[Finding]:
    """Say what networks run on."""
    import torch

    from timbrel.torchaudio_cpu import STAND_IN

    built = f"torch for CUDA {torch.version.cuda}" if torch.version.cuda else "torch for the CPU"
    sound = "torchaudio by the stand-in for its extension" if STAND_IN else "torchaudio with its own extension"
    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
        listed = ", ".join(f"{card.name} ({size(card.total_memory)})" for card in cards)
        yield Finding("", "ok", f"{built}; {sound}; {listed}")
        return
    there = Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None
    if there and torch.version.cuda:
        told, remedy = "finds no GPU, though a driver is there", "compare `nvidia-smi` with the CUDA of torch"
        yield Finding("", "warning", f"{built} {told}; {sound}", remedy)
    elif there:
        yield Finding("", "warning", f"{built}, though a GPU is there; {sound}", "install a torch that is for CUDA")
    else:
        yield Finding("", "ok", f"{built}, no GPU; {sound}")


def ray_state() -> Iterator[Finding]:
    """Say what the cluster that ``RAY_ADDRESS`` names has, or what a Ray of this machine's own would have."""
    import ray
    import torch
    from ray._private import services
    from ray._private.utils import get_num_cpus

    address = os.environ.get("RAY_ADDRESS")
    if not address:
        cpus, gpus = int(get_num_cpus(override_docker_cpu_warning=True)), torch.cuda.device_count()
        runs = _runs(share_cluster(cpus, gpus, MANY, 1))
        told = f"RAY_ADDRESS is not set; a Ray of this machine's own would have {_machine(cpus, gpus)}: {runs}"
        yield Finding("", "ok", told)
        if services.find_gcs_addresses():
            told = "another Ray runs here, and neither would know which CPUs the other uses"
            yield Finding("", "warning", told, "export RAY_ADDRESS=auto to use that one")
        return
    with ray_session():
        nodes, there, free = ray.nodes(), ray.cluster_resources(), ray.available_resources()
    alive = [node for node in nodes if node["Alive"]]
    cpus, gpus, mixer = (there.get(name, 0) for name in ("CPU", "GPU", "mixer"))
    mixers = f", {mixer:g} `mixer`" if mixer else ""
    told = f"{address}: {len(alive)} node{'s' * (len(alive) != 1)}, {_machine(cpus, gpus)}{mixers}"
    if not cpus:
        remedy = "wait for its nodes, or raise min_workers in cluster.yaml"
        yield Finding("", "problem", f"{told}: no CPU to work with now", remedy)
        return
    share = share_cluster(cpus, gpus, MANY, 1)
    yield Finding("", "ok", f"{told}; {_runs(share)}; free now: {_machine(free.get('CPU', 0), free.get('GPU', 0))}")
    if gone := len(nodes) - len(alive):
        yield Finding("", "warning", f"{gone} of its nodes have left or died", "`ray list nodes` says which, and why")


def mlflow_state(uri: str) -> Iterator[Finding]:
    """Say whether runs can be logged, and how fast the answer comes; no database and no experiment is made."""
    tracker = Tracker(uri)
    where = without_secrets(tracker.uri)
    name = tracker.uri.removeprefix("sqlite:///")
    if name != tracker.uri and not Path(name).exists():
        _writable(Path(name).parent, "--tracking-uri or MLFLOW_TRACKING_URI")
        yield Finding("", "ok", f"{where} is not there yet: the first run makes it")
        return
    begun = time.perf_counter()
    found = tracker.client.get_experiment_by_name(EXPERIMENT)
    seconds = time.perf_counter() - begun
    has = f"has the experiment '{EXPERIMENT}'" if found else f"has no experiment '{EXPERIMENT}' yet"
    told = f"{where} answers in {seconds:.1f} s and {has}"
    if seconds > SLOW_S:
        yield Finding("", "warning", told, "start a server nearer to the command that trains, or one with more memory")
    else:
        yield Finding("", "ok", told)
    if name != tracker.uri and os.environ.get("RAY_ADDRESS"):
        remedy = "start `mlflow server` and set MLFLOW_TRACKING_URI to see results from elsewhere"
        yield Finding("", "warning", "a file on this machine, though the work is done on a cluster", remedy)


def disk_state(library: Path | None, storage: Path) -> Iterator[Finding]:
    """Say how much room there is for what a run writes, disk by disk, and for Ray's objects."""
    _writable(storage, "--storage")
    ray_folder = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray"
    places = {"library": library, "storage": storage, "temporary files": Path(tempfile.gettempdir()), "Ray": ray_folder}
    disks: dict[int, dict[str, Path]] = {}
    for what, place in places.items():
        if place is not None:
            there = _existing(place)
            disks.setdefault(there.stat().st_dev, {})[what] = there
    for held in disks.values():
        usage = shutil.disk_usage(next(iter(held.values())))
        told = f"{size(usage.free)} free for {', '.join(f'{what} ({place})' for what, place in held.items())}"
        full = "Ray" in held and usage.used / (usage.used + usage.free) > RAY_FULL
        if usage.free < LEAST_BYTES:
            yield Finding("", "problem", told, "free some, or choose another disk")
        elif full:
            remedy = "free some, or set RAY_TMPDIR to a folder of another disk"
            yield Finding("", "warning", f"{told}: so full a disk gets no objects from Ray", remedy)
        elif usage.free < LITTLE_BYTES:
            yield Finding("", "warning", told, "`timbrel tune --dry-run` says how much a study needs")
        else:
            yield Finding("", "ok", told)
    shared = Path("/dev/shm")
    if shared.is_dir():
        from ray._private.utils import estimate_available_memory

        wanted = min(STORE_SHARE * estimate_available_memory(), STORE_MOST_BYTES)
        room = shutil.disk_usage(shared).free
        told = f"/dev/shm has {size(room)} free, of which Ray's objects would take up to {size(int(min(wanted, room)))}"
        if room < wanted:
            remedy = f"give the container --shm-size={wanted / 1e9:.0f}g"
            yield Finding("", "warning", f"{told}, less than the {size(int(wanted))} that the memory allows", remedy)
        else:
            yield Finding("", "ok", told)


def library_state(root: Path) -> Iterator[Finding]:
    """Say what a library holds, data set by data set, and which files are missing or cut short."""
    library = Library.open(root)
    in_splits = dict.fromkeys(SPLITS, 0)
    for name in library.datasets:
        facts = library.facts(name)
        table = library.catalogue([name], ["song", "split", "path", "frames", "channels"])
        songs = table.group_by(["song", "split"]).aggregate([])
        counts = {each["values"]: each["counts"] for each in pc.value_counts(songs["split"]).to_pylist()}
        for split in SPLITS:
            in_splits[split] += counts.get(split, 0)
        listed = ", ".join(f"{counts.get(split, 0)} {split}" for split in SPLITS)
        told = f"'{name}': {len(songs)} songs ({listed}), {len(table)} stems, {facts.get('hours', 0):.1f} h"
        step = -(-len(table) // LOOKED_AT)
        rows = table.select(["path", "frames", "channels"]).to_pylist()[:: max(1, step)]
        looked = f"; {len(rows)} files looked at" if step > 1 else ""
        wrong = [row["path"] for row in rows if not _whole(library.root / row["path"], row["frames"], row["channels"])]
        if wrong:
            remedy = f"`timbrel prepare {facts.get('source', 'SOURCE')} ... --name {name} --replace`"
            yield Finding("", "problem", f"{told}{looked}; missing or cut short: {_some(wrong)}", remedy)
        else:
            yield Finding("", "ok", told + looked)
    if empty := [split for split, count in in_splits.items() if not count]:
        yield Finding("", "warning", f"no song is in {' or '.join(empty)}", "prepare more songs: each split needs one")
    for work in sorted(library.root.glob(".preparing-*")):
        remedy = "give the same `timbrel prepare` again, which goes on, or remove the folder"
        yield Finding("", "warning", f"{work.name} was begun and not finished", remedy)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _pins(file: Path) -> dict[str, str]:
    """Return the versions that a file of constraints names; none where the package is installed without it."""
    if not file.is_file():
        return {}
    lines = (line.partition("#")[0].strip().partition("==") for line in file.read_text().splitlines())
    return {name: version for name, _, version in lines if version}


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _machine(cpus: float, gpus: float) -> str:
    return f"{cpus:g} CPU{'s' * (cpus != 1)} and {gpus:g} GPU{'s' * (gpus != 1)}"


def _runs(share: Share) -> str:
    """Return how a study would divide a cluster."""
    runs = f"{share.concurrent} training runs" if share.concurrent > 1 else "one training run"
    actors = share.pool.actors
    return f"{runs} at a time, with up to {actors} mixing actor{'s' * (actors != 1)} each"


def _existing(place: Path) -> Path:
    """Return a folder, or the nearest above it that is there."""
    place = place.absolute()
    return next(parent for parent in (place, *place.parents) if parent.exists())


def _writable(place: Path, option: str) -> None:
    there = _existing(place)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{there} can't be written to: choose another place by {option}.")


def _whole(file: Path, frames: int, channels: int) -> bool:
    """Tell whether a file is there, with the samples that the catalogue says it has; they have 16 bits or more."""
    try:
        return file.stat().st_size >= WAV_HEADER_BYTES + 2 * frames * channels
    except OSError:
        return False
