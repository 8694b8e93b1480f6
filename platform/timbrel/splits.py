"""Splits: which songs a model learns from, is validated on, and is tested on.

Songs of one group (renderings of one composition, copies) are always on one side; by the rule ``artist``, songs of one
artist as well. A song that the library has already under another data set's name takes the side that it has there.
Which side the others are on depends on names and contents alone, neither on the order in which songs were stored nor on
the data set's name, so two data sets of the same compositions are split alike.

What is fixed wins over what is drawn: first come official splits, in this data set and then in others, to which their
songs' copies keep and, by the rule ``artist``, songs of the same artists; then what was drawn for other data sets; then
chance. Where these contradict each other, as official splits of two data sets may, songs go to the least held-out of
the sides in question: what is heard on several sides is better trained on than judged by.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from timbrel.errors import UserError
from timbrel.overlap import Listed, artist_keys, clusters, some, song_keys
from timbrel.taxonomy import TAXONOMY

SPLITS = ("train", "valid", "test")
"""From the least to the most held out."""
SPLIT_SHARES = (0.65, 0.175, 0.175)
"""Of the songs: the transfer-and-mixing paper's split for data sets without an official one."""

SplitRule = Literal["random", "stratified", "artist"]

_Sides = dict[str, set[str]]


class _Unit(NamedTuple):
    """Songs that can't be divided."""

    songs: int
    classes: set[str]


def name_hash(*names: str) -> bytes:
    """Return a hash that orders names the same way on every machine, and unlike their alphabet."""
    return hashlib.sha256("\0".join(names).encode()).digest()


def assign_splits(rows: list[dict[str, Any]], rule: SplitRule, elsewhere: Sequence[Listed] = ()) -> dict[str, Any]:
    """Give every stem's row without an official split one of ``SPLITS``, 65 / 17.5 / 17.5 %.

    * ``random``: by group; of three or more groups each split gets at least one.
    * ``stratified``: each class is divided in these shares too, as far as its songs go.
    * ``artist``: of the songs, as near as artists allow; nobody is heard on two sides.

    ``elsewhere`` lists the songs of the library's other data sets. The shares are those of the songs that are neither
    there nor have an official split.

    Returns:
        Facts about the data set: ``official``, its number of songs with an official split, and ``split_remarks``, what
        a researcher should know of the result, a sentence each.
    """
    songs = {row["song"]: row for row in rows}
    same = {name: song_keys(name, row.get("artist") or "", row["group"]) for name, row in songs.items()}
    together = {name: {f"group {row['group']}", *same[name]} for name, row in songs.items()}
    by = {name: artist_keys(name, row.get("artist") or "") for name, row in songs.items()}
    official = {name: row["split"] for name, row in songs.items() if row["split"] is not None}
    fixed = [song for song in elsewhere if song.official]
    drawn = [song for song in elsewhere if not song.official]
    split = dict(official)
    # First the copies of songs that are fixed, then what their artists draw after them, last what was drawn elsewhere.
    _settle(split, together, together, _own(official, together), _sides((song.song_keys, song.split) for song in fixed))
    if rule == "artist":
        together = {name: {*keys, *by[name]} for name, keys in together.items()}
        placed = [(by[name], side) for name, side in split.items()]
        placed += [(song.artist_keys, song.split) for song in fixed]
        _settle(split, together, by, _own(official, by), _sides(placed))
        _settle(split, together, together, _sides((song.song_keys | song.artist_keys, song.split) for song in drawn))
    else:
        _settle(split, together, together, _sides((song.song_keys, song.split) for song in drawn))
    classes: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        classes[row["song"]] |= _classes(row)
    # A unit goes by its first group's name, as songs of one group always did.
    units = {min(songs[name]["group"] for name in unit): unit for unit in _undecided(split, together)}
    counted = {name: _Unit(len(unit), set().union(*(classes[song] for song in unit))) for name, unit in units.items()}
    for name, side in _RULES[rule](counted).items():
        split.update(dict.fromkeys(units[name], side))
    remarks = _remarks(songs, split, same, by, elsewhere, rule)
    for row in rows:
        row["split"] = split[row["song"]]
    return {"official": len(official), "split_remarks": remarks}


