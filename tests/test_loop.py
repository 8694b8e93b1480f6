"""The training loop without Ray: it learns, decays, resumes to the bit, and keeps its best epoch."""

import copy
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from timbrel import registry
from timbrel.config import to_json, with_values
from timbrel.errors import UserError
from timbrel.training.loop import Learner, predict
from timbrel.training.optimizers import make_optimizer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def examples(tiny_config, instrument_task):
    """Make examples of tones whose pitch says which of the first three classes is there."""
    classes = len(instrument_task.classes(tiny_config))
    time_s = np.arange(tiny_config.mixing.samples) / tiny_config.mixing.sample_rate

    def make(count, seed=0):
        generator = np.random.default_rng(seed)
        labels = np.zeros((count, classes), dtype=np.float32)
        labels[:, :3] = generator.integers(0, 2, (count, 3))
        tones = np.stack([0.2 * np.sin(2 * np.pi * hz * time_s) for hz in (500, 1500, 4000)])
        audio = labels[:, :3] @ tones + generator.normal(scale=0.01, size=(count, len(time_s)))
        songs = np.array([f"song {example % 4}" for example in range(count)])
        return {"audio": audio.astype(np.float32), "labels": labels, "song": songs}

    return make


@pytest.fixture
def learner(instrument_task, tiny_config):
    def make(**values):
        config = with_values(tiny_config, {path.replace("__", "."): value for path, value in values.items()})
        return Learner(instrument_task, config, CPU)

    return make


def batches(examples, size=4):
    return [{name: values[i : i + size] for name, values in examples.items()} for i in range(0, 16, size)]


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_it_learns(learner, examples, precision):
    train = examples(16)
    subject = learner(model__width=4, training__precision=precision, training__decay=1.0)
    losses = [subject.train_epoch(batches(train))["loss"] for _ in range(10)]
    assert losses[-1] < 0.4 * losses[0]
    assert subject.validate(train)["roc_auc_macro"] > 0.65
    assert subject.epoch == subject.best_epoch == 10


def test_learning_rates_decay_as_in_the_paper(learner):
    paper = learner().config.training.__class__()
    rates = [paper.decay_at(epoch) for epoch in range(150)]
    steps = [epoch for epoch in range(1, 150) if rates[epoch] != rates[epoch - 1]]
    assert steps == [20, 40, 60, 80, 100, 120, 140]
    assert rates[0] == rates[19] == 1
    assert rates[20] == pytest.approx(0.3)
    assert rates[149] == pytest.approx(0.3**7)


def test_a_shorter_run_decays_proportionally_earlier(learner):
    short = with_values(learner().config, {"training.epochs": 15}).training
    rates = [short.decay_at(epoch) for epoch in range(15)]
    assert [epoch for epoch in range(1, 15) if rates[epoch] != rates[epoch - 1]] == [2, 4, 6, 8, 10, 12, 14]
    assert rates[14] == pytest.approx(0.3**7)


def test_each_group_decays_from_its_own_rate(learner, examples):
    subject = learner(training__epochs=4, training__decay_steps=2, transfer__backbone_lr=0.001)
    seen = []
    for _ in range(4):
        subject.train_epoch(batches(examples(16))[:1])
        seen.append([group["lr"] for group in subject.optimizer.param_groups])
    np.testing.assert_allclose(seen, [[0.01, 0.001]] * 2 + [[0.003, 0.0003]] * 2)


def test_a_resumed_run_is_the_undisturbed_one_to_the_bit(learner, examples, tmp_path):
    train, valid, test = (examples(16, seed) for seed in range(3))

    def epoch(subject):
        return subject.train_epoch(batches(train)[:2]), subject.validate(valid)["loss"]

    undisturbed = learner(training__decay_steps=2)
    expected = [epoch(undisturbed) for _ in range(4)]

    first = learner(training__decay_steps=2)
    got = [epoch(first) for _ in range(2)]
    torch.save(first.state_dict(), tmp_path / "state.pt")
    for _ in range(2):
        epoch(first)  # what happened after the checkpoint is lost
    torch.manual_seed(999)
    second = learner(training__decay_steps=2)
    torch.rand(7)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert (second.epoch, second.best_epoch) == (2, first.best_epoch if first.best_epoch <= 2 else second.best_epoch)
    got += [epoch(second) for _ in range(2)]
    assert got == expected
    assert same(second.model.state_dict(), undisturbed.model.state_dict())
    assert second.best_epoch == undisturbed.best_epoch
    assert same(second.best_weights, undisturbed.best_weights)
    (thresholds, figures, outputs), (others, other_figures, _) = (
        each.finish(valid, test) for each in (undisturbed, second)
    )
    assert thresholds == others
    np.testing.assert_array_equal(outputs["test"].scores, undisturbed.predict(test).scores)
    np.testing.assert_array_equal(outputs["valid"].labels, valid["labels"])
    assert outputs["test"].songs.tolist() == test["song"].tolist()
    np.testing.assert_equal(figures, other_figures)


