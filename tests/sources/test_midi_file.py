"""MIDI files as hostile as they come: the right notes, or a reason why there are none."""

import io
import struct

import mido
import numpy as np
import pretty_midi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timbrel.library import Library
from timbrel.prepare import prepare
from timbrel.sources import midi
from timbrel.sources.midi import MidiOptions
from timbrel.sources.midi_file import UnusableMidiError, parse, tracks_by_program
from timbrel.sources.soundfont import sounding_notes, until

TICKS = 500  # A beat, of 0.5 s where nothing else is said: a tick is 1 ms.
HOURS_100 = 360_000_000


def on(tick, pitch=60, velocity=100, channel=0):
    return tick, mido.Message("note_on", note=pitch, velocity=velocity, channel=channel)


def off(tick, pitch=60, channel=0):
    return tick, mido.Message("note_off", note=pitch, channel=channel)


def program(tick, number, channel=0):
    return tick, mido.Message("program_change", program=number, channel=channel)


def control(tick, number, value, channel=0):
    return tick, mido.Message("control_change", control=number, value=value, channel=channel)


def tempo(tick, microseconds):
    return tick, mido.MetaMessage("set_tempo", tempo=microseconds)


def end(tick):
    return tick, mido.MetaMessage("end_of_track")


def file_of(*tracks, division=TICKS, kind=1):
    """Return the bytes of a file of tracks of ``(tick, message)``; events are written in the order given."""
    made = mido.MidiFile(type=kind)
    for events in tracks:
        track = mido.MidiTrack()
        before = 0
        for tick, message in events:
            track.append(message.copy(time=tick - before))
            before = tick
        made.tracks.append(track)
    content = io.BytesIO()
    made.save(file=content)
    return content.getvalue()[:12] + struct.pack(">h", division) + content.getvalue()[14:]


def heard(content):
    """Return ``(program, pitch, onset_s, offset_s)`` of what sounds."""
    tracks = tracks_by_program(parse(content))
    return sorted(
        (number, note.pitch, round(note.onset_s, 6), round(note.offset_s, 6))
        for number in tracks
        for note in sounding_notes(*tracks[number])
    )


# Notes


@pytest.mark.parametrize(
    ("events", "spans"),
    [
        ([on(0), end(2000)], [(0, 2)]),  # never ends
        ([on(0), off(1000), on(2000), end(3000)], [(0, 1), (2, 3)]),
        ([on(0), control(1500, 123, 0), end(3000)], [(0, 1.5)]),
        ([on(0), control(1500, 120, 0), end(3000)], [(0, 1.5)]),
        ([on(0), on(1000, velocity=0), end(2000)], [(0, 1)]),  # velocity 0
        ([on(0), off(0), end(2000)], []),  # zero length
        ([off(0), on(0), end(2000)], []),  # its end first, as pretty_midi writes it
        ([off(0), on(0), on(1000), off(2000), end(9000)], [(1, 2)]),
        ([on(0), off(1000), off(1000), on(1000), end(9000)], [(0, 1)]),
        ([on(0), off(1000), on(1000), off(2000), end(9000)], [(0, 1), (1, 2)]),
        ([on(0), on(1000), off(1000), off(2000), end(9000)], [(0, 1), (1, 2)]),  # struck again, then let go
        ([on(0), on(0), off(1000), off(1000), on(1000), on(1000), off(2000), off(2000)], [(0, 1), (1, 2)]),  # doubled
        ([on(0), on(1000), off(2000), off(3000), end(9000)], [(0, 1), (1, 2)]),  # overlapping
        ([off(500), end(1000)], []),
    ],
)
def test_notes_last_until_they_end(events, spans):
    assert heard(file_of(events)) == [(0, 60, *span) for span in spans]


