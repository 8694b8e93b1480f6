"""The notes of mixtures move with the audio: by the plan, and as an analysis of the sound itself finds them."""

import dataclasses

import numpy as np
import pytest
from scipy import signal

from timbrel import note_metrics, registry
from timbrel.config import with_values
from timbrel.errors import UserError
from timbrel.library import Library
from timbrel.mixing.bank import Bank, add_bank
from timbrel.mixing.index import build_index
from timbrel.mixing.notes import mixture_notes
from timbrel.mixing.plan import EffectPlan, SourcePlan, plan_mixture
from timbrel.mixing.pool import Stream, mix
from timbrel.mixing.render import render_example
from timbrel.mixing.rolls import pianoroll

RATE_HZ = 16_000
PIANO, BASS, VIOLIN, CELLO, FLUTE, ORGAN, DRUMS = 0, 33, 40, 42, 73, 19, 128
TASK = registry.load("task", "pianoroll")
CLASS = {name: number for number, name in enumerate(TASK.config_type().instruments)}
PLAIN = {"mixing.seconds": 3.2, "evaluation.windows": "drawn"}
CHANGED = {
    **PLAIN,
    "mixing.p_musical": 0.0,
    "mixing.p_single_source": 1.0,
    "mixing.effects.pitch_shift.p": 0.6,
    "mixing.effects.pitch_shift.low": -3.0,
    "mixing.effects.pitch_shift.high": 3.0,
    "mixing.effects.pitch_shift.step": 1.0,
    "mixing.effects.time_stretch.p": 0.6,
    "mixing.effects.time_stretch.low": 0.8,
    "mixing.effects.time_stretch.high": 1.25,
}
MELODY = tuple((0.1 + 0.45 * i, 0.4 + 0.45 * i, 60 + (7 * i) % 23, 90) for i in range(13))
"""Notes of 0.3 s, 0.15 s apart."""
AMPLITUDE = 0.15
"""Of the library's sines."""


def config_of(**values):
    return with_values(TASK.config_type(), {**PLAIN, **{path.replace("__", "."): v for path, v in values.items()}})


def index_of(root, config, split="train"):
    return build_index(Library.open(root), split, TASK, config)


def columns(notes):
    return list(zip(*np.round(notes.times.T, 4).tolist(), notes.pitches.tolist(), notes.classes.tolist(), strict=True))


def plan_of(stem=0, start_s=0.0, semitones=0.0, rate=1.0, seconds=3.2):
    effects = (EffectPlan("pitch_time", {"semitones": semitones, "rate": rate}),)
    return SourcePlan(stem, start_s, seconds * rate, effects if (semitones, rate) != (0, 1) else ())


# By the plan

NOTES = ((0.5, 1.0, 60, 90), (2.0, 2.5, 64, 90), (3.0, 4.0, 67, 90), (5.0, 5.5, 20, 90))


@pytest.fixture
def piano(note_library):
    """An index of one piano that plays NOTES, and its recipe."""
    config = config_of()
    index = index_of(note_library({"train": [("piano", PIANO, NOTES)]}), config)
    return index, config


def heard(piano, **plan):
    index, config = piano
    return columns(mixture_notes([plan_of(**plan)], index, config.mixing))


def test_notes_as_they_are(piano):
    assert heard(piano) == [(0.5, 1.0, 60, 0), (2.0, 2.5, 64, 0), (3.0, 3.2, 67, 0)]


def test_a_start_moves_them_and_cuts_them(piano):
    assert heard(piano, start_s=0.75) == [(0, 0.25, 60, 0), (1.25, 1.75, 64, 0), (2.25, 3.2, 67, 0)]
    assert heard(piano, start_s=1.0) == [(1.0, 1.5, 64, 0), (2.0, 3.0, 67, 0)]


