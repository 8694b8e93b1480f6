"""Clips of a library's songs: what is heard in them, what is said of them, and what nobody says."""

import json
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import soundfile
from scipy.stats import chi2

from timbrel.check import check
from timbrel.clip_labels import OPENMIC
from timbrel.config import with_values
from timbrel.errors import UserError
from timbrel.library import Library
from timbrel.prepare import prepare
from timbrel.sources import Found, Header, Performance, Skipped, Song, Stem
from timbrel.sources.weak_clips import NO_PROGRAM, SHORT, SILENT, SOURCE, UNJUDGED, WeakClipsOptions, sounding_s
from timbrel.storing import Stored, write_tables

EVERYTHING = ("train",)
RATE = 8_000


def find(path, **options):
    return SOURCE.find(path, WeakClipsOptions(**options))


def tags_of(found):
    return {song.name: dict(song.tags) for song in found.songs}


# Libraries of which nobody needs to hear the songs: a frame of activity is 1 s long, that of number i ends at i + 0.5 s


@pytest.fixture
def catalogued(tmp_path):
    """Return a function that makes a library out of ``{song: {program: frames that sound}}``, and its folder."""

    def make(songs, seconds=30, name="songs", split="train", **columns):
        rows = []
        for song, stems in songs.items():
            for number, (program, frames) in enumerate(stems.items()):
                sounding = np.zeros(seconds + 1, dtype=np.float32)
                sounding[list(frames)] = 1
                row = {"dataset": name, "song": song, "artist": "", "group": song, "split": split, "stem": str(number)}
                row |= {"path": f"{name}/songs/{song}/{number}.wav", "instrument": "x", "program": program}
                row |= {"sample_rate": 1000, "channels": 1, "frames": 1000 * seconds, "crc32": 0}
                rows.append(row | {"activity_hop": 1000, "activity": sounding} | columns)
        library = Library.create(tmp_path / "library")
        folder = library.root / name
        folder.mkdir(exist_ok=True)
        digest = write_tables(folder, Stored(catalogue=rows))
        (folder / "dataset.json").write_text(json.dumps({"name": name, "digest": digest}))
        return library.root

    return make


def test_labels_are_what_sounds_for_long_enough(catalogued):
    path = catalogued(
        {
            "a": {
                0: range(31),  # a piano throughout
                40: range(1, 4),  # a violin from 0.5 to 3.5 s
                56: [14, 25, 26],  # a trumpet for 1 s in the second clip and 2 s in the third
                73: [10, 22],  # a flute from 9.5 to 10.5 s and 21.5 to 22.5 s
                128: [25],  # drums for 1 s
            }
        }
    )
    full = tags_of(find(path, full_splits=EVERYTHING))
    assert full == {
        "a__000": {"piano": 1, "violin": 1, "trumpet": 0, "drums": 0},  # a flute for 0.5 s
        "a__001": {"piano": 1, "violin": 0, "trumpet": 1, "drums": 0},
        "a__002": {"piano": 1, "violin": 0, "trumpet": 1, "drums": 1, "flute": 1},
    }
    longer = tags_of(find(path, full_splits=EVERYTHING, least_s=1.5))
    assert longer == {  # flute and drums are present nowhere now
        "a__000": {"piano": 1, "violin": 1, "trumpet": 0},
        "a__001": {"piano": 1, "violin": 0},
        "a__002": {"piano": 1, "violin": 0, "trumpet": 1},
    }


def test_what_may_be_taken_for_an_instrument_keeps_it_unjudged(catalogued):
    path = catalogued({"a": {0: range(31), 40: [3, 4], 42: [3, 4], 41: [14], 61: [24], 57: [3, 4]}})
    assert tags_of(find(path, full_splits=EVERYTHING)) == {
        "a__000": {"piano": 1, "violin": 1, "cello": 1, "trombone": 1},
        "a__001": {"piano": 1, "trombone": 0},  # a viola
        "a__002": {"piano": 1, "violin": 0, "cello": 0},  # a brass section
    }


