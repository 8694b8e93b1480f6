"""Rendering: a plan becomes sound. Deterministic; every effect is an audiomentations transform.

Effects that can be done in one pass are done in one: neighbouring gains and filters, pitch and speed. A chunk that is
silent stays so without any work.
"""

import math
import os
import struct
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, lru_cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.io.wavfile
import soxr

from timbrel.errors import UserError
from timbrel.mixing.effects import (
    FILTERS,
    FastPitchTime,
    Filters,
    Level,
    PitchTime,
    apply_frozen,
    named_transform,
    seeded,
)
from timbrel.mixing.index import StemIndex
from timbrel.mixing.plan import EffectPlan, MixturePlan, SourcePlan, counts_in_silence, mixture_labels
from timbrel.mixing.recipe import Recipe

RESAMPLING_MARGIN_S = 0.05
"""Read on either side of a chunk that is resampled, so that the filter does not ring at its borders."""
STRETCHING_MARGIN_S = 0.1
"""Of a mixture; rendered on either side of a chunk that is stretched or shifted, and cut off: frames reach over its
borders."""
KNOWN_FILES = 4096
"""Files whose headers a process remembers."""


@cache
def _filters() -> Filters:
    return Filters(p=1)


@cache
def _level() -> Level:
    return Level(p=1)


@cache
def _pitch_time(engine: str) -> PitchTime:
    return FastPitchTime(p=1) if engine == "fast" else PitchTime(p=1)


class Rendered(NamedTuple):
    """A mixture as it is heard."""

    audio: np.ndarray
    """float32 ``(sample,)``, or ``(2, sample)`` if the recipe has two channels. It may pass full scale; it is not
    clipped."""
    labels: np.ndarray
    """float32 ``(class,)``."""
    heard: tuple[SourcePlan, ...]
    """The sources that are not digital silence."""


def render_example(plan: MixturePlan, index: StemIndex, recipe: Recipe) -> Rendered:
    """Return a planned mixture, which is the sum of its sources, and what is heard in it."""
    sources = [render_source(source, index, recipe) for source in plan.sources]
    mixture = np.zeros_like(sources[0])
    for audio in sources:
        mixture += audio
    return Rendered(mixture, audible_labels(plan, sources, index, recipe), audible(plan, sources))


def audible(plan: MixturePlan, sources: Sequence[np.ndarray]) -> tuple[SourcePlan, ...]:
    """Return the sources of a plan without those that turned out to be digital silence.

    Activity is smoothed over time, so it begins a little before a sound; a chunk may end in between.
    """
    return tuple(source for source, audio in zip(plan.sources, sources, strict=True) if audio.any())


def audible_labels(plan: MixturePlan, sources: Sequence[np.ndarray], index: StemIndex, recipe: Recipe) -> np.ndarray:
    """Return the classes of the audible sources, float32 ``(class,)``; of all sources if labels count in silence."""
    if counts_in_silence(index, recipe):
        return mixture_labels(plan, index, recipe)
    return mixture_labels(replace(plan, sources=audible(plan, sources)), index, recipe)


def render_source(source: SourcePlan, index: StemIndex, recipe: Recipe) -> np.ndarray:
    """Return one source of a mixture, effects applied: float32 ``(sample,)`` or ``(2, sample)``.

    Raises:
        UserError: its file is missing, damaged, or not what the catalogue says.
    """
    change = next((effect.parameters for effect in source.effects if effect.name == "pitch_time"), None)
    path, frames, stored_rate = index.paths[source.stem].as_py(), int(index.frames[source.stem]), 0
    stored_rate = int(index.sample_rates[source.stem])
    start_s, seconds, margin, effects = source.start_s, source.seconds, 0, source.effects
    if change is not None and source.variant is not None:
        # The file holds the stem as it sounds after the change, so there is nothing to do but to read at its speed.
        path = variant_path(path, source.variant)
        frames = variant_frames(frames, change["rate"])
        start_s, seconds = start_s / change["rate"], recipe.seconds
        effects = tuple(effect for effect in effects if effect.name != "pitch_time")
    elif change is not None:
        margin = round(STRETCHING_MARGIN_S * recipe.sample_rate)
        margin_s = STRETCHING_MARGIN_S * change["rate"]
        start_s, seconds = start_s - margin_s, seconds + 2 * margin_s
    audio = read_chunk(
        Path(index.root) / path, stored_rate, frames, start_s, seconds, recipe.sample_rate, recipe.channels
    )
    if not audio.any():
        return np.zeros((*audio.shape[:-1], recipe.samples), dtype=np.float32)
    audio = apply_effects(effects, audio, recipe)
    audio = audio[..., margin : margin + recipe.samples]
    # A stretched source may be a sample short.
    missing = recipe.samples - audio.shape[-1]
    return np.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(0, missing)]) if missing else audio


