"""Frame-level learning: examples with rolls and CQT, the training step under Ray, and prediction.

    python benchmarks/pianoroll.py --library demo/pianoroll_library

Examples: the pool of Ray actors against the loop that a user would write with librosa and pretty_midi, segment by
segment: read the song's stems, add them up, transform, and ask each instrument for its piano roll. The same segments;
CPU time is that of all processes, Ray's own included, while a long stream is read. What the machine itself gives for a
second process is known from two such loops side by side.

Step: a Ray Train worker that reads the stream, against the same model in the same process on tensors that lie ready,
with one thread, which leaves the actors a core, and with all.

Prediction: wall time for a minute of audio, its CQT included, on all cores (and on a GPU where there is one).
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pretty_midi
import ray
import ray.data
import ray.train
import ray.train.torch
import soundfile
import torch
from mixing import cpu_seconds_since, cpu_times
from tqdm import tqdm

from timbrel import config as configs
from timbrel import markdown, registry
from timbrel.config import with_values
from timbrel.library import Library
from timbrel.mixing.actors import look_ahead
from timbrel.mixing.index import StemIndex, build_index
from timbrel.mixing.plan import plan_mixture
from timbrel.mixing.pool import Pool, Stream, mix, read_batches, stream_batches
from timbrel.runtime import WORKER_ENVIRONMENT, ray_session
from timbrel.settings import Experiment
from timbrel.task import Task
from timbrel.trained import TrainedModel

BATCH = 8
WARM_BATCHES = 12
"""Read before the clock starts, and still to come when it stops."""
GOALS = {
    "cpu_ratio": ">= 1",
    "two_actors_efficiency": "linear: 1",
    "step_ratio": ">= 0.95",
}
WIDTHS = (8, 32)
"""Of the networks whose step and prediction are measured: the preset small's, and the paper's."""


# The plain loop


def instruments_of(song: int, index: StemIndex, programs: int) -> tuple[pretty_midi.Instrument, ...]:
    """Return a song's notes as pretty_midi has them after reading a MIDI file: an instrument a class."""
    found = [pretty_midi.Instrument(program=0) for _ in range(programs)]
    for stem in range(int(index.song_stems[song]), int(index.song_stems[song + 1])):
        for (begin, end), pitch, label in zip(*index.notes_of(stem), strict=True):
            found[label].notes.append(pretty_midi.Note(100, int(pitch), float(begin), float(end)))
    return tuple(found)


