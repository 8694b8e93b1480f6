import math
import resource
import zipfile

import numpy as np
import pretty_midi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from timbrel import multitrack
from timbrel.errors import UserError

TRIO = (("piano", 0), ("violin", 40), ("flute", 73))


def read_roll(path, names, shape, frame_s, low=21, first_s=0.0):
    """The roll of a MIDI file, note by note; a class is found by the name of its track."""
    roll = np.zeros(shape, dtype=bool)
    for track in pretty_midi.PrettyMIDI(str(path)).instruments:
        for note in track.notes:
            start, stop = ((time - first_s) / frame_s for time in (note.start, note.end))
            assert abs(start - round(start)) * frame_s < 0.001
            assert abs(stop - round(stop)) * frame_s < 0.001
            roll[names.index(track.name), note.pitch - low, round(start) : round(stop)] = True
    return roll


@settings(deadline=None, max_examples=60)
@given(
    roll=arrays(bool, st.tuples(st.just(3), st.just(88), st.integers(0, 12))),
    frame_s=st.sampled_from([0.064, 0.032, 512 / 44_100, 0.01, 0.0725]),
    first_s=st.sampled_from([0.0, 1.5, 61.0371]),
)
def test_midi_gives_the_roll_back(tmp_path_factory, roll, frame_s, first_s):
    path = tmp_path_factory.mktemp("midi") / "song.mid"
    multitrack.write_midi(roll, TRIO, frame_s, path, first_s=first_s)
    names = [name for name, _ in TRIO]
    np.testing.assert_array_equal(read_roll(path, names, roll.shape, frame_s, first_s=first_s), roll)


def test_midi_gives_a_long_roll_back(tmp_path):
    frames = math.ceil(3600 / 0.064)
    roll = np.zeros((3, 4, frames), dtype=bool)
    roll[1, 2, 10:20] = roll[1, 2, -7:] = roll[2, 0, frames // 2] = True
    multitrack.write_midi(roll, TRIO, 0.064, tmp_path / "a.mid", low=60)
    names = [name for name, _ in TRIO]
    np.testing.assert_array_equal(read_roll(tmp_path / "a.mid", names, roll.shape, 0.064, low=60), roll)


def test_midi_has_a_track_for_each_class_that_plays(tmp_path):
    roll = np.zeros((3, 88, 50), dtype=bool)
    roll[2, 48, 0:10] = True  # A4
    roll[2, 48, 11:20] = True
    roll[0, 0, 49] = roll[0, 87, 49] = True
    multitrack.write_midi(roll, TRIO, 0.064, tmp_path / "a.mid")
    midi = pretty_midi.PrettyMIDI(str(tmp_path / "a.mid"))
    assert [(track.name, track.program, track.is_drum) for track in midi.instruments] == [
        ("piano", 0, False),
        ("flute", 73, False),
    ]
    assert [(note.pitch, note.velocity) for note in midi.instruments[0].notes] == [(21, 80), (108, 80)]
    times = [(note.pitch, note.start, note.end) for note in midi.instruments[1].notes]
    assert times == [(69, 0.0, pytest.approx(0.64)), (69, pytest.approx(0.704), pytest.approx(1.28))]
    seconds, tempi = midi.get_tempo_changes()
    assert (seconds.tolist(), tempi.tolist()) == ([0], [120])


def test_midi_of_silence_is_a_file_without_a_track(tmp_path):
    multitrack.write_midi(np.zeros((3, 88, 156), dtype=bool), TRIO, 0.064, tmp_path / "a.mid")
    assert pretty_midi.PrettyMIDI(str(tmp_path / "a.mid")).instruments == []


def test_midi_of_more_instruments_than_channels_and_of_any_name(tmp_path):
    names = [f"Flöte 笛 {index}" for index in range(20)]
    roll = np.eye(20, dtype=bool)[:, :, None]
    multitrack.write_midi(roll, [(name, 2 * i) for i, name in enumerate(names)], 0.064, tmp_path / "a.mid")
    midi = pretty_midi.PrettyMIDI(str(tmp_path / "a.mid"), charset="utf-8")
    assert [track.name for track in midi.instruments] == names
    assert [track.program for track in midi.instruments] == list(range(0, 40, 2))
    assert [note.pitch for track in midi.instruments for note in track.notes] == list(range(21, 41))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"roll": np.zeros((2, 88, 5), bool)}, r"expected a roll \(3, pitch, frame\), got \(2, 88, 5\)"),
        ({"roll": np.zeros((3, 88), bool)}, "expected a roll"),
        ({"low": 41}, "within 0 to 127, got 88 from 41"),
        ({"low": -1}, "within 0 to 127"),
        ({"frame_s": 0.0015}, "frame_s of 0.002 or more"),
        ({"frame_s": math.nan}, "frame_s of"),
        ({"first_s": -1.0}, "first_s of 0 or more"),
        ({"classes_programs": (("piano", 0), ("drums", 128), ("flute", 73))}, "0 to 127 for drums, got 128"),
    ],
)
def test_midi_refuses_what_does_not_fit(tmp_path, options, message):
    given = {"roll": np.ones((3, 88, 5), bool), "classes_programs": TRIO, "frame_s": 0.064, "path": tmp_path / "a.mid"}
    with pytest.raises(ValueError, match=message):
        multitrack.write_midi(**given | options)
    assert not list(tmp_path.iterdir())


