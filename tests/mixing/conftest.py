"""Libraries whose stems play known notes as pure tones."""

from dataclasses import dataclass

import numpy as np
import pytest

from timbrel.prepare import prepare
from timbrel.sources import Found, Note, Performance, Song, Stem

RATE_HZ = 16_000
FADE_S = 0.004
"""So short that a tone is there at once, and so long that it does not click."""


@dataclass(frozen=True)
class NoOptions:
    """None."""


class Tones:
    """A source of given songs: ``{song: [(stem, program, notes), ...]}``, each note a sine."""

    name, summary, needs_path, options_type = "tones", "for tests", False, NoOptions

    def __init__(self, songs, seconds):
        self.songs, self.seconds = songs, seconds

    def find(self, path, options):
        songs = tuple(
            Song(name, tuple(self.stem(*stem) for stem in stems), split=name.split()[0])
            for name, stems in self.songs.items()
        )
        return Found(songs, len(songs))

    def stem(self, name, program, notes, audio=None):
        audio = sines(notes, self.seconds) if audio is None else audio
        kept = tuple(Note(*note) for note in notes)
        return Stem(name, name, lambda: Performance(audio[None], RATE_HZ, kept), program)


def sines(notes, seconds):
    """Return notes (onset, offset, pitch, ...) as sines, float32 ``(sample,)``."""
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    audio = np.zeros(len(time_s))
    for onset, offset, pitch, *_ in notes:
        envelope = np.clip(np.minimum(time_s - onset, offset - time_s) / FADE_S, 0, 1)
        audio += 0.15 * envelope * np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * time_s)
    return audio.astype(np.float32)


@pytest.fixture
def note_library(tmp_path):
    """Prepare a library of songs ``{name: [(stem, program, notes), ...]}``; a name begins with the song's split."""

    def make(songs, seconds=6.0, name="tones"):
        prepare(Tones(songs, seconds), None, tmp_path / "library", NoOptions(), name)
        return tmp_path / "library"

    return make