def test_what_only_touches_the_edge_is_not_heard(piano):
    """0.1 ms: less than is known of times in single precision."""
    index, config = piano
    for start_s, pitches in ((1.0, [64, 67]), (0.99995, [64, 67]), (0.999, [60, 64, 67])):
        notes = mixture_notes([plan_of(start_s=start_s)], index, config.mixing)
        assert notes.pitches.tolist() == pitches
    for length, pitches in ((3.0, [60, 64]), (3.00005, [60, 64]), (3.001, [60, 64, 67])):
        recipe = dataclasses.replace(config.mixing, seconds=length)
        assert mixture_notes([plan_of(seconds=length)], index, recipe).pitches.tolist() == pitches


def test_a_shift_moves_pitches_alone(piano):
    for semitones in (-3, 1, 12):
        shifted = [(onset, offset, pitch + semitones, label) for onset, offset, pitch, label in heard(piano)]
        assert heard(piano, semitones=float(semitones)) == shifted


@pytest.mark.parametrize("rate", [0.8, 1.25])
def test_a_stretch_rescales_time_from_the_start(piano, rate):
    expected = [
        (max(0.0, (onset - 0.25) / rate), min(3.2, (offset - 0.25) / rate), pitch, 0)
        for onset, offset, pitch, _ in NOTES
        if (onset - 0.25) / rate < 3.2
    ]
    assert heard(piano, start_s=0.25, rate=rate) == [(round(a, 4), round(b, 4), *rest) for a, b, *rest in expected]


def test_a_shift_by_k_semitones_moves_the_roll_by_k(piano):
    index, config = piano
    roll, shifted = (
        pianoroll(mixture_notes([plan_of(semitones=semitones)], index, config.mixing), 9, config.grid)
        for semitones in (0.0, 5.0)
    )
    np.testing.assert_array_equal(shifted[:, 5:], roll[:, :-5])
    assert roll.any()
    assert not shifted[:, :5].any()


@pytest.mark.parametrize("rate", [0.8, 0.93, 1.25])
def test_a_stretch_rescales_the_roll_to_one_frame(piano, rate):
    index, config = piano
    plain, stretched = (
        pianoroll(mixture_notes([plan_of(rate=each)], index, config.mixing), 9, config.grid).any(axis=(0, 1))
        for each in (1.0, rate)
    )
    for frame in range(1, len(plain) - 1):
        there = round(frame / rate)  # where what sounds in this frame has gone
        if 1 <= there < len(plain) - 1 and plain[frame - 1 : frame + 2].all():
            assert stretched[there - 1 : there + 2].any()
        if 1 <= there < len(plain) - 1 and not plain[frame - 1 : frame + 2].any():
            assert not stretched[there - 1 : there + 2].all()


def test_a_shift_out_of_the_keyboard(piano):
    """The lowest note of NOTES is no key of a piano; a semitone up it is."""
    index, config = piano
    for semitones, keys in ((0.0, 0), (1.0, 1)):
        notes = mixture_notes([plan_of(start_s=4.5, semitones=semitones)], index, config.mixing)
        assert len(notes.pitches) == 1
        assert pianoroll(notes, 9, config.grid).any(axis=-1).sum() == keys


def test_no_sources_have_no_notes(piano):
    index, config = piano
    notes = mixture_notes([], index, config.mixing)
    assert [values.shape for values in notes] == [(0, 2), (0,), (0,)]
    assert [values.dtype for values in notes] == [np.float64, np.int64, np.int64]


# Which notes count


def test_notes_of_sources_are_together(note_library):
    songs = {"train": [("bass", BASS, ((0, 1, 40, 90),)), ("flute", FLUTE, ((0.5, 2, 80, 90),))]}
    config = config_of()
    index = index_of(note_library(songs), config)
    notes = mixture_notes([plan_of(0), plan_of(1, start_s=0.5)], index, config.mixing)
    assert columns(notes) == [(0, 1, 40, CLASS["bass"]), (0, 1.5, 80, CLASS["flute"])]


def test_stems_without_notes_and_of_no_class_are_never_drawn(note_library):
    note = ((0.0, 1.0, 60, 90),)
    songs = {
        "train a": [("violin", VIOLIN, note), ("unplayed flute", FLUTE, ()), ("drums", DRUMS, note)],
        "train b": [("organ", ORGAN, note), ("somebody", None, note)],
        "train c": [("cello", CELLO, note)],
    }
    config = config_of()
    index = index_of(note_library(songs), config)
    assert index.names.to_pylist() == ["violin", "cello"]
    assert index.songs.to_pylist() == ["train a", "train c"]
    assert [np.flatnonzero(row).tolist() for row in index.labels] == [[CLASS["violin"]], [CLASS["cello"]]]
    other = config_of(instruments=("organ", "flute"))
    assert index_of(note_library(songs), other).names.to_pylist() == ["organ"]


def test_notes_of_a_mix_say_who_plays_them(note_library):
    notes = (
        (0.0, 1.0, 60, 90, PIANO),
        (0.5, 1.0, 43, 90, BASS),
        (1.0, 2.0, 36, 90, DRUMS),
        (1.0, 2.0, 72, 90, None),
        (2.0, 3.0, 67, 90, ORGAN),
        (2.0, 3.0, 55, 90, VIOLIN),
    )
    config = config_of()
    index = index_of(note_library({"train": [("mix", None, notes)]}), config)
    expected = [(0, 1, 60, CLASS["piano"]), (0.5, 1, 43, CLASS["bass"]), (2, 3, 55, CLASS["violin"])]
    assert columns(mixture_notes([plan_of()], index, config.mixing)) == expected
    assert np.flatnonzero(index.labels[0]).tolist() == sorted(CLASS[name] for name in ("piano", "bass", "violin"))
    # Where the mix itself has a program, it is that of the notes that have none.
    index = index_of(note_library({"train": [("mix", CELLO, notes)]}, name="other"), config)
    stem = index.paths.to_pylist().index("other/songs/train/mix.wav")
    assert (72, CLASS["cello"]) in [note[2:] for note in columns(mixture_notes([plan_of(stem)], index, config.mixing))]


def test_notes_are_found_whatever_the_order_of_songs_and_data_sets(note_library):
    """Each stem plays a pitch of its own, which its name says."""
    songs = {
        f"{split} {number}": [
            (f"{program}-{20 + 10 * number + program % 7}", program, ((0.1, 0.5, 20 + 10 * number + program % 7, 90),))
            for program in (FLUTE, PIANO, VIOLIN)
        ]
        for number, split in enumerate(["train", "valid", "train", "test", "train"])
    }
    note_library(songs, seconds=1.0, name="b")
    root = note_library({"train 9": [("0-101", PIANO, ((0.2, 0.9, 101, 90),))]}, seconds=1.0, name="a")
    for split, stems in (("train", 10), ("valid", 3), ("test", 3)):
        index = index_of(root, config_of(), split)
        assert len(index.paths) == stems
        for stem, name in enumerate(index.names.to_pylist()):
            program, pitch = map(int, name.split("-"))
            _, pitches, classes = index.notes_of(stem)
            assert pitches.tolist() == [pitch]
            assert classes.tolist() == TASK.note_classes(np.array([program]), config_of()).tolist()


def test_digital_silence_has_no_notes(note_library):
    """A stem whose notes begin before it is heard, as where it was cut out or muted."""
    notes = ((0.0, 1.0, 60, 90), (4.0, 5.0, 72, 90))
    audio = np.zeros(6 * RATE_HZ, dtype=np.float32)
    audio[4 * RATE_HZ : 5 * RATE_HZ] = 0.1 * np.sin(np.arange(RATE_HZ) / 5)
    tone = ((0.0, 6.0, 50, 90),)
    songs = {"train": [("violin", VIOLIN, notes, audio), ("cello", CELLO, tone)]}
    config = config_of()
    index = index_of(note_library(songs), config)
    pitches = set()
    for number in range(30):
        plan = plan_mixture(index, config.mixing, 0, "train", number)
        rendered = render_example(plan, index, config.mixing)
        found = mixture_notes(rendered.heard, index, config.mixing).pitches.tolist()
        start_s = plan.sources[0].start_s
        assert (60 in found) == (start_s < 1.0 - 1e-4 and start_s + config.mixing.seconds > 4.0 + 1 / RATE_HZ)
        pitches |= set(found)
    assert {50, 72} <= pitches


