"""Rendering: right pitch, right time, right loudness, and the same bits whatever was rendered before."""

import sys

import numpy as np
import pretty_midi
import pytest

from timbrel.errors import UserError
from timbrel.sources import soundfont
from timbrel.sources.base import Note
from timbrel.sources.soundfont import find_soundfont, perform, program_name, render, sounding_notes, stem_name, until

RATE_HZ = 16000
SOUNDFONT = find_soundfont()
PIANO, ORGAN, VIOLIN, CHOIR, PAD = 0, 16, 40, 52, 89


def track(*notes, program=PIANO, controls=(), bends=(), is_drum=False):
    """A track of ``(pitch, start_s, end_s[, velocity])`` notes and ``(number, value, time_s)`` controls."""
    made = pretty_midi.Instrument(program, is_drum=is_drum)
    made.notes = [pretty_midi.Note((*rest, 100)[0], pitch, start, end) for pitch, start, end, *rest in notes]
    made.control_changes = [pretty_midi.ControlChange(*control) for control in controls]
    made.pitch_bends = [pretty_midi.PitchBend(*bend) for bend in bends]
    return made


def played(made, seconds=2.0):
    return render(made, SOUNDFONT, RATE_HZ, seconds)[0]


def level_db(samples):
    return 20 * np.log10(np.sqrt(np.mean(np.square(samples))) + 1e-12)


