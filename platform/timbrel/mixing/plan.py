"""Planning: which stems, which offsets, which effects. A pure function of (index, recipe, seed, number).

Nothing here reads audio, and nothing depends on which process plans, on the order of calls, or on global random state.
So example ``i`` of a stream is the same whatever the number of actors and whatever failed on the way.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from timbrel.mixing.index import StemIndex
from timbrel.mixing.recipe import Effect, Recipe

STREAMS = {"train": 0, "valid": 1, "test": 2}
"""Numbered into the seed, so that the splits' mixtures are independent of each other."""


class EffectPlan(NamedTuple):
    """One effect with everything decided.

    ``gain``, ``low_shelf``, ``high_shelf`` and ``peaking`` have parameters under audiomentations' names; ``pitch_time``
    has ``semitones`` and ``rate``, ``level`` has ``level_db``. Any other name is a transform as the recipe writes it,
    with the ``seed`` from which it draws.
    """

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
    """How much of the song is heard, in s; differs from the mixture's length where the source is stretched."""
    effects: tuple[EffectPlan, ...]
    """In the order in which they are applied."""
    variant: int | None = None
    """The variant of the bank that has ``pitch_time`` applied; None: it is applied now, if at all."""


@dataclass(frozen=True)
class MixturePlan:
    """One mixture, decided but not rendered."""

    number: int
    musical: bool
    sources: tuple[SourcePlan, ...]


def plan_mixture(index: StemIndex, recipe: Recipe, seed: int, stream: str, number: int) -> MixturePlan:
    """Decide everything about example ``number`` of a stream."""
    if len(index.window_songs):
        return _window(index, recipe, number)
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


def _window(index: StemIndex, recipe: Recipe, number: int) -> MixturePlan:
    """Take a window of a song: all stems, as they are."""
    song, start_s = int(index.window_songs[number]), float(index.window_starts[number])
    stems = range(int(index.song_stems[song]), int(index.song_stems[song + 1]))
    return MixturePlan(number, True, tuple(SourcePlan(stem, start_s, recipe.seconds, ()) for stem in stems))


def mixture_labels(plan: MixturePlan, index: StemIndex, recipe: Recipe) -> np.ndarray:
    """Return the classes of a mixture: float32 ``(class,)``, 1 where a stem of the class counts, NaN where none does
    and one of the stems was not judged."""
    heard = [source.stem for source in plan.sources if counts(source, index, recipe)]
    labels = np.any(index.labels[heard], axis=0).astype(np.float32)
    if index.judged.size:
        labels[(labels == 0) & ~index.judged[heard].all(axis=0)] = np.nan
    return labels


def counts(source: SourcePlan, index: StemIndex, recipe: Recipe) -> bool:
    """Return whether the labels of a source count: it sounds long enough, or needn't."""
    return counts_in_silence(index, recipe) or sounding_s(source, index, recipe) >= recipe.active_seconds


def counts_in_silence(index: StemIndex, recipe: Recipe) -> bool:
    """Return whether labels count whatever is heard: they are said of whole songs, or the recipe asks for no sound."""
    return index.whole_songs or not recipe.active_seconds


def class_shares(index: StemIndex, recipe: Recipe, seed: int, examples: int) -> np.ndarray:
    """Return in which share of the first training examples each class is heard: ``(class,)``. Nothing is rendered."""
    plans = (plan_mixture(index, recipe, seed, "train", number) for number in range(examples))
    return np.mean([np.nan_to_num(mixture_labels(plan, index, recipe)) for plan in plans], axis=0)


def sounding_s(source: SourcePlan, index: StemIndex, recipe: Recipe) -> float:
    """Return for how long a source sounds within its chunk, in s of the mixture."""
    inside = np.clip(index.active_of(source.stem), source.start_s, source.start_s + source.seconds)
    return float((inside[:, 1] - inside[:, 0]).sum()) * recipe.seconds / source.seconds


def _musical(
    index: StemIndex, recipe: Recipe, generator: np.random.Generator, dataset: int, wanted: int
) -> tuple[SourcePlan, ...]:
    """One song, one time position for all sources; no effect that would take them out of tune or time."""
    sought = _of_a_class(index, recipe, generator)
    if sought is None:
        song = int(generator.integers(index.dataset_songs[dataset], index.dataset_songs[dataset + 1]))
    else:
        song = index.song_of(sought)
    chosen = generator.permutation(np.arange(index.song_stems[song], index.song_stems[song + 1]))
    if sought is None:
        start_s = _start(index.seconds_of(int(index.song_stems[song])), recipe.seconds, generator)
    else:
        chosen = np.append(sought, chosen[chosen != sought])
        start_s = _start_where_heard(index, sought, recipe.seconds, generator)
    sources = (
        SourcePlan(int(stem), start_s, recipe.seconds, _effects(recipe, generator, musical=True))
        for stem in chosen[:wanted]
    )
    return tuple(_levelled(source, index, recipe, generator) for source in sources)


