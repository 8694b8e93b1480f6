"""One mixture taken apart: what each source is, where it is from, what was done to it, and how it sounds.

Audio has the shape ``(sample,)``, or ``(channel, sample)`` where a recipe mixes in stereo. Times are in s: of the song
for where a source starts, of the mixture for where it sounds.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from timbrel.library import safe_name
from timbrel.listen.words import effect_words
from timbrel.mixing.effects import named_transform
from timbrel.mixing.index import StemIndex
from timbrel.mixing.plan import SourcePlan, counts, counts_in_silence, plan_mixture, sounding_s
from timbrel.mixing.recipe import Recipe
from timbrel.mixing.render import audible_labels, render_source


@dataclass(frozen=True)
class Example:
    """A mixture and its sources, as a model is given their sum."""

    facts: Mapping[str, Any]
    """What ``mixtures.json`` says of it; ``sources`` holds the same for each source."""
    audio: np.ndarray
    """float32, ``(sample,)`` or ``(channel, sample)``."""
    sources: Sequence[np.ndarray]
    """Each source with its effects, shaped as ``audio``, which is their sum."""


def make_example(
    index: StemIndex, recipe: Recipe, seed: int, stream: str, number: int, classes: Sequence[str]
) -> Example:
    """Return the example with a given number of a stream, and its sources.

    Raises:
        UserError: a file of the library is missing or damaged.
    """
    plan = plan_mixture(index, recipe, seed, stream, number)
    name = f"mixture-{number:06d}"
    sources, described = [], []
    for place, source in enumerate(plan.sources, start=1):
        audio, effects = _render(source, index, recipe)
        file = f"stems/{name}-{place}-{safe_name(index.names[source.stem].as_py())}.wav"
        sources.append(audio)
        facts = _source_facts(source, audio, index, recipe, classes)
        described.append({"file": file, **facts, **effects, **levels(audio)})
    mixture = sum(sources, start=np.zeros_like(sources[0]))  # added up as `render_example` does, to the last bit
    facts = {
        "number": number,
        "file": f"{name}.wav",
        "musical": plan.musical,
        "labels": _names(audible_labels(plan, sources, index, recipe) > 0, classes),
        **levels(mixture),
        "sources": described,
    }
    return Example(facts, mixture, sources)


def levels(audio: np.ndarray) -> dict[str, float | None]:
    """Return peak and RMS in dBFS; None for silence."""
    peak, rms = float(np.abs(audio).max()), math.sqrt(float(np.mean(np.square(audio, dtype=np.float64))))
    return {
        name: round(20 * math.log10(value), 2) if value else None
        for name, value in (("peak_dbfs", peak), ("rms_dbfs", rms))
    }


def sounding(source: SourcePlan, index: StemIndex, recipe: Recipe) -> np.ndarray:
    """Return where a source sounds, in s of the mixture: float64 ``(interval, 2)``."""
    inside = np.clip(index.active_of(source.stem), source.start_s, source.start_s + source.seconds) - source.start_s
    return inside[inside[:, 1] > inside[:, 0]] * (recipe.seconds / source.seconds)


def _render(source: SourcePlan, index: StemIndex, recipe: Recipe) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the audio of a source, and what is said of its effects.

    A transform that the recipe names draws when it is applied, and keeps what it drew until the next time; it isn't
    applied to silence.
    """
    named = {e.name: named_transform(e.name)[0] for e in source.effects if e.name in recipe.effects.others}
    for transform in named.values():
        transform.parameters = {"should_apply": None}
    audio = render_source(source, index, recipe)
    effects = []
    for name, planned in source.effects:
        drawn = named[name].parameters if name in named else {}
        parameters = _plain(planned | {key: value for key, value in drawn.items() if key != "should_apply"})
        effects.append({"name": name, "parameters": parameters, "words": effect_words(name, parameters)})
    return audio, {"effects": effects}


def _source_facts(
    source: SourcePlan, audio: np.ndarray, index: StemIndex, recipe: Recipe, classes: Sequence[str]
) -> dict[str, Any]:
    song = index.song_of(source.stem)
    dataset = int(np.searchsorted(index.dataset_songs, song, side="right")) - 1
    audible = counts_in_silence(index, recipe) or bool(audio.any())
    return {
        "dataset": index.datasets[dataset],
        "song": index.songs[song].as_py(),
        "path": index.paths[source.stem].as_py(),
        "instrument": index.names[source.stem].as_py(),
        "classes": _names(index.labels[source.stem], classes),
        "start_s": source.start_s,
        "seconds": source.seconds,
        "variant": source.variant,
        "sounding": np.round(sounding(source, index, recipe), 4).tolist(),
        "sounding_s": round(sounding_s(source, index, recipe), 4),
        "counts": audible and counts(source, index, recipe),
    }


def _names(chosen: np.ndarray, classes: Sequence[str]) -> list[str]:
    return [name for name, on in zip(classes, chosen[: len(classes)], strict=True) if on]


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as JSON has them; any transform's may be named, with NumPy's numbers and arrays."""
    return {
        name: value.tolist()
        if isinstance(value, np.ndarray | np.generic)
        else value
        if isinstance(value, bool | int | float | str | None)
        else str(value)
        for name, value in parameters.items()
    }
