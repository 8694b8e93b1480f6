"""Make ``expected.json``: what the published taggers answer, computed without PyTorch and without this project's code.

The nets are written down here a second time, in NumPy, from the shapes in the authors' weight files and the
description of their code (``minzwon/sota-music-tagging-models``, MIT): power spectrum (512-point Hann window, hop 256,
centred with reflection), 96 HTK mel bands from 0 to 8 kHz, 10 log10(max(x, 1e-10)), then each net as published.

For each net there are two answers. One is for weights drawn here from a seed, in the layout of the authors' files
(``seeded_weights``), so that the fixture needs no file that is not in this repository. The other is for the authors'
own weights, where a folder of them is given:

    python tests/published/make_expected.py --weights FOLDER

FOLDER holds ``jamendo_crnn.pth``, ``mtat_musicnn.pth`` and so on. Reading those files is the one thing PyTorch is used
for. A check of both kinds of answer is in ``test_published.py``.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.signal import get_window

HERE = Path(__file__).parent
RATE = 16_000
SECONDS = {"crnn": 4.0, "fcn": 20.8, "musicnn": 3.0}

CONVOLUTIONS = {
    "crnn": [(1, 64), (64, 128), (128, 128), (128, 128)],
    "fcn": [(1, 64), (64, 128), (128, 128), (128, 128), (128, 64)],
}
POOLS = {
    "crnn": [(2, 2), (3, 3), (4, 4), (4, 4)],
    "fcn": [(2, 4), (2, 4), (2, 4), (3, 5), (4, 4)],
}


def shapes(net):
    """The names and shapes of a weight file's tensors, without those of the front end."""
    found = {}

    def layer(name, *shape):
        found[f"{name}.weight"], found[f"{name}.bias"] = shape, (shape[0],)

    def norm(name, channels):
        for part in ("weight", "bias", "running_mean", "running_var"):
            found[f"{name}.{part}"] = (channels,)

    norm("spec_bn", 1)
    for number, (before, after) in enumerate(CONVOLUTIONS.get(net, []), start=1):
        layer(f"layer{number}.conv", after, before, 3, 3)
        norm(f"layer{number}.bn", after)
    if net == "crnn":
        for level, width in enumerate((128, 32)):
            for kind, columns in (("ih", width), ("hh", 32)):
                found[f"layer5.weight_{kind}_l{level}"] = (96, columns)
                found[f"layer5.bias_{kind}_l{level}"] = (96,)
        layer("dense", 50, 32)
    if net == "fcn":
        layer("dense", 50, 64)
    if net == "musicnn":
        for number, shape in enumerate([(204, 1, 67, 7), (204, 1, 38, 7), (51, 1, 129), (51, 1, 65), (51, 1, 33)]):
            layer(f"layers.{number}.conv", *shape)
            norm(f"layers.{number}.bn", shape[0])
        for number, before in enumerate((561, 64, 64), start=1):
            layer(f"layer{number}.conv", 64, before, 7)
            norm(f"layer{number}.bn", 64)
        layer("dense1", 200, 1506)
        norm("bn", 200)
        layer("dense2", 50, 200)
    return found


def seeded_weights(net):
    """Weights in the authors' layout, float32, drawn so that no layer saturates."""
    generator = np.random.default_rng(len(net))
    weights = {"spec.spectrogram.window": get_window("hann", 512).astype(np.float32)}
    weights["spec.mel_scale.fb"] = mel_filterbank().astype(np.float32)
    for name, shape in shapes(net).items():
        draw = generator.normal(size=shape)
        if name.endswith("running_var"):
            draw = 0.5 + np.abs(draw)
        elif name.startswith("spec_bn"):
            draw = {"weight": 1.0, "bias": 0.1, "running_mean": -30.0}[name.split(".")[1]] + 0.01 * draw
        elif ".bn." in name or name.startswith("bn."):
            draw = (1.0 if name.endswith(".weight") else 0.0) + 0.1 * draw
        elif "weight" in name:
            draw = draw * np.sqrt(2 / np.prod(shape[1:]))
        else:
            draw = 0.1 * draw
        weights[name] = draw.astype(np.float32)
    weights["spec_bn.running_var"] = np.array([400.0], dtype=np.float32)
    return weights


def test_signal(seconds):
    """A chord that enters note by note over noise bursts: float32 ``(sample,)``."""
    time_s = np.arange(int(seconds * RATE)) / RATE
    chord = sum(
        np.sin(2 * np.pi * hz * time_s) * (time_s > start) * np.exp(-((time_s - start) % 1.7))
        for hz, start in ((220.0, 0.0), (277.2, 0.4), (329.6, 0.8), (1318.5, 1.1))
    )
    # A noise without a random generator, whose bits would have to stay the same for ever.
    noise = np.sin(1e4 * np.sin(np.arange(len(time_s)) * 12.9898)) * ((time_s % 0.5) < 0.1)
    return (0.15 * chord + 0.05 * noise).astype(np.float32)


def mel_filterbank():
    """96 triangles on the HTK mel scale, not normalised: ``(257, 96)``."""
    edges_mel = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 98)
    edges_hz = 700 * (10 ** (edges_mel / 2595) - 1)
    bins_hz = np.linspace(0, RATE / 2, 257)
    rising = (bins_hz[:, None] - edges_hz[:-2]) / np.diff(edges_hz)[:-1]
    falling = (edges_hz[2:] - bins_hz[:, None]) / np.diff(edges_hz)[1:]
    return np.maximum(0, np.minimum(rising, falling))


