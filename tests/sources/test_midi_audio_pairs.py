"""Recordings with MIDI files: pairing by name, alignment against known times, pairs that do not match, damage."""

import os
import pickle

import numpy as np
import pretty_midi
import pytest
import soundfile

from timbrel.errors import UserError
from timbrel.library import Library
from timbrel.prepare import prepare
from timbrel.sources import midi_audio_pairs, midi_file
from timbrel.sources.alignment import HOP, SAMPLE_RATE_HZ, align
from timbrel.sources.base import Header, Note
from timbrel.sources.midi_audio_pairs import SOURCE, MidiAudioPairsOptions
from timbrel.sources.soundfont import find_soundfont, perform

RATE_HZ = 16_000
FRAME_S = HOP / SAMPLE_RATE_HZ
MELODY = (60, 64, 67, 65, 62, 71, 69, 60, 57, 65, 62, 67, 64, 72, 59, 60)


def piece(seed=0, seconds=24.0, drums=True):
    """Return a melody of a piano over a cello, both random, and drums."""
    generator = np.random.default_rng(seed)
    made = pretty_midi.PrettyMIDI()
    piano = pretty_midi.Instrument(0)
    cello = pretty_midi.Instrument(42)
    for at in np.arange(0.5, seconds - 1, 0.4):
        piano.notes.append(pretty_midi.Note(90, int(generator.integers(60, 84)), at, at + 0.38))
    for at in np.arange(0.5, seconds - 2, 1.6):
        cello.notes.append(pretty_midi.Note(80, int(generator.integers(40, 55)), at, at + 1.55))
    kit = pretty_midi.Instrument(0, is_drum=True)
    kit.notes = [pretty_midi.Note(70, 38, at, at + 0.1) for at in np.arange(0.5, seconds - 1, 0.8)]
    made.instruments += [piano, cello, kit] if drums else [piano, cello]
    return made


def tempo_curve(seconds):
    """Return times as written and as played: 8 % slower, faster in the middle, and a second late."""
    written = np.linspace(0, seconds, 200)
    return written, 1.0 + 1.08 * written + 0.4 * np.sin(2 * np.pi * written / seconds)


def record(made, path, seconds=24.0, warp=None):
    """Render a piece at warped times, and return the onset of each note in the order of the tracks."""
    played = pretty_midi.PrettyMIDI()
    onsets = []
    for track in made.instruments:
        copy = pretty_midi.Instrument(track.program, is_drum=track.is_drum)
        for note in track.notes:
            start, end = np.interp([note.start, note.end], *warp) if warp else (note.start, note.end)
            copy.notes.append(pretty_midi.Note(note.velocity, note.pitch, start, end))
            onsets.append(start)
        played.instruments.append(copy)
    tracks = midi_file.tracks_by_program(played)
    length = max(onsets) + 3
    audio = sum(perform(each, find_soundfont(), RATE_HZ, length).audio for each in tracks.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio.T, RATE_HZ)
    return onsets


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A folder of a pair that is played at another tempo, and one of two different pieces."""
    root = tmp_path_factory.mktemp("pairs")
    made = piece()
    made.write(str(root / "waltz.mid"))
    record(made, root / "waltz.wav", warp=tempo_curve(24.0))
    piece(seed=1).write(str(root / "other.mid"))
    record(piece(seed=2), root / "other.flac")
    return root


def find(path, **options):
    found = SOURCE.find(path, MidiAudioPairsOptions(**options))
    songs = {song.name: song for song in found.songs}  # reading them fills what was skipped
    return songs, {item.what.removeprefix(f"{path}/"): item.why for item in found.skipped}, found


def touch(root, *names):
    """Make files that may be paired, but not read."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


# Alignment


def test_notes_are_found_where_they_are_played(pairs):
    written, played = tempo_curve(24.0)
    stem = pickle.loads(pickle.dumps(find(pairs)[0]["waltz"].stems[0]))
    assert (stem.name, stem.instrument, stem.program) == ("mix", "mix", None)
    performance = stem.perform()
    as_written = stem.perform.notes()
    assert [(note.pitch, note.velocity, note.program) for note in performance.notes] == [
        (note.pitch, note.velocity, note.program) for note in as_written
    ]
    assert {note.program for note in performance.notes} == {0, 42, 128}
    for name in ("onset_s", "offset_s"):
        true = np.interp([getattr(note, name) for note in as_written], written, played)
        error = np.abs(np.array([getattr(note, name) for note in performance.notes]) - true)
        assert np.median(error) < FRAME_S
        assert np.percentile(error, 95) < 2 * FRAME_S
    assert all(note.offset_s > note.onset_s for note in performance.notes)
    assert stem.perform.header() == Header(1, RATE_HZ, performance.audio.shape[1])