def test_seeds_decide_the_start(learner):
    assert same(learner().model.state_dict(), learner().model.state_dict())
    assert not same(learner().model.state_dict(), learner(seed=1).model.state_dict())


def test_read_only_batches_are_taken_and_left_as_they_are(learner, examples):
    train = examples(16)
    for values in train.values():
        values.flags.writeable = False
    subject = learner()
    assert math.isfinite(subject.train_epoch(batches(train))["loss"])
    assert subject.predict(train).scores.shape == (16, 15)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_loss_that_is_no_number_ends_in_a_sentence(learner, examples, wrong):
    train = examples(16)
    train["audio"][5, 100] = wrong
    subject = learner()
    with pytest.raises(UserError, match=r"training loss is nan in epoch 1: lower the learning rates"):
        subject.train_epoch(batches(train))
    assert subject.epoch == 0


def test_weights_that_overflow_in_the_last_step_end_in_a_sentence(learner, examples):
    subject = learner(transfer__head_lr=1e30, transfer__backbone_lr=1e30)
    subject.train_epoch(batches(examples(16))[:1])
    with pytest.raises(UserError, match="learning rates"):
        subject.validate(examples(16))


def test_the_best_epoch_is_kept(learner, examples):
    train, valid, test = (examples(16, seed) for seed in range(3))
    subject = learner(training__epochs=30)
    losses, weights = [], []
    for _ in range(5):
        subject.train_epoch(batches(train))
        losses.append(subject.validate(valid)["loss"])
        weights.append({name: tensor.clone() for name, tensor in subject.model.state_dict().items()})
    with torch.no_grad():  # a sixth epoch that ruins the head
        subject.model.head[4].bias.fill_(9.0)
    subject.epoch += 1
    losses.append(subject.validate(valid)["loss"])
    best = int(np.argmin(losses))
    assert best < 5
    assert subject.best_epoch == best + 1
    assert subject.best_loss == losses[best]
    assert same(subject.best_weights, weights[best])
    thresholds, figures, _ = subject.finish(valid, test)
    assert same(subject.model.state_dict(), weights[best])
    assert tuple(thresholds) == subject.classes
    assert "roc_auc_macro" in figures
    # Thresholds are chosen on validation, not on test.
    others, _, _ = subject.finish(valid, valid)
    assert others == thresholds


@pytest.mark.parametrize("rule", ["per_class", "global", "fixed"])
def test_threshold_rules(learner, examples, rule):
    subject = learner(evaluation__threshold_rule=rule, evaluation__fixed_threshold=0.2)
    subject.train_epoch(batches(examples(16)))
    subject.validate(examples(16, 1))
    chosen, _, _ = subject.finish(examples(16, 1), examples(16, 2))
    thresholds = np.array(list(chosen.values()))
    if rule == "fixed":
        assert set(thresholds) == {0.2}
    if rule == "global":
        assert len(set(thresholds)) == 1
    assert ((thresholds >= 0) & (thresholds <= 1)).all()


def test_prediction_does_not_depend_on_the_batch_size_and_leaves_training_alone(learner, examples):
    subject = learner()
    audio = examples(9)["audio"]
    state = torch.get_rng_state()
    whole = predict(subject.task, subject.model, audio, CPU)["scores"]
    assert torch.equal(torch.get_rng_state(), state)
    in_pairs = predict(subject.task, subject.model, audio, CPU, batch_size=2)["scores"]
    np.testing.assert_allclose(in_pairs, whole, atol=1e-6)
    assert whole.shape == (9, 15)
    assert ((whole >= 0) & (whole <= 1)).all()
    assert whole.dtype == np.float32


# Plain SGD, as the multitask paper trains


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_takes_the_steps_of_its_definition(learner, examples, momentum):
    """v = momentum v + gradient; weight -= lr v: on a quadratic, by hand."""
    config = learner(training__optimizer="sgd", training__momentum=momentum).config
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = make_optimizer([{"params": [weight], "lr": 0.1}], 0, config.training)
    expected, velocity = 1.0, 0.0
    for _ in range(5):
        optimizer.zero_grad()
        (weight**2 / 2).sum().backward()
        optimizer.step()
        velocity = momentum * velocity + expected
        expected -= 0.1 * velocity
        assert weight.item() == pytest.approx(expected, rel=1e-5)


