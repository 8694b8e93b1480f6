import json
import os
import pickle

import numpy as np
import pytest
import soundfile

from timbrel.errors import UserError
from timbrel.library import Library
from timbrel.prepare import prepare
from timbrel.sources.audio import AudioFile
from timbrel.sources.base import Skipped
from timbrel.sources.openmic import (
    MALFORMED,
    MALFORMED_KEY,
    NO_ARTIST,
    NO_AUDIO,
    NO_LABEL,
    NO_PARTITION,
    NO_VGGISH,
    SOURCE,
    OpenmicClip,
    OpenmicOptions,
    read_vggish,
)

INSTRUMENTS = ("accordion", "clarinet", "flute", "trumpet", "voice")
KEYS = ("000046_3840", "000135_483840", "000178_3840", "000308_61440")
LABELS = [
    "000046_3840,clarinet,0.17104999999999998,3",
    "000046_3840,flute,0.0,3",
    "000135_483840,voice,1.0,3",
    "000178_3840,trumpet,0.5,4",
    "000308_61440,flute,0.66085,3",
    "000308_61440,accordion,,0",
    "000308_61440,clarinet,nan,0",
]
ARTISTS = ["Nicky Cook", "Abominog", '"Blanket, Music"', "The Fucked Up Beat"]
FEATURES = np.arange(2 * 128).reshape(2, 128) % 256


def find(path, **options):
    return SOURCE.find(path, OpenmicOptions(**options))


def write_table(root, name, lines):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def write_labels(root, *lines, header="sample_key,instrument,relevance,num_responses"):
    return write_table(root, "openmic-2018-aggregated-labels.csv", [header, *lines])


def write_metadata(root, *lines, header="track_id,artist_name,sample_key,start_time"):
    return write_table(root, "openmic-2018-metadata.csv", [header, *lines])


@pytest.fixture
def unpacked(tmp_path, write_tone):
    """The archive's layout with four clips, two in each partition."""
    root = tmp_path / "openmic-2018"
    for key in KEYS:
        write_tone(root / f"audio/{key[:3]}/{key}.ogg")
        features = root / f"vggish/{key[:3]}/{key}.json"
        features.parent.mkdir(parents=True, exist_ok=True)
        features.write_text(json.dumps({"time_points": [0.0, 0.96], "features": FEATURES.tolist()}))
    write_table(root, "partitions/split01_train.csv", KEYS[:2])
    write_table(root, "partitions/split01_test.csv", KEYS[2:])
    (root / "class-map.json").write_text(json.dumps({name: index for index, name in enumerate(INSTRUMENTS)}))
    write_labels(root, *LABELS)
    write_metadata(root, *(f"1,{artist},{key},3.84" for artist, key in zip(ARTISTS, KEYS, strict=True)))
    return root


def test_clips_have_the_relevance_of_what_was_judged_and_no_more(unpacked):
    found = find(unpacked, valid_share=0)
    songs = [(song.name, song.artist, song.split, song.tags) for song in found.songs]
    assert songs == [
        ("000046_3840", "Nicky Cook", "train", {"clarinet": 0.17104999999999998, "flute": 0.0}),
        ("000135_483840", "Abominog", "train", {"voice": 1.0}),
        ("000178_3840", "Blanket, Music", "test", {"trumpet": 0.5}),
        ("000308_61440", "The Fucked Up Beat", "test", {"flute": 0.66085}),
    ]
    assert found.vocabulary == ()
    assert found.count == 4
    assert found.skipped == []
    assert all([(stem.name, stem.instrument) for stem in song.stems] == [("mix", "mix")] for song in found.songs)
    assert find(unpacked, valid_share=0) == found


