"""What `timbrel prepare` stores of a song, how it is named, and what it leaves out."""

import json
import random

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from scripted import NOISE, RATE_HZ, Options, Scripted, names, prepared, rows_of, song, stem
from timbrel import activity
from timbrel.library import CATALOGUE, NOTES, Library
from timbrel.prepare import prepare
from timbrel.sources import Note, Skipped


def test_layout_and_catalogue(tmp_path):
    notes = (Note(0.5, 0.9, 60, 100), Note(0.1, 0.4, 62, 90))
    facts, done = prepared(
        tmp_path,
        song("Night Owl", stem("violin"), stem("drums", program=128, notes=notes), artist="The Owls"),
        song("Blue", stem("piano", np.stack([NOISE, -NOISE / 2])), split="test", group="blues"),
    )
    assert done
    assert names(tmp_path) == ["library.json", "scripted"]
    assert names(tmp_path / "scripted") == ["catalogue.parquet", "dataset.json", "notes.parquet", "songs"]
    assert pq.read_schema(tmp_path / "scripted/catalogue.parquet").equals(CATALOGUE)
    assert pq.read_schema(tmp_path / "scripted/notes.parquet").equals(NOTES)
    blue, drums, violin = rows_of(tmp_path)
    assert [row["song"] for row in (blue, drums, violin)] == ["Blue", "Night Owl", "Night Owl"]
    assert {"path": "scripted/songs/Night Owl/drums.wav", "program": 128, "artist": "The Owls"}.items() <= drums.items()
    assert {"split": "test", "group": "blues", "channels": 2, "program": None}.items() <= blue.items()
    assert (drums["group"], violin["instrument"], violin["activity_hop"]) == ("Night Owl", "violin", 372)
    for row in (blue, drums, violin):
        info = soundfile.info(tmp_path / row["path"])
        assert (info.frames, info.samplerate, info.channels) == (row["frames"], RATE_HZ, row["channels"])
        assert info.subtype == "PCM_16"
        assert len(row["activity"]) == RATE_HZ // 372 + 1
        assert 0 < min(row["activity"]) <= max(row["activity"]) < 1
    got = pq.read_table(tmp_path / "scripted/notes.parquet").to_pylist()
    assert [(note["stem"], note["pitch"]) for note in got] == [("drums", 62), ("drums", 60)]
    assert got[1]["onset_s"] == 0.5
    assert facts == json.loads((tmp_path / "scripted/dataset.json").read_text())
    assert {"songs": 2, "stems": 3, "notes": 2, "skipped": [], "options": {"take": "1"}}.items() <= facts.items()
    assert facts["instruments"] == {"violin": 1, "drums": 1, "piano": 1}


@pytest.mark.parametrize(
    ("note", "why"),
    [
        (Note(float("nan"), 0.5, 60, 90), "has an onset or offset that is no finite number"),
        (Note(0.1, float("inf"), 60, 90), "has an onset or offset that is no finite number"),
        (Note(None, 0.5, 60, 90), "has an onset or offset that is no finite number"),
        (Note(-0.1, 0.5, 60, 90), "begins before 0 s"),
        (Note(0.5, 0.5, 60, 90), "does not end after it begins"),
        (Note(0.5, 0.5 + 1e-9, 60, 90), "does not end after it begins"),
        (Note(0.5, 0.4, 60, 90), "does not end after it begins"),
        (Note(0.5, 1.5, 60, 90), "goes on after the end of its audio, 1 s"),
        (Note(0.5, 1e300, 60, 90), "goes on after the end of its audio, 1 s"),
        (Note(0.1, 0.5, 200, 90), "has a pitch outside 0 to 127"),
        (Note(0.1, 0.5, -1, 90), "has a pitch outside 0 to 127"),
        (Note(0.1, 0.5, 60.5, 90), "has a pitch, velocity or program that is no whole number"),
        (Note(0.1, 0.5, 60, None), "has a pitch, velocity or program that is no whole number"),
        (Note(0.1, 0.5, 60, 0), "has a velocity outside 1 to 127"),
        (Note(0.1, 0.5, 60, 90, 129), "has a program outside 0 to 128"),
    ],
)
def test_a_stem_whose_notes_make_no_sense_is_left_out(tmp_path, note, why):
    good = Note(0.2, 1.005, 60, 90)
    facts, _ = prepared(tmp_path, song("a", stem("piano", notes=(good, note)), stem("violin", notes=(good,))))
    assert facts["skipped"] == [["a/piano", f"one of its notes {why}: {tuple(note)}"]]
    assert [row["stem"] for row in rows_of(tmp_path)] == ["violin"]
    assert facts["notes"] == 1


def test_notes_of_numpy_are_stored(tmp_path):
    note = Note(np.float32(0.25), np.float64(0.5), np.int64(60), np.uint8(90), np.int16(40))
    prepared(tmp_path, song("a", stem("piano", notes=(note,))))
    [row] = Library.open(tmp_path).notes().to_pylist()
    assert (row["onset_s"], row["offset_s"], row["pitch"], row["velocity"], row["program"]) == (0.25, 0.5, 60, 90, 40)


def test_shorter_stems_are_padded_with_silence(tmp_path):
    prepared(
        tmp_path, song("a", stem("piano"), stem("violin", NOISE[:5000]), stem("flute", NOISE[:1500], rate_hz=4000))
    )
    flute, piano, violin = rows_of(tmp_path)
    assert (piano["frames"], violin["frames"], flute["frames"]) == (8000, 8000, 4000)
    stored, _ = soundfile.read(tmp_path / violin["path"])
    np.testing.assert_allclose(stored[:5000], NOISE[:5000], atol=1e-4)
    assert not stored[5000:].any()
    assert len(piano["activity"]) == len(flute["activity"])


