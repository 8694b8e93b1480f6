"""Everything that a search's trials need, brought together once; and the search followed to its end."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.tune

from timbrel import config as configs
from timbrel.embeddings.live import live_teacher
from timbrel.estimate import Estimate, check_disk, estimate, size
from timbrel.library import Library
from timbrel.mixing.index import build_index, missing_examples
from timbrel.patience import ServerGoneError
from timbrel.progress import duration
from timbrel.runtime import Share, share_cluster
from timbrel.safety import without_secrets
from timbrel.search import Search, run_trials
from timbrel.settings import Experiment
from timbrel.study import TRAINED_FIRST
from timbrel.task import Task
from timbrel.teaching.parts import Parts, network_key
from timbrel.teaching.teacher import teacher_of
from timbrel.tracking import Tracker
from timbrel.trained import TrainedModel, load_weights
from timbrel.training.checkpoints import drop_damaged, keep_reserve
from timbrel.training.run import evaluation_key, render_evaluation_sets, training_bytes
from timbrel.training.trial import MIXTURES, Job, TrialConfigs, run_trial, with_embeddings
from timbrel.trial_log import TrialLog


class Interrupted(KeyboardInterrupt):
    """Ctrl-C ended a run that can be resumed; Ray Tune itself returns as if all were done."""


@dataclass(frozen=True)
class Workplace:
    """Where experiments find their data and leave their results."""

    library: Library
    tracker: Tracker
    storage: Path
    """Folder for checkpoints until a run has finished."""
    mixers: int = 0
    """Most mixing actors a run; 0: what the cluster's CPUs leave."""
    share_gb: float = 20.0
    """Disk in GB for mixtures that several trials of a study share."""

    def tags(self, config: Experiment, **names: str) -> dict[str, str]:
        """Return the MLflow tags that tell a run from others."""
        digest = self.library.digest(config.data.all_datasets)
        return {**{f"timbrel.{key}": name for key, name in names.items()}, "timbrel.data_digest": digest}

    def interrupted(self, fingerprint: str) -> Any:
        """Return the newest MLflow run with this fingerprint that did not finish and can be taken up again, or None."""
        for run in self.tracker.find({"timbrel.fingerprint": fingerprint}):
            folder = run.data.tags.get("timbrel.folder", "")
            # What others wrote on a tracking server must not lead out of the storage, to be read or removed.
            plain = folder not in ("", ".", "..") and Path(folder).name == folder
            if run.info.status != "FINISHED" and plain and (self._left(folder) or not self._begun(run, folder)):
                return run
        return None

    def _left(self, folder: str) -> bool:
        return (self.storage / folder).is_dir()

    def _begun(self, run: Any, folder: str) -> bool:
        """Return whether trials were begun: a study may have been killed before, while it pre-trained."""
        return run.data.tags["timbrel.kind"] != "study" or bool(
            self.tracker.find({"timbrel.folder": folder, "timbrel.kind": "trial"}, limit=1)
        )

    def settled(self, task: Task, config: Experiment) -> Experiment:
        """Return a config with what depends on the library, and on the cluster that Ray is connected to, filled in."""
        gpu = ray.cluster_resources().get("GPU", 0) > 0
        settled: Experiment = task.settled(config, lambda: build_index(self.library, "train", task, config), gpu)
        return settled

    def share(self, search: Search) -> Share:
        """Return what each trial of a search gets of the cluster that Ray is connected to.

        Raises:
            UserError: a trial would wait in vain for room on it.
        """
        cluster = ray.cluster_resources()
        workers = search.base.training.workers
        share = share_cluster(cluster.get("CPU", 1), cluster.get("GPU", 0), search.count, workers, self.mixers)
        share.check_room(workers)
        return share

    def kept(self, search: Search) -> dict[str, int]:
        """Return up to which example each stream that several trials share is kept on disk, in the space allowed."""
        shared = [key for key, trials in search.streams().items() if trials > 1]
        if not shared:
            return {}
        each = self.share_gb * 1e9 / len(shared) / self.example_bytes(search)
        return {key: min(_examples(search.base), int(each)) for key in shared}

    def example_bytes(self, search: Search) -> int:
        """Return how large the training examples of a search's trials are, apart from their labels: the largest.

        Raises:
            UserError: the library lacks the embeddings that examples are to carry.
        """
        return max(
            training_bytes(search.task, with_embeddings(search.task, config, self.library))
            for config in search.configurations()
        )


