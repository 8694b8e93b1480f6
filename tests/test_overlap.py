"""Which songs of different data sets are the same, whatever they are called."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timbrel.overlap import artist_keys, clusters, some, song_keys

SHARED = Path(__file__).parent / "data" / "musdb18_overlap.csv"


def shared_songs():
    with SHARED.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ANiMAL - Rockshow",), ("ANiMAL_Rockshow",)),
        (("Music Delta - 80s Rock", "Music Delta"), ("MusicDelta_80sRock", "Music Delta Multitracks")),
        (("Night Owl", "A Classic Education"), ("AClassicEducation_NightOwl",)),
        (("Night Owl", "The Owls"), ("Owls - Night Owl",)),
        (("The Bronx - False Alarm",), ("TheBronx_FalseAlarm", "Bronx, The")),
        (("Phoenix_ColliersDaughter",), ("The Collier's Daughter", "Phoenix")),
        (("JohnnyLokke_PromisesLies",), ("Johnny Lokke - Promises & Lies",)),
        (("JohnnyLokke_PromisesAndLies",), ("Johnny Lokke - Promises & Lies",)),
        (("TrafficExperiment_OnceMore",), ("Traffic Experiment - Once More (With Feeling)",)),
        (("Triviul_Widow", "Triviul"), ("Triviul feat. The Fiend - Widow", "Triviul feat. The Fiend")),
        (("BlueOysterCult_DontFearTheReaper",), ("Don’t Fear the Reaper", "Blue Öyster Cult")),
        (("Mø - Tilbage",), ("MO_Tilbage",)),
        (("MR0702_Leaf", "MR0702"), ("Leaf - Come Around", "Leaf")),
        (("Patrick Talbot - Set Free Me",), ("PatrickTalbot_SetMeFree",)),
        (("Night Owl",), ("night_owl",)),
        (("blues__one", "", "5f3a"), ("blues__two", "", "5f3a")),
        (("rendered twice", "", "blues"), ("Blues",)),
        (("夜",), ("夜 ",)),
        (("...",), ("...",)),
    ],
)
def test_the_same_song(one, other):
    assert song_keys(*one) & song_keys(*other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("Intro", "The Owls"), ("Intro", "The Crows")),
        (("Owls - Intro",), ("Crows_Intro",)),
        (("MusicDelta_Country1",), ("Music Delta - Country2",)),
        (("MusicDelta_Rock",), ("Music Delta - 80s Rock",)),
        (("1-11",), ("11-1",)),
        (("Prelude in C# minor",), ("Prelude in C minor",)),
        (("Prelude in B♭",), ("Prelude in B",)),
        (("Etude (1)",), ("Etude (2)",)),
        (("song_1", "Ann"), ("song_1", "Ben")),
        (("Sonata 1 - Allegro", "Mozart"), ("Sonata 2 - Allegro", "Mozart")),
        (("Track00001",), ("Track00002",)),
        (("が",), ("か",)),
        (("...",), ("---",)),
        (("MR0702_Leaf", "MR0702"), ("Leaf_Wicked", "Leaf")),
    ],
)
def test_another_song(one, other):
    assert not song_keys(*one) & song_keys(*other)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("a", "The Owls"), ("b", "OWLS"), True),
        (("a", "Owls, The"), ("b", "TheOwls"), True),
        (("a", "Liz Nelson & Jennifer Davies"), ("b", "Liz Nelson"), True),
        (("a", "Lady Gaga featuring Beyonce"), ("b", "LadyGaga"), True),
        (("a", "Clara Berry And Wooldog"), ("b", "ClaraBerryAndWooldog"), True),
        (("MR0702_Leaf", "MR0702"), ("Leaf - Wicked", "Leaf"), True),
        (("a", "Owl"), ("b", "Owls"), False),
        (("a", "Unknown Artist"), ("b", "unknown artist"), False),
        (("a", "Various Artists"), ("b", "various artists"), False),
        (("a", ""), ("a", ""), False),
    ],
)
def test_the_same_artist(one, other, same):
    assert bool(artist_keys(*one) & artist_keys(*other)) == same


@pytest.mark.parametrize("column", ["medleydb", "mixing_secrets"])
def test_the_songs_that_musdb18_shares_are_found_and_no_others(column):
    rows = shared_songs()
    theirs = {row[column]: song_keys(row[column]) for row in rows if row[column]}
    for row in rows:
        name = row["musdb18"]
        keys = song_keys(name, name.split(" - ")[0])
        assert [other for other in theirs if keys & theirs[other]] == [row[column]] * bool(row[column]), name
    assert len(theirs) == {"medleydb": 46, "mixing_secrets": 93}[column]


WORDS = st.lists(st.text("aábcdexyz", min_size=1, max_size=6), min_size=1, max_size=4)


@given(WORDS, WORDS, st.booleans())
def test_folder_and_camel_case_name_the_same_song(artist, title, article):
    words = ["The"] * article + artist
    folder = f"{' '.join(words)} - {' '.join(title).title()}"
    identifier = "_".join("".join(map(str.capitalize, part)) for part in (words, title))
    assert song_keys(folder) & song_keys(identifier)
    assert song_keys(" ".join(title), " ".join(artist).upper()) & song_keys(identifier)
    assert artist_keys("x", " ".join(words)) & artist_keys("y", "".join(map(str.capitalize, artist)))


@given(st.text(min_size=1), st.text(), st.text())
def test_any_text_has_an_identity(song, artist, group):
    assert song_keys(song, artist, group)
    assert "artist " not in artist_keys(song, artist)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.sets(st.integers(0, 9).map(str), max_size=3)))
def test_clusters_are_what_a_key_connects(keys):
    found = list(clusters(keys))
    assert sorted(name for members in found for name in members) == sorted(keys)
    held = [set().union(*(keys[name] for name in members)) for members in found]
    assert sum(map(len, held)) == len(set().union(*held))
    for members in found:
        # From its first name all others of a cluster are reached.
        reached, more = {members[0]}, True
        while more:
            have = set().union(*(keys[name] for name in reached))
            more = {name for name in members if keys[name] & have} - reached
            reached |= more
        assert reached == set(members)


def test_some_names():
    assert some(["b", "a"]) == "'a', 'b'"
    assert some(["d", "c", "b", "a"]) == "'a', 'b', 'c' and 1 more"
