"""Planning: which stems, which offsets, which effects. A pure function of (index, recipe, seed, number).

Nothing here reads audio, and nothing depends on which process plans, on the order of calls, or on global random state.
So example ``i`` of a stream is the same whatever the number of actors and whatever failed on the way.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from timbrel.mixing.index import StemIndex
from timbrel.mixing.recipe import Effect, Recipe

STREAMS = {"train": 0, "valid": 1, "test": 2}
"""Numbered into the seed, so that the splits' mixtures are independent of each other."""


class EffectPlan(NamedTuple):
    """One effect with everything decided; parameters under audiomentations' names."""

    name: str
    parameters: dict[str, float]


@dataclass(frozen=True)
class SourcePlan:
    """One source of a mixture."""

    stem: int
    """Row in the index."""
    start_s: float
    """Where in the song the source starts, in s."""
    seconds: float
    """How much of the song is read, in s; differs from the mixture's length where the source is stretched."""
    effects: tuple[EffectPlan, ...]
    """In the order in which they are applied."""


@dataclass(frozen=True)
class MixturePlan:
    """One mixture, decided but not rendered."""

    number: int
    musical: bool
    sources: tuple[SourcePlan, ...]


def plan_mixture(index: StemIndex, recipe: Recipe, seed: int, stream: str, number: int) -> MixturePlan:
    """Decide everything about example ``number`` of a stream."""
    generator = np.random.default_rng([seed, STREAMS[stream], number])
    dataset = int(generator.integers(len(index.datasets)))
    musical = bool(generator.random() < recipe.p_musical)
    if generator.random() < recipe.p_single_source:
        wanted = 1
    else:
        wanted = int(generator.integers(recipe.min_sources, recipe.max_sources + 1))
    if musical:
        return MixturePlan(number, True, _musical(index, recipe, generator, dataset, wanted))
    sources = tuple(_lone_source(index, recipe, generator, dataset) for _ in range(wanted))
    return MixturePlan(number, False, sources)


def mixture_labels(plan: MixturePlan, index: StemIndex, recipe: Recipe) -> np.ndarray:
    """Return the classes heard in a mixture: float32 ``(class,)``, 1 where a stem of the class sounds long enough."""
    heard = [source.stem for source in plan.sources if _sounding(source, index, recipe) >= recipe.active_seconds]
    return np.any(index.labels[heard], axis=0).astype(np.float32)


def _musical(
    index: StemIndex, recipe: Recipe, generator: np.random.Generator, dataset: int, wanted: int
) -> tuple[SourcePlan, ...]:
    """One song, one time position for all sources; no effect that would take them out of tune or time."""
    song = int(generator.integers(index.dataset_songs[dataset], index.dataset_songs[dataset + 1]))
    stems = np.arange(index.song_stems[song], index.song_stems[song + 1])
    chosen = generator.permutation(stems)[:wanted]
    start_s = _start(index.seconds_of(int(stems[0])), recipe.seconds, generator)
    return tuple(
        SourcePlan(int(stem), start_s, recipe.seconds, _effects(recipe, generator, musical=True)) for stem in chosen
    )


def _lone_source(index: StemIndex, recipe: Recipe, generator: np.random.Generator, dataset: int) -> SourcePlan:
    """A random chunk of a random stem of a random song."""
    song = int(generator.integers(index.dataset_songs[dataset], index.dataset_songs[dataset + 1]))
    stem = int(generator.integers(index.song_stems[song], index.song_stems[song + 1]))
    effects = _effects(recipe, generator, musical=False)
    seconds = recipe.seconds * next((e.parameters["rate"] for e in effects if e.name == "time_stretch"), 1.0)
    return SourcePlan(stem, _start(index.seconds_of(stem), seconds, generator), seconds, effects)


def _start(available_s: float, needed_s: float, generator: np.random.Generator) -> float:
    """Draw where a chunk starts; a song shorter than the chunk starts at 0 and is padded with silence."""
    return float(generator.uniform(0, max(0.0, available_s - needed_s)))


def _effects(recipe: Recipe, generator: np.random.Generator, musical: bool) -> tuple[EffectPlan, ...]:
    """Draw a source's effects, in random order.

    Everything is drawn whether or not it is used, so that changing one effect's probability leaves the others' draws
    as they were.
    """
    names = list(vars(recipe.effects))
    applied, strengths = generator.random(len(names)), generator.random(len(names))
    order, shapes = generator.permutation(len(names)), generator.random((len(names), 2))
    plans = []
    for i in order:
        effect: Effect = getattr(recipe.effects, names[i])
        if applied[i] < effect.p and not (musical and names[i] in ("pitch_shift", "time_stretch")):
            strength = effect.low + (effect.high - effect.low) * float(strengths[i])
            plans.append(EffectPlan(names[i], _parameters(names[i], strength, shapes[i], recipe.sample_rate)))
    return tuple(plans)


_FILTER_RANGES: dict[str, dict[str, Any]] = {
    "low_shelf": {"center_hz": (50.0, 4000.0), "q": (0.1, 0.999)},
    "high_shelf": {"center_hz": (300.0, 7500.0), "q": (0.1, 0.999)},
    "peaking": {"center_hz": (50.0, 7500.0), "q": (0.5, 5.0)},
}
"""audiomentations' own default ranges."""
HIGHEST_CENTRE = 0.45
"""Of the sample rate: above half of it a filter is unstable, and audiomentations' peaking filter does not check."""


def _parameters(name: str, strength: float, shape: np.ndarray, sample_rate: int) -> dict[str, float]:
    if name == "gain":
        return {"amplitude_ratio": 10 ** (strength / 20)}
    if name == "pitch_shift":
        return {"num_semitones": strength}
    if name == "time_stretch":
        return {"rate": strength}
    centres = (min(hz, HIGHEST_CENTRE * sample_rate) for hz in _FILTER_RANGES[name]["center_hz"])
    low_mel, high_mel = (2595 * np.log10(1 + hz / 700) for hz in centres)
    low_q, high_q = _FILTER_RANGES[name]["q"]
    mel = low_mel + (high_mel - low_mel) * float(shape[0])
    return {
        "center_freq": float(700 * (10 ** (mel / 2595) - 1)),
        "gain_db": strength,
        "q_factor": low_q + (high_q - low_q) * float(shape[1]),
    }


def _sounding(source: SourcePlan, index: StemIndex, recipe: Recipe) -> float:
    """Return for how long a source sounds within its chunk, in s of the mixture."""
    spans = index.active[index.active_rows[source.stem] : index.active_rows[source.stem + 1]].astype(np.float64)
    inside = np.clip(spans, source.start_s, source.start_s + source.seconds)
    return float((inside[:, 1] - inside[:, 0]).sum()) * recipe.seconds / source.seconds
