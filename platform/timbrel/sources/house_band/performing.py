"""From what the players mean to what they do: human timing and touch, phrasing and pedalling."""

from collections.abc import Iterable

import numpy as np
import pretty_midi

from timbrel.sources.house_band.arrangement import Arrangement
from timbrel.sources.house_band.parts import Played

_TIMING_S = 0.006  # Standard deviation of an onset around the beat.
_LATENESS_S = 0.004  # Standard deviation of a player's habit of being early or late.
_TOUCH = 4.0  # Standard deviation of MIDI velocity.
_VELOCITY = (28, 84)  # Of a note of accent 0, and what accent 1 in a chorus adds.
_SHORTEST_S = 0.05
_VOLUME, _EXPRESSION, _PEDAL = 7, 11, 64
_SWELL = (88, 34)  # Expression at the ends of a phrase, and what its middle adds.
_PEDAL_CHANGE_S = 0.06  # How long the foot is up when the chord changes.


def humanise(
    song: Arrangement, chair: int, played: Iterable[Played], rng: np.random.Generator
) -> pretty_midi.Instrument:
    """Return the track of one ``chair``."""
    seat = song.chairs[chair]
    player = seat.player
    track = pretty_midi.Instrument(seat.program, is_drum=player.drums)
    lateness_s = rng.normal(0, _LATENESS_S)
    for note in played:
        timing_s = lateness_s + note.delay_s + np.clip(rng.normal(0, _TIMING_S), -0.018, 0.018)
        onset_s = max(song.seconds(note.beat) + timing_s, 0.0)
        offset_s = max(song.seconds(note.beat + note.beats) + lateness_s, onset_s + _SHORTEST_S)
        base, span = _VELOCITY
        loudness = note.accent * _intensity(song, note.beat)
        velocity = int(np.clip(base + span * loudness + rng.normal(0, _TOUCH), 15, 124))
        track.notes.append(pretty_midi.Note(velocity, int(note.pitch), float(onset_s), float(offset_s)))
    _control(track, _VOLUME, 0.0, player.volumes[seat.program])
    if player.swells:
        _swell(song, chair, track)
    if player.pedal and seat.role == "arpeggio":
        _pedal(song, chair, track)
    return track


def _intensity(song: Arrangement, beat: float) -> float:
    """Return how loud the band plays at ``beat``: its section's loudness, a little more in mid-phrase."""
    section = next((section for section in song.sections if beat < section.end), song.sections[-1])
    through = (beat - section.start) / (section.end - section.start)
    return section.intensity * (0.94 + 0.06 * float(np.sin(np.pi * np.clip(through, 0, 1))))


def _swell(song: Arrangement, chair: int, track: pretty_midi.Instrument) -> None:
    """Let each two bars grow and die away by expression, four times a beat so that no step is heard."""
    ends, middle = _SWELL
    for section in song.played_by(chair):
        phrase = 2 * section.beats_per_bar
        for beat in np.arange(section.start, section.end, 0.25):
            through = ((beat - section.start) % phrase) / phrase
            value = int(ends + middle * np.sin(np.pi * through))
            _control(track, _EXPRESSION, song.seconds(float(beat)), value)


def _pedal(song: Arrangement, chair: int, track: pretty_midi.Instrument) -> None:
    """Hold the sustain pedal through every chord."""
    for section in song.played_by(chair):
        for span in section.chords:
            _control(track, _PEDAL, song.seconds(span.beat) + _PEDAL_CHANGE_S, 127)
            _control(track, _PEDAL, song.seconds(span.beat + span.beats), 0)


def _control(track: pretty_midi.Instrument, number: int, time_s: float, value: int) -> None:
    track.control_changes.append(pretty_midi.ControlChange(number, value, time_s))
