"""Front end, backbone and the three ways to start from pre-trained weights."""

import itertools
import sys
import warnings

import librosa
import numpy as np
import pytest
import torch

from timbrel import registry
from timbrel.config import with_values
from timbrel.errors import UserError
from timbrel.models.front_end import LogMel, LogMelConfig
from timbrel.models.short_chunk_cnn import ShortChunkCNN, ShortChunkConfig
from timbrel.models.transfer import Classifier, Head, load_backbone
from timbrel.training.loop import Learner

CPU = torch.device("cpu")


def configured(task, base, **values):
    return with_values(base, {path.replace("__", "."): value for path, value in values.items()})


@pytest.fixture(scope="module")
def build(instrument_task, tiny_config):
    def model(**values):
        return instrument_task.build_model(configured(instrument_task, tiny_config, **values))

    return model


@pytest.fixture(scope="module")
def batch(tiny_config, instrument_task):
    generator = np.random.default_rng(0)
    classes = len(instrument_task.classes(tiny_config))
    return {
        "audio": generator.normal(scale=0.1, size=(4, tiny_config.mixing.samples)).astype(np.float32),
        "labels": generator.integers(0, 2, (4, classes)).astype(np.float32),
    }


# Front end


@pytest.mark.parametrize(("sample_rate", "max_hz"), [(16_000, 0.0), (32_000, 0.0), (32_000, 8000.0)])
def test_log_mel_agrees_with_librosa(sample_rate, max_hz):
    time_s = np.arange(sample_rate) / sample_rate
    audio = (0.3 * np.sin(2 * np.pi * 440 * time_s) + np.random.default_rng(0).normal(scale=0.05, size=sample_rate))[
        None
    ].astype(np.float32)
    front_end = LogMel(LogMelConfig(bands=128, max_hz=max_hz), sample_rate)
    got = front_end.decibel(front_end.power(torch.from_numpy(audio)))[0].numpy()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Empty filters")  # so it is in the paper's front end
        power = librosa.feature.melspectrogram(
            y=audio[0],
            sr=sample_rate,
            n_fft=512,
            hop_length=256,
            n_mels=128,
            fmin=0.0,
            fmax=max_hz or sample_rate / 2,
            htk=True,
            norm=None,
            power=2.0,
            center=True,
            pad_mode="reflect",
        )
    expected = 10 * np.log10(np.maximum(power, 1e-10))
    assert got.shape == expected.shape == (128, 1 + sample_rate // 256)
    np.testing.assert_allclose(got, expected, atol=0.02)


def test_silence_is_minus_100_db():
    front_end = LogMel(LogMelConfig(bands=128), 16_000)
    assert (front_end.decibel(front_end.power(torch.zeros(1, 16_000))) == -100).all()


def test_the_front_end_keeps_full_precision_under_autocast():
    front_end = LogMel(LogMelConfig(bands=128), 16_000).eval()
    audio = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0)) * 0.1
    plain = front_end(audio)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(front_end(audio), plain)


def test_normalisation_is_over_the_one_channel():
    front_end = LogMel(LogMelConfig(bands=128), 16_000)
    got = front_end(torch.randn(3, 16_000, generator=torch.Generator().manual_seed(0)))
    assert got.shape == (3, 1, 128, 63)
    assert got.mean().item() == pytest.approx(0, abs=1e-4)
    assert got.std().item() == pytest.approx(1, abs=1e-2)


# Backbone and head


def test_the_papers_network():
    torch.manual_seed(0)
    task = registry.load("task", "multi_instrument")
    model = task.build_model(task.config_type()).eval()
    audio = torch.randn(2, 128_000)
    with torch.no_grad():
        embedding = model.embed(audio)
        assert embedding.shape == (2, 512)
        torch.testing.assert_close(model(audio), model.head(embedding))
        assert model(audio).shape == (2, 15)
    convolutions = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [128, 128, 256, 256, 256, 256, 512]
    assert all(layer.kernel_size == (3, 3) for layer in convolutions)
    # 3.69 M in the CNN's blocks, 0.27 M in the head, 2 in the front end's norm.
    assert sum(parameter.numel() for parameter in model.parameters()) == _parameters(128)


def _parameters(width):
    channels = [1, *(width * factor for factor in (1, 1, 2, 2, 2, 2, 4))]
    blocks = sum(9 * a * b + 3 * b for a, b in itertools.pairwise(channels))
    top = channels[-1]
    return 2 + blocks + (top * top + 3 * top) + (top * 15 + 15)


