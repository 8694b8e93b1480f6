"""The targets, model, objective and evaluation of frame-level multitask learning."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from tasks.pianoroll import activity
from tasks.pianoroll.config import PianorollConfig
from tasks.pianoroll.instruments import heard_classes, note_classes
from tasks.pianoroll.losses import losses
from tasks.pianoroll.model import PianorollNet, Probabilities
from tasks.pianoroll.predictor import PianorollPredictor
from tasks.pianoroll.rolls import PITCH, ROLL, Rolls, active_shares
from timbrel import transcription
from timbrel.errors import UserError
from timbrel.figures import pianoroll_figure
from timbrel.mixing.examples import RollExamples
from timbrel.mixing.index import StemIndex
from timbrel.mixing.rolls import instrument_roll, pitch_roll
from timbrel.models.cqt import Cqt
from timbrel.note_metrics import evaluate_notes
from timbrel.outputs import Outputs
from timbrel.task import Task

PICTURES = 3
"""Windows of the test split that are drawn, each of another song."""

SMALL = {
    "model.width": 16,
    "training.optimizer": "adam",
    "lr": 3e-3,
    "training.epochs": 12,
    "training.batches_per_epoch": 50,
    "training.decay": 0.3,
    "training.decay_steps": 3,
    "evaluation.valid_examples": 120,
    "evaluation.test_examples": 0,
    "evaluation.roll_rule": "chosen",
}
"""A network half as wide on 4,800 segments: some minutes on two cores."""

SMOKE = {
    **SMALL,
    "model.width": 8,
    "training.epochs": 2,
    "training.batches_per_epoch": 4,
    "evaluation.valid_examples": 12,
    "evaluation.test_examples": 12,
}
"""Only to see the path run."""

AUTHORS = {"lr": 0.01, "loss.scaling": "fixed", "loss.roll": 2.0, "loss.class_weights": "rare"}
"""Where the authors' code differs from the paper."""


