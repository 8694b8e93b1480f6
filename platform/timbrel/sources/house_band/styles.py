"""What distinguishes a rock song from a waltz: tempo, chords, grooves, patterns and who plays.

Rhythms are written as one bar of a step sequencer, four steps a beat: a symbol starts a note, ``-`` holds
it, ``.`` is silence. Drums and chords: ``X`` accented, ``x`` normal, ``o`` soft; strummed ``d`` down, ``u``
up; ``m`` muted by the palm; a digit is one voice of the chord, counted from the lowest. Bass: ``R`` root,
``3``, ``5``, ``O`` the octave, ``A`` a step next to the coming root.
"""

from dataclasses import dataclass
from typing import Literal

Role = Literal["drums", "bass", "chords", "strum", "arpeggio", "power", "pad", "stabs", "melody"]
Groove = dict[str, str]
"""Drum name -> steps of one bar."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """A way of playing, shared by all songs that are played so."""

    name: str
    tempo_bpm: tuple[int, int]
    """Slowest and fastest."""
    meters: tuple[int, ...] = (4,)
    """Beats a bar."""
    swing: float = 0.5
    """Where the second half of a beat begins: 0.5 is straight, 2/3 a triplet."""
    major: tuple[str, ...]
    """Four-bar chord progressions in major."""
    minor: tuple[str, ...]
    grooves: tuple[Groove, ...] = ()
    """From calm to driving."""
    bass: tuple[str, ...]
    patterns: dict[Role, tuple[str, ...]]
    """How the accompanying roles play."""
    motifs: tuple[str, ...]
    """Rhythms of one-bar melodic ideas."""
    ensembles: tuple[str, ...]
    """Who plays, as ``role=player`` separated by commas; the first melody is the one that leads most."""


ROCK = Style(
    name="rock",
    tempo_bpm=(104, 152),
    major=("I V vi IV", "I bVII IV I", "I IV V IV", "vi IV I V"),
    minor=("i bVI bIII bVII", "i bVII bVI bVII", "i iv bVI V"),
    grooves=(
        {"kick": "X.......X.x.....", "snare": "....X.......X...", "hat": "x.o.x.o.x.o.x.o."},
        {"kick": "X..x....X.x.....", "snare": "....X.......X..o", "hat": "x.x.x.x.x.x.x.x."},
        {"kick": "X.....x.X.x...x.", "snare": "....X.......X...", "ride": "X.x.X.x.X.x.X.x."},
    ),
    bass=("R-R-R-R-R-R-R-R-", "R---R-R-R---5-A-", "R-.RR-.RO-.R5-A-"),
    patterns={
        "power": ("X-m-m-m-m-X-m-m-", "X---X---X---X-x-", "X--X--X-m-m-X---"),
        "strum": ("d---d-u--u-ud-u-", "d---d-u-d---d-u-"),
        "arpeggio": ("0-2-1-2-3-2-1-2-", "0-1-2-3-2-1-2-1-"),
        "chords": ("x-x-x-x-x-x-x-x-", "X-----x---x-----"),
        "stabs": ("X---....x-X-....", "......X---..X-x-"),
    },
    motifs=(
        "x-x-x-x---x-x---",
        "x---x-x-x---....",
        "..x-x-x-x-x-x---",
        "x--x--x-x---x---",
        "x-xxx---x-x-x---",
    ),
    ensembles=(
        "melody=voice, power=distorted guitar, arpeggio=clean guitar, bass=electric bass, drums=drums",
        "melody=voice, strum=steel guitar, power=distorted guitar, pad=organ, bass=electric bass, drums=drums",
        "melody=voice, melody=tenor saxophone, power=distorted guitar, chords=piano, stabs=trombone, "
        "bass=electric bass, drums=drums",
        "melody=violin, melody=synth lead, melody=flute, power=distorted guitar, strum=steel guitar, "
        "bass=electric bass, drums=drums",
    ),
)

BALLAD = Style(
    name="ballad",
    tempo_bpm=(66, 88),
    major=("I V vi IV", "I vi IV V", "I iii IV V", "IV V iii vi"),
    minor=("i bVI bIII bVII", "i iv bVII bIII", "i bVII bVI V"),
    grooves=(
        {"kick": "X.......x.......", "stick": "....x.......x...", "hat": "x.o.x.o.x.o.x.o."},
        {"kick": "X......xx.......", "snare": "....X.......X...", "hat": "xoxoxoxoxoxoxoxo"},
    ),
    bass=("R-------R---5-A-", "R---------R-5---", "R-----R-R-----A-"),
    patterns={
        "arpeggio": ("0-1-2-3-2-1-2-1-", "0-2-3-2-1-2-3-2-", "0123212301232123"),
        "strum": ("d---d-u--u-ud-u-", "d-----d-u-u-d-u-"),
        "chords": ("x---x---x---x---", "x-------x---x---"),
    },
    motifs=("x---x-x-x-------", "..x-x-x-x---x---", "x--xx---x-x-x---", "x-----x-x-x-x---"),
    ensembles=(
        "melody=voice, melody=violin, arpeggio=piano, strum=steel guitar, pad=string ensemble, "
        "bass=electric bass, drums=drums",
        "melody=voice, melody=flute, arpeggio=nylon guitar, chords=piano, pad=synth pad, "
        "bass=electric bass, drums=drums",
        "melody=violin, melody=voice, arpeggio=piano, strum=steel guitar, pad=horn, bass=cello",
        "melody=clarinet, melody=trumpet, arpeggio=steel guitar, chords=electric piano, pad=string ensemble, "
        "bass=electric bass, drums=drums",
    ),
)

JAZZ = Style(
    name="jazz",
    tempo_bpm=(112, 184),
    swing=0.63,
    major=("ii7 V7 Imaj7 vi7", "Imaj7 vi7 ii7 V7", "iii7 vi7 ii7 V7", "Imaj7 IV7 iii7 V7"),
    minor=("i6 iiø7 V7 i6", "iv7 bVII7 bIIImaj7 V7", "i6 bVImaj7 iiø7 V7"),
    grooves=(
        {"ride": "X...x.x.X...x.x.", "pedal hat": "....x.......x...", "kick": "o.......o......."},
        {
            "ride": "X...x.x.X...x.x.",
            "pedal hat": "....x.......x...",
            "snare": "......o.......o.",
            "kick": "x...o...o.....o.",
        },
    ),
    bass=("R---3---5---A---", "R---5---3---A---", "R---O---5---A---", "R---5---R---A---"),
    patterns={
        "chords": ("x--...x---......", "......x-......x-", "x-....x-..x-....", "..x---......x-.."),
        "strum": ("d-..d-..d-..d-..", "d-..d-u.d-..d-u."),
        "stabs": ("X-......x-......", "......X---......", "..x-X-.........."),
    },
    motifs=(
        "x-x-x-x-..x-x---",
        "..x-x-x-x---....",
        "x---x-x-..x-x-x-",
        "x-x-x---..x-x-..",
        "..x-x-x-x-x-x-x-",
    ),
    ensembles=(
        "melody=tenor saxophone, melody=trumpet, chords=piano, bass=double bass, drums=jazz drums",
        "melody=violin, melody=clarinet, strum=nylon guitar, chords=clean guitar, bass=double bass, drums=jazz drums",
        "melody=alto saxophone, melody=synth lead, chords=electric piano, stabs=trombone, "
        "bass=electric bass, drums=jazz drums",
        "melody=trumpet, melody=voice, melody=vibraphone, chords=piano, bass=double bass, drums=jazz drums",
    ),
)

CHAMBER = Style(
    name="chamber",
    tempo_bpm=(84, 126),
    meters=(3, 4),
    major=("I V vi IV", "I IV V I", "I ii V I", "vi ii V I"),
    minor=("i iv V i", "i bVI iv V", "i bIII iv V"),
    bass=(
        "R-------5---", "R-----------", "R---3---5---",
        "R-------5-------", "R---3---5---A---", "R-------R-------",
    ),
    patterns={
        "chords": ("....x---x---", "x---x---x---", "x---x---x---x---", "....x---....x---"),
        "arpeggio": ("0-1-2-3-2-1-", "0---2-1-3-2-", "0-1-2-3-2-1-2-1-", "0-2-1-2-0-2-1-2-"),
    },
    motifs=(
        "x-------x---", "x---x-x-x---", "x-x-x---x---", "x-----x-x-x-",
        "x-------x---x---", "x---x-x-x-x-x---", "x-----x-x---x---", "x-x-x-x-x-------",
    ),
    ensembles=(
        "melody=violin, melody=flute, melody=clarinet, arpeggio=piano, pad=horn, bass=cello",
        "melody=violin, melody=oboe, pad=viola, arpeggio=nylon guitar, bass=cello",
        "melody=trumpet, melody=violin, melody=oboe, chords=harpsichord, pad=string ensemble, bass=cello",
        "melody=clarinet, melody=voice, melody=violin, arpeggio=piano, pad=horn, bass=cello",
    ),
)  # fmt: skip

FUNK = Style(
    name="funk",
    tempo_bpm=(96, 120),
    major=("I9 I9 IV9 I9", "ii7 V9 ii7 V9", "I7 bVII7 IV7 I7"),
    minor=("i7 i7 IV9 IV9", "i7 iv7 i7 V7", "i7 bVII bVI V7"),
    grooves=(
        {"kick": "X.....x...x..x..", "snare": "....X..o.o..X..o", "hat": "x.x.x.x.x.x.x.x."},
        {
            "kick": "X.x...x...x..x..",
            "snare": "....X..o.o..X..o",
            "hat": "xoxoxoxoxoxox.xo",
            "open hat": "..............x.",
        },
    ),
    bass=("R-.R..O.R-..5-A-", "R--.R.R...O.5.A-", "R-O...R.5-R...A-"),
    patterns={
        "chords": ("..x...xx..x...x.", "x.xx..x.x.xx..x.", "....x..x....x..x"),
        "stabs": ("X-..........x.X-", "......X-..x.....", "X.X---..........", "..........x-X-X-"),
    },
    motifs=("x.xx--..x-x-....", "..x-xx--..x-x---", "x-x-..xxx---....", "x--x--x-..x-x-.."),
    ensembles=(
        "melody=alto saxophone, chords=clean guitar, stabs=brass section, pad=organ, bass=slap bass, drums=drums",
        "melody=voice, melody=synth lead, chords=clean guitar, stabs=trumpet, pad=string ensemble, "
        "bass=electric bass, drums=drums",
        "melody=trumpet, stabs=trombone, stabs=tenor saxophone, chords=piano, melody=flute, "
        "bass=slap bass, drums=drums",
        "melody=voice, melody=synth lead, chords=clean guitar, stabs=brass section, pad=string ensemble, "
        "bass=electric bass, drums=drums",
    ),
)

ELECTRONIC = Style(
    name="electronic",
    tempo_bpm=(112, 132),
    major=("vi IV I V", "I V ii IV", "IV I V vi"),
    minor=("i bVI bIII bVII", "i i bVI bVII", "i v bVI iv"),
    grooves=(
        {"kick": "X...X...X...X...", "hat": "..x...x...x...x."},
        {
            "kick": "X...X...X...X...",
            "clap": "....X.......X...",
            "open hat": "..x...x...x...x.",
            "hat": "xoo.xoo.xoo.xoo.",
        },
    ),
    bass=("..R-..R-..R-..R-", "R-.R-.R-R-.R-.5-", "RRRRRRRRRRRRRRRR"),
    patterns={
        "arpeggio": ("0123012301230123", "0.2.1.3.0.2.1.3.", "0120120120123210"),
        "chords": ("x--x--x---x--x--", "..x-..x-..x-..x-", "X-----X-----X---"),
        "strum": ("d---d-u--u-ud-u-", "d-----d-u-u-d-u-"),
        "power": ("X-------X-------", "m-m-m-m-m-m-m-m-"),
        "stabs": ("X-....X-........", "..........X-..X-"),
    },
    motifs=("x-.x-.x-.x-.x-x-", "x---x---x-x-x---", "x-x-x---..x-x-x-", "x--x--x---------"),
    ensembles=(
        "melody=synth lead, melody=voice, arpeggio=piano, pad=synth pad, bass=synth bass, drums=electronic drums",
        "melody=flute, melody=clarinet, strum=steel guitar, pad=synth pad, bass=electric bass, drums=electronic drums",
        "melody=violin, melody=synth lead, arpeggio=clean guitar, pad=string ensemble, bass=electric bass, "
        "drums=electronic drums",
        "melody=synth lead, melody=horn, power=distorted guitar, strum=steel guitar, chords=piano, "
        "pad=synth pad, bass=synth bass, drums=electronic drums",
    ),
)

STYLES = (ROCK, BALLAD, JAZZ, CHAMBER, FUNK, ELECTRONIC)
