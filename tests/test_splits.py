"""Which songs are trained, validated and tested on."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timbrel.splits import SPLIT_SHARES, SPLITS, assign_splits


def split_rows(groups, songs_each=2, official=None):
    return [
        {
            "group": f"group {group}",
            "song": f"{group}/{number}",
            "split": official,
            "instrument": "piano",
            "program": None,
        }
        for group in range(groups)
        for number in range(songs_each)
    ]


@pytest.mark.parametrize(
    ("groups", "expected"), [(200, (130, 35, 35)), (40, (26, 7, 7)), (3, (1, 1, 1)), (2, (2, 0, 0))]
)
def test_shares_of_the_splits(groups, expected):
    rows = split_rows(groups, songs_each=1)
    assign_splits(rows, "random")
    counts = Counter(row["split"] for row in rows)
    assert tuple(counts[split] for split in SPLITS) == expected


@given(st.integers(1, 60), st.randoms(use_true_random=False))
def test_groups_are_never_split_and_order_does_not_matter(groups, shuffler):
    rows, shuffled = split_rows(groups), split_rows(groups)
    shuffler.shuffle(shuffled)
    assign_splits(rows, "random")
    assign_splits(shuffled, "random")
    assert {row["song"]: row["split"] for row in rows} == {row["song"]: row["split"] for row in shuffled}
    assert len({(row["group"], row["split"]) for row in rows}) == groups
    if groups >= 3:
        assert {row["split"] for row in rows} == set(SPLITS)


def test_official_splits_are_kept():
    rows = split_rows(4, official="test") + [
        {"group": f"g{i}", "song": f"g{i}", "split": None, "instrument": "piano", "program": 0} for i in range(10)
    ]
    assign_splits(rows, "random")
    assert {row["split"] for row in rows[:8]} == {"test"}
    assert Counter(row["split"] for row in rows[8:]) == {"train": 6, "valid": 2, "test": 2}


def class_rows(songs):
    """Rows of songs, each a list of instruments; instruments outside the taxonomy are classes of their own."""
    return [
        {"group": f"song {i}", "song": f"song {i}", "split": None, "instrument": name, "program": None}
        for i, names in enumerate(songs)
        for name in names
    ]


def test_stratified_gives_every_split_its_share_of_rare_classes():
    generator = np.random.default_rng(0)
    rare = [["singer"] if i < 17 else ["violin"] if i < 32 else [] for i in range(212)]
    songs = [
        [*few, *(name for name in ("piano", "drums", "flute") if generator.random() < 0.5), "piano"] for few in rare
    ]
    rows = class_rows(songs)
    assign_splits(rows, "stratified")
    for name in ("singer", "violin", "drums", "flute"):
        counts = Counter(row["split"] for row in rows if row["instrument"] == name)
        for split, share in zip(SPLITS, SPLIT_SHARES, strict=True):
            # A split's share of a class, to within one song and a half.
            assert abs(counts[split] - share * counts.total()) <= 1.5, (name, split, counts)
    sizes = Counter({row["song"]: row["split"] for row in rows}.values())
    assert [sizes[split] for split in SPLITS] == pytest.approx([137.8, 37.1, 37.1], abs=3)


def test_random_does_not_divide_classes_fairly_where_stratified_does():
    songs = [["violin"] if i % 20 == 0 else ["piano"] for i in range(200)]
    by_rule = {}
    for rule in ("random", "stratified"):
        rows = class_rows(songs)
        assign_splits(rows, rule)
        by_rule[rule] = Counter(row["split"] for row in rows if row["instrument"] == "violin")
    assert by_rule["stratified"] in ({"train": 6, "valid": 2, "test": 2}, {"train": 7, "valid": 2, "test": 1})
    assert by_rule["random"] != by_rule["stratified"]


@pytest.mark.parametrize("rule", ["random", "stratified"])
def test_the_same_songs_are_split_alike_in_whatever_order(rule):
    songs = [["piano", "drums"][: 1 + i % 2] for i in range(40)]
    rows = class_rows(songs)
    others = class_rows(songs)[::-1]
    assign_splits(rows, rule)
    assign_splits(others, rule)
    assert {row["song"]: row["split"] for row in rows} == {row["song"]: row["split"] for row in others}


def test_unknown_instruments_are_strata_of_their_own():
    rows = class_rows([["zzz"] if i < 10 else ["piano"] for i in range(100)])
    assign_splits(rows, "stratified")
    assert {row["split"] for row in rows if row["instrument"] == "zzz"} == set(SPLITS)