def test_sgd_has_the_rates_of_its_groups_and_their_decay(learner, examples):
    train = examples(16)
    subject = learner(
        training__optimizer="sgd",
        training__momentum=0.5,
        transfer__head_lr=0.01,
        transfer__backbone_lr=0.001,
        training__decay_steps=2,
    )
    seen = []
    for _ in range(4):
        subject.train_epoch(batches(train)[:1])
        seen.append(rates(subject))
    assert type(subject.optimizer) is torch.optim.SGD
    assert {(group["momentum"], group["nesterov"]) for group in subject.optimizer.param_groups} == {(0.5, False)}
    np.testing.assert_allclose(seen, [[0.01, 0.001]] * 2 + [[0.003, 0.0003]] * 2)


def test_sgd_learns_and_resumes_to_the_bit(learner, examples, tmp_path):
    train, values = examples(16), {"training__optimizer": "sgd", "transfer__head_lr": 0.1}
    undisturbed = learner(**values)
    expected = [undisturbed.train_epoch(batches(train))["loss"] for _ in range(4)]
    assert expected[-1] < expected[0]
    first, second = learner(**values), learner(**values)
    got = [first.train_epoch(batches(train))["loss"] for _ in range(2)]
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    got += [second.train_epoch(batches(train))["loss"] for _ in range(2)]
    assert got == expected


def test_the_optimiser_is_of_the_schedule_decay_alone(learner):
    """two_stage begins with Adam and ends with Nesterov's SGD, whatever the other schedule's optimiser."""
    training = learner(training__optimizer="sgd", training__momentum=0.1, **TWO_STAGE).config.training
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.1}]
    assert type(make_optimizer(groups, 0, training)) is torch.optim.Adam
    later = make_optimizer(groups, 1, training)
    assert (later.param_groups[0]["momentum"], later.param_groups[0]["nesterov"]) == (0.9, True)
    adam = learner(training__momentum=0.1).config.training
    assert type(make_optimizer(groups, 0, adam)) is torch.optim.Adam


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"training__momentum": 1.0}, r"training\.momentum=1\.0: .*less than 1"),
        ({"training__momentum": -0.1}, r"training\.momentum=-0\.1"),
        ({"training__optimizer": "sdg"}, r"training\.optimizer=sdg: .*'adam' or 'sgd'"),
    ],
)
def test_an_optimiser_that_can_not_be_is_refused(learner, values, reason):
    with pytest.raises(UserError, match=reason):
        learner(**values)


# Two stages, as the CNN's authors train


TWO_STAGE = {"training__schedule": "two_stage", "training__switches": (2, 4, 5), "training__epochs": 7}


@pytest.fixture
def two_stage(learner, examples):
    """Make a learner of two stages, and one that trains it for an epoch and says what it did."""
    train, valid = examples(16), examples(16, 1)

    def epoch(subject):
        loss = subject.train_epoch(batches(train)[:2])["loss"]
        return loss, subject.validate(valid)["loss"], type(subject.optimizer).__name__, rates(subject)

    return (lambda **values: learner(**TWO_STAGE, **values)), epoch


def rates(subject):
    return [group["lr"] for group in subject.optimizer.param_groups]


def test_the_authors_schedule_is_that_of_task_tagging():
    task = registry.load("task", "tagging")
    config = task.config_type()
    seen = [
        (config.training.stage_at(epoch), config.lr * config.training.decay_at(epoch))
        for epoch in (0, 79, 80, 99, 100, 119, 120, 199)
    ]
    expected = [(0, 1e-4)] * 2 + [(1, 1e-3)] * 2 + [(2, 1e-4)] * 2 + [(3, 1e-5)] * 2
    assert [stage for stage, _ in seen] == [stage for stage, _ in expected]
    np.testing.assert_allclose([rate for _, rate in seen], [rate for _, rate in expected])
    model = task.build_model(with_values(config, {"model.width": 2}))
    group = make_optimizer(task.parameter_groups(model, config), 1, config.training).param_groups[0]
    assert {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}.items() <= group.items()
    assert task.presets["small"]["training.schedule"] == task.presets["smoke"]["training.schedule"] == "decay"


def test_two_stages_have_their_optimisers_and_rates(two_stage):
    make, epoch = two_stage
    subject = make(transfer__backbone_lr=0.001)
    seen = [epoch(subject)[2:] for _ in range(7)]
    assert [name for name, _ in seen] == ["Adam"] * 2 + ["SGD"] * 5
    factors = [1, 1, 10, 10, 1, 0.1, 0.1]
    np.testing.assert_allclose([rate for _, rate in seen], [[0.01 * f, 0.001 * f] for f in factors])
    assert subject.learning_rate == pytest.approx(0.001)


