"""One song under several names: what says that two songs are the same, or are by the same artist.

Public data sets share songs. MUSDB18 has 46 of MedleyDB's, and most of its others are Mixing Secrets', which write
`Meaxic_TakeAStep` for `Meaxic - Take A Step`. Names are compared by their letters and digits alone: without case,
accents, punctuation, spaces and a leading "The", and, as the other name may lack them, with and without "&", what
stands in brackets, and who is featured. What no rule can know is listed in ``same_songs.csv``: for instance that
Mixing Secrets' `MR0702_Leaf` is `Leaf - Come Around`.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from timbrel.library import Library

NOBODY = frozenset(("unknown", "unknownartist", "various", "variousartists", "none", "na", "anonymous", "traditional"))
"""What is written where nobody knows the artist: songs that share it need not share an artist."""

_REMEMBERED = 1 << 16
_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th", "ı": "i"})
"""Letters that Unicode does not take apart into one of ASCII and an accent."""
_ARTICLE = re.compile(r"(?:[Tt]he|THE)(?=[\s_]+\S)|The(?=[A-Z0-9])")
"""At the beginning of a name, also of one such as ``TheBronx``."""
_AFTERTHOUGHT = re.compile(r",\s*the$", re.IGNORECASE)
_FEATURED = re.compile(r"\s+(?:feat\.?|ft\.?|featuring)\s+", re.IGNORECASE)
_JOINT = re.compile(rf"\s*[,;&+]\s*|\s+and\s+|{_FEATURED.pattern}", re.IGNORECASE)
"""What stands between the artists of one song."""
_AND = re.compile(r"[&+]")
_ASIDE = re.compile(r"\s*\((?!\d+\))[^()]*\)")
"""What stands in brackets, unless it is a number: ``Etude (1)`` is not ``Etude (2)``."""

_SHARP, _FLAT = (re.compile(rf"(?<![^\W_])([A-Ga-g]){sign}") for sign in ("[#♯]", "♭"))
_OTHERS, _GAP = re.compile(r"[^a-z0-9]+"), re.compile(r"(?<!\d) | (?!\d)")


class Listed(NamedTuple):
    """A song as a catalogue lists it."""

    dataset: str
    song: str
    artist: str
    group: str
    split: str
    official: bool = False
    """Whether the data set has official splits, which no preparing again would change."""

    @property
    def song_keys(self) -> frozenset[str]:
        """See ``song_keys``."""
        return song_keys(self.song, self.artist, self.group)

    @property
    def artist_keys(self) -> frozenset[str]:
        """See ``artist_keys``."""
        return artist_keys(self.song, self.artist)


def listed(library: Library, datasets: Sequence[str] = ()) -> list[Listed]:
    """Return the songs of the given data sets (all if none is given), in order."""
    columns = list(Listed._fields[:5])
    table = library.catalogue(datasets, columns).group_by(columns).aggregate([])
    official = {name for name in datasets or library.datasets if library.facts(name).get("official")}
    rows = zip(*(table[name].to_pylist() for name in columns), strict=True)
    return sorted(
        Listed(dataset, song, artist or "", group, split, dataset in official)
        for dataset, song, artist, group, split in rows
    )


def listed_elsewhere(library: Library, dataset: str) -> list[Listed]:
    """Return the songs of all data sets but one."""
    others = [name for name in library.datasets if name != dataset]
    return listed(library, others) if others else []


@lru_cache(_REMEMBERED)
def song_keys(song: str, artist: str = "", group: str = "") -> frozenset[str]:
    """Return the identities of a song: two songs that have one in common are the same.

    They are made of artist and title, from ``artist`` and from names such as ``Artist - Title`` and ``Artist_Title``;
    where no artist is known, of the name; and of a ``group`` that is more than this song.
    """
    parts = _irregular().get(_folded(song)) or _parts(song)
    pairs = {parts} if parts else set()
    if _artists(artist):
        pairs.add((artist, song))
        if parts and _same_beginning(_folded(parts[0]), _folded(artist)):
            pairs.add((artist, parts[1]))
    keys = {f"{who}/{title}" for by, name in pairs for who in _main_artists(by) for title in _spellings(name)}
    if not _artists(artist):
        keys |= _spellings(song)
    if group not in ("", song):
        keys.add(_folded(group))
    return frozenset(f"song {key}" for key in keys)


@lru_cache(_REMEMBERED)
def artist_keys(song: str, artist: str = "") -> frozenset[str]:
    """Return the identities of who plays a song; empty where nobody knows.

    Of several artists each counts: a song by Liz Nelson & Jennifer Davies is one by Liz Nelson.
    """
    irregular = _irregular().get(_folded(song))
    names = _artists(artist) | (_artists(irregular[0]) if irregular else frozenset())
    return frozenset(f"artist {name}" for name in names)


def clusters(keys: Mapping[str, Iterable[str]]) -> Iterator[list[str]]:
    """Yield names that belong together because they share a key, or each shares one with a third, and so on.

    Names are sorted within a cluster, and clusters by their first name.
    """
    parents = {name: name for name in keys}

    def root(name: str) -> str:
        while parents[name] != name:
            parents[name] = parents[parents[name]]
            name = parents[name]
        return name

    first: dict[str, str] = {}
    for name in keys:
        for key in keys[name]:
            parents[root(name)] = root(first.setdefault(key, name))
    members = defaultdict(list)
    for name in sorted(keys):
        members[root(name)].append(name)
    yield from members.values()


def some(names: Collection[str], limit: int = 3) -> str:
    """Return the first names in quotation marks, and how many more there are."""
    shown = ", ".join(f"'{name}'" for name in sorted(names)[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _parts(name: str) -> tuple[str, str] | None:
    """Return artist and title of a name such as ``ANiMAL - Rockshow`` or ``ANiMAL_Rockshow``.

    Names such as ``take_1`` and ``side_a_2`` have none: the underscore stands alone, between parts that have letters.
    """
    dash, underscore = re.fullmatch(r"(.+?) [-–—] (.+)", name), re.fullmatch(r"([^_\s]+)_([^_\s]+)", name)
    if dash:
        return dash[1], dash[2]
    if underscore and all(any(map(str.isalpha, part)) for part in underscore.groups()):
        return underscore[1], underscore[2]
    return None


def _same_beginning(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


@lru_cache(_REMEMBERED)
def _main_artists(text: str) -> frozenset[str]:
    """Return the spellings of who a song is by, with and without who is featured."""
    text = _AFTERTHOUGHT.sub("", text.strip())
    return _spellings(text) | _spellings(_FEATURED.split(text)[0])


@lru_cache(_REMEMBERED)
def _artists(text: str) -> frozenset[str]:
    """Return the spellings of an artist's name, and of each if there are several; none if it says that nobody knows."""
    text = _AFTERTHOUGHT.sub("", text.strip())
    if _folded(text) in NOBODY:
        return frozenset()
    parts = {_folded(part) for part in _JOINT.split(text) if part.strip()}
    return (_spellings(text) | parts) - NOBODY - {""}


