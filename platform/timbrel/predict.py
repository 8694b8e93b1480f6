"""`timbrel predict`: who plays in a recording, second by second and as a whole."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from timbrel.errors import UserError
from timbrel.figures import activity_figure
from timbrel.taxonomy import PARENT
from timbrel.tracking import Tracker
from timbrel.trained import TrainedModel

HOP_S = 1.0
"""One row of the output for each second."""
WHOLE_FILE_SHARE = 0.1
"""A class is present in a file as a whole if it is in at least this share of its seconds. Ours: the highest
probability of all seconds, the usual choice for short clips, finds nearly every class in a song of some minutes."""
BLOCK_S = 30.0
"""Audio is read this much at a time, so that long files need little memory."""


def predict_files(files: Sequence[Path], source: str, out: Path, tracker: Tracker) -> None:
    """Write NAME.csv, NAME.json and NAME.png for each file, going on past those that can't be read.

    ``source`` is a run id or a folder that holds a trained model.

    Raises:
        UserError: no file is given, no such model, or (after the others were done) files that could not be read.
    """
    if not files:
        raise UserError("which recordings? Name at least one file: timbrel predict song.wav --run RUN.")
    if Path(source).is_dir():
        trained = TrainedModel.load(Path(source))
    else:
        with tracker.artifacts(source, "model") as folder:
            trained = TrainedModel.load(folder)
    out.mkdir(parents=True, exist_ok=True)
    failures = []
    for file, name in zip(files, _output_names(files), strict=True):
        try:
            probabilities = predict_file(trained, file)
        except UserError as error:
            failures.append(str(error))
            continue
        _write(trained, file, probabilities, out / name)
        whole = whole_file(probabilities)
        present = [
            f"{label} {value:.2f}"
            for (label, threshold), value in zip(trained.thresholds.items(), whole, strict=True)
            if value >= threshold
        ]
        print(f"{file}: {', '.join(present) or 'nothing above its threshold'}\n    {out / name}.csv, .json, .png")
    if failures:
        raise UserError("; ".join(failures))


def predict_file(trained: TrainedModel, file: Path) -> np.ndarray:
    """Return the probability of each class in each second of a file: ``(second, class)``.

    Second ``t`` is judged by the window of the model's length around its middle, silence beyond the ends.

    Raises:
        UserError: the file is missing, not audio, or holds no sound.
    """
    rate, samples = trained.config.mixing.sample_rate, trained.config.mixing.samples
    try:
        total = soundfile.info(file).duration
        windows = tqdm(
            _windows(file, rate, samples),
            total=int(np.ceil(total / HOP_S)),
            desc=file.name,
            unit="s",
            leave=False,
        )
        rows = list(trained.probabilities(windows))
    except (soundfile.LibsndfileError, OSError) as error:
        raise UserError(f"{file} can't be read as audio ({error}): give wav, flac, ogg, mp3 or aiff.") from None
    if not rows:
        raise UserError(f"{file} holds no audio.")
    return np.stack(rows)


def whole_file(probabilities: np.ndarray) -> np.ndarray:
    """Return the probability that each class reaches in a tenth of the seconds: ``(second, class)`` to ``(class,)``."""
    needed = max(1, int(np.ceil(WHOLE_FILE_SHARE * len(probabilities))))
    return np.sort(probabilities, axis=0)[-needed]


def _windows(file: Path, rate: int, samples: int) -> Iterator[np.ndarray]:
    """Yield the window ``(sample,)`` around the middle of each second, reading the file block by block."""
    hop = round(HOP_S * rate)
    lead = (samples - hop) // 2
    # What is held: the audio from the next window's first sample on; silence before the beginning of the file.
    held = np.zeros(max(lead, 0), dtype=np.float32)
    skip = max(-lead, 0)
    length = emitted = 0
    for block in _mono_blocks(file, rate):
        length += len(block)
        held = np.concatenate([held, block])
        while len(held) >= skip + samples:
            yield held[skip : skip + samples]
            held = held[hop:]
            emitted += 1
    for _ in range(emitted, int(np.ceil(length / hop))):
        window = held[skip : skip + samples]
        yield np.pad(window, (0, samples - len(window)))
        held = held[hop:]


def _mono_blocks(file: Path, rate: int) -> Iterator[np.ndarray]:
    with soundfile.SoundFile(file) as opened:
        stored = opened.samplerate
        resampler = soxr.ResampleStream(stored, rate, 1, dtype="float32") if stored != rate else None
        for block in opened.blocks(round(BLOCK_S * stored), dtype="float32", always_2d=True):
            mono = block.mean(axis=1)
            if not np.isfinite(mono).all():
                raise UserError(f"{file} holds NaN or infinite samples.")
            yield resampler.resample_chunk(mono) if resampler else mono
        if resampler:
            yield resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True)


def _write(trained: TrainedModel, file: Path, probabilities: np.ndarray, stem: Path) -> None:
    whole = whole_file(probabilities)
    thresholds = np.array(list(trained.thresholds.values()))
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
            for (name, threshold), value in zip(trained.thresholds.items(), whole, strict=True)
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
        name, number = file.stem, 2
        while name in names:
            name, number = f"{file.stem}-{number}", number + 1
        names.append(name)
    return names
