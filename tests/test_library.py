"""The prepared library, and `timbrel prepare`, which adds a data set to it whole or not at all."""

import errno
import json
import random
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from timbrel import activity
from timbrel.errors import UserError
from timbrel.library import CATALOGUE, NOTES, SCHEMA_VERSION, Library, safe_name
from timbrel.prepare import prepare
from timbrel.sources import Found, Note, Performance, Skipped, Song, Stem
from timbrel.storing import store_song

RATE_HZ = 8000
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, RATE_HZ).astype(np.float32)


@dataclass(frozen=True)
class Options:
    take: int = 1


class Scripted:
    """A source that hands out given songs."""

    summary = "for tests"
    needs_path = False
    options_type = Options

    def __init__(self, *songs, name="scripted", skipped=()):
        self.songs, self.name, self.skipped = songs, name, list(skipped)

    def find(self, path, options):
        return Found(self.songs, len(self.songs), self.skipped)


def stem(name, audio=NOISE, rate_hz=RATE_HZ, instrument=None, program=None, notes=None):
    audio = np.atleast_2d(audio)
    return Stem(name, instrument or name, lambda: Performance(audio, rate_hz, notes), program)


def failing(name, error):
    def perform():
        raise error

    return Stem(name, name, perform)


def song(name, *stems, **facts):
    return Song(name, stems or (stem("piano"),), **facts)


def rows_of(root, dataset="scripted"):
    return pq.read_table(root / dataset / "catalogue.parquet").to_pylist()


def names(root):
    return sorted(path.name for path in root.iterdir())


def visible(root):
    return [name for name in names(root) if not name.startswith(".")]


def prepared(root, *songs, replace=False, **options):
    return prepare(Scripted(*songs), None, root, Options(**options), replace=replace)


# What is on the disk


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


def test_notes_of_a_mix_have_programs_and_older_libraries_have_none(tmp_path):
    notes = (Note(0.1, 0.4, 62, 90, 40), Note(0.5, 0.9, 36, 100, 128))
    prepare(Scripted(song("a", stem("mix", notes=notes)), name="mixes"), None, tmp_path, Options())
    prepare(Scripted(song("b", stem("violin", notes=notes[:1])), name="older"), None, tmp_path, Options())
    older = tmp_path / "older/notes.parquet"
    pq.write_table(pq.read_table(older).drop_columns("program"), older)
    assert Library.open(tmp_path).notes().schema.equals(NOTES)
    assert Library.open(tmp_path).notes()["program"].to_pylist() == [40, 128, None]
    assert Library.open(tmp_path).notes(("older",))["pitch"].to_pylist() == [62]


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


# Names


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


@given(st.text(max_size=120), st.text(max_size=120))
def test_safe_names(one, other):
    safe = safe_name(one)
    assert safe == safe.strip(" .")
    assert not set(safe) & set('/\\\0:*?"<>|\n')
    assert (safe == safe_name(other)) == (one == other)


def test_long_names_in_any_script(tmp_path):
    prepared(tmp_path, song("夜" * 120), song("夜" * 90 + "明"))
    assert len(rows_of(tmp_path)) == 2


# Splits


# The digest


def test_the_digest_speaks_of_content_not_of_order(tmp_path):
    def digest(folder, *songs):
        prepared(tmp_path / folder, *songs)
        return Library.open(tmp_path / folder).digest()

    songs = [song("a", stem("piano"), stem("violin", NOISE / 2)), song("b"), song("c", split="test")]
    original = digest("original", *songs)
    assert digest("reordered", songs[2], song("a", *songs[0].stems[::-1]), songs[1]) == original
    others = {
        "audio": song("b", stem("piano", np.append(NOISE[:-1], 0.1).astype(np.float32))),
        "length": song("b", stem("piano", NOISE[:-1])),
        "instrument": song("b", stem("piano", instrument="harp")),
        "program": song("b", stem("piano", program=3)),
        "split": song("b", split="valid"),
        "name": song("bb"),
        "sample rate": song("b", stem("piano", rate_hz=16_000)),
        "group": song("b", group="a"),
    }
    same = [what for what, other in others.items() if digest(what, songs[0], other, songs[2]) == original]
    assert same == []


