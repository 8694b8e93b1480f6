"""Trials with Ray Tune: each is a driver function that builds a TorchTrainer, and reports through Tune to one callback.

A single training run is a study of one trial, so there is one path for both: the same logging, resuming and progress.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray.tune
import ray.tune.schedulers
from ray.tune.execution.class_cache import ENV_VARS_TO_PROPAGATE

from timbrel import config as configs
from timbrel.errors import UserError
from timbrel.runtime import DRIVER_CPUS
from timbrel.safety import foreign_file
from timbrel.settings import Experiment
from timbrel.study import Study
from timbrel.task import Task
from timbrel.training.run import RESTARTS, stream_key
from timbrel.trial_log import TrialLog

# Ray Tune hands these to trials in a runtime environment, which Ray writes to its logs; trials have no use for them.
ENV_VARS_TO_PROPAGATE.difference_update([name for name in ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")])

ASHA_GRACE = 0.2
"""Share of the epochs that every trial gets before early stopping may end it."""
DRAWS = 8
"""From which it is told whether all trials of a space that is drawn from train on one stream."""
TUNE = "tune"
"""The folder, within a run's, in which Ray Tune keeps what it needs to resume."""


@dataclass(frozen=True)
class Search:
    """Which trials to run: a base config and the fields that vary. Without any, it is one training run."""

    task: Task
    base: Experiment
    space: Mapping[str, Any] = field(default_factory=dict)
    """Ray Tune distributions by dotted path."""
    samples: int = 0
    """Trials to draw by Optuna's TPE; 0: every combination of the grid, once."""
    early_stopping: bool = False
    metric: str = "valid/roc_auc_macro"
    mode: str = "max"

    @property
    def count(self) -> int:
        """Number of trials."""
        return self.samples or len(Study.variants(self.space))

    def configurations(self) -> list[Experiment]:
        """Return the trials' configs, or a representative one where they are drawn as the search goes on."""
        if self.samples:
            return [self.base]
        return [configs.with_values(self.base, values) for values in Study.variants(self.space)]

    def streams(self) -> Counter[str]:
        """Return how many trials train on each stream of mixtures, by ``stream_key``.

        Left out are trials with a stream of their own, as where the recipe itself is drawn, and those that hear
        embeddings alone, which are read where they are.
        """
        trials = self.configurations()
        if self.samples:
            trials = [configs.with_values(self.base, Study.variants(self.space, draw)[0]) for draw in range(DRAWS)]
        found = Counter(stream_key(self.task, config) for config in trials if not self.task.hears_embeddings(config))
        return Counter({key: self.samples for key in found if found[key] == DRAWS}) if self.samples else found


def run_trials(
    search: Search, trainable: Any, folder: Path, log: TrialLog, *, concurrent: int, resume: bool = False
) -> ray.tune.ResultGrid:
    """Run all trials of a search, or the rest of them, ``concurrent`` at once.

    ``trainable`` leads one trial; ``folder`` is where Ray Tune keeps what it needs to resume.

    Raises:
        UserError: what is there to resume is not this user's own.
    """
    state = folder / TUNE  # not there yet where a study was killed before its first trial
    # Ray Tune keeps its state as pickles, which may run anything when they are read.
    if resume and state.is_dir() and (foreign := foreign_file(state)):
        raise UserError(
            f"{foreign} was written by another user, or may be by anybody, and resuming would run what it says: "
            "start anew without --resume, with a --storage of your own."
        )
    led = ray.tune.with_resources(trainable, {"cpu": DRIVER_CPUS})
    if resume and _restorable(state):
        return ray.tune.Tuner.restore(
            str(state),
            led,
            resume_unfinished=True,
            resume_errored=True,  # restarted, it would be another trial, with another run in MLflow
            param_space=dict(search.space),
        ).fit()
    epochs = search.base.training.epochs
    algorithm = scheduler = None
    if search.samples:
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        algorithm = OptunaSearch(metric=search.metric, mode=search.mode, seed=search.base.seed % 2**32)
    if search.early_stopping:
        # By epoch, not by Tune's own count of reports, which starts anew in a resumed trial. The last epoch is out
        # of its reach: its trial goes on to the test.
        scheduler = ray.tune.schedulers.ASHAScheduler(
            time_attr="epoch",
            metric=search.metric,
            mode=search.mode,
            max_t=epochs + 1,
            grace_period=max(1, round(ASHA_GRACE * epochs)),
        )
    return ray.tune.Tuner(
        led,
        param_space=dict(search.space),
        tune_config=ray.tune.TuneConfig(
            search_alg=algorithm,
            scheduler=scheduler,
            num_samples=search.samples or 1,
            max_concurrent_trials=concurrent,
        ),
        run_config=ray.tune.RunConfig(
            name=TUNE,
            storage_path=str(folder),
            failure_config=ray.tune.FailureConfig(max_failures=RESTARTS),
            callbacks=[log],
            verbose=0,
        ),
    ).fit()


def _restorable(folder: Path) -> bool:
    """Return whether Tune left what it needs: it does at its first step, and may have been killed before."""
    return ray.tune.Tuner.can_restore(str(folder)) and any(folder.glob("experiment_state-*.json"))