def test_stems_of_one_instrument_sound_together(catalogued):
    """Half a second of each of two guitars, one after the other, is a second of guitar; at once it is half of one."""
    path = catalogued({"a": {0: range(31), 24: [10, 15], 25: [20, 15, 16]}})
    assert tags_of(find(path, full_splits=EVERYTHING)) == {
        "a__000": {"piano": 1},  # the first guitar's last half second
        "a__001": {"piano": 1, "guitar": 1},
        "a__002": {"piano": 1},
    }


def test_synthetic_bass_is_two_instruments(catalogued):
    path = catalogued({"a": {38: range(11), 0: range(31)}})
    assert tags_of(find(path, full_splits=EVERYTHING))["a__000"] == {"bass": 1, "synthesizer": 1, "piano": 1}


def test_clips_in_which_nothing_sounds_are_left_out(catalogued):
    found = find(catalogued({"a": {0: range(9), 47: [24]}}), full_splits=EVERYTHING)
    assert tags_of(found) == {"a__000": {"piano": 1}, "a__002": {"piano": 0}}
    assert found.skipped == [Skipped("a__001", SILENT)]


def test_the_song_keeps_what_is_known_of_it(catalogued):
    path = catalogued({"a": {0: range(31)}}, split="valid", artist="Anna", group="g")
    clips = list(find(path, full_splits=("valid",), seconds=7).songs)
    assert [song.name for song in clips] == ["a__000", "a__001", "a__002", "a__003"]
    assert {(song.split, song.artist, song.group) for song in clips} == {("valid", "Anna", "g")}
    assert [song.stems[0].perform.start_s for song in clips] == [0, 7, 14, 21]
    assert all([(stem.name, stem.instrument) for stem in song.stems] == [("mix", "mix")] for song in clips)


def test_sounding_times_by_hand():
    confidence = np.array([0, 0.5, 0.6, 0.49, 0.9, 0.9, 0, 0, 1.0], dtype=np.float32)
    # Frames of 0.4 s: sounding from 0.2 to 1.0 s, from 1.4 to 2.2 s and from 3.0 to 3.4 s.
    np.testing.assert_allclose(sounding_s(confidence, 0.4, 2, 1.6), [0.8 + 0.2, 0.6 + 0.2], atol=1e-6)
    np.testing.assert_array_equal(sounding_s(np.zeros(9, dtype=np.float32), 0.4, 3, 1.0), [0, 0, 0])


# What is judged


@pytest.fixture
def long_song(catalogued):
    """A song of 4,000 clips of 10 s, in each of which one to six of eight instruments sound; and which, by clip."""
    programs = {0: "piano", 21: "accordion", 24: "guitar", 32: "bass", 56: "trumpet", 71: "clarinet", 105: "banjo"}
    programs[128] = "drums"
    generator = np.random.default_rng(0)
    present = generator.random((4000, len(programs))) < [0.9, 0.05, 0.5, 0.7, 0.3, 0.1, 0.02, 0.6]
    present[:, 0] |= ~present.any(axis=1)
    stems = {
        program: (10 * np.flatnonzero(present[:, column])[:, None] + [2, 3, 4]).ravel()
        for column, program in enumerate(programs)
    }
    return catalogued({"long": stems}, seconds=40_000), list(programs.values()), present