def test_sources_of_musical_mixtures_keep_time(note_library):
    parts = [("piano", PIANO, 0), ("bass", BASS, -24), ("flute", FLUTE, 12)]
    songs = {
        "train a": [
            (name, program, tuple((a, b, pitch + up, v) for a, b, pitch, v in MELODY)) for name, program, up in parts
        ]
    }
    config = config_of()
    index = index_of(note_library(songs), config)
    stream = Stream(index, config.mixing, 0, "train", maker=TASK.example_maker(config))
    starts = set()
    for roll in mix(stream, index, range(6))["roll"]:
        piano, bass, flute = (roll[CLASS[name]] for name in ("piano", "bass", "flute"))
        assert piano.any()
        np.testing.assert_array_equal(bass[:-24], piano[24:])
        np.testing.assert_array_equal(flute[12:], piano[:-12])
        starts.add(piano.tobytes())
    assert len(starts) == 6


# Against the sound


@pytest.fixture
def melodies(note_library):
    """Three instruments that play MELODY in songs of their own, with a bank of whole semitones."""
    songs = {
        f"train {name}": [(name, program, tuple((a, b, pitch + up, v) for a, b, pitch, v in MELODY))]
        for name, program, up in (("piano", PIANO, 0), ("violin", VIOLIN, 7), ("flute", FLUTE, 12))
    }
    root = note_library(songs)
    add_bank(root, "tones", Bank(steps=2, semitones=(-4.0, 4.0)))
    return root


def amplitudes_of(audio, hz):
    """Return how loud a sine of ``hz`` is over time, ``(sample,)``: brought down to 0 Hz and smoothed over 40 ms."""
    window = np.hanning(round(0.04 * RATE_HZ))
    turning = np.exp(-2j * np.pi * hz * np.arange(len(audio)) / RATE_HZ)
    return 2 * np.abs(signal.fftconvolve(audio * turning, window / window.sum(), mode="same"))


def loudest_hz(audio):
    """Return the frequency at which a spectrum is highest."""
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), 1 << 17))
    return float(np.argmax(spectrum) * RATE_HZ / (1 << 17))


