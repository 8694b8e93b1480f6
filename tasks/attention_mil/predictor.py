"""A recording through a model that hears embeddings: its clips, and where in them the model listened."""

import contextlib
import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tasks.attention_mil.config import AttentionMilConfig
from timbrel.errors import UserError
from timbrel.figures import attention_figure
from timbrel.recording import mono_blocks

if TYPE_CHECKING:
    from timbrel.trained import TrainedModel


class Found(NamedTuple):
    """What is heard in a recording."""

    scores: np.ndarray
    """Probabilities, float32 ``(clip, class)``."""
    attention: np.ndarray
    """float32 ``(clip, class, instance)``; no instance where the model has no attention."""
    instances: int
    """Those of the whole recording; what the last clip has beyond them is its last one again."""
    hop_s: float
    """Seconds from one instance to the next."""


class AttentionPredictor:
    """NAME.csv and NAME.json, and of a model with attention NAME.png."""

    def read(self, trained: "TrainedModel", file: Path) -> Found:
        """Return what is heard in a recording, clip by clip, each as long as those that the model learned from.

        Raises:
            UserError: the network that makes the embeddings is not known, or the file is missing, not audio, or holds
                no sound.
        """
        config = trained.config
        assert isinstance(config, AttentionMilConfig)
        teacher = _network(config)
        with contextlib.closing(mono_blocks(file, teacher.sample_rate)) as blocks:
            audio = np.concatenate([np.zeros(0, dtype=np.float32), *blocks])
        if not len(audio):
            raise UserError(f"{file} holds no audio.")
        offset, scale = config.teacher.normalisation
        embedding = (teacher(audio) - offset) * scale
        if embedding.shape[1:] != (config.teacher.dimension,):
            raise UserError(
                f"the network of '{config.teacher.name}' ({config.teacher.weights}) makes embeddings of "
                f"{embedding.shape[1]} dimensions, the model hears {config.teacher.dimension}: give the network whose "
                "embeddings it was trained on."
            )
        bags = bags_of(embedding.astype(np.float32), instances_of(config, teacher.hop_s))
        found = list(trained.predictions(bags))
        scores, attention = (np.stack([each[name] for each in found]) for name in ("scores", "attention"))
        return Found(scores, attention, len(embedding), teacher.hop_s or config.mixing.seconds)

    def write(self, trained: "TrainedModel", file: Path, found: Found, stem: Path) -> tuple[str, tuple[str, ...]]:
        """Write a table and the same with decisions, and draw the attention."""
        from timbrel.predict import WHOLE_FILE_SHARE, whole_file  # imports Ray, which a task has no other use for

        config = trained.config
        assert isinstance(config, AttentionMilConfig)
        names = trained.classes
        thresholds = np.array(list(trained.class_thresholds.values()))
        whole, clip_s = whole_file(found.scores), instances_of(config, found.hop_s) * found.hop_s
        begins = [round(number * clip_s, 3) for number in range(len(found.scores))]
        with open(f"{stem}.csv", "w", newline="") as table:
            writer = csv.writer(table)
            writer.writerow(["start_s", *names])
            writer.writerows(
                [begin, *(f"{p:.4f}" for p in row)] for begin, row in zip(begins, found.scores, strict=True)
            )
        answer = {
            "file": file.name,
            "task": trained.task.name,
            "whole_file": f"the probability reached in {WHOLE_FILE_SHARE:.0%} of the clips",
            "classes": {
                name: {"threshold": float(at), "probability": round(float(p), 4), "present": bool(p >= at)}
                for name, at, p in zip(names, thresholds, whole, strict=True)
            },
            "clips": [
                {"start_s": begin, "present": [name for name, on in zip(names, row >= thresholds, strict=True) if on]}
                for begin, row in zip(begins, found.scores, strict=True)
            ],
        }
        Path(f"{stem}.json").write_text(json.dumps(answer, indent=1))
        clip = found.attention.shape[-1]
        if clip:
            figure = attention_figure(
                np.concatenate(found.attention, axis=-1)[:, : found.instances],
                names,
                whole,
                found.hop_s,
                title=file.name,
                thresholds=thresholds,
                clip=clip,
            )
            figure.savefig(f"{stem}.png")
        heard = [f"{name} {p:.2f}" for name, p, at in zip(names, whole, thresholds, strict=True) if p >= at]
        words = ", ".join(heard) or f"nothing above its threshold; highest {names[whole.argmax()]} {whole.max():.2f}"
        return words, (".csv", ".json", ".png") if clip else (".csv", ".json")


def instances_of(config: "AttentionMilConfig", hop_s: float) -> int:
    """Return how many embeddings a bag has, as in training; one where there is one for a whole song."""
    return max(1, round(config.mixing.seconds / hop_s)) if hop_s else 1


def bags_of(embedding: np.ndarray, instances: int) -> list[np.ndarray]:
    """Return an embedding ``(time, dimension)`` as bags of so many instances, the last filled up with its last one."""
    bags = [embedding[start : start + instances] for start in range(0, len(embedding), instances)]
    bags[-1] = np.pad(bags[-1], ((0, instances - len(bags[-1])), (0, 0)), mode="edge")
    return bags


def _network(config: "AttentionMilConfig") -> Any:
    """Return the network that makes the embeddings, as ``timbrel.embeddings.teachers`` has them.

    Raises:
        UserError: the config does not say where it is, or it can't be run.
    """
    teacher = config.teacher
    if not teacher.weights:
        raise UserError(
            f"this model hears the embeddings '{teacher.name}', not sound, and its config does not say where the "
            "network is that makes them: say so by --config teacher.weights=FILE (or a run's id)."
        )
    from timbrel.embeddings.teachers import BUILT_IN, OWN_HOP, load_teacher  # networks that training has no use for
    from timbrel.embeddings.teachers.options import TeacherOptions
    from timbrel.tracking import Tracker

    name = teacher.name if teacher.name in BUILT_IN else "checkpoint"
    hop_s = None if name in OWN_HOP else config.teacher.hop_s or None
    return load_teacher(name, TeacherOptions(weights=teacher.weights, hop_s=hop_s), Tracker())
