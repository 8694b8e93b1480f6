"""The recipe of a mixture: every knob of the paper's mix builder, as a config.

Source: the mix builder of the transfer-and-mixing paper (steps 1-5 in its section on data). The paper gives
the structure, p_musical and the kinds of effects, but no value for the rest. The defaults here are ours, and
together they are what this project calls the recipe ``paper``.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Interval

Probability = Annotated[float, Interval(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class Effect:
    """How often an effect is applied to a source, and the range its strength is drawn from uniformly."""

    p: Probability
    """Probability for each source."""
    low: float
    """Least strength, in the effect's unit: dB, semitones, or rate."""
    high: float
    """Greatest strength."""
    step: Annotated[float, Ge(0)] = 0.0
    """Only whole multiples of this are drawn, each as likely, such as whole semitones; 0: any strength."""

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) must not exceed high ({self.high})")
        if self.step and not all(math.isfinite(end / self.step) for end in (self.low, self.high)):
            raise ValueError(f"low ({self.low}) and high ({self.high}) must be finite multiples of step ({self.step})")
        if self.step and self._multiples[0] > self._multiples[1]:
            raise ValueError(f"no multiple of step ({self.step}) lies between low ({self.low}) and high ({self.high})")

    @property
    def _multiples(self) -> tuple[int, int]:
        """How many steps the least and the greatest strength are."""
        tolerance = 1e-9  # 0.3 is three times 0.1
        return math.ceil(self.low / self.step - tolerance), math.floor(self.high / self.step + tolerance)

    def strength(self, share: float) -> float:
        """Return the strength that lies at a share, in [0, 1), of the way from the least to the greatest."""
        if not self.step:
            return self.low + (self.high - self.low) * share
        first, last = self._multiples
        steps = first + int(share * (last - first + 1))
        return min(max(self.step * steps, self.low), self.high)

    def allows(self, strength: float) -> bool:
        """Return whether a strength is a whole multiple of the step."""
        return not self.step or abs(strength / self.step - round(strength / self.step)) < 1e-6


