import os
import pickle
from collections import Counter

import pytest

from tasks.tagging.task import tags_of
from timbrel.errors import UserError
from timbrel.library import Library
from timbrel.prepare import prepare
from timbrel.sources.base import Skipped
from timbrel.sources.mtg_jamendo import HEADER, MALFORMED, SOURCE, MtgJamendoOptions

TRACKS = {
    "train": ["track_0000214\tartist_000014\talbum_000031\t14/214.mp3\t124.6\tgenre---rock\tinstrument---piano"],
    "validation": ["track_0001203\tartist_000077\talbum_000120\t03/1203.mp3\t60.0\tmood/theme---film"],
    "test": ["track_1009600\tartist_005000\talbum_009000\t00/1009600.mp3\t31.0\tgenre---rock\tgenre---ambient"],
}


def find(path, **options):
    return SOURCE.find(path, MtgJamendoOptions(**options))


def write_lists(repository, lists, subset="top50tags", number=0, header=HEADER):
    for word, lines in lists.items():
        path = repository / f"data/splits/split-{number}/autotagging_{subset}-{word}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes("".join(f"{line}\r\n" for line in ["\t".join(header), *lines]).encode())
    return repository


def changed(**lines):
    return {word: [lines.get(word, TRACKS[word][0])] for word in TRACKS}


@pytest.fixture
def repository(tmp_path, write_tone):
    """A copy of the repository with three tracks in split 0 and their audio."""
    root = write_lists(tmp_path / "mtg-jamendo-dataset", TRACKS)
    for name in ("14/214", "03/1203", "00/1009600"):
        write_tone(root / f"raw_30s/audio/{name}.mp3")
    return root


def test_tracks_have_their_tags_and_splits(repository):
    found = find(repository)
    songs = [(song.name, song.artist, song.split, song.tags) for song in found.songs]
    assert songs == [
        ("track_0000214", "artist_000014", "train", {"genre---rock": 1.0, "instrument---piano": 1.0}),
        ("track_0001203", "artist_000077", "valid", {"mood/theme---film": 1.0}),
        ("track_1009600", "artist_005000", "test", {"genre---rock": 1.0, "genre---ambient": 1.0}),
    ]
    assert found.vocabulary == ("genre---ambient", "genre---rock", "instrument---piano", "mood/theme---film")
    assert found.count == 3
    assert found.skipped == []
    assert all([(stem.name, stem.instrument) for stem in song.stems] == [("mix", "mix")] for song in found.songs)
    assert find(repository) == found


def test_the_library_holds_tracks_tags_and_vocabulary(repository, tmp_path):
    facts, _ = prepare(SOURCE, repository, tmp_path / "library", MtgJamendoOptions())
    assert facts["splits"] == {"train": 1, "valid": 1, "test": 1}
    assert facts["instruments"] == {"mix": 3}
    assert facts["vocabulary"] == ["genre---ambient", "genre---rock", "instrument---piano", "mood/theme---film"]
    library = Library.open(tmp_path / "library")
    assert set(library.catalogue()["artist"].to_pylist()) == {"artist_000014", "artist_000077", "artist_005000"}
    assert [tuple(row.values()) for row in library.tags().to_pylist()] == [
        ("mtg_jamendo", "track_0000214", "genre---rock", 1.0),
        ("mtg_jamendo", "track_0000214", "instrument---piano", 1.0),
        ("mtg_jamendo", "track_0001203", "mood/theme---film", 1.0),
        ("mtg_jamendo", "track_1009600", "genre---ambient", 1.0),
        ("mtg_jamendo", "track_1009600", "genre---rock", 1.0),
    ]


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
def test_no_tag_keeps_the_end_of_its_line(repository, end):
    for path in (repository / "data/splits/split-0").iterdir():
        path.write_bytes(path.read_bytes().replace(b"\r\n", end.encode()))
    assert find(repository).vocabulary == (
        "genre---ambient", "genre---rock", "instrument---piano", "mood/theme---film"
    )  # fmt: skip


@pytest.mark.parametrize("place", ["raw_30s/audio-low", "audio", "audio-low", ".", "../raw_30s/audio"])
def test_audio_is_found_in_the_repository_and_beside_it(repository, place):
    home = repository / place
    home.mkdir(parents=True, exist_ok=True)
    for folder in sorted((repository / "raw_30s/audio").iterdir()):
        folder.rename(home / folder.name)
    assert find(repository).count == 3


