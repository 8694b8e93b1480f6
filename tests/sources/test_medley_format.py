"""MedleyDB and Mixing Secrets: one format, two layouts."""

import os
import pickle
import re
import shutil
import sys
from collections import Counter

import numpy as np
import pytest
import soundfile
import yaml
from upath import UPath

from timbrel import activity
from timbrel.errors import UserError
from timbrel.library import Library
from timbrel.prepare import prepare
from timbrel.sources import medleydb, mixing_secrets
from timbrel.sources.medley_format import MedleyOptions
from timbrel.taxonomy import normalise

LAYOUTS = {
    "medleydb": (medleydb.SOURCE, "Audio", "Metadata"),
    "mixing_secrets": (mixing_secrets.SOURCE, "Medley_Format/Audio", "metadata"),
}
OWL, RIVER = "NightBirds_Owl", "SlowWater_River"


class DataSet:
    """A miniature of one of the two, as their authors lay it out."""

    def __init__(self, root, write_tone, source, audio, metadata):
        self.root, self.write_tone, self.source = root, write_tone, source
        self.audio, self.metadata = root / audio, root / metadata

    def song(self, name, instruments, audio="", beside=False, **values):
        """Write a song of one stem an instrument, and its metadata, of which ``values`` replace some."""
        home = (self.root / audio if audio else self.audio) / name
        stems = {}
        for number, instrument in enumerate(instruments, 1):
            file = f"{name}_STEM_{number:02d}.wav"
            self.write_tone(home / f"{name}_STEMS" / file, hz=110 * number)
            raw = {"R01": {"filename": f"{name}_RAW_{number:02d}_01.wav", "instrument": instrument}}
            stems[f"S{number:02d}"] = {"component": "", "filename": file, "instrument": instrument, "raw": raw}
        self.write_tone(home / f"{name}_MIX.wav")
        artist, title = name.split("_")
        self.write(
            name,
            {
                **{"album": "", "artist": artist, "composer": [], "excerpt": "no", "genre": "", "has_bleed": "no"},
                **{"instrumental": "no", "mix_filename": f"{name}_MIX.wav", "origin": "", "producer": ""},
                **{"raw_dir": f"{name}_RAW", "stem_dir": f"{name}_STEMS", "stems": stems, "title": title},
                **{"version": 1.2, "website": []},
                **values,
            },
            home if beside else self.metadata,
        )
        return home / f"{name}_STEMS"

    def file(self, name):
        return self.metadata / f"{name}_METADATA.yaml"

    def write(self, name, values, folder=None):
        file = (folder or self.metadata) / f"{name}_METADATA.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(values, default_flow_style=False), encoding="utf-8")

    def change(self, name, change):
        values = yaml.safe_load(self.file(name).read_text(encoding="utf-8"))
        change(values)
        self.write(name, values)

    def find(self, **options):
        return self.source.find(self.root, MedleyOptions(**options))

    def prepare(self, library, **options):
        return prepare(self.source, self.root, library, MedleyOptions(**options))[0]


@pytest.fixture(params=LAYOUTS)
def empty(request, tmp_path, write_tone):
    return DataSet(tmp_path / "data", write_tone, *LAYOUTS[request.param])


@pytest.fixture
def data(empty):
    """Two whole songs."""
    empty.song(OWL, ["female singer", "piano", "electric bass"], artist="The Night Birds")
    empty.song(RIVER, ["violin", "Main System"])
    return empty


def songs(found):
    return {song.name: [(stem.name, stem.instrument) for stem in song.stems] for song in found.songs}


def reasons(found):
    """What was left out, by the end of its path, and why."""
    return {os.path.basename(item.what): item.why for item in found.skipped}


# What is read


def test_songs_stems_and_artists(data):
    found = data.find()
    assert songs(found) == {
        OWL: [("S01", "female singer"), ("S02", "piano"), ("S03", "electric bass")],
        RIVER: [("S01", "violin")],
    }
    assert [song.artist for song in found.songs] == ["The Night Birds", "SlowWater"]
    assert found.count == 2
    assert [item.why for item in found.skipped] == [
        "'Main System' is outside the taxonomy: MedleyDB and Mixing Secrets: microphones that took the whole band."
    ]