def train_trials(
    search: Search, place: Workplace, tags: Mapping[str, str], parent: str | None, *, resume: bool
) -> None:
    """Train all trials of a search to the end, or say by an exception why not; see ``follow`` for what is left."""
    task, tracker = search.task, place.tracker
    folder = place.storage / tags["timbrel.folder"]
    share = place.share(search)
    if resume:
        for line in _drop_damaged(tracker, folder):
            print(line)
    known = search.configurations()
    for line in missing_examples(place.library, task, search.base):
        print(line)
    names = sorted({name for config in known if (name := task.pretrained(config))})
    weights = {name: resolve_weights(tracker, name) for name in names}
    for config in known:
        if name := task.pretrained(config):  # what doesn't fit is said here, before anything is mixed
            task.load_pretrained(task.build_model(config), config, weights[name])
    teaching = teaching_parts(known, tracker)
    for config in known:
        with_embeddings(task, config, place.library)
        teacher_of(task, config, *teaching.of(config))
    sets = {}
    for config in known:
        key = evaluation_key(task, config)
        if key not in sets:
            valid, test = (
                count or "all" for count in (config.evaluation.valid_examples, config.evaluation.test_examples)
            )
            print(f"mixing {valid} validation and {test} test examples", flush=True)
            sets[key] = render_evaluation_sets(task, config, place.library, share.pool)
    trial_configs = TrialConfigs(task.name, configs.to_json(search.base))
    job = Job(
        trial_configs,
        str(place.library.root),
        str(folder),
        share,
        sets,
        {name: ray.put(state) for name, state in weights.items()},
        teaching.put(ray.put),
        place.kept(search),
    )
    trainable = ray.tune.with_parameters(run_trial, job=job)
    epochs = search.base.training.epochs
    follow(search, trainable, folder, tracker, tags, parent, concurrent=share.concurrent, epochs=epochs, resume=resume)


def _drop_damaged(tracker: Tracker, folder: Path) -> Iterator[str]:
    """Remove damaged checkpoints of trials that are to go on, and yield a line for each."""
    for run in tracker.find({"timbrel.folder": folder.name}):
        trial = run.data.tags.get("timbrel.trial")
        if trial and run.info.status != "FINISHED":
            for damaged in drop_damaged(folder / trial):
                yield f"the checkpoint {damaged} was damaged and is removed: what it held is trained again"


def follow(
    search: Search,
    trainable: Any,
    folder: Path,
    tracker: Tracker,
    tags: Mapping[str, str],
    parent: str | None,
    *,
    concurrent: int,
    epochs: int,
    resume: bool = False,
) -> None:
    """Run a search's trials, each of so many epochs, with a log and a progress bar.

    What is left in its folder serves resuming alone: remove it when nothing remains to be told to MLflow.

    Raises:
        Interrupted: Ctrl-C; trials are left to be resumed.
    """
    configs_of = TrialConfigs(search.task.name, configs.to_json(search.base))
    if resume:
        _tidy(folder)
    log = TrialLog(tracker.uri, tags, parent, configs_of, epochs, search.count, search.metric, search.mode)
    keep_reserve(folder)
    try:
        try:
            results = run_trials(search, trainable, folder, log, concurrent=concurrent, resume=resume)
        finally:
            # Ctrl-C ends trials without telling the log, so their runs are still open.
            runs = [run for run in tracker.find({"timbrel.folder": folder.name}) if run.info.run_id != parent]
            left_open = [run for run in runs if run.info.status == "RUNNING"]
            for run in left_open:
                tracker.reopen(run.info.run_id).close("KILLED")
    except ServerGoneError as error:
        raise ServerGoneError(
            f"{error}: what it has not been told lies in {folder}; start it again, then the same command with --resume "
            "sends it and goes on."
        ) from None
    if results.errors:
        raise results.errors[0]
    if left_open or len(runs) < search.count:
        raise Interrupted("the same command with --resume goes on where it was")