class Pianoroll(Task[PianorollConfig]):
    """Who plays which note when."""

    name = "pianoroll"
    summary = "pianoroll, pitch and instrument by frame, from one U-net (Hung et al., ICASSP 2019)"
    config_type = PianorollConfig
    presets = MappingProxyType({"paper": {}, "authors": AUTHORS, "small": SMALL, "smoke": SMOKE})
    headline = MappingProxyType(
        {
            "frame F1": "f1_micro",
            "pitch acc.": "pitch_accuracy",
            "pianoroll acc.": "roll_accuracy",
        }
    )
    loss_of_outputs = False
    judged_by = ("evaluation.truth",)
    predictor = PianorollPredictor()

    def classes(self, config: PianorollConfig) -> tuple[str, ...]:
        return config.instruments

    def stem_labels(self, instruments: Sequence[str], programs: np.ndarray, config: PianorollConfig) -> np.ndarray:
        if config.evaluation.truth == "activity":
            return heard_classes(instruments, programs, config.instruments)
        return note_classes(programs, config.instruments)[:, None] == np.arange(len(config.instruments))

    def note_classes(self, programs: np.ndarray, config: PianorollConfig) -> np.ndarray | None:
        return note_classes(programs, config.instruments) if config.evaluation.truth == "notes" else None

    def example_maker(self, config: PianorollConfig) -> RollExamples:
        by_notes = config.evaluation.truth == "notes"
        return RollExamples(
            classes=len(config.instruments) + (0 if by_notes else activity.MORE),
            pitched=by_notes,
            grid=config.grid,
            sample_rate=config.mixing.sample_rate,
            samples=config.mixing.samples,
            cqt=None if config.front_end.engine == "torch" else config.front_end,
        )

    def settled(self, config: PianorollConfig, index: Callable[[], StemIndex], gpu: bool) -> PianorollConfig:
        if config.evaluation.truth == "activity":
            raise UserError(
                "evaluation.truth=activity is for `timbrel evaluate`: without notes there is nothing to learn from, so "
                "leave it out and train on a library that has them."
            )
        if config.front_end.engine == "auto":
            config = replace(config, front_end=replace(config.front_end, engine="torch" if gpu else "librosa"))
        if config.loss.class_weights == "rare" and not config.loss.class_shares:
            shares = active_shares(index(), len(config.instruments))
            config = replace(config, loss=replace(config.loss, class_shares=tuple(map(float, shares))))
        return config

    def build_model(self, config: PianorollConfig) -> PianorollNet:
        front_end = Cqt(config.front_end, config.mixing.sample_rate) if config.front_end.engine == "torch" else None
        return PianorollNet(
            config.model, len(config.instruments), config.front_end.bins, pool=config.pool, front_end=front_end
        )

    def parameter_groups(self, model: nn.Module, config: PianorollConfig) -> list[dict[str, Any]]:
        # The authors add the loss up over the batch, here it is the mean: the same step is a learning rate as many
        # times as high, and a weight decay as many times as low.
        training = config.training
        items = training.batch_size if training.schedule == "decay" and training.optimizer == "sgd" else 1
        rates = {"lr": config.lr * items, "weight_decay": config.weight_decay / items}
        return [{"name": "all", "params": list(model.parameters()), **rates}]

    def losses(
        self, outputs: torch.Tensor, batch: Mapping[str, torch.Tensor], config: PianorollConfig
    ) -> dict[str, torch.Tensor]:
        terms = losses(outputs, batch["roll"], config.loss)
        return {"loss": terms.pop("loss"), **{f"loss_{name}": term for name, term in terms.items()}}

    def predictions(self, outputs: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": outputs.half()}

    def clip_scores(self, prediction: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.asarray(Rolls.of(prediction["logits"][None]).instrument[0].max(axis=-1))

    def answer(self, config: PianorollConfig) -> str:
        mixing, grid = config.mixing, config.grid
        return (
            f"Which of {len(config.instruments)} instruments (`labels.txt`) plays which note when, in mono sound at "
            f"{mixing.sample_rate} Hz: {mixing.seconds:g} s at a time, in frames of {1000 * grid.frame_s:g} ms and "
            f"{grid.pitches} pitches from MIDI note {grid.lowest} on."
        )

    def usage(self, config: PianorollConfig) -> str:
        return (
            "\nA clip's probability of an instrument is the highest of its frames. The frames themselves:\n\n"
            "    from tasks.pianoroll.rolls import Rolls\n\n"
            '    for found in model.predictions(waveforms):\n        rolls = Rolls.of(found["logits"][None])\n'
            f'        playing = rolls.roll[0] >= model.thresholds["{ROLL}"]  # (instrument, pitch, frame)\n'
        )

    def onnx_network(self, model: nn.Module, config: PianorollConfig) -> tuple[nn.Module, Mapping[str, str]]:
        if config.front_end.engine != "torch":
            raise UserError(
                "the model was trained with front_end.engine=librosa, which computes the CQT outside of the network, "
                "so that ONNX can't hold it: leave out --onnx, or train with --config front_end.engine=torch."
            )
        shapes = ("(batch, instrument, pitch, frame)", "(batch, pitch, frame)", "(batch, instrument, frame)")
        return Probabilities(model), dict(zip(("pianoroll", "pitch_roll", "instrument_roll"), shapes, strict=True))

    def outputs(
        self, examples: Mapping[str, np.ndarray], predictions: Mapping[str, np.ndarray], config: PianorollConfig
    ) -> Outputs:
        """Return one row a frame."""
        playing = instrument_roll(examples["roll"])
        labels, scores = (
            np.moveaxis(values, 1, 2).reshape(-1, len(config.instruments)).astype(np.float32)
            for values in (playing[:, : len(config.instruments)], Rolls.of(predictions["logits"]).instrument)
        )
        songs = np.repeat(examples["song"], config.grid.frames)
        if config.evaluation.truth == "activity":
            return Outputs(config.instruments, songs, labels, scores, {"activity": playing}, unit="frame")
        more = {"logits": predictions["logits"], "roll": examples["roll"]}
        return Outputs(config.instruments, songs, labels, scores, more, unit="frame")

    def thresholds(self, valid: Outputs, config: PianorollConfig) -> dict[str, float]:
        rules = config.evaluation
        chosen = {ROLL: rules.roll_threshold, PITCH: rules.pitch_threshold}
        if rules.roll_rule == "chosen":
            found, roll = Rolls.of(valid.more["logits"]), valid.more["roll"]
            chosen = {
                ROLL: transcription.choose_roll_threshold(roll, found.roll, rules.roll_threshold),
                PITCH: transcription.choose_roll_threshold(pitch_roll(roll), found.pitch, rules.pitch_threshold),
            }
        return super().thresholds(valid, config) | chosen

    def evaluate(self, outputs: Outputs, thresholds: Mapping[str, float], config: PianorollConfig) -> dict[str, float]:
        """Return the figures of instruments, pitches and pianorolls; where only activity is known, of instruments."""
        if config.evaluation.truth == "activity":
            shape = (-1, config.grid.frames, len(outputs.classes))
            scores = np.moveaxis(outputs.scores.reshape(shape), 1, 2)
            own = activity.evaluate(
                outputs.more["activity"], scores, _songs(outputs, config), outputs.classes, config.grid.frame_s
            )
            return super().evaluate(outputs, thresholds, config) | own
        own = transcription.evaluate(*self._judged(outputs, thresholds, config))
        return super().evaluate(outputs, thresholds, config) | own | self._losses_of(outputs, config)

    def last_figures(
        self, outputs: Outputs, thresholds: Mapping[str, float], config: PianorollConfig
    ) -> dict[str, float]:
        if config.evaluation.truth == "activity":
            return {}
        return evaluate_notes(*self._judged(outputs, thresholds, config))

    def pictures(self, outputs: Outputs, thresholds: Mapping[str, float], config: PianorollConfig) -> dict[str, Any]:
        if config.evaluation.truth == "activity":
            return {}
        found, roll, songs = Rolls.of(outputs.more["logits"]), outputs.more["roll"], _songs(outputs, config)
        chosen = {}
        for song in dict.fromkeys(songs.tolist()):
            windows = np.flatnonzero(songs == song)
            # The one in which most instruments play is the most telling.
            chosen[song] = int(windows[roll[windows].any(axis=(2, 3)).sum(axis=1).argmax()])
        busiest = sorted(chosen, key=lambda song: -int(roll[chosen[song]].any(axis=(1, 2)).sum()))[:PICTURES]
        return {
            f"pianoroll_{number}": pianoroll_figure(
                found.roll[chosen[song]] >= thresholds[ROLL],
                outputs.classes,
                config.grid.frame_s,
                low=config.lowest_key,
                title=f"{song}: true and predicted",
                truth=roll[chosen[song]],
            )
            for number, song in enumerate(busiest, start=1)
        }

    def _judged(self, outputs: Outputs, thresholds: Mapping[str, float], config: PianorollConfig) -> tuple[Any, ...]:
        """Return what the figures of a split are made from, as ``timbrel.transcription.evaluate`` takes it."""
        found = Rolls.of(outputs.more["logits"])
        at = transcription.Thresholds(
            thresholds[ROLL], thresholds[PITCH], np.array([thresholds[name] for name in outputs.classes])
        )
        scores = transcription.Scores(found.roll, found.pitch, found.instrument)
        return outputs.more["roll"], scores, at, _songs(outputs, config), outputs.classes, config.grid.frame_s

    def _losses_of(self, outputs: Outputs, config: PianorollConfig) -> dict[str, float]:
        """Return the terms of the objective on a whole split."""
        logits, roll, step = outputs.more["logits"], outputs.more["roll"], 64
        totals: dict[str, float] = {}
        for first in range(0, len(logits), step):
            some = torch.from_numpy(logits[first : first + step]).float()
            batch = {"roll": torch.from_numpy(np.ascontiguousarray(roll[first : first + step]))}
            for name, value in self.losses(some, batch, config).items():
                totals[name] = totals.get(name, 0.0) + float(value) * len(some)
        return {name: total / len(logits) for name, total in totals.items()}


def _songs(outputs: Outputs, config: PianorollConfig) -> np.ndarray:
    """Return the song of each example, ``(example,)``; the outputs have one for each frame."""
    return outputs.songs[:: config.grid.frames]


TASK = Pianoroll()
