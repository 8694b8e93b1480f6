"""Embeddings that were made elsewhere: FOLDER/SONG.npy or .npz, or FOLDER/DATASET/SONG.npy, each (time, dimension).

Songs whose file was missing are added once it is there. Files that have changed are read again with `--replace`.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from timbrel.embeddings.sound import SongSound
from timbrel.embeddings.teachers.options import TeacherOptions
from timbrel.errors import UserError
from timbrel.safety import is_inside
from timbrel.tracking import Tracker

ENDINGS = (".npy", ".npz")


@dataclass
class FilesTeacher:
    """Reads what others have made of a song; see ``teachers.Teacher``. It hears nothing."""

    name: str
    folder: Path
    dimension: int
    hop_s: float
    weights: str
    digest: str
    sample_rate: int = 0
    dtype: str = "<f4"

    @property
    def settings(self) -> dict[str, str]:
        """What else the values depend on: nothing."""
        return {}

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        """Refuse: files are found by the names of songs."""
        raise UserError("teacher files reads what was made of songs, and hears no audio: choose another teacher.")

    def of_song(self, song: SongSound) -> np.ndarray:
        """Return what the song's file holds: ``(time, dimension)``.

        Raises:
            UserError: it has none, or the file holds something else.
        """
        names = (f"{song.dataset}/{song.name}", song.name)
        # Names come from a library, and lead out of the folder if somebody wants them to.
        places = [self.folder / f"{name}{end}" for name in names if is_inside(name) for end in ENDINGS]
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            missing = places[-2] if places else f"file in {self.folder} that '{song.name}' may name"
            raise UserError(f"there is no {missing} (or .npz): add it")
        values = read_array(file)
        return values[None] if values.ndim == 1 and not self.hop_s else values


def load(name: str, options: TeacherOptions, tracker: Tracker) -> FilesTeacher:
    """Return what reads a folder of embeddings.

    Raises:
        UserError: the folder or the hop was not said, or nothing is in the folder.
    """
    if not options.path:
        raise UserError("teacher files needs a folder: give it as --path FOLDER, with a file SONG.npy for each song.")
    folder = Path(options.path).absolute()
    if options.hop_s is None:
        raise UserError(
            "teacher files needs the time between two vectors: say --hop-s SECONDS; 0 if there is one a song."
        )
    found = sorted(file for end in ENDINGS for pattern in (f"*{end}", f"*/*{end}") for file in folder.glob(pattern))
    if not found:
        raise UserError(f"{folder} holds no .npy or .npz file: --path takes a folder with a SONG.npy for each song.")
    first = read_array(found[0])
    if first.ndim == 0:
        raise UserError(f"{found[0]} holds a single number, not (time, dimension): make it again.")
    whole = first.dtype if first.dtype.kind in "iu" else np.dtype("<f4")
    return FilesTeacher(
        name=name,
        folder=folder,
        dimension=first.shape[-1],
        hop_s=options.hop_s,
        weights=folder.name,
        digest=hashlib.sha256(str(folder).encode()).hexdigest()[:16],
        dtype=whole.str,
    )


def read_array(file: Path) -> np.ndarray:
    """Return the array in a file.

    Raises:
        UserError: it is damaged, holds several, or something else than numbers.
    """
    try:
        found = np.load(file, allow_pickle=False)
        if isinstance(found, np.lib.npyio.NpzFile):
            with found:
                if len(found.files) != 1:
                    raise UserError(f"{file} holds {len(found.files)} arrays ({', '.join(found.files[:3])}): keep one")
                found = found[found.files[0]]
    except (ValueError, OSError, EOFError, KeyError) as error:
        raise UserError(f"{file} is no readable array ({str(error).splitlines()[0]}): make it again") from None
    if found.dtype.kind not in "fiu":
        raise UserError(f"{file} holds {found.dtype}, not numbers: make it again")
    return found
