"""What data name is read and written below its own root, however it is called."""

import csv
import os
import shutil
import types

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import yaml

from timbrel import registry
from timbrel.embeddings.sound import SongSound
from timbrel.embeddings.teachers import load_teacher
from timbrel.embeddings.teachers.options import TeacherOptions
from timbrel.errors import UserError
from timbrel.launch import Workplace
from timbrel.library import Library, safe_name
from timbrel.mixing.bank import Bank, add_bank
from timbrel.mixing.index import build_index
from timbrel.predict import _output_names
from timbrel.prepare import prepare
from timbrel.safety import is_inside
from timbrel.tracking import Tracker

OUTSIDE = ["../outside.wav", "../../outside.wav", "/etc/outside.wav", "tones/../../outside.wav", "tones/.."]
HOSTILE = [
    "../../evil",
    "/tmp/evil",
    "..",
    ".",
    "a/b",
    ".hidden",
    "~/evil",
    "-rf",
    "C:\\evil",
    "evil\n",
    "x" * 300,
    "<script>alert(1)</script>",
]


def files_in(folder):
    return {file for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("path", ["a", "a/b.wav", "./a", "a/../b", "..a", "a..", "a/..b"])
def test_what_stays_inside(path):
    assert is_inside(path)


@pytest.mark.parametrize("path", ["..", "../a", "a/../../b", "/a", "//a", "./../a", "s3://bucket/a", "file:///etc/a"])
def test_what_leads_out(path):
    assert not is_inside(path)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_becomes_the_name_of_one_file(name, tmp_path):
    file = tmp_path / f"{safe_name(name)}.wav"
    assert file.parent == tmp_path
    assert os.path.dirname(os.path.realpath(file)) == str(tmp_path)
    assert not file.name.startswith((".", "~"))
    file.touch()


def test_names_of_songs_and_instruments_stay_in_the_library(tmp_path, write_stems, command):
    """A list may name audio anywhere, as it is documented; what it calls things leads nowhere."""
    home = tmp_path / "data"
    write_stems(home, {"take": {"piano": np.full(16_000, 0.1)}})
    with (home / "stems.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "song", "instrument", "artist"])
        for number, name in enumerate(HOSTILE):
            copy = home / "take" / f"..{number}.wav"
            shutil.copyfile(home / "take/piano.wav", copy)
            rows.writerow([copy.relative_to(home), name, "piano", name])
        rows.writerow(["/etc/passwd", "secret", "piano", ""])
        rows.writerow(["../../../../../../../../etc/hostname", "secret", "violin", ""])
    before = files_in(tmp_path)
    root = tmp_path / "libraries/one"
    source = registry.load("source", "stems")
    facts, _ = prepare(source, home / "stems.csv", root, source.options_type(unknown="keep"), "../../escaped")
    assert files_in(tmp_path) - before == files_in(root)
    assert "passwd" in str(facts["skipped"])
    assert "cannot be read as audio" in str(facts["skipped"])
    library = Library.open(root)
    for path in library.catalogue()["path"].to_pylist():
        assert (root / path).resolve().is_relative_to(root.resolve())
        assert path.count("/") == 3  # dataset/songs/SONG/STEM.wav
    # And what is written of them elsewhere.
    out = tmp_path / "mixtures"
    mixing = ["mixing.sample_rate=16000", "mixing.seconds=1.1", "front_end.hop=128"]
    status, _, err = command("mix", "--library", root, "--out", out, "-n", 6, "--config", *mixing)
    assert status == 0, err
    assert files_in(tmp_path) - before - files_in(root) == files_in(out)
    page = (out / "index.html").read_text()
    assert "<script>alert" not in page


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_catalogue_that_leads_out_of_the_library(tone_library, tmp_path, command, instrument_task, path):
    root = tmp_path / "library"
    shutil.copytree(tone_library, root)
    shutil.copyfile(root / "tones/songs/song 0/piano.wav", tmp_path / "outside.wav")
    file = root / "tones/catalogue.parquet"
    table = pq.read_table(file)
    paths = [path, *table["path"].to_pylist()[1:]]
    number = table.column_names.index("path")
    pq.write_table(table.set_column(number, "path", pa.array(paths)), file)
    before = files_in(tmp_path)
    refused = pytest.raises(UserError, match=r"catalogue\.parquet names '.*', which is outside the library: prepare")
    with refused:
        build_index(Library.open(root), "train", instrument_task, instrument_task.config_type())
    with refused:
        add_bank(root, "tones", Bank(steps=2))
    with refused:
        registry.load("source", "weak_clips").find(root / "tones", registry.load("source", "weak_clips").options_type())
    status, _, err = command("mix", "--library", root, "--out", tmp_path / "mixtures", "-n", 1)
    assert (status, "outside the library" in err) == (2, True)
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("stem_dir", ["../../private", "{private}", "SONG_STEMS/../../../private", ".."])
@pytest.mark.parametrize("source", ["medleydb", "mixing_secrets"])
def test_metadata_of_medleydb_that_lead_out_of_the_song(tmp_path, write_stems, source, stem_dir):
    root = tmp_path / "data"
    write_stems(tmp_path, {"private": {"diary": np.full(16_000, 0.1)}, "data/Audio/Good_Song/Good_Song_STEMS": {}})
    write_stems(root / "Audio/Good_Song", {"Good_Song_STEMS": {"one": np.full(16_000, 0.1)}})
    (root / "Audio/Evil_Song/SONG_STEMS").mkdir(parents=True)
    for song, folder, file in (
        ("Good_Song", "Good_Song_STEMS", "one.wav"),
        ("Evil_Song", stem_dir.format(private=tmp_path / "private"), "diary.wav"),
    ):
        stems = {"S01": {"filename": file, "instrument": "piano"}}
        facts = {"artist": "X", "has_bleed": "no", "stem_dir": folder, "stems": stems}
        (root / f"Audio/{song}/{song}_METADATA.yaml").write_text(yaml.safe_dump(facts))
    loaded = registry.load("source", source)
    found = loaded.find(root, loaded.options_type())
    assert [song.name for song in found.songs] == ["Good_Song"]
    assert any("leads out of" in item.why for item in found.skipped)


def test_lists_of_mtg_jamendo_that_lead_out(tmp_path, write_stems):
    write_stems(tmp_path, {"private": {"1": np.zeros(100)}})
    splits = tmp_path / "data/data/splits/split-0"
    splits.mkdir(parents=True)
    (tmp_path / "data/audio/00").mkdir(parents=True)
    shutil.copyfile(tmp_path / "private/1.wav", tmp_path / "data/audio/00/1.mp3")
    header = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"
    rows = ["00/1.mp3", "../../private/1.mp3", "/private/1.mp3", "00/../1.mp3", "../00/1.mp3"]
    for split in ("train", "validation", "test"):
        lines = [
            f"track_{number}\tartist_1\talbum_1\t{path}\t1.0\tinstrument---piano" for number, path in enumerate(rows)
        ]
        here = [header, *(lines if split == "train" else [])]
        (splits / f"autotagging_top50tags-{split}.tsv").write_text("\n".join(here) + "\n")
    source = registry.load("source", "mtg_jamendo")
    found = source.find(tmp_path / "data", source.options_type())
    assert [song.name for song in found.songs] == ["track_0"]
    assert len([item for item in found.skipped if "malformed row" in item.why]) == 4


def test_lists_of_magnatagatune_that_lead_out(tmp_path):
    from timbrel.clip_labels import MAGNATAGATUNE
    from timbrel.sources.magnatagatune import _annotations

    tags = [*MAGNATAGATUNE, *(f"other {number}" for number in range(188 - len(MAGNATAGATUNE)))]
    paths = ["a/good.mp3", "../private.mp3", "a/../../private.mp3", "/a/private.mp3", "a/b/private.mp3"]
    lines = [["clip_id", *tags, "mp3_path"], *([str(n), *["0"] * 188, path] for n, path in enumerate(paths))]
    (tmp_path / "annotations_final.csv").write_text("\n".join("\t".join(line) for line in lines) + "\n")
    skipped = []
    _, clips = _annotations(tmp_path / "annotations_final.csv", skipped)
    assert list(clips) == ["a/good.mp3"]
    assert len(skipped) == 4


def test_lists_of_openmic_that_lead_out(tmp_path):
    from timbrel.sources.openmic import _partitions

    (tmp_path / "split01_train.csv").write_text("000046_3840\n../../private\n/etc/passwd\n")
    (tmp_path / "split01_test.csv").write_text("../000046_3841\n")
    skipped = []
    assert _partitions(tmp_path, skipped) == {"000046_3840": "train"}
    assert len(skipped) == 3


def test_metadata_of_slakh_that_lead_out(tmp_path, write_stems):
    write_stems(tmp_path, {"private": {"S00": np.zeros(100)}})
    track = tmp_path / "slakh/Track00001"
    write_stems(track, {"stems": {}})
    (track / "MIDI").mkdir(parents=True)
    stems = {name: {"program_num": 0, "midi_program_name": "Piano"} for name in ("../../../private/S00", "/S00")}
    (track / "metadata.yaml").write_text(yaml.safe_dump({"UUID": "1", "stems": stems}))
    source = registry.load("source", "slakh")
    with pytest.raises(UserError, match="no usable track"):
        source.find(tmp_path / "slakh", source.options_type())


def test_embeddings_of_a_song_whose_name_leads_out(tmp_path):
    (tmp_path / "folder/AC").mkdir(parents=True)
    for place in ("private", "folder/one", "folder/AC/DC"):
        np.save(tmp_path / f"{place}.npy", np.ones((2, 3), dtype=np.float32))
    tracker = Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}")
    teacher = load_teacher("files", TeacherOptions(path=str(tmp_path / "folder"), hop_s=1.0), tracker)
    for name in ("one", "AC/DC"):
        assert teacher.of_song(SongSound("mine", name, (), 1.0)).shape == (2, 3)
    for name in ("../private", str(tmp_path / "private"), "x/../../private"):
        with pytest.raises(UserError, match="there is no"):
            teacher.of_song(SongSound("mine", name, (), 1.0))


def test_predictions_stay_in_their_folder(tmp_path):
    files = [tmp_path / name for name in ("song.wav", "..wav", "...wav", ".hidden.wav", "song.flac")]
    names = _output_names(files)
    assert len(set(names)) == len(files)
    out = tmp_path / "predictions"
    for name in names:
        assert os.path.dirname(os.path.normpath(f"{out / name}.csv")) == str(out)
    assert names[0] == "song"


@pytest.mark.parametrize("folder", ["../elsewhere", "{tmp}/elsewhere", "..", ".", "", "a/b"])
def test_a_tracking_server_does_not_say_where_to_resume(tone_library, tmp_path, folder):
    """Its folder would be read, and removed at the end."""
    folder = folder.format(tmp=tmp_path)
    (tmp_path / "runs/a/b/tune").mkdir(parents=True)
    (tmp_path / "elsewhere/tune").mkdir(parents=True)
    tracker = types.SimpleNamespace(
        find=lambda tags: [
            types.SimpleNamespace(
                info=types.SimpleNamespace(status="KILLED"), data=types.SimpleNamespace(tags={"timbrel.folder": folder})
            )
        ]
    )
    place = Workplace(Library.open(tone_library), tracker, tmp_path / "runs")
    assert place.interrupted("fingerprint") is None


def test_a_playlist_is_not_followed_to_the_network(tmp_path):
    """ffmpeg reads what libsndfile does not, playlists included."""
    from timbrel.recording import mono_blocks

    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed, so that nothing is read by it")
    soundfile.write(tmp_path / "sound.wav", np.full(16_000, 0.1), 16_000)
    (tmp_path / "song.m3u8").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1:9/segment.ts\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(UserError, match="can't be read as audio"):
        list(mono_blocks(tmp_path / "song.m3u8", 16_000))