def test_a_recording_at_the_written_tempo_stays_where_it_is(tmp_path):
    made = piece(seed=3)
    made.write(str(tmp_path / "a.mid"))
    record(made, tmp_path / "a.wav")
    pair = find(tmp_path)[0]["a"].stems[0].perform
    moved = [abs(after.onset_s - before.onset_s) for before, after in zip(pair.notes(), pair().notes, strict=True)]
    assert np.median(moved) < FRAME_S
    assert np.percentile(moved, 95) < 2 * FRAME_S


def test_a_pair_that_does_not_match_is_left_out_and_listed(pairs, tmp_path):
    facts, _ = prepare(SOURCE, pairs, tmp_path / "library", MidiAudioPairsOptions())
    library = Library.open(tmp_path / "library")
    [row] = library.catalogue().to_pylist()
    assert (row["song"], row["stem"], row["instrument"], row["program"]) == ("waltz", "mix", "mix", None)
    notes = library.notes().to_pandas()
    assert set(notes["program"]) == {0, 42, 128}
    assert len(notes) == facts["notes"]
    why = dict(facts["skipped"])["other/mix"]
    assert "other.flac: does not match other.mid; aligning them costs 0." in why
    assert "more than max_cost=" in why


def test_the_task_pianoroll_learns_who_plays_in_an_undivided_recording(pairs, tmp_path, pianoroll_step):
    prepare(SOURCE, pairs, tmp_path / "library", MidiAudioPairsOptions())
    columns, terms = pianoroll_step(tmp_path / "library")
    playing = columns["roll"].any(axis=(2, 3))
    assert playing[:, [0, 7]].all()  # piano and cello, in every example
    assert not np.delete(playing, [0, 7], axis=1).any()
    assert np.isfinite(terms["loss"])


def test_how_much_is_too_much_may_be_said(pairs):
    assert find(pairs, max_cost=1.5)[0]["other"].stems[0].perform().notes
    with pytest.raises(UserError, match=r"waltz\.wav: does not match"):
        find(pairs, max_cost=0.001)[0]["waltz"].stems[0].perform()


def test_costs_of_matching_and_other_pairs_are_apart(pairs):
    by_seed = {seed: midi_notes(piece(seed)) for seed in range(4)}
    audio, rate = soundfile.read(pairs / "waltz.wav", always_2d=True, dtype="float32")
    costs = {seed: align(audio.T, rate, notes).cost for seed, notes in by_seed.items()}
    assert costs[0] < 0.8 * midi_audio_pairs.MAX_COST
    assert min(costs[seed] for seed in (1, 2, 3)) > midi_audio_pairs.MAX_COST


def midi_notes(made):
    return [
        Note(note.start, note.end, note.pitch, note.velocity, 128 if track.is_drum else track.program)
        for track in made.instruments
        for note in track.notes
    ]


@pytest.mark.parametrize("silence", [0, 1])
def test_times_go_on_strictly(silence):
    """Also where the recording stands still for a while, or is of another piece altogether."""
    generator = np.random.default_rng(0)
    audio = generator.normal(0, 0.1, (1, 10 * RATE_HZ))
    audio[:, 3 * RATE_HZ : (3 + 4 * silence) * RATE_HZ] = 0
    notes = [Note(at, at + 0.2, pitch, 90, 0) for at, pitch in zip(np.arange(0, 8, 0.5), MELODY, strict=True)]
    alignment = align(audio, RATE_HZ, notes)
    assert (np.diff(alignment.midi_s) > 0).all()
    assert (np.diff(alignment.audio_s) > 0).all()
    assert all(note.offset_s > note.onset_s for note in alignment.warp(notes))


def test_long_recordings_are_aligned_in_longer_frames(monkeypatch):
    monkeypatch.setattr("timbrel.sources.alignment.MOST_FRAMES", 300)
    made = piece(drums=False)
    notes = midi_notes(made)
    tracks = midi_file.tracks_by_program(made)
    audio = sum(perform(each, find_soundfont(), RATE_HZ, 26.0).audio for each in tracks.values())
    alignment = align(audio, RATE_HZ, notes)
    assert len(alignment.midi_s) <= 302
    moved = [abs(after.onset_s - before.onset_s) for before, after in zip(notes, alignment.warp(notes), strict=True)]
    assert np.median(moved) < 2 * FRAME_S


@pytest.mark.parametrize(
    ("audio", "notes", "message"),
    [
        (np.zeros((1, RATE_HZ)), [Note(0, 1, 60, 90, 0)], "the recording is silent"),
        (np.ones((1, RATE_HZ)), [Note(0, 1, 38, 90, 128)], "holds no pitched note"),
    ],
)
def test_what_has_no_pitch_is_not_aligned(audio, notes, message):
    with pytest.raises(UserError, match=message):
        align(audio, RATE_HZ, notes)


# Recordings and MIDI files of different lengths


