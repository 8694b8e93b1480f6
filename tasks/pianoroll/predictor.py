"""A recording as a multitrack MIDI file, its rolls, and a picture of them."""

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from tasks.pianoroll.config import PianorollConfig
from tasks.pianoroll.instruments import export_program
from tasks.pianoroll.rolls import PITCH, ROLL, Rolls
from timbrel.figures import pianoroll_figure
from timbrel.multitrack import write_midi, write_rolls
from timbrel.recording import mono_blocks
from timbrel.stitching import Counted, Windows

if TYPE_CHECKING:
    from timbrel.trained import TrainedModel


class PianorollPredictor:
    """NAME.mid, NAME.npz, NAME.json and NAME.png."""

    def read(self, trained: "TrainedModel", file: Path) -> np.ndarray:
        """Return the network's outputs on a recording of any length, float16 ``(instrument, pitch, frame)``."""
        config = trained.config
        assert isinstance(config, PianorollConfig)
        windows = windows_of(config)
        with contextlib.closing(mono_blocks(file, config.mixing.sample_rate)) as blocks:
            counted = Counted(blocks)
            with tqdm(windows.cut(counted, str(file)), desc=file.name, unit="window", leave=False) as cut:
                logits = (found["logits"] for found in trained.predictions(cut, batch_size=8))
                return windows.join(logits, lambda: counted.samples).astype(np.float16)

    def write(self, trained: "TrainedModel", file: Path, found: np.ndarray, stem: Path) -> tuple[str, tuple[str, ...]]:
        """Write the files and return which instruments play, the longest first."""
        config = trained.config
        assert isinstance(config, PianorollConfig)
        names, grid = config.instruments, config.grid
        rolls = Rolls.of(found[None])
        decided = rolls.roll[0] >= trained.thresholds[ROLL]
        write_midi(
            decided,
            [(name, export_program(name)) for name in names],
            grid.frame_s,
            Path(f"{stem}.mid"),
            low=grid.lowest,
        )
        write_rolls(
            Path(f"{stem}.npz"),
            roll=rolls.roll[0],
            pitch=rolls.pitch[0],
            instrument=rolls.instrument[0],
            roll_on=decided,
            pitch_on=rolls.pitch[0] >= trained.thresholds[PITCH],
            instrument_on=rolls.instrument[0] >= np.array([[trained.thresholds[name]] for name in names]),
            classes=names,
            frame_s=grid.frame_s,
            low=grid.lowest,
        )
        figure = pianoroll_figure(decided, names, grid.frame_s, low=grid.lowest, title=file.name)
        figure.savefig(f"{stem}.png")
        seconds = decided.any(axis=1).sum(axis=1) * grid.frame_s
        playing = {names[i]: round(float(seconds[i]), 2) for i in np.argsort(-seconds) if seconds[i] > 0}
        answer = {
            "file": file.name,
            "task": trained.task.name,
            "thresholds": trained.thresholds,
            "seconds_played": playing,
        }
        Path(f"{stem}.json").write_text(json.dumps(answer, indent=1))
        words = ", ".join(f"{name} {played:.0f} s" for name, played in playing.items()) or "no note"
        return words, (".mid", ".npz", ".json", ".png")


def windows_of(config: "PianorollConfig") -> Windows:
    """Return how a recording is cut for a model: windows of its length, less what makes no whole frame."""
    grid = config.grid
    return Windows.overlapping(grid.frames * config.front_end.hop * config.pool, grid.frames, config.mixing.sample_rate)
