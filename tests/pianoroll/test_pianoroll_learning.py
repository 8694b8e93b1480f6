"""Task pianoroll in the training loop, without Ray: it learns, resumes to the bit, and says all terms of its loss."""

import numpy as np
import pytest
import torch
from torch import nn

from timbrel import transcription
from timbrel.config import with_values
from timbrel.mixing.rolls import pitch_roll
from timbrel.training.loop import Learner
from timbrel.training.optimizers import make_optimizer

CPU = torch.device("cpu")
TERMS = {"loss", "loss_roll", "loss_pitch", "loss_instrument"}


@pytest.fixture
def learner(roll_task, tiny_rolls):
    def make(**values):
        named = {path.replace("__", "."): value for path, value in values.items()}
        return Learner(roll_task, with_values(tiny_rolls, named), CPU)

    return make


def batches(examples, size=4):
    count = len(examples["labels"])
    return [{name: values[i : i + size] for name, values in examples.items()} for i in range(0, count, size)]


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_it_learns_notes_and_who_plays_them(learner, tones):
    """Where nothing is known the pitch accuracy is at most the share of what sounds, 0.02."""
    train = tones(4)
    weights = {"loss__instrument": 0.1, "loss__positive_weight": 10.0, "loss__scaling": "fixed"}
    subject = learner(evaluation__roll_rule="chosen", training__epochs=100, **weights)
    losses = [subject.train_epoch([train]) for _ in range(100)]
    assert losses[-1]["loss"] < 0.75 * losses[0]["loss"]
    assert losses[-1]["loss_pitch"] < 0.6 * losses[0]["loss_pitch"]
    assert losses[-1]["loss_roll"] < losses[0]["loss_roll"]
    figures = subject.validate(train)
    assert figures["pitch_accuracy"] > 0.25
    assert figures["roll_accuracy"] > 0.12
    assert figures["f1_micro"] == pytest.approx(figures["instrument_f1_micro"])  # the same frames, counted twice
    assert figures["f1_micro"] > 0.8


def test_a_resumed_run_is_the_undisturbed_one_to_the_bit(learner, tones, tmp_path):
    train, valid, test = tones(8), tones(4, 1), tones(4, 2)

    def epoch(subject):
        return subject.train_epoch(batches(train)), subject.validate(valid)["loss"]

    undisturbed = learner(training__decay=0.5, training__decay_steps=2)
    expected = [epoch(undisturbed) for _ in range(4)]
    first = learner(training__decay=0.5, training__decay_steps=2)
    got = [epoch(first) for _ in range(2)]
    torch.save(first.state_dict(), tmp_path / "state.pt")
    epoch(first)  # what happened after the checkpoint is lost
    torch.manual_seed(999)
    second = learner(training__decay=0.5, training__decay_steps=2)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    got += [epoch(second) for _ in range(2)]
    assert got == expected
    assert same(second.model.state_dict(), undisturbed.model.state_dict())
    assert second.best_epoch == undisturbed.best_epoch
    (thresholds, figures, outputs), (others, other_figures, _) = (
        each.finish(valid, test) for each in (undisturbed, second)
    )
    assert thresholds == others
    np.testing.assert_equal(figures, other_figures)
    assert list(thresholds) == ["piano", "violin", "flute", "pianoroll", "pitch roll"]
    assert outputs["test"].more["roll"].dtype == bool
    assert "note_f1_onset" in figures  # figures that take long are those of the test split alone
    assert "note_f1_onset" not in undisturbed.validate(valid)


@pytest.mark.parametrize("scaling", ["automatic", "fixed"])
@pytest.mark.parametrize("alone", ["roll", "pitch", "instrument"])
def test_terms_of_weight_0_are_logged_and_not_learned_from(learner, tones, alone, scaling):
    weights = {f"loss__{name}": float(name == alone) for name in ("roll", "pitch", "instrument")}
    subject = learner(loss__scaling=scaling, **weights)
    train = tones(4)
    figures = {"train": subject.train_epoch(batches(train)), "valid": subject.validate(train)}
    for split, terms in figures.items():
        assert terms.keys() >= TERMS, split
        assert all(np.isfinite(terms[name]) and terms[name] > 0 for name in TERMS)
        assert terms["loss"] == pytest.approx(terms[f"loss_{alone}"], rel=1e-6), split


