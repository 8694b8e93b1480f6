"""Keys, chords in Roman numerals, and voice leading.

Conventions: a pitch is a MIDI note number, a pitch class a number 0-11 with C = 0.
"""

import itertools
import re
from dataclasses import dataclass
from typing import NamedTuple

_MAJOR = (0, 2, 4, 5, 7, 9, 11)
_MINOR = (0, 2, 3, 5, 7, 8, 10)
_DEGREES = ("i", "ii", "iii", "iv", "v", "vi", "vii")
_NUMERAL = re.compile(r"([b#]?)([iv]+|[IV]+)(.*)")
_QUALITIES = {  # Suffix -> semitones above the root; None stands for the third that the numeral's case tells.
    "": (0, None, 7),
    "6": (0, None, 7, 9),
    "7": (0, None, 7, 10),
    "9": (0, None, 7, 10, 14),
    "maj7": (0, None, 7, 11),
    "sus4": (0, 5, 7),
    "o": (0, 3, 6),
    "ø7": (0, 3, 6, 10),
}


@dataclass(frozen=True)
class Key:
    """A major or natural minor key."""

    tonic: int
    """Pitch class."""
    minor: bool

    @property
    def scale(self) -> tuple[int, ...]:
        """The key's seven pitch classes, from the tonic."""
        return tuple((self.tonic + step) % 12 for step in (_MINOR if self.minor else _MAJOR))


class Chord(NamedTuple):
    """Pitch classes that sound together."""

    root: int
    pitch_classes: tuple[int, ...]
    """Root first, then third (or fourth), fifth and what is stacked above."""

    @property
    def fifth(self) -> int:
        """Pitch class."""
        return self.pitch_classes[2]


def parse_chord(numeral: str, key: Key) -> Chord:
    """Return the chord that a Roman ``numeral`` names in ``key``.

    Degrees are those of the major scale on the tonic in either mode (``bVI`` is A flat in C major and in C
    minor), upper case has a major third and lower case a minor one: ``V7``, ``ii7``, ``bVII``, ``iiø7``.
    """
    match = _NUMERAL.fullmatch(numeral)
    if match is None or match[3] not in _QUALITIES:
        raise ValueError(f"not a chord: '{numeral}'")
    accidental, degree, quality = match.groups()
    root = key.tonic + _MAJOR[_DEGREES.index(degree.lower())] + {"b": -1, "": 0, "#": 1}[accidental]
    third = 4 if degree.isupper() else 3
    intervals = (third if step is None else step for step in _QUALITIES[quality])
    return Chord(root % 12, tuple((root + step) % 12 for step in intervals))


def scale_over(chord: Chord, key: Key) -> frozenset[int]:
    """Return the key's pitch classes, altered where ``chord`` alters them.

    A foreign note is a raised degree in minor (the leading note) and a lowered one in major (blue notes).
    """
    tones = set(chord.pitch_classes)
    foreign = tones - set(key.scale)
    altered = {(tone - 1 if key.minor else tone + 1) % 12 for tone in foreign}
    return frozenset(set(key.scale) - altered | tones)


def nearest(pitch_classes: frozenset[int] | set[int], target: float, low: int, high: int) -> int:
    """Return the pitch of one of ``pitch_classes`` within ``low``..``high`` that is nearest to ``target``."""
    candidates = [pitch for pitch in range(low, high + 1) if pitch % 12 in pitch_classes]
    return min(candidates, key=lambda pitch: (abs(pitch - target), pitch))


def voice_lead(chord: Chord, previous: tuple[int, ...], voices: int, low: int, high: int) -> tuple[int, ...]:
    """Return ``voices`` pitches of ``chord``, ascending, least far from the ``previous`` ones.

    The third and the highest extension are kept before the fifth and the root when voices are few: a bass
    plays the root. Without ``previous`` the voicing nearest to the middle of ``low``..``high`` is taken.
    """
    classes = chord.pitch_classes
    by_weight = (classes[1], classes[-1], classes[0], *classes[2:-1])
    kept = {tone % 12 for tone in by_weight[: max(voices, 1)]}
    pitches = [pitch for pitch in range(low, high + 1) if pitch % 12 in kept]
    if voices == 1:
        target = previous[0] if previous else (low + high) / 2
        return (nearest(set(classes), target, low, high),)
    windows = [
        chosen
        for start in pitches
        for chosen in itertools.combinations([p for p in pitches if start <= p <= start + _SPAN], voices)
        if chosen[0] == start and {p % 12 for p in chosen} == kept
    ]
    target_voices = previous if len(previous) == voices else ((low + high) / 2,) * voices
    return min(
        windows,
        key=lambda chosen: (sum(abs(a - b) for a, b in zip(chosen, target_voices, strict=True)), chosen),
    )


_SPAN = 19  # Semitones between the lowest and the highest voice: what two hands or six strings reach.
