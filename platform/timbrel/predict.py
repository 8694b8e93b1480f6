"""`timbrel predict`: who plays in a recording, second by second and as a whole."""

import contextlib
import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
from tqdm import tqdm

from timbrel import config as configs
from timbrel import registry
from timbrel.errors import UserError
from timbrel.figures import activity_figure
from timbrel.library import safe_name
from timbrel.recording import mono_blocks, windows_of
from timbrel.spread import spread
from timbrel.task import Predictor, Task
from timbrel.taxonomy import PARENT
from timbrel.tracking import Tracker
from timbrel.trained import TrainedModel, load_weights

HOP_S = 1.0
"""One row of the output for each second."""
WHOLE_FILE_SHARE = 0.1
"""A class is present in a file as a whole if it is in at least this share of its seconds. Ours: the highest
probability of all seconds, the usual choice for short clips, finds nearly every class in a song of some minutes."""
UNKNOWN_THRESHOLD = 0.5
"""Of published networks, which come without thresholds."""
WEIGHT_FILES = (".pth", ".pt")


def load_trained(source: str, tracker: Tracker, task: str | None, values: Mapping[str, Any]) -> TrainedModel:
    """Return the model that predicts.

    Args:
        source: a run's id, a folder (exported, or a run's ``model``), or a file of published weights.
        tracker: where runs are looked for.
        task: for a file of weights, the task that knows the network.
        values: what the user says of it, by config field: of a file of weights all that it doesn't say, of a trained
            model how it gets what it hears (``Task.given_later``).

    Raises:
        UserError: no such model, a file of weights of which too little was said, or a value that is part of the model.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return _told(TrainedModel.load(path), values)
    if path.is_file() or path.suffix in WEIGHT_FILES:
        weights = load_weights(path)
        if task is None:
            raise UserError(
                f"{path} holds weights alone: say what they are of, for instance --task tagging --config "
                "tags=mtg_jamendo, or give a run's id or an exported folder."
            )
        chosen: Task = registry.load("task", task)
        config, model = chosen.from_weights(weights, source, values)
        thresholds = dict.fromkeys(chosen.classes(config), UNKNOWN_THRESHOLD)
        return TrainedModel(chosen, config, thresholds, model.state_dict())
    with tracker.artifacts(source, "model") as folder:
        return _told(TrainedModel.load(folder), values)


def _told(trained: TrainedModel, values: Mapping[str, Any]) -> TrainedModel:
    """Return a trained model with what is said of it later in its config.

    Raises:
        UserError: it is part of the model.
    """
    allowed = trained.task.given_later
    for path in values:
        if path not in allowed:
            takes = f"only {', '.join(allowed)} can be given" if allowed else "leave --config out"
            raise UserError(f"'{path}' belongs to the trained model of task {trained.task.name}: {takes}.")
    return replace(trained, config=configs.with_values(trained.config, values))


def predict_files(files: Sequence[Path], trained: TrainedModel, out: Path) -> None:
    """Write what is heard in each file (see ``Task.predictor``), going on past those that can't be read.

    The files are spread over the Ray cluster if this process is connected to one, else done one after the other: on
    one machine the network uses all cores for each.

    Raises:
        UserError: no file is given, or (after the others were done) files that could not be read.
    """
    if not files:
        raise UserError("which recordings? Name at least one file: timbrel predict song.wav --run RUN.")
    out.mkdir(parents=True, exist_ok=True)
    names = dict(enumerate(_output_names(files)))
    gpus = 1.0 if ray.is_initialized() and ray.cluster_resources().get("GPU", 0) else 0.0
    answers = spread(_Predict(trained), enumerate(file.absolute() for file in files), gpus=gpus)
    failures: dict[int, str] = {}
    for number, found in tqdm(answers, total=len(files), unit="file", disable=len(files) == 1, leave=False):
        file, stem = files[number], out / names[number]
        if isinstance(found, str):
            failures[number] = found
            continue
        words, endings = predictor_of(trained).write(trained, file, found, stem)
        tqdm.write(f"{file}: {words}\n    {stem}{', '.join(endings)}")
    if failures:
        raise UserError("; ".join(failures[number] for number in sorted(failures)))


def _in_words(trained: TrainedModel, whole: np.ndarray) -> str:
    """Return what is present in a file, or the likeliest: a tagger without chosen thresholds often finds nothing."""
    values = dict(zip(trained.classes, whole, strict=True))
    present = [name for name, threshold in trained.class_thresholds.items() if values[name] >= threshold]
    shown = present or sorted(values, key=lambda name: -values[name])[:3]
    return ("" if present else "nothing above its threshold; highest ") + ", ".join(
        f"{name} {values[name]:.2f}" for name in shown
    )


class SecondBySecond:
    """Probabilities of the classes in each second: NAME.csv, NAME.json and NAME.png."""

    def read(self, trained: TrainedModel, file: Path) -> np.ndarray:
        """Return the probability of each class in each second of a file: ``(second, class)``."""
        if trained.task.hears_embeddings(trained.config):
            raise UserError(
                f"{file}: the model hears the embeddings '{trained.config.taught_by.name}' of clips and no sound: name "
                "a run that was trained on sound."
            )
        return predict_file(trained, file)

    def write(self, trained: TrainedModel, file: Path, found: np.ndarray, stem: Path) -> tuple[str, tuple[str, ...]]:
        """Write a table, the same with decisions, and a picture."""
        _write(trained, file, found, stem)
        return _in_words(trained, whole_file(found)), (".csv", ".json", ".png")


def predictor_of(trained: TrainedModel) -> Predictor:
    """Return what reads recordings with a model."""
    return trained.task.predictor or SecondBySecond()


class _Predict:
    """What reads a recording, with its model, in a form that pickles; what can't be read comes back as the reason."""

    def __init__(self, trained: TrainedModel) -> None:
        self.trained = trained

    def __call__(self, item: tuple[int, Path]) -> tuple[int, Any]:
        number, file = item
        try:
            return number, predictor_of(self.trained).read(self.trained, file)
        except UserError as error:
            return number, str(error)