def rolls(frames=20):
    rng = np.random.default_rng(0)
    roll, pitch, instrument = rng.random((3, 88, frames)), rng.random((88, frames)), rng.random((3, frames))
    return {
        "roll": roll,
        "pitch": pitch,
        "instrument": instrument,
        "roll_on": roll > 0.8,
        "pitch_on": pitch > 0.7,
        "instrument_on": instrument > 0.5,
        "classes": ("piano", "violin", "Flöte"),
        "frame_s": 0.064,
        "first_s": 1.25,
    }


def test_rolls_come_back(tmp_path):
    given = rolls()
    multitrack.write_rolls(tmp_path / "a.rolls", **given)
    read = multitrack.read_rolls(tmp_path / "a.rolls")
    assert (read.classes, read.frame_s, read.low, read.first_s) == (given["classes"], 0.064, 21, 1.25)
    for name in ("roll", "pitch", "instrument"):
        assert getattr(read, name).dtype == np.float16
        np.testing.assert_allclose(getattr(read, name), given[name], atol=0.00025)
        assert getattr(read, f"{name}_on").dtype == bool
        np.testing.assert_array_equal(getattr(read, f"{name}_on"), given[f"{name}_on"])


def test_rolls_are_compressed_arrays_under_the_names_of_the_arguments(tmp_path):
    multitrack.write_rolls(tmp_path / "a.npz", **rolls(1000) | {"roll": np.zeros((3, 88, 1000))})
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert set(file) == {*rolls(), "low"}
        assert float(file["frame_s"]) == 0.064
    with zipfile.ZipFile(tmp_path / "a.npz") as file:
        assert file.getinfo("roll.npy").compress_size < 5_000


def test_rolls_refuse_shapes_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match=r"expected pitch_on \(88, 20\), got \(88, 19\)"):
        multitrack.write_rolls(tmp_path / "a.npz", **rolls() | {"pitch_on": np.zeros((88, 19), bool)})
    with pytest.raises(ValueError, match=r"expected a roll \(2, pitch, frame\), got \(3, 88, 20\)"):
        multitrack.write_rolls(tmp_path / "a.npz", **rolls() | {"classes": ("a", "b")})
    assert not list(tmp_path.iterdir())


def test_rolls_that_are_none_are_refused_in_a_sentence(tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(UserError, match=r"a.npz can't be read as rolls .*: predict the recording again"):
        multitrack.read_rolls(path)
    multitrack.write_rolls(path, **rolls())
    whole = path.read_bytes()
    for content in (b"", b"no rolls", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="can't be read as rolls"):
            multitrack.read_rolls(path)
    np.savez(path, other=np.zeros(3))
    with pytest.raises(UserError, match="can't be read as rolls"):
        multitrack.read_rolls(path)
    np.savez(path, **rolls() | {"low": 21, "pitch": np.zeros((1, 2))})
    with pytest.raises(UserError, match=r"expected pitch \(88, 20\), got \(1, 2\)"):
        multitrack.read_rolls(path)


def write_midi(path):
    multitrack.write_midi(np.ones((3, 88, 20), dtype=bool), TRIO, 0.064, path)


def write_rolls(path):
    multitrack.write_rolls(path, **rolls())


@pytest.mark.parametrize("write", [write_midi, write_rolls])
def test_a_folder_that_can_not_be_written_to_is_named(write, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in ("file", "missing"):
        with pytest.raises(
            UserError, match=r"^\S+/out can't be written \(.+\): make room, or choose another folder\.$"
        ):
            write(tmp_path / folder / "out")


@pytest.mark.parametrize("write", [write_midi, write_rolls])
def test_a_full_disk_leaves_what_was_there(write, tmp_path):
    path = tmp_path / "out"
    path.write_text("before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # as on a full disk, only a part can be written
    try:
        with pytest.raises(UserError, match=r"^\S+/out can't be written \(.+\): make room"):
            write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [each.name for each in tmp_path.iterdir()] == ["out"]
    assert path.read_text() == "before"
    write(path)
    assert len(path.read_bytes()) > 1000
