"""Audio files of a data set, read whole or by their headers."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PosixPath, WindowsPath
from typing import Any

import numpy as np
import soundfile as sf

from timbrel.errors import UserError
from timbrel.sources.base import Header, Performance

_UNKNOWN_LENGTH = np.iinfo(np.int64).max
"""What libsndfile says of a FLAC that was written to a pipe."""
_SLACK = 4096
"""Bytes or samples that may be missing from a file: some programs write a size that is off by a few."""


@dataclass(frozen=True)
class AudioFile:
    """Reads a whole audio file."""

    path: Path

    def __call__(self) -> Performance:
        """Return the audio as float32 of shape ``(channel, sample)``, at the file's own sample rate.

        Raises:
            UserError: the file is missing, not audio, truncated, empty, or holds NaN or infinite samples.
        """
        with self._opened() as file:
            audio = file.read(dtype="float32", always_2d=True)
            self._check(file, len(audio))
            sample_rate = file.samplerate
        if not np.isfinite(audio).all():
            raise UserError(f"{self.path}: holds NaN or infinite samples; export it again.")
        return Performance(np.ascontiguousarray(audio.T), sample_rate)

    def header(self) -> Header:
        """Return what the file says of itself, once its last sample could be read.

        Raises:
            UserError: the file is missing, not audio, truncated or empty.
        """
        with self._opened() as file:
            frames = file.frames
            if frames:
                file.seek(frames - 1)
                frames -= 1 - len(file.read(1))
            self._check(file, frames)
            return Header(file.channels, file.samplerate, file.frames)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sf.SoundFile]:
        if not self.path.is_file():
            raise UserError(f"{self.path}: no such file.")
        try:
            with contextlib.ExitStack() as stack:
                # What lies in a bucket has no path that libsndfile could open.
                local = isinstance(self.path, PosixPath | WindowsPath)
                source: Any = self.path if local else stack.enter_context(self.path.open("rb"))
                file = stack.enter_context(sf.SoundFile(source))
                if file.frames == _UNKNOWN_LENGTH:
                    raise UserError(f"{self.path}: does not say how long it is; encode it again as a file.")
                yield file
        except (sf.SoundFileError, OSError) as error:
            raise UserError(f"{self.path}: cannot be read as audio ({error}); export it again.") from error
        except MemoryError as error:
            raise UserError(f"{self.path}: says that it holds more than fits into memory; export it again.") from error
        except TypeError as error:  # what soundfile raises for .raw alone: samples without a header
            raise UserError(f"{self.path}: has no header that says what it holds; export it as .wav.") from error

    def _check(self, file: sf.SoundFile, samples: int) -> None:
        """Refuse a file of which only ``samples`` could be read, or none."""
        if _truncated(file, samples):
            raise UserError(f"{self.path}: truncated, shorter than its header says; copy or export it again.")
        if not samples:
            raise UserError(f"{self.path}: holds no audio; export it again or take it out.")


def _truncated(file: sf.SoundFile, samples: int) -> bool:
    """Tell whether ``file`` holds less than its header says, after ``samples`` were read from it.

    An Ogg file's header does not say, nor do some of MP3. FLAC fails while it is read.
    """
    if samples < file.frames - _SLACK:
        return True
    # Of WAV and AIFF libsndfile reads what is there and only notes the difference in its log. 0xFFFFFFFF
    # stands for an unknown size in a WAV that was written to a pipe.
    sizes = re.search(r"^\s*(?:data|SSND)\s*: (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    return sizes is not None and int(sizes[1]) != 0xFFFFFFFF and int(sizes[1]) > int(sizes[2]) + _SLACK
