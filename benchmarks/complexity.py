"""What students and teachers cost: parameters, multiply-adds and clips a second, side by side.

    python benchmarks/complexity.py

Every network hears the same number of clips of 10 s at its own sample rate, each in its turn in every round, on all
cores (or on the GPU). Weights are random: they make no difference to the cost. Multiply-adds are those of convolutions
and matrix products on one clip, as PyTorch counts them; the front end's Fourier transform is in the time, not in the
count. A teacher of windows hears one a second, as `timbrel embed` gives them. Networks on embeddings are without the
teacher that makes these.
"""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from timbrel import markdown, registry
from timbrel.config import with_values
from timbrel.embeddings.live import LiveTeacher
from timbrel.embeddings.teachers.network import NetworkTeacher, Penultimate, last_linear

SECONDS = 10.0
HOP_S = 1.0
DIMENSION, FRAMES = 128, 10
"""Of the embeddings that networks on embeddings hear: VGGish's, of 10 s."""
STUDENTS: dict[str, dict[str, Any]] = {
    "CP-ResNet": {},
    "Mobile FCN": {"student": "mobile_fcn"},
    "small": {"student": "small", "mixing.sample_rate": 16_000, "front_end.bands": 64},
}
ON_EMBEDDINGS = {"attention": "attention", "mean": "mean", "fc": "fc", "fc_t": "fc_t", "rnn": "rnn"}
TEACHERS = ("musicnn", "crnn")


def student(values: dict[str, Any]) -> tuple[nn.Module, torch.Tensor]:
    """Return a student and one clip for it."""
    task = registry.load("task", "clip_tagging")
    config = with_values(task.config_type(), {"mixing.seconds": SECONDS, "teacher.name": "passt", **values})
    return task.build_model(config), torch.randn(1, config.mixing.samples)


def on_embeddings(name: str) -> tuple[nn.Module, torch.Tensor]:
    """Return a network on embeddings and one clip for it."""
    task = registry.load("task", "attention_mil")
    config = with_values(task.config_type(), {"model": name, "teacher.dimension": DIMENSION})
    return task.build_model(config), torch.randn(1, FRAMES, DIMENSION)


def teacher(name: str) -> tuple[nn.Module, torch.Tensor]:
    """Return a published tagger as `timbrel embed` uses it, and one clip for it."""
    task = registry.load("task", "tagging")
    seconds = {"musicnn": 3.0, "crnn": 29.0}[name]
    values = {"backbone": name, "tags": "mtg_jamendo", "mixing.sample_rate": 16_000, "mixing.seconds": seconds}
    model = task.build_model(with_values(task.config_type(), values))
    last = last_linear(model.head)
    assert last is not None
    network = Penultimate(model, last)
    whole = NetworkTeacher(name, network, 16_000, last.in_features, HOP_S, seconds, "", "")
    return LiveTeacher(whole, 16_000), torch.randn(1, round(16_000 * SECONDS))


def networks() -> dict[str, Callable[[], tuple[nn.Module, torch.Tensor]]]:
    """Return what makes each network, by what to call it."""
    return {
        **{f"student {name}": lambda values=values: student(values) for name, values in STUDENTS.items()},
        **{f"on embeddings: {name}": lambda model=model: on_embeddings(model) for name, model in ON_EMBEDDINGS.items()},
        **{f"teacher {name}": lambda name=name: teacher(name) for name in TEACHERS},
    }


def measure(rounds: int, clips: int, batch: int) -> dict[str, Any]:
    """Return the figures of every network, alternating."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    found: dict[str, Any] = {}
    sides = {}
    for name, make in networks().items():
        network, clip = make()
        network.eval().to(device)
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            network(clip.to(device))
        sides[name] = network, clip.to(device).repeat(batch, *[1] * (clip.dim() - 1))
        found[name] = {
            "parameters": sum(each.numel() for each in network.parameters()),
            "multiply_adds": counter.get_total_flops() // 2,
            "clips_per_s": [],
        }
    with torch.inference_mode(), tqdm(total=rounds * len(sides), unit="side") as bar:
        for _, (name, (network, some)) in itertools.product(range(rounds), sides.items()):
            bar.set_description(name)
            network(some)
            began = time.perf_counter()
            for _ in range(clips // batch):
                network(some)
            if device.type == "cuda":
                torch.cuda.synchronize()
            found[name]["clips_per_s"].append(clips // batch * batch / (time.perf_counter() - began))
            bar.update()
    for row in found.values():
        speeds = row["clips_per_s"]
        row["clips_per_s"] = {"median": statistics.median(speeds), "low": min(speeds), "high": max(speeds)}
    return {"rounds": rounds, "clips": clips, "batch": batch, "device": str(device), "networks": found}


def table(figures: dict[str, Any]) -> str:
    """Return the figures for people."""
    rows = []
    for name, row in figures["networks"].items():
        speed = row["clips_per_s"]
        shown = f"{speed['median']:.3g} [{speed['low']:.3g}, {speed['high']:.3g}]"
        rows.append([name, f"{row['parameters']:,}", f"{row['multiply_adds'] / 1e6:,.1f}", shown])
    return "\n\n".join(
        [
            f"{figures['rounds']} rounds of {figures['clips']} clips of {SECONDS:g} s, {figures['batch']} at a time, "
            f"on {figures['device']}; median [range].",
            markdown.table(["network", "parameters", "million multiply-adds a clip", "clips/s"], rows),
        ]
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=16, help="clips a round and network")
    parser.add_argument("--batch", type=int, default=8, help="clips at a time")
    parser.add_argument("--json", action="store_true", help="print figures for scripts")
    arguments = parser.parse_args()
    figures = measure(arguments.rounds, arguments.clips, arguments.batch)
    print(json.dumps(figures, indent=1) if arguments.json else table(figures))


if __name__ == "__main__":
    main()