def test_names_of_the_parameters(build):
    names = list(build().state_dict())
    assert {name.split(".")[0] for name in names} == {"front_end", "backbone", "head"}
    for name in (
        "front_end.norm.running_mean",
        "front_end.power.mel_scale.fb",
        "front_end.power.spectrogram.window",
        "backbone.blocks.0.0.weight",
        "backbone.blocks.6.1.running_var",
        "head.0.weight",
        "head.4.bias",
    ):
        assert name in names


@pytest.mark.parametrize("frames", [128, 251, 501, 640])
@pytest.mark.parametrize("bands", [128, 256])
def test_any_picture_of_128_frames_or_more(frames, bands):
    backbone = ShortChunkCNN(ShortChunkConfig(width=1)).eval()
    assert backbone(torch.zeros(2, 1, bands, frames)).shape == (2, backbone.embedding_size)


@pytest.mark.parametrize(
    "values", [{"mixing.seconds": 0.9}, {"front_end.bands": 96}, {"front_end.hop": 512, "mixing.sample_rate": 16_000}]
)
@pytest.mark.parametrize("name", ["multi_instrument", "tagging"])  # pianoroll's: tests/pianoroll
def test_a_picture_too_small_for_the_network_is_refused_before_anything_starts(name, values):
    task = registry.load("task", name)
    with pytest.raises(UserError, match="128"):
        task.build_model(with_values(task.config_type(), values))


# Transfer


PAPER_RATES = {
    "scratch": {"head": 0.01, "backbone": 0.01},
    "frozen": {"head": 0.01},
    "finetune": {"head": 0.01, "backbone": 0.0001},
}


@pytest.mark.parametrize("mode", PAPER_RATES)
def test_learning_rates_are_the_papers(instrument_task, tiny_config, build, mode):
    config = configured(instrument_task, tiny_config, transfer__mode=mode)
    model = build(transfer__mode=mode)
    groups = instrument_task.parameter_groups(model, config)
    assert {group["name"]: group["lr"] for group in groups} == PAPER_RATES[mode]
    trained = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(trained) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    head = {id(parameter) for parameter in model.head.parameters()}
    assert {id(parameter) for parameter in groups[0]["params"]} == head


@pytest.mark.parametrize(
    ("mode", "given", "used"), [("frozen", 0.5, 0.0), ("finetune", 0.5, 0.5), ("scratch", 0.0, 0.0)]
)
def test_a_learning_rate_of_ones_own(instrument_task, tiny_config, mode, given, used):
    config = configured(instrument_task, tiny_config, transfer__mode=mode, transfer__backbone_lr=given)
    assert config.transfer.effective_backbone_lr == used


@pytest.mark.parametrize("mode", PAPER_RATES)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_what_a_training_step_changes(instrument_task, tiny_config, build, batch, mode, precision):
    config = configured(instrument_task, tiny_config, transfer__mode=mode, training__precision=precision)
    torch.manual_seed(1)
    weights = None if mode == "scratch" else build().state_dict()
    learner = Learner(instrument_task, config, CPU, weights)
    before = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
    learner.model.train()
    learner.train_epoch([batch, batch])
    after = learner.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    constant = {name for name in before if name.startswith("front_end.power.")}
    rest = {name for name in before if not name.startswith("head.")} - constant
    assert not changed & constant
    assert {name for name in before if name.startswith("head.")} <= changed
    if mode == "frozen":
        assert not changed & rest
        assert all(torch.equal(before[name], weights[name]) for name in rest)
    else:
        statistics = {name for name in rest if "running" in name or "num_batches" in name}
        assert statistics <= changed
        assert len(changed & rest) > 0.9 * len(rest)


def test_a_frozen_backbone_needs_no_gradient_and_ignores_the_others_in_the_batch(build, batch):
    model = build(transfer__mode="frozen").train()
    assert not model.backbone.training
    assert model.head.training
    audio = torch.from_numpy(batch["audio"])
    embedding = model.embed(audio)
    assert not embedding.requires_grad
    torch.testing.assert_close(embedding[:1], model.embed(audio[:1]))
    assert model(audio).requires_grad
    assert model.eval().training is False


def test_pretrained_weights_start_everything_but_the_head(instrument_task, tiny_config, build):
    torch.manual_seed(5)
    weights = build().state_dict()
    config = configured(instrument_task, tiny_config, transfer__mode="finetune")
    got = Learner(instrument_task, config, CPU, weights).model.state_dict()
    for name, tensor in weights.items():
        assert torch.equal(got[name], tensor) == (not name.startswith("head.") or _is_constant(name)), name