def test_the_digest_of_a_library_is_that_of_its_data_sets(tone_library):
    library = Library.open(tone_library)
    assert library.digest() == library.digest(("tones", "clicks")) == library.digest(("clicks", "tones"))
    assert len({library.digest(), library.digest(("tones",)), library.digest(("clicks",))}) == 3


# Preparing again


def test_the_same_again_is_nothing_to_do(tmp_path):
    first, _ = prepared(tmp_path, song("a"))
    before = (tmp_path / "scripted/dataset.json").stat().st_mtime_ns
    again, done = prepared(tmp_path, song("a", failing("piano", AssertionError("not to be read again"))))
    assert (again, done) == (first, False)
    assert (tmp_path / "scripted/dataset.json").stat().st_mtime_ns == before
    assert names(tmp_path) == ["library.json", "scripted"]


def test_other_options_need_a_name_or_replace(tmp_path):
    prepared(tmp_path, song("a"))
    with pytest.raises(UserError, match=r"already holds another data set 'scripted'.*--name.*--replace"):
        prepared(tmp_path, song("b"), take=2)
    assert [row["song"] for row in rows_of(tmp_path)] == ["a"]
    facts, done = prepared(tmp_path, song("b"), take=2, replace=True)
    assert done
    assert facts["options"] == {"take": "2"}
    assert [row["song"] for row in rows_of(tmp_path)] == ["b"]
    assert not (tmp_path / "scripted/songs/a").exists()
    assert names(tmp_path) == ["library.json", "scripted"]
    prepare(Scripted(song("a")), None, tmp_path, Options(), name="mine")
    assert Library.open(tmp_path).datasets == ("mine", "scripted")