def test_the_library_gets_what_the_files_hold(data, tmp_path):
    facts = data.prepare(tmp_path / "library")
    assert (facts["songs"], facts["stems"], facts["sample_rates"], facts["channels"]) == (2, 4, {"44100": 4}, {"2": 4})
    catalogue = Library.open(tmp_path / "library").catalogue().to_pandas()
    assert set(catalogue["artist"]) == {"The Night Birds", "SlowWater"}
    assert set(catalogue["split"]) <= {"train", "valid", "test"}
    stem = data.audio / OWL / f"{OWL}_STEMS" / f"{OWL}_STEM_02.wav"
    row = catalogue[(catalogue["song"] == OWL) & (catalogue["stem"] == "S02")].iloc[0]
    assert row["instrument"] == "piano"
    stored = soundfile.read(tmp_path / "library" / row["path"])[0]
    np.testing.assert_array_equal(stored, soundfile.read(stem)[0])
    assert max(row["activity"]) > activity.SOUNDING


def test_finding_opens_no_audio_and_says_the_same_again(data):
    for file in data.root.rglob("*.wav"):
        file.write_bytes(b"no audio")
    first, second = data.find(), data.find()
    assert list(first.songs) == list(second.songs)
    assert first.skipped == second.skipped


def test_stems_pickle_and_read_from_elsewhere(data, monkeypatch):
    monkeypatch.chdir(data.root.parent)
    found = data.source.find(type(data.root)(data.root.name), MedleyOptions())
    monkeypatch.chdir("/")
    stem = pickle.loads(pickle.dumps(found.songs[0].stems[0]))
    assert stem.perform().audio.shape == (2, 44_100)
    assert stem.perform.header() == (2, 44_100, 44_100)


def test_songs_may_lie_in_a_bucket(data):
    """A file system in memory stands for it."""
    bucket = UPath("memory://bucket") / data.source.name
    for file in data.root.rglob("*.*"):
        if file.is_file():
            there = bucket / file.relative_to(data.root).as_posix()
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(file.read_bytes())
    found = data.source.find(bucket, MedleyOptions())
    assert songs(found) == songs(data.find())
    here, there = data.find().songs[0].stems[0].perform(), pickle.loads(pickle.dumps(found.songs[0].stems[0])).perform()
    np.testing.assert_array_equal(there.audio, here.audio)


def test_metadata_may_lie_beside_the_audio_but_the_folder_comes_first(empty):
    empty.song(OWL, ["piano"], beside=True)
    empty.song(RIVER, ["piano"], beside=True, artist="old")
    empty.song(RIVER, ["violin"], artist="new")
    found = empty.find()
    assert songs(found) == {OWL: [("S01", "piano")], RIVER: [("S01", "violin")]}
    assert found.songs[1].artist == "new"


def test_songs_may_lie_in_the_root(empty):
    empty.song(OWL, ["piano"], audio=".")
    (empty.root / "Annotations").mkdir()
    found = empty.find()
    assert songs(found) == {OWL: [("S01", "piano")]}
    assert found.skipped == []


def test_bleed_is_left_out_and_counted_unless_it_is_wanted(data):
    for name in ("Loud_One", "Loud_Two"):
        data.song(name, ["piano"], has_bleed="yes")
    found = data.find()
    assert set(songs(found)) == {OWL, RIVER}
    (why, count), *_ = Counter(item.why for item in found.skipped).most_common()
    assert count == 2
    assert "has_bleed: yes" in why
    assert "bleed=keep" in why
    assert set(songs(data.find(bleed="keep"))) == {OWL, RIVER, "Loud_One", "Loud_Two"}


@pytest.mark.parametrize(
    ("instruments", "taken"),
    [
        (["male singer", "vocalists"], "male singer"),
        (["vocalists", "female singer"], "vocalists"),
        (["violin", "viola"], None),
        (["clean electric guitar", "acoustic guitar"], None),
        (["drum set", "Unlabeled"], None),
    ],
)
def test_a_stem_of_several_instruments_goes_by_the_first_if_their_classes_agree(empty, instruments, taken):
    empty.song(OWL, ["piano", instruments])
    found = empty.find()
    assert [name for _, name in songs(found)[OWL]] == ["piano", *([taken] if taken else [])]
    assert [item.why for item in found.skipped] == (
        [] if taken else ["it holds several instruments of different classes: nothing says which is heard when."]
    )


