"""Slakh2100 and BabySlakh in miniature: flags, splits, duplicates, damage."""

import json
import os
import pickle
import shutil
from collections import Counter

import numpy as np
import pretty_midi
import pytest
import yaml

from timbrel.errors import UserError
from timbrel.library import Library
from timbrel.prepare import prepare
from timbrel.sources import slakh
from timbrel.sources.base import Header, Note
from timbrel.sources.slakh import SOURCE, SlakhOptions
from timbrel.taxonomy import TAXONOMY

GUITAR = {"inst_class": "Guitar", "is_drum": False, "midi_program_name": "Distortion Guitar", "program_num": 30}
DRUMS = {"inst_class": "Drums", "is_drum": True, "midi_program_name": "Drums", "program_num": 128}
EFFECTS = {
    "audio_rendered": False, "midi_saved": False, "inst_class": "Sound Effects", "is_drum": False,
    "midi_program_name": "FX 8 (sci-fi)", "plugin_name": "None", "program_num": 103,
}  # fmt: skip


def write_midi(path, drum=False, notes=((60, 0.25, 0.75), (64, 0.5, 3.0))):
    made = pretty_midi.PrettyMIDI()
    track = pretty_midi.Instrument(0 if drum else 30, is_drum=drum)
    track.notes = [pretty_midi.Note(100, *note) for note in notes]
    made.instruments.append(track)
    path.parent.mkdir(parents=True, exist_ok=True)
    made.write(str(path))


@pytest.fixture
def write_track(write_tone):
    """Write a track of a guitar, drums and an effect that was not rendered."""

    def write(folder, uuid=None, suffix=".flac", stems=None):
        stems = stems or {"S00": GUITAR, "S01": DRUMS, "S02": EFFECTS}
        stems = {name: {"audio_rendered": True, "midi_saved": True} | facts for name, facts in stems.items()}
        for name, facts in stems.items():
            if facts["audio_rendered"]:
                rate = 16_000 if suffix == ".wav" else 44_100
                write_tone(folder / "stems" / f"{name}{suffix}", channels=1, sample_rate=rate)
                write_midi(folder / "MIDI" / f"{name}.mid", facts.get("is_drum", False))
        write_tone(folder / f"mix{suffix}", channels=1)
        write_midi(folder / "all_src.mid")
        metadata = {"UUID": uuid or f"md5 of {folder.name}", "audio_dir": "stems", "midi_dir": "MIDI", "stems": stems}
        (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata))
        return folder

    return write


@pytest.fixture
def redux(tmp_path, write_track):
    root = tmp_path / "slakh2100_flac_redux"
    for place in ("train/Track00001", "validation/Track01501", "test/Track01876", "omitted/Track00049"):
        write_track(root / place)
    return root


def find(path, **options):
    found = SOURCE.find(path, SlakhOptions(**options))
    return {song.name: song for song in found.songs}, Counter(item.why for item in found.skipped), found


def only_problem(path):
    """Return what is said of the one thing that is wrong, besides what is left out by a rule."""
    _, _, found = find(path)
    rules = (slakh.NOT_RENDERED, slakh.IN_OMITTED)
    [problem] = [item for item in found.skipped if item.why not in rules]
    return problem


def test_redux_becomes_a_library(redux, tmp_path):
    facts, _ = prepare(SOURCE, redux, tmp_path / "library", SlakhOptions())
    library = Library.open(tmp_path / "library")
    rows = library.catalogue().to_pylist()
    assert {(row["song"], row["split"]) for row in rows} == {
        ("Track00001", "train"), ("Track01501", "valid"), ("Track01876", "test"),
    }  # fmt: skip
    assert {(row["stem"], row["instrument"], row["program"], row["sample_rate"]) for row in rows} == {
        ("S00", "Distortion Guitar", 30, 44_100), ("S01", "Drums", 128, 44_100),
    }  # fmt: skip
    assert Counter(why for _, why in facts["skipped"]) == {slakh.NOT_RENDERED: 3, slakh.IN_OMITTED: 1}
    assert facts["notes"] == library.notes().num_rows == 3 * 2 * 2


