"""`timbrel embed` in one process: the sum of the stems, resuming, what fails, and what is there already."""

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st

from timbrel.embeddings.embed import embed
from timbrel.embeddings.sound import SongSound, added, check_length, songs_of
from timbrel.embeddings.store import Embeddings, facts_file
from timbrel.errors import UserError
from timbrel.library import Library

# The sound


def test_a_song_is_the_sum_of_its_stems(library):
    song = songs_of(library, "tones")[1]
    assert (song.name, len(song.stems), song.seconds) == ("song 1", 4, 4.0)
    stems = [soundfile.read(file, dtype="float32")[0] for file, _ in song.stems]
    np.testing.assert_allclose(np.concatenate(list(song.blocks(16_000))), np.sum(stems, axis=0), atol=1e-6)
    lower = np.concatenate(list(song.blocks(8_000)))
    np.testing.assert_allclose(lower, soxr.resample(np.sum(stems, axis=0), 16_000, 8_000), atol=1e-4)


def test_stems_of_several_rates_and_channels(tmp_path):
    time_8, time_16 = np.arange(8_000 * 3) / 8_000, np.arange(16_000 * 2) / 16_000
    low, high = 0.4 * np.sin(2 * np.pi * 200 * time_8), 0.3 * np.sin(2 * np.pi * 300 * time_16)
    soundfile.write(tmp_path / "low.wav", low, 8_000, subtype="FLOAT")
    soundfile.write(tmp_path / "high.wav", np.stack([2 * high, 0 * high], axis=1), 16_000, subtype="FLOAT")
    song = SongSound("d", "s", ((tmp_path / "high.wav", 16_000), (tmp_path / "low.wav", 8_000)), 3.0)
    got = np.concatenate(list(song.blocks(8_000)))
    expected = low + np.pad(soxr.resample(high, 16_000, 8_000), (0, 8_000))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=2e-3)


@given(st.lists(st.lists(st.integers(0, 7), max_size=5), min_size=1, max_size=4))
def test_blocks_of_any_length_are_added(lengths):
    generator = np.random.default_rng(0)
    parts = [[generator.integers(-9, 9, length).astype(np.float32) for length in each] for each in lengths]
    wholes = [np.concatenate([*each, np.zeros(0, dtype=np.float32)]) for each in parts]
    longest = max(map(len, wholes))
    expected = sum(np.pad(whole, (0, longest - len(whole))) for whole in wholes)
    got = [np.zeros(0, dtype=np.float32), *added(parts)]
    np.testing.assert_array_equal(np.concatenate(got), expected)


@pytest.mark.parametrize(
    ("found", "hop_s", "seconds", "fits"),
    [(10, 0.96, 10, True), (11, 0.96, 10, True), (20, 0.48, 10, True), (10, 0.48, 10, False), (10, 2, 10, False),
     (1, 0, 10, True), (2, 0, 10, False), (1, 1, 0.2, True), (28, 1, 29, True)],
)  # fmt: skip
def test_another_rate_than_was_said_is_noticed(found, hop_s, seconds, fits):
    if fits:
        check_length(found, hop_s, seconds)
    else:
        with pytest.raises(UserError, match="--hop-s"):
            check_length(found, hop_s, seconds)


# The run


def test_every_song_is_embedded(library, level):
    done = embed(library, level)
    assert [(each.dataset, each.songs, each.new, each.failed) for each in done] == [
        ("clicks", 3, 3, {}),
        ("tones", 9, 9, {}),
    ]
    found = Embeddings.open(library, "level")
    for song in songs_of(library, "tones"):
        expected = level(np.concatenate(list(song.blocks(8_000))))
        assert expected.shape == (4, 2)
        np.testing.assert_array_equal(found.of("tones", song.name), expected)


