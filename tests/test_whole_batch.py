"""Two workers with half a batch each learn what one learns from the whole, in every task and from every teacher."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from timbrel import registry, whole_batch
from timbrel.config import to_json, with_values
from timbrel.models.transfer import Classifier
from timbrel.training.loop import Learner

BATCH, FRAMES, DIMENSION = 8, 10, 6
SHORT = {
    "mixing.sample_rate": 16_000,
    "mixing.seconds": 1.1,
    "front_end.hop": 128,
    "model.width": 2,
    "training.precision": "float32",
    "training.schedule": "decay",
    "training.epochs": 4,
}
ROLLS = {
    "instruments": ("piano", "violin", "flute"),
    "mixing.seconds": 2.048,
    "front_end.engine": "librosa",
    "model.width": 2,
    "training.precision": "float32",
}
TEACHERS = {
    "final": {},
    "all": {},
    "cos_diff": {},
    "kd": {"teacher.head": "run"},
    "east_kd": {"teacher.head": "run"},
    "custom": {"teacher.stages": "all", "teacher.student_repeat": (1, 1, -1), "teacher.teacher_repeat": (1, 1, -1)},
}


def config_of(task, preset, **values):
    return with_values(task.config_type(), {**task.presets[preset], "training.batch_size": BATCH, **values})


def examples(task, config, judged=(0.1, 0.9), seed=0):
    """Make noise as examples of a task, of whose halves so large shares were judged."""
    generator = np.random.default_rng(seed)
    classes = len(task.classes(config))
    labels = generator.integers(0, 2, (BATCH, classes)).astype(np.float32)
    shares = np.repeat(judged, BATCH // 2)[:, None]
    labels[generator.random(labels.shape) >= shares] = np.nan
    columns = {"labels": labels, "song": np.array([f"song {number % 3}" for number in range(BATCH)])}
    if task.name == "attention_mil":
        return columns | {"features": generator.normal(size=(BATCH, 5, DIMENSION)).astype(np.float32)}
    if task.name == "pianoroll":
        bins, frames = config.front_end.bins, config.fine_frames
        sounds = generator.random((BATCH, classes, bins, frames // config.pool)) < 0.2 * shares[:, :, None, None]
        features = generator.normal(size=(BATCH, bins, frames)).astype(np.float32)
        return columns | {"features": features, "roll": sounds.astype(np.uint8)}
    audio = generator.normal(scale=0.1, size=(BATCH, config.mixing.samples)).astype(np.float32)
    return columns | {"audio": audio, "teacher": generator.normal(size=(BATCH, FRAMES, DIMENSION)).astype(np.float32)}


def case(name, preset="smoke", judged=(0.1, 0.9), double=False, **values):
    task = registry.load("task", name)
    config = config_of(task, preset, **values)
    generator = torch.Generator().manual_seed(0)
    head = {"weight": torch.randn(20, DIMENSION, generator=generator), "bias": torch.randn(20, generator=generator)}
    taught = config.taught_by.needs_head and not task.hears_embeddings(config)
    valid = examples(task, config, (1, 1), seed=1)
    batch = {name: values for name, values in examples(task, config, judged).items() if name != "song"}
    return {
        "task": name,
        "config": to_json(config),
        "batch": batch,
        "valid": valid,
        "head": head if taught else None,
        "double": double,
    }


def steps():
    """Return by name what a step is taken of. Where all is judged, and alike, a plain mean of both would do."""
    mil = {"teacher.dimension": DIMENSION, "teacher.scale": 1.0, "instances": 5}
    clips = {"teacher.name": "noise", "training.precision": "float32"}
    return {
        "all judged": case("multi_instrument", judged=(1, 1), **SHORT),
        "partly judged": case("multi_instrument", **SHORT),
        "half not judged": case("multi_instrument", judged=(0, 0.5), **SHORT),
        "not judged": case("multi_instrument", judged=(0, 0), **SHORT),
        "clipped": case("multi_instrument", **SHORT, **{"training.gradient_clip": 0.01}),
        "frozen": case("multi_instrument", **SHORT, **{"transfer.mode": "frozen", "transfer.checkpoint": "none"}),
        "tagging": case("tagging", **SHORT),
        # In float64, because what its many frames send back nearly cancels, which leaves more rounding than elsewhere.
        "pianoroll": case("pianoroll", double=True, **ROLLS),
        "pianoroll fixed": case("pianoroll", double=True, **ROLLS, **{"loss.scaling": "fixed", "loss.roll": 2.0}),
        **{
            f"attention_mil {model}": case("attention_mil", **mil, model=model)
            for model in ("attention", "mean", "fc", "fc_t", "rnn")
        },
        "clip_tagging": case("clip_tagging", **clips, system="baseline"),
        **{
            # Beside the embeddings of noise the distances between them are next to nothing: in float32, rounding.
            f"clip_tagging {system}": case("clip_tagging", double=True, **clips, system=system, **values)
            for system, values in TEACHERS.items()
        },
        "clip_tagging hard": case(
            "clip_tagging", **clips, system="kd", **{"teacher.head": "run", "teacher.kd_targets": "hard"}
        ),
    }


PLAIN = ("all judged", "not judged", "pianoroll fixed")
"""Of which the mean of two gradients is that of the whole batch without more ado."""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Train in one process, and in two; return what they found by number of workers and rank."""
    folder = tmp_path_factory.mktemp("shares")
    varied = {"augmentation.mixup": 0.3, "augmentation.band_mask": 8, "augmentation.low_jitter_hz": 20}
    cases = {
        "steps": steps(),
        "random": {
            "dropout": case("multi_instrument", **SHORT),
            "mixup": case("clip_tagging", **varied, **{"teacher.name": "noise", "training.epochs": 4}, system="final"),
        },
        "plateau": case(
            "multi_instrument",
            **{**SHORT, "training.schedule": "plateau", "training.epochs": 30, "transfer.head_lr": 0.5},
            **{"training.plateau_patience": 0, "training.stop_patience": 3},
        ),
    }
    torch.save(cases, folder / "cases.pt")
    script = Path(__file__).with_name("batch_shares.py")
    places = [(0, 1), (0, 2), (1, 2)]
    processes = [subprocess.Popen([sys.executable, script, folder, f"{rank}", f"{of}"]) for rank, of in places]
    assert [process.wait(timeout=280) for process in processes] == [0, 0, 0]
    return {(of, rank): torch.load(folder / f"{of}-{rank}.pt", weights_only=False) for rank, of in places}