def test_each_switch_goes_back_to_the_best_epoch(two_stage, examples):
    make, epoch = two_stage
    subject = make()
    for number in range(7):
        if number in (2, 4, 5):
            with torch.no_grad():  # what came after the best epoch is thrown away, so it can as well be ruined
                for parameter in subject.model.parameters():
                    parameter.fill_(0.01)
            best = {name: tensor.clone() for name, tensor in subject.best_weights.items()}
            begun = []
            hook = subject.model.register_forward_pre_hook(
                lambda model, _, begun=begun: begun.append({k: v.clone() for k, v in model.state_dict().items()})
            )
            epoch(subject)
            hook.remove()
            assert same(begun[0], best), number
        else:
            epoch(subject)


def test_momentum_outlasts_a_switch_of_rates_alone(two_stage):
    make, epoch = two_stage
    subject = make()
    for _ in range(3):
        epoch(subject)
    optimizer = subject.optimizer
    for _ in range(4):
        epoch(subject)
    assert subject.optimizer is optimizer
    assert subject.stage == 3


@pytest.mark.parametrize("stop", range(1, 7))
def test_two_stages_resume_to_the_bit_at_each_epoch(two_stage, examples, tmp_path, stop):
    make, epoch = two_stage
    undisturbed = make()
    expected = [epoch(undisturbed) for _ in range(7)]
    first = make()
    got = [epoch(first) for _ in range(stop)]
    torch.save(first.state_dict(), tmp_path / "state.pt")
    epoch(first)  # what happened after the checkpoint is lost
    torch.manual_seed(999)
    second = make()
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    got += [epoch(second) for _ in range(7 - stop)]
    assert got == expected
    assert same(second.model.state_dict(), undisturbed.model.state_dict())
    assert same(second.best_weights, undisturbed.best_weights)
    assert second.best_epoch == undisturbed.best_epoch
    valid, test = examples(16, 1), examples(16, 2)
    np.testing.assert_equal(second.finish(valid, test)[1], undisturbed.finish(valid, test)[1])


def test_a_state_can_be_gone_back_to_across_a_switch(two_stage):
    make, epoch = two_stage
    subject = make()
    epoch(subject)
    state = copy.deepcopy(subject.state_dict())
    expected = [epoch(subject) for _ in range(3)]
    subject.load_state_dict(state)
    assert [epoch(subject) for _ in range(3)] == expected


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"training.epochs": 100}, r"switches \(80,100,120\) must lie within the 100 epochs: .*schedule=decay"),
        ({"training.switches": "4,2"}, r"switches \(4,2\) must be one or more epochs, each later"),
        ({"training.switches": ""}, "one or more epochs"),
        ({"training.switches": "0,2"}, "greater than or equal to 1"),
        ({"training.sgd_factor": 0}, "greater than 0"),
    ],
)
def test_switches_that_can_not_be_are_refused(values, reason):
    with pytest.raises(UserError, match=reason):
        with_values(registry.load("task", "tagging").config_type(), values)


WORKER = """
import sys
import torch
from timbrel import registry
from timbrel.config import from_json
from timbrel.training.loop import Learner

folder, rank = sys.argv[1], int(sys.argv[2])
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
task = registry.load("task", "multi_instrument")
config = from_json(task.config_type, open(f"{folder}/config.json").read(), "the test")
sets = torch.load(f"{folder}/sets.pt", weights_only=False)
learner = Learner(task, config, torch.device("cpu"))
parallel = torch.nn.parallel.DistributedDataParallel(learner.model)
for epoch in range(3):
    learner.train_epoch([{name: values[rank::2] for name, values in sets["train"].items()}], parallel)
    if rank == 0:
        learner.validate(sets["valid"])
        learner.best_loss = 0.0  # so the first epoch stays the best
assert learner.stage == 1
torch.save(dict(learner.model.named_parameters()), f"{folder}/{rank}.pt")
torch.distributed.destroy_process_group()
"""


def test_workers_that_do_not_know_the_best_epoch_are_given_it(learner, examples, tmp_path):
    """Only the first of several workers validates."""
    (tmp_path / "config.json").write_text(to_json(learner(**TWO_STAGE).config))
    torch.save({"train": examples(16), "valid": examples(16, 1)}, tmp_path / "sets.pt")
    workers = [subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path), str(rank)]) for rank in range(2)]
    assert [worker.wait(timeout=200) for worker in workers] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert same(first, second)