def _tidy(folder: Path) -> None:
    """Remove what a command that is no longer there left: notes of failures, and mixtures that nobody finishes."""
    for pattern in ("*-failure.json", f"{MIXTURES}/*/*.claim", f"{MIXTURES}/*/*.part"):
        for file in folder.glob(pattern):
            file.unlink(missing_ok=True)


def announce(search: Search, place: Workplace, what: str) -> Estimate:
    """Print how many trials a search has and what they will cost.

    Raises:
        UserError: the disk has not the space for it.
    """
    share, kept = place.share(search), place.kept(search)
    streams = search.streams()
    total = _examples(search.base)
    read = sum((streams[key] - 1) * limit for key, limit in kept.items())
    shared_bytes = sum(kept.values()) * place.example_bytes(search) if kept else 0
    trials = search.configurations() * (search.count if search.samples else 1)
    cost = estimate(
        search.task,
        trials,
        place.library,
        share,
        ray.cluster_resources().get("CPU", 1),
        read / (total * search.count),
        shared_bytes,
        teaching_parts(search.configurations(), place.tracker),
    )
    free = check_disk(place.storage, cost.scratch_bytes + cost.logged_bytes)
    each = f"{search.base.training.epochs} epochs of {search.base.training.batches_per_epoch} batches"
    stopped = " (less if early stopping ends some)" if search.early_stopping else ""
    mixtures = f", of which {size(shared_bytes)} mixtures that trials share" if shared_bytes else ""
    print(
        f"{what}: {cost.trials} trial{'s' * (cost.trials > 1)} of {each}, {share.concurrent} at a time\n"
        f"  time: about {duration(cost.seconds)}{stopped}; {1000 * cost.mixing_s:.0f} ms of CPU to mix an example, "
        f"{cost.step_s:.2f} s a training step, measured here\n"
        f"  disk: about {size(cost.scratch_bytes)} in {without_secrets(str(place.storage))} while it runs{mixtures}; "
        f"{size(cost.logged_bytes)} in MLflow for good; {size(free)} are free",
        flush=True,
    )
    return cost


def teaching_parts(known: Sequence[Experiment], tracker: Tracker) -> Parts:
    """Return the classifiers on embeddings that configs name, and the teachers that are to listen to each example.

    Raises:
        UserError: one of them is not there, or is something else.
    """
    asked = [config for config in known if config.taught_by.name]
    named = {name for config in asked for name in config.taught_by.heads} - {TRAINED_FIRST}
    heads = {name: resolve_weights(tracker, name) for name in sorted(named)}
    live = sorted({network_key(config) for config in asked if config.taught_by.weights})
    return Parts(heads, {key: live_teacher(key[0], key[1], tracker, key[2]) for key in live})


def resolve_weights(tracker: Tracker, name: str) -> dict[str, Any]:
    """Return the weights of a logged run, or of a file or folder.

    Raises:
        UserError: there is none of them, or the file is not one of weights.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return dict(TrainedModel.load(path).weights)
    if path.suffix or path.exists():
        return load_weights(path)
    with tracker.artifacts(name, "model") as folder:
        return dict(TrainedModel.load(folder).weights)


def _examples(config: Experiment) -> int:
    """Return how many mixtures a run trains on."""
    return config.training.epochs * config.training.examples_per_epoch
