"""`timbrel check`: what is found in a folder, and what is wrong with it, without copying anything."""

import numpy as np
import pytest
import soundfile

from timbrel import registry
from timbrel.check import check, grouped
from timbrel.sources import Found, Header, Performance, Song, Stem
from timbrel.sources.stems import StemsOptions

RATE_HZ = 8000
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * RATE_HZ).astype(np.float32)


@pytest.fixture
def checked():
    """Check a folder of stems."""
    return lambda folder, **options: check(registry.load("source", "stems"), folder, StemsOptions(**options))


def reason(found, what):
    (why,) = (why for each, why in found.problems if each.endswith(what))
    return why


def test_what_is_there_is_counted(tmp_path, write_stems, checked):
    songs = {"a": {"violin": NOISE, "piano": np.stack([NOISE, NOISE], axis=1)}, "b": {"drums": NOISE}}
    write_stems(tmp_path / "in/train", {"a": songs["a"]}, rate_hz=RATE_HZ)
    write_stems(tmp_path / "in/test", {"b": songs["b"]}, rate_hz=RATE_HZ)
    found = checked(tmp_path / "in")
    assert (found.songs, found.stems, found.seconds, found.samples) == (2, 3, 6.0, 4 * len(NOISE))
    assert found.splits == {"train": 1, "test": 1}
    assert found.instruments == {"violin": 1, "piano": 1, "drums": 1}
    assert found.classes["key"] == found.classes["piano"] == found.classes["bowed string"] == 1
    assert (found.channels, found.sample_rates) == ({1: 2, 2: 1}, {RATE_HZ: 3})
    assert found.problems == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".aiff"])
def test_truncated_files_are_told_by_their_end(tmp_path, write_stems, checked, suffix):
    folder = write_stems(tmp_path / "in", {"a": {"piano": NOISE}}, rate_hz=RATE_HZ)
    soundfile.write(folder / f"a/violin{suffix}", NOISE, RATE_HZ)
    whole = (folder / f"a/violin{suffix}").read_bytes()
    assert checked(folder).problems == []
    (folder / f"a/violin{suffix}").write_bytes(whole[: len(whole) // 2])
    found = checked(folder)
    assert f"violin{suffix}" in reason(found, "a/violin")
    assert "export it again" in reason(found, "a/violin")
    assert found.stems == 1


def test_what_is_wrong_is_named(tmp_path, write_stems, checked):
    songs = {
        "a": {"piano": NOISE, "violin": NOISE[: len(NOISE) // 2], "theremin of doom": NOISE},
        "b": {"piano": NOISE},
    }
    folder = write_stems(tmp_path / "in", songs, rate_hz=RATE_HZ)
    (folder / "b/piano.wav").write_bytes(b"no audio at all")
    (folder / "c").mkdir()
    found = checked(folder)
    assert "differ in length, violin 1.00 s and piano 2.00 s" in reason(found, "a")
    assert "theremin of doom" in reason(found, "theremin of doom.wav")
    assert "cannot be read as audio" in reason(found, "b/piano")
    assert "none of its stems can be used" in reason(found, "b")
    assert "no audio in it" in reason(found, "c")
    assert (found.songs, found.stems) == (1, 2)


def test_tags_artists_and_what_is_yet_to_be_rendered():
    class Clip:
        def __call__(self):
            raise AssertionError("audio is not read")

        def header(self):
            return Header(1, RATE_HZ, RATE_HZ)

    def rendered():
        return Performance(NOISE[None], RATE_HZ)

    class Tagged:
        name, needs_path = "tagged", True

        def find(self, path, options):
            songs = [
                Song("a", (Stem("mix", "mix", Clip()),), "Owl", "train", tags={"rock": 1.0, "piano": 0.4}),
                Song("b", (Stem("mix", "mix", Clip()),), "Owl", None, tags={"rock": 0.6}),
                Song("c", (Stem("lead", "violin", rendered, program=33),), "Lark"),
            ]
            return Found(iter(songs), 3)

    found = check(Tagged(), None, None)
    assert found.tags == {"rock": 2}
    assert found.artists == {"Owl", "Lark"}
    assert found.splits == {"train": 1, "": 2}
    assert (found.unknown, found.seconds) == (1, 2.0)
    assert found.classes == {"plucked string": 1, "electric bass": 1}


def test_reasons_are_counted():
    problems = [("a", "bleed"), ("b", "broken"), ("c", "bleed")]
    assert grouped(problems) == [("broken", ["b"]), ("bleed", ["a", "c"])]


def test_the_command(command, tmp_path, write_stems):
    folder = write_stems(
        tmp_path / "in", {"a": {"piano": NOISE, "violin": NOISE}, "b": {"piano": NOISE}}, rate_hz=RATE_HZ
    )
    (folder / "b/piano.wav").write_bytes(b"")
    status, out, _ = command("check", "stems", folder)
    assert status == 0
    assert f"stems in {folder}: 1 song, 2 stems, 0.00 h of audio" in out
    assert "classes: key 1, piano 1, bowed string 1, violin 1" in out
    assert "piano.wav: cannot be read as audio" in out
    assert not (tmp_path / "library").exists()
    status, _, errors = command("check", "stems", tmp_path / "nowhere")
    assert status == 2
    assert "no such file or folder; expected folders <song>/<instrument>.wav" in errors
    status, _, errors = command("check", "stems", "ftq://x")
    assert status == 2
    assert "ftq" in errors
