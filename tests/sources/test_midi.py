"""MIDI files to songs: merged programs, duplicates grouped, damaged files named and left out."""

import os
import pickle
import shutil
import sys

import numpy as np
import pretty_midi
import pytest

from timbrel.errors import UserError
from timbrel.sources import midi
from timbrel.sources.midi import SOURCE, MidiOptions
from timbrel.sources.soundfont import find_soundfont

RATE_HZ = 8000


def write(path, *tracks):
    """Write a MIDI file of ``(program, [(pitch, start_s, end_s), ...])`` tracks; program 128 is drums."""
    made = pretty_midi.PrettyMIDI()
    for program, notes in tracks:
        drums = program == 128
        instrument = pretty_midi.Instrument(0 if drums else program, is_drum=drums)
        instrument.notes = [pretty_midi.Note(100, *note) for note in notes]
        made.instruments.append(instrument)
    path.parent.mkdir(parents=True, exist_ok=True)
    made.write(str(path))
    return path


def find(path, **options):
    return SOURCE.find(path, MidiOptions(sample_rate=RATE_HZ, **options))


def test_one_stem_a_program(tmp_path):
    write(
        tmp_path / "a.mid",
        (40, [(69, 0.0, 1.0)]),
        (33, [(40, 0.0, 1.0)]),
        (40, [(72, 1.0, 2.0)]),
        (128, [(36, 0.0, 0.1)]),
        (128, [(38, 0.5, 0.6)]),
        (0, []),
    )
    (song,) = find(tmp_path).songs
    assert [(stem.name, stem.instrument, stem.program) for stem in song.stems] == [
        ("electric_bass_finger", "Electric Bass (finger)", 33),
        ("violin", "Violin", 40),
        ("drum_set", "drum set", 128),
    ]
    performances = [stem.perform() for stem in song.stems]
    assert {performance.audio.shape for performance in performances} == {(1, 4 * RATE_HZ)}  # 2 s and the tail.
    assert [[note.pitch for note in performance.notes] for performance in performances] == [
        [40],
        [69, 72],
        [36, 38],
    ]


def test_notes_are_where_they_are_heard(tmp_path):
    (song,) = find(write(tmp_path / "a.mid", (0, [(60, 1.0, 2.0)]))).songs
    performance = song.stems[0].perform()
    (note,) = performance.notes
    assert (note.onset_s, note.offset_s) == pytest.approx((1.0, 2.0), abs=0.005)
    loud = np.flatnonzero(np.abs(performance.audio[0]) > 0.05 * np.abs(performance.audio).max())
    assert loud[0] / RATE_HZ == pytest.approx(note.onset_s, abs=0.015)


def test_damaged_files_are_named_and_the_rest_goes_on(tmp_path):
    good = write(tmp_path / "good.mid", (0, [(60, 0.0, 1.0)]))
    write(tmp_path / "no notes.mid", (0, []))
    (tmp_path / "empty.mid").touch()
    (tmp_path / "garbage.mid").write_bytes(bytes(range(256)))
    (tmp_path / "cut.mid").write_bytes(good.read_bytes()[:-20])
    (tmp_path / "notes.txt").write_text("not ours")
    found = find(tmp_path)
    assert [song.name for song in found.songs] == ["good"]
    reasons = {skip.what.rsplit("/")[-1]: skip.why for skip in found.skipped}
    assert reasons.keys() == {"no notes.mid", "empty.mid", "garbage.mid", "cut.mid"}
    assert reasons.pop("no notes.mid") == "it holds no note"
    assert all(reason.startswith("not a readable MIDI file (") for reason in reasons.values())


@pytest.mark.skipif(sys.platform == "darwin", reason="file systems of macOS take no other names")
def test_names_that_are_not_utf8_are_reported(tmp_path):
    write(tmp_path / "good.mid", (0, [(60, 0.0, 1.0)]))
    os.rename(write(tmp_path / "bad.mid", (0, [(60, 0.0, 1.0)])), os.fsencode(tmp_path) + b"/Fr\xfchling.mid")
    found = find(tmp_path)
    assert [song.name for song in found.songs] == ["good"]
    [skipped] = found.skipped
    assert skipped.what.endswith("Fr\\udcfchling.mid")
    assert "not UTF-8" in skipped.why