def apply_effects(effects: tuple[EffectPlan, ...], audio: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Apply planned effects in their order to audio ``(sample,)`` or ``(2, sample)``."""
    for name, group in groupby(effects, lambda effect: "filters" if effect.name in FILTERS else effect.name):
        run = list(group)
        if name == "filters":
            audio = apply_frozen(_filters(), audio, recipe.sample_rate, effects=run)
            continue
        for effect in run:
            if name == "level":
                audio = apply_frozen(_level(), audio, recipe.sample_rate, **effect.parameters)
            elif name == "pitch_time":
                audio = apply_frozen(_pitch_time(recipe.stretch), audio, recipe.sample_rate, **effect.parameters)
            else:
                audio = _apply_named(effect, audio, recipe.sample_rate)
    return audio


def _apply_named(effect: EffectPlan, audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Apply a transform of audiomentations that draws its own parameters, from the seed in the plan.

    Raises:
        UserError: it changes the length or the number of channels, or gives what is no sound.
    """
    transform, _ = named_transform(effect.name)
    with seeded(int(effect.parameters["seed"])):
        changed = np.asarray(transform(audio, sample_rate=sample_rate), dtype=np.float32)
    if changed.shape != audio.shape or not np.isfinite(changed).all():
        what = "NaN" if changed.shape == audio.shape else f"shape {changed.shape} out of {audio.shape}"
        raise UserError(f"mixing.effects.others: {effect.name} made {what}: leave it out or change its arguments.")
    return changed


def variant_path(path: str, variant: int, bank: str = "bank") -> str:
    """Return where a variant of a stem is kept; both paths are relative to the library."""
    dataset, _, rest = path.partition("/")
    return f"{dataset}/{bank}/{variant}/{rest.removeprefix('songs/')}"


def variant_frames(frames: int, rate: float) -> int:
    """Return the length in samples of a variant at another speed."""
    return round(frames / rate)


def read_chunk(
    path: Path, stored_rate: int, frames: int, start_s: float, seconds: float, sample_rate: int, channels: int = 1
) -> np.ndarray:
    """Return ``seconds`` of a library file from ``start_s`` on at ``sample_rate``: float32 ``(sample,)``.

    With two ``channels`` it is ``(2, sample)``, where mono files sound on both sides; files of more channels are
    averaged first. ``stored_rate`` (Hz) and ``frames`` are what the catalogue says of the file. What lies before its
    beginning or past its end is silence.

    Raises:
        UserError: the file is missing, damaged, or not what the catalogue says.
    """
    margin = round(RESAMPLING_MARGIN_S * stored_rate) if stored_rate != sample_rate else 0
    first = round(start_s * stored_rate) - margin
    last = first + round(seconds * stored_rate) + 2 * margin
    audio = _channels(_read(path, stored_rate, frames, min(max(first, 0), frames), min(max(last, 0), frames)), channels)
    before, after = min(max(-first, 0), last - first), 0
    after = last - first - before - audio.shape[-1]
    if before or after:
        audio = np.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(before, after)])
    if not np.isfinite(audio).all():
        raise UserError(f"{path} of the library holds NaN or infinite samples: prepare its data set anew.")
    if stored_rate == sample_rate:
        return audio
    samples = round(seconds * sample_rate)
    if not audio.any():
        return np.zeros((*audio.shape[:-1], samples), dtype=np.float32)
    audio = soxr.resample(audio.T, stored_rate, sample_rate).T
    begin = round(margin * sample_rate / stored_rate)
    return np.ascontiguousarray(audio[..., begin : begin + samples])