def test_the_library_holds_exactly_the_raw_facts(unpacked, tmp_path):
    prepare(SOURCE, unpacked, tmp_path / "library", OpenmicOptions(valid_share=0))
    library = Library.open(tmp_path / "library")
    tags = [(row["song"], row["tag"], row["value"]) for row in library.tags().to_pylist()]
    assert tags == [
        ("000046_3840", "clarinet", 0.17104999999999998),
        ("000046_3840", "flute", 0.0),
        ("000135_483840", "voice", 1.0),
        ("000178_3840", "trumpet", 0.5),
        ("000308_61440", "flute", 0.66085),
    ]
    embeddings = library.embeddings().to_pylist()
    assert [(row["song"], row["stem"], row["network"]) for row in embeddings] == [
        (key, "mix", "vggish") for key in KEYS
    ]
    for row in embeddings:
        values = np.frombuffer(row["values"], row["dtype"]).reshape(row["shape"])
        assert values.dtype == np.uint8
        np.testing.assert_array_equal(values, FEATURES)
    assert set(library.catalogue()["split"].to_pylist()) == {"train", "test"}


def test_without_vggish_there_are_no_embeddings(unpacked, tmp_path):
    prepare(SOURCE, unpacked, tmp_path / "library", OpenmicOptions(vggish=False))
    assert Library.open(tmp_path / "library").embeddings().num_rows == 0


def test_validation_takes_whole_artists_from_training_alone(unpacked, write_tone):
    """200 artists of two clips each in the training partition, one of them also in the test."""
    keys = [f"{number:06}_3840" for number in range(400)]
    for key in keys:
        path = unpacked / f"audio/{key[:3]}/{key}.ogg"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    write_table(unpacked, "partitions/split01_train.csv", keys[:-2])
    write_table(unpacked, "partitions/split01_test.csv", keys[-2:])
    write_labels(unpacked, *(f"{key},flute,1.0,3" for key in keys))
    write_metadata(unpacked, *(f"1,artist {index // 2},{key},0" for index, key in enumerate(keys)))
    splits = {song.name: song.split for song in find(unpacked, vggish=False).songs}
    assert [splits[key] for key in keys[-2:]] == ["test", "test"]
    assert all(splits[first] == splits[second] for first, second in zip(keys[::2], keys[1::2], strict=True))
    share = list(splits.values()).count("valid") / len(splits)
    assert 0.1 < share < 0.2
    for key in keys[:100]:
        (unpacked / f"audio/{key[:3]}/{key}.ogg").unlink()
    left = {song.name: song.split for song in find(unpacked, vggish=False).songs}
    assert left == {name: split for name, split in splits.items() if name in left}


def test_clips_pickle_and_read_from_elsewhere(unpacked, monkeypatch):
    monkeypatch.chdir(unpacked)
    song = next(iter(find(type(unpacked)(".")).songs))
    monkeypatch.chdir("/")
    clip = pickle.loads(pickle.dumps(song)).stems[0].perform
    assert clip.header() == (2, 44_100, 44_100)
    performance = clip()
    assert performance.audio.shape == (2, 44_100)
    np.testing.assert_array_equal(performance.embeddings["vggish"], FEATURES)


# Broken data sets


def test_what_is_missing_is_named_under_one_reason_each(unpacked):
    (unpacked / "audio/000/000046_3840.ogg").unlink()
    (unpacked / "vggish/000/000135_483840.json").unlink()
    write_labels(unpacked, *LABELS[:3], *LABELS[4:], "999999_0,flute,1.0,3")
    write_metadata(unpacked, "1,Abominog,000135_483840,3.84")
    found = find(unpacked)
    assert [song.name for song in found.songs] == ["000135_483840", "000308_61440"]
    assert found.skipped == [
        Skipped("000046_3840", NO_AUDIO),
        Skipped("000135_483840", NO_VGGISH),
        Skipped("000178_3840", NO_LABEL),
        Skipped("000308_61440", NO_ARTIST),
        Skipped("999999_0", NO_PARTITION),
    ]
    assert next(iter(found.songs)).stems[0].perform().embeddings == {}


def test_audio_that_no_table_names_is_reported(unpacked, write_tone):
    stray = write_tone(unpacked / "audio/000/000999_0.ogg")
    assert find(unpacked).skipped == [Skipped(str(stray), NO_PARTITION)]


@pytest.mark.parametrize(
    "row",
    [
        "000046_3840,kazoo,1.0,3",
        "000046_3840,flute,loud,3",
        "000046_3840,flute,1.5,3",
        "000046_3840,flute,-0.5,3",
        "000046_3840,flute,inf,3",
        "000046_3840,flute",
        "46,flute,1.0,3",
    ],
)
def test_a_malformed_label_is_named_and_the_rest_goes_on(unpacked, row):
    path = write_labels(unpacked, row, *LABELS[2:])
    found = find(unpacked)
    assert [song.name for song in found.songs] == list(KEYS[1:])
    assert Skipped(f"{path}, line 2", MALFORMED) in found.skipped


