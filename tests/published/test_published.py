"""The published taggers: the same answers as an independent implementation, names in order, and what is refused."""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.tagging.task import tags_of
from timbrel import registry
from timbrel.config import with_values
from timbrel.errors import UserError
from timbrel.trained import load_weights

HERE = Path(__file__).parent
EXPECTED = json.loads((HERE / "expected.json").read_text())
SOURCE = importlib.util.spec_from_file_location("make_expected", HERE / "make_expected.py")
independent = importlib.util.module_from_spec(SOURCE)
SOURCE.loader.exec_module(independent)

WEIGHTS = os.environ.get("TIMBREL_PUBLISHED_WEIGHTS", "")
"""Folder of the authors' weight files; they are not in this repository."""
NETS = ("crnn", "fcn", "musicnn")


def seeded(net):
    return {name: torch.from_numpy(values) for name, values in independent.seeded_weights(net).items()} | {
        "spec_bn.num_batches_tracked": torch.tensor(7),
        **{
            name.replace("running_mean", "num_batches_tracked"): torch.tensor(7)
            for name in independent.shapes(net)
            if name.endswith("running_mean")
        },
    }


def answers(state, net, tags="mtg_jamendo"):
    _, model = registry.load("task", "tagging").from_weights(state, "the file", {"tags": tags})
    audio = torch.from_numpy(independent.test_signal(independent.SECONDS[net]))[None]
    with torch.inference_mode():
        picture = model.front_end(audio)
        embedding = model.embed(audio)
        return picture, embedding[0].numpy(), torch.sigmoid(model(audio))[0].numpy()


def agree(expected, picture, embedding, probabilities):
    # float32 against float64, and an STFT whose lowest bins lie 100 dB under its highest.
    assert float(picture.mean()) == pytest.approx(expected["log_mel_mean"], abs=1e-3)
    assert float(picture.std()) == pytest.approx(expected["log_mel_std"], abs=1e-3)
    scale = np.abs(expected["embedding"]).max()
    np.testing.assert_allclose(embedding, expected["embedding"], atol=2e-3 * scale)
    np.testing.assert_allclose(probabilities, expected["probabilities"], atol=2e-3)
    assert np.argsort(-probabilities)[:5].tolist() == np.argsort(-np.array(expected["probabilities"]))[:5].tolist()


@pytest.mark.parametrize("net", NETS)
def test_seeded_weights_give_the_independent_answer(net):
    agree(EXPECTED["seeded"][net], *answers(seeded(net), net))


@pytest.mark.skipif(not WEIGHTS, reason="TIMBREL_PUBLISHED_WEIGHTS names no folder of the authors' weight files")
@pytest.mark.parametrize("name", sorted(EXPECTED["real"]))
def test_real_weights_give_the_independent_answer(name):
    net = name.split("_")[1]
    agree(EXPECTED["real"][name], *answers(load_weights(Path(WEIGHTS) / f"{name}.pth"), net))


@pytest.mark.parametrize("net", NETS)
def test_the_fixture_could_fail(net):
    """One tensor changed a little is noticed, in the front end, in a middle layer and at the end."""
    last = "dense2.bias" if net == "musicnn" else "dense.bias"
    for name in ("spec_bn.bias", "layer2.conv.bias", last):
        state = seeded(net)
        state[name] = state[name] + 0.3
        with pytest.raises(AssertionError):
            agree(EXPECTED["seeded"][net], *answers(state, net))


def test_tags_in_the_order_of_the_outputs():
    jamendo, magnatagatune = tags_of("mtg_jamendo"), tags_of("magnatagatune")
    for tags in (jamendo, magnatagatune):
        assert len(set(tags)) == 50
        assert all(tag == tag.strip() != "" for tag in tags)
    assert list(jamendo) == sorted(jamendo)
    assert jamendo[0] == "genre---alternative"
    assert jamendo[31] == "instrument---acousticguitar"
    assert list(magnatagatune) != sorted(magnatagatune)
    assert magnatagatune[:3] == ("guitar", "classical", "slow")


