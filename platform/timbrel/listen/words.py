"""Numbers as a person says them: effects with their strengths, times, levels.

Effects are described parameter by parameter, so that any transform of audiomentations has words, if plain ones.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

MINUS = "−"
LONGEST = 60
"""Characters of a value: a transform may hold whole arrays."""

EFFECTS = {"pitch_time": "", "peaking": "peak filter"}
"""What effects are called, where it is not their name; nothing where the parameters say it."""

PARAMETERS: dict[str, Callable[[float], str]] = {
    "amplitude_ratio": lambda value: f"{signed(20 * math.log10(value), 1)} dB" if value > 0 else "silence",
    "level_db": lambda value: f"{signed(value, 1)} dB",
    "gain_db": lambda value: f"{signed(value, 1)} dB",
    "center_freq": lambda value: f"{value:.0f} Hz",
    "q_factor": lambda value: f"Q {value:.2f}",
    "semitones": lambda value: f"pitch {signed(value, 1)} semitones",
    "rate": lambda value: f"speed {value:.2f}×",
}
"""How the parameters of the recipe's own effects are worded."""

UNITS = {"db": "dB", "dbfs": "dBFS", "hz": "Hz", "freq": "Hz", "ms": "ms", "s": "s", "seconds": "s"}
"""Units that names of other parameters end in."""


NEUTRAL = {"semitones": 0.0, "rate": 1.0}
"""Values that change nothing, and need no words."""


def effect_words(name: str, parameters: Mapping[str, Any]) -> str:
    """Return an effect as ``low shelf 220 Hz, +4.1 dB, Q 0.71``.

    A transform of audiomentations may be named with its arguments; what it drew from its seed is in ``parameters``,
    whose values are those of JSON.
    """
    title = EFFECTS.get(name, _spaced(name.partition("(")[0]))
    told = {key: value for key, value in parameters.items() if key != "seed" and NEUTRAL.get(key) != value}
    values = ", ".join(_parameter(*item) for item in told.items())
    between = ": " if title[:1].isupper() else " "  # names of transforms are not words of a sentence
    return between.join(part for part in (title, values) if part)


def signed(value: float, digits: int) -> str:
    """Return a number with its sign: ``+1.3``, ``−3.2``, ``0.0``."""
    rounded = round(value, digits)
    return f"{'+' if rounded > 0 else MINUS if rounded < 0 else ''}{abs(rounded):.{digits}f}"


def dbfs(value: float | None) -> str:
    """Return a level as ``−12.1 dBFS``; None is silence."""
    return "silence" if value is None else f"{signed(value, 1)} dBFS"


def clock(time_s: float) -> str:
    """Return a time in a song as ``1:02.35``."""
    minutes, hundredths = divmod(round(100 * time_s), 6000)
    return f"{minutes}:{hundredths // 100:02d}.{hundredths % 100:02d}"


def _parameter(name: str, value: Any) -> str:
    if name in PARAMETERS and isinstance(value, int | float):
        return PARAMETERS[name](float(value))
    words = _spaced(name)
    text = _number(value) if isinstance(value, float) else " ".join(str(value).split())
    if len(text) > LONGEST:
        text = f"{text[: LONGEST - 1]}…"
    *rest, last = words.split()
    if isinstance(value, int | float) and rest and last in UNITS:
        return f"{' '.join(rest)} {text} {UNITS[last]}"
    return f"{words} {text}"


def _spaced(name: str) -> str:
    """Return ``low_shelf`` as ``low shelf`` and ``AddGaussianSNR`` as ``Add Gaussian SNR``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", name).strip()


def _number(value: float) -> str:
    return (f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}").replace("-", MINUS)
