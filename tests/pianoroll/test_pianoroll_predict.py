"""`timbrel predict` with a network whose answer is known: it hears the loudest bins, below middle C as a cello."""

import json

import numpy as np
import pretty_midi
import pytest
import soundfile
import torch
from torch import nn
from torch.nn import functional

from timbrel.config import with_values
from timbrel.errors import UserError
from timbrel.multitrack import read_rolls
from timbrel.predict import predict_files
from timbrel.trained import TrainedModel

RATE = 16_000
CELLO, FLUTE = range(2)
A3, A5 = 57, 81
LOUD = 0.97
"""Within 2.4 dB of the loudest bin of the window: the tone's own, not those beside it."""
FRAME_S = 0.064
SURE, SILENT = 600.0, -5.0


class Detector(nn.Module):
    """Bins that are among the loudest are notes: below middle C of the first instrument, above of the second."""

    def __init__(self, *arguments, front_end=None, **options):
        super().__init__()
        self.front_end = front_end

    def forward(self, x):
        x = self.front_end(x) if x.dim() == 2 else x
        low = (torch.arange(x.shape[1]) < 60 - 21)[:, None]
        sounding = torch.stack([(x > LOUD) & low, (x > LOUD) & ~low, torch.zeros_like(x, dtype=torch.bool)], dim=1)
        return functional.max_pool2d(torch.where(sounding, SURE, SILENT), (1, 2))


@pytest.fixture(params=["librosa", "torch"])
def trained(request, roll_task, monkeypatch):
    monkeypatch.setattr("tasks.pianoroll.task.PianorollNet", Detector)
    values = {"instruments": ("cello", "flute", "trumpet"), "front_end.engine": request.param}
    config = with_values(roll_task.config_type(), values)
    thresholds = {"cello": 0.5, "flute": 0.5, "trumpet": 0.5, "pianoroll": 0.85, "pitch roll": 0.85}
    return TrainedModel(roll_task, config, thresholds, {})


def tone(seconds, *spans, rate=RATE):
    """Return sines: each span is a MIDI pitch with its onset and offset in s."""
    time_s = np.arange(round(seconds * rate)) / rate
    # A filter that is four times as long answers a sine twice as loud: these are equally loud in the transform.
    waves = [
        0.1
        * 2 ** ((pitch - A3) / 24)
        * np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * time_s)
        * ((time_s >= onset) & (time_s < offset))
        for pitch, onset, offset in spans
    ]
    return np.sum(waves, axis=0) if waves else np.zeros(len(time_s))


def predict(trained, folder, *named):
    """Write recordings and predict them; return for each the notes by track, the rolls and the answer."""
    for name, audio, rate in named:
        soundfile.write(folder / name, audio, rate)
    predict_files([folder / name for name, _, _ in named], trained, folder / "out")
    stems = [folder / "out" / name.split(".")[0] for name, _, _ in named]
    return [
        (
            pretty_midi.PrettyMIDI(f"{stem}.mid").instruments,
            read_rolls(stem.with_suffix(".npz")),
            json.loads(stem.with_suffix(".json").read_text()),
        )
        for stem in stems
    ]


