"""No song, and by the rule `artist` no artist, is on two sides of an experiment."""

import re
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from timbrel import registry
from timbrel.config import with_values
from timbrel.errors import UserError
from timbrel.library import Library
from timbrel.mixing.index import build_index, missing_examples
from timbrel.mixing.sides import check_sides, left_out
from timbrel.overlap import Listed
from timbrel.prepare import prepare
from timbrel.settings import Data
from timbrel.sources.stems import StemsOptions
from timbrel.splits import SPLITS, assign_splits


class Lists(Library):
    """A library of catalogues alone, into which data sets come as `timbrel prepare` brings them."""

    def __init__(self):
        super().__init__(None)
        self.rows, self.known = {}, {}

    @property
    def datasets(self):
        return tuple(sorted(self.rows))

    def facts(self, dataset):
        return self.known[dataset]

    def catalogue(self, datasets=(), columns=None):
        rows = [row for name in sorted(set(datasets or self.datasets)) for row in self.rows[name]]
        return pa.Table.from_pylist([{column: row[column] for column in columns} for row in rows])

    def songs(self, *but):
        return [
            Listed(**row, official=self.known[name]["official"] > 0)
            for name in self.datasets
            if name not in but
            for row in self.rows[name]
        ]

    def prepare(self, dataset, songs, rule):
        rows = [song | {"dataset": dataset, "instrument": "piano", "program": None} for song in songs]
        facts = assign_splits(rows, rule, self.songs(dataset))
        self.rows[dataset] = [{field: row[field] for field in Listed._fields[:5]} for row in rows]
        self.known[dataset] = facts | {"split_rule": rule, "songs": len(rows)}


@st.composite
def catalogues(draw, official=True):
    """Return data sets: lists of songs whose artists, names and groups overlap, written in several ways."""
    artists = st.sampled_from(["Ann", "The Bobs", "Cee", "Cee & Ann", "Dee", ""])
    datasets = {}
    for dataset in draw(st.lists(st.sampled_from("xyz"), min_size=1, unique=True)):
        songs = {}
        for number, artist in enumerate(draw(st.lists(artists, min_size=1, max_size=8))):
            title = f"t{draw(st.integers(0, 5))}"
            styles = [title, f"{artist} - {title}", f"{artist.replace(' ', '')}_{title}"] if artist else [title]
            name = draw(st.sampled_from(styles))
            songs[name] = {
                "song": name,
                "artist": artist,
                "group": draw(st.sampled_from([name, name, "g1", "g2"])),
                "split": draw(st.sampled_from([None, None, *SPLITS])) if official else None,
            }
            assert number < 8
        datasets[dataset] = list(songs.values())
    return datasets


def sides(songs, keys):
    found = defaultdict(set)
    for song in songs:
        for key in keys(song):
            found[key].add(song.split)
    return found


def one_side_each(songs, keys):
    return all(len(found) == 1 for found in sides(songs, keys).values())


def follow(library, catalogue, message):
    """Do what the message says."""
    named = re.search(r"prepare (\w(?: and then \w)*) again with --replace( --split artist)?", message)
    for dataset in named[1].split(" and then "):
        rule = "artist" if named[2] else library.known[dataset]["split_rule"]
        library.prepare(dataset, catalogue[dataset], rule)


@given(
    catalogues(official=False), st.lists(st.sampled_from(["random", "stratified", "artist"]), min_size=3, max_size=3)
)
def test_without_official_splits_preparing_again_always_parts_the_sides(catalogue, rules):
    library = Lists()
    for (dataset, songs), rule in zip(catalogue.items(), rules, strict=False):
        library.prepare(dataset, songs, rule)
    for _ in range(20):
        try:
            check_sides(library, Data())
            break
        except UserError as error:
            follow(library, catalogue, str(error))
    else:
        pytest.fail("the remedy does not help")
    for name in library.datasets:
        assert one_side_each(library.songs(*set(library.datasets) - {name}), lambda song: {song.group})
    assert one_side_each(library.songs(), lambda song: song.song_keys)
    if all(library.known[name]["split_rule"] == "artist" for name in library.datasets):
        assert one_side_each(library.songs(), lambda song: song.artist_keys)