def error(got, expected):
    """Return the greatest difference of any weight's gradient, in units of the greatest gradient."""
    assert got.keys() == expected.keys()
    greatest = max(values.abs().max().item() for values in expected.values())
    furthest = max((got[name] - values).abs().max().item() for name, values in expected.items())
    return furthest / greatest if greatest else furthest


@pytest.mark.parametrize("name", steps())
def test_the_gradient_is_that_of_the_whole_batch(found, name):
    alone, *halves = (found[place]["together"][name] for place in ((1, 0), (2, 0), (2, 1)))
    for half in halves:
        assert error(half["gradient"], alone["gradient"]) <= 1e-5
        assert half["terms"] == pytest.approx(alone["terms"], rel=1e-5)
        assert half["shares"] == pytest.approx(alone["shares"])
        assert half["examples"] == alone["examples"] == BATCH
    assert error(halves[0]["gradient"], halves[1]["gradient"]) == 0
    apart = error(found[2, 0]["apart"][name]["gradient"], alone["gradient"])
    assert apart <= 1e-5 if name in PLAIN else apart > 1e-2


def test_the_gradient_is_as_long_as_it_may_be(found):
    norms = [
        sum(float(values.square().sum()) for values in found[place]["together"]["clipped"]["gradient"].values()) ** 0.5
        for place in found
    ]
    assert norms == pytest.approx([0.01] * 3, rel=1e-3)


