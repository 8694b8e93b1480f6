"""`timbrel embed` over a real pool of actors: no song lost, whatever is killed."""

import multiprocessing
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from timbrel.embeddings.embed import embed
from timbrel.embeddings.parts import Parts
from timbrel.embeddings.sound import SongSound, songs_of
from timbrel.embeddings.store import Embeddings
from timbrel.errors import UserError
from timbrel.library import Library

pytestmark = pytest.mark.ray


@dataclass
class Peaks:
    """The peak of each second; it ends its process, or refuses, at songs that files in a folder name."""

    folder: Path
    name: str = "peaks"
    sample_rate: int = 8_000
    dimension: int = 1
    hop_s: float = 1.0
    weights: str = "none"
    digest: str = "0"
    dtype: str = "<f4"

    @property
    def settings(self):
        return {}

    def __call__(self, audio):
        return np.abs(audio[: len(audio) // 8_000 * 8_000].reshape(-1, 8_000)).max(axis=1)[:, None]

    def of_song(self, song: SongSound):
        if (self.folder / f"kill {song.name}").exists():
            (self.folder / f"kill {song.name}").unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if (self.folder / f"refuse {song.name}").exists():
            raise UserError("it is refused")
        return self(np.concatenate(list(song.blocks(self.sample_rate))))


@pytest.fixture
def own_library(composed_library, tmp_path):
    shutil.copytree(composed_library, tmp_path / "library")
    return Library.open(tmp_path / "library")


def agrees(library, teacher):
    found = Embeddings.open(library, "peaks")
    songs = songs_of(library, "house_band")
    found.check(("house_band", song.name) for song in songs)
    for song in songs:
        np.testing.assert_array_equal(found.of("house_band", song.name), teacher.of_song(song))
    return len(songs)


def test_the_pool_gives_what_one_process_gives(own_library, tmp_path, monkeypatch):
    monkeypatch.setattr("timbrel.embeddings.embed.BLOCK_SONGS", 3)
    teacher = Peaks(tmp_path)
    (done,) = embed(own_library, teacher)
    assert (done.songs, done.new, done.failed) == (12, 12, {})
    assert agrees(own_library, teacher) == 12


def test_an_actor_that_is_killed_loses_no_song(own_library, tmp_path, monkeypatch):
    monkeypatch.setattr("timbrel.embeddings.embed.BLOCK_SONGS", 2)
    names = [song.name for song in songs_of(own_library, "house_band")]
    (tmp_path / f"kill {names[5]}").touch()
    (tmp_path / f"refuse {names[7]}").touch()
    teacher = Peaks(tmp_path)
    (done,) = embed(own_library, teacher)
    assert (done.songs, done.failed) == (11, {names[7]: "it is refused"})
    assert not (tmp_path / f"kill {names[5]}").exists()
    (tmp_path / f"refuse {names[7]}").unlink()
    (done,) = embed(own_library, teacher)
    assert (done.songs, done.new) == (12, 1)
    assert agrees(own_library, teacher) == 12


def _embed_slowly(root, folder):
    """Embed in a process of its own, which kills itself at the fifth song."""
    import timbrel.embeddings.embed as module

    module.BLOCK_SONGS = 1
    embed(Library.open(root), Peaks(folder))


def test_a_command_that_is_killed_goes_on_from_there(own_library, tmp_path):
    names = [song.name for song in songs_of(own_library, "house_band")]
    (tmp_path / f"kill {names[5]}").touch()
    process = multiprocessing.get_context("spawn").Process(target=_embed_slowly, args=(own_library.root, tmp_path))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert Parts(own_library.root, "house_band", "peaks").songs() == set(names[:5])
    teacher = Peaks(tmp_path)
    (done,) = embed(own_library, teacher)
    assert (done.songs, done.new) == (12, 7)
    assert agrees(own_library, teacher) == 12


def test_the_command(ray_cluster, own_library, tmp_path, command):
    songs = songs_of(own_library, "house_band")
    vectors = tmp_path / "vectors"
    vectors.mkdir()
    for song in songs[1:]:
        np.save(vectors / f"{song.name}.npy", np.full((round(2 * song.seconds), 3), 0.5))
    line = ["embed", "files", "--path", vectors, "--hop-s", "0.5", "--library", own_library.root, "--name", "mine"]
    status, out, errors = command(*line)
    assert status == 2
    assert "'mine' of house_band: 11 songs, 3 numbers, one each 0.5 s; 11 made in" in out
    assert f"1 of 12 songs have no embedding (house_band/{songs[0].name}: there is no" in errors
    np.save(vectors / f"{songs[0].name}.npy", np.full((3, 3), 0.5))
    status, out, errors = command(*line)
    assert status == 2
    assert f"(house_band/{songs[0].name}: its embedding has 3 vectors, one each 0.5 s, but it is" in errors
    np.save(vectors / f"{songs[0].name}.npy", np.full((round(2 * songs[0].seconds), 3), 0.5))
    status, out, errors = command(*line)
    assert (status, "12 songs, 3 numbers, one each 0.5 s; 1 made in" in out) == (0, True)
    np.save(vectors / f"{songs[2].name}.npy", np.full((round(2 * songs[2].seconds), 3), 0.25))
    assert command(*line, "--replace")[0] == 0
    status, out, errors = command(*line)
    assert status == 0
    assert "12 songs, 3 numbers, one each 0.5 s; all of them were there: nothing to do" in out
    found = Embeddings.open(own_library, "mine")
    np.testing.assert_array_equal(found.window("house_band", songs[2].name, 0, 1), np.full((2, 3), 0.25))
