"""Any classifier that this platform trained as a teacher: what the last linear layer of its head hears."""

import os
from pathlib import Path

from timbrel.embeddings.teachers.network import NetworkTeacher, Penultimate, digest_of, last_linear
from timbrel.embeddings.teachers.options import TeacherOptions
from timbrel.errors import UserError
from timbrel.tracking import Tracker
from timbrel.trained import TrainedModel

HOP_S = 1.0


def load(name: str, options: TeacherOptions, tracker: Tracker) -> NetworkTeacher:
    """Return the teacher of a run, or of a folder that holds a model.

    Raises:
        UserError: there is no such model, or it is no classifier of sound.
    """
    source = os.path.expanduser(options.weights)
    if not source:
        raise UserError("teacher checkpoint needs a model: give a run's id or an exported folder as --weights.")
    if Path(source).is_dir():
        trained = TrainedModel.load(Path(source))
    elif Path(source).exists() or Path(source).suffix in (".pth", ".pt"):
        raise UserError(
            f"teacher checkpoint takes a run's id or an exported folder, not {source}: name a published tagger "
            "(crnn, fcn, musicnn) as the teacher to use its file of weights."
        )
    else:
        with tracker.artifacts(source, "model") as folder:
            trained = TrainedModel.load(folder)
    model, mixing = trained.model, trained.config.mixing
    head = getattr(model, "head", None)
    last = last_linear(head) if head is not None else None
    if last is None or trained.task.example_maker(trained.config) is not None:
        raise UserError(
            f"the model of {source} (task {trained.task.name}) is no classifier of sound: choose a run of another task."
        )
    if options.window_s not in (None, mixing.seconds):
        raise UserError(f"--window-s belongs to the model of {source}, which hears {mixing.seconds:g} s: leave it out.")
    return NetworkTeacher(
        name=name,
        network=Penultimate(model, last).eval(),
        sample_rate=mixing.sample_rate,
        dimension=last.in_features,
        hop_s=options.hop_s or HOP_S,
        window_s=mixing.seconds,
        weights=Path(source).name,
        digest=digest_of(trained.weights),
        settings={"window_s": mixing.seconds},
        least_samples=mixing.samples,
    )
