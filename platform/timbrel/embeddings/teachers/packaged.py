"""Teachers that are networks of others' packages, with the weights that their authors publish."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from timbrel.embeddings.teachers.network import NetworkTeacher, given_weights
from timbrel.embeddings.teachers.options import TeacherOptions
from timbrel.errors import UserError
from timbrel.tracking import Tracker
from timbrel.trained import load_weights

INSTALL = "pip install --no-deps hear21passt julius panns-inference resampy torchlibrosa torchopenl3 torchvggish"
"""What the four teachers need beside what Timbrel does. What else the packages ask for is too old for today's NumPy, or
for another torch, or serves only to train and to download."""

_MULTIARRAY = np._core.multiarray  # type: ignore[attr-defined]  # private, and what pickled arrays name
_CONSTRUCTORS = (("_reconstruct", _MULTIARRAY._reconstruct), ("scalar", _MULTIARRAY.scalar))
ARRAYS: list[Any] = [
    *((each, f"numpy.{core}.multiarray.{name}") for core in ("core", "_core") for name, each in _CONSTRUCTORS),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(name)) for name in ("f2", "f4", "f8", "i4", "i8", "u1")),
]
"""What a NumPy array in a file of weights needs to be read, under the names of both majors of NumPy."""


class Packaged(nn.Module):
    """A network of a package, as ``network``: windows ``(batch, sample)`` to vectors ``(batch, dimension)``.

    It pickles as its weights: the package's own module may do more than be imported.
    """

    network: nn.Module
    name: ClassVar[str]
    sample_rate: ClassVar[int]
    """Hz."""
    dimension: ClassVar[int]
    hop_s: ClassVar[float]
    window_s: ClassVar[float]
    dtype: ClassVar[str] = "<f4"
    """In which the values are stored."""
    file: ClassVar[str]
    """Of its authors' weights."""
    where: ClassVar[str]
    """Who has the file."""
    weighed: ClassVar[str] = "network"
    """The part that the file has the weights of."""
    kind: ClassVar[type[NetworkTeacher]] = NetworkTeacher

    @classmethod
    def load(cls, name: str, options: TeacherOptions, tracker: Tracker) -> NetworkTeacher:
        """Return the teacher, with its authors' weights.

        Raises:
            UserError: the package or a file is missing, or a file is another.
        """
        network = cls()  # the package is asked for first
        file = given_weights(options.weights, cls.name, cls.file, cls.where)
        files = network.take(file)
        return cls.kind(
            name=cls.name,
            network=network.eval(),
            sample_rate=cls.sample_rate,
            dimension=cls.dimension,
            hop_s=cls.hop_s,
            window_s=cls.window_s,
            weights=file.name,
            digest=file_digest(*files),
            whole=True,
            dtype=cls.dtype,
        )

    def take(self, file: Path) -> tuple[Path, ...]:
        """Take over the authors' weights, and return the files that they are in.

        Raises:
            UserError: they are of another network.
        """
        content = load_arrays(file)
        weights = content.get("model", content)  # where they lie beside the state of their training
        try:
            self.get_submodule(self.weighed).load_state_dict(dict(weights))
        except (RuntimeError, TypeError, ValueError, AttributeError) as error:
            reason = " ".join(str(error).split())[:120]
            raise UserError(
                f"the weights of {file} are not those of {self.name} ({reason}): give its authors' file."
            ) from None
        return (file,)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.state_dict())


def _rebuilt(kind: type[nn.Module], weights: dict[str, torch.Tensor]) -> nn.Module:
    network = kind()
    network.load_state_dict(weights)
    return network.eval()


@contextlib.contextmanager
def package(name: str) -> Iterator[None]:
    """Turn a package that is not there into a sentence that says how it is installed.

    Raises:
        UserError: something that the block imports is missing.
    """
    try:
        yield
    except ImportError as error:
        raise UserError(f"teacher {name} needs a package that is not installed ({error}): `{INSTALL}`.") from None


def load_arrays(file: Path) -> dict[str, Any]:
    """Read a file of weights that may hold NumPy arrays beside tensors; nothing in it is executed.

    Raises:
        UserError: it is damaged, or holds more than those.
    """
    with torch.serialization.safe_globals(ARRAYS):
        return load_weights(file)


def file_digest(*files: Path) -> str:
    """Return a hash of files."""
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()[:16]
