"""Teachers of others' packages, with random weights in files of the layout in which their authors publish them."""

import math
import pickle
import shutil
import sys

import numpy as np
import pytest
import torch

from timbrel.embeddings.teachers import load_teacher
from timbrel.embeddings.teachers.openl3 import OpenL3
from timbrel.embeddings.teachers.options import TeacherOptions
from timbrel.embeddings.teachers.packaged import INSTALL, load_arrays
from timbrel.embeddings.teachers.panns import Cnn14
from timbrel.embeddings.teachers.passt import PaSST
from timbrel.embeddings.teachers.vggish import COMPONENTS, VGGish
from timbrel.errors import UserError
from timbrel.tracking import Tracker

pytestmark = pytest.mark.filterwarnings("ignore")  # the packages' own

PACKAGES = {"vggish": "torchvggish", "openl3": "torchopenl3", "passt": "hear21passt", "panns": "panns_inference"}
KINDS = {"vggish": VGGish, "openl3": OpenL3, "passt": PaSST, "panns": Cnn14}
FACTS = {
    "vggish": (16_000, 128, 0.96, "|u1"),
    "openl3": (48_000, 512, 0.96, "<f4"),
    "passt": (32_000, 768, 0.96, "<f4"),
    "panns": (32_000, 2048, 0.0, "<f4"),
}
"""Sample rate in Hz, dimension, seconds from one vector to the next, type in which they are stored."""
FRONT_ENDS = ("speclayer", "spectrogram_extractor", "logmel_extractor")
"""Parts of the published files that are no weights: how a spectrogram is computed."""


# The layout of the published files: shapes by name, independent of the packages


def layer(name, *shape, bias=True):
    return {f"{name}.weight": shape, **({f"{name}.bias": shape[:1]} if bias else {})}


def batch_norm(name, channels):
    running = {f"{name}.{part}": (channels,) for part in ("running_mean", "running_var")}
    return layer(name, channels) | running | {f"{name}.num_batches_tracked": ()}


def vggish():
    channels = [1, 64, 128, 256, 256, 512, 512]
    convolutions = [
        layer(f"features.{place}", channels[number + 1], channels[number], 3, 3)
        for number, place in enumerate((0, 3, 6, 8, 11, 13))
    ]
    sizes = [512 * 6 * 4, 4096, 4096, 128]
    linear = [layer(f"embeddings.{2 * number}", sizes[number + 1], sizes[number]) for number in range(3)]
    return [*convolutions, *linear]


def openl3():
    channels = [1, 64, 64, 128, 128, 256, 256, 512]
    parts = [
        {
            "speclayer.dft_real_kernels": (1025, 1, 2048),
            "speclayer.dft_imag_kernels": (1025, 1, 2048),
            "speclayer.mel_basis": (128, 1025),
        },
        batch_norm("batch_normalization_1", 1),
        layer("audio_embedding_layer", 512, 512, 3, 3),
    ]
    for number in range(1, 8):
        parts += [
            layer(f"conv2d_{number}", channels[number], channels[number - 1], 3, 3),
            batch_norm(f"batch_normalization_{number + 1}", channels[number]),
        ]
    return parts


def passt():
    width = 768
    parts = [
        {"cls_token": (1, 1, width), "dist_token": (1, 1, width), "new_pos_embed": (1, 2, width)},
        {"freq_new_pos_embed": (1, width, 12, 1), "time_new_pos_embed": (1, width, 1, 99)},
        layer("patch_embed.proj", width, 1, 16, 16),
        layer("norm", width),
        layer("head.0", width),
        layer("head.1", 527, width),
        layer("head_dist", 527, width),
    ]
    for number in range(12):
        parts += [
            layer(f"blocks.{number}.norm1", width),
            layer(f"blocks.{number}.attn.qkv", 3 * width, width),
            layer(f"blocks.{number}.attn.proj", width, width),
            layer(f"blocks.{number}.norm2", width),
            layer(f"blocks.{number}.mlp.fc1", 4 * width, width),
            layer(f"blocks.{number}.mlp.fc2", width, 4 * width),
        ]
    return parts


def panns():
    channels = [1, 64, 128, 256, 512, 1024, 2048]
    parts = [
        {f"spectrogram_extractor.stft.conv_{part}.weight": (513, 1, 1024) for part in ("real", "imag")},
        {"logmel_extractor.melW": (513, 64)},
        batch_norm("bn0", 64),
        layer("fc1", 2048, 2048),
        layer("fc_audioset", 527, 2048),
    ]
    for number in range(1, 7):
        before, after = channels[number - 1 : number + 1]
        for each, size in ((1, before), (2, after)):
            parts += [
                layer(f"conv_block{number}.conv{each}", after, size, 3, 3, bias=False),
                batch_norm(f"conv_block{number}.bn{each}", after),
            ]
    return parts


LAYOUTS = {"vggish": vggish, "openl3": openl3, "passt": passt, "panns": panns}