@pytest.mark.parametrize("error", [RuntimeError("a defect"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("replace", [False, True])
def test_a_failure_leaves_the_library_as_it_was(tmp_path, error, replace):
    before = None
    if replace:
        prepared(tmp_path, song("old"))
        before = Library.open(tmp_path).digest()
    with pytest.raises(type(error)):
        prepared(tmp_path, song("a"), song("b", failing("piano", error)), take=2, replace=replace)
    assert visible(tmp_path) == (["library.json", "scripted"] if replace else [])
    if replace:
        assert Library.open(tmp_path).digest() == before
        assert [row["song"] for row in rows_of(tmp_path)] == ["old"]


def test_an_interruption_while_replacing_leaves_one_of_both_whole(tmp_path, monkeypatch):
    prepared(tmp_path, *(song(f"old {number}") for number in range(3)))
    rmtree = shutil.rmtree

    def interrupted(path, ignore_errors=False):
        if any((path / "songs").glob("old*")):
            rmtree(path / "songs" / "old 1")
            raise KeyboardInterrupt
        rmtree(path, ignore_errors=ignore_errors)

    monkeypatch.setattr("timbrel.prepare.shutil.rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path, song("new"), take=2, replace=True)
    rows = rows_of(tmp_path)
    assert all((tmp_path / row["path"]).is_file() for row in rows)
    assert len({row["song"] for row in rows}) in (1, 3)


@dataclass(frozen=True)
class Recording:
    """A stem in a file, and a list of those that were read."""

    path: Path
    read: str

    def __call__(self):
        with open(self.read, "a") as file:
            file.write(f"{self.path.name}\n")
        return Performance(np.load(self.path)[None], RATE_HZ)


@pytest.fixture
def recordings(tmp_path):
    """Four songs in files; reading one of them can be made to fail, and which were read is told."""
    folder, read = tmp_path / "in", tmp_path / "read"
    folder.mkdir()
    for number in range(4):
        np.save(folder / f"{number}.npy", NOISE * (number + 1) / 8)

    def run(error_at=None, error=None, root="library", replace=False):
        read.write_text("")
        songs = [song(f"{n}", Stem("piano", "piano", Recording(folder / f"{n}.npy", str(read)))) for n in range(4)]
        if error_at is not None:
            songs[error_at] = song(f"{error_at}", failing("piano", error))
        source = Scripted(*songs)
        source.needs_path = True
        facts, done = prepare(source, folder, tmp_path / root, Options(), replace=replace)
        return facts, done, read.read_text().split()

    return run


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a defect"), OSError(errno.ENOSPC, "full")])
def test_an_interrupted_call_goes_on_where_it_was(tmp_path, recordings, error):
    undisturbed, _, _ = recordings(root="other")
    with pytest.raises((type(error), UserError)) as raised:
        recordings(error_at=2, error=error)
    if not isinstance(error, RuntimeError):
        assert "the same command goes on with the songs that are left" in str(raised.value)
    assert names(tmp_path / "library") == [".preparing-scripted"]
    facts, done, read = recordings()
    assert done
    assert read == ["2.npy", "3.npy"]
    assert facts["digest"] == undisturbed["digest"]
    for name in ("catalogue.parquet", "notes.parquet"):
        assert pq.read_table(tmp_path / "library/scripted" / name) == pq.read_table(tmp_path / "other/scripted" / name)
    assert names(tmp_path / "library") == ["library.json", "scripted"]
    assert "stored" not in names(tmp_path / "library/scripted")


def test_a_song_that_changed_meanwhile_is_stored_again(tmp_path, recordings):
    with pytest.raises(KeyboardInterrupt):
        recordings(error_at=3, error=KeyboardInterrupt())
    np.save(tmp_path / "in/1.npy", NOISE[:-7])
    _, _, read = recordings()
    assert read == ["1.npy", "3.npy"]
    assert soundfile.info(tmp_path / "library/scripted/songs/1/piano.wav").frames == len(NOISE) - 7


def test_changed_files_are_noticed(tmp_path, recordings):
    recordings()
    assert recordings()[1:] == (False, [])
    np.save(tmp_path / "in/1.npy", NOISE[:-7])
    with pytest.raises(UserError, match=r"files of .*in have changed since 'scripted' was prepared .* --replace"):
        recordings()
    _, done, read = recordings(replace=True)
    assert done
    assert len(read) == 4


def test_what_changes_while_it_is_read_is_noticed(tmp_path, recordings, monkeypatch):
    def and_change(*arguments):
        np.save(tmp_path / "in/0.npy", NOISE[:-7])
        return store_song(*arguments)

    monkeypatch.setattr("timbrel.prepare.store_song", and_change)
    recordings()
    with pytest.raises(UserError, match="have changed since 'scripted' was prepared"):
        recordings()


def test_a_disk_without_room_is_told_before_anything_is_stored(tmp_path, write_stems, prepare_stems, monkeypatch):
    folder = write_stems(tmp_path / "stems", {"a": {"piano": NOISE}})
    monkeypatch.setattr("timbrel.prepare.shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"has 0.0 GB left, the stems need .* free some space"):
        prepare_stems(folder, tmp_path / "library")
    assert not (tmp_path / "library").exists()


def test_leftovers_of_a_killed_process_are_swept_away(tmp_path):
    work = tmp_path / ".preparing-scripted"
    (work / "songs/half").mkdir(parents=True)
    (work / "songs/half/piano.wav").write_bytes(b"RIFF")
    (tmp_path / ".scripted.lock").touch()
    prepared(tmp_path, song("a"))
    assert names(tmp_path) == ["library.json", "scripted"]
    assert names(tmp_path / "scripted/songs") == ["a"]


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


def test_nothing_usable_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"nothing in scripted could be prepared \(a/x: it is broken"):
        prepared(tmp_path, song("a", failing("x", UserError("it is broken"))))
    with pytest.raises(UserError, match="it holds no song"):
        prepared(tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [UserError("it is broken"), RuntimeError("a defect"), KeyboardInterrupt()])
def test_a_first_failure_leaves_nothing(tmp_path, error):
    with pytest.raises(type(error)):
        prepared(tmp_path / "data/library", song("a", failing("piano", error)))
    assert names(tmp_path) == []
    prepared(tmp_path / "data/library", song("a"))
    with pytest.raises(type(error)):
        prepare(Scripted(song("a", failing("piano", error))), None, tmp_path / "data/library", Options(), name="other")
    assert names(tmp_path / "data/library") == ["library.json", "scripted"]


@pytest.mark.parametrize("replace", [False, True])
def test_a_folder_that_is_no_data_set_is_never_replaced(tmp_path, replace):
    """Somebody may keep the songs themselves where the library is to be."""
    (tmp_path / "scripted").mkdir()
    (tmp_path / "scripted/mine.wav").touch()
    with pytest.raises(UserError, match=r"scripted is there already and is no data set: choose another --name"):
        prepared(tmp_path, song("a"), replace=replace)
    assert names(tmp_path / "scripted") == ["mine.wav"]
    assert names(tmp_path) == ["scripted"]


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


def test_a_source_that_needs_a_path_says_so(tmp_path, prepare_stems):
    with pytest.raises(UserError, match="'stems' needs a path: timbrel prepare stems PATH --library"):
        prepare_stems(None, tmp_path / "library")
    assert not (tmp_path / "library").exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), soundfile.LibsndfileError(2)])
def test_a_full_disk_ends_in_a_sentence(tmp_path, monkeypatch, error):
    def full(*_, **__):
        raise error

    monkeypatch.setattr(soundfile, "write", full)
    with pytest.raises(UserError, match="disk"):
        prepared(tmp_path, song("a"))
    assert names(tmp_path) == []


def test_only_one_process_prepares_a_data_set(tmp_path):
    started, go_on = threading.Event(), threading.Event()

    def wait():
        started.set()
        assert go_on.wait(30)
        return Performance(NOISE[None], RATE_HZ)

    slow = threading.Thread(target=prepared, args=(tmp_path, song("slow", Stem("piano", "piano", wait))))
    slow.start()
    try:
        assert started.wait(30)
        with pytest.raises(UserError, match="another process is preparing 'scripted'"):
            prepared(tmp_path, song("b"))
        prepare(Scripted(song("c")), None, tmp_path, Options(), name="other")
        with pytest.raises(UserError, match="another process is preparing 'scripted'"):
            prepared(tmp_path, song("b"))
    finally:
        go_on.set()
        slow.join(30)
    assert [row["song"] for row in rows_of(tmp_path)] == ["slow"]
    assert names(tmp_path) == ["library.json", "other", "scripted"]


PROCESS = """
import sys, time
from pathlib import Path
import timbrel.prepare
from timbrel.errors import UserError
from timbrel.sources.house_band import SOURCE, HouseBandOptions

root, name, replace = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "replace"
print("ready", flush=True)
sys.stdin.readline()
try:
    options = HouseBandOptions(songs=2, seconds=5, sample_rate=8000)
    print("done", timbrel.prepare.prepare(SOURCE, None, root, options, name, replace=replace)[1])
except UserError as error:
    print("refused", error)
"""


def race(root, *arguments):
    """Prepare the same songs in several processes at the same time; return what each said."""
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, root, *each], stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True)
        for each in arguments
    ]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * len(processes)
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    ends = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), ends
    return [said.strip() for said, _ in ends]