def test_the_task_pianoroll_learns_its_notes(redux, tmp_path, pianoroll_step):
    prepare(SOURCE, redux, tmp_path / "library", SlakhOptions())
    columns, terms = pianoroll_step(tmp_path / "library")
    electric_guitar = columns["roll"][:, 2]
    assert columns["roll"].sum() == electric_guitar.sum() > 0
    # C4 from 0.25 to 0.75 s, E4 from 0.5 s on; the track is shorter than an example, so each begins at 0.
    sounding = [np.flatnonzero(electric_guitar[0, pitch - 21]) * 0.064 for pitch in (60, 64)]
    np.testing.assert_allclose([each[0] for each in sounding], [0.25, 0.5], atol=0.064)
    np.testing.assert_allclose([each[-1] for each in sounding], [0.75, 1.0], atol=0.064)
    assert np.isfinite(terms["loss"])


def test_a_stem_has_the_notes_that_are_heard(redux):
    songs, _, _ = find(redux)
    stem = pickle.loads(pickle.dumps(songs["Track00001"].stems[0]))
    performance = stem.perform()
    assert performance.audio.shape == (1, 44_100)
    # The second is written until 3 s, but the audio ends after 1 s.
    assert performance.notes == (Note(0.25, 0.75, 60, 100), Note(0.5, 1.0, 64, 100))
    assert stem.perform.header() == Header(1, 44_100, 44_100)


def test_baby_slakh_has_no_splits_and_says_of_all_stems_that_they_are_not_there(tmp_path, write_track):
    for number in (1, 2):
        folder = write_track(tmp_path / f"Track0000{number}", suffix=".wav")
        metadata = yaml.safe_load((folder / "metadata.yaml").read_text())
        for facts in metadata["stems"].values():
            facts |= {"audio_rendered": False, "midi_saved": False}
        (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    songs, why, _ = find(tmp_path)
    assert {name: song.split for name, song in songs.items()} == {"Track00001": None, "Track00002": None}
    assert [stem.name for stem in songs["Track00001"].stems] == ["S00", "S01"]
    assert why == {slakh.NOT_RENDERED: 2}
    assert songs["Track00001"].stems[0].perform().sample_rate == 16_000


def test_find_does_not_depend_on_when_or_where(redux, monkeypatch):
    monkeypatch.chdir(redux.parent)
    assert find(redux)[0] == find(type(redux)(redux.name))[0]
    assert find(redux)[2].skipped == find(redux)[2].skipped


def test_tracks_may_lie_in_a_bucket(redux, in_bucket):
    actions = {name: {"action": None} for name in ("Track00001", "Track01501", "Track01876")}
    (redux / "mine.json").write_text(json.dumps(actions))
    bucket = in_bucket(redux)
    songs, why, _ = find(bucket, split_file="mine.json")
    assert {name: song.split for name, song in songs.items()} == {
        name: song.split for name, song in find(redux)[0].items()
    }
    assert why == find(redux)[1]
    stem = pickle.loads(pickle.dumps(songs["Track00001"].stems[1]))
    there, here = stem.perform(), find(redux)[0]["Track00001"].stems[1].perform()
    assert (there.audio == here.audio).all()
    assert there.notes == here.notes
    assert stem.perform.header() == Header(1, 44_100, 44_100)


# Duplicates


def test_no_midi_file_is_in_two_splits(tmp_path, write_track):
    write_track(tmp_path / "train/Track00001", "a")
    write_track(tmp_path / "train/Track00002", "b")
    write_track(tmp_path / "train/Track00003", "b")
    write_track(tmp_path / "validation/Track01501", "a")
    write_track(tmp_path / "validation/Track01502", "c")
    write_track(tmp_path / "test/Track01876", "a")
    songs, why, _ = find(tmp_path)
    assert {name: (song.split, song.group) for name, song in songs.items()} == {
        "Track00002": ("train", "b"), "Track00003": ("train", "b"), "Track01502": ("valid", "c"),
        "Track01876": ("test", "a"),
    }  # fmt: skip
    assert why[slakh.OTHER_SPLIT_HAS_IT] == 2
    songs, why, _ = find(tmp_path, duplicates="keep")
    assert len(songs) == 6
    assert slakh.OTHER_SPLIT_HAS_IT not in why


def test_a_split_file_moves_and_omits(tmp_path, write_track):
    for place in ("train/Track00001", "train/Track00002", "train/Track00003", "test/Track01876"):
        write_track(tmp_path / place)
    actions = {
        "Track00001": {"action": None},
        "Track00002": {"action": "move", "source_split": "train", "destination_split": "validation"},
        "Track00003": {"action": "omit", "source_split": "train"},
        "Track01876": {"action": None},
    }
    (tmp_path / "mine.json").write_text(json.dumps(actions))
    songs, why, _ = find(tmp_path, split_file="mine.json")
    assert {name: song.split for name, song in songs.items()} == {
        "Track00001": "train", "Track00002": "valid", "Track01876": "test",
    }  # fmt: skip
    assert why[slakh.OMITTED_BY_FILE] == 1
    assert find(tmp_path, split_file=str(tmp_path / "mine.json"))[0] == songs


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "no split file of Slakh"),
        ('{"Track00002": {"action": null}}', "Track00001 is not in it"),
        ('{"Track00001": {"action": "omit", "source_split": "test"}}', "expects Track00001 in 'test'"),
        ('{"Track00001": {"action": "move", "source_split": "train"}}', "expected null, omit, or move"),
        (None, "cannot be read"),
    ],
)
def test_a_split_file_for_other_folders_is_refused(tmp_path, write_track, content, message):
    write_track(tmp_path / "train/Track00001")
    if content:
        (tmp_path / "mine.json").write_text(content)
    with pytest.raises(UserError, match=rf"mine\.json: .*{message}"):
        find(tmp_path, split_file="mine.json")


