"""The source `house_band`: songs composed from a seed and played by a General MIDI SoundFont.

It needs no download, so it is what a first experiment, a test or a demonstration runs on. A song has a key,
chords, a form with changing orchestration, and four to eight parts in one of six styles (rock, ballad,
jazz, chamber, funk, electronic); every part is a stem with exact notes. Song ``i`` of seed ``s`` is a
pure function of ``(s, i)`` and of the options other than ``songs``.

Notes are those that are heard: held by the sustain pedal, those of one pitch never overlapping, drums as long as
written (see `sounding_notes`), all within the audio.

What it is not: recordings. The timbres are one SoundFont's samples, each program always the same, and the
notes are a program's idea of music. Numbers measured on it say that a pipeline learns; they say nothing
about real music, and a model that is to hear real music needs other sources.

Nobody sings. The lead voice is General MIDI's `Voice Oohs`, a sampled choir without words: it stands for the
family `voice`, and the class `singer` has no example here. Those who want every class represented in a
demonstration can set ``lead_voice_is_singer``, knowing what they then measure.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le

from timbrel.errors import UserError
from timbrel.sources.base import Found, Performance, Song, Stem
from timbrel.sources.house_band.arrangement import Chair, lineup
from timbrel.sources.house_band.composer import compose
from timbrel.sources.soundfont import DRUMS, TAIL_S, find_soundfont, perform, program_name, stem_name

_BANDS = (
    "The Lost Anacruses", "Velvet Tritone", "Nine Bar Blues", "Quarter to Drei", "The Parallel Fifths",
    "Hemiola Park", "Ferry Cadence", "Night Bus Ostinato", "The Borrowed Chords", "Glass Metronome",
    "Coda and Sons",
)  # fmt: skip
"""Eleven, which shares no factor with the number of ensembles: every band comes to play in every style."""

_VOICE_OOHS = 53


@dataclass(frozen=True, kw_only=True)
class HouseBandOptions:
    """What `house_band` composes."""

    songs: Annotated[int, Ge(1)] = 40
    """Number of songs; more songs do not change the first ones."""
    seconds: Annotated[float, Ge(10), Le(600)] = 40.0
    """Length of a song, s, to the nearest whole section: 10 % more or less at 40 s."""
    seed: Annotated[int, Ge(0)] = 0
    """Another seed composes other songs for the same ensembles."""
    sample_rate: Annotated[int, Ge(8000), Le(96000)] = 32000
    """Of the rendered stems, Hz."""
    soundfont: str = ""
    """Path of an .sf2 file; empty: the TimGM6mb.sf2 that comes with pretty_midi."""
    lead_voice_is_singer: bool = False
    """Call the lead voice `singer`, although it is a sampled choir."""


@dataclass(frozen=True)
class _Play:
    """Composes and renders one stem; small, so that it travels between processes at no cost."""

    seed: int
    index: int
    chair: int
    seconds: float
    sample_rate: int
    soundfont: Path

    def __call__(self) -> Performance:
        composition = compose(self.seed, self.index, self.seconds - TAIL_S)
        seconds = composition.arrangement.end_s + TAIL_S
        return perform([composition.tracks[self.chair]], self.soundfont, self.sample_rate, seconds)


class HouseBand:
    """Composes and renders its songs; see the module's docstring."""

    name = "house_band"
    summary = "songs composed from a seed and played by a General MIDI SoundFont; needs no data"
    needs_path = False
    options_type = HouseBandOptions

    def find(self, path: Path | None, options: HouseBandOptions) -> Found:
        """Describe the songs; they are composed when their stems are rendered."""
        if path is not None:
            raise UserError(f"house_band makes its songs itself and reads no folder: leave out '{path}'.")
        soundfont = find_soundfont(options.soundfont)
        return Found(songs=_songs(options, soundfont), count=options.songs)


def _songs(options: HouseBandOptions, soundfont: Path) -> Iterator[Song]:
    for index in range(options.songs):
        _, chairs = lineup(index)
        stems = tuple(_stem(index, number, chair, options, soundfont) for number, chair in enumerate(chairs))
        yield Song(name=f"house_band-{index:04d}", stems=stems, artist=_BANDS[index % len(_BANDS)])


def _stem(index: int, number: int, chair: Chair, options: HouseBandOptions, soundfont: Path) -> Stem:
    program = DRUMS if chair.player.drums else chair.program
    sings = options.lead_voice_is_singer and program == _VOICE_OOHS
    return Stem(
        name=stem_name(program),
        instrument="singer" if sings else program_name(program),
        perform=_Play(options.seed, index, number, options.seconds, options.sample_rate, soundfont),
        program=None if sings else program,  # A program would say that it is a choir.
    )


SOURCE = HouseBand()