def plain_example(number: int, index: StemIndex, config: Any, read: dict[int, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Make the features and the roll of a segment; ``read`` keeps the songs' notes."""
    plan = plan_mixture(index, config.mixing, 0, "train", number)
    audio = np.zeros(config.mixing.samples, dtype=np.float32)
    for source in plan.sources:
        path = f"{index.root}/{index.paths[source.stem].as_py()}"
        first = round(source.start_s * config.mixing.sample_rate)
        part, _ = soundfile.read(path, config.mixing.samples, first, dtype="float32")
        audio[: len(part)] += part
    front_end, frames = config.front_end, config.fine_frames
    transformed = librosa.cqt(
        audio, sr=config.mixing.sample_rate, hop_length=front_end.hop, fmin=front_end.f_min, n_bins=front_end.bins
    )
    picture = librosa.amplitude_to_db(np.abs(transformed), ref=np.max, top_db=80.0)[:, :frames] / 80 + 1
    times = plan.sources[0].start_s + np.arange(frames) * front_end.hop / config.mixing.sample_rate
    song = index.song_of(plan.sources[0].stem)
    if song not in read:
        read[song] = instruments_of(song, index, len(config.instruments))
    rolls = []
    for instrument in read[song]:
        roll = instrument.get_piano_roll(times=times)[21 : 21 + front_end.bins] > 0
        # What pretty_midi gives at so many times is one column short.
        rolls.append(np.pad(roll, ((0, 0), (0, frames - roll.shape[1]))))
    fine = np.stack(rolls)
    return picture, fine.reshape(*fine.shape[:2], -1, config.pool).any(axis=-1)


def plain_loop(index: StemIndex, config: Any, examples: int) -> dict[str, float]:
    """Return CPU and wall time of a segment in ms."""
    read: dict[int, Any] = {}
    for number in range(BATCH):
        plain_example(number, index, config, read)
    wall, cpu = time.perf_counter(), time.process_time()
    for number in range(BATCH, BATCH + examples):
        plain_example(number, index, config, read)
    spent = time.process_time() - cpu, time.perf_counter() - wall
    return dict(zip(("cpu_ms", "wall_ms"), (seconds / examples * 1000 for seconds in spent), strict=True))


def plain_loops(index: StemIndex, config: Any, examples: int, processes: int) -> dict[str, float]:
    """Return CPU and wall time of a segment in ms, by loops side by side, each of which makes as many segments."""
    loop = ray.remote(num_cpus=1)(plain_loop)
    found = ray.get([loop.remote(index, config, examples) for _ in range(processes)])
    cpu = statistics.mean(one["cpu_ms"] for one in found)
    return {"cpu_ms": cpu, "wall_ms": max(one["wall_ms"] for one in found) / processes}


def pool(stream: Stream, examples: int, actors: int) -> dict[str, float]:
    """Return CPU and wall time of a segment in ms, in the middle of a stream."""
    length = examples + 2 * WARM_BATCHES * BATCH
    batches = read_batches(stream_batches(stream, 0, length, BATCH, Pool(actors, 0.9)), BATCH)
    for _ in range(WARM_BATCHES):
        next(batches)
    wall, before = time.perf_counter(), cpu_times()
    for _ in range(examples // BATCH):
        next(batches)
    spent = cpu_seconds_since(before), time.perf_counter() - wall
    for _ in batches:
        pass
    return dict(zip(("cpu_ms", "wall_ms"), (seconds / examples * 1000 for seconds in spent), strict=True))


def data_figures(index: StemIndex, task: Task, config: Any, rounds: int, examples: int) -> dict[str, Any]:
    """Return all sides' figures, alternating."""
    stream = Stream(ray.put(index), config.mixing, 0, "train", maker=task.example_maker(config))
    sides = {
        "plain loop": lambda: plain_loops(index, config, examples, 1),
        "2 plain loops": lambda: plain_loops(index, config, examples, 2),
        "pool, 1 actor": lambda: pool(stream, examples, 1),
        "pool, 2 actors": lambda: pool(stream, examples, 2),
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    with tqdm(total=rounds * len(sides), unit="side", file=sys.stderr) as bar:
        for _, (name, measure) in itertools.product(range(rounds), sides.items()):
            bar.set_description(name)
            found[name].append(measure())
            bar.update()
    plain, plain_two, one, two = found.values()
    return {
        "sides": {name: {key: spread([row[key] for row in rows]) for key in rows[0]} for name, rows in found.items()},
        "cpu_ratio": spread([a["cpu_ms"] / b["cpu_ms"] for a, b in zip(plain, one, strict=True)]),
        "two_loops_efficiency": _efficiency(plain, plain_two),
        "two_actors_efficiency": _efficiency(one, two),
    }


def _efficiency(one: list[dict[str, float]], two: list[dict[str, float]]) -> dict[str, float]:
    """Return what share of twice the speed of one the two have."""
    return spread([a["wall_ms"] / b["wall_ms"] / 2 for a, b in zip(one, two, strict=True)])


# The step


def timed_worker(settings: dict[str, Any]) -> None:
    """Train on the stream and on tensors that lie ready, in turn; what a Ray Train worker does."""
    from timbrel.training.loop import Learner

    torch.set_num_threads(settings["threads"])
    task = registry.load("task", "pianoroll")
    config = configs.from_json(task.config_type, settings["config"], "the benchmark")
    learner = Learner(task, config, ray.train.torch.get_device())
    batches = read_batches(ray.train.get_dataset_shard("train"), BATCH)
    ready = [next(batches) for _ in range(settings["steps"])]
    learner.train_epoch(ready[:3])
    figures = []
    for _ in range(settings["rounds"]):
        # What the pool has made in advance is used up first, or the stream would be read for nothing.
        learner.train_epoch(itertools.islice(batches, settings["ahead"]))
        begin = time.perf_counter()
        learner.train_epoch(itertools.islice(batches, settings["steps"]))
        streamed = time.perf_counter() - begin
        time.sleep(settings["rest_s"])  # the pool fills its queue and rests
        begin = time.perf_counter()
        learner.train_epoch(ready)
        figures.append({"stream": streamed, "ready": time.perf_counter() - begin})
    Path(settings["answer"]).write_text(json.dumps(figures))


def step_figures(index: StemIndex, task: Task, config: Any, rounds: int, steps: int, threads: int) -> dict[str, Any]:
    """Return the time of a step in ms on the stream and on tensors that lie ready, and their ratio."""
    stream = Stream(ray.put(index), config.mixing, 0, "train", maker=task.example_maker(config))
    ahead = 12
    total = (steps + rounds * (steps + ahead) + 2 * ahead) * BATCH
    gpu = torch.cuda.is_available()
    pool = Pool(1, 0.5)
    options = look_ahead(BATCH, BATCH * stream.example_bytes, pool)
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "figures.json"
        ray.train.torch.TorchTrainer(
            timed_worker,
            train_loop_config={
                "config": configs.to_json(config),
                "threads": threads,
                "steps": steps,
                "rounds": rounds,
                "ahead": ahead,
                "rest_s": 3.0,
                "answer": str(answer),
            },
            datasets={"train": lambda: stream_batches(stream, 0, total, BATCH, pool)},
            dataset_config=ray.train.DataConfig(execution_options=options),
            scaling_config=ray.train.ScalingConfig(num_workers=1, use_gpu=gpu, resources_per_worker={"CPU": 1}),
            run_config=ray.train.RunConfig(
                name="benchmark",
                storage_path=folder,
                worker_runtime_env={"env_vars": WORKER_ENVIRONMENT},
            ),
        ).fit()
        rows = json.loads(answer.read_text())
    return {
        "stream_ms": spread([row["stream"] / steps * 1000 for row in rows]),
        "ready_ms": spread([row["ready"] / steps * 1000 for row in rows]),
        "step_ratio": spread([row["ready"] / row["stream"] for row in rows]),
    }


# Prediction


def prediction_figures(index: StemIndex, task: Task, config: Experiment, rounds: int) -> dict[str, float]:
    """Return the seconds that a minute of audio takes."""
    model = task.build_model(config)
    trained = TrainedModel(task, config, {}, model.state_dict())
    windows = list(mix(Stream(index, config.mixing, 0, "train"), index, range(8))["audio"])  # 8 s of each are new
    list(trained.predictions(windows[:2]))
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        list(trained.predictions(windows, batch_size=8))
        seconds.append((time.perf_counter() - begin) / (len(windows) * 8) * 60)
    return spread(seconds)


def spread(values: list[float]) -> dict[str, float]:
    """Return median and range."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def measure(library: Library, rounds: int, examples: int, steps: int, widths: Sequence[int]) -> dict[str, Any]:
    """Return all figures."""
    task = registry.load("task", "pianoroll")
    base = with_values(task.config_type(), {"front_end.engine": "librosa"})
    index = build_index(library, "train", task, base)
    figures: dict[str, Any] = {"rounds": rounds, "examples": examples, "steps": steps, "cores": torch.get_num_threads()}
    with ray_session():
        cores = int(ray.cluster_resources()["CPU"])
        figures["data"] = data_figures(index, task, base, rounds, examples)
        figures["step"] = {
            f"width {width}, {threads} of {cores} cores": step_figures(
                index, task, with_values(base, {"model.width": width}), rounds, steps, threads
            )
            for width, threads in itertools.product(widths, sorted({1, cores}))
        }
    engines = ["librosa", "torch"] if torch.cuda.is_available() else ["librosa"]
    figures["prediction"] = {
        f"{width}, {engine}": prediction_figures(
            index, task, with_values(base, {"model.width": width, "front_end.engine": engine}), rounds
        )
        for width, engine in itertools.product(widths, engines)
    }
    return figures


def table(figures: dict[str, Any]) -> str:
    """Return the figures for people."""

    def cell(value: dict[str, float], digits: int = 1) -> str:
        low, high = (f"{value[key]:.{digits}f}" for key in ("low", "high"))
        return f"{value['median']:.{digits}f} [{low}, {high}]"

    data = figures["data"]
    one, two = (data["sides"][f"pool, {actors}"]["cpu_ms"]["median"] for actors in ("1 actor", "2 actors"))
    ratios = [
        ["plain loop ÷ pool, CPU of a segment (`cpu_ratio`)", cell(data["cpu_ratio"], 2), GOALS["cpu_ratio"]],
        ["from 1 to 2 actors, share of twice the speed", cell(data["two_actors_efficiency"], 2), "linear: 1"],
        [
            "from 1 to 2 plain loops, share of twice the speed",
            cell(data["two_loops_efficiency"], 2),
            "the machine's own",
        ],
        ["CPU of a segment, 1 actor ÷ 2 actors, of the medians", f"{one / two:.2f}", "linear in cores: >= 1"],
    ]
    for name, step in figures["step"].items():
        ratios.append(
            [f"step on ready tensors ÷ step under Ray, {name}", cell(step["step_ratio"], 2), GOALS["step_ratio"]]
        )
    return "\n\n".join(
        [
            f"{figures['rounds']} rounds of {figures['examples']} segments and {figures['steps']} steps, "
            f"{figures['cores']} cores; median [range].",
            markdown.table(
                ["10 s segments with CQT and rolls", "CPU ms a segment", "wall ms a segment"],
                [[name, cell(row["cpu_ms"]), cell(row["wall_ms"])] for name, row in data["sides"].items()],
            ),
            markdown.table(["ratio", "measured", "goal"], ratios),
            markdown.table(
                ["width, cores of the trainer", "ms a step under Ray", "ms a step on ready tensors"],
                [[name, cell(row["stream_ms"], 0), cell(row["ready_ms"], 0)] for name, row in figures["step"].items()],
            ),
            markdown.table(
                ["prediction: width, engine", "s for a minute of audio"],
                [[name, cell(value, 2)] for name, value in figures["prediction"].items()],
            ),
        ]
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=Path, required=True, help="a prepared library with notes, at 16 kHz")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--examples", type=int, default=480, help="segments a round and side")
    parser.add_argument("--steps", type=int, default=20, help="training steps a round and side")
    parser.add_argument("--widths", type=int, nargs="+", default=list(WIDTHS), help="of the networks")
    parser.add_argument("--json", action="store_true", help="print figures for scripts")
    arguments = parser.parse_args()
    library = Library.open(arguments.library)
    figures = measure(library, arguments.rounds, arguments.examples, arguments.steps, arguments.widths)
    print(json.dumps(figures, indent=1) if arguments.json else table(figures))


if __name__ == "__main__":
    main()
