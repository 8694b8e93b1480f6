"""Audio and MIDI files with damaged bytes: each is stored, or named and left out, and the rest goes on."""

import io
import itertools

import numpy as np
import pretty_midi
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from timbrel.sources.midi import SOURCE as MIDI
from timbrel.sources.midi import MidiOptions
from timbrel.sources.stems import SOURCE as STEMS
from timbrel.sources.stems import StemsOptions

FUZZ = settings.get_profile("fuzz")
RATE_HZ = 8000
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, (1500, 2))
WORDS = [
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0\0\0\x80",
    b"\1\0\0\0",
    b"\0\0\0\1",
    b"RF64",
    b"data",
]
_numbers = itertools.count()


def encoded(channels=2, **how):
    file = io.BytesIO()
    soundfile.write(file, NOISE[:, :channels], RATE_HZ, **how)
    return file.getvalue()


WAVS = [
    encoded(1, format="WAV", subtype="PCM_16"),
    encoded(2, format="WAV", subtype="PCM_24"),
    encoded(2, format="WAV", subtype="FLOAT"),
    encoded(1, format="WAV", subtype="DOUBLE"),
    encoded(1, format="WAV", subtype="PCM_U8"),
    encoded(1, format="WAV", subtype="ULAW"),
    encoded(2, format="WAV", subtype="MS_ADPCM"),
    encoded(2, format="WAVEX", subtype="FLOAT"),
    encoded(2, format="RF64", subtype="PCM_16"),
    encoded(2, format="W64", subtype="PCM_16"),
]
OTHERS = {
    ".flac": encoded(2, format="FLAC", subtype="PCM_16"),
    ".ogg": encoded(1, format="OGG", subtype="VORBIS"),
    ".mp3": encoded(1, format="MP3", subtype="MPEG_LAYER_III"),
    ".aiff": encoded(2, format="AIFF", subtype="PCM_16"),
    ".aif": encoded(1, format="AIFF", subtype="FLOAT"),
}


def midi():
    """A song of a piano with pedal and bends, a bass, and drums."""
    made = pretty_midi.PrettyMIDI()
    for program, drums, pitches in ((0, False, (60, 64, 67)), (33, False, (40,)), (0, True, (36, 38, 42))):
        track = pretty_midi.Instrument(program, is_drum=drums)
        track.notes = [pretty_midi.Note(90, pitch, 0.2 * i, 0.2 * i + 0.3) for i, pitch in enumerate(pitches)]
        track.control_changes = [pretty_midi.ControlChange(64, 127, 0.1), pretty_midi.ControlChange(64, 0, 0.6)]
        track.pitch_bends = [pretty_midi.PitchBend(500, 0.2)]
        made.instruments.append(track)
    file = io.BytesIO()
    made.write(file)
    return file.getvalue()


WHOLE_MIDI = midi()


@st.composite
def damaged(draw, content):
    """``content`` with a few bytes changed, most of them near the beginning, where headers are."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        first = draw(st.integers(0, min(120, len(content))) | st.integers(0, len(content)))
        how = draw(st.sampled_from(["byte", "byte", "byte", "word", "word", "cut", "insert", "remove"]))
        if how == "byte":
            content[first : first + 1] = bytes([draw(st.integers(0, 255))])
        elif how == "word":
            content[first : first + 4] = draw(st.sampled_from(WORDS) | st.binary(min_size=4, max_size=4))
        elif how == "cut":
            del content[first:]
        elif how == "insert":
            content[first:first] = draw(st.binary(max_size=12))
        else:
            del content[first : first + draw(st.integers(1, 12))]
    return bytes(content)


@pytest.fixture(scope="module")
def check_stem(attempt_prepare, tmp_path_factory):
    """Prepare a song of a good stem and one of the given bytes: the good one is stored, the other stored or named."""
    folder = tmp_path_factory.mktemp("songs") / "song"
    folder.mkdir()
    soundfile.write(folder / "violin.wav", NOISE, RATE_HZ)

    def check(kind, suffix, content):
        path = folder / f"piano{suffix}"
        path.write_bytes(content)
        try:
            facts = attempt_prepare(kind, STEMS, folder.parent, StemsOptions())
        finally:
            path.unlink()
        assert facts["instruments"]["violin"] == 1
        assert facts["stems"] + len(facts["skipped"]) == 2
        assert all(what == "song/piano" and (path.name in why or "its " in why) for what, why in facts["skipped"])

    return check


@FUZZ
@given(content=st.sampled_from(WAVS).flatmap(damaged))
def test_damaged_wav(check_stem, content):
    check_stem("WAV", ".wav", content)


@FUZZ
@given(case=st.sampled_from(sorted(OTHERS)).flatmap(lambda suffix: st.tuples(st.just(suffix), damaged(OTHERS[suffix]))))
def test_damaged_audio_of_other_kinds(check_stem, case):
    check_stem("FLAC, OGG, MP3, AIFF", *case)


@FUZZ
@given(content=damaged(WHOLE_MIDI))
def test_damaged_midi(attempt_prepare, tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "midi"
    folder.mkdir(exist_ok=True)
    (folder / "good.mid").write_bytes(WHOLE_MIDI)
    path = folder / f"{next(_numbers)}.mid"  # a new name each time, as parsed files are kept by name
    path.write_bytes(content)
    try:
        facts = attempt_prepare("MIDI", MIDI, folder, MidiOptions(sample_rate=RATE_HZ, max_seconds=2.0))
    finally:
        path.unlink()
    assert facts["songs"] + len(facts["skipped"]) >= 2
    assert all(path.stem in what for what, _ in facts["skipped"])
