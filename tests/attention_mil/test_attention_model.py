"""The networks on bags: sizes, how they start, and attention by an independent computation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tasks.attention_mil.losses import judged_cross_entropy
from tasks.attention_mil.model import AttentionNet, BagNet, FullyConnected, Recurrent, build_network, unpacked
from timbrel.errors import UserError

NAMES = ("attention", "mean", "fc", "fc_t", "rnn")


def net(name="attention", instances=10, dimension=128, classes=20, dropout=0.5):
    torch.manual_seed(0)
    return build_network(name, instances, dimension, classes, dropout)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("attention", 55_336),
        ("fc", 986_772),
        ("fc_t", 52_116),
        ("rnn", 226_068),
        ("mean", 128 * 512 + 512 + 512 * 512 + 512 + 512 * 128 + 128 + 128 * 20 + 20),
    ],
)
def test_published_sizes_have_the_published_numbers_of_parameters(name, parameters):
    assert sum(weights.numel() for weights in net(name).parameters()) == parameters


def numpy_attention(model, x):
    """Return the probabilities and attention of an attention network in evaluation, by NumPy alone."""
    state = {name: values.double().numpy() for name, values in model.state_dict().items()}

    def normal(values, layer):
        mean, variance = state[f"{layer}.running_mean"], state[f"{layer}.running_var"]
        return (values - mean) / np.sqrt(variance + 1e-5) * state[f"{layer}.weight"] + state[f"{layer}.bias"]

    def sigmoid(values):
        return 1 / (1 + np.exp(-values))

    hidden = normal(x, "normalise")
    for layer in (0, 4, 8):  # convolution, normalisation, rectifier, dropout
        hidden = np.maximum(normal(hidden @ state[f"embed.{layer}.weight"][..., 0].T, f"embed.{layer + 1}"), 0)
    hidden = hidden + x
    attended, found = (
        sigmoid(hidden @ state[f"{name}.weight"][..., 0].T + state[f"{name}.bias"])
        for name in ("attention", "classifier")
    )
    attended = np.clip(attended, 1e-7, 1 - 1e-7)
    attended = attended / attended.sum(axis=1, keepdims=True)
    return (attended * found).sum(axis=1), attended.swapaxes(1, 2)


def test_attention_is_what_numpy_makes_of_the_published_table():
    model = net(dimension=12, classes=4)
    model(torch.rand(64, 10, 12) * 3)  # so that the running means are not those of the start
    for layer in (model.normalise, model.embed[1], model.attention):
        nn.init.normal_(layer.bias, std=0.3)
    x = torch.rand(5, 7, 12) * 2 - 0.5
    found, attention = model.eval().attend(x)
    expected, weights = numpy_attention(model, x.double().numpy())
    np.testing.assert_allclose(found.detach(), expected, atol=1e-5)
    np.testing.assert_allclose(attention.detach(), weights, atol=1e-5)
    assert found.detach().numpy().std() > 0.05


@settings(max_examples=30)
@given(
    name=st.sampled_from(NAMES),
    batch=st.integers(2, 4),
    instances=st.integers(1, 12),
    dimension=st.integers(1, 40),
    classes=st.integers(1, 7),
)
def test_any_size_of_bag_and_vocabulary(name, batch, instances, dimension, classes):
    model = net(name, instances, dimension, classes)
    for training in (True, False):
        model.train(training)
        probabilities, attention = unpacked(model(torch.randn(batch, instances, dimension) * 100))
        assert probabilities.shape == (batch, classes)
        assert ((probabilities >= 0) & (probabilities <= 1)).all()
        if name == "attention":
            torch.testing.assert_close(attention.sum(dim=2), torch.ones(batch, classes))
            assert (attention > 0).all()
        else:
            assert attention.shape == (batch, classes, 0)


def test_bags_of_another_length_are_heard_but_by_fc():
    for name in NAMES:
        model, longer = net(name).eval(), torch.rand(2, 13, 128)
        if name == "fc":
            with pytest.raises(UserError, match=r"bags of 10 instances, and these have 13: set instances=13"):
                model(longer)
        else:
            assert model(longer).shape[:2] == (2, 20)


@pytest.mark.parametrize("name", NAMES)
def test_embeddings_of_another_size_are_refused(name):
    with pytest.raises(UserError, match=r"hears embeddings \(time, 128\), and these are \(10, 200\): name by teacher"):
        net(name)(torch.rand(2, 10, 200))


def test_order_matters_to_those_that_hear_it():
    x = torch.rand(3, 10, 128)
    for name in NAMES:
        model = net(name).eval()
        forth, back = (unpacked(model(bag))[0] for bag in (x, x.flip(1)))
        assert torch.allclose(forth, back, atol=1e-6) == (name in ("attention", "mean", "fc_t"))
    forth, back = (net().eval().attend(bag)[1] for bag in (x, x.flip(1)))
    torch.testing.assert_close(forth.flip(2), back)


def test_attention_that_vanishes_everywhere_is_even():
    model = net(dimension=4, classes=2).eval()
    nn.init.constant_(model.attention.bias, -200.0)
    found, attention = model.attend(torch.rand(2, 5, 4))
    torch.testing.assert_close(attention, torch.full((2, 2, 5), 0.2))
    assert torch.isfinite(found).all()


def test_input_is_added_as_it_came():
    """Without embedding layers to speak of, what the classifier hears is the input, however it is normalised."""
    model = net(dimension=4, classes=1).eval()
    for layer in model.embed:
        if isinstance(layer, nn.Conv1d):
            nn.init.zeros_(layer.weight)
    nn.init.ones_(model.classifier.weight)
    x = torch.tensor([[[1.0, 2.0, 0.0, -1.0]]])
    assert model.attend(x)[0].item() == pytest.approx(1 / (1 + math.exp(-2.0)), abs=1e-6)


def test_weights_start_as_published():
    model = net()
    for module in model.modules():
        if isinstance(module, nn.Conv1d):
            bound = math.sqrt(6 / 128)
            assert module.weight.abs().max() <= bound
            assert module.weight.detach().std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
            assert module.bias is None or not module.bias.any()
        if isinstance(module, nn.BatchNorm1d):
            assert (module.weight == 1).all()
    linear = net("fc").layers[0]
    assert linear.weight.detach().std().item() == pytest.approx(math.sqrt(2 / (1280 + 512)), rel=0.02)
    assert not linear.bias.any()
    drops = [module.p for module in net(dropout=0.6).modules() if isinstance(module, nn.Dropout)]
    assert drops == [0.6] * 3
    assert Recurrent(128, 20, 0.5).rnn.dropout == 0.5
    assert isinstance(net("fc"), FullyConnected)
    assert isinstance(model, AttentionNet)
    assert issubclass(AttentionNet, BagNet)


def test_attention_is_exact_in_bfloat16_layers():
    model = net()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model(torch.rand(4, 10, 128))
    assert outputs.dtype == torch.float32
    torch.testing.assert_close(outputs[..., 1:].sum(dim=2), torch.ones(4, 20))


def test_loss_is_that_of_judged_entries():
    probabilities = torch.tensor([[0.9, 0.2, 0.5], [0.4, 0.0, 1.0]], requires_grad=True)
    labels = torch.tensor([[1.0, math.nan, 0.0], [math.nan, 0.0, math.nan]])
    loss = judged_cross_entropy(probabilities, labels)
    assert loss.item() == pytest.approx(-(math.log(0.9) + math.log(0.5) + math.log(1 - 1e-7)) / 3, abs=1e-6)
    loss.backward()
    expected = [[-1 / 0.9 / 3, 0, 2 / 3], [0, 0, 0]]  # nothing where nobody judged, and nothing beyond the clamp
    np.testing.assert_allclose(probabilities.grad, expected, atol=1e-6)


def test_batch_without_a_judged_entry_teaches_nothing():
    model = net(dimension=4)
    probabilities, _ = unpacked(model(torch.rand(3, 5, 4)))
    loss = judged_cross_entropy(probabilities, torch.full((3, 20), math.nan))
    loss.backward()
    assert loss.item() == 0
    assert all(not weights.grad.any() for weights in model.parameters() if weights.grad is not None)


def test_loss_of_nan_is_nan_where_somebody_judged():
    probabilities = torch.tensor([[math.nan, 0.5]])
    assert torch.isnan(judged_cross_entropy(probabilities, torch.tensor([[1.0, 1.0]])))
    assert judged_cross_entropy(probabilities, torch.tensor([[math.nan, 1.0]])).item() == pytest.approx(math.log(2))