def test_a_split_file_needs_the_folders_of_splits(tmp_path, write_track):
    write_track(tmp_path / "Track00001")
    (tmp_path / "mine.json").write_text('{"Track00001": {"action": null}}')
    with pytest.raises(UserError, match="lies in no split"):
        find(tmp_path, split_file="mine.json")


# What the authors published


def test_the_authors_own_splits_of_all_2100(layouts, tmp_path):
    """Their folders, with the MD5 of each MIDI file as they give it, but with one stem for all."""
    splits = layouts / "slakh_utils_repo/splits"
    duplicates = json.loads((splits / "duplicates.json").read_text())
    stems = {"S00": GUITAR | {"audio_rendered": True, "midi_saved": True}}
    (tmp_path / "S00.flac").touch()
    (tmp_path / "S00.mid").touch()
    for number in range(1, 2101):
        split = "train" if number <= 1500 else "validation" if number <= 1875 else "test"
        folder = tmp_path / "slakh" / split / f"Track{number:05}"
        for part in ("stems/S00.flac", "MIDI/S00.mid"):
            (folder / part).parent.mkdir(parents=True)
            os.link(tmp_path / part.split("/")[1], folder / part)
        metadata = {"UUID": duplicates[folder.name]["midi_md5"], "stems": stems}
        (folder / "metadata.yaml").write_text(json.dumps(metadata))  # JSON is YAML

    def counts(**options):
        songs = find(tmp_path / "slakh", **options)[0].values()
        together = Counter(len({song.split for song in songs if song.group == group}) for group in _groups(songs))
        return Counter(song.split for song in songs), set(together)

    assert counts(duplicates="keep") == ({"train": 1500, "valid": 375, "test": 225}, {1, 2, 3})
    assert counts(split_file=str(splits / "splits_v2.json"), duplicates="keep") == (
        {"train": 1500, "valid": 375, "test": 225}, {1},
    )  # fmt: skip
    assert counts(split_file=str(splits / "redux.json"), duplicates="keep") == (
        {"train": 1289, "valid": 270, "test": 151}, {1},
    )  # fmt: skip
    assert counts() == ({"train": 1330, "valid": 349, "test": 225}, {1})


def _groups(songs):
    return {song.group for song in songs}


