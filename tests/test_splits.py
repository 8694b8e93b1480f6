"""Which songs are trained, validated and tested on."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timbrel.overlap import Listed, artist_keys
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


def artist_rows(songs):
    """Rows of ``(song, artist, group, split)``, a stem each."""
    return [
        {"song": song, "artist": artist, "group": group or song, "split": split, "instrument": "piano", "program": 0}
        for song, artist, group, split in songs
    ]


def by_artist(sizes):
    return artist_rows([(f"{n}/{i}", f"artist {n}", "", None) for n, size in enumerate(sizes) for i in range(size)])


def shares(rows):
    counts = Counter({row["song"]: row["split"] for row in rows}.values())
    return [counts[split] for split in SPLITS]


NAMES = st.sampled_from(["Ann", "The Bobs", "Cee & Ann", "Dee feat. The Bobs", "Eve", "", "unknown"])
CATALOGUES = st.lists(
    st.tuples(NAMES, st.sampled_from(["", "", "g1", "g2"]), st.sampled_from([None, None, None, *SPLITS])), max_size=20
).map(lambda songs: [(f"song {number}", *about) for number, about in enumerate(songs)])


@given(CATALOGUES, st.randoms(use_true_random=False))
def test_no_artist_and_no_group_is_on_two_sides(songs, shuffler):
    rows, shuffled = artist_rows(songs), artist_rows(songs)
    shuffler.shuffle(shuffled)
    facts = assign_splits(rows, "artist")
    assert assign_splits(shuffled, "artist") == facts
    assert {row["song"]: row["split"] for row in rows} == {row["song"]: row["split"] for row in shuffled}
    assert facts["official"] == sum(split is not None for *_, split in songs)
    by = {row["song"]: {f"group {row['group']}", *artist_keys(row["song"], row["artist"])} for row in rows}
    official = {key for song, *_, split in songs if split for key in by[song]}
    for row, (_, _, _, split) in zip(rows, songs, strict=True):
        assert row["split"] in ([split] if split else SPLITS)
    sides = {key: {row["split"] for row in rows if key in by[row["song"]]} for keys in by.values() for key in keys}
    for key, found in sides.items():
        given_sides = {split for song, *_, split in songs if split and key in by[song]}
        # Only official splits divide, and nothing is added to the sides that they have.
        assert len(found) == 1 or (len(given_sides) > 1 and found == given_sides) or key in linked(official, by)


def linked(keys, by):
    """Return ``keys``, and those of all songs that they, or such songs, have in common."""
    while more := {key for song in by.values() if song & keys for key in song} - keys:
        keys = keys | more
    return keys


@given(st.lists(st.integers(1, 30), min_size=3, max_size=60))
def test_shares_by_artist_are_within_the_largest_artist(sizes):
    rows = by_artist(sizes)
    assign_splits(rows, "artist")
    counts, largest = shares(rows), max(sizes)
    assert all(counts)
    for count, share in zip(counts, SPLIT_SHARES, strict=True):
        assert -2 * largest < count - share * sum(sizes) < largest + 1e-6
    assert len({(row["artist"], row["split"]) for row in rows}) == len(sizes)


@pytest.mark.parametrize(
    "sizes",
    [[1] * 200, list(range(1, 13)) * 20, [60, 30, 20, *[3] * 40, *[1] * 100], [int(200 / n) for n in range(1, 150)]],
)
def test_shares_by_artist_are_exact_where_there_are_many(sizes):
    rows = by_artist(sizes)
    facts = assign_splits(rows, "artist")
    assert shares(rows) == pytest.approx([share * sum(sizes) for share in SPLIT_SHARES], abs=1)
    assert facts == {"official": 0, "split_remarks": []}


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([7], [7, 0, 0]), ([7, 2], [9, 0, 0]), ([1, 1, 1], [1, 1, 1]), ([9, 1, 1], [9, 1, 1]), ([1, 9, 5], [9, 5, 1])],
)
def test_few_artists(sizes, expected):
    rows = by_artist(sizes)
    facts = assign_splits(rows, "artist")
    assert shares(rows) == expected
    too_few = ["no song is in the split valid or test: too few of them may be divided."]
    assert facts["split_remarks"] == (too_few if len(sizes) < 3 else [])


def test_songs_without_an_artist_are_divided_one_by_one():
    rows = artist_rows([(f"song {n}", ["", "Unknown", "various artists"][n % 3], "", None) for n in range(40)])
    assign_splits(rows, "artist")
    assert shares(rows) == [26, 7, 7]


def test_an_artist_follows_an_official_split():
    rows = artist_rows([("a", "Ann", "", "test"), ("b", "Ann & Bob", "", None), ("c", "Bob", "", None)])
    rows += by_artist([1] * 40)
    assign_splits(rows, "artist")
    assert [row["split"] for row in rows[:3]] == ["test"] * 3


def test_the_same_song_under_another_name_in_one_data_set_is_on_one_side():
    for rule in ("random", "stratified", "artist"):
        songs = [(f"Band{n}x - Song", "", "", None) for n in range(20)] + [
            (f"Band{n}x_Song", "", "", None) for n in range(20)
        ]
        rows = artist_rows(songs)
        assign_splits(rows, rule)
        assert [row["split"] for row in rows[:20]] == [row["split"] for row in rows[20:]]
        assert len({row["split"] for row in rows}) == 3


@pytest.mark.parametrize("rule", ["random", "stratified", "artist"])
def test_a_copy_takes_the_side_of_the_library_and_an_official_split_does_not(rule):
    elsewhere = [Listed("other", "Ann_One", "Ann", "Ann_One", "test"), Listed("other", "x", "", "Ann_Two", "valid")]
    rows = artist_rows([("Ann - One", "", "", None), ("Ann - Two", "", "", None), ("third", "", "", None)])
    facts = assign_splits(rows, rule, elsewhere)
    assert [row["split"] for row in rows] == ["test", "valid", "train"]
    assert facts["split_remarks"] == [
        "2 songs are in the library already, on the same side (other): 'Ann - One', 'Ann - Two'."
    ]
    rows = artist_rows([("Ann - One", "", "", "train")])
    facts = assign_splits(rows, rule, elsewhere)
    assert rows[0]["split"] == "train"
    assert facts["official"] == 1
    assert facts["split_remarks"] == [
        "1 song is on another side in other: 'Ann - One'; to use both, prepare other again with --replace, or set "
        "data.overlaps=leave_out."
    ]