def _channels(samples: np.ndarray, channels: int) -> np.ndarray:
    """Return stored samples ``(sample,)`` or ``(sample, channel)`` as float32 ``(sample,)`` or ``(2, sample)``."""
    scale = np.float32(1 / 2**15) if samples.dtype == np.int16 else np.float32(1)
    if samples.ndim == 2 and (channels == 1 or samples.shape[1] != 2):
        # Channel by channel: NumPy's mean over so short an axis takes ten times as long.
        scale /= np.float32(samples.shape[1])
        samples = sum((samples[:, channel].astype(np.float32) for channel in range(1, samples.shape[1])), samples[:, 0])
    audio = np.multiply(samples, scale, dtype=np.float32).T
    return np.ascontiguousarray(audio) if channels == 1 or audio.ndim == 2 else np.stack([audio, audio])


class _Layout(NamedTuple):
    """Where the samples of a file are, and what the file was like when that was found out."""

    offset: int
    """In bytes."""
    dtype: np.dtype
    frame: tuple[int, ...]
    """Shape of a frame: ``()`` or ``(channel,)``."""
    state: tuple[int, int]


def _read(path: Path, stored_rate: int, frames: int, first: int, last: int) -> np.ndarray:
    """Return samples ``first`` to ``last`` of a file: int16 or float32, ``(sample,)`` or ``(sample, channel)``.

    Read, not mapped into memory: the system kills a process that looks at a map of a file which somebody has cut short,
    and the next one that is given the same work.

    Raises:
        UserError: the file is missing, damaged, not what the catalogue says, or no longer what it was.
    """
    layout = _layout(path, stored_rate, frames)
    width = math.prod(layout.frame)
    count, skipped = (last - first) * width, first * width * layout.dtype.itemsize
    try:
        samples = np.fromfile(path, layout.dtype, count, offset=layout.offset + skipped)
        # Looked at after reading: what is changed in between is noticed too.
        unchanged = len(samples) == count and _state(path) == layout.state
    except OSError as error:
        raise UserError(f"{path} of the library can't be read ({error}): prepare its data set anew.") from None
    if not unchanged:
        _layout.cache_clear()
        raise UserError(
            f"{path} of the library was changed while it was in use: put the file back as it was, or prepare its data "
            "set anew."
        )
    return samples.reshape(-1, *layout.frame)


@lru_cache(KNOWN_FILES)
def _layout(path: Path, stored_rate: int, frames: int) -> _Layout:
    try:
        state = _state(path)
        with warnings.catch_warnings():
            # libsndfile writes the loudest sample into a chunk that SciPy doesn't know.
            warnings.simplefilter("ignore", scipy.io.wavfile.WavFileWarning)
            # Mapped, so that nothing but the header is read.
            rate, samples = scipy.io.wavfile.read(path, mmap=True)
            assert isinstance(samples, np.memmap)
    except (ValueError, OSError, struct.error) as error:
        raise UserError(f"{path} of the library can't be read ({error}): prepare its data set anew.") from None
    if (rate, len(samples)) != (stored_rate, frames):
        raise UserError(
            f"{path} holds {len(samples)} samples at {rate} Hz, the catalogue says {frames} at "
            f"{stored_rate} Hz: prepare its data set anew."
        )
    if samples.dtype not in (np.int16, np.float32):
        raise UserError(f"{path} of the library holds {samples.dtype} samples: prepare its data set anew.")
    return _Layout(samples.offset, samples.dtype, samples.shape[1:], state)


def _state(path: Path) -> tuple[int, int]:
    """Return size and time of the last change of a file."""
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns
