"""MUSDB18-HQ in miniature: official splits, the stem that is outside the taxonomy, damage."""

import os
import pickle
import shutil

import pytest

from timbrel.errors import UserError
from timbrel.library import Library
from timbrel.prepare import prepare
from timbrel.sources import musdb18hq
from timbrel.sources.musdb18hq import SOURCE, VALIDATION, Musdb18HqOptions

TRAIN, VALID, TEST = "A Classic Education - NightOwl", "ANiMAL - Rockshow", "AM Contra - Heart Peripheral"


@pytest.fixture
def root(tmp_path, write_tone):
    for folder, name in (("train", TRAIN), ("train", VALID), ("test", TEST)):
        for stem in (*musdb18hq.STEMS, "mixture"):
            write_tone(tmp_path / "musdb18hq" / folder / name / f"{stem}.wav")
    return tmp_path / "musdb18hq"


def find(path, **options):
    found = SOURCE.find(path, Musdb18HqOptions(**options))
    rules = (musdb18hq.IS_OTHER, musdb18hq.NO_VALIDATION)
    return {song.name: song for song in found.songs}, [item for item in found.skipped if item.why not in rules], found


def test_a_library_is_made_of_it(root, tmp_path):
    facts, _ = prepare(SOURCE, root, tmp_path / "library", Musdb18HqOptions())
    rows = Library.open(tmp_path / "library").catalogue().to_pylist()
    assert {(row["song"], row["artist"], row["split"]) for row in rows} == {
        (TRAIN, "A Classic Education", "train"),
        (VALID, "ANiMAL", "valid"),
        (TEST, "AM Contra", "test"),
    }
    assert {(row["stem"], row["instrument"]) for row in rows} == {(name, name) for name in ("bass", "drums", "vocals")}
    assert facts["channels"] == {"2": 9}
    why = [why for _, why in facts["skipped"]]
    assert why.count(musdb18hq.IS_OTHER) == 3
    assert why.count(musdb18hq.NO_VALIDATION) == len(why) - 3 == 13


def test_other_stays_where_it_is_asked_for(root):
    songs, problems, found = find(root, other="keep")
    assert [stem.instrument for stem in songs[TEST].stems] == ["bass", "drums", "other", "vocals"]
    assert problems == []
    assert musdb18hq.IS_OTHER not in {item.why for item in found.skipped}


def test_the_fourteen_validation_songs_are_of_train(root, write_tone):
    assert len(VALIDATION) == 14
    for name in VALIDATION:
        write_tone(root / "train" / name / "bass.wav")
    songs, _, found = find(root)
    assert {name for name, song in songs.items() if song.split == "valid"} == VALIDATION
    assert musdb18hq.NO_VALIDATION not in {item.why for item in found.skipped}


def test_find_is_the_same_twice_and_from_elsewhere(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    assert find(root)[0] == find(type(root)(root.name))[0]
    assert find(root)[2].skipped == find(root)[2].skipped


def test_songs_may_lie_in_a_bucket(root, in_bucket):
    songs, problems, _ = find(in_bucket(root))
    assert problems == []
    assert list(songs) == list(find(root)[0])
    stem = pickle.loads(pickle.dumps(songs[TEST].stems[0]))
    assert (stem.perform().audio == find(root)[0][TEST].stems[0].perform().audio).all()


# What is broken


def test_a_missing_stem_is_named_and_the_rest_goes_on(root):
    (root / "train" / TRAIN / "drums.wav").unlink()
    songs, [problem], _ = find(root)
    assert [stem.name for stem in songs[TRAIN].stems] == ["bass", "vocals"]
    assert problem.what.endswith(f"{TRAIN}/drums.wav")
    assert "no such file" in problem.why


def test_truncated_audio_is_refused_when_it_is_read(root, tmp_path):
    file = root / "test" / TEST / "vocals.wav"
    file.write_bytes(file.read_bytes()[:50_000])
    facts, _ = prepare(SOURCE, root, tmp_path / "library", Musdb18HqOptions())
    assert [what for what, why in facts["skipped"] if "vocals.wav: truncated" in why] == [f"{TEST}/vocals"]
    assert facts["stems"] == 8


def test_a_wrong_header_is_refused_when_it_is_read_or_checked(root):
    (root / "test" / TEST / "bass.wav").write_bytes(b"ID3\x04 is no RIFF" * 100)
    stem = find(root)[0][TEST].stems[0]
    for read in (stem.perform, stem.perform.header):
        with pytest.raises(UserError, match=r"bass\.wav: cannot be read as audio"):
            read()


def test_a_song_in_both_splits_is_refused(root):
    shutil.copytree(root / "test" / TEST, root / "train" / TEST)
    with pytest.raises(UserError, match=f"'{TEST}' is in train and in test"):
        find(root)


def test_an_unknown_instrument_is_named(root, write_tone):
    write_tone(root / "train" / TRAIN / "hurdygurdium.wav")
    _, [problem], _ = find(root)
    assert problem.what.endswith("hurdygurdium.wav")
    assert "no file of MUSDB18-HQ" in problem.why


def test_a_name_that_is_not_utf8_is_reported(root):
    os.mkdir(os.fsencode(root / "train") + b"/Caf\xe9 - Song")
    _, [problem], _ = find(root)
    assert "not UTF-8" in problem.why


def test_a_song_without_a_dash_has_no_artist(root):
    (root / "test" / TEST).rename(root / "test" / "Untitled")
    assert find(root)[0]["Untitled"].artist == ""


def test_a_song_without_stems_is_reported(root):
    (root / "train" / "Nobody - Nothing").mkdir()
    songs, problems, _ = find(root)
    assert "Nobody - Nothing" not in songs
    assert problems[-1].why == "none of the song's stems can be used."


def test_a_folder_that_cannot_be_read_is_named(root, monkeypatch):
    def iterdir(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(root), "iterdir", iterdir)
    with pytest.raises(UserError, match=r"musdb18hq: cannot be read \(Permission denied\)"):
        find(root)


def test_the_compressed_edition_is_recognised(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / f"{TRAIN}.stem.mp4").touch()
    with pytest.raises(UserError, match=r"\.stem\.mp4 is MUSDB18, compressed: download MUSDB18-HQ"):
        find(tmp_path)


def test_nothing_there(tmp_path, root):
    with pytest.raises(UserError, match="needs a path"):
        find(None)
    with pytest.raises(UserError, match=r"no such folder; expected \{train,test\}"):
        find(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no usable song \(first problem: .*musdb18hq: not read"):
        find(root.parent)