def front_end(audio, w):
    """Normalised log-mel spectrogram: ``(1, 96, frame)``."""
    padded = np.pad(audio.astype(np.float64), 256, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, 512)[::256]
    power = np.abs(np.fft.rfft(frames * w["spec.spectrogram.window"], axis=1)) ** 2
    decibel = 10 * np.log10(np.maximum(power @ w["spec.mel_scale.fb"], 1e-10))
    return norm(decibel.T[None], w, "spec_bn")


def norm(x, w, name):
    """Batch norm with stored statistics over the first axis."""
    scale = w[f"{name}.weight"] / np.sqrt(w[f"{name}.running_var"] + 1e-5)
    shift = w[f"{name}.bias"] - w[f"{name}.running_mean"] * scale
    tail = (1,) * (x.ndim - 1)
    return x * scale.reshape(-1, *tail) + shift.reshape(-1, *tail)


def convolve(x, w, name, padding):
    """A convolution over the axes after the first, as a sum over the kernel's cells."""
    kernel, bias = w[f"{name}.weight"], w[f"{name}.bias"]
    x = np.pad(x, [(0, 0), *((p, p) for p in padding)])
    size = kernel.shape[2:]
    out_shape = tuple(n - k + 1 for n, k in zip(x.shape[1:], size, strict=True))
    out = np.zeros((kernel.shape[0], *out_shape))
    for cell in np.ndindex(*size):
        part = x[(slice(None), *(slice(c, c + n) for c, n in zip(cell, out_shape, strict=True)))]
        out += np.tensordot(kernel[(slice(None), slice(None), *cell)], part, axes=1)
    return out + bias.reshape(-1, *(1,) * len(size))


def relu(x):
    return np.maximum(x, 0)


def pool(x, height, width):
    rows, columns = x.shape[1] // height, x.shape[2] // width
    return x[:, : rows * height, : columns * width].reshape(len(x), rows, height, columns, width).max(axis=(2, 4))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru(x, w, level):
    """A recurrent layer with PyTorch's gate order (reset, update, new): ``(step, in)`` to ``(step, 32)``."""
    from_input = x @ w[f"layer5.weight_ih_l{level}"].T + w[f"layer5.bias_ih_l{level}"]
    state, states = np.zeros(32), []
    for inputs in from_input:
        own = w[f"layer5.weight_hh_l{level}"] @ state + w[f"layer5.bias_hh_l{level}"]
        reset, update = sigmoid(inputs[:64] + own[:64]).reshape(2, 32)
        new = np.tanh(inputs[64:] + reset * own[64:])
        state = (1 - update) * new + update * state
        states.append(state)
    return np.array(states)


def embed(net, x, w):
    """What a net hands to its classifier: ``(channel,)``; for the CRNN also the maximum of its convolutions."""
    if net in POOLS:
        for number, sizes in enumerate(POOLS[net], start=1):
            x = pool(relu(norm(convolve(x, w, f"layer{number}.conv", (1, 1)), w, f"layer{number}.bn")), *sizes)
        if net == "fcn":
            return x[:, 0, 0], None
        steps = x[:, 0].T
        return gru(gru(steps, w, 0), w, 1)[-1], steps.max(axis=0)
    parts = []
    for number in range(5):
        if number < 2:
            part = relu(norm(convolve(x, w, f"layers.{number}.conv", (0, 3)), w, f"layers.{number}.bn")).max(axis=1)
        else:
            length = w[f"layers.{number}.conv.weight"].shape[2]
            mean = x.mean(axis=1)
            part = relu(norm(convolve(mean, w, f"layers.{number}.conv", (length // 2,)), w, f"layers.{number}.bn"))
        parts.append(part)
    front = np.concatenate(parts)

    def dense(inputs, number):
        return relu(norm(convolve(inputs, w, f"layer{number}.conv", (3,)), w, f"layer{number}.bn"))

    first = dense(front, 1)
    second = dense(first, 2) + first
    third = dense(second, 3) + second
    features = np.concatenate([front, first, second, third])
    return np.concatenate([features.max(axis=1), features.mean(axis=1)]), None


def answer(net, w):
    """Probabilities of the 50 tags, and statistics of what lies before, for the test signal."""
    w = {name: np.asarray(values, dtype=np.float64) for name, values in w.items()}
    picture = front_end(test_signal(SECONDS[net]), w)
    embedding, convolutions = embed(net, picture, w)
    if net == "musicnn":
        hidden = relu(norm(w["dense1.weight"] @ embedding + w["dense1.bias"], w, "bn"))
        logits = w["dense2.weight"] @ hidden + w["dense2.bias"]
    else:
        logits = w["dense.weight"] @ embedding + w["dense.bias"]
    result = {
        "log_mel_mean": float(picture.mean()),
        "log_mel_std": float(picture.std()),
        "embedding": np.round(embedding, 6).tolist(),
        "probabilities": np.round(sigmoid(logits), 7).tolist(),
    }
    if convolutions is not None:
        result["convolutions"] = np.round(convolutions, 6).tolist()
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, help="folder of the authors' .pth files")
    folder = parser.parse_args().weights
    expected = {"seeded": {net: answer(net, seeded_weights(net)) for net in SECONDS}, "real": {}}
    for file in sorted(folder.glob("*.pth")) if folder else []:
        import torch

        state = torch.load(file, map_location="cpu", weights_only=True)
        weights = {name: tensor.numpy() for name, tensor in state.items() if "num_batches" not in name}
        expected["real"][file.stem] = answer(file.stem.split("_")[1], weights)
    (HERE / "expected.json").write_text(json.dumps(expected, indent=None, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
