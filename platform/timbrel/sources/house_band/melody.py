"""Tunes made of motifs, and what the melody players make of them: lead, follow a third below, or answer."""

from collections.abc import Iterator

import numpy as np

from timbrel.sources.house_band.arrangement import Arrangement, Section, SectionKind
from timbrel.sources.house_band.harmony import nearest, scale_over
from timbrel.sources.house_band.parts import Played, Step, steps

Tunes = dict[SectionKind, list[Played]]
"""Each kind of section's tune; beats count from the start of the section."""

_REGISTER = (60, 81)  # Where tunes are written, before each player takes them to an octave of its own.
_PLANS = {2: ("AB", "Aa"), 4: ("AaAB", "AaBb", "AABb"), 8: ("AaABAaBb", "AaBbAaBB")}  # Lower case: varied.
_CADENCES = {
    3: ("x-------....", "x---x---...."),
    4: ("x---x-------....", "x-x-x-------....", "x-----------...."),
}
_PASSING = 0.25  # A note shorter than this many beats may be any note of the scale, even on a beat.


def compose_tunes(song: Arrangement, rng: np.random.Generator) -> Tunes:
    """Compose a tune for each kind of section; every chorus has the same one."""
    tunes: Tunes = {}
    for section in song.sections:
        if section.kind not in tunes:
            tunes[section.kind] = _tune(song, section, rng)
    return tunes


def play_melody(song: Arrangement, chair: int, tunes: Tunes, rng: np.random.Generator) -> Iterator[Played]:
    """Play the tune where this ``chair`` leads, a harmony to it in choruses, and answers elsewhere."""
    player = song.chairs[chair].player
    for section in song.played_by(chair):
        tune = [note._replace(beat=section.start + note.beat) for note in tunes[section.kind]]
        if section.leader == chair:
            line = tune
        elif section.kind == "chorus":
            line = list(_third_below(song, section, tune))
        else:
            line = list(_answers(section, tune, rng))
        yield from _in_range(line, player.low, player.high)


def _tune(song: Arrangement, section: Section, rng: np.random.Generator) -> list[Played]:
    """Compose a tune over the chords of ``section``: motifs that repeat, vary and come to rest.

    A motif is a rhythm and a contour in steps of the scale. It starts anew on a note of each bar's chord, so
    its repetitions follow the harmony; notes on strong beats are chord notes, others may pass between them.
    """
    beats = section.beats_per_bar
    rhythms = [rhythm for rhythm in song.style.motifs if len(rhythm) == 4 * beats]
    drawn = rng.permutation(len(rhythms))
    motifs = {
        name: [(step, int(move)) for step, move in zip(steps(rhythm), _contour(rng), strict=False)]
        for name, rhythm in (("A", rhythms[drawn[0]]), ("B", rhythms[drawn[1 % len(drawn)]]))
    }
    plans = _PLANS[section.bars]
    plan = plans[rng.integers(len(plans))]
    low, high = _REGISTER
    anchor = (low + high) / 2 + (2 if section.kind == "chorus" else -3)
    tune: list[Played] = []
    for bar, name in enumerate(plan):
        start = bar * beats
        motif = motifs[name.upper()]
        if bar == len(plan) - 1 or (len(plan) > 4 and bar == 3):
            cadences = _CADENCES[beats]
            rhythm = cadences[rng.integers(len(cadences))]
            motif = [(step, -1 if number else 0) for number, step in enumerate(steps(rhythm))]
        arch = 3 * np.sin(np.pi * (bar + 0.5) / len(plan))
        target = anchor + arch + (rng.integers(-3, 4) if name.islower() else 0)
        tune += _realise(song, section, motif, start, target)
    return tune


def _realise(
    song: Arrangement, section: Section, motif: list[tuple[Step, int]], start: float, target: float
) -> Iterator[Played]:
    """Yield the notes of a ``motif`` on the bar that begins ``start`` beats into the section."""
    low, high = _REGISTER
    pitch: int | None = None
    for step, move in motif:
        beat = start + step.beat
        chord = section.span_at(section.start + beat).chord
        scale = scale_over(chord, song.key)
        ladder = [p for p in range(low, high + 1) if p % 12 in scale]
        if pitch is None:
            pitch = nearest(set(chord.pitch_classes), target, low, high)
        else:
            rung = ladder.index(nearest(scale, pitch, low, high)) + move
            pitch = ladder[min(max(rung, 0), len(ladder) - 1)]
            if step.beats >= 1 or (beat % 2 == 0 and step.beats > _PASSING):
                pitch = nearest(set(chord.pitch_classes), pitch + 0.1 * np.sign(move), low, high)
        accent = 1.0 if beat % 2 == 0 else 0.9 if beat % 1 == 0 else 0.78
        yield Played(beat, step.beats * 0.94, pitch, accent)


def _contour(rng: np.random.Generator) -> np.ndarray:
    """Draw moves in steps of the scale: mostly stepwise, a leap answered by steps back."""
    moves = rng.choice([-2, -1, -1, 0, 1, 1, 2, 3], size=17)
    for i in range(1, len(moves)):
        if abs(moves[i - 1]) >= 2:
            moves[i] = -np.sign(moves[i - 1])
    return moves


def _third_below(song: Arrangement, section: Section, tune: list[Played]) -> Iterator[Played]:
    for note in tune:
        scale = sorted(scale_over(section.span_at(note.beat).chord, song.key))
        ladder = [pitch for pitch in range(note.pitch - 6, note.pitch) if pitch % 12 in scale]
        yield note._replace(pitch=ladder[-2], accent=note.accent * 0.85)


def _answers(section: Section, tune: list[Played], rng: np.random.Generator) -> Iterator[Played]:
    """Yield a run of chord notes where the tune rests for a beat, and held notes under some of its bars."""
    pitch = sum(_REGISTER) // 2
    for start in section.bar_starts():
        chord = section.span_at(start).chord
        end = start + section.beats_per_bar
        busy_until = max((note.beat + note.beats for note in tune if start <= note.beat < end), default=start)
        if end - busy_until >= 0.9:
            direction = int(rng.choice([-1, 1]))
            for i in range(int((end - busy_until + 0.1) * 2)):
                tones = set(section.span_at(end - 0.01).chord.pitch_classes)
                pitch = nearest(tones, pitch + direction * (3 if i else 0), *_REGISTER)
                yield Played(np.ceil(busy_until * 2) / 2 + i / 2, 0.46, pitch, 0.8 + 0.05 * i)
        elif rng.random() < 0.6:
            pitch = nearest({chord.pitch_classes[1], chord.pitch_classes[-1]}, pitch, *_REGISTER)
            yield Played(start, section.beats_per_bar * 0.9, pitch, 0.7)


def _in_range(line: list[Played], low: int, high: int) -> Iterator[Played]:
    """Move a ``line`` by octaves to the middle of the range ``low``..``high``, and single notes as needed."""
    if not line:
        return
    middle = np.mean([note.pitch for note in line])
    shift = 12 * round(((low + high) / 2 - middle) / 12)
    for note in line:
        pitch = note.pitch + shift
        while pitch < low:
            pitch += 12
        while pitch > high:
            pitch -= 12
        yield note._replace(pitch=pitch)