def test_a_pedal_that_is_never_lifted_holds_to_the_last_written_end():
    content = file_of([control(0, 64, 127), on(0), off(500), on(1000, 62), off(3000, 62), end(HOURS_100)])
    assert heard(content) == [(0, 60, 0, 3), (0, 62, 1, 3)]


def test_a_pedal_that_is_pressed_and_lifted_at_once_holds_nothing():
    content = file_of([on(0), control(400, 64, 127), control(400, 64, 0), off(500), control(900, 64, 0)])
    assert heard(content) == [(0, 60, 0, 0.5)]


# Programs


def test_a_note_has_the_program_at_its_onset():
    content = file_of([program(0, 40), on(0), program(500, 73), off(1000), on(1000), off(2000)])
    assert heard(content) == [(40, 60, 0, 1), (73, 60, 1, 2)]


def test_controllers_stay_when_the_program_changes():
    content = file_of([program(0, 40), control(0, 7, 50), on(0), off(500), control(600, 7, 90), program(900, 73),
                       on(1000), off(1500)])  # fmt: skip
    for track in parse(content).instruments:
        assert [(change.number, change.value, change.time) for change in track.control_changes] == [
            (7, 50, 0.0), (7, 90, 0.6),
        ]  # fmt: skip


def test_a_track_without_a_program_has_that_of_its_channel():
    setup = [program(0, 56), control(0, 64, 127), control(2000, 64, 0), program(3000, 57)]
    assert heard(file_of(setup, [on(0), off(1000), on(3000), off(3500)])) == [(56, 60, 0, 2), (57, 60, 3, 3.5)]


def test_tracks_with_a_program_each_keep_it_on_one_channel():
    """As pretty_midi writes more than 15 tracks, which use channels twice."""
    first, second = ([program(0, number), control(0, 64, value), on(0), off(1000), control(2000, 64, 0)]
                     for number, value in ((33, 0), (56, 127)))  # fmt: skip
    assert heard(file_of(first, second)) == [(33, 60, 0, 1), (56, 60, 0, 2)]


def test_tracks_of_one_program_are_one_and_do_not_overlap():
    content = file_of(
        [program(0, 40), on(0), off(2000)], [program(0, 40, 1), on(1000, channel=1), off(1500, channel=1)]
    )
    assert heard(content) == [(40, 60, 0, 1), (40, 60, 1, 2)]


def test_drums_are_one_whatever_their_kit_and_have_no_pedal():
    content = file_of([control(0, 64, 127, 9), on(0, 36, channel=9), off(100, 36, channel=9), program(200, 8, 9),
                       on(500, 38, channel=9), off(600, 38, channel=9)])  # fmt: skip
    assert heard(content) == [(128, 36, 0, 0.1), (128, 38, 0.5, 0.6)]


# Time


@pytest.mark.parametrize(
    ("tracks", "span"),
    [
        ([[tempo(0, 1_000_000)], [on(500), off(1000)]], (1, 2)),
        ([[end(0)], [tempo(0, 1_000_000)], [on(500), off(1000)]], (1, 2)),  # on another track
        ([[tempo(0, 1_000_000)], [on(500), off(1000)], [tempo(750, 250_000)]], (1, 1.625)),
        ([[on(500), off(1000), tempo(2**28, 1)]], (0.5, 1)),  # far after the end
        ([[on(500), off(1000)], [tempo(1000, 0)]], (0.5, 1)),
        ([[tempo(0, 10_000)], [on(500), off(1000)]], (0.01, 0.02)),
        ([[tempo(500, 1_000_000), tempo(500, 500_000)], [on(500), off(1000)]], (0.5, 1)),
    ],
)
def test_tempo_changes_count_for_all_tracks(tracks, span):
    assert heard(file_of(*tracks)) == [(0, 60, *span)]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (file_of([tempo(0, 0), on(0), off(100)]), "a tempo of 0 microseconds a beat"),
        (file_of([], [on(0), off(100)], [tempo(99, 1)]), "a tempo of 1 microseconds a beat"),
        (file_of([on(0), off(100)], division=0), "counts time in 0 ticks a beat"),
        (file_of([on(0), off(100)], division=-(25 << 8) + 40), "counts time in SMPTE frames"),
        (file_of([on(0), off(100)], kind=2), "of type 2"),
        (file_of([on(0), off(100)])[:-6], "it ends too early"),
        (b"", "it ends too early"),
        (b"RIFF is no MIDI file", "not a readable MIDI file"),
    ],
)
def test_files_without_time_or_end_say_so(content, why):
    with pytest.raises(UnusableMidiError, match=why):
        parse(content)


