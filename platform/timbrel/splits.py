"""Splits: which songs a model learns from, is validated on, and is tested on.

Songs of one group (renderings of one composition, copies) are always on one side. Which side depends on the groups'
names and contents alone, neither on the order in which songs were stored nor on the data set's name, so two data
sets of the same compositions are split alike.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from timbrel.errors import UserError
from timbrel.taxonomy import TAXONOMY

SPLITS = ("train", "valid", "test")
SPLIT_SHARES = (0.65, 0.175, 0.175)
"""Of the songs: the transfer-and-mixing paper's split for data sets without an official one."""

SplitRule = Literal["random", "stratified"]


def name_hash(*names: str) -> bytes:
    """Return a hash that orders names the same way on every machine, and unlike their alphabet."""
    return hashlib.sha256("\0".join(names).encode()).digest()


def assign_splits(rows: list[dict[str, Any]], rule: SplitRule) -> None:
    """Give every stem's row without an official split one of ``SPLITS``, 65 / 17.5 / 17.5 % by group.

    * ``random``: of three or more groups each split gets at least one.
    * ``stratified``: each class is divided in these shares too, as far as its songs go.
    """
    groups: dict[str, set[str]] = {}
    for row in rows:
        if row["split"] is None:
            groups.setdefault(row["group"], set()).update(_classes(row))
    chosen = _at_random(groups) if rule == "random" else _stratified(groups)
    for row in rows:
        if row["split"] is None:
            row["split"] = chosen[row["group"]]


def _at_random(groups: Mapping[str, set[str]]) -> dict[str, str]:
    order = sorted(groups, key=name_hash)
    held_out = [max(1, round(share * len(order))) if len(order) >= 3 else 0 for share in SPLIT_SHARES[1:]]
    return {
        **dict.fromkeys(order, "train"),
        **dict.fromkeys(order[: held_out[0]], "valid"),
        **dict.fromkeys(order[held_out[0] : sum(held_out)], "test"),
    }


def _stratified(groups: Mapping[str, set[str]]) -> dict[str, str]:
    """Iterative stratification: the class with the fewest groups left to place is placed first.

    Source: Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label data" (ECML PKDD 2011), algorithm 1.
    Each group goes to the split that wants most of the class, then to the one that wants most groups at all.
    """
    left = {name: set(groups[name]) for name in sorted(groups, key=name_hash)}
    classes = sorted(set().union(*left.values()))
    wanted = {label: np.array(SPLIT_SHARES) * sum(label in has for has in left.values()) for label in classes}
    wanted_groups = np.array(SPLIT_SHARES) * len(left)
    chosen: dict[str, str] = {}
    while left:
        counts = {label: sum(label in has for has in left.values()) for label in classes}
        rarest = min(
            (label for label in classes if counts[label]), key=lambda label: (counts[label], label), default=""
        )
        for name in [name for name, has in left.items() if rarest in has or not rarest]:
            want = wanted[rarest] if rarest else wanted_groups
            # Rounding keeps a split from being preferred by the last bit of a sum; of equals the first is taken.
            side = int(np.lexsort((np.arange(0, -len(SPLITS), -1), wanted_groups.round(6), want.round(6)))[-1])
            chosen[name] = SPLITS[side]
            wanted_groups[side] -= 1
            for label in left.pop(name):
                wanted[label][side] -= 1
    return chosen


def _classes(row: Mapping[str, Any]) -> set[str]:
    """Return what a stem counts for: its classes, or its own word where the taxonomy does not know it."""
    try:
        return set(TAXONOMY.classes_of(row["instrument"], -1 if row["program"] is None else row["program"]))
    except UserError:
        return {row["instrument"]}