@dataclass(frozen=True, kw_only=True)
class Effects:
    """The effects of a source, applied in random order; centre frequencies and Q as audiomentations draws them.

    Kinds of effects: the paper. Probabilities and ranges: ours.
    """

    gain: Effect = field(default_factory=lambda: Effect(p=0.5, low=-6.0, high=6.0))
    """Gain in dB."""
    low_shelf: Effect = field(default_factory=lambda: Effect(p=0.5, low=-6.0, high=6.0))
    """Low shelf, gain at 0 Hz in dB."""
    high_shelf: Effect = field(default_factory=lambda: Effect(p=0.5, low=-6.0, high=6.0))
    """High shelf, gain at the Nyquist frequency in dB."""
    peaking: Effect = field(default_factory=lambda: Effect(p=0.5, low=-6.0, high=6.0))
    """Peaking filter, gain at its centre in dB."""
    pitch_shift: Effect = field(default_factory=lambda: Effect(p=0.25, low=-2.0, high=2.0))
    """Pitch shift in semitones; non-musical mixtures only."""
    time_stretch: Effect = field(default_factory=lambda: Effect(p=0.25, low=0.8, high=1.25))
    """Time stretch as a rate, above 1 is faster; non-musical mixtures only."""
    others: tuple[str, ...] = ()
    """Further transforms of audiomentations, applied last, such as ``AddGaussianSNR(min_snr_db=10, p=0.3)``. Labels
    take no notice of them: one that silences a part, for instance, leaves them as they are."""

    @property
    def drawn(self) -> tuple[str, ...]:
        """Names of the effects whose strength is drawn here."""
        return ("gain", "low_shelf", "high_shelf", "peaking", "pitch_shift", "time_stretch")

    def __post_init__(self) -> None:
        if self.others:
            from timbrel.mixing.effects import named_transform  # takes a second to import, and few name any

            for text in self.others:
                named_transform(text)
        if self.time_stretch.low <= 0:
            raise ValueError(f"time_stretch.low ({self.time_stretch.low}) must be above 0")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a mixture is made: data set (uniform), musical or not, how many sources, which effects."""

    sample_rate: Annotated[int, Interval(gt=0, le=768_000)] = 32_000
    """Hz (paper: 32 kHz)."""
    seconds: Annotated[float, Interval(gt=0, le=600)] = 4.0
    """Length of a mixture in s (paper: 4 s)."""
    p_musical: Probability = 0.4
    """Share of musical mixtures: one song, one time position. Paper: best at 0.4; 0.6 in its Table 1."""
    p_single_source: Probability = 0.2
    """Share of mixtures with one source. Ours: the paper gives no value."""
    min_sources: Annotated[int, Ge(1)] = 2
    """Fewest sources otherwise. Ours."""
    max_sources: Annotated[int, Ge(1)] = 5
    """Most sources otherwise; a musical mixture takes no more than its song has. Ours."""
    active_confidence: Probability = 0.5
    """A stem sounds where its activation confidence is at least this (0.5: the midpoint of MedleyDB's logistic)."""
    active_seconds: Annotated[float, Ge(0)] = 0.1
    """A stem's label counts in a mixture if it sounds for at least this long, in s. 0: always, even where the stem is
    silent. Labels of whole songs, such as tags, count always. Ours."""
    class_balance: Probability = 0.0
    """How much classes are balanced. 0: stems as drawn (paper). 1: a class is drawn first, each as likely, and then a
    moment at which a stem of it sounds; in musical mixtures for one of the stems. Ours."""
    level_db: tuple[float, ...] = ()
    """Lowest and highest level that each source is brought to, drawn in dB: RMS of full scale where it sounds, such as
    ``-32,-18``. Empty: as recorded (paper). Ours."""
    stretch: Literal["exact", "fast", "bank"] = "exact"
    """How pitch and speed are changed. exact: audiomentations' library; fast: a phase vocoder, four times as cheap;
    bank: variants that `timbrel prepare --bank` has made, of which the nearest is taken."""
    channels: Annotated[int, Interval(ge=1, le=2)] = 1
    """1: mono (paper). 2: stereo, for tasks that ask for it."""
    effects: Effects = field(default_factory=Effects)

    def __post_init__(self) -> None:
        if self.level_db and (len(self.level_db) != 2 or not all(map(math.isfinite, self.level_db))):
            raise ValueError(f"level_db ({self.level_db}) must be the lowest and the highest level, such as -32,-18")
        if self.level_db and self.level_db[0] > self.level_db[1]:
            raise ValueError(f"level_db: {self.level_db[0]:g} must not exceed {self.level_db[1]:g}")
        if self.min_sources > self.max_sources:
            raise ValueError(f"min_sources ({self.min_sources}) must not exceed max_sources ({self.max_sources})")

    @property
    def samples(self) -> int:
        """Length of a mixture in samples."""
        return round(self.seconds * self.sample_rate)


PAPER = Recipe()
"""The recipe that the multi-instrument experiment trains on."""

NO_EFFECTS = Effects(
    **{  # type: ignore[arg-type]  # none of the names is `others`
        name: Effect(p=0.0, low=1.0, high=1.0) if name == "time_stretch" else Effect(p=0.0, low=0.0, high=0.0)
        for name in PAPER.effects.drawn
    }
)
"""Every source as it is."""

ALL_SOURCES = 1_000
"""For min_sources and max_sources: every stem that a song has."""


def whole_song(sample_rate: int = PAPER.sample_rate, seconds: float = PAPER.seconds) -> Recipe:
    """Return the recipe of a clip of a song as it is: every stem, no effect."""
    return Recipe(
        sample_rate=sample_rate,
        seconds=seconds,
        p_musical=1.0,
        p_single_source=0.0,
        min_sources=ALL_SOURCES,
        max_sources=ALL_SOURCES,
        effects=NO_EFFECTS,
    )