def test_a_malformed_line_of_a_partition_is_named(unpacked):
    path = write_table(unpacked, "partitions/split01_train.csv", ["sample_key", KEYS[0], "../000135_483840"])
    found = find(unpacked)
    assert [skipped.what for skipped in found.skipped if skipped.why == MALFORMED_KEY] == [
        f"{path}, line 1",
        f"{path}, line 3",
    ]


def test_duplicates_are_refused_with_both_lines(unpacked):
    path = write_labels(unpacked, *LABELS, LABELS[0])
    with pytest.raises(UserError, match=rf"line 9: clarinet in 000046_3840 was judged already \({path}, line 2\)"):
        find(unpacked)
    write_labels(unpacked, *LABELS)
    write_table(unpacked, "partitions/split01_test.csv", KEYS[1:])
    with pytest.raises(
        UserError, match=r"split01_test\.csv, line 1: the clip 000135_483840 is listed already .*_train"
    ):
        find(unpacked)


def test_wrong_headers_are_refused(unpacked):
    write_labels(unpacked, *LABELS, header="sample_key;instrument;relevance")
    with pytest.raises(
        UserError, match=r"labels\.csv, line 1: expected the columns sample_key, instrument, relevance, got"
    ):
        find(unpacked)
    write_labels(unpacked, *LABELS)
    write_metadata(unpacked, header="track_id,sample_key")
    with pytest.raises(UserError, match=r"metadata\.csv, line 1: expected the columns artist_name, sample_key, got"):
        find(unpacked)


