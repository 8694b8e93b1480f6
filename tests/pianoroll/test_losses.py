"""The three losses and how they are weighed against each other."""

import math

import numpy as np
import pytest
import torch

from tasks.pianoroll.losses import LossConfig, losses, rarity_weights
from tasks.pianoroll.model import heads

TERMS = ("roll", "pitch", "instrument")
SHARES = (0.7, 0.2, 0.1)


@pytest.fixture
def r():
    return torch.from_numpy(np.random.default_rng(0).normal(scale=6, size=(2, 3, 5, 4))).requires_grad_()


@pytest.fixture
def roll():
    return torch.from_numpy(np.random.default_rng(1).random((2, 3, 5, 4)) < 0.2)


def by_hand(r, roll, positive_weight, class_weights):
    """Compute the three terms number by number, in double precision."""
    batch, instruments, pitches, frames = r.shape

    def cross_entropy(logit, target, weight):
        if target:
            return weight * math.log1p(math.exp(-logit))
        return math.log1p(math.exp(logit))

    items = {name: [] for name in TERMS}
    for b in range(batch):
        values = {name: [] for name in TERMS}
        for t in range(frames):
            for m in range(instruments):
                logit = 0.01 * sum(r[b, m, f, t] for f in range(pitches))
                weight = positive_weight * class_weights[m]
                values["instrument"].append(cross_entropy(logit, any(roll[b, m, f, t] for f in range(pitches)), weight))
                for f in range(pitches):
                    gated = r[b, m, f, t] / (1 + math.exp(-logit))
                    values["roll"].append(cross_entropy(gated, roll[b, m, f, t], positive_weight))
            for f in range(pitches):
                logit = 0.1 * sum(r[b, m, f, t] for m in range(instruments))
                values["pitch"].append(
                    cross_entropy(logit, any(roll[b, m, f, t] for m in range(instruments)), positive_weight)
                )
        for name in TERMS:
            items[name].append(sum(values[name]) / len(values[name]))
    return {name: sum(each) / batch for name, each in items.items()}


def rarity_by_hand(shares):
    mean = sum(shares) / len(shares)
    return [((mean / p) * ((1 - p) / (1 - mean))) ** 0.3 for p in shares]


@pytest.mark.parametrize("positive_weight", [1.0, 10.0])
@pytest.mark.parametrize("class_weights", ["none", "rare"])
@pytest.mark.parametrize("scaling", ["fixed", "automatic"])
def test_terms_and_their_sum_agree_with_loops(r, roll, positive_weight, class_weights, scaling):
    config = LossConfig(
        roll=2.0,
        pitch=0.5,
        instrument=1.0,
        scaling=scaling,
        positive_weight=positive_weight,
        class_weights=class_weights,
        class_shares=SHARES,
    )
    got = losses(r, roll, config)
    weights = rarity_by_hand(SHARES) if class_weights == "rare" else [1.0] * 3
    expected = by_hand(r.detach().numpy(), roll.numpy(), positive_weight, weights)
    assert set(got) == {"loss", *TERMS}
    for name in TERMS:
        assert got[name].item() == pytest.approx(expected[name], rel=1e-5), name
        assert not got[name].requires_grad
    shares = {"roll": 2.0, "pitch": 0.5, "instrument": 1.0}
    if scaling == "automatic":
        level = by_hand(np.zeros(r.shape), roll.numpy(), positive_weight, weights)
        mean = sum(shares[name] * level[name] for name in TERMS) / 3.5
        shares = {name: shares[name] * mean / level[name] for name in TERMS}
    total = sum(shares[name] * expected[name] for name in TERMS)
    assert got["loss"].item() == pytest.approx(total, rel=1e-5)


def gradient(r, roll, /, **values):
    alone = {"roll": 0.0, "pitch": 0.0, "instrument": 0.0}
    return torch.autograd.grad(losses(r, roll, LossConfig(**{**alone, **values}))["loss"], r)[0]