def _undecided(split: Mapping[str, str], together: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Return the songs that are in no split yet, by what keeps them together."""
    return list(clusters({name: keys for name, keys in together.items() if name not in split}))


def _settle(
    split: dict[str, str], together: Mapping[str, Collection[str]], keys: Mapping[str, Collection[str]], *known: _Sides
) -> None:
    """Put songs where what they share a key with is, by the first of ``known`` that has any."""
    for unit in _undecided(split, together):
        for sides in known:
            if found := {side for name in unit for key in keys[name] for side in sides.get(key, ())}:
                split.update(dict.fromkeys(unit, min(found, key=SPLITS.index)))
                break


def _own(split: Mapping[str, str], keys: Mapping[str, Collection[str]]) -> _Sides:
    return _sides((keys[name], side) for name, side in split.items())


def _sides(placed: Iterable[tuple[Collection[str], str]]) -> _Sides:
    """Return the splits on which each key is."""
    sides: _Sides = defaultdict(set)
    for keys, split in placed:
        for key in keys:
            sides[key].add(split)
    return sides


def _at_random(units: Mapping[str, _Unit]) -> dict[str, str]:
    order = sorted(units, key=name_hash)
    held_out = [max(1, round(share * len(order))) if len(order) >= 3 else 0 for share in SPLIT_SHARES[1:]]
    return {
        **dict.fromkeys(order, "train"),
        **dict.fromkeys(order[: held_out[0]], "valid"),
        **dict.fromkeys(order[held_out[0] : sum(held_out)], "test"),
    }


def _stratified(units: Mapping[str, _Unit]) -> dict[str, str]:
    """Iterative stratification: the class with the fewest units left to place is placed first.

    Source: Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label data" (ECML PKDD 2011), algorithm 1.
    Each unit goes to the split that wants most of the class, then to the one that wants most units at all.
    """
    left = {name: set(units[name].classes) for name in sorted(units, key=name_hash)}
    classes = sorted(set().union(*left.values()))
    wanted = {label: np.array(SPLIT_SHARES) * sum(label in has for has in left.values()) for label in classes}
    wanted_units = np.array(SPLIT_SHARES) * len(left)
    chosen: dict[str, str] = {}
    while left:
        counts = {label: sum(label in has for has in left.values()) for label in classes}
        rarest = min(
            (label for label in classes if counts[label]), key=lambda label: (counts[label], label), default=""
        )
        for name in [name for name, has in left.items() if rarest in has or not rarest]:
            want = wanted[rarest] if rarest else wanted_units
            # Rounding keeps a split from being preferred by the last bit of a sum; of equals the first is taken.
            side = int(np.lexsort((np.arange(0, -len(SPLITS), -1), wanted_units.round(6), want.round(6)))[-1])
            chosen[name] = SPLITS[side]
            wanted_units[side] -= 1
            for label in left.pop(name):
                wanted[label][side] -= 1
    return chosen


def _by_size(units: Mapping[str, _Unit]) -> dict[str, str]:
    """Place the unit with the most songs first, each into the split that lacks most songs.

    So every split ends within the size of one unit above its share, and the small units that come last even it out. Of
    three or more units each split gets at least one.
    """
    if len(units) < len(SPLITS):
        return dict.fromkeys(units, "train")
    total = sum(unit.songs for unit in units.values())
    lacking = {split: share * total for split, share in zip(SPLITS, SPLIT_SHARES, strict=True)}
    empty = list(SPLITS)
    chosen: dict[str, str] = {}
    for name in sorted(units, key=lambda name: (-units[name].songs, name_hash(name))):
        among = empty if len(units) - len(chosen) <= len(empty) else SPLITS
        side = max(among, key=lambda split: round(lacking[split], 6))  # of equals the first
        chosen[name] = side
        lacking[side] -= units[name].songs
        if side in empty:
            empty.remove(side)
    return chosen


_RULES: Mapping[SplitRule, Callable[[Mapping[str, _Unit]], dict[str, str]]] = {
    "random": _at_random,
    "stratified": _stratified,
    "artist": _by_size,
}


def _remarks(
    songs: Mapping[str, Mapping[str, Any]],
    split: Mapping[str, str],
    same: Mapping[str, Collection[str]],
    by: Mapping[str, Collection[str]],
    elsewhere: Sequence[Listed],
    rule: SplitRule,
) -> list[str]:
    """Return what a researcher should know of a data set's splits, a sentence each."""
    there: dict[str, list[Listed]] = defaultdict(list)
    for other in elsewhere:
        for key in other.song_keys:
            there[key].append(other)
    copies = {name: {copy for key in keys for copy in there.get(key, ())} for name, keys in same.items()}
    agreeing = {name for name, found in copies.items() if any(copy.split == split[name] for copy in found)}
    clashing = {name for name, found in copies.items() if any(copy.split != split[name] for copy in found)}
    remarks = []
    if agreeing:
        same_side = {copy.dataset for name in agreeing for copy in copies[name] if copy.split == split[name]}
        datasets = ", ".join(sorted(same_side))
        remarks.append(f"{_songs(agreeing)} in the library already, on the same side ({datasets}): {some(agreeing)}.")
    if clashing:
        others = {copy for name in clashing for copy in copies[name] if copy.split != split[name]}
        again = " and ".join(sorted({copy.dataset for copy in others if not copy.official}))
        remedy = f"prepare {again} again with --replace, or " if again else ""
        remarks.append(
            f"{_songs(clashing)} on another side in {', '.join(sorted({copy.dataset for copy in others}))}: "
            f"{some(clashing)}; to use both, {remedy}set data.overlaps=leave_out."
        )
    if rule == "artist":
        sides = _own(split, by)
        divided = {
            songs[name]["artist"] or name for name, keys in by.items() if any(len(sides[key]) > 1 for key in keys)
        }
        if divided:
            remarks.append(
                f"on two sides, as official splits or copies in the library have them: the artists {some(divided)}."
            )
    empty = [name for name in SPLITS if name not in split.values()]
    if empty and any(song["split"] is None for song in songs.values()):
        remarks.append(f"no song is in the split {' or '.join(empty)}: too few of them may be divided.")
    return remarks


def _songs(names: Collection[str]) -> str:
    return "1 song is" if len(names) == 1 else f"{len(names)} songs are"


def _classes(row: Mapping[str, Any]) -> set[str]:
    """Return what a stem counts for: its classes, or its own word where the taxonomy does not know it."""
    try:
        return set(TAXONOMY.classes_of(row["instrument"], -1 if row["program"] is None else row["program"]))
    except UserError:
        return {row["instrument"]}
