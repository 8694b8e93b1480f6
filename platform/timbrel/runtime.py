"""Starting Ray: on the cluster that is there, or a small one of this machine's own, and quietly."""

import contextlib
import logging
import math
import os
import socket
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from timbrel.errors import UserError, one_line
from timbrel.mixing.actors import Pool, check_room
from timbrel.same_code import check_installed, check_nodes, check_submitted

ENVIRONMENT = {
    # How often a run's controller looks for reports; at the default of 2 s short epochs would wait for it.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # A run is several processes that mostly wait; Ray takes more than one a CPU for a mistake and says so.
    "RAY_worker_maximum_startup_concurrency": "16",
    # The rest keeps Ray's own reports off the terminal, and saves actors that only serve them.
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}
"""Set before Ray starts, so that every process it starts inherits them; values of the user's own win."""


WORKER_ENVIRONMENT = {
    # Activations of a training step pass glibc's thresholds, and giving the memory back and asking for it again at
    # each step took four fifths of the time of a CNN's step on a CPU.
    "MALLOC_TRIM_THRESHOLD_": str(1 << 33),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 33),
}
"""Of the Train workers alone: other processes should give back what they no longer need."""


@contextlib.contextmanager
def ray_session() -> Iterator[None]:
    """Connect to the cluster that ``RAY_ADDRESS`` names (a submitted job has it), or start Ray on this machine.

    What was started is stopped at the end; it has no dashboard, which would take seconds to start.

    Raises:
        UserError: no cluster answers, or one with other versions or other code than this process.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Of what Ray will change: its version is pinned, and users can do nothing about it.
    warnings.filterwarnings("ignore", category=FutureWarning, module="ray")
    address = os.environ.get("RAY_ADDRESS")
    local: dict[str, Any] = {} if address else {"include_dashboard": False}
    if address:
        check_submitted()
        check_installed()
        _knock(address)
    try:
        context = ray.init(address=address or "local", log_to_driver=False, logging_level=logging.CRITICAL, **local)
    except (ConnectionError, ValueError) as error:
        if not address:
            raise
        raise _no_cluster(address, error) from None
    except RuntimeError as error:
        if "Version mismatch" not in str(error):
            raise
        told = one_line(str(error)).rstrip(".")
        raise UserError(f"RAY_ADDRESS={address} is a cluster of other versions: {told}; install the same.") from None
    except Exception as error:  # Ray has no class of its own for this one
        if "timed out during startup" not in str(error):
            raise
        raise UserError(
            "Ray did not start in 30 s: this machine is too busy, so try again when it is less so."
        ) from None
    from ray.data import DataContext

    DataContext.get_current().enable_progress_bars = False
    for name in ("ray", "ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what goes wrong reaches the user as an exception
    try:
        if address:
            check_nodes()
        yield
    except Exception as error:
        error.add_note(_where_logs_are(getattr(context, "address_info", {}), address))  # shown where a traceback is
        raise
    finally:
        ray.shutdown()


def _where_logs_are(info: Mapping[str, Any], address: str | None) -> str:
    """Return a sentence that says where Ray's own logs of a session lie."""
    folder = f"{info.get('session_dir') or '/tmp/ray/session_latest'}/logs"
    if address:
        return f"Ray's full logs: {folder} on each node of {address}, or `ray logs cluster`."
    return f"Ray's full logs: {folder}"


def _knock(address: str) -> None:
    """Ask a cluster's port for a sign of life: Ray itself would try for minutes before it complains."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal() and int(port) < 2**16:
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise _no_cluster(address, error) from None


def _no_cluster(address: str, error: Exception) -> UserError:
    reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    return UserError(f"no Ray cluster answers at RAY_ADDRESS={address} ({reason}): start it, or unset RAY_ADDRESS.")


@dataclass(frozen=True)
class Share:
    """What each of several concurrent runs gets of a cluster."""

    concurrent: int
    """Runs at once."""
    worker_cpus: float
    """Of each Train worker."""
    worker_gpus: int
    """Of each Train worker: 0 or 1."""
    pool: Pool
    """The mixing actors of each run."""

    @property
    def threads(self) -> int:
        """PyTorch threads of each Train worker."""
        return max(1, round(self.worker_cpus))

    def check_room(self, workers: int) -> None:
        """Refuse a run of so many Train workers that this cluster could only wait for.

        Raises:
            UserError: its nodes have no room for the smallest pool, or not beside the workers.
        """
        check_room(self.pool, beside=workers * self.worker_cpus + DRIVER_CPUS)


DRIVER_CPUS = 0.1
"""Of the process that leads a run; it mostly waits, but Ray Tune refuses 0."""


def share_cluster(cpus: float, gpus: float, runs: int, workers: int, mixers: int = 0) -> Share:
    """Divide a cluster between ``runs`` runs of ``workers`` Train workers each.

    Without GPUs a run gets two CPUs a worker, one to train and one to mix, before a second run starts beside
    it. With GPUs each worker has one, and the CPUs that remain mix. What is asked for always fits, down to a
    single CPU: a mixing actor that found no room would be waited for in vain.

    ``mixers`` is the most actors that the pool of a run may grow to; 0: what the CPUs allow.
    """
    if gpus >= workers:
        concurrent = max(1, min(runs, int(gpus // workers)))
        each = cpus / concurrent - DRIVER_CPUS
        worker_cpus, worker_gpus = min(1.0, each / (2 * workers)), 1
    else:
        concurrent = max(1, min(runs, int(cpus // (2 * workers))))
        each = cpus / concurrent - DRIVER_CPUS
        worker_cpus, worker_gpus = each / (2 * workers), 0
    worker_cpus = _floor(worker_cpus)
    left = each - workers * worker_cpus
    # A small network on a CPU waits for its mixtures, a large one makes the mixers wait: beside a CPU worker the pool
    # may use all CPUs, and whoever waits leaves them to the other. A GPU worker's own CPU stays its own.
    actors = mixers or max(1, round(left if worker_gpus else each))
    # A GPU outruns any single actor, so a pool beside it does not begin with one.
    least = -(-actors // 4) if worker_gpus else 1
    return Share(concurrent, worker_cpus, worker_gpus, Pool(actors, _floor(min(1.0, left / actors)), least))


def _floor(cpus: float) -> float:
    """Round down to what Ray counts with comfortably: the sum must not exceed the cluster by a rounding error."""
    return math.floor(cpus * 100) / 100