def test_the_loss_on_validation_is_the_objective_of_training(roll_task, learner, tones):
    examples = tones(8)
    subject = learner(loss__roll=2.0)
    subject.train_epoch(batches(examples))
    figures = subject.validate(examples)
    batch = {"roll": torch.from_numpy(examples["roll"])}
    with torch.inference_mode():
        logits = subject.model.eval()(torch.from_numpy(examples["features"]))
        expected = roll_task.losses(logits, batch, subject.config)
    for name in TERMS:  # the logits that are kept have half the precision
        assert figures[name] == pytest.approx(float(expected[name]), rel=1e-3), name


def test_chosen_thresholds_make_no_accuracy_worse_than_the_authors(learner, tones):
    train = tones(8)
    subject = learner()
    for _ in range(8):
        subject.train_epoch(batches(train))
    outputs = subject.predict(train)
    accuracies = {}
    for rule in ("fixed", "chosen"):
        config = with_values(subject.config, {"evaluation.roll_rule": rule})
        thresholds = subject.task.thresholds(outputs, config)
        accuracies[rule] = subject.task.evaluate(outputs, thresholds, config)
        if rule == "fixed":
            assert (thresholds["pianoroll"], thresholds["pitch roll"]) == (0.85, 0.85)
    for name in ("roll_accuracy", "pitch_accuracy"):
        assert accuracies["chosen"][name] >= accuracies["fixed"][name]


def test_accuracies_are_those_of_the_rolls_that_were_kept(learner, tones):
    """By another way: from the network itself, in single precision."""
    from tasks.pianoroll.model import heads

    train = tones(8)
    subject = learner(evaluation__pitch_threshold=0.3)
    subject.train_epoch(batches(train))
    figures = subject.validate(train)
    with torch.inference_mode():
        found = heads(subject.model.eval()(torch.from_numpy(train["features"])))
    expected = transcription.multipitch_accuracy(pitch_roll(train["roll"]), (torch.sigmoid(found.pitch) >= 0.3).numpy())
    assert figures["pitch_accuracy"] == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("seconds", [2.048, 2.1, 2.09])  # 64 frames, 65, and 65 with samples left over
@pytest.mark.parametrize("engine", ["librosa", "torch"])
def test_frames_that_the_pooling_leaves_over_are_dropped(roll_task, tiny_rolls, tones, seconds, engine):
    config = with_values(tiny_rolls, {"mixing.seconds": seconds, "front_end.engine": engine})
    examples = tones(4, config=config)
    assert examples["roll"].shape == (4, 3, 88, 32)
    maker = roll_task.example_maker(config)
    assert (
        maker.example_bytes
        == sum(examples[name].nbytes for name in ("features", "audio", "roll") if name in examples) / 4
    )
    subject = Learner(roll_task, config, CPU)
    assert np.isfinite(subject.train_epoch(batches(examples))["loss"])
    assert subject.predict(examples).more["logits"].shape == (4, 3, 88, 32)


# The authors' learning rate


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_on_the_mean_takes_the_authors_steps_on_the_sum(roll_task, tiny_rolls, momentum):
    values = {"training.optimizer": "sgd", "training.momentum": momentum, "training.batch_size": 8}
    config = with_values(tiny_rolls, {**values, "lr": 0.005, "weight_decay": 1e-2})
    torch.manual_seed(0)
    ours, theirs = nn.Linear(5, 3).double(), nn.Linear(5, 3).double()
    theirs.load_state_dict(ours.state_dict())
    optimizers = (
        make_optimizer(roll_task.parameter_groups(ours, config), 0, config.training),
        torch.optim.SGD(theirs.parameters(), lr=0.005, weight_decay=1e-2, momentum=momentum),
    )
    for _ in range(3):
        x = torch.randn(8, 5, dtype=torch.float64)
        items = (model(x).square().mean(dim=1) for model in (ours, theirs))
        for optimizer, loss in zip(optimizers, (next(items).mean(), next(items).sum()), strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(ours.bias, theirs.bias, rtol=1e-12, atol=1e-14)


def test_adam_is_given_the_learning_rate_as_it_is(roll_task, tiny_rolls):
    two_stage = {"training.schedule": "two_stage", "training.switches": (2, 4), "training.optimizer": "sgd"}
    for values in ({"training.optimizer": "adam"}, two_stage):
        config = with_values(tiny_rolls, {**values, "lr": 0.005, "weight_decay": 1e-2})
        (group,) = roll_task.parameter_groups(nn.Linear(2, 2), config)
        assert (group["lr"], group["weight_decay"]) == (0.005, 1e-2)