def test_every_program_of_slakh_has_a_class_or_is_outside_the_taxonomy(layouts):
    names = json.loads((layouts / "slakh_utils_repo/midi_inst_values/general_midi_inst_0based.json").read_text())
    assert len(names) >= 128
    for program in range(129):
        assert isinstance(
            TAXONOMY.classes_of("Drums" if program == 128 else names[str(program)]["name"], program), tuple
        )


def test_the_authors_own_miniatures(layouts, tmp_path):
    songs, why, found = find(layouts / "slakh/slakh2100_flac_redux")
    [song] = songs.values()
    assert (song.name, song.split, song.group) == ("Track00001", "train", "1a81ae092884234f3264e2f45927f00a")
    assert [stem.name for stem in song.stems] == ["S00", "S01", "S02", "S03", "S04", "S05", "S07", "S08", "S09", "S10"]
    assert [stem.program for stem in song.stems] == [30, 128, 1, 33, 52, 17, 26, 30, 22, 22]
    assert why == {slakh.NOT_RENDERED: 1}
    songs, why, found = find(layouts / "slakh/babyslakh_16k")
    assert [(song.name, song.split, len(song.stems)) for song in songs.values()] == [("Track00001", None, 10)]
    assert why[slakh.NOT_RENDERED] == 1
    assert {item.what.rsplit("/", 1)[1]: "no metadata.yaml" in item.why for item in found.skipped} == {
        "S06": False, "Track00007": True,
    }  # fmt: skip
    # The miniatures have 2 s of audio, and all notes.
    options = SlakhOptions(longer_midi="cut")
    facts, _ = prepare(SOURCE, layouts / "slakh/babyslakh_16k", tmp_path / "library", options)
    assert facts["stems"] == 10
    assert facts["notes"] > 0


# What is broken


def test_a_missing_stem_is_named_and_the_rest_goes_on(redux):
    (redux / "train/Track00001/stems/S00.flac").unlink()
    (redux / "test/Track01876/MIDI/S01.mid").unlink()
    songs, _, found = find(redux)
    assert [stem.name for stem in songs["Track00001"].stems] == ["S01"]
    assert [stem.name for stem in songs["Track01876"].stems] == ["S00"]
    named = {item.what: item.why for item in found.skipped if "are not there" in item.why}
    assert {what.rsplit("/", 2)[1]: "audio" in why for what, why in named.items()} == {
        "Track00001": True, "Track01876": False,
    }  # fmt: skip


@pytest.mark.parametrize("suffix", [".flac", ".wav"])
def test_truncated_audio_is_refused_when_it_is_read(tmp_path, write_track, suffix):
    folder = write_track(tmp_path / "Track00001", suffix=suffix)
    file = folder / f"stems/S00{suffix}"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    songs, _, _ = find(tmp_path)
    with pytest.raises(UserError, match=rf"S00\{suffix}: (truncated|cannot be read)"):
        songs["Track00001"].stems[0].perform()
    facts, _ = prepare(SOURCE, tmp_path, tmp_path.parent / f"library{suffix}", SlakhOptions())
    assert [what for what, why in facts["skipped"] if "S00" in why] == ["Track00001/S00"]


def test_damaged_midi_is_refused_when_it_is_read_or_checked(redux):
    (redux / "train/Track00001/MIDI/S00.mid").write_bytes(b"MThd but no more")
    [stem, _] = find(redux)[0]["Track00001"].stems
    for read in (stem.perform, stem.perform.header):
        with pytest.raises(UserError, match=r"S00\.mid: not a readable MIDI file"):
            read()


def test_a_midi_file_without_a_note_says_that_none_is_played(redux):
    write_midi(redux / "train/Track00001/MIDI/S00.mid", notes=())
    assert find(redux)[0]["Track00001"].stems[0].perform().notes == ()