def test_two_processes_prepare_one_data_set(tmp_path):
    said = race(tmp_path / "library", ("band", ""), ("band", ""))
    assert "done True" in said
    assert all(each in ("done True", "done False") or "another process is preparing 'band'" in each for each in said)
    assert names(tmp_path / "library") == ["band", "library.json"]
    assert len({row["song"] for row in rows_of(tmp_path / "library", "band")}) == 2


def test_two_processes_prepare_two_data_sets_in_a_new_library(tmp_path):
    assert race(tmp_path / "library", ("one", ""), ("two", "")) == ["done True", "done True"]
    library = Library.open(tmp_path / "library")
    assert library.datasets == ("one", "two")
    assert library.facts("one")["digest"] == library.facts("two")["digest"]
    assert names(library.root) == ["library.json", "one", "two"]


# Opening


@pytest.mark.parametrize("content", [b"", b"PAR1 and so on", None])
def test_a_damaged_catalogue_is_named(tmp_path, content):
    prepared(tmp_path, song("a"))
    file = tmp_path / "scripted/catalogue.parquet"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    with pytest.raises(UserError, match=r"catalogue\.parquet can't be read .*prepare the data set anew with --replace"):
        Library.open(tmp_path).catalogue()


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_damaged_facts_are_named_and_replaced(tmp_path, content):
    prepared(tmp_path, song("a"))
    (tmp_path / "scripted/dataset.json").write_text(content)
    with pytest.raises(UserError, match=r"dataset\.json is damaged: prepare the data set anew with --replace"):
        prepared(tmp_path, song("a"))
    prepared(tmp_path, song("b"), replace=True)
    assert [row["song"] for row in rows_of(tmp_path)] == ["b"]