def test_fixed_scaling_weighs_gradients(r, roll):
    total = gradient(r, roll, roll=2.0, pitch=0.5, instrument=3.0, scaling="fixed")
    parts = 2 * gradient(r, roll, roll=1.0) + 0.5 * gradient(r, roll, pitch=1.0) + 3 * gradient(r, roll, instrument=1.0)
    torch.testing.assert_close(total, parts, rtol=1e-4, atol=1e-7)


def test_automatic_scaling_divides_each_loss_by_what_it_is_at_logits_of_0(r, roll):
    weights = {"roll": 2.0, "pitch": 0.5, "instrument": 3.0}
    undecided = losses(torch.zeros_like(r), roll, LossConfig(**weights))
    levels = {name: undecided[name].item() for name in TERMS}
    sounding = {"roll": roll, "pitch": roll.any(dim=1), "instrument": roll.any(dim=2)}
    for name in TERMS:  # ln 2 for each element, ten times for those that sound
        assert levels[name] == pytest.approx(math.log(2) * (1 + 9 * sounding[name].double().mean().item()))
    mean = sum(weights[name] * levels[name] for name in TERMS) / 5.5
    assert undecided["loss"].item() == pytest.approx(5.5 * mean)  # as with fixed scaling
    expected = sum(weights[name] * mean / levels[name] * gradient(r, roll, **{name: 1.0}) for name in TERMS)
    torch.testing.assert_close(gradient(r, roll, **weights), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("scaling", ["fixed", "automatic"])
def test_single_weight_is_the_plain_loss_and_the_others_are_told(r, roll, name, scaling):
    got = losses(r, roll, LossConfig(**{each: 2.0 * (each == name) for each in TERMS}, scaling=scaling))
    everything = losses(r, roll, LossConfig(scaling="fixed"))
    assert got["loss"].item() == 2 * got[name].item()
    assert {each: got[each].item() for each in TERMS} == {each: everything[each].item() for each in TERMS}


def test_term_of_weight_0_gets_no_gradient():
    """By hand at R = 0, where every probability is 1/2 and the gate passes one half: one note of two instruments."""
    r = torch.zeros(1, 2, 3, 1, requires_grad=True)
    roll = torch.zeros(1, 2, 3, 1)
    roll[0, 0, 0, 0] = 1
    of_instrument = gradient(r, roll, instrument=1.0)
    # -10 / 2 for what sounds and 1 / 2 for what does not; the mean over 2 instruments; the scale of the head, 0.01
    torch.testing.assert_close(of_instrument[0, 0], torch.full((3, 1), -0.01 * 5 / 2))
    torch.testing.assert_close(of_instrument[0, 1], torch.full((3, 1), 0.01 * 0.5 / 2))
    of_pitch = gradient(r, roll, pitch=1.0)
    torch.testing.assert_close(of_pitch[0, :, 0, 0], torch.full((2,), -0.1 * 5 / 3))
    torch.testing.assert_close(of_pitch[0, :, 1:, 0], torch.full((2, 2), 0.1 * 0.5 / 3))


@pytest.mark.parametrize("scaling", ["fixed", "automatic"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("level", [-100.0, 0.0, 100.0])
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
def test_finite_at_saturation_and_where_nothing_sounds(scaling, batch, level, density):
    r = torch.full((batch, 9, 88, 3), level, requires_grad=True)
    roll = torch.rand(r.shape, generator=torch.Generator().manual_seed(0)) < density
    got = losses(r, roll, LossConfig(scaling=scaling))
    assert all(torch.isfinite(value) for value in got.values())
    got["loss"].backward()
    assert torch.isfinite(r.grad).all()


@pytest.mark.parametrize("scaling", ["fixed", "automatic"])
def test_terms_without_any_loss_are_no_division_by_0(scaling):
    """So sure and right about pitches and instruments that both losses are 0 in single precision."""
    r = torch.full((1, 9, 88, 2), -500.0, requires_grad=True)
    got = losses(r, torch.zeros(r.shape), LossConfig(roll=0.0, scaling=scaling))
    assert got["pitch"].item() == got["instrument"].item() == got["loss"].item() == 0
    got["loss"].backward()
    assert not r.grad.any()


def test_half_precision_is_computed_in_full(r, roll):
    half = r.detach().bfloat16()
    got, expected = (losses(each, roll, LossConfig()) for each in (half, half.float()))
    for name, value in got.items():
        assert value.dtype == torch.float32
        assert value.item() == expected[name].item()


def test_roll_may_be_of_any_type(r, roll):
    values = [losses(r, each, LossConfig())["loss"].item() for each in (roll, roll.float(), roll.to(torch.uint8))]
    assert values[0] == values[1] == values[2]


def test_batch_is_the_mean_of_its_items(r, roll):
    whole = losses(r, roll, LossConfig())
    items = [losses(r[i : i + 1], roll[i : i + 1], LossConfig()) for i in range(2)]
    for name in TERMS:
        assert whole[name].item() == pytest.approx((items[0][name].item() + items[1][name].item()) / 2, rel=1e-6)


def test_weights_of_rare_instruments():
    assert rarity_weights([0.25] * 4) == pytest.approx([1.0] * 4)
    weights = rarity_weights(SHARES)
    assert weights == pytest.approx(rarity_by_hand(SHARES))
    assert weights[0] < 1 < weights[1] < weights[2]
    # a ninth of the mean: (9 x (1 - 1/27) / (1 - 1/3)) ^ 0.3 = 13 ^ 0.3
    assert rarity_weights([1 / 27, 1 / 3, 17 / 27])[0] == pytest.approx(13**0.3)
    assert rarity_weights([1.0]) == rarity_weights([1.0, 0.0])[:1] == [1.0]  # one instrument alone
    assert rarity_weights([0.0, 0.5, 0.5])[0] == 1.0  # never sounds in training
    assert rarity_weights([0.0, 0.0]) == [1.0, 1.0]


@pytest.mark.parametrize("scaling", ["fixed", "automatic"])
def test_learning_from_the_losses_finds_the_notes(scaling):
    """Descent on R itself puts the notes above the authors' threshold, and everything else below."""
    roll = torch.zeros(1, 3, 12, 4)
    roll[0, 0, 3, :2] = roll[0, 1, 7, 1:] = roll[0, 1, 9, 2] = 1
    r = torch.zeros(roll.shape, requires_grad=True)
    optimiser = torch.optim.Adam([r], lr=1.0)
    for _ in range(300):
        optimiser.zero_grad()
        losses(r, roll, LossConfig(scaling=scaling))["loss"].backward()
        optimiser.step()
    out = heads(r.detach())
    assert torch.equal(torch.sigmoid(out.roll) > 0.85, roll > 0)
    assert torch.equal(torch.sigmoid(out.pitch) > 0.85, roll.amax(dim=1) > 0)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"roll": 0.0, "pitch": 0.0, "instrument": 0.0}, "at least one loss needs a weight above 0"),
        ({"roll": -1.0}, "roll must be a finite weight"),
        ({"pitch": math.inf}, "pitch must be a finite weight"),
        ({"instrument": math.nan}, "instrument must be a finite weight"),
        ({"positive_weight": 0.0}, "positive_weight must be finite and above 0"),
        ({"positive_weight": math.nan}, "positive_weight must be finite and above 0"),
        ({"class_shares": (0.5, 1.5)}, "class_shares must lie between 0 and 1"),
    ],
)
def test_config_out_of_range_is_refused(values, told):
    with pytest.raises(ValueError, match=told):
        LossConfig(**values)


def test_what_does_not_fit_is_refused(r, roll):
    with pytest.raises(ValueError, match="one shape"):
        losses(r, roll[:, :, :, :2], LossConfig())
    with pytest.raises(ValueError, match="each of 3 instruments, but class_shares has 0"):
        losses(r, roll, LossConfig(class_weights="rare"))
