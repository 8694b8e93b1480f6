"""Rendering: a plan becomes sound. Deterministic; every effect is an audiomentations transform."""

from functools import cache
from pathlib import Path

import audiomentations
import numpy as np
import soundfile
import soxr

from timbrel.errors import UserError
from timbrel.mixing.index import StemIndex
from timbrel.mixing.plan import EffectPlan, MixturePlan, SourcePlan
from timbrel.mixing.recipe import Recipe

RESAMPLING_MARGIN_S = 0.05
"""Read on either side of a chunk that is resampled, so that the filter does not ring at its borders."""


@cache
def _transforms() -> dict[str, audiomentations.core.transforms_interface.BaseWaveformTransform]:
    return {
        "gain": audiomentations.Gain(p=1),
        "low_shelf": audiomentations.LowShelfFilter(p=1),
        "high_shelf": audiomentations.HighShelfFilter(p=1),
        "peaking": audiomentations.PeakingFilter(p=1),
        "pitch_shift": audiomentations.PitchShift(p=1),
        "time_stretch": audiomentations.TimeStretch(leave_length_unchanged=False, p=1),
    }


def render_mixture(plan: MixturePlan, index: StemIndex, recipe: Recipe) -> np.ndarray:
    """Return a planned mixture: mono float32 ``(sample,)``, the sum of its sources.

    The sum may pass full scale; it is not clipped.
    """
    mixture = np.zeros(recipe.samples, dtype=np.float32)
    for source in plan.sources:
        mixture += render_source(source, index, recipe)
    return mixture


def render_source(source: SourcePlan, index: StemIndex, recipe: Recipe) -> np.ndarray:
    """Return one source of a mixture, effects applied: mono float32 ``(sample,)``."""
    audio = read_chunk(
        Path(index.root) / index.paths[source.stem].as_py(),
        int(index.sample_rates[source.stem]),
        int(index.frames[source.stem]),
        source.start_s,
        source.seconds,
        recipe.sample_rate,
    )
    for effect in source.effects:
        audio = apply_effect(effect, audio, recipe.sample_rate)
    # A stretched source is a few samples longer or shorter than asked; all others fit already.
    audio = audio[: recipe.samples]
    return np.pad(audio, (0, recipe.samples - len(audio)))


def apply_effect(effect: EffectPlan, audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Apply one planned effect to mono audio ``(sample,)``."""
    transform = _transforms()[effect.name]
    # audiomentations draws parameters from global random state unless they are set and frozen.
    transform.parameters = {"should_apply": True, **effect.parameters}
    transform.freeze_parameters()
    return np.asarray(transform(audio, sample_rate=sample_rate), dtype=np.float32)


def read_chunk(
    path: Path, stored_rate: int, frames: int, start_s: float, seconds: float, sample_rate: int
) -> np.ndarray:
    """Return ``seconds`` of a library file from ``start_s`` on, as mono float32 ``(sample,)`` at ``sample_rate``.

    ``stored_rate`` (Hz) and ``frames`` are what the catalogue says of the file. What lies past its end is silence.

    Raises:
        UserError: the file is missing, damaged, or not what the catalogue says.
    """
    margin = round(RESAMPLING_MARGIN_S * stored_rate) if stored_rate != sample_rate else 0
    first = round(start_s * stored_rate)
    before = min(margin, first)
    wanted = round(seconds * stored_rate)
    try:
        with soundfile.SoundFile(path) as file:
            if (file.samplerate, file.frames) != (stored_rate, frames):
                raise UserError(
                    f"{path} holds {file.frames} samples at {file.samplerate} Hz, the catalogue says {frames} at "
                    f"{stored_rate} Hz: prepare its data set anew."
                )
            file.seek(min(first - before, file.frames))
            audio = file.read(before + wanted + margin, dtype="float32", always_2d=True).mean(axis=1)
    except (soundfile.LibsndfileError, OSError) as error:
        raise UserError(f"{path} of the library can't be read ({error}): prepare its data set anew.") from None
    if not np.isfinite(audio).all():
        raise UserError(f"{path} of the library holds NaN or infinite samples: prepare its data set anew.")
    if stored_rate != sample_rate:
        audio = soxr.resample(audio, stored_rate, sample_rate)
        before = round(before * sample_rate / stored_rate)
    samples = round(seconds * sample_rate)
    audio = audio[before : before + samples]
    return np.pad(audio, (0, samples - len(audio)))
