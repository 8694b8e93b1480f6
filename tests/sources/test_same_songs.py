"""MUSDB18 beside MedleyDB, by the names that their authors give."""

import csv
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import yaml

from timbrel.overlap import Listed, artist_keys, song_keys
from timbrel.splits import SPLIT_SHARES, SPLITS, assign_splits

SHARED = Path(__file__).parents[1] / "data" / "musdb18_overlap.csv"
VALIDATION = (
    *("Actions - One Minute Smile", "Clara Berry And Wooldog - Waltz For My Victims", "Johnny Lokke - Promises & Lies"),
    *("Patrick Talbot - A Reason To Leave", "Triviul - Angelsaint", "Alexander Ross - Goodbye Bolero"),
    *("Fergessen - Nos Palpitants", "Leaf - Summerghost", "Skelpolu - Human Mistakes", "Young Griffo - Pennies"),
    *("ANiMAL - Rockshow", "James May - On The Line", "Meaxic - Take A Step", "Traffic Experiment - Sirens"),
)
"""musdb/configs/mus.yaml of github.com/sigsep/sigsep-mus-db."""


@pytest.fixture(scope="module")
def musdb():
    """Every song, and what MedleyDB calls it."""
    with SHARED.open(newline="", encoding="utf-8") as file:
        return {row["musdb18"]: row["medleydb"] for row in csv.DictReader(line for line in file if line[0] != "#")}


@pytest.fixture(scope="module")
def medleydb(layouts):
    """The artist of every song, as its metadata has it."""
    files = (layouts / "medleydb_repo" / "medleydb" / "data" / "Metadata").glob("*_METADATA.yaml")
    return {
        file.name.removesuffix("_METADATA.yaml"): yaml.safe_load(file.read_text(encoding="utf-8"))["artist"]
        for file in sorted(files)
    }


@pytest.fixture(scope="module")
def elsewhere(musdb):
    """MUSDB18 as a library lists it; of its test split, which is not at hand, some songs stand in."""
    names = sorted(set(musdb) - set(VALIDATION))
    sides = dict.fromkeys(VALIDATION, "valid") | {name: "test" if i % 3 else "train" for i, name in enumerate(names)}
    return [Listed("musdb", name, name.split(" - ")[0], name, sides[name], True) for name in sorted(musdb)]


def rows_of(medleydb):
    return [
        {"song": song, "artist": artist, "group": song, "split": None, "instrument": "piano", "program": None}
        for song, artist in medleydb.items()
    ]


def test_each_shared_song_is_found_by_metadata_and_no_other_is(musdb, medleydb):
    assert len(medleydb) == 330
    theirs = {song: song_keys(song, artist) for song, artist in medleydb.items()}
    for name, shared in musdb.items():
        keys = song_keys(name, name.split(" - ")[0])
        assert [song for song, other in theirs.items() if keys & other] == [shared] * bool(shared), name
    keys = [key for found in theirs.values() for key in found]
    assert len(keys) == len(set(keys))  # nor are two of MedleyDB's taken for one


@pytest.mark.parametrize("rule", ["random", "stratified", "artist"])
def test_medleydb_beside_musdb_is_split_without_a_leak(rule, musdb, medleydb, elsewhere):
    rows = rows_of(medleydb)
    facts = assign_splits(rows, rule, elsewhere)
    side = {row["song"]: row["split"] for row in rows}
    official = {song.song: song.split for song in elsewhere}
    for name, shared in musdb.items():
        assert not shared or side[shared] == official[name]
    assert [side[musdb[name]] for name in VALIDATION if musdb[name]] == ["valid"] * 3
    assert facts["split_remarks"][0].startswith("46 songs are in the library already, on the same side (musdb): ")
    others = Counter(split for song, split in side.items() if song not in musdb.values())
    if rule != "artist":
        assert [others[split] for split in SPLITS] == pytest.approx([284 * share for share in SPLIT_SHARES], abs=2)
        return
    fixed, sides = defaultdict(set), defaultdict(set)
    for song in elsewhere:
        for key in song.artist_keys:
            fixed[key].add(song.split)
    for row in rows:
        for key in artist_keys(row["song"], row["artist"]):
            sides[key].add(row["split"])
            if row["song"] in musdb.values():
                fixed[key].add(row["split"])
    divided = {key for key, found in sides.items() if len(found | fixed[key]) > 1}
    # None but those whose songs MUSDB18 itself has on two sides.
    assert divided == {key for key in sides if len(fixed[key]) > 1}
    assert {"artist musicdeltamultitracks", "artist meaxic"} <= divided
    assert len(divided) < 20


def test_medleydb_alone_by_artist(medleydb):
    rows = rows_of(medleydb)
    assert assign_splits(rows, "artist") == {"official": 0, "split_remarks": []}
    counts = Counter(row["split"] for row in rows)
    assert [counts[split] for split in SPLITS] == pytest.approx([330 * share for share in SPLIT_SHARES], abs=1)
    assert [row["song"] for row in rows if row["artist"] == "The Beatles"]
    assert len({row["split"] for row in rows if row["artist"] == "The Beatles"}) == 1
    assert len({row["split"] for row in rows if "Liz Nelson" in row["artist"]}) == 1
