"""Teachers: what turns a song's sound into vectors, by name. The module of each is imported when it is asked for."""

import importlib
import re
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from timbrel.embeddings.sound import SongSound
from timbrel.embeddings.teachers.options import TeacherOptions
from timbrel.errors import UserError, unknown_name
from timbrel.tracking import Tracker

BUILT_IN = MappingProxyType(
    {
        "musicnn": "published",
        "crnn": "published",
        "fcn": "published",
        "checkpoint": "checkpoint",
        "files": "files",
        "vggish": "vggish",
        "openl3": "openl3",
        "passt": "passt",
        "panns": "panns",
    }
)
"""Modules of this package, by name of teacher."""
OWN_HOP = ("vggish", "openl3", "passt", "panns")
"""Those whose vectors are as far apart as their authors have them."""


class Teacher(Protocol):
    """What turns sound into vectors; it pickles."""

    name: str
    sample_rate: int
    """Hz; 0: it hears nothing."""
    dimension: int
    hop_s: float
    """Seconds between two vectors; 0: one vector a song."""
    weights: str
    """Name of the file, id of the run, or whatever says where the values come from."""
    digest: str
    """Of the weights."""
    dtype: str
    """In which the values are stored, as NumPy writes it."""

    @property
    def settings(self) -> dict[str, Any]:
        """What else the values depend on."""
        ...

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        """Return the embedding of mono audio ``(sample,)``: float32 ``(time, dimension)``."""
        ...

    def of_song(self, song: SongSound) -> np.ndarray:
        """Return the embedding of a song: ``(time, dimension)``.

        Raises:
            UserError: nothing can be made of it; the message goes on after the song's name.
        """
        ...


def check_name(name: str) -> None:
    """Make sure that a name is one of a built-in teacher, or may be a run's id or a folder.

    Raises:
        UserError: it is none of these.
    """
    if name not in BUILT_IN and not Path(name).expanduser().is_dir() and not re.fullmatch(r"[0-9a-f]{32}", name):
        raise unknown_name("teacher", name, BUILT_IN)


def load_teacher(name: str, options: TeacherOptions, tracker: Tracker) -> Any:
    """Return a teacher.

    Args:
        name: of a built-in teacher; or a run's id or an exported folder, for a classifier of this platform.
        options: its weights, and what else the user said.
        tracker: where runs are looked for.

    Raises:
        UserError: there is no such teacher, it needs weights or a package that are not there, or an option is not its.
    """
    check_name(name)
    if name not in BUILT_IN:
        if options.weights:
            raise UserError(f"'{name}' is a model already: leave --weights {options.weights} out.")
        options = TeacherOptions(weights=name, path=options.path, hop_s=options.hop_s, window_s=options.window_s)
        name = "checkpoint"
    for given, what, takes in (
        (options.weights, f"--weights {options.weights}", name != "files"),
        (options.path, f"--path {options.path}", name == "files"),
        (options.hop_s is not None, "--hop-s", name not in OWN_HOP),
        (options.window_s is not None, "--window-s", name not in (*OWN_HOP, "files")),
    ):
        if given and not takes:
            raise UserError(f"teacher {name} takes no {what}: leave it out.")
    if options.hop_s == 0 and name != "files":
        raise UserError(f"--hop-s 0: teacher {name} takes more than 0 s.")
    module = importlib.import_module(f"{__name__}.{BUILT_IN[name]}")
    return module.load(name, options, tracker)
