"""The sides of an experiment: no song that is trained on is validated or tested on under another data set's name."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import combinations
from typing import Any

from timbrel.errors import UserError
from timbrel.library import Library
from timbrel.overlap import Listed, listed
from timbrel.settings import Data
from timbrel.splits import SPLITS

SHOWN = 3
"""Pairs of songs that a message names."""


def check_sides(library: Library, data: Data) -> None:
    """Refuse an experiment that has a song on two sides under the names of two data sets.

    Where one of the data sets was prepared with ``--split artist``, the same goes for artists. Official splits of one
    data set stand as they are, and so do the artists that they divide: no other choice of sides could part these.

    Raises:
        UserError: names some of the songs and the remedy.
    """
    if len(_seen(library, data)) < 2:
        return
    songs = _songs(library, data)
    facts = {name: library.facts(name) for name in sorted({song.dataset for song in songs})}
    if pairs := _pairs(_holders(songs, lambda song: song.song_keys).values()):
        raise UserError(_message("same song", pairs, facts, ""))
    if not _by_artist(facts):
        return
    holders = _holders(songs, lambda song: song.artist_keys)
    if pairs := _pairs(found for found in holders.values() if not _divided(found, facts)):
        raise UserError(_message("same artist", pairs, facts, " --split artist"))


def left_out(library: Library, data: Data) -> frozenset[tuple[str, str]]:
    """Return data set and name of the songs to leave out, so that each is on one side alone: the most held out.

    By artist where one of the data sets was prepared with ``--split artist``; official splits don't stand then.
    """
    songs = _songs(library, data)
    by_artist = _by_artist({name: library.facts(name) for name in {song.dataset for song in songs}})

    def keys(song: Listed) -> frozenset[str]:
        return song.song_keys | song.artist_keys if by_artist else song.song_keys

    held_out = {key: max(SPLITS.index(song.split) for song in found) for key, found in _holders(songs, keys).items()}
    return frozenset(
        (song.dataset, song.song)
        for song in songs
        if any(held_out[key] > SPLITS.index(song.split) for key in keys(song))
    )


def _seen(library: Library, data: Data) -> list[str]:
    """Return the names of all data sets that an experiment sees."""
    return sorted({*(data.datasets or library.datasets), *(data.datasets_of("test") or library.datasets)})


def _songs(library: Library, data: Data) -> list[Listed]:
    """Return the songs of all sides of an experiment, each listed under the side that it would be on."""
    learned = set(data.datasets or library.datasets)
    tested = set(data.datasets_of("test") or library.datasets)
    return [
        song
        for song in listed(library, _seen(library, data))
        if song.dataset in (tested if song.split == "test" else learned)
    ]


def _holders(songs: Iterable[Listed], keys: Callable[[Listed], Collection[str]]) -> dict[str, list[Listed]]:
    holders = defaultdict(list)
    for song in songs:
        for key in keys(song):
            holders[key].append(song)
    return holders


def _by_artist(facts: Mapping[str, Mapping[str, Any]]) -> bool:
    return any(each.get("split_rule") == "artist" for each in facts.values())


def _pairs(holders: Iterable[list[Listed]]) -> list[tuple[Listed, Listed]]:
    """Return, for each that has songs of several data sets on several sides, two of them."""
    pairs = set()
    for found in holders:
        firsts = sorted({(song.dataset, song.split): song for song in reversed(found)}.values())
        for one, other in combinations(firsts, 2):
            if one.dataset != other.dataset and one.split != other.split:
                pairs.add((one, other))
                break
    return sorted(pairs)


def _divided(songs: list[Listed], facts: Mapping[str, Mapping[str, Any]]) -> bool:
    """Tell whether a data set has an artist on two sides that has to: by official splits, or by the songs it shares."""
    sides = defaultdict(set)
    for song in songs:
        sides[song.dataset].add(song.split)
    return any(
        len(found) > 1 and (facts[name].get("official") or facts[name].get("split_rule") == "artist")
        for name, found in sides.items()
    )


def _message(what: str, pairs: list[tuple[Listed, Listed]], facts: Mapping[str, Mapping[str, Any]], rule: str) -> str:
    shown = ", ".join(
        " and ".join(f"'{song.song}' ({song.split} in {song.dataset})" for song in pair) for pair in pairs[:SHOWN]
    )
    more = f" and {len(pairs) - SHOWN} more pairs" if len(pairs) > SHOWN else ""
    again = set()
    for pair in pairs:
        drawn = [song for song in pair if facts[song.dataset].get("official", 0) < facts[song.dataset]["songs"]]
        if rule:  # who was not divided by artist has to be, whatever the others do
            drawn = [song for song in drawn if facts[song.dataset].get("split_rule") != "artist"] or drawn
        # Of two the more held out follows, as `assign_splits` prefers the less: so nothing ever moves back and forth.
        again |= {max(drawn, key=lambda song: SPLITS.index(song.split)).dataset} if drawn else set()
    remedy = "set data.overlaps=leave_out, which keeps only what is on the most held-out side"
    if again:
        names = " and then ".join(sorted(again))
        remedy = f"prepare {names} again with --replace{rule}, to take the sides of the others, or {remedy}"
    return f"the {what} is on two sides of the experiment: {shown}{more}: {remedy}."
