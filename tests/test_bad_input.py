"""Bad input on the command line: each ends in one sentence with status 2, or is named and left out; no traceback.

Ray is left out here (`prepare` then works in this process); `tests/ray/test_bad_input.py` starts it.
"""

import contextlib
import http.server
import json
import threading

import numpy as np
import pandas as pd
import pytest
import soundfile

from timbrel.library import Library
from timbrel.splits import SPLITS

RATE_HZ = 16_000
TONE = 0.3 * np.sin(np.arange(RATE_HZ) / 10)


@pytest.fixture
def run(command, monkeypatch):
    """The fixture ``command`` without Ray."""
    monkeypatch.setattr("timbrel.runtime.ray_session", contextlib.nullcontext)
    return command


def refused(result, *parts):
    """Check that a command ended in one sentence, which holds all of ``parts``; return it."""
    status, _, errors = result
    sentences = [line for line in errors.splitlines() if line.startswith("timbrel: ")]
    assert (status, len(sentences)) == (2, 1), errors
    assert "Traceback" not in errors
    assert errors.endswith(sentences[0] + "\n")
    for part in parts:
        assert part in sentences[0]
    return sentences[0]


# Files


def damage(folder):
    """Fill a song's folder with files that can't be used, one of each kind; return what must be said of each."""
    soundfile.write(folder / "violin.wav", np.tile(TONE, 4), RATE_HZ)
    whole = (folder / "violin.wav").read_bytes()
    (folder / "violin.wav").write_bytes(whole[: len(whole) // 2])
    (folder / "viola.wav").write_bytes(b"")
    soundfile.write(folder / "cello.wav", np.full(RATE_HZ, np.nan), RATE_HZ, subtype="FLOAT")
    (folder / "flute.wav").write_text("this is not audio " * 500)
    (folder / "oboe.wav").write_bytes(bytes(50_000))
    soundfile.write(folder / "horn.wav", TONE[:0], RATE_HZ)
    return {
        "violin": "truncated",
        "viola": "cannot be read as audio",
        "cello": "NaN",
        "flute": "cannot be read as audio",
        "oboe": "cannot be read as audio",
        "horn": "holds no audio",
    }


def test_bad_stems_are_listed_and_the_rest_is_prepared(run, tmp_path, write_stems):
    write_stems(tmp_path / "songs", {"Night Owl": {"piano": TONE, "drums": 0 * TONE}, "Blue": {"piano": TONE}})
    expected = damage(tmp_path / "songs/Night Owl")
    status, out, _ = run("prepare", "stems", "songs", "--library", "library")
    assert status == 0
    lines = out.splitlines()
    skipped = dict(line.removeprefix("skipped Night Owl/").split(": ", 1) for line in lines if "skipped" in line)
    assert skipped.keys() == expected.keys()
    for name, reason in expected.items():
        assert reason in skipped[name]
        assert f"{name}.wav" in skipped[name]
    assert "silent, or too quiet beside their song to count, and kept: Night Owl/drums (1 stem)" in lines
    kept = Library.open(tmp_path / "library").catalogue(columns=["song", "stem"]).to_pylist()
    assert [(row["song"], row["stem"]) for row in kept] == [
        ("Blue", "piano"),
        ("Night Owl", "drums"),
        ("Night Owl", "piano"),
    ]


def test_nothing_but_bad_stems_is_one_sentence_and_leaves_nothing(run, tmp_path):
    (tmp_path / "songs/Night Owl").mkdir(parents=True)
    damage(tmp_path / "songs/Night Owl")
    refused(run("prepare", "stems", "songs", "--library", "library"), "nothing in songs could be prepared", "cello.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["songs"]


def test_channels_and_rates_are_reported(run, tmp_path, write_stems):
    write_stems(tmp_path / "songs", {"a": {"piano": TONE, "violin": np.stack([TONE, TONE], axis=1)}})
    write_stems(tmp_path / "songs", {"b": {"piano": TONE}}, rate_hz=44_100)
    status, out, _ = run("prepare", "stems", "songs", "--library", "library")
    assert status == 0
    said = "channels: 1 (2 stems), 2 (1 stem); rates: 16000 Hz (2 stems), 44100 Hz (1 stem); mixing converts them"
    assert said in out
    assert "nothing was skipped" in out
    again, out, _ = run("prepare", "stems", "songs", "--library", "library")
    assert again == 0
    assert "nothing to do" in out
    assert said in out


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_list_with_a_missing_file_and_an_unknown_instrument(run, tmp_path, kind):
    for name in ("1.wav", "2.wav"):
        soundfile.write(tmp_path / name, TONE, RATE_HZ)
    rows = [("1.wav", "a", "piano"), ("2.wav", "a", "tamborine"), ("3.wav", "a", "flute")]
    table = pd.DataFrame(rows, columns=["path", "song", "instrument"])
    if kind == "csv":
        table.to_csv(tmp_path / "list.csv", index=False)
    else:
        table.to_parquet(tmp_path / "list.parquet")
    status, out, _ = run("prepare", "stems", f"list.{kind}", "--library", "library")
    assert status == 0
    row = "line 4" if kind == "csv" else "row 3"
    assert f"skipped {tmp_path / '3.wav'}: no such file ({tmp_path / f'list.{kind}'}, {row})" in out
    assert "unknown instrument 'tamborine'" in out
    assert "did you mean 'tambourine'" in out
    option = ("--option", "unknown=error", "--name", "strict")
    refused(run("prepare", "stems", f"list.{kind}", "--library", "library", *option), "tamborine", f"list.{kind}")
    assert Library.open(tmp_path / "library").datasets == ("stems",)


def test_a_message_is_one_line_whatever_the_list_holds(run, tmp_path):
    (tmp_path / "list.csv").write_text('path,song,instrument,split\n1.wav,a,piano,"ev\nal\x1b[31m"\n')
    sentence = refused(run("prepare", "stems", "list.csv", "--library", "library"), "'ev al\\x1b[31m' is no split")
    assert "list.csv, line 3" in sentence


def test_the_songs_are_not_taken_for_a_data_set_of_the_library(run, tmp_path, write_stems):
    write_stems(tmp_path / "stems", {"a": {"piano": TONE}})
    for more in ((), ("--replace",)):
        refused(run("prepare", "stems", "stems", "--library", ".", *more), "is no data set", "--name")
    assert (tmp_path / "stems/a/piano.wav").is_file()


@pytest.mark.parametrize("path", ["file", "file/library", "/proc/library"])
def test_a_library_that_cannot_be_made(run, tmp_path, path):
    (tmp_path / "file").touch()
    refused(run("prepare", "house_band", "--library", path), path.rpartition("/")[2], "--library")


def test_a_library_of_a_newer_version(run, tmp_path, write_stems):
    write_stems(tmp_path / "songs", {"a": {"piano": TONE}})
    (tmp_path / "library").mkdir()
    (tmp_path / "library/library.json").write_text(json.dumps({"schema": 99}))
    for verb in (["train", "tagging"], ["tune", "transfer_modes"], ["evaluate", "RUN"], ["prepare", "stems", "songs"]):
        refused(run(*verb, "--library", "library"), "library.json has schema 99", "upgrade timbrel")
    assert [path.name for path in (tmp_path / "library").iterdir()] == ["library.json"]


# The tracking store


def unreachable(tmp_path, kind):
    """Make a tracking URI that can't work; return it and a part of what must be said of it."""
    if kind == "folder":
        (tmp_path / "mlflow.db").mkdir()
        return f"sqlite:///{tmp_path / 'mlflow.db'}", "is a folder"
    if kind == "text":
        (tmp_path / "mlflow.db").write_text("not a database")
        return f"sqlite:///{tmp_path / 'mlflow.db'}", "file is not a database"
    if kind == "below a file":
        (tmp_path / "file").touch()
        return f"sqlite:///{tmp_path / 'file/mlflow.db'}", "can't be made"
    return {
        "server": ("http://127.0.0.1:9", "no MLflow server answers at http://127.0.0.1:9"),
        "host": ("http://[::1", "no MLflow server answers at http://[::1"),
        "driver": ("mysql://host/database", "can't use the tracking URI mysql://host/database"),
        "nothing": ("sqlite:///", "is a folder"),
    }[kind]


STORES = ["server", "host", "driver", "nothing", "folder", "text", "below a file"]


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize(
    "verb",
    [
        ["train", "multi_instrument", "--preset", "smoke", "--library"],
        ["tune", "transfer_modes", "--preset", "smoke", "--library"],
        ["evaluate", "RUN", "--library"],
    ],
)
def test_an_unreachable_store_is_refused_before_the_work(run, tmp_path, tone_library, verb, kind):
    uri, part = unreachable(tmp_path, kind)
    before = sorted(tmp_path.iterdir())
    refused(run(*verb, tone_library, "--tracking-uri", uri), part)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("verb", [["report", "RUN"], ["list", "runs"], ["predict", "a.wav", "--run", "RUN"]])
def test_an_unreachable_store_is_refused_by_those_who_read(run, tmp_path, verb, kind):
    uri, part = unreachable(tmp_path, kind)
    refused(run(*verb, "--tracking-uri", uri), part)
    assert not (tmp_path / "predictions").exists()


class NoMlflow(http.server.BaseHTTPRequestHandler):
    """A server that answers, but is another one."""

    def do_GET(self):
        self.send_response(404)
        self.end_headers()
        self.wfile.write(b"<html>no such page</html>")

    def log_message(self, *_):
        pass


def test_a_server_that_is_another(run):
    with http.server.HTTPServer(("127.0.0.1", 0), NoMlflow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}"
        refused(run("list", "runs", "--tracking-uri", uri), f"MLflow can't use the tracking URI {uri}")
        server.shutdown()


# Values


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("train tagging --mixers -1", ["--mixers -1", "at least 0"]),
        ("train tagging --seed -3", ["seed=-3", "greater than or equal to 0"]),
        ("train tagging --config mixing.sample_rate=999999999", ["mixing.sample_rate=999999999", "768000"]),
        ("tune transfer_modes --seeds", ["--seeds takes at least one number"]),
        ("tune transfer_modes --seeds 0 -1", ["--seeds -1", "at least 0"]),
        ("tune learning_rates --samples 0", ["--samples 0", "at least 1"]),
        ("evaluate RUN --mixers -2", ["--mixers -2", "at least 0"]),
        ("list runs --limit 0", ["--limit 0", "at least 1"]),
    ],
)
def test_numbers_out_of_range(run, tmp_path, arguments, parts):
    library = [] if arguments.startswith("list") else ["--library", "nowhere"]
    refused(run(*arguments.split(), *library), *parts)
    assert not list(tmp_path.iterdir())


def test_a_report_that_cannot_be_written(run, tmp_path, monkeypatch):
    def made(_tracker, _runs, folder):
        (folder / "report.md").write_text("table")
        return "table"

    monkeypatch.setattr("timbrel.report.report", made)
    monkeypatch.setattr("timbrel.tracking.Tracker", lambda *_: None)
    (tmp_path / "file").write_text("mine")
    for out, reason in [("file", "is a file"), ("file/folder", "can't be written")]:
        refused(run("report", "RUN", "--out", out), f"{out} {reason}", "--out")
    assert (tmp_path / "file").read_text() == "mine"
    assert run("report", "RUN", "--out", "folder")[0] == 0
    assert (tmp_path / "folder" / "report.md").read_text() == "table"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_splits_without_a_song_are_counted(run, tmp_path, write_stems):
    write_stems(tmp_path / "songs", {"a": {"piano": TONE}})
    _, out, _ = run("prepare", "stems", "songs", "--library", "library")
    assert "1 songs (1 train, 0 valid, 0 test)" in out
    assert len(SPLITS) == 3