@pytest.mark.parametrize(("onset_s", "kept"), [(5.9, True), (6.1, False), (66.0, False)])
def test_notes_long_after_the_audio_are_of_another_track(redux, onset_s, kept, tmp_path):
    write_midi(redux / "train/Track00001/MIDI/S00.mid", notes=((60, 0.25, 0.75), (64, onset_s, onset_s + 1)))
    for options in ({}, {"longer_midi": "cut"}):
        stem = find(redux, **options)[0]["Track00001"].stems[0]
        if kept or options:
            assert stem.perform().notes == (Note(0.25, 0.75, 60, 100),)
            assert stem.perform.header() == Header(1, 44_100, 44_100)
        else:
            why = (
                rf"S00\.mid: its last note begins at {onset_s} s, but S00\.flac ends after 1\.0 s: copy the track again"
            )
            for read in (stem.perform, stem.perform.header):
                with pytest.raises(UserError, match=why):
                    read()
    facts, _ = prepare(SOURCE, redux, tmp_path / "library", SlakhOptions())
    assert [what for what, why in facts["skipped"] if "its last note" in why] == ["Track00001/S00"] * (not kept)


def test_a_note_that_is_held_long_after_the_audio_is_cut(redux):
    write_midi(redux / "train/Track00001/MIDI/S00.mid", notes=((60, 0.25, 100.0),))
    assert find(redux)[0]["Track00001"].stems[0].perform().notes == (Note(0.25, 1.0, 60, 100),)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"stems: [", "is not YAML"),
        (b"UUID: \xff\xfe", "is not YAML"),
        (b"UUID: 2001-99-99", "is not YAML"),
        (b"UUID: a", "expected the keys UUID and stems"),
        (b"stems: {S00: {}}", "expected the keys UUID and stems"),
        (b"", "expected the keys UUID and stems"),
    ],
)
def test_metadata_that_is_none_leaves_the_track_out(redux, content, why):
    (redux / "train/Track00001/metadata.yaml").write_bytes(content)
    assert why in only_problem(redux).why
    assert set(find(redux)[0]) == {"Track01501", "Track01876"}


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (GUITAR | {"program_num": 500}, "gives the program 500; expected 0 to 128"),
        (GUITAR | {"program_num": "thirty"}, "gives the program 'thirty'"),
        ({"midi_program_name": "Hurdygurdium"}, "unknown instrument 'Hurdygurdium'"),
    ],
)
def test_an_unknown_instrument_is_named(tmp_path, write_track, facts, why):
    write_track(tmp_path / "Track00001", stems={"S00": GUITAR, "S01": facts})
    assert why in only_problem(tmp_path).why


def test_a_stem_that_the_metadata_does_not_name_is_reported(redux, write_tone):
    write_tone(redux / "train/Track00001/stems/S77.flac")
    assert only_problem(redux).what.endswith("S77.flac")


def test_a_stem_in_two_formats_is_read_once(redux, write_tone):
    write_tone(redux / "train/Track00001/stems/S00.wav")
    assert only_problem(redux).why == "the same stem as a .flac file: remove one of them."


def test_a_track_in_two_splits_is_refused(redux):
    shutil.copytree(redux / "train/Track00001", redux / "test/Track00001")
    with pytest.raises(UserError, match="Track00001 lies in test and in train: remove one"):
        find(redux)


def test_a_name_that_is_not_utf8_is_reported(redux):
    os.mkdir(os.fsencode(redux / "train") + b"/Track\xff")
    assert "not UTF-8" in only_problem(redux).why


def test_a_track_without_a_usable_stem_is_reported(redux):
    shutil.rmtree(redux / "test/Track01876/stems")
    _, why, _ = find(redux)
    assert why["none of the track's stems can be used."] == 1


def test_a_folder_that_cannot_be_read_is_named(redux, monkeypatch):
    def iterdir(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(redux), "iterdir", iterdir)
    with pytest.raises(UserError, match=r"slakh2100_flac_redux\d*: cannot be read \(Permission denied\); expected"):
        find(redux)


def test_nothing_there(tmp_path, redux):
    with pytest.raises(UserError, match="needs a path"):
        find(None)
    with pytest.raises(UserError, match="no such folder; expected folders TrackNNNNN"):
        find(tmp_path / "nowhere")
    # One level too high:
    with pytest.raises(UserError, match=r"no usable track \(first problem: .*slakh2100_flac_redux: not read"):
        find(redux.parent)