def test_loud_stems_are_kept_as_float_and_never_clipped(tmp_path):
    prepared(tmp_path, song("a", stem("piano", 3 * NOISE), stem("violin", 2 * NOISE / np.abs(NOISE).max() / 2)))
    loud, full_scale = (tmp_path / row["path"] for row in rows_of(tmp_path))
    assert (soundfile.info(loud).subtype, soundfile.info(full_scale).subtype) == ("FLOAT", "PCM_16")
    np.testing.assert_array_equal(soundfile.read(loud, dtype="float32")[0], 3 * NOISE)
    np.testing.assert_allclose(soundfile.read(full_scale)[0], NOISE / np.abs(NOISE).max(), atol=1e-4)


def test_activity_is_that_of_the_song(tmp_path):
    silent = np.zeros_like(NOISE)
    prepared(tmp_path, song("a", stem("piano"), stem("violin", silent)))
    piano, violin = rows_of(tmp_path)
    assert set(violin["activity"]) == {np.float32(activity.SILENCE)}
    assert max(piano["activity"]) > 0.99


def test_names_that_clean_to_the_same_do_not_collide(tmp_path):
    prepared(tmp_path, song("a/b"), song("a:b"), song("a_b"), song("c", stem("x/1", NOISE), stem("x:1", NOISE / 2)))
    paths = [row["path"] for row in rows_of(tmp_path)]
    assert len(set(paths)) == 5
    assert "scripted/songs/a_b/piano.wav" in paths
    levels = [np.abs(soundfile.read(tmp_path / path)[0]).max() for path in paths if "/c/" in path]
    assert max(levels) > 1.9 * min(levels)


@pytest.mark.parametrize("name", ["../x", "..", "/etc/passwd", "a/../../x", ".hidden", "", " ", "\0", "con\nsole"])
def test_names_stay_inside(tmp_path, name):
    root = tmp_path / "library"
    facts, _ = prepare(Scripted(song(name, stem(name))), None, root, Options(), name=name)
    assert names(tmp_path) == ["library"]
    (path,) = (row["path"] for row in rows_of(root, facts["name"]))
    assert (root / path).resolve().is_relative_to(root / facts["name"] / "songs")
    assert (root / path).is_file()
    assert Library.open(root).datasets == (facts["name"],)


def test_long_names_in_any_script(tmp_path):
    prepared(tmp_path, song("夜" * 120), song("夜" * 90 + "明"))
    assert len(rows_of(tmp_path)) == 2


def test_bad_files_are_named_and_the_rest_goes_on(tmp_path, write_stems, prepare_stems):
    folder = write_stems(tmp_path / "stems", {"a": {"piano": NOISE, "violin": NOISE}, "b": {"piano": NOISE}})
    (folder / "a/violin.wav").write_bytes(b"RIFF, or so it says" * 100)
    soundfile.write(folder / "a/flute.wav", np.full(100, np.nan), RATE_HZ, subtype="FLOAT")
    (folder / "b/piano.wav").write_bytes(b"")
    facts, _ = prepare_stems(folder, tmp_path / "library")
    assert [(row["song"], row["stem"]) for row in rows_of(tmp_path / "library", "stems")] == [("a", "piano")]
    reasons = dict(facts["skipped"])
    assert set(reasons) == {"a/flute", "a/violin", "b/piano", "b"}
    assert "NaN" in reasons["a/flute"]
    assert "violin.wav" in reasons["a/violin"]
    assert "no usable stem" in reasons["b"]
    assert not (tmp_path / "library/stems/songs/b").exists()


@pytest.mark.parametrize(
    ("audio", "reason"),
    [
        (np.zeros((1, 0)), "empty"),
        (np.zeros((0, 10)), "empty"),
        (np.array([[0.0, np.inf]]), "infinite"),
        (np.array([[0.0, np.nan]]), "NaN"),
    ],
)
def test_a_source_that_brings_no_sound_is_reported(tmp_path, audio, reason):
    facts, _ = prepare(
        Scripted(song("a", stem("x", audio), stem("piano")), skipped=[Skipped("z", "why")]), None, tmp_path, Options()
    )
    (first, second) = facts["skipped"]
    assert first[0] == "a/x"
    assert reason in first[1]
    assert second == ["z", "why"]


def test_what_was_found_is_counted(tmp_path):
    """Rate and channels stay as they are, so the facts say what they are; silence is kept, and said."""
    facts, _ = prepared(
        tmp_path,
        song("a", stem("piano", np.stack([NOISE, NOISE])), stem("violin", 0 * NOISE), stem("flute", 1e-4 * NOISE)),
        song("b", stem("piano", NOISE, 16_000)),
    )
    assert facts["channels"] == {"1": 3, "2": 1}
    assert facts["sample_rates"] == {"8000": 3, "16000": 1}
    assert facts["silent"] == ["a/flute", "a/violin"]
    assert facts == json.loads((tmp_path / "scripted/dataset.json").read_text())
    assert len(rows_of(tmp_path)) == 4


@pytest.mark.parametrize("rate_hz", [1, 999, 768_001, 2**31 - 1])
def test_an_impossible_sample_rate_is_reported(tmp_path, rate_hz):
    facts, _ = prepared(tmp_path, song("a", stem("piano"), stem("violin", rate_hz=rate_hz)))
    assert facts["stems"] == 1
    assert facts["skipped"] == [["a/violin", f"its sample rate of {rate_hz} Hz is not one of 1000 to 768000 Hz"]]


def test_random_state_plays_no_part(tmp_path):
    digests = set()
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        prepared(tmp_path / str(seed), *(song(f"song {number}") for number in range(5)))
        digests.add(Library.open(tmp_path / str(seed)).digest())
    assert len(digests) == 1
