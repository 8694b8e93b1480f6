"""What a study is said to cost, and which mixtures its trials share."""

import dataclasses
import shutil
from collections import Counter
from pathlib import Path

import pytest
from ray import tune

from timbrel import estimate as module
from timbrel import registry
from timbrel.config import with_values
from timbrel.errors import UserError
from timbrel.estimate import Cost, check_disk, estimate, measure, size
from timbrel.launch import Workplace
from timbrel.library import Library
from timbrel.mixing.pool import Pool
from timbrel.runtime import Share
from timbrel.search import Search

LAPTOP = Share(concurrent=1, worker_cpus=1.0, worker_gpus=0, pool=Pool(2, 0.5))


@pytest.fixture
def library(tone_library):
    return Library.open(tone_library)


def test_measuring_takes_real_steps(library, instrument_task, tiny_config):
    cost = measure(instrument_task, tiny_config, library, threads=1)
    assert cost.mixing_s > 0
    assert cost.step_s > 0
    assert cost.predict_s > 0
    model = instrument_task.build_model(tiny_config)
    assert cost.weights_bytes == sum(t.numel() * t.element_size() for t in model.state_dict().values())


@pytest.fixture
def priced(monkeypatch):
    monkeypatch.setattr(module, "measure", lambda *_: Cost(0.01, 0.5, 0.02, 1_000_000, 120))


@pytest.mark.parametrize(
    ("share", "shared", "busy_s"),
    [
        # 100 steps of 0.5 s on one thread, and 16 x 100 mixtures of 10 ms, on two CPUs: the steps decide.
        (LAPTOP, 0.0, 50.0),
        # As many threads as CPUs: steps and mixing add up.
        (dataclasses.replace(LAPTOP, worker_cpus=2.0), 0.0, 50.0 + 8.0),
        (dataclasses.replace(LAPTOP, worker_cpus=2.0), 0.5, 50.0 + 4.0),
        (dataclasses.replace(LAPTOP, worker_gpus=1, pool=Pool(1, 0.2)), 0.0, 80.0),
    ],
)
def test_time(priced, library, instrument_task, share, shared, busy_s):
    values = {"training.epochs": 10, "training.batches_per_epoch": 10, "evaluation.valid_examples": 20}
    config = with_values(instrument_task.config_type(), {**values, "evaluation.test_examples": 30})
    trials = [with_values(config, {"seed": seed}) for seed in (0, 1)]
    cost = estimate(instrument_task, trials, library, share, 2.0, shared, 5_000_000)
    judging_s = (10 * 20 + 20 + 30) * 0.02
    assert cost.trials == 2
    assert cost.seconds == pytest.approx(2 * (module.START_S + busy_s + judging_s) + 50 * 0.01 / 2)
    assert cost.scratch_bytes == 5_000_000 + 3 * 4 * 1_000_000
    assert cost.logged_bytes == 2 * (1_000_000 + 50 * 8 * 15)


def test_configs_that_differ_in_the_seed_alone_are_measured_once(monkeypatch, library, instrument_task, tiny_config):
    calls = []
    monkeypatch.setattr(module, "measure", lambda *given: calls.append(given) or Cost(0.01, 0.5, 0.02, 1000, 120))
    trials = [with_values(tiny_config, {"seed": s, "mixing.p_musical": p / 20}) for s in (0, 1) for p in range(20)]
    estimate(instrument_task, trials, library, LAPTOP, 2.0, 0.0, 0)
    assert 1 <= len(calls) <= module.MEASURED
    estimate(instrument_task, trials[:1] * 5, library, LAPTOP, 2.0, 0.0, 0)
    assert len(calls) <= module.MEASURED + 1


