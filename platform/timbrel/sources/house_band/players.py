"""Who can be hired for the house band: General MIDI programs, the ranges in which they play, and loudness."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Player:
    """One kind of instrument."""

    volumes: dict[int, int]
    """General MIDI programs, 0-127, that may stand in for each other (for drums the numbers of drum sets),
    each with the MIDI volume (CC7) that balances it with the other players in the default SoundFont."""
    low: int = 0
    """Lowest comfortable pitch, as MIDI note number."""
    high: int = 127
    voices: int = 1
    """How many pitches it plays at once in an accompaniment."""
    drums: bool = False
    pedal: bool = False
    """Holds broken chords with the sustain pedal."""
    swells: bool = False
    """Shapes phrases with expression (CC11): bowed, blown and sung instruments, and pads."""

    @property
    def programs(self) -> tuple[int, ...]:
        """The programs that may stand in for each other."""
        return tuple(self.volumes)


# Volumes were measured over 48 songs, for these levels while playing: drums -31 dB, bass -33, melodies -34
# (as far as 127 reaches), power chords and stabs -36, other chords -38, pads -41.
PLAYERS = {
    "drums": Player({0: 106, 8: 91, 16: 99}, drums=True),
    "jazz drums": Player({32: 108, 40: 100}, drums=True),
    "electronic drums": Player({24: 95, 25: 95}, drums=True),
    "electric bass": Player({33: 94, 34: 111, 35: 92}, 28, 55),
    "slap bass": Player({36: 93, 37: 106}, 28, 55),
    "double bass": Player({32: 93}, 28, 55),
    "synth bass": Player({38: 93, 39: 89}, 28, 52),
    "distorted guitar": Player({30: 100, 29: 106}, 40, 76, voices=3),
    "clean guitar": Player({27: 96, 26: 71}, 40, 79, voices=4),
    "steel guitar": Player({25: 84}, 40, 76, voices=5),
    "nylon guitar": Player({24: 79}, 40, 76, voices=4),
    "piano": Player({0: 112, 1: 117}, 36, 88, voices=4, pedal=True),
    "electric piano": Player({4: 94, 5: 100}, 40, 84, voices=4),
    "organ": Player({16: 84, 18: 88, 17: 78}, 43, 84, voices=3, swells=True),
    "harpsichord": Player({6: 113}, 41, 84, voices=4),
    "violin": Player({40: 112}, 57, 88, swells=True),
    "viola": Player({41: 91}, 50, 79, swells=True),
    "cello": Player({42: 117}, 36, 69, swells=True),
    "string ensemble": Player({48: 96, 49: 91}, 48, 84, voices=4, swells=True),
    "flute": Player({73: 95}, 62, 91, swells=True),
    "clarinet": Player({71: 115}, 52, 84, swells=True),
    "oboe": Player({68: 98}, 60, 84, swells=True),
    "alto saxophone": Player({65: 114, 64: 111}, 52, 79, swells=True),
    "tenor saxophone": Player({66: 127, 67: 125}, 46, 74, swells=True),
    "trumpet": Player({56: 108, 59: 127}, 56, 80, swells=True),
    "trombone": Player({57: 124}, 43, 68, swells=True),
    "horn": Player({60: 81}, 45, 72, swells=True),
    "brass section": Player({61: 117}, 50, 79, voices=3, swells=True),
    "vibraphone": Player({11: 94}, 55, 86, voices=3),
    "synth lead": Player({81: 127, 80: 127, 87: 93}, 52, 84),
    "synth pad": Player({89: 65, 90: 89, 88: 67, 95: 86}, 48, 82, voices=4, swells=True),
    "voice": Player({53: 127}, 56, 77, swells=True),
}
"""By name. Ranges are those in which the instruments usually play, not their limits."""