def test_a_steady_note_across_windows_stays_one(trained, tmp_path):
    """Windows of 9.984 s begin at 0, 8 and 16 s; the tones sound over all of their ends."""
    audio = tone(25, (A3, 3, 22), (A5, 0, 25))
    ((tracks, rolls, answer),) = predict(trained, tmp_path, ("song.wav", audio, RATE))
    assert [(track.name, track.program, track.is_drum) for track in tracks] == [
        ("cello", 42, False),
        ("flute", 73, False),
    ]
    (cello,), (flute,) = (track.notes for track in tracks)
    assert (cello.pitch, flute.pitch) == (A3, A5)
    assert cello.start == pytest.approx(3, abs=2 * FRAME_S)
    assert cello.end == pytest.approx(22, abs=2 * FRAME_S)
    assert flute.start == pytest.approx(0, abs=2 * FRAME_S)
    assert flute.end == pytest.approx(25, abs=2 * FRAME_S)
    frames = int(np.ceil(25 * RATE / 1024))
    assert rolls.roll.shape == (3, 88, frames)
    assert rolls.frame_s == pytest.approx(FRAME_S)
    assert rolls.classes == ("cello", "flute", "trumpet")
    np.testing.assert_array_equal(rolls.roll_on, rolls.roll >= 0.85)
    np.testing.assert_array_equal(rolls.pitch_on, rolls.roll_on.any(axis=0))
    np.testing.assert_array_equal(rolls.instrument_on, rolls.roll_on.any(axis=1))
    assert list(answer["seconds_played"]) == ["flute", "cello"]  # the longest first
    assert answer["seconds_played"]["cello"] == pytest.approx(19, abs=4 * FRAME_S)
    assert answer["thresholds"] == trained.thresholds


@pytest.mark.parametrize("samples", [1_600, 16_000, 159_743, 159_744, 159_745, 160_000])
def test_recordings_about_as_long_as_a_window(trained, tmp_path, samples):
    audio = tone(samples / RATE, (A5, 0, 99))
    ((tracks, rolls, _),) = predict(trained, tmp_path, ("song.wav", audio, RATE))
    assert rolls.roll.shape[-1] == -(-samples // 1024)
    ((note,),) = (track.notes for track in tracks)
    assert note.pitch == A5
    assert note.start <= 2 * FRAME_S
    assert note.end == pytest.approx(samples / RATE, abs=2 * FRAME_S)


def test_files_of_any_rate_and_channels_in_one_go(trained, tmp_path, capsys):
    stereo = np.stack([tone(4, (A3, 1, 3), rate=44_100)] * 2, axis=1)
    named = [("one.flac", stereo, 44_100), ("two.wav", tone(2, (A5, 0, 2)), RATE), ("none.wav", tone(3), RATE)]
    one, two, none = predict(trained, tmp_path, *named)
    assert [[note.pitch for note in track.notes] for track in one[0]] == [[A3]]
    assert [track.program for track in two[0]] == [73]
    assert none[0] == []
    assert none[2]["seconds_played"] == {}
    assert not none[1].roll_on.any()
    said = capsys.readouterr().out
    assert "none.wav: no note" in said
    assert "one.flac: cello 2 s" in said
    written = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert written == [f"{name}.{end}" for name in ("none", "one", "two") for end in ("json", "mid", "npz", "png")]
    assert all((tmp_path / "out" / f"{name}.png").stat().st_size > 5_000 for name in ("none", "one", "two"))


def test_what_can_not_be_read_is_named_after_the_others_are_done(trained, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"no sound at all")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "good.wav", tone(2, (A5, 0, 2)), RATE)
    files = [tmp_path / f"{name}.wav" for name in ("bad", "empty", "good", "gone")]
    with pytest.raises(UserError) as raised:
        predict_files(files, trained, tmp_path / "out")
    bad, empty, gone = str(raised.value).split("; ")
    assert "bad.wav can't be read as audio" in bad
    assert "empty.wav holds no audio" in empty
    assert "there is no file" in gone
    assert (tmp_path / "out/good.mid").is_file()
    assert not list((tmp_path / "out").glob("bad*"))


def test_the_command(trained, command, tmp_path):
    trained.save(tmp_path / "model")
    soundfile.write(tmp_path / "song.wav", tone(2, (A3, 0, 2)), RATE)
    status, out, errors = command("predict", "song.wav", "--run", "model", "--out", "heard")
    assert status == 0, errors
    assert "cello 2 s" in out
    assert pretty_midi.PrettyMIDI(str(tmp_path / "heard/song.mid")).instruments[0].program == 42
    (tmp_path / "bad.wav").write_bytes(b"no sound at all")
    status, _, errors = command("predict", "bad.wav", "--run", "model", "--out", "heard")
    assert status == 2
    assert "bad.wav can't be read as audio" in errors
    assert "Traceback" not in errors
