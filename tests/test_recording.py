"""Recordings in whatever format: the same sound, block by block, and one sentence about what can't be read."""

import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from timbrel import recording
from timbrel.errors import UserError
from timbrel.recording import mono_blocks

RATE = 16_000


def tone(seconds, rate=RATE):
    return 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)


def loudest_hz(audio, rate=RATE):
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
    return np.argmax(spectrum) * rate / len(audio)


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3", "aiff"])
def test_formats_of_libsndfile(tmp_path, kind):
    file = tmp_path / f"a.{kind}"
    soundfile.write(file, np.stack([tone(2, 44_100), np.zeros(88_200)], axis=1), 44_100)
    audio = np.concatenate(list(mono_blocks(file, RATE)))
    assert audio.dtype == np.float32
    assert len(audio) == pytest.approx(2 * RATE, abs=0.1 * RATE)  # mp3 pads
    assert loudest_hz(audio) == pytest.approx(440, abs=2)
    assert np.sqrt(2 * np.mean(audio**2)) == pytest.approx(0.15, rel=0.1)  # the mean of both channels


def test_what_libsndfile_lacks_needs_ffmpeg(tmp_path, monkeypatch):
    monkeypatch.setattr(recording.shutil, "which", lambda name: None)
    (tmp_path / "song.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    with pytest.raises(UserError, match=r"song\.m4a can't be read as audio .* or install ffmpeg"):
        list(mono_blocks(tmp_path / "song.m4a", RATE))


@pytest.fixture(scope="module")
def m4a(tmp_path_factory):
    """A tone of 70 s on the left of two channels, as AAC."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    folder = tmp_path_factory.mktemp("m4a")
    soundfile.write(folder / "a.wav", np.stack([tone(70, 44_100), np.zeros(70 * 44_100)], axis=1), 44_100)
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(folder / "a.wav"), str(folder / "-odd name.m4a")]
    subprocess.run(command, check=True)
    return folder / "-odd name.m4a"


def test_an_m4a_is_the_same_sound_in_blocks(m4a):
    blocks = list(mono_blocks(m4a, RATE))
    assert [len(block) for block in blocks[:-1]] == [30 * RATE, 30 * RATE]
    audio = np.concatenate(blocks)
    assert len(audio) == pytest.approx(70 * RATE, abs=0.1 * RATE)
    assert loudest_hz(audio) == pytest.approx(440, abs=1)
    assert np.sqrt(2 * np.mean(audio**2)) == pytest.approx(0.15, rel=0.1)


def test_a_reader_that_stops_leaves_no_process(m4a):
    blocks = mono_blocks(m4a, RATE)
    next(blocks)
    blocks.close()
    running = subprocess.run(["pgrep", "-f", "odd name.m4a"], capture_output=True, text=True, check=False)
    assert running.stdout == ""


def test_a_damaged_file_is_named_with_what_ffmpeg_said(m4a, tmp_path):
    (tmp_path / "half.m4a").write_bytes(m4a.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"half\.m4a can't be read as audio \(.+\)"):
        list(mono_blocks(tmp_path / "half.m4a", RATE))


def test_a_file_cut_short_is_named(tmp_path):
    soundfile.write(tmp_path / "a.flac", tone(60), RATE)
    whole = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cut\.flac can't be read to its end .* damaged"):
        list(mono_blocks(tmp_path / "cut.flac", RATE))