def fundamental_hz(samples):
    """The first strong peak of the spectrum, to a fraction of 1 Hz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), n=1 << 18))
    strong = np.flatnonzero(spectrum > 0.2 * spectrum.max())
    start = strong[0]
    window = spectrum[start : start + 2 * (1 << 18) // len(samples)]
    return (start + window.argmax()) * RATE_HZ / (1 << 18)


def spans(notes):
    return [(note.pitch, round(note.onset_s, 6), round(note.offset_s, 6)) for note in notes]


# What is heard


def test_notes_are_ordered_and_those_without_length_dropped():
    notes = sounding_notes(track((64, 1.0, 2.0, 90), (60, 0.0, 1.0, 80), (62, 1.0, 1.0)))
    assert notes == (Note(0.0, 1.0, 60, 80), Note(1.0, 2.0, 64, 90))


def test_pedal_holds_notes_until_it_is_lifted():
    pedal = [(64, 127, 0.5), (64, 0, 3.0)]
    notes = sounding_notes(track((60, 0.0, 0.4), (62, 0.2, 1.0), (64, 2.8, 3.5), (65, 4.0, 4.5), controls=pedal))
    assert spans(notes) == [(60, 0.0, 0.4), (62, 0.2, 3.0), (64, 2.8, 3.5), (65, 4.0, 4.5)]


def test_pedal_never_lifted_holds_to_the_last_written_end():
    notes = sounding_notes(track((60, 0.0, 1.0), (62, 3.0, 5.0), controls=[(64, 64, 0.0)]))
    assert spans(notes) == [(60, 0.0, 5.0), (62, 3.0, 5.0)]


def test_half_a_pedal_is_none_and_drums_have_none():
    assert spans(sounding_notes(track((60, 0.0, 1.0), controls=[(64, 63, 0.0), (64, 0, 2.0)]))) == [(60, 0.0, 1.0)]
    drums = track((38, 0.0, 0.1), controls=[(64, 127, 0.0), (64, 0, 2.0)], is_drum=True)
    assert spans(sounding_notes(drums)) == [(38, 0.0, 0.1)]


def test_a_pitch_struck_again_under_the_pedal_ends_the_first():
    notes = sounding_notes(track((60, 0.0, 0.5), (60, 1.0, 1.5), controls=[(64, 127, 0.2), (64, 0, 2.0)]))
    assert spans(notes) == [(60, 0.0, 1.0), (60, 1.0, 2.0)]


def test_overlapping_notes_of_one_pitch_never_overlap():
    drone, repeated = track((60, 0.0, 10.0)), track((60, 1.0, 2.0), (60, 3.0, 4.0))
    assert spans(sounding_notes(drone, repeated)) == [(60, 0.0, 1.0), (60, 1.0, 3.0), (60, 3.0, 10.0)]


def test_of_two_notes_struck_together_the_louder_stays_and_the_longer_end():
    assert sounding_notes(track((60, 1.0, 3.0, 50), (60, 1.0, 2.0, 90))) == (Note(1.0, 3.0, 60, 90),)


def test_a_note_that_ends_before_it_begins_is_none_even_under_the_pedal():
    backwards = track((60, 1.0, 1.0), (62, 0.0, 2.0), controls=[(64, 127, 0.0), (64, 0, 3.0)])
    backwards.notes[0].end = 0.5
    assert spans(sounding_notes(backwards)) == [(62, 0.0, 3.0)]


def test_a_pedal_changed_at_once_is_as_it_was_left():
    for values, end_s in (((127, 0), 1.0), ((0, 127), 2.0)):
        controls = [(64, value, 0.5) for value in values] + [(64, 0, 2.0)]
        assert spans(sounding_notes(track((60, 0.0, 1.0), controls=controls))) == [(60, 0.0, end_s)]


def test_notes_end_with_the_audio_and_are_not_too_short_to_be_stored():
    notes = [Note(0.0, 5.0, 60, 90), Note(2.0, 3.0, 62, 90), Note(1.5, 1.5 + 1e-9, 64, 90), Note(1.9, 2.0, 65, 90)]
    assert until(notes, 2.0) == (Note(0.0, 2.0, 60, 90), Note(1.9, 2.0, 65, 90))


# Sound


@pytest.mark.parametrize(("program", "pitch"), [(ORGAN, 45), (ORGAN, 69), (VIOLIN, 57), (VIOLIN, 69), (VIOLIN, 76)])
def test_pitch(program, pitch):
    samples = played(track((pitch, 0.0, 2.0), program=program))[RATE_HZ // 2 :]
    wanted_hz = 440 * 2 ** ((pitch - 69) / 12)
    heard_hz = fundamental_hz(samples)
    octave = round(np.log2(heard_hz / wanted_hz))  # An organ's drawbars sound the octave below, too.
    assert abs(12 * np.log2(heard_hz / wanted_hz) - 12 * octave) < 0.2
    assert octave in ((-1, 0) if program == ORGAN else (0,))


def test_pitch_bend_and_its_range():
    whole_step_up = played(track((69, 0.0, 2.0), program=VIOLIN, bends=[(8191, 0.0)]))
    assert fundamental_hz(whole_step_up[RATE_HZ // 2 :]) == pytest.approx(440 * 2 ** (2 / 12), rel=0.01)
    rpn = [(101, 0, 0.0), (100, 0, 0.0), (6, 12, 0.0), (38, 0, 0.0)]
    octave_up = played(track((57, 0.0, 2.0), program=VIOLIN, bends=[(8191, 0.01)], controls=rpn))
    assert fundamental_hz(octave_up[RATE_HZ // 2 :]) == pytest.approx(440, rel=0.01)


@pytest.mark.parametrize("made", [track((60, 0.7, 1.5)), track((38, 0.7, 0.8), is_drum=True)])
def test_onset(made):
    samples = np.abs(played(made))
    onset_s = np.flatnonzero(samples > 0.02 * samples.max())[0] / RATE_HZ
    assert 0.699 <= onset_s <= 0.715
    assert not samples[: int(0.699 * RATE_HZ)].any()


def test_pedal_is_heard():
    short = track((60, 0.0, 0.3))
    held = track((60, 0.0, 0.3), controls=[(64, 127, 0.1), (64, 0, 1.8)])
    late = slice(RATE_HZ, int(1.5 * RATE_HZ))
    assert level_db(played(held)[late]) > level_db(played(short)[late]) + 30


@pytest.mark.parametrize("control", [7, 11])
def test_volume_and_expression(control):
    loud = played(track((60, 0.0, 1.0), controls=[(control, 100, 0.0)]))
    soft = played(track((60, 0.0, 1.0), controls=[(control, 50, 0.0)]))
    assert 15 < level_db(loud) - level_db(soft) < 20  # 60 log10(100 / 50) dB


def test_volume_starts_at_the_general_midi_default():
    assert np.array_equal(played(track((60, 0, 1))), played(track((60, 0, 1), controls=[(7, 100, 0.0)])))


def test_velocity():
    assert level_db(played(track((60, 0, 1, 110)))) > level_db(played(track((60, 0, 1, 50)))) + 6


def test_silence_is_silent_and_no_offset_remains():
    samples = played(track((60, 1.0, 1.5), program=65), seconds=4.0)  # An alto sax whose sample has an offset.
    assert not samples[:RATE_HZ].any()
    assert not samples[3 * RATE_HZ :].any()
    assert abs(samples.mean()) < 1e-4


def test_the_end_of_a_cut_note_does_not_click():
    samples = played(track((60, 0.0, 5.0), program=ORGAN), seconds=1.0)
    assert samples[-1] == 0
    assert np.abs(samples[-20:]).max() < 0.1 * np.abs(samples).max()


def test_shape_and_type():
    audio = render(track((60, 0.0, 1.0)), SOUNDFONT, 22050, 1.2345)
    assert audio.shape == (1, round(1.2345 * 22050))
    assert audio.dtype == np.float32


# The same bits


def test_rendering_depends_on_nothing_rendered_before():
    messy = track(
        *((pitch, 0.0, 30.0, 127) for pitch in range(40, 70)),
        program=PAD,
        controls=[(7, 20, 0.0), (11, 5, 0.0), (101, 0, 0), (100, 0, 0), (6, 24, 0)],
        bends=[(-8000, 0.1)],
    )
    tracks = [track((60, 0.0, 1.0), (64, 0.5, 1.5), program=program) for program in (PIANO, CHOIR, PAD, VIOLIN)]
    tracks.append(track((38, 0.0, 0.1), (49, 0.5, 0.6), program=25, is_drum=True))
    first = [played(made) for made in tracks]
    for made, before in reversed(list(zip(tracks, first, strict=True))):
        played(messy, seconds=0.5)
        assert np.array_equal(played(made), before)


def test_a_fresh_synthesiser_renders_the_same_bits():
    made = track((60, 0.0, 1.0), program=CHOIR)
    before = played(made)
    soundfont._load.cache_clear()
    assert np.array_equal(played(made), before)


# One stem of several tracks


def test_tracks_of_a_stem_keep_their_own_controllers():
    loud, soft = track((60, 0.0, 1.0)), track((67, 0.0, 1.0), controls=[(7, 30, 0.0)])
    stem = perform([loud, soft], SOUNDFONT, RATE_HZ, 2.0)
    assert np.array_equal(stem.audio[0], played(loud) + played(soft))
    assert spans(stem.notes) == [(60, 0.0, 1.0), (67, 0.0, 1.0)]
    assert stem.sample_rate == RATE_HZ


def test_notes_are_cut_with_the_audio():
    stem = perform([track((60, 0.0, 5.0), (62, 3.0, 4.0))], SOUNDFONT, RATE_HZ, 2.0)
    assert spans(stem.notes) == [(60, 0.0, 2.0)]
    assert stem.audio.shape == (1, 2 * RATE_HZ)


# Names and errors


def test_names():
    assert (program_name(33), stem_name(33)) == ("Electric Bass (finger)", "electric_bass_finger")
    assert (program_name(128), stem_name(128)) == ("drum set", "drum_set")
    assert len({stem_name(program) for program in range(129)}) == 129


def test_missing_soundfont():
    with pytest.raises(UserError, match=r"no SoundFont at 'nowhere\.sf2'"):
        find_soundfont("nowhere.sf2")


def test_a_file_that_is_no_soundfont(tmp_path):
    (tmp_path / "a.sf2").write_bytes(b"RIFF no")
    with pytest.raises(UserError, match=r"cannot read '.*a\.sf2' as a SoundFont"):
        render(track((60, 0.0, 1.0)), tmp_path / "a.sf2", RATE_HZ, 1.0)


def test_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "tinysoundfont", None)
    soundfont._load.cache_clear()
    with pytest.raises(UserError, match="pip install --no-deps tinysoundfont"):
        played(track((60, 0.0, 1.0)))
