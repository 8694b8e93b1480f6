"""What the accompanying players play: bass, drums and everything that voices chords."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from timbrel.sources.house_band.arrangement import Arrangement, Section, SectionKind
from timbrel.sources.house_band.harmony import Chord, nearest, scale_over, voice_lead
from timbrel.sources.house_band.styles import Groove


class Played(NamedTuple):
    """A note as a player means it, before human timing and touch."""

    beat: float
    beats: float
    pitch: int
    accent: float
    """Loudness within the part, 0-1."""
    delay_s: float = 0.0
    """Where a strummed string sounds after the first."""


class Step(NamedTuple):
    """One symbol of a pattern (see `styles`)."""

    beat: float
    beats: float
    symbol: str


ACCENTS = {"X": 1.0, "x": 0.82, "o": 0.5, "d": 0.9, "u": 0.7, "m": 0.6}

_DRUM_KEYS = {
    "kick": 36, "stick": 37, "snare": 38, "clap": 39, "low tom": 45, "mid tom": 47, "high tom": 50,
    "hat": 42, "pedal hat": 44, "open hat": 46, "crash": 49, "ride": 51,
}  # fmt: skip
_FILLS: tuple[Groove, ...] = (  # The last two beats of a section.
    {"snare": "x.xxX.x."},
    {"high tom": "x.x.....", "mid tom": "....x...", "low tom": "......X.", "kick": "x...x..."},
    {"snare": "xx......", "high tom": "..xx....", "mid tom": "....xx..", "low tom": "......XX"},
    {"snare": "..x...xX", "kick": "x...x..."},
)
_STRUM_S = 0.014  # From string to string.
_ACCOMPANIMENT = (45, 74)  # Where chords lie: above the bass, and mostly below the tune.
_POWER_CHORD = (0, 7, 12)  # Semitones above the root; a third would growl through distortion.


def steps(pattern: str, start: float = 0.0) -> list[Step]:
    """Read a ``pattern`` of four steps a beat that begins on beat ``start``."""
    found = []
    for position, symbol in enumerate(pattern):
        if symbol not in "-.":
            held = len(pattern[position + 1 :]) - len(pattern[position + 1 :].lstrip("-"))
            found.append(Step(start + position / 4, (1 + held) / 4, symbol))
    return found


def drums(song: Arrangement, chair: int, rng: np.random.Generator) -> Iterator[Played]:
    """Play a groove that grows with the section, a fill at its end and a crash where a chorus begins."""
    calm, *livelier = song.style.grooves
    driving = livelier[rng.integers(len(livelier))]
    for section in song.played_by(chair):
        groove = driving if section.kind == "chorus" else calm
        fill = _FILLS[rng.integers(len(_FILLS))]
        if section.kind == "chorus":
            yield Played(section.start, 2.0, _DRUM_KEYS["crash"], 0.9)
        for start in section.bar_starts():
            fill_start = section.end - 2 if section.kind in ("verse", "bridge", "chorus") else section.end
            for drum, pattern in groove.items():
                for step in steps(pattern, start):
                    if step.beat < fill_start:
                        yield Played(step.beat, 0.25, _DRUM_KEYS[drum], ACCENTS[step.symbol])
            if start + section.beats_per_bar > fill_start:
                for drum, pattern in fill.items():
                    for step in steps(pattern, fill_start):
                        yield Played(step.beat, 0.25, _DRUM_KEYS[drum], ACCENTS[step.symbol])


def bass(song: Arrangement, chair: int, rng: np.random.Generator) -> Iterator[Played]:
    """Play the root where a chord begins, and the style's figures between."""
    player = song.chairs[chair].player
    low, high = player.low, min(player.high, player.low + 20)
    pitch = low + 7
    by_kind = _one_per_kind(song, song.style.bass, rng)
    for section in song.played_by(chair):
        chord: Chord | None = None
        for start in section.bar_starts():
            for step in steps(by_kind[section.kind], start):
                span = section.span_at(step.beat)
                figure = "R" if span.chord is not chord else step.symbol
                chord = span.chord
                coming = section.span_at(span.beat + span.beats).chord
                if figure == "R":
                    pitch = nearest({chord.root}, pitch if pitch < low + 15 else low + 7, low, high)
                elif figure == "O":
                    pitch = nearest({chord.root}, pitch + 12, low, high)
                elif figure == "A" and coming is not chord:
                    pitch = _approach(coming, song, pitch, low, high)
                else:
                    tone = chord.pitch_classes[1] if figure == "3" else chord.fifth
                    pitch = nearest({tone}, pitch, low, high)
                accent = 1.0 if step.beat == start else 0.8
                yield Played(step.beat, _until_change(section, step) * 0.95, pitch, accent)