def test_a_second_run_does_nothing_and_another_teacher_is_refused(library, level):
    embed(library, level, datasets=["tones"])
    file = facts_file(library.root, "tones", "level").with_suffix(".arrow")
    before, heard = file.stat().st_mtime_ns, len(level.heard)
    (done,) = embed(library, level, datasets=["tones"])
    assert (done.songs, done.new) == (9, 0)
    assert (file.stat().st_mtime_ns, len(level.heard)) == (before, heard)
    level.digest = "1"
    with pytest.raises(UserError, match=r"'tones' has other embeddings 'level' \(digest 0, not 1\).*--name.*--replace"):
        embed(library, level, datasets=["tones"])
    (done,) = embed(library, level, datasets=["tones"], replace=True)
    assert done.new == 9
    (done,) = embed(library, level, "second", datasets=["tones"])
    assert done.new == 9
    assert Embeddings.open(library, "second").datasets == ("tones",)
    with pytest.raises(UserError, match=r"--name '\.\./x'"):
        embed(library, level, "../x")


def test_songs_that_fail_are_named_and_the_others_kept(library, failing):
    (done,) = embed(library, failing, datasets=["tones"])
    assert (done.songs, done.new) == (7, 7)
    assert done.failed == {"song 3": "its sound is odd", "song 5": "ValueError: no idea"}
    with pytest.raises(UserError, match=r"2 of 9 songs have no embedding 'level' \(tones/song 3, tones/song 5\)"):
        Embeddings.open(library, "level").check(("tones", f"song {number}") for number in range(9))
    failing.fails, failing.heard = (), []
    (done,) = embed(library, failing, datasets=["tones"])
    assert (done.songs, done.new, sorted(failing.heard)) == (9, 2, ["song 3", "song 5"])


def test_nothing_is_left_where_every_song_fails(library, level):
    level.dtype, level.dimension = "<f4", 7
    (done,) = embed(library, level, datasets=["tones"])
    assert (done.songs, done.new) == (0, 0)
    assert set(done.failed.values()) == {"its embedding has the shape (4, 2), not (time, 7)"}
    assert list((library.root / "tones/embeddings").iterdir()) == []


def test_what_was_done_before_a_kill_is_not_done_again(library, level, monkeypatch):
    monkeypatch.setattr("timbrel.embeddings.embed.BLOCK_SONGS", 2)
    level.fails = (("song 6", KeyboardInterrupt()),)
    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        embed(library, level, datasets=["tones"])
    with pytest.raises(UserError, match="no embeddings 'level'"):
        Embeddings.open(library, "level")
    level.fails, level.heard = (), []
    (done,) = embed(library, level, datasets=["tones"])
    assert level.heard == ["song 6", "song 7", "song 8"]
    assert (done.songs, done.new) == (9, 3)
    Embeddings.open(library, "level").check(("tones", f"song {number}") for number in range(9))


def test_a_data_set_that_was_prepared_again_is_embedded_again(library, level):
    embed(library, level, datasets=["tones"])
    facts = library.root / "tones/dataset.json"
    facts.write_text(facts.read_text().replace(library.facts("tones")["digest"], "0123456789abcdef"))
    again = Library.open(library.root)
    with pytest.raises(UserError, match="prepared again"):
        Embeddings.open(again, "level")
    (done,) = embed(again, level, datasets=["tones"])
    assert done.new == 9
    Embeddings.open(again, "level")


def test_damaged_sound_and_nan_are_named(library, level):
    song = library.root / "tones/songs/song 2"
    (song / "piano.wav").write_bytes(b"RIFF")
    other = library.root / "tones/songs/song 4/piano.wav"
    soundfile.write(other, np.full(64_000, np.nan), 16_000, subtype="FLOAT")
    (done,) = embed(library, level, datasets=["tones"])
    assert done.failed.keys() == {"song 2", "song 4"}
    assert "piano.wav can't be read as audio" in done.failed["song 2"]
    assert "piano.wav holds NaN" in done.failed["song 4"]


def test_long_songs_are_heard_block_by_block(tmp_path):
    soundfile.write(tmp_path / "long.wav", np.zeros(36_000 * 100), 100)
    song = SongSound("d", "s", ((tmp_path / "long.wav", 100),) * 3, 36_000.0)
    blocks = song.blocks(50)
    assert len(next(blocks)) <= 30 * 50