def predict_file(trained: TrainedModel, file: Path) -> np.ndarray:
    """Return the probability of each class in each second of a file: ``(second, class)``.

    Second ``t`` is judged by the window of the model's length around its middle, silence beyond the ends.

    Raises:
        UserError: the file is missing, not audio, or holds no sound.
    """
    rate, samples = trained.config.mixing.sample_rate, trained.config.mixing.samples
    with (
        contextlib.closing(mono_blocks(file, rate)) as blocks,
        # Closed here: an error's traceback keeps the bar alive, which would then draw over the error's message.
        tqdm(windows_of(blocks, round(HOP_S * rate), samples), desc=file.name, unit="s", leave=False) as windows,
    ):
        rows = list(trained.probabilities(windows))
    if not rows:
        raise UserError(f"{file} holds no audio.")
    return np.stack(rows)


def whole_file(probabilities: np.ndarray) -> np.ndarray:
    """Return the probability that each class reaches in a tenth of the seconds: ``(second, class)`` to ``(class,)``."""
    needed = max(1, int(np.ceil(WHOLE_FILE_SHARE * len(probabilities))))
    return np.sort(probabilities, axis=0)[-needed]


def _write(trained: TrainedModel, file: Path, probabilities: np.ndarray, stem: Path) -> None:
    whole = whole_file(probabilities)
    thresholds = np.array(list(trained.class_thresholds.values()))
    with open(f"{stem}.csv", "w", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(["second", *trained.classes])
        for second, row in enumerate(probabilities):
            writer.writerow([second, *(f"{value:.4f}" for value in row)])
    answer = {
        "file": file.name,
        "task": trained.task.name,
        "whole_file": f"the probability reached in {WHOLE_FILE_SHARE:.0%} of the seconds",
        "classes": {
            name: {
                "threshold": float(threshold),
                "probability": round(float(value), 4),
                "present": bool(value >= threshold),
            }
            for (name, threshold), value in zip(trained.class_thresholds.items(), whole, strict=True)
        },
        "seconds": [
            {
                "second": second,
                "present": [name for name, on in zip(trained.classes, row >= thresholds, strict=True) if on],
                "probabilities": [round(float(value), 4) for value in row],
            }
            for second, row in enumerate(probabilities)
        ],
    }
    Path(f"{stem}.json").write_text(json.dumps(answer, indent=1))
    figure = activity_figure(probabilities, trained.classes, thresholds, whole, title=file.name, parents=PARENT)
    figure.savefig(f"{stem}.png")


def _output_names(files: Sequence[Path]) -> list[str]:
    """Return a name for each file's outputs: its own without the ending, numbered where several share one."""
    names: list[str] = []
    for file in files:
        own = file.stem if file.stem.strip(".") else safe_name(file.name)  # of "..wav" it would be a folder's
        name, number = own, 2
        while name in names:
            name, number = f"{own}-{number}", number + 1
        names.append(name)
    return names