def test_opening_what_is_no_library(tmp_path):
    with pytest.raises(UserError, match="is no prepared library: make one with `timbrel prepare"):
        Library.open(tmp_path / "nowhere")
    Library.create(tmp_path)
    with pytest.raises(UserError, match="holds no data set yet"):
        Library.open(tmp_path)
    assert Library.create(tmp_path).root == tmp_path


def make_newer(root):
    Library.create(root)
    (root / "library.json").write_text(json.dumps({"schema": SCHEMA_VERSION + 1}))


def test_a_newer_library_is_refused(tmp_path):
    prepared(tmp_path, song("a"))
    make_newer(tmp_path)
    with pytest.raises(UserError, match=f"has schema {SCHEMA_VERSION + 1}.*upgrade timbrel"):
        Library.open(tmp_path)


def test_nothing_is_added_to_a_newer_library(tmp_path):
    make_newer(tmp_path)
    with pytest.raises(UserError, match="upgrade timbrel"):
        prepared(tmp_path, song("a"))


def test_a_damaged_library_is_refused(tmp_path):
    (tmp_path / "library.json").write_text('{"sche')
    with pytest.raises(UserError, match=r"library\.json"):
        Library.open(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file"):
        prepared(tmp_path / "file", song("a"))


def test_catalogue_of_some_data_sets(tone_library):
    library = Library.open(tone_library)
    assert library.datasets == ("clicks", "tones")
    assert set(library.catalogue(("tones",))["dataset"].to_pylist()) == {"tones"}
    whole = library.catalogue()
    assert whole.equals(library.catalogue(("tones", "clicks")))
    assert whole.num_rows == 6 + 9 * 3 + 4
    assert library.catalogue((), ["song"]).column_names == ["song"]
    with pytest.raises(UserError, match="'tone': did you mean 'tones'"):
        library.catalogue(("tone",))


def test_a_rendered_band_has_programs_and_notes(band_library):
    library = Library.open(band_library)
    catalogue, notes = library.catalogue().to_pylist(), library.notes().to_pylist()
    assert all(0 <= row["program"] <= 128 for row in catalogue)
    lengths = {row["song"]: row["frames"] / row["sample_rate"] for row in catalogue}
    assert len(lengths) == 6
    assert {(note["song"], note["stem"]) for note in notes} <= {(row["song"], row["stem"]) for row in catalogue}
    assert all(0 <= note["onset_s"] < note["offset_s"] <= lengths[note["song"]] for note in notes)
    assert library.facts("house_band")["notes"] == len(notes) > 100
    hours = sum(row["frames"] / row["sample_rate"] for row in catalogue) / 3600
    assert library.facts("house_band")["hours"] == pytest.approx(hours, abs=1e-3)


def test_random_state_plays_no_part(tmp_path):
    digests = set()
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        prepared(tmp_path / str(seed), *(song(f"song {number}") for number in range(5)))
        digests.add(Library.open(tmp_path / str(seed)).digest())
    assert len(digests) == 1
