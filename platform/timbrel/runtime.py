"""Starting Ray: on the cluster that is there, or a small one of this machine's own, and quietly."""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from timbrel.errors import UserError

ENVIRONMENT = {
    # Activations of a training step pass glibc's thresholds, and giving the memory back and asking for it again at
    # each step took four fifths of the time of a CNN's step on a CPU.
    "MALLOC_TRIM_THRESHOLD_": str(1 << 33),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 33),
    "RAY_DEDUP_LOGS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    # How often a run's controller looks for reports; at the default of 2 s short epochs would wait for it.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
"""Set before Ray starts, so that every process it starts inherits them; values of the user's own win."""


@contextlib.contextmanager
def ray_session(dashboard: bool = False) -> Iterator[None]:
    """Connect to the cluster that ``RAY_ADDRESS`` names (a submitted job has it), or start Ray on this machine.

    What was started is stopped at the end. ``dashboard`` asks for Ray's dashboard, bound to the loopback: without it a
    study with early stopping would hang, because Ray frees a stopped trial's workers through the dashboard's API.

    Raises:
        UserError: the dashboard is asked for, and the cluster was started without it.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", category=FutureWarning, module="ray")
    address = os.environ.get("RAY_ADDRESS")
    local = {} if address else {"include_dashboard": dashboard, "dashboard_host": "127.0.0.1"}
    context = ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **local)
    if dashboard and not context.dashboard_url:
        ray.shutdown()
        raise UserError(
            "a study with early stopping needs Ray's dashboard, through which Ray frees the workers of stopped trials: "
            "install ray[default] and start the cluster with `ray start --head --include-dashboard=true`."
        )
    from ray.data import DataContext

    DataContext.get_current().enable_progress_bars = False
    for name in ("ray", "ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


@dataclass(frozen=True)
class Share:
    """What each of several concurrent runs gets of a cluster."""

    concurrent: int
    """Runs at once."""
    worker_cpus: float
    """Of each Train worker."""
    worker_gpus: int
    """0 or 1."""
    mixers: int
    """Mixing actors of each run."""
    mixer_cpus: float
    """Of each mixing actor."""

    @property
    def threads(self) -> int:
        """PyTorch threads of each Train worker."""
        return max(1, round(self.worker_cpus))


DRIVER_CPUS = 0.1
"""Of the process that leads a run; it mostly waits, but Ray Tune refuses 0."""


def share_cluster(cpus: float, gpus: float, runs: int, workers: int, mixers: int = 0) -> Share:
    """Divide a cluster between ``runs`` runs of ``workers`` Train workers each.

    On CPUs, a run gets two of them (one to train, one to mix) before a second run starts beside it; on GPUs, each worker has
    one, and the CPUs that remain mix. A little of each CPU is kept back, since Ray Data's own tasks need room
    too: a pool that fills the last CPU would wait for them for ever.
    """
    if gpus >= workers:
        concurrent = max(1, min(runs, int(gpus // workers)))
        each = cpus / concurrent
        worker_cpus, worker_gpus = min(1.0, 0.4 * each / workers), 1
        left = each - workers * worker_cpus - DRIVER_CPUS
    else:
        concurrent = max(1, min(runs, int(cpus // (2 * workers))))
        each = cpus / concurrent
        worker_cpus, worker_gpus = max(0.4, each / 2) / workers - DRIVER_CPUS, 0
        left = each / 2
    count = mixers or max(1, int(left))
    return Share(concurrent, round(worker_cpus, 3), worker_gpus, count, round(min(1.0, left / count) * 0.9, 3))