def test_random_damage_never_stops_the_rest(tmp_path):
    original = write(tmp_path / "original.mid", (0, [(60, 0.0, 1.0)]), (128, [(36, 0.0, 0.1)])).read_bytes()
    rng = np.random.default_rng(0)
    for number in range(300):
        damaged = np.frombuffer(original, np.uint8).copy()
        damaged[rng.integers(len(damaged), size=3)] = rng.integers(256, size=3)
        (tmp_path / f"{number}.mid").write_bytes(damaged.tobytes())
    found = find(tmp_path)
    songs = list(found.songs)
    assert "original" in {song.name for song in songs}
    assert len(songs) + len(found.skipped) == found.count == 301
    assert len(found.skipped) > 50


def test_copies_fall_into_one_group(tmp_path):
    first = write(tmp_path / "a.mid", (0, [(60, 0.0, 1.0)]))
    shutil.copy(first, tmp_path / "copy.MIDI")
    write(tmp_path / "other.mid", (0, [(61, 0.0, 1.0)]))
    groups = {song.name: song.group for song in find(tmp_path).songs}
    assert groups["a"] == groups["copy"] != groups["other"]
    assert all(groups.values())


def test_several_soundfonts_render_one_group(tmp_path):
    other = tmp_path / "other.sf2"
    shutil.copy(find_soundfont(), other)
    write(tmp_path / "midi/a.mid", (0, [(60, 0.0, 1.0)]))
    found = find(tmp_path / "midi", soundfont=f"{find_soundfont()}, {other}")
    songs = list(found.songs)
    assert [song.name for song in songs] == ["a__TimGM6mb", "a__other"]
    assert len({song.group for song in songs}) == 1
    assert found.count == 2
    one, two = (song.stems[0].perform().audio for song in songs)
    assert np.array_equal(one, two)


def test_names_are_unique(tmp_path):
    for name in ("b.mid", "b.midi", "x/b.mid", "x__b.mid"):
        write(tmp_path / name, (0, [(60, 0.0, 1.0)]))
    names = sorted(song.name for song in find(tmp_path).songs)
    assert names == ["b", "b-2", "x__b", "x__b-2"]


def test_a_limit_takes_the_same_part_whatever_the_machine_lists_first(tmp_path):
    for number in range(20):
        write(tmp_path / f"{number:02d}.mid", (0, [(60 + number, 0.0, 1.0)]))
    part = [song.name for song in find(tmp_path, limit=5).songs]
    assert len(part) == 5
    assert part != sorted(part)
    assert [song.name for song in find(tmp_path).songs][:5] == part
    assert find(tmp_path, limit=5).count == 5


def test_long_music_is_cut(tmp_path):
    write(tmp_path / "a.mid", (0, [(60, 0.0, 10.0)]), (40, [(69, 8.0, 9.0)]))
    write(tmp_path / "late.mid", (0, [(60, 8.0, 9.0)]))
    found = find(tmp_path, max_seconds=5.0)
    (song,) = found.songs
    assert [stem.program for stem in song.stems] == [0]
    performance = song.stems[0].perform()
    assert performance.audio.shape == (1, 5 * RATE_HZ)
    assert performance.notes[-1].offset_s == 5.0
    assert [skip.why for skip in found.skipped] == ["its first note comes after 5 s"]


def test_files_are_read_when_their_song_is_asked_for(tmp_path):
    (tmp_path / "bad.mid").touch()
    found = find(tmp_path)
    assert not found.skipped
    assert not list(found.songs)
    assert found.skipped


def test_stems_pickle_small(tmp_path):
    write(tmp_path / "a.mid", (0, [(60, i / 10, i / 10 + 0.1) for i in range(1000)]))
    (song,) = find(tmp_path, max_seconds=2.0).songs
    assert len(pickle.dumps(song)) < 2000
    copy = pickle.loads(pickle.dumps(song)).stems[0]
    assert np.array_equal(copy.perform().audio, song.stems[0].perform().audio)


def test_a_file_that_vanished(tmp_path):
    path = write(tmp_path / "a.mid", (0, [(60, 0.0, 1.0)]))
    (song,) = find(tmp_path).songs
    write(tmp_path / "b.mid", (0, [(62, 0.0, 1.0)]))
    path.unlink()
    midi._read.cache_clear()
    with pytest.raises(UserError, match=r"a\.mid' cannot be read any more"):
        song.stems[0].perform()


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match="no MIDI file"):
        find(tmp_path)
    with pytest.raises(UserError, match="no folder or MIDI file at"):
        find(tmp_path / "missing")
    with pytest.raises(UserError, match="give its path"):
        find(None)