def test_as_much_is_judged_as_in_openmic_and_of_all_alike(long_song):
    path, names, present = long_song
    found = find(path)
    judged = np.zeros((2, *present.shape), dtype=bool)  # as absent, as present
    for name, tags in tags_of(found).items():
        for instrument, value in tags.items():
            judged[int(value), int(name.removeprefix("long__")), names.index(instrument)] = True
    for value, wanted, there in ((0, 1.181, ~present), (1, 0.888, present)):
        assert not judged[value][~there].any()
        numbers = there.sum(axis=1, keepdims=True)
        chances = there * np.minimum(1, wanted / np.maximum(1, numbers))
        assert chances.sum() == pytest.approx(wanted * len(there), rel=0.01)  # hardly a clip has too few
        deviation = np.sqrt((chances * (1 - chances)).sum())
        assert abs(judged[value].sum() - chances.sum()) < 4 * deviation
        variances = (chances * (1 - chances)).sum(axis=0)
        distances = (judged[value].sum(axis=0) - chances.sum(axis=0)) ** 2 / variances
        assert distances.sum() < chi2.ppf(0.999, len(names))
    unjudged = ~judged.any(axis=(0, 2))
    assert [item.what for item in found.skipped] == [f"long__{number:03d}" for number in np.flatnonzero(unjudged)]
    assert {item.why for item in found.skipped} == {UNJUDGED}
    assert found.count == len(present) - unjudged.sum()


def test_what_is_judged_depends_on_seed_song_clip_and_instrument_alone(catalogued):
    songs = {name: {program: range(31) for program in (0, 24, 40)} | {56: [25]} for name in ("a", "b")}
    both = tags_of(find(catalogued(songs)))
    again = tags_of(find(catalogued({"a": dict(reversed(songs["a"].items()))}, name="songs")))
    assert again == {name: tags for name, tags in both.items() if name.startswith("a")}
    other = tags_of(find(catalogued(songs), seed=1))
    assert other != both
    assert len({str(tags) for tags in both.values()}) > 1


def test_everything_or_nothing_of_a_kind_may_be_judged(long_song):
    path, names, present = long_song
    absent = tags_of(find(path, judged_present=0, judged_absent=20))
    assert {value for tags in absent.values() for value in tags.values()} == {0}
    assert sum(map(len, absent.values())) == (~present).sum()
    everything = tags_of(find(path, judged_present=20, judged_absent=20))
    assert everything == tags_of(find(path, full_splits=EVERYTHING))
    assert all(set(tags) == set(names) for tags in everything.values())
    with pytest.raises(UserError, match=r"no clip of 'songs' can be used .*nobody judged"):
        find(path, judged_present=0, judged_absent=0)


def test_a_full_split_is_judged_as_a_whole_and_others_are_not(catalogued):
    stems = {program: [*range(5), 25] for program in (0, 24, 40, 56)} | {73: range(10)}
    catalogued({f"train {number}": stems for number in range(9)})
    path = catalogued({"test": stems}, name="more", split="test")
    with pytest.raises(UserError, match=r"full_splits=test: 'songs' of .* has no song in that split"):
        find(path, dataset="songs", full_splits=("test",))
    assert {len(tags) for tags in tags_of(find(path, dataset="more", full_splits=("test",))).values()} == {5}
    assert max(len(tags) for tags in tags_of(find(path, dataset="songs", full_splits=("train",))).values()) == 5
    assert np.mean([len(tags) for tags in tags_of(find(path, dataset="songs")).values()]) < 3.5


# What is heard

NOISE = {
    "a": {"piano": (0, (1, 12 * RATE)), "violin": (40, (2, 12 * RATE)), "drums": (128, (1, 12 * RATE))},
    "b": {"organ": (19, (1, 15 * RATE)), "flute": (73, (1, 15 * RATE))},
}


@dataclass(frozen=True)
class Band:
    """A source of noises; the flute has twice the sample rate."""

    name = "band"
    summary = "for tests"
    needs_path = False
    options_type = WeakClipsOptions
    programs: bool = True

    def find(self, path, options):
        songs = []
        for song, parts in NOISE.items():
            stems = [
                Stem(
                    name, name, _Noise(name, shape, RATE * (1 + (name == "flute"))), program if self.programs else None
                )
                for name, (program, shape) in parts.items()
            ]
            songs.append(Song(song, tuple(stems), "Anna", "test" if song == "b" else "train"))
        return Found(songs, len(songs))