def test_too_small_a_disk_is_said_before_anything_starts(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    assert check_disk(tmp_path / "not" / "yet", 1) == pytest.approx(free, rel=0.1)
    with pytest.raises(UserError, match=r"has [\d.]+ GB free and about [\d.]+ GB are needed: .* --share-gb"):
        check_disk(tmp_path / "not" / "yet", free * 2)


@pytest.mark.parametrize(("count", "text"), [(12, "1 MB"), (45_600_000, "46 MB"), (4_915_000_000, "4.9 GB")])
def test_sizes(count, text):
    assert size(count) == text


# Which mixtures trials share


@pytest.fixture
def searching(instrument_task, tiny_config):
    def make(space, samples=0):
        return Search(instrument_task, tiny_config, space, samples)

    return make


@pytest.fixture
def place(library, tmp_path):
    return Workplace(library, None, Path(tmp_path))


def test_trials_of_one_recipe_and_seed_share(searching, place):
    search = searching({"transfer.head_lr": tune.grid_search([0.1, 0.01, 0.001]), "seed": tune.grid_search([0, 1])})
    assert sorted(search.streams().values()) == [3, 3]
    kept = place.kept(search)
    assert set(kept) == set(search.streams())
    assert set(kept.values()) == {search.base.training.epochs * search.base.training.examples_per_epoch}


@pytest.mark.parametrize(
    ("path", "values"),
    [("mixing.p_musical", [0.0, 0.5]), ("mixing.effects.gain.p", [0.0, 0.5]), ("data.songs_to", [0.5, 1.0]),
     ("training.batch_size", [4, 8])],
)  # fmt: skip
def test_trials_with_other_mixtures_do_not_share(searching, place, path, values):
    search = searching({path: tune.grid_search(values)})
    assert search.streams() == Counter(dict.fromkeys(search.streams(), 1))
    assert len(search.streams()) == 2
    assert place.kept(search) == {}


def test_a_drawn_search_shares_unless_the_recipe_is_drawn(searching):
    rates = searching({"transfer.head_lr": tune.loguniform(1e-4, 0.1)}, samples=5)
    assert list(rates.streams().values()) == [5]
    mixing = searching({"mixing.p_musical": tune.uniform(0, 1), "transfer.head_lr": tune.loguniform(1e-4, 0.1)}, 5)
    assert not mixing.streams()


def test_what_is_kept_fits_into_the_space_allowed(searching, library, tmp_path):
    search = searching({"transfer.head_lr": tune.grid_search([0.1, 0.01]), "seed": tune.grid_search([0, 1])})
    each = 4 * search.base.mixing.samples
    place = Workplace(library, None, tmp_path, share_gb=2 * 10 * each / 1e9)
    assert set(place.kept(search).values()) == {10}
    none = Workplace(library, None, tmp_path, share_gb=0.0)
    assert set(none.kept(search).values()) == {0}


def test_what_hears_embeddings_keeps_none(library, tmp_path):
    """Reading them costs less than keeping them."""
    task = registry.load("task", "attention_mil")
    config = with_values(task.config_type(), task.presets["smoke"])
    for samples, values in ((0, tune.grid_search([0.1, 0.2])), (5, tune.uniform(0, 0.9))):
        search = Search(task, config, {"dropout": values}, samples)
        assert not search.streams()
        assert Workplace(library, None, tmp_path).kept(search) == {}


def test_a_drawn_search_over_teachers_shares_nothing(library):
    task = registry.load("task", "clip_tagging")
    config = with_values(task.config_type(), {**task.presets["smoke"], "system": "custom"})
    assert not Search(task, config, {"teacher.name": tune.choice(["crnn", "musicnn"])}, 4).streams()
    weights = Search(task, config, {"teacher.weight": tune.uniform(0, 1)}, 4)
    assert list(weights.streams().values()) == [4]


def test_the_study_of_rates_and_mixing_shares_nothing():
    study = registry.load("study", "learning_rates")
    task = registry.load("task", study.task)
    config = with_values(task.config_type(), {**task.presets["small"], **study.fixed, "transfer.checkpoint": "x"})
    assert not Search(task, config, study.space, study.samples).streams()
    assert any(path.startswith("mixing.") for path in study.space)
    assert {"transfer.head_lr", "transfer.backbone_lr"} <= set(study.space)