def _is_constant(name):
    """Of a batch norm in the head, only its weights and statistics before any step."""
    return name.startswith("head.1.")


def test_weights_of_another_task_fit(instrument_task, tiny_config, build):
    tagging = registry.load("task", "tagging")
    shared = {
        "mixing.sample_rate": 16_000,
        "mixing.seconds": 1.1,
        "front_end.hop": 128,
        "model.width": 2,
    }
    weights = tagging.build_model(with_values(tagging.config_type(), shared)).state_dict()
    model = build(transfer__mode="frozen")
    load_backbone(model, weights, "run 7")
    assert torch.equal(model.backbone.blocks[3][0].weight, weights["backbone.blocks.3.0.weight"])


def test_weights_that_do_not_fit_are_refused(build):
    model, weights = build(), build().state_dict()
    lacking = {name: tensor for name, tensor in weights.items() if name != "backbone.blocks.2.0.weight"}
    with pytest.raises(UserError, match=r"weights of run 7 .* lack 'backbone\.blocks\.2\.0\.weight'"):
        load_backbone(model, lacking, "run 7")
    with pytest.raises(UserError, match=r"run 7 .*has shape \(3, 1, 3, 3\), this model's has \(2, 1, 3, 3\)"):
        load_backbone(model, build(model__width=3).state_dict(), "run 7")
    with pytest.raises(UserError, match=r"run 7 were trained behind another front end .*same mixing\.sample_rate"):
        load_backbone(model, build(mixing__sample_rate=22_050).state_dict(), "run 7")
    with pytest.raises(UserError, match="lack 'front_end"):
        load_backbone(model, {}, "an empty file")


# Shows defects: each ends in a traceback of PyTorch's or Python's.
@pytest.mark.parametrize(
    "extra", [{"backbone.blocks.7.0.weight": torch.zeros(2)}, {"front_end.norm.weight": 3}], ids=["more", "no tensor"]
)
def test_weights_with_something_else_are_refused(build, extra):
    with pytest.raises(UserError, match="run 7"):
        load_backbone(build(), {**build().state_dict(), **extra}, "run 7")


@pytest.mark.parametrize("mode", ["frozen", "finetune"])
def test_transfer_needs_a_checkpoint(instrument_task, tiny_config, mode):
    config = configured(instrument_task, tiny_config, transfer__mode=mode)
    with pytest.raises(UserError, match=rf"transfer\.mode={mode} .* set transfer\.checkpoint"):
        instrument_task.pretrained(config)
    named = configured(instrument_task, config, transfer__checkpoint="abc")
    assert instrument_task.pretrained(named) == "abc"
    assert instrument_task.pretrained(configured(instrument_task, named, transfer__mode="scratch")) is None


def test_a_classifier_of_ones_own():
    model = Classifier(torch.nn.Identity(), torch.nn.Linear(10, 4), Head(4, 4, 3), frozen=True).train()
    assert model(torch.zeros(2, 10)).shape == (2, 3)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == [
        f"head.{layer}.{kind}" for layer in (0, 1, 4) for kind in ("weight", "bias")
    ]


def test_torchaudio_comes_with_or_without_cuda():
    from timbrel.torchaudio_cpu import torchaudio

    assert sys.modules["torchaudio"] is torchaudio
    spectrogram = torchaudio.transforms.Spectrogram(n_fft=64)(torch.zeros(1, 640))
    assert spectrogram.shape == (1, 33, 21)


def test_a_level_makes_loud_and_soft_clips_alike():
    audio = 0.1 * torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
    clips = torch.cat([audio, 0.05 * audio, 1e-5 * audio])
    as_is = LogMel(LogMelConfig(bands=64), 16_000).eval()
    levelled = LogMel(LogMelConfig(bands=64, level_dbfs=-16.0), 16_000).eval()
    with torch.inference_mode():
        before, after = as_is(clips), levelled(clips)
    assert (before[0] - before[1]).abs().mean() == pytest.approx(20 * np.log10(20), abs=0.5)
    torch.testing.assert_close(after[0], after[1], atol=1e-3, rtol=0)
    # At -16 dBFS: 4 dB above the -20 dBFS of the loud clip, and near silence is not blown up to it.
    assert (after[0] - before[0]).mean() == pytest.approx(4.0, abs=0.2)
    assert (after[0] - after[2]).mean() > 50
    assert torch.isfinite(levelled(torch.zeros(2, 16_000))).all()