def test_audio_may_be_elsewhere_and_of_low_quality(repository, tmp_path, write_tone):
    elsewhere = tmp_path / "elsewhere"
    write_tone(elsewhere / "14/214.low.mp3", channels=1)
    found = find(repository, audio=str(elsewhere))
    [song] = found.songs
    performance = song.stems[0].perform()
    assert performance.audio.shape == (1, 44_100)
    assert song.stems[0].perform.header() == (1, 44_100, 44_100)
    assert {skipped.what for skipped in found.skipped} == {"03/1203.mp3", "00/1009600.mp3"}


def test_other_subsets_and_splits_are_other_lists(repository):
    piano = "track_0000214\tartist_000014\talbum_000031\t14/214.mp3\t124.6\tinstrument---piano"
    bell = "track_0001203\tartist_000077\talbum_000120\t03/1203.mp3\t60.0\tinstrument---bell"
    write_lists(repository, {"train": [bell], "validation": [piano], "test": []}, "instrument", 4)
    found = find(repository, subset="instrument", split_number=4)
    assert [(song.name, song.split) for song in found.songs] == [("track_0001203", "train"), ("track_0000214", "valid")]
    assert found.vocabulary == ("instrument---bell", "instrument---piano")
    with pytest.raises(UserError, match=r"autotagging_instrument-train\.tsv: no such file"):
        find(repository, subset="instrument", split_number=3)


def test_a_limit_takes_a_sample_and_keeps_the_vocabulary(repository):
    found = find(repository, limit=2)
    assert found.count == len(list(found.songs)) == 2
    assert found.vocabulary == find(repository).vocabulary


def test_stems_pickle_and_read_from_elsewhere(repository, monkeypatch):
    monkeypatch.chdir(repository)
    song = next(iter(find(type(repository)(".")).songs))
    monkeypatch.chdir("/")
    assert pickle.loads(pickle.dumps(song)).stems[0].perform().sample_rate == 44_100


# Broken data sets


def test_missing_audio_is_counted_under_one_reason(repository):
    for name in ("14/214", "03/1203"):
        (repository / f"raw_30s/audio/{name}.mp3").unlink()
    found = find(repository)
    assert [song.name for song in found.songs] == ["track_1009600"]
    assert [skipped.what for skipped in found.skipped] == ["14/214.mp3", "03/1203.mp3"]
    [why] = {skipped.why for skipped in found.skipped}
    assert f"not in {repository / 'raw_30s/audio'}" in why
    assert len(found.vocabulary) == 4
    (repository / "raw_30s/audio/00/1009600.mp3").unlink()
    with pytest.raises(UserError, match=r"none of the 3 tracks of the lists is there; expected 14/214\.mp3"):
        find(repository)


@pytest.mark.parametrize("audio", ["", "nowhere"])
def test_no_audio_at_all(repository, audio):
    (repository / "raw_30s").rename(repository / "raw_60s")
    with pytest.raises(UserError, match=r"no folders 00 to 99 of audio in .*say --option audio=FOLDER"):
        find(repository, audio=audio)


@pytest.mark.parametrize("content", [b"", b"no audio at all", None])
def test_damaged_audio_leaves_the_rest(repository, tmp_path, content):
    path = repository / "raw_30s/audio/14/214.mp3"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content is None else content)
    facts, _ = prepare(SOURCE, repository, tmp_path / "library", MtgJamendoOptions())
    assert facts["songs"] == 2
    reported = dict(facts["skipped"])
    assert "214.mp3: " in reported["track_0000214/mix"]
    assert "track_0000214" not in Library.open(tmp_path / "library").tags()["song"].to_pylist()


@pytest.mark.parametrize(
    "row",
    [
        "track_0000214\tartist_000014\talbum_000031\t14/214.mp3",
        "track_0000214\tartist_000014\talbum_000031\t14/214.mp3\t124.6",
        "track_0000214\tartist_000014\talbum_000031\t14/214.mp3\tlong\tgenre---rock",
        "track_0000214\tartist_000014\talbum_000031\t14/214.wav\t124.6\tgenre---rock",
        "track_0000214\tartist_000014\talbum_000031\t../../214.mp3\t124.6\tgenre---rock",
        "track_0000214\tnobody\talbum_000031\t14/214.mp3\t124.6\tgenre---rock",
        "track_0000214\tartist_000014\talbum_000031\t14/214.mp3\t124.6\trock",
        "track_0000214\tartist_000014\talbum_000031\t14/214.mp3\t124.6\tgenre---",
        "track_0000214\tartist_000014\talbum_000031\t14/214.mp3\t124.6\tinstruments---hurdygurdium",
        "track_0000214,artist_000014,album_000031,14/214.mp3,124.6,genre---rock",
    ],
)
def test_a_malformed_row_is_named_and_the_rest_goes_on(repository, row):
    write_lists(repository, changed(train=row))
    found = find(repository)
    assert [song.split for song in found.songs] == ["valid", "test"]
    where = repository / "data/splits/split-0/autotagging_top50tags-train.tsv"
    assert found.skipped == [Skipped(f"{where}, line 2", MALFORMED)]