def test_an_artist_is_the_same_however_spelled(empty):
    for name, artist in (("Sweat_A", "SWEAT"), ("Sweat_B", "Sweat"), ("Wolf_A", "NYU"), ("Mozart_A", "NYU")):
        empty.song(name, ["piano"], artist=artist)
    artists = {song.name: song.artist for song in empty.find().songs}
    assert artists == {"Sweat_A": "SWEAT", "Sweat_B": "SWEAT", "Wolf_A": "NYU", "Mozart_A": "NYU"}


def test_numbers_and_truth_values_are_names_too(empty):
    empty.song("311_No", ["piano"], artist=311, title=False)
    empty.song("Owl_Bare", ["piano"], artist=None)
    text = empty.file("Owl_Bare").read_text().replace("artist: null", "artist: ''").replace("'no'", "no")
    empty.file("Owl_Bare").write_text(text)
    assert {song.name: song.artist for song in empty.find().songs} == {"311_No": "311", "Owl_Bare": "Owl"}


def test_a_remix_falls_into_the_split_of_its_song(empty):
    for name in ("Vine_Grape", "Vine_GrapeNightRemix", "Vine_Remix", "Other_GrapeRemix"):
        empty.song(name, ["piano"])
    empty.song("Vine_Red", ["piano"], has_bleed="yes")
    empty.song("Vine_RedRemix", ["piano"])
    assert {song.name: song.group for song in empty.find().songs if song.group} == {
        "Vine_GrapeNightRemix": "Vine_Grape",
        "Vine_RedRemix": "Vine_Red",
    }


# What is wrong


def test_nothing_there(empty):
    with pytest.raises(UserError, match="needs a path; expected folders"):
        empty.source.find(None, MedleyOptions())
    with pytest.raises(UserError, match="no such folder; expected folders"):
        empty.find()
    empty.root.mkdir()
    with pytest.raises(UserError, match=r"no usable song; expected folders .*METADATA"):
        empty.find()
    empty.song(OWL, ["piano"])
    shutil.rmtree(empty.metadata)
    with pytest.raises(UserError, match=rf"no usable song \(first problem: .*{OWL}: no metadata"):
        empty.find()


def test_a_folder_that_cannot_be_read_is_a_sentence(data, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(type(data.root), "iterdir", refuse)
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\); expected"):
        data.find()


def test_missing_stem(data):
    missing = data.audio / OWL / f"{OWL}_STEMS" / f"{OWL}_STEM_02.wav"
    missing.unlink()
    found = data.find()
    assert [name for name, _ in songs(found)[OWL]] == ["S01", "S03"]
    assert reasons(found)[missing.name] == f"no such file ({OWL}_METADATA.yaml, S02): copy the song again."


def test_missing_folder_of_stems(data):
    shutil.rmtree(data.audio / OWL / f"{OWL}_STEMS")
    found = data.find()
    assert set(songs(found)) == {RIVER}
    assert "no such folder" in reasons(found)[f"{OWL}_STEMS"]
    assert reasons(found)[OWL] == "none of its stems can be used."


def test_metadata_without_audio_and_audio_without_metadata(data):
    shutil.rmtree(data.audio / OWL)
    data.file(RIVER).unlink()
    data.song("Third_Song", ["piano"])
    found = data.find()
    assert set(songs(found)) == {"Third_Song"}
    assert "its audio is not" in reasons(found)[OWL]
    assert "expected <song>_METADATA.yaml" in reasons(found)[RIVER]


def test_a_stem_that_the_metadata_do_not_name(data):
    data.write_tone(data.audio / OWL / f"{OWL}_STEMS" / "99_Extra.wav")
    found = data.find()
    assert len(songs(found)[OWL]) == 3
    assert "does not name it" in reasons(found)["99_Extra.wav"]


def test_the_same_stem_twice(data):
    data.change(OWL, lambda values: values["stems"]["S02"].update(filename=f"{OWL}_STEM_01.wav"))
    found = data.find()
    assert [name for name, _ in songs(found)[OWL]] == ["S01", "S03"]
    assert f"names {OWL}_STEM_01.wav, as S01 does" in reasons(found)[f"{OWL}_METADATA.yaml, S02"]


