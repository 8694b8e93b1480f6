"""Two Train workers: they share each batch, learn what one does, and go on as if nothing had happened when one dies."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import ray

from timbrel import registry
from timbrel.config import with_values
from timbrel.errors import find_user_error
from timbrel.experiment import train_once
from timbrel.mixing.pool import Pool, Stream, mix, read_batches, stream_batches

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

TOLERANCE = 1e-4
"""Of figures of two workers to those of one: their sums round differently, and Adam divides by what is hardly there."""


@pytest.mark.parametrize("start", [0, 24])
def test_two_readers_are_given_each_example_once(ray_cluster, composed_index, short_recipe, start):
    """From the beginning, and from the middle as after an interruption: reader 0 the first half of each batch.

    Beyond the first blocks, which have one batch each, there are some of several.
    """
    stop, share = 536, 4
    here = mix(Stream(composed_index, short_recipe, 3, "train"), composed_index, range(start, stop))
    stream = Stream(ray.put(composed_index), short_recipe, 3, "train")
    dataset = stream_batches(stream, start, stop, share, Pool(2, 0.4), readers=2)
    with ThreadPoolExecutor(2) as readers:  # Ray gives nothing until both ask
        shares = dataset.streaming_split(2, equal=True)
        read = list(readers.map(lambda rows: list(read_batches(rows, share)), shares))
    steps = (stop - start) // (2 * share)
    assert [len(batches) for batches in read] == [steps, steps]
    rows = [batches[step] for step in range(steps) for batches in read]
    np.testing.assert_array_equal(np.concatenate([row["number"] for row in rows]), np.arange(start, stop))
    assert np.concatenate([row["audio"] for row in rows]).tobytes() == here["audio"].tobytes()


@pytest.fixture(scope="module")
def task():
    return registry.load("task", "attention_mil")


@pytest.fixture(scope="module")
def train(unequal_place, task):
    """Train on weakly labelled clips, some judged once and some twice; return the figures, and the losses by epoch."""

    def run(**values):
        own = {
            "training.epochs": 4,
            "training.batches_per_epoch": 6,
            "evaluation.valid_examples": 0,
            "evaluation.test_examples": 0,
        }
        given = {path.replace("__", "."): value for path, value in values.items()}
        config = with_values(task.config_type(), {**task.presets["smoke"], **own, **given})
        run_id = train_once(task, config, unequal_place)
        tracker = unequal_place.tracker
        return tracker.get(run_id).data.metrics, tracker.history(run_id, "train/loss")

    return run


def test_two_workers_have_the_figures_of_one(train):
    """A network without batch norm, and no dropout: nothing else makes a difference."""
    one, two = (train(model="mean", dropout=0.0, training__workers=workers) for workers in (1, 2))
    assert one[0].keys() == two[0].keys()
    for name, value in one[0].items():
        assert two[0][name] == pytest.approx(value, abs=TOLERANCE), name
    assert two[1] == pytest.approx(one[1], abs=TOLERANCE)
    assert one[1][4] < one[1][1] - 100 * TOLERANCE, "nothing was learned, so nothing was compared"


def test_a_killed_worker_of_two_changes_nothing(train, unequal_place):
    """To the bit, batch norm and dropout included."""
    values = {"model": "attention", "training__workers": 2, "training__epochs": 12}
    expected = train(**values)
    killed, ended = [], threading.Event()

    def kill():
        while not killed and not ended.wait(0.05):
            if list(unequal_place.storage.rglob("checkpoint_manager_snapshot.json")):  # an epoch has been completed
                processes = psutil.Process().children(recursive=True)
                workers = [each for each in processes if "RayTrainWorker" in title(each)]
                if workers:
                    workers[-1].kill()
                    killed.append(workers[-1].pid)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        got = train(**values)
    finally:
        ended.set()
        killer.join()
    assert killed, "no worker was found to kill"
    assert got == expected


def title(process):
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def test_two_workers_that_diverge_end_in_one_sentence(train):
    with pytest.raises(Exception) as raised:  # noqa: PT011  Ray raises classes that it makes at run time
        train(model="mean", lr=1e30, training__workers=2)
    assert "lower the learning rates" in str(find_user_error(raised.value))