def test_times_are_those_of_mido():
    """Which plays messages one after another, with a clock of its own."""
    generator = np.random.default_rng(0)
    at = np.cumsum(generator.integers(1, 900, 40))
    tempos = [tempo(int(tick), int(microseconds)) for tick, microseconds in zip(
        np.sort(generator.integers(0, at[-1], 9)), generator.integers(1e5, 2e6, 9), strict=True)]  # fmt: skip
    notes = [on(int(tick)) if number % 2 == 0 else off(int(tick)) for number, tick in enumerate(at)]
    content = file_of([], notes, tempos)
    now, times = 0.0, []
    for message in mido.MidiFile(file=io.BytesIO(content)):
        now += message.time
        times += [now] * message.type.startswith("note")
    assert [time for note in parse(content).instruments[0].notes for time in (note.start, note.end)] == pytest.approx(
        times
    )


# Whole folders


def test_a_hundred_hours_take_no_room_and_hostile_files_leave_the_others_alone(tmp_path):
    good = file_of([on(0), off(500)])
    files = {
        "long.mid": file_of([on(0), off(500), on(HOURS_100, 62), end(HOURS_100 + 500)]),
        "drone.mid": file_of([on(0), end(HOURS_100)]),
        "late.mid": file_of([on(HOURS_100), off(HOURS_100 + 500)]),
        "good.mid": good, "cut.mid": good[:-6], "empty.mid": b"", "silent.mid": file_of([end(100)]),
        "points.mid": file_of([on(0), off(0)]), "smpte.mid": file_of([on(0), off(100)], division=-6360),
        "instant.mid": file_of([tempo(0, 1), on(0), off(500)]),
    }  # fmt: skip
    for name, content in files.items():
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    options = MidiOptions(sample_rate=8000, max_seconds=5.0)
    facts, _ = prepare(midi.SOURCE, tmp_path / "in", tmp_path / "library", options)
    notes = Library.open(tmp_path / "library").notes().to_pylist()
    assert {(note["song"], note["onset_s"], note["offset_s"]) for note in notes} == {
        ("long", 0.0, 0.5), ("drone", 0.0, 5.0), ("good", 0.0, 0.5),
    }  # fmt: skip
    assert {what.rsplit("/", 1)[1]: why for what, why in facts["skipped"]} == {
        "late.mid": "its first note comes after 5 s",
        "cut.mid": "not a readable MIDI file (it ends too early)",
        "empty.mid": "not a readable MIDI file (it ends too early)",
        "silent.mid": "it holds no note",
        "points.mid": "it holds no note",
        "smpte.mid": "it counts time in SMPTE frames: export it with ticks per beat",
        "instant.mid": "it has a tempo of 1 microseconds a beat: repair its tempo map",
    }


# Whatever is written


