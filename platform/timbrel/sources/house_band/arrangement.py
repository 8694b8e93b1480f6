"""A song before a note is written: key, tempo, sections with their chords, and who plays in which of them.

Conventions: time is counted in beats from the start of the song.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from timbrel.sources.house_band.harmony import Chord, Key, parse_chord
from timbrel.sources.house_band.players import PLAYERS, Player
from timbrel.sources.house_band.styles import STYLES, Role, Style

SectionKind = Literal["intro", "verse", "chorus", "bridge", "outro"]

_INTENSITY: dict[SectionKind, float] = {
    "intro": 0.72,
    "verse": 0.8,
    "chorus": 1.0,
    "bridge": 0.78,
    "outro": 0.75,
}
_PRESENCE: dict[SectionKind, dict[Role, float]] = {
    # How likely a role plays in a section; melodies are seated apart, for one of them always leads.
    "intro": {"drums": 0.4, "bass": 0.4, "power": 0.3, "pad": 0.7, "stabs": 0.0},
    "verse": {"power": 0.5, "pad": 0.4, "stabs": 0.4, "strum": 0.8, "chords": 0.8},
    "chorus": {},
    "bridge": {"drums": 0.6, "bass": 0.8, "power": 0.4, "stabs": 0.5, "strum": 0.5, "arpeggio": 0.7},
    "outro": {"drums": 0.7, "power": 0.6, "stabs": 0.4, "pad": 0.8},
}
_MELODY_PRESENCE = 0.35  # How likely a melody that does not lead plays, outside choruses.


@dataclass(frozen=True)
class Chair:
    """One part of an ensemble."""

    role: Role
    player: Player
    program: int
    """General MIDI program, or the number of the drum set for drums."""


class ChordSpan(NamedTuple):
    """How long a chord lasts."""

    beat: float
    beats: float
    chord: Chord


@dataclass(frozen=True)
class Section:
    """A part of the form, such as a verse."""

    kind: SectionKind
    start: float
    """Beat on which it begins."""
    bars: int
    beats_per_bar: int
    chords: tuple[ChordSpan, ...]
    playing: frozenset[int]
    """Indices of the chairs that play."""
    leader: int | None
    """Index of the chair that plays the tune; ``None`` where nobody does."""

    @property
    def intensity(self) -> float:
        """Loudness relative to a chorus."""
        return _INTENSITY[self.kind]

    @property
    def end(self) -> float:
        """Beat on which the next section begins."""
        return self.start + self.bars * self.beats_per_bar

    def bar_starts(self) -> list[float]:
        """Return the beat on which each bar begins."""
        return [self.start + bar * self.beats_per_bar for bar in range(self.bars)]

    def span_at(self, beat: float) -> ChordSpan:
        """Return the chord that sounds at ``beat``; the last one if the section is over."""
        return next((span for span in self.chords if beat < span.beat + span.beats), self.chords[-1])


@dataclass(frozen=True)
class Arrangement:
    """Everything that the players agree on before they play."""

    style: Style
    key: Key
    tempo_bpm: float
    chairs: tuple[Chair, ...]
    sections: tuple[Section, ...]

    def played_by(self, chair: int) -> Iterator[Section]:
        """Yield the sections in which the chair with this index plays."""
        return (section for section in self.sections if chair in section.playing)

    @property
    def end_s(self) -> float:
        """When the last bar ends, s."""
        return self.seconds(self.sections[-1].end)

    def seconds(self, beat: float) -> float:
        """Return when ``beat`` comes, in s, swing included."""
        whole, part = divmod(beat, 1.0)
        swing = self.style.swing
        swung = part * 2 * swing if part < 0.5 else swing + (part - 0.5) * 2 * (1 - swing)
        return (whole + swung) * 60 / self.tempo_bpm


def lineup(index: int) -> tuple[Style, tuple[Chair, ...]]:
    """Return style and ensemble of song ``index``.

    They cycle rather than being drawn, so that a few consecutive songs hold every style and nearly every
    class; after all ensembles have played they come back with other programs (another bass, say).
    """
    style = STYLES[index % len(STYLES)]
    ensemble = style.ensembles[index // len(STYLES) % len(style.ensembles)]
    rounds = index // (len(STYLES) * len(style.ensembles))
    chairs = []
    for number, chair in enumerate(ensemble.split(",")):
        role, name = chair.strip().split("=")
        player = PLAYERS[name]
        program = player.programs[(rounds + index + number) % len(player.programs)]
        chairs.append(Chair(role, player, program))  # type: ignore[arg-type]  # the table has no others
    return style, tuple(chairs)


def arrange(index: int, seconds: float, rng: np.random.Generator) -> Arrangement:
    """Arrange song ``index`` in as many sections as come nearest to ``seconds``."""
    style, chairs = lineup(index)
    key = Key(tonic=int(rng.integers(12)), minor=bool(rng.random() < 0.4))
    beats_per_bar = int(rng.choice(style.meters))
    tempo_bpm = float(rng.uniform(*style.tempo_bpm))
    bars_that_fit = seconds * tempo_bpm / 60 / beats_per_bar
    section_bars = next((bars for bars in (8, 4) if bars_that_fit > 3.5 * bars), 2)
    kinds = _form(max(1, round(bars_that_fit / section_bars)))

    progressions = _progressions(style, key, rng)
    playing = _orchestrate(chairs, kinds, rng)
    sections = []
    for number, (kind, present) in enumerate(zip(kinds, playing, strict=True)):
        start = float(number * section_bars * beats_per_bar)
        chords = _spread(progressions[kind], start, section_bars, beats_per_bar)
        if number == len(kinds) - 1:  # Songs end at home.
            chords[-1] = chords[-1]._replace(chord=parse_chord("i" if key.minor else "I", key))
        leader = _leader(chairs, kinds, number, present)
        sections.append(Section(kind, start, section_bars, beats_per_bar, tuple(chords), present, leader))
    return Arrangement(style, key, tempo_bpm, chairs, tuple(sections))


def _form(sections: int) -> list[SectionKind]:
    middle: list[SectionKind] = ["verse", "chorus", "bridge", "chorus"]
    if sections < 4:
        return middle[:2][-sections:] if sections < 3 else ["intro", *middle[:2]]
    return ["intro", *itertools.islice(itertools.cycle(middle), sections - 2), "outro"]


def _progressions(style: Style, key: Key, rng: np.random.Generator) -> dict[SectionKind, list[Chord]]:
    """Return each kind of section's chords: intro and outro share the verse's."""
    options = style.minor if key.minor else style.major
    drawn = [options[i] for i in rng.permutation(len(options))]
    verse, chorus, bridge = ([parse_chord(numeral, key) for numeral in drawn[i % len(drawn)].split()] for i in range(3))
    return {"intro": verse, "verse": verse, "chorus": chorus, "bridge": bridge, "outro": verse}


def _spread(chords: list[Chord], start: float, bars: int, beats_per_bar: int) -> list[ChordSpan]:
    """Give each chord a bar, repeating them as needed, or less where the section is shorter than they are."""
    beats = min(float(beats_per_bar), bars * beats_per_bar / len(chords))
    count = round(bars * beats_per_bar / beats)
    return [
        ChordSpan(start + i * beats, beats, chord)
        for i, chord in enumerate(itertools.islice(itertools.cycle(chords), count))
    ]


def _orchestrate(chairs: tuple[Chair, ...], kinds: list[SectionKind], rng: np.random.Generator) -> list[frozenset[int]]:
    """Decide who plays in each section.

    Everybody plays in a third of the sections and, in songs of four sections or more, rests in one; nobody
    plays alone.
    """
    melodies = [i for i, chair in enumerate(chairs) if chair.role == "melody"]
    others = [i for i, chair in enumerate(chairs) if chair.role != "melody"]
    playing = []
    for number, kind in enumerate(kinds):
        present = {i for i in others if rng.random() < _PRESENCE[kind].get(chairs[i].role, 1.0)}
        present |= {i for i in melodies if kind == "chorus" or rng.random() < _MELODY_PRESENCE}
        if kind != "intro":
            present.add(melodies[_turn(kinds, number) % len(melodies)])
        if len(present & set(others)) < 2:
            present |= {int(i) for i in rng.choice(others, size=2, replace=False)}
        playing.append(present)
    for chair in (int(i) for i in rng.permutation(len(chairs))):
        sections = [number for number in range(len(kinds)) if chair in playing[number]]
        if len(sections) == len(kinds) >= 4:
            may_rest = [n for n in sections if kinds[n] != "chorus"]
            fullest = max(may_rest, key=lambda n: (len(playing[n] - {chair, *melodies}), len(playing[n]), -n))
            playing[fullest].discard(chair)
        loudest_first = sorted(set(range(len(kinds))) - set(sections), key=lambda n: -_INTENSITY[kinds[n]])
        missing = int(np.ceil(len(kinds) / 3)) - len(sections)
        for number in loudest_first[: max(missing, 0)]:
            playing[number].add(chair)
    return [frozenset(present) for present in playing]


def _turn(kinds: list[SectionKind], number: int) -> int:
    """Return whose turn it is to lead: the first melody's in verses and choruses, else the next one's."""
    if kinds[number] in ("verse", "chorus"):
        return 0
    return sum(kind not in ("verse", "chorus", "intro") for kind in kinds[: number + 1])


def _leader(chairs: tuple[Chair, ...], kinds: list[SectionKind], number: int, present: frozenset[int]) -> int | None:
    melodies = [i for i, chair in enumerate(chairs) if chair.role == "melody"]
    wanted = melodies[_turn(kinds, number) % len(melodies)]
    return wanted if wanted in present else next((i for i in melodies if i in present), None)