@pytest.fixture(scope="module")
def minute(tmp_path_factory):
    """A pair of 66 s, its audio and its piece."""
    root = tmp_path_factory.mktemp("minute")
    made = piece(seed=4, seconds=66.0, drums=False)
    made.write(str(root / "a.mid"))
    record(made, root / "a.wav")
    audio, _ = soundfile.read(root / "a.wav", dtype="float32")
    return made, audio


def pair_of(root, made, audio, until_s=None):
    """Write a pair whose MIDI file ends after a while, and return what reads it."""
    kept = pretty_midi.PrettyMIDI()
    for track in made.instruments:
        copy = pretty_midi.Instrument(track.program)
        copy.notes = [note for note in track.notes if until_s is None or note.end < until_s]
        kept.instruments.append(copy)
    kept.write(str(root / "a.mid"))
    soundfile.write(root / "a.wav", audio, RATE_HZ)
    return find(root)[0]["a"].stems[0].perform


def without(audio, seconds):
    """Cut an end off, with the silence after it."""
    return audio[: round((66 - seconds) * RATE_HZ)]


@pytest.mark.parametrize(
    ("before_s", "after_s", "lacks_s", "until_s"),
    [(0, 0, 1, None), (0, 0, 0, 65), (30, 0, 0, None), (0, 30, 0, None)],
)
def test_silence_and_a_second_more_or_less_make_no_difference(minute, tmp_path, before_s, after_s, lacks_s, until_s):
    made, audio = minute
    audio = without(audio, lacks_s) if lacks_s else audio
    pair = pair_of(tmp_path, made, np.pad(audio, (before_s * RATE_HZ, after_s * RATE_HZ)), until_s)
    notes, moved = pair.notes(), pair().notes
    assert pair.header()
    errors = [abs(after.onset_s - before.onset_s - before_s) for before, after in zip(notes, moved, strict=False)]
    assert len(notes) - len(moved) <= 5
    assert np.median(errors) < FRAME_S
    assert np.percentile(errors, 90) < 3 * FRAME_S


@pytest.mark.parametrize(
    ("lacks_s", "until_s", "why"),
    [
        (26, None, "its MIDI file seems to go on for 2[0-9] s after its recording has ended: cut the longer one"),
        (0, 40, "its recording seems to go on for 2[0-9] s after its MIDI file has ended: cut the longer one"),
        (46, None, "the recording lasts 20 s and the notes of its MIDI file 6[0-9] s: is it the same version"),
        (0, 20, "the recording lasts 6[0-9] s and the notes of its MIDI file 1[0-9] s: is it the same version"),
    ],
)
def test_a_pair_of_which_one_lacks_its_end_is_left_out(minute, tmp_path, lacks_s, until_s, why):
    made, audio = minute
    pair = pair_of(tmp_path, made, without(audio, lacks_s) if lacks_s else audio, until_s)
    with pytest.raises(UserError, match=rf"a\.wav: ({why}|does not match)"):
        pair()
    with pytest.raises(UserError, match=rf"a\.wav: {why}"):
        type(pair)(pair.audio, pair.midi, 2.0)()
    if lacks_s == 46:
        with pytest.raises(UserError, match=why):
            pair.header()


# Pairs


def test_pairs_have_one_name_in_one_folder_or_anywhere(tmp_path):
    touch(tmp_path, "a.wav", "a.mid", "deep/down/a.flac", "deep/down/a.MIDI", "mp3/17.mp3", "mid/17.mid")
    songs, skipped, found = find(tmp_path)
    assert {name: song.stems[0].perform.midi.relative_to(tmp_path).as_posix() for name, song in songs.items()} == {
        "a": "a.mid", "deep__down__a": "deep/down/a.MIDI", "mp3__17": "mid/17.mid",
    }  # fmt: skip
    assert skipped == {}
    assert found.count == 3


def test_what_has_no_partner_is_listed_by_one_reason_each(tmp_path):
    touch(tmp_path, "a.wav", "a.mid", "b.wav", "c.ogg", "d.mid", "e.m4a", "f.txt", ".a.wav", "g/a.mid")
    songs, skipped, _ = find(tmp_path)
    assert set(songs) == {"a"}
    assert skipped.pop("e.m4a") == ".m4a is not read: convert it to .wav or .flac."
    assert skipped == {
        "b.wav": midi_audio_pairs.NO_MIDI, "c.ogg": midi_audio_pairs.NO_MIDI,
        "d.mid": midi_audio_pairs.NO_AUDIO, "g/a.mid": midi_audio_pairs.NO_AUDIO,
    }  # fmt: skip