def _lone_source(index: StemIndex, recipe: Recipe, generator: np.random.Generator, dataset: int) -> SourcePlan:
    """A random chunk of a random stem of a random song."""
    sought = _of_a_class(index, recipe, generator)
    if sought is None:
        song = int(generator.integers(index.dataset_songs[dataset], index.dataset_songs[dataset + 1]))
        stem = int(generator.integers(index.song_stems[song], index.song_stems[song + 1]))
    else:
        stem = sought
    effects = _effects(recipe, generator, musical=False)
    change = next((effect.parameters for effect in effects if effect.name == "pitch_time"), None)
    variant = None
    if change is not None and recipe.stretch == "bank":
        variant = index.nearest_variant(change["semitones"], change["rate"])
        change["semitones"], change["rate"] = index.variants[variant]
        # The bank holds whole stems, so the change comes before all other effects.
        effects = tuple(sorted(effects, key=lambda effect: effect.name != "pitch_time"))
    seconds = recipe.seconds * (change["rate"] if change else 1.0)
    if sought is None:
        start_s = _start(index.seconds_of(stem), seconds, generator)
    else:
        start_s = _start_where_heard(index, stem, seconds, generator)
    return _levelled(SourcePlan(stem, start_s, seconds, effects, variant), index, recipe, generator)


def _levelled(source: SourcePlan, index: StemIndex, recipe: Recipe, generator: np.random.Generator) -> SourcePlan:
    """Draw the level of a source if the recipe asks for it. One that hardly sounds is not raised: no label says that it
    is there."""
    if not recipe.level_db:
        return source
    level_db = float(generator.uniform(recipe.level_db[0], recipe.level_db[1]))
    if sounding_s(source, index, recipe) < recipe.active_seconds:
        return source
    return replace(source, effects=(EffectPlan("level", {"level_db": level_db}), *source.effects))


def _of_a_class(index: StemIndex, recipe: Recipe, generator: np.random.Generator) -> int | None:
    """Return a stem of a class drawn uniformly, as often as the recipe balances classes; else None.

    Within the class, the data set, the song and the stem are drawn uniformly one after the other, as they are without
    balance.
    """
    if not recipe.class_balance or generator.random() >= recipe.class_balance:
        return None
    label = int(generator.choice(index.known_classes))
    columns = np.flatnonzero(np.diff(index.class_rows[label]))
    column = int(generator.choice(columns))
    song = int(index.class_songs[generator.integers(*index.class_rows[label, column : column + 2])])
    stems = np.arange(index.song_stems[song], index.song_stems[song + 1])
    return int(generator.choice(stems[index.labels[stems, label]]))


def _start(available_s: float, needed_s: float, generator: np.random.Generator) -> float:
    """Draw where a chunk starts; a song shorter than the chunk starts at 0 and is padded with silence."""
    return float(generator.uniform(0, max(0.0, available_s - needed_s)))


def _start_where_heard(index: StemIndex, stem: int, needed_s: float, generator: np.random.Generator) -> float:
    """Draw a moment at which a stem sounds, and a chunk around it."""
    latest = max(0.0, index.seconds_of(stem) - needed_s)
    spans = index.active_of(stem)
    at, share = generator.random(2)
    if not len(spans):
        return float(latest * at)
    ends = np.cumsum(spans[:, 1] - spans[:, 0])
    moment = at * ends[-1]
    span = min(int(np.searchsorted(ends, moment)), len(spans) - 1)
    moment += spans[span, 1] - ends[span]
    return float(np.clip(moment - share * needed_s, 0, latest))


def _effects(recipe: Recipe, generator: np.random.Generator, musical: bool) -> tuple[EffectPlan, ...]:
    """Draw a source's effects, in random order; pitch and speed are one effect, where the first of them stood.

    Everything is drawn whether or not it is used, so that changing one effect's probability leaves the others' draws
    as they were.
    """
    names = recipe.effects.drawn
    applied, strengths = generator.random(len(names)), generator.random(len(names))
    order, shapes = generator.permutation(len(names)), generator.random((len(names), 2))
    plans: dict[str, EffectPlan] = {}
    for i in order:
        effect: Effect = getattr(recipe.effects, names[i])
        if applied[i] >= effect.p:
            continue
        strength = effect.strength(float(strengths[i]))
        if names[i] in ("pitch_shift", "time_stretch"):
            if not musical:
                change = plans.setdefault("pitch_time", EffectPlan("pitch_time", dict(UNCHANGED)))
                change.parameters["semitones" if names[i] == "pitch_shift" else "rate"] = strength
        else:
            parameters = _parameters(names[i], strength, shapes[i], recipe.sample_rate)
            plans[names[i]] = EffectPlan(names[i], parameters)
    # A shift by no semitone, as whole ones may be, is no effect: nothing is to go through a vocoder for it.
    chain = [plan for plan in plans.values() if plan.parameters != UNCHANGED]
    if not recipe.effects.others:
        return tuple(chain)
    from timbrel.mixing.effects import OUT_OF_TUNE_OR_TIME, named_transform  # planning needs no effects but for these

    for text in recipe.effects.others:
        transform, probability = named_transform(text)
        use, seed = generator.random() < probability, int(generator.integers(2**31))
        if use and not (musical and type(transform).__name__ in OUT_OF_TUNE_OR_TIME):
            chain.append(EffectPlan(text, {"seed": seed}))
    return tuple(chain)


UNCHANGED = {"semitones": 0.0, "rate": 1.0}
"""Parameters of ``pitch_time`` that leave sound as it is."""
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
    centres = (min(hz, HIGHEST_CENTRE * sample_rate) for hz in _FILTER_RANGES[name]["center_hz"])
    low_mel, high_mel = (2595 * np.log10(1 + hz / 700) for hz in centres)
    low_q, high_q = _FILTER_RANGES[name]["q"]
    mel = low_mel + (high_mel - low_mel) * float(shape[0])
    return {
        "center_freq": float(700 * (10 ** (mel / 2595) - 1)),
        "gain_db": strength,
        "q_factor": low_q + (high_q - low_q) * float(shape[1]),
    }