@dataclass(frozen=True)
class _Noise:
    name: str
    shape: tuple
    sample_rate: int

    def __call__(self):
        channels, samples = self.shape
        generator = np.random.default_rng(len(self.name))
        audio = generator.normal(0, 0.05, (channels, samples * self.sample_rate // RATE)).astype(np.float32)
        return Performance(audio, self.sample_rate)


@pytest.fixture
def band(tmp_path):
    prepare(Band(), None, tmp_path / "library", WeakClipsOptions())
    return tmp_path / "library"


def test_a_clip_is_the_sum_of_its_stems(band):
    clips = {song.name: pickle.loads(pickle.dumps(song)).stems[0].perform for song in find(band, seconds=5).songs}
    assert {name: clip.start_s for name, clip in clips.items()}.items() <= {
        "a__000": 0, "a__001": 5, "b__000": 0, "b__001": 5, "b__002": 10,
    }.items()  # fmt: skip
    assert len(clips) >= 3
    stems = [soundfile.read(band / f"band/songs/a/{name}.wav", always_2d=True)[0] for name in NOISE["a"]]
    mix = sum(stem.mean(axis=1) for stem in stems)
    for name in clips.keys() & {"a__000", "a__001"}:
        heard = clips[name]()
        assert heard.audio.dtype == np.float32
        assert heard.sample_rate == RATE
        begin = round(clips[name].start_s * RATE)
        np.testing.assert_allclose(heard.audio, mix[None, begin : begin + 5 * RATE], atol=1e-6)


def test_stems_of_several_rates_meet_at_the_highest(band):
    found = [song for song in find(band, seconds=5, full_splits=("test",)).songs if song.name.startswith("b")]
    assert [song.stems[0].perform().audio.shape for song in found] == [(1, 10 * RATE)] * 3
    assert found[0].stems[0].perform().sample_rate == 2 * RATE


def test_the_library_of_clips(band, tmp_path):
    options = WeakClipsOptions(seconds=5, full_splits=("train", "test"))
    facts, done = prepare(SOURCE, band, tmp_path / "clips", options)
    assert done
    assert facts["splits"] == {"train": 2, "test": 3}
    assert facts["official"] == 5
    assert facts["skipped"] == []
    assert facts["vocabulary"] == []
    library = Library.open(tmp_path / "clips")
    assert {(row["tag"], row["value"]) for row in library.tags().to_pylist() if row["song"] == "a__001"} == {
        ("piano", 1), ("violin", 1), ("drums", 1), ("organ", 0), ("flute", 0),
    }  # fmt: skip
    catalogue = library.catalogue().to_pylist()
    assert {row["group"] for row in catalogue if row["song"].startswith("b")} == {"b"}
    assert {row["artist"] for row in catalogue} == {"Anna"}
    for row in catalogue:
        stored, rate = soundfile.read(library.root / row["path"], always_2d=True)
        assert (rate, stored.shape) == (row["sample_rate"], (5 * rate, 1))
    stems = [soundfile.read(band / f"band/songs/a/{name}.wav", always_2d=True)[0] for name in NOISE["a"]]
    mix = sum(stem.mean(axis=1) for stem in stems)
    stored, _ = soundfile.read(library.root / "weak_clips/songs/a__001/mix.wav")
    np.testing.assert_allclose(stored, mix[5 * RATE : 10 * RATE], atol=1 / 32768)
    assert prepare(SOURCE, band, tmp_path / "clips", options)[1] is False


def test_clips_may_stay_in_the_library_of_their_songs(band):
    options = WeakClipsOptions(seconds=5, full_splits=("train", "test"))
    prepare(SOURCE, band / "band", band, options, "clips")
    facts, done = prepare(SOURCE, band / "band", band, options, "clips")
    assert not done
    assert facts["songs"] == 5
    assert Library.open(band).datasets == ("band", "clips")


def test_check_sees_every_clip_and_each_damaged_stem(band):
    options = WeakClipsOptions(seconds=5, full_splits=("train", "test"))
    found = check(SOURCE, band, options)
    assert (found.songs, found.seconds, found.problems) == (5, 25, [])
    assert found.samples == 2 * 5 * RATE + 3 * 10 * RATE
    assert found.tags == {"piano": 2, "violin": 2, "drums": 2, "organ": 3, "flute": 3}
    (band / "band/songs/a/violin.wav").unlink()
    problems = check(SOURCE, band, options).problems
    assert [what for what, _ in problems] == ["a__000/mix", "a__000", "a__001/mix", "a__001"]
    assert "violin.wav: no such file" in problems[0][1]
    facts, _ = prepare(SOURCE, band, band.parent / "clips", options)
    assert facts["splits"] == {"test": 3}


def test_a_header_says_what_the_clip_will_be(band):
    for song in find(band, seconds=5).songs:
        performance = song.stems[0].perform()
        assert song.stems[0].perform.header() == Header(1, performance.sample_rate, performance.audio.shape[1])


# What can't be cut


def test_what_is_no_library(tmp_path, band):
    with pytest.raises(UserError, match="needs the path of a folder"):
        find(None)
    with pytest.raises(UserError, match="no such folder"):
        find(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is no prepared library"):
        find(tmp_path / "empty")
    with pytest.raises(UserError, match=r"is the data set 'band': leave out dataset=bond"):
        find(band / "band", dataset="bond")
    with pytest.raises(UserError, match="'bond': did you mean 'band'"):
        find(band, dataset="bond")


def test_a_library_of_several_data_sets(catalogued):
    for name in ("one", "two"):
        path = catalogued({name: {0: range(31)}}, name=name)
    with pytest.raises(UserError, match="several data sets: choose one of one, two by --option dataset=NAME"):
        find(path)
    assert {song.group for song in find(path, dataset="two", full_splits=("train",)).songs} == {"two"}
    assert find(path / "two", full_splits=("train",)).songs == find(path, dataset="two", full_splits=("train",)).songs


def test_stems_without_programs(tmp_path, catalogued):
    prepare(Band(programs=False), None, tmp_path / "without", WeakClipsOptions())
    with pytest.raises(UserError, match=r"no stem of 'band' in .* has a General MIDI program"):
        find(tmp_path / "without")
    found = find(catalogued({"a": {0: range(31), None: range(31)}, "b": {0: range(31)}}), full_splits=("train",))
    assert {song.group for song in found.songs} == {"b"}
    assert found.skipped == [Skipped("a", NO_PROGRAM)]


def test_songs_shorter_than_a_clip(catalogued, band):
    found = find(band, seconds=13, full_splits=("test",))
    assert {song.group for song in found.songs} == {"b"}
    assert found.skipped == [Skipped("a", SHORT)]
    path = catalogued({"a": {0: range(10)}}, seconds=9)
    with pytest.raises(UserError, match=r"no clip of 'songs' can be used \(first problem: a: shorter than a clip"):
        find(path / "songs")
    assert find(path / "songs", seconds=9, full_splits=("train",)).count == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seconds": "0"}, "seconds=0"),
        ({"judged_present": "-1"}, "judged_present=-1"),
        ({"full_splits": "tests"}, "full_splits"),
        ({"seconds": "0.5"}, "least_s=1 is longer than a clip, seconds=0.5"),
    ],
)
def test_options_are_checked(values, message):
    with pytest.raises(UserError, match=message):
        with_values(WeakClipsOptions(), values)


def test_splits_are_given_with_commas():
    assert with_values(WeakClipsOptions(), {"full_splits": "valid,test"}).full_splits == ("valid", "test")


def test_tags_are_openmics(catalogued):
    path = catalogued({"a": {program: range(31) for program in range(129)}})
    tags = set(tags_of(find(path, full_splits=EVERYTHING))["a__000"])
    assert tags == set(OPENMIC) - {"cymbals", "mandolin", "ukulele"}
