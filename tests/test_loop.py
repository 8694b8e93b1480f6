"""The training loop without Ray: it learns, decays, resumes to the bit, and keeps its best epoch."""

import math

import numpy as np
import pytest
import torch

from timbrel.config import with_values
from timbrel.errors import UserError
from timbrel.training.loop import LOSS, Learner, predict

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
    losses = [subject.train_epoch(batches(train)) for _ in range(10)]
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
        return subject.train_epoch(batches(train)[:2]), subject.validate(valid)[LOSS]

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
    np.testing.assert_array_equal(thresholds, others)
    np.testing.assert_array_equal(outputs["test"].scores, undisturbed.predict(test))
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
    assert math.isfinite(subject.train_epoch(batches(train)))
    assert subject.predict(train).shape == (16, 15)


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
        losses.append(subject.validate(valid)[LOSS])
        weights.append({name: tensor.clone() for name, tensor in subject.model.state_dict().items()})
    with torch.no_grad():  # a sixth epoch that ruins the head
        subject.model.head[4].bias.fill_(9.0)
    subject.epoch += 1
    losses.append(subject.validate(valid)[LOSS])
    best = int(np.argmin(losses))
    assert best < 5
    assert subject.best_epoch == best + 1
    assert subject.best_loss == losses[best]
    assert same(subject.best_weights, weights[best])
    thresholds, figures, _ = subject.finish(valid, test)
    assert same(subject.model.state_dict(), weights[best])
    assert thresholds.shape == (15,)
    assert "roc_auc_macro" in figures
    # Thresholds are chosen on validation, not on test.
    others, _, _ = subject.finish(valid, valid)
    np.testing.assert_array_equal(others, thresholds)


@pytest.mark.parametrize("rule", ["per_class", "global", "fixed"])
def test_threshold_rules(learner, examples, rule):
    subject = learner(evaluation__threshold_rule=rule, evaluation__fixed_threshold=0.2)
    subject.train_epoch(batches(examples(16)))
    subject.validate(examples(16, 1))
    thresholds, _, _ = subject.finish(examples(16, 1), examples(16, 2))
    if rule == "fixed":
        assert set(thresholds) == {0.2}
    if rule == "global":
        assert len(set(thresholds)) == 1
    assert ((thresholds >= 0) & (thresholds <= 1)).all()


def test_prediction_does_not_depend_on_the_batch_size_and_leaves_training_alone(learner, examples):
    subject = learner()
    audio = examples(9)["audio"]
    state = torch.get_rng_state()
    whole = predict(subject.model, audio, CPU)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_allclose(predict(subject.model, audio, CPU, batch_size=2), whole, atol=1e-6)
    assert whole.shape == (9, 15)
    assert ((whole >= 0) & (whole <= 1)).all()
    assert whole.dtype == np.float32