def test_the_same_key_twice(data):
    text = data.file(OWL).read_text()
    data.file(OWL).write_text(text.replace("  S02:", "  S01:"))
    found = data.find()
    assert set(songs(found)) == {RIVER}
    assert re.search(r"not YAML \('S01' is there twice .*line \d+", reasons(found)[data.file(OWL).name])


def test_unknown_instrument(data):
    data.change(OWL, lambda values: values["stems"]["S01"].update(instrument="tamborine"))
    found = data.find()
    assert [name for name, _ in songs(found)[OWL]] == ["S02", "S03"]
    assert "did you mean 'tambourine'?" in reasons(found)[f"{OWL}_METADATA.yaml, S01"]


@pytest.mark.parametrize("stem", ["a stem", {"filename": "x.wav"}, {"instrument": "piano"}, {"filename": ""}])
def test_a_stem_without_file_or_instrument(data, stem):
    home = data.audio / OWL / f"{OWL}_STEMS"
    (home / f"{OWL}_STEM_01.wav").rename(home / "x.wav")
    data.change(OWL, lambda values: values["stems"].update(S01=stem))
    found = data.find()
    assert [name for name, _ in songs(found)[OWL]] == ["S02", "S03"]
    assert "expected 'filename' and 'instrument'" in reasons(found)[f"{OWL}_METADATA.yaml, S01"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"stems: {S01: [", "not YAML"),
        (b"", "list no stems"),
        (b"- a\n- list\n", "list no stems"),
        (b"has_bleed: 'no'\nstems: {}\n", "list no stems"),
        (b"stems: {S01: {filename: x.wav, instrument: piano}}\n", "has_bleed is None: expected yes or no"),
        (b"has_bleed: maybe\nstems: {S01: {}}\n", "has_bleed is 'maybe': expected yes or no"),
        ("artist: Motörhead\n".encode("latin-1"), "not UTF-8"),
    ],
)
def test_metadata_that_are_none(data, content, why):
    data.file(OWL).write_bytes(content)
    found = data.find()
    assert set(songs(found)) == {RIVER}
    assert why in reasons(found)[data.file(OWL).name]


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize(("damage", "why"), [("truncated", "truncated|cannot be read"), ("header", "cannot be read")])
def test_damaged_audio_is_named_and_the_rest_is_stored(data, tmp_path, suffix, damage, why):
    file = data.audio / OWL / f"{OWL}_STEMS" / f"{OWL}_STEM_02{suffix}"
    noise = np.random.default_rng(0).normal(scale=0.1, size=44_100)
    soundfile.write(file, noise, 44_100)
    data.change(OWL, lambda values: values["stems"]["S02"].update(filename=file.name))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if damage == "truncated" else b"RIFX" + whole[4:])
    facts = data.prepare(tmp_path / "library")
    assert facts["stems"] == 3
    told = dict(facts["skipped"])
    assert re.search(rf"{re.escape(file.name)}: ({why})", told[f"{OWL}/S02"])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_utf8(data):
    bad = os.fsencode(data.audio / OWL / f"{OWL}_STEMS") + b"/Fl\xf6te.wav"
    with open(bad, "wb"):
        pass
    os.mkdir(os.fsencode(data.audio) + b"/Caf\xe9_Song")
    found = data.find()
    assert set(songs(found)) == {OWL, RIVER}
    told = {what: why for what, why in reasons(found).items() if "UTF-8" in why}
    assert sorted(told) == ["Caf\\udce9_Song", "Fl\\udcf6te.wav"]


# MedleyDB itself


@pytest.fixture
def medley(tmp_path, write_tone):
    return DataSet(tmp_path / "data", write_tone, *LAYOUTS["medleydb"])


def test_v1_and_v2_and_a_song_that_is_in_both(medley):
    medley.song(OWL, ["piano"], audio="V1")
    medley.song(OWL, ["piano"], audio="V2")
    medley.song(RIVER, ["violin"], audio="V2")
    found = medley.find()
    assert set(songs(found)) == {OWL, RIVER}
    (twin,) = found.skipped
    assert twin.what == str(medley.root / "V2" / OWL)
    assert twin.why == f"a song of that name lies in {medley.root / 'V1'}: remove one of them."


def test_a_clone_of_the_repository(medley):
    medley.metadata = medley.root / "medleydb/data/Metadata"
    medley.song(OWL, ["piano"])
    assert set(songs(medley.find())) == {OWL}


