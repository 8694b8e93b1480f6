"""`timbrel prepare` adds a data set to a library whole or not at all."""

import errno
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

from scripted import NOISE, RATE_HZ, Options, Scripted, failing, names, prepared, rows_of, song, visible
from timbrel.errors import UserError
from timbrel.library import Library
from timbrel.prepare import prepare
from timbrel.sources import Performance, Stem
from timbrel.storing import store_song


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


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_damaged_facts_are_named_and_replaced(tmp_path, content):
    prepared(tmp_path, song("a"))
    (tmp_path / "scripted/dataset.json").write_text(content)
    with pytest.raises(UserError, match=r"dataset\.json is damaged: prepare the data set anew with --replace"):
        prepared(tmp_path, song("a"))
    prepared(tmp_path, song("b"), replace=True)
    assert [row["song"] for row in rows_of(tmp_path)] == ["b"]