@pytest.mark.parametrize(
    ("backbone", "net", "seconds", "channels", "hidden"),
    [("crnn", "crnn", 4.0, 32, 32), ("crnn_conv", "crnn", 4.0, 128, 128), ("musicnn", "musicnn", 4.0, 1506, 200),
     ("fcn", "fcn", 20.8, 64, 64)],
)  # fmt: skip
def test_backbones_take_over_everything_below_the_classifier(backbone, net, seconds, channels, hidden):
    task = registry.load("task", "multi_instrument")
    values = {**task.presets["published"], "mixing.seconds": seconds, "transfer.backbone": backbone}
    config = with_values(task.config_type(), {**values, "transfer.mode": "frozen", "transfer.checkpoint": "x"})
    model = task.build_model(config)
    head = {name: tensor.clone() for name, tensor in model.head.state_dict().items()}
    task.load_pretrained(model, config, seeded(net))
    assert all(torch.equal(tensor, head[name]) for name, tensor in model.head.state_dict().items())
    assert model.head[0].weight.shape == (hidden, channels)
    model.eval()
    audio = torch.from_numpy(independent.test_signal(independent.SECONDS[net]))[None]
    with torch.inference_mode():
        embedding = model.embed(audio)[0].numpy()
    key = "convolutions" if backbone == "crnn_conv" else "embedding"
    expected = np.array(EXPECTED["seeded"][net][key])
    np.testing.assert_allclose(embedding, expected, atol=2e-3 * np.abs(expected).max())


def transfer_model(**values):
    task = registry.load("task", "multi_instrument")
    config = with_values(
        task.config_type(),
        {**task.presets["published"], "transfer.mode": "finetune", "transfer.checkpoint": "tagger.pth"}
        | {path.replace("__", "."): value for path, value in values.items()},
    )
    return task, config, task.build_model(config)


@pytest.mark.parametrize(("backbone", "net"), [("musicnn", "crnn"), ("crnn_conv", "fcn"), ("crnn", "musicnn")])
def test_weights_of_another_net_are_refused_by_name(backbone, net):
    task, config, model = transfer_model(transfer__backbone=backbone)
    with pytest.raises(UserError, match=rf"tagger\.pth are of another architecture: they are of .* '{net}'.*transfer"):
        task.load_pretrained(model, config, seeded(net))


def test_published_weights_do_not_fit_the_papers_cnn():
    task, config, model = transfer_model(transfer__backbone="short_chunk_cnn")
    with pytest.raises(UserError, match=r"net 'crnn', the backbone reads .* set transfer\.backbone"):
        task.load_pretrained(model, config, seeded("crnn"))


def test_another_sample_rate_is_another_front_end():
    task, config, model = transfer_model(mixing__sample_rate=32_000)
    with pytest.raises(UserError, match=r"another front end .* mixing\.sample_rate"):
        task.load_pretrained(model, config, seeded("crnn"))


def test_a_truncated_set_of_weights_is_refused():
    task, config, model = transfer_model()
    state = seeded("crnn")
    del state["layer3.bn.running_var"]
    with pytest.raises(UserError, match=r"lack 'backbone\.layer3\.bn\.running_var'"):
        task.load_pretrained(model, config, state)
    state = seeded("crnn") | {"layer1.conv.weight": torch.zeros(64, 1, 5, 5)}
    with pytest.raises(UserError, match=r"'backbone\.layer1\.conv\.weight' has shape \(64, 1, 5, 5\)"):
        task.load_pretrained(model, config, state)


def test_an_empty_filterbank_is_left_to_the_model():
    """Some versions of torchaudio stored it so; the bank is a constant."""
    task, config, model = transfer_model()
    task.load_pretrained(model, config, seeded("crnn") | {"spec.mel_scale.fb": torch.zeros(0)})
    assert torch.isfinite(model.eval()(torch.zeros(2, 64_000))).all()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"transfer.backbone": "fcn"}, r"the backbone fcn needs 1280 frames .* mixing\.seconds"),
        ({"transfer.backbone": "crnn", "front_end.bands": 128}, r"takes 96 mel bands, not front_end\.bands=128"),
        ({"transfer.backbone": "crnn", "mixing.seconds": 0.5}, r"needs 96 frames"),
        ({"transfer.backbone": "cnrr"}, r"transfer\.backbone=cnrr"),
    ],
)
def test_what_a_backbone_cannot_hear_is_refused(values, reason):
    task = registry.load("task", "multi_instrument")
    with pytest.raises(UserError, match=reason):
        with_values(task.config_type(), values)


def test_no_published_tagger():
    with pytest.raises(UserError, match=r"x\.pth holds none of the published taggers crnn, crnn_conv, fcn, musicnn"):
        registry.load("task", "tagging").from_weights({"a": torch.zeros(1)}, "x.pth", {"tags": "mtg_jamendo"})