def test_a_tag_of_another_category_does_not_belong_to_a_subset(repository):
    write_lists(repository, TRACKS, "genre")
    found = find(repository, subset="genre")
    assert [song.name for song in found.songs] == ["track_1009600"]
    assert {skipped.why for skipped in found.skipped} == {MALFORMED}


@pytest.mark.parametrize("header", [[], ["TRACK_ID", "PATH"], [",".join(HEADER)]])
def test_a_wrong_header_is_refused(repository, header):
    write_lists(repository, TRACKS, header=header)
    with pytest.raises(UserError, match=r"train\.tsv, line \d: expected the header TRACK_ID ARTIST_ID .* got"):
        find(repository)


def test_an_empty_list_is_refused(repository):
    (repository / "data/splits/split-0/autotagging_top50tags-test.tsv").write_bytes(b"")
    with pytest.raises(UserError, match=r"expected the header TRACK_ID .* got nothing"):
        find(repository)
    write_lists(repository, {word: [] for word in TRACKS})
    with pytest.raises(UserError, match="the lists of top50tags hold no track"):
        find(repository)


def test_a_track_in_two_splits_is_refused(repository):
    write_lists(repository, changed(test=TRACKS["train"][0]))
    with pytest.raises(UserError, match=r"-test\.tsv, line 2: the track track_0000214 is listed already .*-train\.tsv"):
        find(repository)


def test_a_list_that_is_no_text_is_refused(repository):
    path = repository / "data/splits/split-0/autotagging_top50tags-train.tsv"
    path.write_bytes(path.read_bytes().replace(b"rock", b"r\xf6ck"))
    with pytest.raises(UserError, match=r"train\.tsv: it is not UTF-8 text"):
        find(repository)


def test_audio_whose_name_is_not_utf8_is_reported(repository):
    folder = os.fsencode(repository / "raw_30s/audio/14")
    os.rename(folder + b"/214.mp3", folder + b"/2\xf614.mp3")
    found = find(repository)
    assert [skipped.why for skipped in found.skipped if "udcf6" in skipped.what] == [
        "its name is not UTF-8: rename it."
    ]
    assert found.count == 2


def test_no_such_folder(tmp_path):
    with pytest.raises(UserError, match="needs the path of a folder"):
        find(None)
    with pytest.raises(UserError, match=r"nowhere: no such folder; expected data/splits"):
        find(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: not a folder; expected data/splits"):
        find(tmp_path / "file")
    with pytest.raises(UserError, match=r"top50tags-train\.tsv: no such file"):
        find(tmp_path)


# The names of tags


def test_the_vocabulary_is_that_of_the_published_taggers(repository):
    """Named as in tasks/tagging/mtg_jamendo.txt, and in that order, whatever the order in the lists."""
    tags = "\t".join(reversed(tags_of("mtg_jamendo")))
    write_lists(repository, changed(train=f"track_0000214\tartist_000014\talbum_000031\t14/214.mp3\t124.6\t{tags}"))
    assert find(repository).vocabulary == tags_of("mtg_jamendo")


def test_real_lists_of_the_instrument_subset(layouts, tmp_path):
    real = layouts / "mtg_jamendo_repo"
    lines = []
    for word in TRACKS:
        path = real / f"data/splits/split-0/autotagging_instrument-{word}.tsv"
        lines += path.read_text().splitlines()[1:]
    paths = [line.split("\t")[3] for line in lines]
    for number in range(100):
        (tmp_path / f"{number:02}").mkdir()
    for path in paths[1:]:
        (tmp_path / path).touch()
    found = find(real, subset="instrument", audio=str(tmp_path))
    songs = list(found.songs)
    assert [skipped.what for skipped in found.skipped] == paths[:1]
    assert Counter(song.split for song in songs) == {"train": 14_395 - 1, "valid": 5_466, "test": 5_115}
    assert sum(len(song.tags) for song in songs) == sum(line.count("---") for line in lines[1:])
    artists = {split: {song.artist for song in songs if song.split == split} for split in ("train", "valid", "test")}
    assert len(set().union(*artists.values())) == sum(map(len, artists.values()))
    statistics = (real / "stats/raw_30s_cleantags_50artists/instrument.tsv").read_text().splitlines()[1:]
    published = {f"instrument---{line.split()[0]}" for line in statistics}
    assert set(found.vocabulary) == published - {"instrument---ukulele"}
    assert len(found.vocabulary) == 40