@st.composite
def written(draw):
    """The bytes of what pretty_midi writes of a few tracks, with notes that overlap, have no length or end early."""
    made = pretty_midi.PrettyMIDI(
        resolution=draw(st.sampled_from([1, 96, 220, 9600])), initial_tempo=draw(st.sampled_from([20, 120, 999]))
    )
    seconds = st.floats(0, 8)
    for _ in range(draw(st.integers(1, 4))):
        track = pretty_midi.Instrument(draw(st.sampled_from([0, 40])), is_drum=draw(st.booleans()))
        for start, length, pitch, velocity in draw(
            st.lists(
                st.tuples(seconds, st.floats(-1, 3), st.sampled_from([0, 60, 127]), st.integers(0, 127)), max_size=9
            )
        ):
            note = pretty_midi.Note(velocity, pitch, start, start)
            note.end = max(start + length, 0.0)  # which a new one refuses to be
            track.notes.append(note)
        for time, value in draw(st.lists(st.tuples(seconds, st.sampled_from([0, 63, 64, 127])), max_size=5)):
            track.control_changes.append(pretty_midi.ControlChange(64, value, time))
        made.instruments.append(track)
    content = io.BytesIO()
    made.write(content)
    return content.getvalue()


@given(written(), st.floats(0.01, 12))
def test_notes_are_within_the_audio_in_order_and_never_overlap(content, length):
    for tracks in tracks_by_program(parse(content)).values():
        notes = until(sounding_notes(*tracks), length)
        assert [note.onset_s for note in notes] == sorted(note.onset_s for note in notes)
        last_end = {}
        for note in notes:
            assert 0 <= note.onset_s < note.offset_s <= length
            assert np.float32(note.onset_s) < np.float32(note.offset_s)
            assert 0 <= note.pitch <= 127
            assert 1 <= note.velocity <= 127
            assert note.onset_s >= last_end.get(note.pitch, 0)
            last_end[note.pitch] = note.offset_s


@settings(max_examples=8)
@given(contents=st.lists(written(), min_size=1, max_size=3), length=st.floats(0.1, 6))
def test_what_the_library_stores_is_so_too(tmp_path_factory, contents, length):
    root = tmp_path_factory.mktemp("written")
    (root / "in").mkdir()
    good = file_of([on(0), off(50)])
    for number, content in enumerate([good, *contents]):
        (root / "in" / f"{number}.mid").write_bytes(content)
    options = MidiOptions(sample_rate=8000, max_seconds=length)
    facts, _ = prepare(midi.SOURCE, root / "in", root / "library", options)
    assert facts["songs"] + len(facts["skipped"]) == 1 + len(contents)
    library = Library.open(root / "library")
    rows = library.catalogue().to_pylist()
    seconds = {(row["song"], row["stem"]): row["frames"] / row["sample_rate"] for row in rows}
    last = {}
    for note in library.notes().to_pylist():
        stem = note["song"], note["stem"]
        assert last.get(stem, 0) <= note["onset_s"] < note["offset_s"] <= np.float32(seconds[stem])
        assert last.get((*stem, note["pitch"]), 0) <= note["onset_s"]
        last[stem], last[*stem, note["pitch"]] = note["onset_s"], note["offset_s"]
        assert note["pitch"] <= 127
        assert 1 <= note["velocity"] <= 127


@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(1, 9), st.integers(0, 127), st.integers(1, 127)), max_size=20)
)
def test_ordinary_files_are_read_as_pretty_midi_reads_them(notes):
    made = pretty_midi.PrettyMIDI()
    for number, (start, length, pitch, velocity) in enumerate(notes):
        track = pretty_midi.Instrument(number, is_drum=number == 3)
        track.notes.append(pretty_midi.Note(velocity, pitch, start / 10, (start + length) / 10))
        track.control_changes.append(pretty_midi.ControlChange(7, velocity, start / 10))
        made.instruments.append(track)
    content = io.BytesIO()
    made.write(content)

    def facts(parsed):
        return [
            (track.program, track.is_drum, [(note.start, note.end, note.pitch, note.velocity) for note in track.notes],
             [(change.number, change.value, change.time) for change in track.control_changes])
            for track in parsed.instruments
        ]  # fmt: skip

    assert facts(parse(content.getvalue())) == facts(pretty_midi.PrettyMIDI(io.BytesIO(content.getvalue())))