def random_weights(name, seed=0):
    """Weights that keep the sizes of what goes through them; the front ends, which are no weights, as they are."""
    generator = torch.Generator().manual_seed(seed)
    own = KINDS[name]().network.state_dict() if name in ("openl3", "panns") else {}
    values = {}
    for part, shape in {part: shape for parts in LAYOUTS[name]() for part, shape in parts.items()}.items():
        if part.startswith(FRONT_ENDS):
            values[part] = own[part]
        elif part.endswith("num_batches_tracked"):
            values[part] = torch.tensor(7)
        elif len(shape) > 1:
            gain = math.sqrt(2 / math.prod(shape[1:]))
            values[part] = gain * torch.randn(shape, generator=generator)
        else:
            values[part] = 0.5 + torch.rand(shape, generator=generator)
    return values


def write(file, name, weights):
    """Write a file as published."""
    torch.save({"iteration": 600_000, "model": weights} if name == "panns" else weights, file)


@pytest.fixture
def published(tmp_path):
    """Make a file under its published name, of some hundred MB, with what lies beside it."""
    folder = tmp_path / "published"

    def make(name, weights):
        folder.mkdir()
        file = folder / KINDS[name].file
        write(file, name, weights)
        if name == "vggish":
            turned = np.linalg.qr(np.random.default_rng(0).normal(size=(128, 128)))[0].astype(np.float32)
            components = {"pca_eigen_vectors": turned, "pca_means": np.full(128, 0.01, dtype=np.float32)}
            torch.save(components, folder / COMPONENTS)
        return file

    yield make
    shutil.rmtree(folder)


@pytest.fixture
def tracker(tmp_path):
    return Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}")


def noise(seconds, rate_hz, seed=0):
    return np.random.default_rng(seed).normal(scale=0.1, size=round(seconds * rate_hz)).astype(np.float32)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_published_file_is_heard(published, tracker, name):
    weights = random_weights(name)
    file = published(name, weights)
    rate_hz, dimension, hop_s, dtype = FACTS[name]
    teacher = load_teacher(name, TeacherOptions(weights=str(file)), tracker)
    assert (teacher.name, teacher.sample_rate, teacher.dimension, teacher.hop_s) == (name, rate_hz, dimension, hop_s)
    assert (teacher.weights, teacher.dtype) == (file.name, dtype)
    found = teacher.network.get_submodule(teacher.network.weighed).state_dict()
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[part], weights[part]) for part in weights)
    audio = noise(2.0, rate_hz)
    got = teacher(audio)
    assert got.shape == (2 if hop_s else 1, dimension)
    assert got.dtype == np.float32
    assert np.isfinite(got).all()
    assert not np.allclose(got, teacher(noise(2.0, rate_hz, seed=1)), atol=1e-6)
    if name == "vggish":
        assert ((got == np.round(got)) & (got >= 0) & (got <= 255)).all()
    np.testing.assert_allclose(pickle.loads(pickle.dumps(teacher))(audio), got, atol=1e-4)


@pytest.mark.parametrize("name", PACKAGES)
def test_other_files_are_refused(tracker, tmp_path, name):
    def refused(why, weights=""):
        with pytest.raises(UserError, match=why):
            load_teacher(name, TeacherOptions(weights=str(weights)), tracker)

    refused(rf"teacher {name} needs its weights: get .* from .* and give it as --weights FILE")
    refused(rf"no file of weights .*gone\.pth for teacher {name}: get", tmp_path / "gone.pth")
    file = tmp_path / "weights.pth"
    torch.save({}, file)
    if name == "vggish":
        refused(r"vggish_pca_params-970ea276\.pth is missing: put .* beside weights\.pth", file)
        for components in ({}, {"pca_eigen_vectors": np.zeros((128, 1)), "pca_means": np.zeros(128)}):
            torch.save(components, tmp_path / COMPONENTS)
            refused("holds no principal components of VGGish", file)
        torch.save({"pca_eigen_vectors": np.eye(128), "pca_means": np.zeros(128)}, tmp_path / COMPONENTS)
    refused(f"the weights of .* are not those of {name}", file)
    layout = {part: shape for parts in LAYOUTS[name]() for part, shape in parts.items()}
    first = next(iter(layout))
    without = {part: shape for part, shape in layout.items() if part != first}
    for changed in (without, layout | {"of another network": (1,)}, layout | {first: (*layout[first], 2)}):
        # One zero for all of a tensor: as small a file as there can be.
        write(file, name, {part: torch.zeros(()).expand(shape) for part, shape in changed.items()})
        refused(f"the weights of .* are not those of {name}", file)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_that_is_missing(tracker, name, monkeypatch):
    for module in [module for module in sys.modules if module.split(".")[0] == PACKAGES[name]]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, PACKAGES[name], None)
    with pytest.raises(UserError, match=f"teacher {name} needs a package that is not installed .*`{INSTALL}`"):
        load_teacher(name, TeacherOptions(), tracker)


def test_arrays_are_read_and_no_code_is_run(tmp_path):
    values = {"a": np.arange(4, dtype=np.float32), "b": np.float64(3), "c": torch.ones(2)}
    torch.save(values, tmp_path / "arrays.pth")
    found = load_arrays(tmp_path / "arrays.pth")
    np.testing.assert_array_equal(found["a"], values["a"])
    assert found["b"] == 3

    class Boom:
        def __reduce__(self):
            return exec, ("raise SystemExit('code from the file ran')",)

    torch.save({"a": Boom()}, tmp_path / "boom.pth")
    with pytest.raises(UserError, match="no readable file of weights"):
        load_arrays(tmp_path / "boom.pth")