def accompany(song: Arrangement, chair: int, rng: np.random.Generator) -> Iterator[Played]:
    """Voice the chords: comping, strummed, broken, as power chords, held as a pad, or as stabs."""
    role, player = song.chairs[chair].role, song.chairs[chair].player
    low, high = max(player.low, _ACCOMPANIMENT[0]), min(player.high, _ACCOMPANIMENT[1])
    by_kind = _one_per_kind(song, song.style.patterns.get(role, ("",)), rng)
    voices: tuple[int, ...] = ()
    chord: Chord | None = None
    for section in song.played_by(chair):
        if role == "pad":
            played = [Step(span.beat, span.beats, "x") for span in section.chords]
        else:
            played = [step for start in section.bar_starts() for step in steps(by_kind[section.kind], start)]
        for step in played:
            coming = section.span_at(step.beat).chord
            if coming is not chord:
                chord = coming
                if role == "power":
                    root = nearest({chord.root}, player.low + 6, player.low, player.low + 12)
                    voices = tuple(root + interval for interval in _POWER_CHORD)
                else:
                    voices = voice_lead(chord, voices, player.voices, low, high)
            yield from _voiced(step, voices, _until_change(section, step))


def _voiced(step: Step, voices: tuple[int, ...], beats: float) -> Iterator[Played]:
    """Play one step of a pattern with these ``voices``."""
    if step.symbol.isdigit():  # The notes of a broken chord ring on under the next ones.
        yield Played(step.beat, max(beats, 0.9), voices[int(step.symbol) % len(voices)], 0.8)
        return
    accent = ACCENTS[step.symbol]
    beats *= 0.45 if step.symbol == "m" else 0.93
    strings = voices[::-1] if step.symbol == "u" else voices
    for number, pitch in enumerate(strings):
        delay_s = number * _STRUM_S if step.symbol in "du" else 0.0
        yield Played(step.beat, beats, pitch, accent, delay_s)


def _until_change(section: Section, step: Step) -> float:
    """Return for how many beats ``step`` may sound: not beyond its chord."""
    span = section.span_at(step.beat)
    return min(step.beats, span.beat + span.beats - step.beat)


def _approach(coming: Chord, song: Arrangement, pitch: int, low: int, high: int) -> int:
    """Return a pitch next to the ``coming`` root, from the side on which the bass is."""
    root = nearest({coming.root}, pitch, low + 2, high - 2)
    side = 1 if pitch > root else -1
    scale = scale_over(coming, song.key)
    return next((root + side * step for step in (1, 2) if (root + side * step) % 12 in scale), root + side)


def _one_per_kind(song: Arrangement, options: tuple[str, ...], rng: np.random.Generator) -> dict[SectionKind, str]:
    """Draw a pattern that fits the meter for verses and one for choruses; the rest is played as a verse."""
    beats = song.sections[0].beats_per_bar
    fitting = [pattern for pattern in options if len(pattern) == 4 * beats] or [""]
    verse, chorus = (fitting[i % len(fitting)] for i in rng.permutation(max(len(fitting), 2))[:2])
    return {"intro": verse, "verse": verse, "chorus": chorus, "bridge": verse, "outro": verse}
