"""Effects as transforms of audiomentations: its own ones, and ours, which do the work of several of them in one pass.

Ours are subclasses in its form, so they can be used wherever its transforms can. What they do is what its transforms
would do one after the other; the tests hold them to that.
"""

import ast
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import audiomentations
import numpy as np
import python_stretch
from audiomentations.core.transforms_interface import BaseWaveformTransform
from numba import njit

from timbrel.mixing import vocoder

SECTIONS = 3
"""Second-order sections that are run at once; a source has three filters at most."""
THROUGH = np.array([1.0, 0.0, 0.0, 0.0, 0.0])
"""A section that changes nothing."""
LEVEL_FRAME_S = 0.05
LEVEL_GATE_DB = 30.0
"""Frames this much quieter than the loudest don't count for a level: they are pauses."""
MOST_GAIN_DB = 30.0
"""A chunk that holds next to nothing is not raised to music."""

FILTERS = ("gain", "low_shelf", "high_shelf", "peaking")
"""Effects that ``Filters`` runs in one pass."""

Effect = tuple[str, Mapping[str, float]]
"""A name of ``FILTERS`` with parameters under audiomentations' names."""


class PitchTime(BaseWaveformTransform):
    """What audiomentations' PitchShift and TimeStretch do one after the other, in one pass of the same library.

    The output has another length than the input, as that of ``TimeStretch(leave_length_unchanged=False)``.
    """

    supports_multichannel = True

    def __init__(
        self,
        min_semitones: float = -2.0,
        max_semitones: float = 2.0,
        min_rate: float = 0.8,
        max_rate: float = 1.25,
        p: float = 0.5,
    ) -> None:
        super().__init__(p)
        self.min_semitones, self.max_semitones = min_semitones, max_semitones
        self.min_rate, self.max_rate = min_rate, max_rate

    def randomize_parameters(self, samples: np.ndarray, sample_rate: int) -> None:
        """Draw semitones and rate uniformly."""
        super().randomize_parameters(samples, sample_rate)
        if self.parameters["should_apply"]:
            self.parameters["semitones"] = random.uniform(self.min_semitones, self.max_semitones)
            self.parameters["rate"] = random.uniform(self.min_rate, self.max_rate)

    def apply(self, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        """Return ``(sample,)`` or ``(channel, sample)`` at another pitch and speed."""
        stretch = python_stretch.Signalsmith.Stretch()
        channels = np.ascontiguousarray(np.atleast_2d(samples))
        stretch.preset(len(channels), sample_rate)
        if self.parameters["semitones"]:
            stretch.setTransposeSemitones(self.parameters["semitones"])
        if self.parameters["rate"] != 1:
            stretch.setTimeFactor(self.parameters["rate"])
        stretched: np.ndarray = stretch.process(channels)  # type: ignore[assignment]  # its stub says less
        return stretched if samples.ndim == 2 else stretched[0]


class FastPitchTime(PitchTime):
    """The same by a phase vocoder of ours, in about a quarter of the time."""

    def apply(self, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        """Return ``(sample,)`` or ``(channel, sample)`` at another pitch and speed; channels are treated apart."""
        semitones, rate = self.parameters["semitones"], self.parameters["rate"]
        wanted = round(samples.shape[-1] / rate)
        channels = [
            vocoder.stretch(np.ascontiguousarray(channel, dtype=np.float32), sample_rate, semitones, rate, wanted)
            for channel in np.atleast_2d(samples)
        ]
        return np.stack(channels) if samples.ndim == 2 else channels[0]


class Filters(BaseWaveformTransform):
    """audiomentations' Gain, LowShelfFilter, HighShelfFilter and PeakingFilter, any of them, in one pass.

    Coefficients: R. Bristow-Johnson, "Cookbook formulae for audio equalizer biquad filter coefficients" (W3C note),
    as there. As there, a filter starts as if the first sample had gone on for ever, so that it does not click.
    """

    supports_multichannel = True

    def __init__(self, effects: Sequence[Effect] = (), p: float = 0.5) -> None:
        super().__init__(p)
        self.effects = effects
        self.parameters["effects"] = effects

    def apply(self, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        """Return float32 of the shape given, ``(sample,)`` or ``(channel, sample)``."""
        gain = 1.0
        sections = []
        for name, parameters in self.parameters["effects"]:
            if name == "gain":
                gain *= parameters["amplitude_ratio"]
            else:
                sections.append(biquad(name, sample_rate, **parameters))
        if not sections:
            return samples * np.float32(gain)
        filtered = np.array(samples, dtype=np.float32, ndmin=2)
        for first in range(0, len(sections), SECTIONS):
            some = [*sections[first : first + SECTIONS], *[THROUGH] * (first + SECTIONS - len(sections))]
            for channel in filtered:
                _run_sections(channel, np.array(some), gain if first == 0 else 1.0)
        return filtered.reshape(samples.shape)


def biquad(name: str, sample_rate: int, center_freq: float, gain_db: float, q_factor: float) -> np.ndarray:
    """Return the coefficients ``b0, b1, b2, a1, a2`` of a filter, over ``a0``."""
    # audiomentations' shelves do so; its peaking filter turns unstable.
    omega = 2 * np.pi * min(center_freq, sample_rate // 2 * 0.9999) / sample_rate
    cosine, alpha = np.cos(omega), np.sin(omega) / (2 * q_factor)
    ratio = 10 ** (gain_db / 40)
    if name == "peaking":
        b = np.array([1 + alpha * ratio, -2 * cosine, 1 - alpha * ratio])
        a = np.array([1 + alpha / ratio, -2 * cosine, 1 - alpha / ratio])
    else:
        # The high shelf's formulas are the low shelf's with this sign changed.
        up, down = ratio + 1, (ratio - 1) * (1 if name == "low_shelf" else -1)
        slope = 2 * np.sqrt(ratio) * alpha
        b = ratio * np.array([up - down * cosine + slope, 2 * (down - up * cosine), up - down * cosine - slope])
        a = np.array([up + down * cosine + slope, -2 * (down + up * cosine), up + down * cosine - slope])
    return np.array([*(b / a[0]), a[1] / a[0], a[2] / a[0]])


@njit(cache=True, fastmath=True, nogil=True)
def _run_sections(audio: np.ndarray, sections: np.ndarray, gain: float) -> None:  # pragma: no cover - compiled
    """Filter float32 ``(sample,)`` in place by ``SECTIONS`` sections and a gain."""
    b0, b1, b2, a1, a2 = sections[0]
    d0, d1, d2, c1, c2 = sections[1]
    f0, f1, f2, e1, e2 = sections[2]
    # The state of each section had the first sample gone on for ever.
    first = gain * audio[0]
    second = first * (b0 + b1 + b2) / (1 + a1 + a2)
    third = second * (d0 + d1 + d2) / (1 + c1 + c2)
    last = third * (f0 + f1 + f2) / (1 + e1 + e2)
    p2, q2, r2 = b2 * first - a2 * second, d2 * second - c2 * third, f2 * third - e2 * last
    p1, q1, r1 = b1 * first - a1 * second + p2, d1 * second - c1 * third + q2, f1 * third - e1 * last + r2
    for i in range(len(audio)):
        x = gain * audio[i]
        y = b0 * x + p1
        p1 = b1 * x - a1 * y + p2
        p2 = b2 * x - a2 * y
        z = d0 * y + q1
        q1 = d1 * y - c1 * z + q2
        q2 = d2 * y - c2 * z
        w = f0 * z + r1
        r1 = f1 * z - e1 * w + r2
        r2 = f2 * z - e2 * w
        audio[i] = w


class Level(BaseWaveformTransform):
    """Brings audio to a level: RMS in dB of full scale, over the frames in which it sounds.

    Pauses don't count. The gain is at most ``MOST_GAIN_DB``, and silence stays silence.
    """

    supports_multichannel = True

    def __init__(self, min_level_db: float = -32.0, max_level_db: float = -18.0, p: float = 0.5) -> None:
        super().__init__(p)
        self.min_level_db, self.max_level_db = min_level_db, max_level_db

    def randomize_parameters(self, samples: np.ndarray, sample_rate: int) -> None:
        """Draw the level uniformly."""
        super().randomize_parameters(samples, sample_rate)
        if self.parameters["should_apply"]:
            self.parameters["level_db"] = random.uniform(self.min_level_db, self.max_level_db)

    def apply(self, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        """Return audio of the shape given."""
        gain_db = min(self.parameters["level_db"] - level_db(samples, sample_rate), MOST_GAIN_DB)
        return samples * np.float32(10 ** (gain_db / 20))


def level_db(audio: np.ndarray, sample_rate: int) -> float:
    """Return the level of audio ``(..., sample)`` where it sounds, in dB of full scale; infinite for silence."""
    frame = min(round(LEVEL_FRAME_S * sample_rate), audio.shape[-1])
    whole = audio.shape[-1] // frame * frame
    powers = np.square(audio[..., :whole].reshape(-1, whole // frame, frame)).mean(axis=(0, 2), dtype=np.float64)
    loudest = powers.max()
    if not loudest:
        return np.inf
    return float(10 * np.log10(powers[powers >= loudest * 10 ** (-LEVEL_GATE_DB / 10)].mean()))


# Any of audiomentations' transforms


OUT_OF_TUNE_OR_TIME = {"PitchShift", "TimeStretch", "Reverse", "Shift", "RepeatPart"}
"""Of audiomentations' transforms: musical mixtures have none of them."""


@cache
def named_transform(text: str) -> tuple[BaseWaveformTransform, float]:
    """Return the transform that a text such as ``AddGaussianSNR(min_snr_db=5, p=0.3)`` names, and its probability.

    The transform itself always applies; whether it does is for the plan to decide.

    Raises:
        ValueError: no such transform, or audiomentations doesn't take its arguments.
    """
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if isinstance(call, ast.Name):
            call = ast.Call(call, [], [])
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError
        arguments = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError):
        raise ValueError(f"'{text}' is not of the form AddGaussianSNR(min_snr_db=5, p=0.3)") from None
    kind = getattr(audiomentations, call.func.id, None)
    if not (isinstance(kind, type) and issubclass(kind, BaseWaveformTransform)):
        raise ValueError(f"audiomentations has no waveform transform '{call.func.id}'")
    probability = arguments.pop("p", 0.5)  # audiomentations' own default
    if not isinstance(probability, int | float) or not 0 <= probability <= 1:
        raise ValueError(f"'{text}': p must be between 0 and 1")
    try:
        return kind(**arguments, p=1.0), float(probability)
    except Exception as error:  # audiomentations raises what it likes, assertions among them
        raise ValueError(f"audiomentations refuses '{text}' ({error or type(error).__name__})") from None


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators, from which audiomentations draws, and put them back as they were."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002  audiomentations uses it
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  likewise
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002  likewise


def apply_frozen(
    transform: BaseWaveformTransform, audio: np.ndarray, sample_rate: int, **parameters: Any
) -> np.ndarray:
    """Apply a transform with the given parameters, none of which it draws itself."""
    transform.parameters = {"should_apply": True, **parameters}
    transform.freeze_parameters()
    return np.asarray(transform(audio, sample_rate=sample_rate), dtype=np.float32)
