"""Vocabularies and labels of weakly labelled clips: what is said of a clip as a whole, often of few classes alone."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from timbrel.tags import JudgedSong

Vocabulary = Literal["openmic", "magnatagatune"]
Half = Literal["present", "unjudged"]

OPENMIC = (
    "accordion", "banjo", "bass", "cello", "clarinet", "cymbals", "drums", "flute", "guitar", "mallet_percussion",
    "mandolin", "organ", "piano", "saxophone", "synthesizer", "trombone", "trumpet", "ukulele", "violin", "voice",
)  # fmt: skip
"""OpenMIC-2018's instruments, by their numbers in its class-map.json."""
MAGNATAGATUNE = (
    "guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast", "piano", "ambient",
    "beat", "violin", "vocal", "synth", "female", "indian", "opera", "male", "singing", "vocals", "no vocals",
    "harpsichord", "loud", "quiet", "flute", "woman", "male vocal", "no vocal", "pop", "soft", "sitar", "solo",
    "man", "classic", "choir", "voice", "new age", "dance", "male voice", "female vocal", "beats", "harp",
    "cello", "no voice", "weird", "country", "metal", "female voice", "choral",
)  # fmt: skip
"""MagnaTagATune's 50 most frequent tags, by frequency."""
_VOCABULARIES: Mapping[Vocabulary, tuple[str, ...]] = {"openmic": OPENMIC, "magnatagatune": MAGNATAGATUNE}

N_PROGRAMS = 129
"""General MIDI's, and 128 for drums."""


class _Programs(NamedTuple):
    """General MIDI programs that count for an instrument."""

    certain: Sequence[int]
    perhaps: Sequence[int] = ()
    """Those in which some listeners would hear it and others would not."""


_PROGRAMS: Mapping[str, _Programs] = {
    "accordion": _Programs((21, 23), perhaps=(22,)),
    "banjo": _Programs((105,)),
    "bass": _Programs(range(32, 40), perhaps=(43, 87)),
    "cello": _Programs((42,), perhaps=(41, 43, 44, 45, 48, 49, 55)),
    "clarinet": _Programs((71,)),
    "cymbals": _Programs((), perhaps=(55, 119, 128)),
    "drums": _Programs((116, 117, 118, 128), perhaps=(47, 55)),
    "flute": _Programs((72, 73), perhaps=(74, 75, 76, 77, 79)),
    "guitar": _Programs(range(24, 32), perhaps=(120,)),
    "mallet_percussion": _Programs((9, 11, 12, 13), perhaps=(8, 10, 14, 108, 112, 114)),
    "organ": _Programs(range(16, 21)),
    "piano": _Programs(range(4), perhaps=(4, 5)),
    "saxophone": _Programs(range(64, 68)),
    "synthesizer": _Programs((38, 39, 50, 51, 62, 63, *range(80, 104)), perhaps=(5, 54, 118)),
    "trombone": _Programs((57,), perhaps=(55, 61)),
    "trumpet": _Programs((56, 59), perhaps=(55, 61)),
    "violin": _Programs((40, 110), perhaps=(41, 44, 45, 48, 49, 55)),
    "voice": _Programs((52, 53, 54), perhaps=(85, 91)),
}


def vocabulary(name: Vocabulary) -> tuple[str, ...]:
    """Return the names of a data set's classes, in the order of its published systems' outputs."""
    return _VOCABULARIES[name]


def clip_labels(
    songs: Sequence[JudgedSong], names: Sequence[str], present_from: float = 0.5, half: Half = "present"
) -> np.ndarray:
    """Return labels float32 ``(song, class)``: 1 present, 0 absent, NaN where nobody judged.

    Args:
        songs: with what was said of each.
        names: the classes.
        present_from: the relevance, 0 to 1, that divides absent from present.
        half: what a relevance of exactly ``present_from`` means, as when listeners are divided. ``present``:
            attention MIL and OpenMIC's own baseline (present from 0.5 on). ``unjudged``: EAsT (present above 0.5,
            absent below it, masked otherwise).
    """
    values = np.array([[song.value(name) for name in names] for song in songs], dtype=np.float64)
    values = values.reshape(len(songs), len(names))
    labels = np.where(np.isnan(values), np.nan, values >= present_from)
    if half == "unjudged":
        labels[values == present_from] = np.nan
    return labels.astype(np.float32)


def openmic_of_programs(programs: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return which of OpenMIC's instruments General MIDI programs are, bool ``(stem, 20)``.

    ``programs`` are 0-127, 128 for drums, negative where unknown (which is none of them). What was decided:

    * accordion: both accordions (21, 23); not the harmonica.
    * banjo 105, cello 42, clarinet 71, saxophone 64-67, trombone 57; trumpet: open and muted (56, 59).
    * bass: plucked, slapped and synthetic (32-39); not the bowed contrabass.
    * drums: the kit (128), taiko, toms and synthetic drums (116-118); not the timpani.
    * cymbals: no program. A kit mostly has them, but its program does not say whether they were struck.
    * flute: flute and piccolo (72, 73); not recorder, pan flute, bottle, shakuhachi and ocarina.
    * guitar: acoustic and electric (24-31); not their fret noise.
    * mallet_percussion: bars struck with mallets: glockenspiel, vibraphone, marimba, xylophone (9, 11-13). Not the
      celesta, which has keys, nor music box, tubular bells, kalimba, tinkle bell and steel drums.
    * mandolin, ukulele: General MIDI has neither.
    * organ: pipes, tone wheels, and the reed organ (16-20).
    * piano: strings struck by hammers (0-3); not electric pianos, harpsichord and clavinet.
    * synthesizer: leads, pads and effects (80-103), synthetic strings (50, 51) and brass (62, 63), and synthetic bass
      (38, 39), which is a bass too.
    * violin: violin and fiddle (40, 110); not the viola, nor string ensembles, which are violins among others.
    * voice: choirs and the synthetic choir (52-54); not leads and pads named after voices.

    Of those it says "not" to, ``openmic_perhaps`` lists the ones that listeners may well take for the instrument.

    Raises:
        ValueError: a program above 128.
    """
    return _table([_PROGRAMS[name].certain if name in _PROGRAMS else () for name in OPENMIC], programs)


def openmic_perhaps(programs: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return in which of OpenMIC's instruments General MIDI programs leave one in doubt, bool ``(stem, 20)``.

    While one of these sounds it should not be said that the instrument is absent: the kit and cymbals, the viola and
    the violin, string ensembles (44, 45, 48, 49) with violin and cello, the brass section (61) with trumpet and
    trombone, electric pianos and the piano, the orchestra hit (55) with most of an orchestra.

    Raises:
        ValueError: a program above 128.
    """
    return _table([_PROGRAMS[name].perhaps if name in _PROGRAMS else () for name in OPENMIC], programs)


def _table(of_instruments: Sequence[Sequence[int]], programs: Sequence[int] | np.ndarray) -> np.ndarray:
    rows = np.zeros((N_PROGRAMS + 1, len(of_instruments)), dtype=bool)  # the last is that of unknown programs
    for column, those in enumerate(of_instruments):
        rows[list(those), column] = True
    numbers = np.asarray(programs, dtype=np.int64)
    if numbers.max(initial=0) >= N_PROGRAMS:
        raise ValueError(f"expected General MIDI programs up to {N_PROGRAMS - 1}, got {numbers.max()}")
    return rows[np.where(numbers < 0, N_PROGRAMS, numbers)]