@settings(max_examples=200)
@given(catalogues(), st.lists(st.sampled_from(["random", "stratified", "artist"]), min_size=3, max_size=3), st.data())
def test_what_is_left_has_nothing_on_two_sides(catalogue, rules, data):
    library = Lists()
    for (dataset, songs), rule in zip(catalogue.items(), rules, strict=False):
        library.prepare(dataset, songs, rule)
        assert all(
            row["split"] in ({song["split"]} if song["split"] else SPLITS)
            for row, song in zip(library.rows[dataset], songs, strict=True)
        )
    some = st.lists(st.sampled_from(library.datasets), unique=True).map(tuple)
    chosen = Data(datasets=data.draw(some), test_datasets=data.draw(some), overlaps="leave_out")
    learned, tested = set(chosen.datasets_of("train")), set(chosen.datasets_of("test"))
    away = left_out(library, chosen)
    seen = [
        song
        for song in library.songs()
        if song.dataset in ((tested if song.split == "test" else learned) or library.datasets)
    ]
    kept = [song for song in seen if (song.dataset, song.song) not in away]
    assert one_side_each(kept, lambda song: song.song_keys)
    if any(library.known[song.dataset]["split_rule"] == "artist" for song in seen):
        assert one_side_each(kept, lambda song: song.artist_keys)
    assert {song for song in seen if song.split == "test"} <= set(kept)
    # Whatever is not refused has no song on two sides, unless official splits of one data set have it there.
    try:
        check_sides(library, chosen)
    except UserError:
        return
    for key, found in sides(seen, lambda song: song.song_keys).items():
        holders = {song.dataset for song in seen if key in song.song_keys}
        assert len(found) == 1 or len(holders) == 1


@pytest.fixture
def add(tmp_path):
    """Prepare a data set from rows ``song, split, artist``, each song a piano of half a second."""
    tone = 0.3 * np.sin(2 * np.pi * 220 * np.arange(8_000) / 16_000)
    soundfile.write(tmp_path / "tone.wav", tone, 16_000)

    def run(name, songs, split="random", replace=False):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        lines = ["path,song,instrument,split,artist"]
        for number, (song, side, artist) in enumerate(songs):
            (folder / f"{number}.wav").write_bytes((tmp_path / "tone.wav").read_bytes())
            lines.append(f"{number}.wav,{song},piano,{side},{artist}")
        (folder / "list.csv").write_text("\n".join(lines))
        source = registry.load("source", "stems")
        library = tmp_path / "library"
        facts, _ = prepare(source, folder / "list.csv", library, StemsOptions(), name, split=split, replace=replace)
        rows = Library.open(library).catalogue((name,), ["song", "split"]).to_pylist()
        return facts, {row["song"]: row["split"] for row in rows}

    return run


@pytest.fixture
def build(tmp_path, instrument_task):
    def run(split="test", **data):
        values = {f"data.{name}": value for name, value in data.items()}
        config = with_values(instrument_task.config_type(), values)
        return build_index(Library.open(tmp_path / "library"), split, instrument_task, config).songs.to_pylist()

    return run


MUSDB = [
    ("Meaxic - Take A Step", "valid", "Meaxic"),
    ("Meaxic - You Listen", "train", "Meaxic"),
    ("Night Panther - Fire", "train", "Night Panther"),
    ("Music Delta - Rock", "test", "Music Delta"),
    ("Music Delta - Beatles", "train", "Music Delta"),
]
MEDLEYDB = [
    ("Meaxic_TakeAStep", "", "Meaxic"),
    ("Meaxic_YouListen", "", "Meaxic"),
    ("NightPanther_Fire", "", "Night Panther"),
    ("MusicDelta_Rock", "", "Music Delta"),
    *((f"Band{letter}_Song", "", f"Band {letter}") for letter in "ABCDEFGHIJKLMNOPQRST"),
]


def test_songs_take_the_side_that_the_library_has_them_on(add, build):
    add("musdb", MUSDB)
    facts, sides = add("medleydb", MEDLEYDB)
    for song, side in [("Meaxic_TakeAStep", "valid"), ("NightPanther_Fire", "train"), ("MusicDelta_Rock", "test")]:
        assert sides[song] == side
    assert facts["official"] == 0
    assert facts["split_remarks"] == [
        "4 songs are in the library already, on the same side (musdb): 'Meaxic_TakeAStep', 'Meaxic_YouListen', "
        "'MusicDelta_Rock' and 1 more."
    ]
    # The others are divided 65 / 17.5 / 17.5 %, as if they were alone.
    counts = [sum(sides[f"Band{letter}_Song"] == split for letter in "ABCDEFGHIJKLMNOPQRST") for split in SPLITS]
    assert counts == [12, 4, 4]
    assert "MusicDelta_Rock" in build("test", datasets=("medleydb",), test_datasets=("musdb", "medleydb"))


def test_in_the_other_order_the_experiment_is_refused_until_one_is_prepared_again(add, build):
    _, before = add("medleydb", MEDLEYDB[:4])
    facts, sides = add("musdb", MUSDB)
    assert sides == {song: split for song, split, _ in MUSDB}
    assert facts["official"] == 5
    assert " on another side in medleydb: " in facts["split_remarks"][-1]
    assert "to use both, prepare medleydb again with --replace, or set" in facts["split_remarks"][-1]
    with pytest.raises(UserError) as refused:
        build()
    message = str(refused.value)
    assert re.match(r"the same song is on two sides of the experiment: 'M\w+' \(\w+ in medleydb\) and 'M", message)
    assert "prepare medleydb again with --replace, to take" in message
    assert "\n" not in message
    for split in ("train", "valid", "test"):  # one data set alone can be used
        assert set(build(split, datasets=("musdb",))) == {song for song, side, _ in MUSDB if side == split}
    _, after = add("medleydb", MEDLEYDB[:4], replace=True)
    assert after != before
    assert "MusicDelta_Rock" in build()