def test_where_nothing_is_judged_nothing_is_learned(found):
    for place in found:
        step = found[place]["together"]["not judged"]
        assert step["terms"] == {"loss": 0.0}
        assert not any(values.any() for values in step["gradient"].values())


@pytest.mark.parametrize("name", ["dropout", "mixup"])
def test_two_workers_resume_to_the_bit(found, name):
    for rank in range(2):
        run = found[2, rank]["interrupted"][name]
        assert run["got"] == run["expected"]
        undisturbed, resumed = run["weights"]
        assert all(torch.equal(resumed[key], values) for key, values in undisturbed.items())
    (_, first), (_, second) = (found[2, rank]["interrupted"][name]["weights"] for rank in range(2))
    unlike = {key.rsplit(".", 1)[1] for key, values in first.items() if not torch.equal(second[key], values)}
    assert unlike == {"running_mean", "running_var"}  # each normalises its own share; those of the first are kept


def test_workers_draw_numbers_of_their_own_and_the_same_again(found):
    first, second = (found[2, rank]["drawn"] for rank in range(2))
    assert first[0] == first[2]
    assert second[0] == second[2]
    assert len({tuple(numbers) for numbers in first + second}) == 4


def test_all_workers_follow_the_validation_loss_of_the_first(found):
    first, second = (found[2, rank]["plateau"] for rank in range(2))
    assert first == second
    assert min(first) < max(first), "no rate fell"
    assert len(first) < 30, "nobody gave up"


def test_outside_of_a_training_step_nobody_is_asked():
    """Evaluation is the first worker's alone: here there is not even a process group."""
    values = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)
    counted = torch.tensor([True, False, True])
    assert whole_batch.workers() == 1
    assert whole_batch.mean_where(values, counted) == 3.5
    assert whole_batch.mean_where(values, ~counted & counted) == 0
    assert whole_batch.gathered(values) is values
    assert torch.equal(whole_batch.average(values), values)
    assert not whole_batch.total(values).requires_grad
    with whole_batch.sharing(False):
        assert whole_batch.workers() == 1


# Batch norm over all workers' shares, which PyTorch has on GPUs alone


@pytest.mark.parametrize("mode", ["scratch", "frozen"])
def test_batch_norm_over_the_whole_batch_keeps_tensors_and_names(instrument_task, tiny_config, mode):
    config = with_values(tiny_config, {"transfer.mode": mode, "transfer.checkpoint": "none"})
    learner = Learner(instrument_task, config, torch.device("cpu"))
    before, model = learner.model.state_dict(), learner.model
    audio = 0.1 * torch.randn(3, config.mixing.samples)
    expected = model.eval()(audio)
    optimised = {id(each) for group in learner.optimizer.param_groups for each in group["params"]}
    together = whole_batch.normalised_together(model, torch.device("cuda"))
    assert isinstance(together, Classifier)
    kinds = {type(module) for module in together.modules()}
    assert torch.nn.SyncBatchNorm in kinds
    assert not kinds & {torch.nn.BatchNorm1d, torch.nn.BatchNorm2d}
    assert {id(each) for each in together.parameters() if each.requires_grad} == optimised
    after = together.state_dict()
    assert list(after) == list(before)
    assert all(after[name].data_ptr() == tensor.data_ptr() for name, tensor in before.items())
    assert torch.equal(together.eval()(audio), expected)
    plain = instrument_task.build_model(config)
    plain.load_state_dict(after)
    assert torch.equal(plain.eval()(audio), expected)
    together.train()
    assert together.backbone.training == (mode == "scratch")
    learned = [module for module in together.modules() if isinstance(module, torch.nn.SyncBatchNorm)]
    assert {module.training for module in learned} == ({True} if mode == "scratch" else {True, False})


def test_batch_norm_on_a_cpu_stays_each_workers_own(instrument_task, tiny_config):
    model = instrument_task.build_model(tiny_config)
    kinds = [type(module) for module in model.modules()]
    assert [type(module) for module in whole_batch.normalised_together(model, torch.device("cpu")).modules()] == kinds
