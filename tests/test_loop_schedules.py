"""What the training loop does beside the plain step: unjudged labels, plateaus, clipped gradients, models that fit."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from timbrel.config import with_values
from timbrel.errors import UserError
from timbrel.training.loop import Learner

CPU = torch.device("cpu")


@pytest.fixture
def learner(instrument_task, tiny_config):
    def make(**values):
        config = with_values(tiny_config, {path.replace("__", "."): value for path, value in values.items()})
        return Learner(instrument_task, config, CPU)

    return make


@pytest.fixture
def batch(tiny_config, instrument_task):
    """Return noise whose labels are half unjudged."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, (4, len(instrument_task.classes(tiny_config)))).astype(np.float32)
    labels[:, ::2] = np.nan
    audio = generator.normal(scale=0.1, size=(4, tiny_config.mixing.samples)).astype(np.float32)
    return {"audio": audio, "labels": labels}


def parameters(learner):
    return {name: tensor.clone() for name, tensor in learner.model.named_parameters()}


def test_what_nobody_judged_has_no_part_in_the_loss(instrument_task, tiny_config):
    outputs = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]], requires_grad=True)
    labels = torch.tensor([[1.0, math.nan, 0.0], [math.nan, math.nan, 1.0]])
    loss = instrument_task.losses(outputs, {"labels": labels}, tiny_config)["loss"]
    by_hand = [math.log1p(math.exp(-1.0)), math.log1p(math.exp(0.5)), math.log1p(math.exp(1.0))]
    assert loss.item() == pytest.approx(np.mean(by_hand), rel=1e-6)
    loss.backward()
    assert (outputs.grad != 0).tolist() == [[True, False, True], [False, False, True]]


def test_all_judged_is_the_plain_cross_entropy(instrument_task, tiny_config):
    generator = torch.Generator().manual_seed(0)
    outputs, labels = torch.randn(16, 15, generator=generator), torch.rand(16, 15, generator=generator).round()
    loss = instrument_task.losses(outputs, {"labels": labels}, tiny_config)["loss"]
    torch.testing.assert_close(loss, nn.functional.binary_cross_entropy_with_logits(outputs, labels))


def test_a_batch_that_nobody_judged_moves_nothing(learner, batch):
    subject = learner()
    before = parameters(subject)
    unjudged = batch | {"labels": np.full_like(batch["labels"], np.nan)}
    assert subject.train_epoch([unjudged])["loss"] == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in subject.model.named_parameters())
    assert set(subject.class_shares.values()) == {0.0}


def test_a_validation_set_that_nobody_judged_is_refused(learner, batch):
    unjudged = batch | {"labels": np.full_like(batch["labels"], np.nan), "song": np.array(["a", "b", "c", "d"])}
    with pytest.raises(UserError, match="nobody judged the validation examples"):
        learner().validate(unjudged)


def test_shares_count_what_was_heard(learner, batch):
    subject = learner()
    subject.train_epoch([batch, batch])
    expected = np.nan_to_num(batch["labels"]).mean(axis=0)
    np.testing.assert_allclose(list(subject.class_shares.values()), expected)


def test_a_long_gradient_is_shortened(learner, batch, monkeypatch):
    norms = []
    subject = learner(training__gradient_clip=1e-3)
    step = subject.optimizer.step

    def measured():
        gradients = [each.grad for each in subject.model.parameters() if each.grad is not None]
        norms.append(math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients)))
        return step()

    monkeypatch.setattr(subject.optimizer, "step", measured)
    subject.train_epoch([batch])
    assert norms == [pytest.approx(1e-3, rel=1e-3)]


PLATEAU = {
    "training__schedule": "plateau",
    "training__epochs": 100,
    "training__plateau_factor": 0.5,
    "training__plateau_patience": 1,
    "training__stop_patience": 5,
}


def test_rates_fall_on_a_plateau_and_training_ends_when_that_does_not_help(learner):
    subject = learner(**PLATEAU)
    first = subject.learning_rate
    rates = []
    for loss in (1.0, 0.5, 0.6, 0.7, 0.4, 0.45, 0.45, 0.45, 0.45):
        subject.follow(loss)
        rates.append(subject.learning_rate / first)
        assert not subject.done
    # Two epochs in a row without a lower loss are one more than is put up with; then the counting starts anew.
    assert rates == pytest.approx([1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125])
    subject.follow(0.41)
    assert subject.done  # five epochs since 0.4


def test_a_resumed_run_goes_on_in_the_middle_of_a_plateau(learner, batch):
    whole, first = learner(**PLATEAU), learner(**PLATEAU)
    losses = (1.0, 2.0, 2.0, 2.0, 2.0, 2.0)
    for loss in losses[:2]:
        first.follow(loss)
    second = learner(**PLATEAU)
    second.load_state_dict(first.state_dict())
    for loss in losses[2:]:
        second.follow(loss)
    for loss in losses:
        whole.follow(loss)
    assert second.learning_rate == whole.learning_rate < learner(**PLATEAU).learning_rate
    assert second.done
    second.train_epoch([batch])
    assert second.learning_rate == whole.learning_rate  # the epoch leaves the plateau's rates alone


@pytest.mark.parametrize("field", ["plateau_factor", "plateau_patience", "stop_patience"])
def test_plateaus_that_make_no_sense_are_refused(tiny_config, field):
    with pytest.raises(UserError, match=f"training.{field}"):
        with_values(tiny_config, {f"training.{field}": -1})


class Counting(nn.Module):
    """Remembers how often each class was there."""

    def __init__(self, classes):
        super().__init__()
        self.register_buffer("shares", torch.zeros(classes))

    def forward(self, audio):
        return torch.logit(self.shares.clamp(0.01, 0.99)).expand(len(audio), -1)


def test_a_model_without_parameters_is_fitted_at_once(instrument_task, tiny_config, batch, monkeypatch):
    calls = Counter()

    def fit(model, batches, config):
        calls["epochs"] += 1
        labels = np.concatenate([np.nan_to_num(each["labels"]) for each in batches])
        model.shares += torch.from_numpy(labels.mean(axis=0))
        return {"loss": 0.25, "trees": 3.0}

    monkeypatch.setattr(instrument_task, "build_model", lambda config: Counting(len(instrument_task.classes(config))))
    monkeypatch.setattr(instrument_task, "parameter_groups", lambda model, config: [])
    monkeypatch.setattr(instrument_task, "fit", fit)
    subject = Learner(instrument_task, tiny_config, CPU)
    assert subject.train_epoch([batch] * 3) == {"loss": 0.25, "trees": 3.0}
    assert calls == {"epochs": 1}
    assert subject.examples == 12
    resumed = Learner(instrument_task, tiny_config, CPU)
    resumed.load_state_dict(subject.state_dict())
    torch.testing.assert_close(resumed.model.shares, subject.model.shares)
    assert resumed.model.shares.sum() > 0


def test_a_task_that_only_knows_gradients_says_so(instrument_task, tiny_config):
    with pytest.raises(NotImplementedError, match="multi_instrument"):
        instrument_task.fit(nn.Identity(), [], tiny_config)