@pytest.mark.parametrize("stretch", ["exact", "fast", "bank"])
def test_where_the_roll_says_a_note_is_the_audio_has_it(melodies, stretch):
    config = with_values(TASK.config_type(), {**CHANGED, "mixing.stretch": stretch})
    index = index_of(melodies, config)
    stream = Stream(index, config.mixing, 0, "train", maker=TASK.example_maker(config))
    seconds, frame_s, seen, exact, kinds = config.mixing.seconds, config.grid.frame_s, 0, 0, set()
    rolls = mix(stream, index, range(16))["roll"]
    for number, roll in enumerate(rolls):
        plan = plan_mixture(index, config.mixing, 0, "train", number)
        audio = render_example(plan, index, config.mixing).audio
        changes = [effect.parameters for effect in plan.sources[0].effects]
        kinds |= {(change["semitones"] != 0, change["rate"] != 1) for change in changes}
        for begin, end, row in zip(*note_metrics.notes_of(roll.any(axis=0), frame_s), strict=True):
            if begin == 0 or end >= seconds - 2 * frame_s:  # cut by an edge, where fades and windows blur it
                continue
            hz = 440 * 2 ** ((row + config.lowest_key - 69) / 12)
            inside = slice(round((begin + frame_s) * RATE_HZ), round((end - frame_s) * RATE_HZ))
            assert abs(12 * np.log2(loudest_hz(audio[inside]) / hz)) < 0.25, (number, begin, changes)
            around = slice(max(0, round((begin - 2 * frame_s) * RATE_HZ)), round((end + 2 * frame_s) * RATE_HZ))
            on = np.flatnonzero(amplitudes_of(audio, hz)[around] > AMPLITUDE / 2) + around.start
            # The first and the last fine frame that lie in it, and which frames of the roll they belong to.
            off_by = np.ceil(on[[0, -1]] / config.front_end.hop - (0, 1)) // config.pool
            off_by -= np.round([begin / frame_s, end / frame_s - 1])
            assert (np.abs(off_by) <= 1).all(), (number, begin, changes)
            exact += int((off_by == 0).sum())
            seen += 1
        # Where the roll has been empty for a frame, and stays so for one, there is silence.
        empty = ~roll.any(axis=(0, 1))
        for frame in np.flatnonzero(empty[:-2] & empty[1:-1] & empty[2:]) + 1:
            assert np.abs(audio[round(frame * frame_s * RATE_HZ) :][: round(frame_s * RATE_HZ)]).max() < AMPLITUDE / 4
    assert seen > 30
    assert exact > 0.9 * 2 * seen  # nearly all edges fall into the very frame
    assert {(True, False), (False, True), (True, True)} <= kinds


def test_labels_are_the_same_however_audio_is_stretched(melodies):
    rolls = {}
    for stretch in ("exact", "fast"):
        config = with_values(TASK.config_type(), {**CHANGED, "mixing.stretch": stretch})
        index = index_of(melodies, config)
        stream = Stream(index, config.mixing, 0, "train", maker=TASK.example_maker(config))
        rolls[stretch] = mix(stream, index, range(8))["roll"]
    np.testing.assert_array_equal(rolls["exact"], rolls["fast"])
    # The bank takes the nearest strength it has; what sounds so has the notes that it has when it is rendered now.
    config = with_values(TASK.config_type(), {**CHANGED, "mixing.stretch": "bank"})
    index = index_of(melodies, config)
    taken = 0
    for number in range(20):
        (source,) = plan_mixture(index, config.mixing, 0, "train", number).sources
        now = dataclasses.replace(source, variant=None)
        assert columns(mixture_notes([source], index, config.mixing)) == columns(
            mixture_notes([now], index, config.mixing)
        )
        taken += source.variant is not None
    assert taken > 10


def test_a_shift_by_nothing_is_no_effect(melodies):
    """Of whole semitones 0 is one: it must not cost a stretch, nor take another variant of the bank."""
    values = {**CHANGED, "mixing.effects.time_stretch.p": 0.0, "mixing.effects.pitch_shift.p": 1.0}
    for stretch in ("fast", "bank"):
        config = with_values(TASK.config_type(), {**values, "mixing.stretch": stretch})
        index = index_of(melodies, config)
        plain = 0
        for number in range(60):
            (source,) = plan_mixture(index, config.mixing, 0, "train", number).sources
            if not source.effects:
                assert (source.variant, source.seconds) == (None, config.mixing.seconds)
                plain += 1
            else:
                assert source.effects[0].parameters["semitones"] != 0
        assert 2 <= plain <= 18  # one in seven


def test_a_bank_of_parts_of_semitones_is_refused(melodies):
    add_bank(melodies, "tones", Bank(steps=2, semitones=(-3.0, 3.0)))
    config = with_values(TASK.config_type(), {**CHANGED, "mixing.stretch": "bank"})
    message = r"variant of -1\.5, which is no multiple of mixing\.effects\.pitch_shift\.step \(1\): prepare"
    with pytest.raises(UserError, match=message):
        index_of(melodies, config)
    anything = with_values(config, {"mixing.effects.pitch_shift.p": 0.0})
    assert len(index_of(melodies, anything).variants) == 6