def _spellings(text: str) -> frozenset[str]:
    """Return the ways in which a name may be written elsewhere."""
    texts = {text, _ASIDE.sub("", text).strip() or text}
    return frozenset(_folded(_AND.sub(word, each)) for each in texts for word in (" and ", " "))


@lru_cache(_REMEMBERED)
def _folded(text: str) -> str:
    """Return the letters and digits of a name, or all of it if it has none.

    Digits that are apart stay so: ``1-11`` is not ``11-1``. Nor is C sharp C.
    """
    plain = unicodedata.normalize("NFKD", text.strip())
    if article := _ARTICLE.match(plain):
        plain = plain[article.end() :]
    plain = _SHARP.sub(r"\1sharp", _FLAT.sub(r"\1flat", plain))
    if plain.isascii():
        spaced = _OTHERS.sub(" ", plain.casefold())
    else:
        # Accents of Latin letters go; other scripts' marks are letters.
        plain = re.sub(r"[\u0300-\u036f]", "", plain).casefold().translate(_LETTERS)
        spaced = "".join(each if unicodedata.category(each)[0] in "LMN" else " " for each in plain)
    return _GAP.sub("", " ".join(spaced.split())) or text


@cache
def _irregular() -> dict[str, tuple[str, str]]:
    """Return artist and title of names that follow no rule, by folded name."""
    with (Path(__file__).parent / "same_songs.csv").open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return {_folded(row["name"]): (row["artist"], row["title"]) for row in rows}
