"""One call from a seed to a composed song."""

import functools
from dataclasses import dataclass

import numpy as np
import pretty_midi

from timbrel.sources.house_band.arrangement import Arrangement, arrange
from timbrel.sources.house_band.melody import compose_tunes, play_melody
from timbrel.sources.house_band.parts import accompany, bass, drums
from timbrel.sources.house_band.performing import humanise


@dataclass(frozen=True)
class Composition:
    """A song as its players play it."""

    arrangement: Arrangement
    tracks: tuple[pretty_midi.Instrument, ...]
    """One a chair, in the order of ``arrangement.chairs``."""


@functools.lru_cache(maxsize=2)  # The stems of a song are rendered one after the other.
def compose(seed: int, index: int, seconds: float) -> Composition:
    """Compose song ``index`` of ``seed``, about ``seconds`` long: a pure function of the three."""
    rng = np.random.default_rng([seed, index])
    song = arrange(index, seconds, rng)
    tunes = compose_tunes(song, rng)
    tracks = []
    for number, chair in enumerate(song.chairs):
        match chair.role:
            case "drums":
                played = drums(song, number, rng)
            case "bass":
                played = bass(song, number, rng)
            case "melody":
                played = play_melody(song, number, tunes, rng)
            case _:
                played = accompany(song, number, rng)
        tracks.append(humanise(song, number, sorted(played), rng))
    return Composition(song, tuple(tracks))
