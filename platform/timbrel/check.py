"""`timbrel check`: what a data set holds and what is wrong with it, before anything is copied."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tqdm import tqdm

from timbrel.errors import UserError
from timbrel.sources import Header, Song, Source
from timbrel.spread import spread
from timbrel.taxonomy import TAXONOMY

MIX = "mix"
"""The instrument of a recording that is not divided into stems."""
TOLERATED_S = 0.1
"""By which the stems of a song may differ in length without a word."""


@dataclass(frozen=True)
class Checked:
    """What was found of some songs."""

    songs: int = 0
    artists: set[str] = field(default_factory=set)
    seconds: float = 0.0
    """Of stem audio, as far as files say it."""
    samples: int = 0
    """Of all their channels together."""
    unknown: int = 0
    """Stems that will be rendered: how long they are shows then."""
    instruments: Counter[str] = field(default_factory=Counter)
    """Stems by the data set's own word."""
    classes: Counter[str] = field(default_factory=Counter)
    """Stems by class of the taxonomy."""
    tags: Counter[str] = field(default_factory=Counter)
    """Songs by tag that is rather there than not."""
    splits: Counter[str] = field(default_factory=Counter)
    """Songs by official split; ``""`` for those that have none."""
    channels: Counter[int] = field(default_factory=Counter)
    sample_rates: Counter[int] = field(default_factory=Counter)
    problems: list[tuple[str, str]] = field(default_factory=list)
    """What, and why: what was expected, and the remedy."""

    @property
    def stems(self) -> int:
        """Return how many stems can be used."""
        return self.instruments.total()


def check(source: Source, path: Path | None, options: Any) -> Checked:
    """Read a data set's lists and the headers of its files, and return what was found and what is wrong.

    By Ray tasks if Ray runs. Nothing is copied or changed.

    Raises:
        UserError: nothing usable is there.
    """
    found = source.find(path, options)
    checked = spread(check_song, found.songs)
    parts = list(tqdm(checked, total=found.count, desc=f"checking {source.name}", unit="song"))
    return _sum([Checked(problems=[(item.what, item.why) for item in found.skipped]), *parts])


def check_song(song: Song) -> Checked:
    """Read the headers of a song's files."""
    found = Checked(artists={song.artist} - {""})
    lengths: dict[str, float] = {}
    unknown = samples = 0
    for stem in song.stems:
        header = getattr(stem.perform, "header", None)
        try:
            facts: Header | None = header() if header else None
        except UserError as error:
            found.problems.append((f"{song.name}/{stem.name}", str(error)))
            continue
        if facts is None:
            unknown += 1
        else:
            found.channels[facts.channels] += 1
            found.sample_rates[facts.sample_rate] += 1
            lengths[stem.name] = facts.frames / facts.sample_rate
            samples += facts.frames * facts.channels
        found.instruments[stem.instrument] += 1
        found.classes.update(_classes(stem.instrument, stem.program))
    if not found.instruments:
        found.problems.append((song.name, "none of its stems can be used: see above."))
        return found
    if lengths and max(lengths.values()) - min(lengths.values()) > TOLERATED_S:
        shortest, longest = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
        found.problems.append(
            (
                song.name,
                f"its stems differ in length, {shortest} {lengths[shortest]:.2f} s and {longest} "
                f"{lengths[longest]:.2f} s: they will start together, and the shorter ones end in silence.",
            )
        )
    found.splits[song.split or ""] += 1
    found.tags.update(tag for tag, value in (song.tags or {}).items() if value >= 0.5)
    return _sum([found, Checked(songs=1, seconds=sum(lengths.values()), samples=samples, unknown=unknown)])


def _classes(instrument: str, program: int | None) -> tuple[str, ...]:
    if instrument == MIX:
        return ()
    try:
        return TAXONOMY.classes_of(instrument, -1 if program is None else program)
    except UserError:  # a source may keep stems for a task with a taxonomy of its own
        return ()


def _sum(parts: Iterable[Checked]) -> Checked:
    """Return what was found in all parts together."""
    total: dict[str, Any] = {each.name: getattr(Checked(), each.name) for each in fields(Checked)}
    for part in parts:
        for name in total:
            value = getattr(part, name)
            if isinstance(value, set | Counter):  # += of a Counter would walk over all of it for every song
                total[name].update(value)
            else:
                total[name] += value
    return Checked(**total)


def grouped(problems: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Return each reason with what it is the reason for, the rarest first."""
    reasons: dict[str, list[str]] = {}
    for what, why in problems:
        reasons.setdefault(why, []).append(what)
    return sorted(reasons.items(), key=lambda item: (len(item[1]), item[1]))