def test_two_official_splits_leave_songs_out(add, build, tmp_path, instrument_task):
    add("musdb", MUSDB)
    theirs = [("Meaxic_TakeAStep", "train", ""), ("NightPanther_Fire", "test", ""), ("Own_Song", "valid", "")]
    facts, _ = add("theirs", theirs)
    assert facts["split_remarks"] == [
        "2 songs are on another side in musdb: 'Meaxic_TakeAStep', 'NightPanther_Fire'; to use both, set "
        "data.overlaps=leave_out."
    ]
    with pytest.raises(UserError, match=r"two sides of the experiment: .*: set data\.overlaps=leave_out, which"):
        build()
    kept = {split: set(build(split, overlaps="leave_out")) for split in SPLITS}
    assert kept == {
        "train": {"Meaxic - You Listen", "Music Delta - Beatles"},
        "valid": {"Meaxic - Take A Step", "Own_Song"},
        "test": {"Music Delta - Rock", "NightPanther_Fire"},
    }
    config = with_values(instrument_task.config_type(), {"data.overlaps": "leave_out"})
    lines = missing_examples(Library.open(tmp_path / "library"), instrument_task, config)
    assert lines[0] == "on a more held-out side too, and left out: 'Meaxic_TakeAStep', 'Night Panther - Fire'"


def test_only_the_sides_that_an_experiment_has_are_compared(add, build):
    add("musdb", MUSDB)
    add("theirs", [("Night Panther - Fire", "test", ""), ("Music Delta - Rock", "valid", ""), ("Own", "train", "")])
    with pytest.raises(UserError, match=r"'Night Panther - Fire' \(test in theirs\)"):
        build(datasets=("musdb",), test_datasets=("theirs",))
    # What is tested in musdb is of no concern where musdb is not tested on, and the other way round.
    assert build("valid", datasets=("theirs",), test_datasets=("theirs",)) == ["Music Delta - Rock"]
    with pytest.raises(UserError, match=r"'Music Delta - Rock' \(test in musdb\)"):
        build(datasets=("theirs",), test_datasets=("musdb",))


def test_artists_are_kept_on_one_side_across_data_sets(add, build):
    _, first = add("first", [(f"{artist} - One", "", artist) for artist in "ABCDEF"], split="artist")
    _, second = add("second", [(f"{artist}_Two", "", artist) for artist in "ABCDEF"], split="artist")
    assert {first[f"{artist} - One"] for artist in "ABCDEF"} == set(SPLITS)
    assert [first[f"{artist} - One"] for artist in "ABCDEF"] == [second[f"{artist}_Two"] for artist in "ABCDEF"]
    assert build()


def test_an_artist_on_two_sides_is_refused_where_artists_count(add, build):
    add("drawn", [(f"{artist} - {number}", "", artist) for artist in "ABCDEF" for number in range(3)])
    add("other", [(f"{artist}_Other", "", artist) for artist in "GHIJK"])
    assert build()
    add("other", [(f"{artist}_Other", "", artist) for artist in "ABCDEF"], split="artist", replace=True)
    with pytest.raises(UserError, match=r"same artist is on two sides .* prepare drawn again .* --split artist, to"):
        build()
    drawn = [(f"{artist} - {number}", "", artist) for artist in "ABCDEF" for number in range(3)]
    add("drawn", drawn, split="artist", replace=True)
    # All are trained on: `other` put each artist there who had been heard in training, whatever else.
    with pytest.raises(UserError, match="no song of the split 'test'"):
        build()


def test_an_official_split_of_an_artist_is_reported_and_stands(add, build):
    facts, sides = add("musdb", MUSDB, split="artist")
    assert sides == {song: split for song, split, _ in MUSDB}
    assert facts["split_remarks"] == [
        "on two sides, as official splits or copies in the library have them: the artists 'Meaxic', 'Music Delta'."
    ]
    facts, sides = add("medleydb", [*MEDLEYDB, ("MusicDelta_Disco", "", "Music Delta")], split="artist")
    # Copies go where the official split has them, other songs of the artist to where they compromise no judgement.
    assert (sides["Meaxic_TakeAStep"], sides["MusicDelta_Rock"], sides["MusicDelta_Disco"]) == (
        "valid",
        "test",
        "train",
    )
    assert "Music Delta - Rock" in build()
    kept = {split: build(split, overlaps="leave_out") for split in SPLITS}
    assert not any("Music" in song for song in kept["train"] + kept["valid"])
    assert {"Music Delta - Rock", "MusicDelta_Rock"} <= set(kept["test"])