def test_stems_of_the_errata_bleed(medley):
    medley.song("LizNelson_ImComingHome", ["female singer", "acoustic guitar"])
    found = medley.find()
    assert songs(found) == {"LizNelson_ImComingHome": [("S01", "female singer")]}
    assert "bleed=keep" in reasons(found)["LizNelson_ImComingHome_STEM_02.wav"]
    assert len(medley.find(bleed="keep").songs[0].stems) == 2


@pytest.fixture(scope="session")
def repository(layouts, tmp_path_factory):
    """The 330 songs of the repository, their stems empty files."""
    root = tmp_path_factory.mktemp("medleydb")
    metadata = layouts / "medleydb_repo/medleydb/data/Metadata"
    (root / "Metadata").symlink_to(metadata)
    for file in metadata.iterdir():
        name = file.name.removesuffix("_METADATA.yaml")
        home = root / "Audio" / name / f"{name}_STEMS"
        home.mkdir(parents=True)
        for stem in set(re.findall(rf"{name}_STEM_\d+\.wav", file.read_text())):
            (home / stem).touch()
    return root


def counts(found):
    """How often each reason was given, the name of the instrument apart."""
    return Counter(re.sub("^'.*' is outside", "outside", item.why).split(":")[0] for item in found.skipped)


def test_the_authors_own_metadata(repository):
    found = medleydb.SOURCE.find(repository, MedleyOptions())
    assert found.count == len(found.songs) == 237
    assert counts(found) == {
        "other instruments are heard in its stems (has_bleed": 93,
        "another instrument is heard in it, as was found after the release": 2,
        "it holds several instruments of different classes": 44,
        "outside the taxonomy": 135,
    }
    everything = medleydb.SOURCE.find(repository, MedleyOptions(bleed="keep"))
    assert everything.count == 330
    stems = Counter(stem.instrument for song in everything.songs for stem in song.stems)
    assert sum(stems.values()) == 1777
    assert stems["drum set"] == 214
    assert counts(everything) == {"it holds several instruments of different classes": 46, "outside the taxonomy": 191}
    assert sum(stems.values()) + counts(everything).total() == len(list(repository.glob("Audio/*/*/*.wav")))


def test_artists_are_at_least_those_of_the_authors_index(layouts, repository):
    """What their artist-conditional split keeps together, ours does."""
    index = yaml.safe_load((layouts / "medleydb_repo/medleydb/resources/artist_index.json").read_text())
    ours = {song.name: song.artist for song in medleydb.SOURCE.find(repository, MedleyOptions(bleed="keep")).songs}
    together = {}
    for name, artist in ours.items():
        together.setdefault(index[name], set()).add(normalise(artist))
    assert [artist for artist, names in together.items() if len(names) > 1] == []
    assert len({ours[name] for name in ours if name.startswith("MusicDelta_")}) == 1
    assert len({ours[name] for name in ours if name.startswith("LizNelson_")}) == 1


# Mixing Secrets itself


@pytest.fixture
def secrets(tmp_path, write_tone):
    return DataSet(tmp_path / "data", write_tone, *LAYOUTS["mixing_secrets"])


def test_stems_go_by_the_names_of_their_raw_tracks(secrets):
    """In `Medley_Format` words are as in the file names; in `metadata` they are tidied, and these come first."""
    home = secrets.song(OWL, ["drum set", "ElecGtr", "LeadVox"], beside=True)
    names = [f"{OWL}_STEM_drums.wav", "05_ElecGtr1.wav", "12_LeadVox.wav"]
    values = yaml.safe_load((home.parent / f"{OWL}_METADATA.yaml").read_text())
    for number, name in enumerate(names, 1):
        (home / f"{OWL}_STEM_{number:02d}.wav").rename(home / name)
        values["stems"][f"S{number:02d}"]["filename"] = name
    secrets.write(OWL, values, home.parent)
    assert songs(secrets.find())[OWL] == [("S01", "drum set"), ("S02", "ElecGtr"), ("S03", "LeadVox")]
    values["stems"]["S02"]["instrument"] = "clean electric guitar"
    secrets.write(OWL, values)
    assert songs(secrets.find())[OWL][1] == ("S02", "clean electric guitar")