@pytest.mark.parametrize(
    "name",
    [
        "class-map.json",
        "partitions/split01_train.csv",
        "partitions/split01_test.csv",
        "openmic-2018-aggregated-labels.csv",
        "openmic-2018-metadata.csv",
    ],
)
def test_missing_or_binary_tables_are_refused(unpacked, name):
    (unpacked / name).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=rf"{name}: (it is not UTF-8 text|not JSON)"):
        find(unpacked)
    (unpacked / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: no such file"):
        find(unpacked)


@pytest.mark.parametrize("content", ["[]", "{}", "3"])
def test_a_class_map_without_classes_is_refused(unpacked, content):
    (unpacked / "class-map.json").write_text(content)
    with pytest.raises(UserError, match=r"class-map\.json: expected an object"):
        find(unpacked)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda whole: b"", "cannot be read as audio"),
        (lambda whole: b"no audio at all", "cannot be read as audio"),
        (lambda whole: whole[: len(whole) // 2], "truncated"),
        (lambda whole: whole[:-1], "truncated"),
        (lambda whole: whole[: whole.rfind(b"OggS") + 20], "truncated"),
    ],
)
def test_damaged_audio_leaves_the_rest(unpacked, tmp_path, content, message):
    path = unpacked / "audio/000/000046_3840.ogg"
    noise = np.random.default_rng(0).normal(0, 0.1, 88_200)  # a tone would fit into one page
    soundfile.write(path, noise, 44_100)
    path.write_bytes(content(path.read_bytes()))
    with pytest.raises(UserError, match=message):
        next(iter(find(unpacked).songs)).stems[0].perform.header()
    facts, _ = prepare(SOURCE, unpacked, tmp_path / "library", OpenmicOptions())
    assert facts["songs"] == 3
    assert f"000046_3840.ogg: {message}" in dict(facts["skipped"])["000046_3840/mix"]
    library = Library.open(tmp_path / "library")
    assert "000046_3840" not in library.tags()["song"].to_pylist() + library.embeddings()["song"].to_pylist()


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([[0] * 127], r"got int64 of shape \(1, 127\)"),
        ([[256] + [0] * 127], "whole numbers from 0 to 255"),
        ([[-1] + [0] * 127], "whole numbers from 0 to 255"),
        ([[0.5] * 128], "got float64"),
        ([["a"] * 128], "got <U1"),
        ([], "got float64"),
        ([[0] * 128, [0]], "not JSON with rows of 'features'"),
        (None, "expected features of shape"),
    ],
)
def test_damaged_features_are_refused(tmp_path, features, message):
    file = tmp_path / "000046_3840.json"
    file.write_text(json.dumps({"features": features}))
    with pytest.raises(UserError, match=rf"000046_3840\.json: .*{message}"):
        read_vggish(file)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_features_that_are_no_json_are_refused(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json: not JSON with rows of 'features'"):
        read_vggish(tmp_path / "a.json")


def test_a_file_whose_name_is_not_utf8_is_reported(unpacked):
    folder = os.fsencode(unpacked / "audio/000")
    os.rename(folder + b"/000046_3840.ogg", folder + b"/000046_\xf6.ogg")
    found = find(unpacked)
    assert Skipped("000046_3840", NO_AUDIO) in found.skipped
    assert [each.why for each in found.skipped if "udcf6" in each.what] == ["its name is not UTF-8: rename it."]


def test_nothing_usable(unpacked, tmp_path):
    with pytest.raises(UserError, match="needs the path of a folder"):
        find(None)
    with pytest.raises(UserError, match=r"nowhere: no such folder; expected openmic-2018 as unpacked"):
        find(tmp_path / "nowhere")
    (unpacked / "audio").rename(unpacked / "sound")
    with pytest.raises(UserError, match=r"no clip can be used \(first problem: 000046_3840: its audio is missing"):
        find(unpacked)


# The data set itself


def test_real_sample(layouts, tmp_path):
    """One clip of the data set, as mirdata keeps it for its tests."""
    found = find(layouts / "openmic2018", valid_share=0)
    [song] = found.songs
    assert (song.name, song.artist, song.split) == ("000046_3840", "Nicky Cook", "train")
    assert song.tags == {"clarinet": 0.17104999999999998, "flute": 0.0, "trumpet": 0.0}
    performance = song.stems[0].perform()
    vggish = performance.embeddings["vggish"]
    assert vggish.shape == (10, 128)
    assert vggish.dtype == np.uint8
    assert vggish[0, :4].tolist() == [173, 16, 162, 107]
    assert performance.audio.shape == (1, 2 * 22_050)  # mirdata shortened it
    facts, _ = prepare(SOURCE, layouts / "openmic2018", tmp_path / "library", OpenmicOptions(valid_share=0))
    assert facts["songs"] == 1


def test_real_audio(layouts):
    """The same clip as the data set's authors keep it."""
    clip = OpenmicClip(AudioFile(layouts / "openmic_repo/old_tests/data/audio/000046_3840.ogg"), None)
    assert clip.header() == (2, 44_100, 441_000)
    assert clip().audio.shape == (2, 441_000)


def test_real_partitions(layouts, tmp_path):
    real = layouts / "openmic_repo"
    keys = {name: (real / f"examples/split01_{name}.csv").read_text().split() for name in ("train", "test")}
    assert {name: len(each) for name, each in keys.items()} == {"train": 14_915, "test": 5_085}
    instruments = json.loads((real / "class-map.json").read_text())
    assert len(instruments) == 20
    (tmp_path / "class-map.json").write_text(json.dumps(instruments))
    everything = keys["train"] + keys["test"]
    for name, each in keys.items():
        write_table(tmp_path, f"partitions/split01_{name}.csv", each)
    for folder in {key[:3] for key in everything}:
        (tmp_path / "audio" / folder).mkdir(parents=True)
    for key in everything[::20]:
        (tmp_path / f"audio/{key[:3]}/{key}.ogg").touch()
    write_labels(tmp_path, *(f"{key},mallet_percussion,0.5,3" for key in everything))
    write_metadata(tmp_path, *(f"1,artist {key},{key},0" for key in everything))
    found = find(tmp_path, vggish=False)
    splits = {song.name: song.split for song in found.songs}
    assert found.count == 1_000
    assert {skipped.why for skipped in found.skipped} == {NO_AUDIO}
    assert {name for name, split in splits.items() if split == "test"} == set(everything[::20]) & set(keys["test"])
    assert 0.11 < list(splits.values()).count("valid") / 746 < 0.19
