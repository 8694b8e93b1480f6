"""What data sets say of whole songs, as a task asks for it."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from timbrel.library import Library


class JudgedSong(NamedTuple):
    """The tags of a song."""

    dataset: str
    name: str
    tags: Mapping[str, float]
    """How likely each tag that is named is there, 0 to 1."""
    vocabulary: Collection[str]
    """Tags on which every song of the data set was judged: those that ``tags`` doesn't name aren't there."""

    def value(self, tag: str) -> float:
        """Return how likely a tag is there, 0 to 1; NaN if the song was not judged on it."""
        return self.tags.get(tag, 0.0 if tag in self.vocabulary else math.nan)


def judged_songs(library: Library, songs: Sequence[tuple[str, str]]) -> list[JudgedSong]:
    """Return what is said of songs, each given as data set and name; nothing is said where a data set has no tags."""
    datasets = sorted({dataset for dataset, _ in songs})
    vocabularies = {dataset: frozenset(library.facts(dataset).get("vocabulary", ())) for dataset in datasets}
    tags: dict[tuple[str, str], dict[str, float]] = {song: {} for song in songs}
    table = library.tags(datasets)
    columns = (table[name].to_pylist() for name in ("dataset", "song", "tag", "value"))
    for dataset, name, tag, value in zip(*columns, strict=True):
        if (dataset, name) in tags:
            tags[dataset, name][tag] = value
    return [JudgedSong(dataset, name, tags[dataset, name], vocabularies[dataset]) for dataset, name in songs]