def test_names_that_are_not_clear_are_listed(tmp_path):
    touch(tmp_path, "mp3/1.mp3", "wav/1.wav", "mid/1.mid", "2.wav", "2.mp3", "2.mid", "x/y.wav", "x/y.mid")
    touch(tmp_path, "x__y.wav", "x__y.mid")
    songs, skipped, _ = find(tmp_path)
    assert set(songs) == {"2", "x__y"}
    assert {name for name, why in skipped.items() if why == midi_audio_pairs.AMBIGUOUS} == {
        "mp3/1.mp3", "wav/1.wav", "mid/1.mid",
    }  # fmt: skip
    assert skipped["2.wav"] == "named like 2.mp3: rename or remove one of them."
    assert "another recording would be called 'x__y'" in skipped["x__y.wav"]


def test_recordings_of_one_midi_file_are_one_group(tmp_path):
    touch(tmp_path, "a.wav", "b.wav", "c.wav", "c.mid")
    for name in "ab":
        (tmp_path / f"{name}.mid").write_bytes(b"the same")
    songs, _, _ = find(tmp_path)
    assert songs["a"].group == songs["b"].group != songs["c"].group


def test_find_is_the_same_twice_and_from_elsewhere(pairs, monkeypatch):
    monkeypatch.chdir(pairs.parent)
    assert find(pairs)[0] == find(type(pairs)(pairs.name))[0]


def test_pairs_may_lie_in_a_bucket(pairs, in_bucket):
    songs, skipped, _ = find(in_bucket(pairs))
    assert (list(songs), skipped) == (["other", "waltz"], {})
    here, there = find(pairs)[0]["waltz"], pickle.loads(pickle.dumps(songs["waltz"]))
    assert there.group == here.group
    assert there.stems[0].perform().notes == here.stems[0].perform().notes


# What is broken


def broken(pairs, tmp_path):
    """Return the pair that matches, in a folder in which it may be damaged, and what to call to read it."""
    for name in ("waltz.wav", "waltz.mid"):
        (tmp_path / name).write_bytes((pairs / name).read_bytes())
    pair = find(tmp_path)[0]["waltz"].stems[0].perform
    return tmp_path, (pair, pair.header)


def test_a_midi_file_without_a_note_is_refused(pairs, tmp_path):
    root, readings = broken(pairs, tmp_path)
    pretty_midi.PrettyMIDI().write(str(root / "waltz.mid"))
    for read in readings:
        with pytest.raises(UserError, match=r"waltz\.mid: holds no note"):
            read()


@pytest.mark.parametrize("content", [b"", b"MThd", b"RIFF is no MIDI", b"MThd\0\0\0\6\0\1\0\1\0\0"])
def test_a_damaged_midi_file_is_refused(pairs, tmp_path, content):
    root, readings = broken(pairs, tmp_path)
    (root / "waltz.mid").write_bytes(content)
    for read in readings:
        with pytest.raises(UserError, match=r"waltz\.mid: (not a readable MIDI file|holds no note)"):
            read()


def test_a_truncated_recording_is_refused(pairs, tmp_path):
    root, readings = broken(pairs, tmp_path)
    (root / "waltz.wav").write_bytes((root / "waltz.wav").read_bytes()[:100_000])
    for read in readings:
        with pytest.raises(UserError, match=r"waltz\.wav: truncated"):
            read()


def test_files_that_went_away_are_named(pairs, tmp_path):
    root, readings = broken(pairs, tmp_path)
    (root / "waltz.mid").unlink()
    for read in readings:
        with pytest.raises(UserError, match=r"waltz\.mid: cannot be read"):
            read()


def test_a_silent_recording_is_refused_by_name(pairs, tmp_path):
    root, (pair, _) = broken(pairs, tmp_path)
    soundfile.write(root / "waltz.wav", np.zeros(RATE_HZ), RATE_HZ)
    with pytest.raises(UserError, match=r"waltz\.wav: the recording is silent"):
        pair()


def test_a_name_that_is_not_utf8_is_reported(tmp_path):
    touch(tmp_path, "a.wav", "a.mid")
    with open(os.fsencode(tmp_path) + b"/Fl\xf6te.mid", "wb"):
        pass
    songs, skipped, _ = find(tmp_path)
    assert set(songs) == {"a"}
    assert list(skipped.values()) == ["its name is not UTF-8: rename it."]


def test_a_folder_that_cannot_be_read_is_named(pairs, monkeypatch):
    def iterdir(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(pairs), "iterdir", iterdir)
    with pytest.raises(UserError, match=r"pairs\d*: cannot be read \(Permission denied\); expected"):
        find(pairs)


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match="needs a path"):
        find(None)
    with pytest.raises(UserError, match="no such folder; expected recordings and MIDI files of the same name"):
        find(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no pair; expected"):
        find(tmp_path)
    touch(tmp_path, "a.mid")
    with pytest.raises(UserError, match=r"no pair \(first problem: .*a\.mid: a MIDI file without a recording"):
        find(tmp_path)
