"""The house band plays music: the right notes, everybody in turn, and always the same."""

import pickle
from collections import Counter

import numpy as np
import pytest

from timbrel.errors import UserError
from timbrel.sources.house_band import SOURCE, HouseBandOptions
from timbrel.sources.house_band.arrangement import arrange, lineup
from timbrel.sources.house_band.composer import compose
from timbrel.sources.house_band.harmony import Chord, Key, parse_chord, scale_over, voice_lead
from timbrel.sources.house_band.parts import steps
from timbrel.sources.house_band.styles import STYLES

ROUND = 24  # Songs until every ensemble has played.
SECONDS = 40.0
CLASSES = {  # A class's General MIDI programs.
    "piano": range(0, 4),
    "key": [*range(0, 8), *range(16, 24)],
    "acoustic guitar": range(24, 26),
    "electric guitar": range(26, 32),
    "plucked string": range(24, 38),
    "electric bass": range(33, 38),
    "violin": [40],
    "bowed string": [40, 41, 42, 43, 48, 49],
    "voice": range(52, 55),
    "brass": range(56, 64),
    "woodwind": range(64, 80),
    "synth": range(80, 104),
    "drums": [128],
}


def songs(**options):
    return list(SOURCE.find(None, HouseBandOptions(**options)).songs)


def compositions(seed=0, count=ROUND):
    return [compose(seed, index, SECONDS) for index in range(count)]


def notes_of(track):
    """The notes of a track as comparable numbers."""
    return [(note.start, note.end, note.pitch, note.velocity) for note in track.notes]


def beat_of(arrangement, time_s):
    """The straight beat nearest to ``time_s`` on a grid of quarter beats."""
    grid = np.arange(0, arrangement.sections[-1].end + 2, 0.25)
    return grid[np.abs([arrangement.seconds(float(beat)) - time_s for beat in grid]).argmin()]


# Harmony and notation


@pytest.mark.parametrize(
    ("numeral", "minor", "root", "pitch_classes"),
    [
        ("I", False, 0, (0, 4, 7)),
        ("vi", False, 9, (9, 0, 4)),
        ("V7", True, 7, (7, 11, 2, 5)),
        ("bVII", True, 10, (10, 2, 5)),
        ("ii7", False, 2, (2, 5, 9, 0)),
        ("iiø7", True, 2, (2, 5, 8, 0)),
        ("IVmaj7", False, 5, (5, 9, 0, 4)),
        ("Vsus4", False, 7, (7, 0, 2)),
    ],
)
def test_roman_numerals_in_c(numeral, minor, root, pitch_classes):
    assert parse_chord(numeral, Key(0, minor)) == Chord(root, pitch_classes)


def test_every_progression_can_be_read_and_has_its_roots_in_the_key():
    for style in STYLES:
        for minor, progressions in ((False, style.major), (True, style.minor)):
            key = Key(0, minor)
            for progression in progressions:
                chords = [parse_chord(numeral, key) for numeral in progression.split()]
                assert len(chords) == 4
                assert {chord.root for chord in chords} <= {*key.scale, 10}  # B flat: rock and the blues.


def test_the_scale_follows_the_leading_note():
    assert scale_over(parse_chord("V7", Key(9, True)), Key(9, True)) == {9, 11, 0, 2, 4, 5, 8}
    assert scale_over(parse_chord("IV7", Key(0, False)), Key(0, False)) == {0, 2, 3, 5, 7, 9, 11}
    assert scale_over(parse_chord("ii7", Key(0, False)), Key(0, False)) == set(Key(0, False).scale)


def test_voices_move_little_and_sound_the_chord():
    key, previous = Key(0, False), ()
    for numeral in ("I", "vi", "IV", "V", "I"):
        chord = parse_chord(numeral, key)
        voices = voice_lead(chord, previous, 4, 45, 74)
        assert {pitch % 12 for pitch in voices} == set(chord.pitch_classes)
        assert list(voices) == sorted(set(voices))
        if previous:
            assert max(abs(a - b) for a, b in zip(voices, previous, strict=True)) <= 5
        previous = voices


def test_patterns():
    assert steps("X-.o", 4.0) == [(4.0, 0.5, "X"), (4.75, 0.25, "o")]


def test_every_pattern_fills_a_bar():
    for style in STYLES:
        patterns = [*style.bass, *style.motifs, *(p for options in style.patterns.values() for p in options)]
        patterns += [pattern for groove in style.grooves for pattern in groove.values()]
        assert {len(pattern) for pattern in patterns} == {4 * beats for beats in style.meters}


# Composition


def test_a_song_is_a_function_of_seed_and_index():
    first = [notes_of(track) for track in compose(3, 5, SECONDS).tracks]
    compose.cache_clear()
    assert [notes_of(track) for track in compose(3, 5, SECONDS).tracks] == first
    assert [notes_of(track) for track in compose(4, 5, SECONDS).tracks] != first
    assert [notes_of(track) for track in compose(3, 5 + ROUND, SECONDS).tracks] != first


def test_more_songs_do_not_change_the_first():
    assert songs(songs=3) == songs(songs=10)[:3]


def test_the_bass_plays_roots_where_chords_begin_and_chord_tones_else():
    for song in compositions():
        arrangement = song.arrangement
        chair = next(i for i, chair in enumerate(arrangement.chairs) if chair.role == "bass")
        roots, tones = [], []
        for note in song.tracks[chair].notes:
            beat = beat_of(arrangement, note.start)
            section = next((s for s in arrangement.sections if beat < s.end), arrangement.sections[-1])
            span = section.span_at(beat)
            if beat == span.beat:
                roots.append(note.pitch % 12 == span.chord.root)
            tones.append(note.pitch % 12 in span.chord.pitch_classes)
        assert all(roots)
        assert len(roots) >= 4
        assert np.mean(tones) > 0.7  # The others lead to the next root.


def test_melodies_stay_in_the_scale_and_rest_on_the_chord():
    inside, held = [], []
    for song in compositions():
        arrangement = song.arrangement
        for chair, track in zip(arrangement.chairs, song.tracks, strict=True):
            if chair.role != "melody":
                continue
            for note in track.notes:
                beat = beat_of(arrangement, note.start)
                section = next((s for s in arrangement.sections if beat < s.end), arrangement.sections[-1])
                chord = section.span_at(beat).chord
                inside.append(note.pitch % 12 in scale_over(chord, arrangement.key))
                if note.end - note.start > 2 * 60 / arrangement.tempo_bpm:
                    held.append(note.pitch % 12 in chord.pitch_classes)
    assert all(inside)
    assert np.mean(held) > 0.7  # Thirds below the tune need not be chord tones.


def test_everybody_plays_within_range():
    for song in compositions(count=2 * ROUND):
        for chair, track in zip(song.arrangement.chairs, song.tracks, strict=True):
            pitches = {note.pitch for note in track.notes}
            if chair.player.drums:
                assert pitches <= set(range(35, 60))
            else:
                assert chair.player.low <= min(pitches)
                assert max(pitches) <= chair.player.high


def test_the_bass_is_below_the_chords_and_the_tune_above():
    for song in compositions():
        means = {
            chair.role: np.mean([note.pitch for note in track.notes])
            for chair, track in zip(song.arrangement.chairs, song.tracks, strict=True)
        }
        assert means["bass"] + 7 < min(means.get(role, 99) for role in ("chords", "strum", "arpeggio", "pad"))
        assert means["bass"] + 12 < means["melody"]


def test_instruments_enter_and_leave():
    for song in compositions():
        sections = song.arrangement.sections
        assert len(sections) >= 4
        for chair in range(len(song.tracks)):
            share = sum(chair in section.playing for section in sections) / len(sections)
            assert 1 / 3 <= share < 1
        assert all(len(section.playing) >= 2 for section in sections)


def test_nobody_plays_where_nobody_should():
    for song in compositions(count=6):
        arrangement = song.arrangement
        for chair, track in enumerate(song.tracks):
            for section in arrangement.sections:
                start_s, end_s = arrangement.seconds(section.start), arrangement.seconds(section.end)
                inside = [n for n in track.notes if start_s + 0.05 < n.start < end_s - 0.05]
                assert bool(inside) == (chair in section.playing)


def test_choruses_share_their_tune_and_are_louder_than_verses():
    loudness = Counter()
    for song in compositions():
        arrangement = song.arrangement
        choruses = [section for section in arrangement.sections if section.kind == "chorus"]
        tunes = []
        for section in choruses:
            start_s, end_s = arrangement.seconds(section.start), arrangement.seconds(section.end)
            leading = sorted(song.tracks[section.leader].notes, key=lambda note: note.start)
            tunes.append([n.pitch for n in leading if start_s - 0.05 < n.start < end_s - 0.05])
        assert all(tune == tunes[0] for tune in tunes)
        for kind in ("verse", "chorus"):
            section = next(section for section in arrangement.sections if section.kind == kind)
            start_s, end_s = arrangement.seconds(section.start), arrangement.seconds(section.end)
            velocities = [n.velocity for t in song.tracks for n in t.notes if start_s < n.start < end_s]
            loudness[kind] += np.mean(velocities)
    assert loudness["chorus"] > 1.08 * loudness["verse"]


def test_songs_end_at_home():
    for index in range(ROUND):
        arrangement = arrange(index, SECONDS, np.random.default_rng([7, index]))
        assert arrangement.sections[-1].chords[-1].chord.root == arrangement.key.tonic


def test_keys_and_tempos_vary_within_the_style():
    arrangements = [song.arrangement for song in compositions(count=2 * ROUND)]
    assert len({(a.key.tonic, a.key.minor) for a in arrangements}) > 12
    assert 0.2 < np.mean([a.key.minor for a in arrangements]) < 0.6
    for arrangement in arrangements:
        slowest, fastest = arrangement.style.tempo_bpm
        assert slowest <= arrangement.tempo_bpm <= fastest


@pytest.mark.parametrize("seconds", [10.0, 40.0, 200.0])
def test_songs_are_about_as_long_as_asked(seconds):
    for index in range(12):
        assert compose(0, index, seconds).arrangement.end_s == pytest.approx(seconds, rel=0.25)


# The classes


def test_every_class_is_played_in_a_quarter_of_a_round_and_not_in_all_of_it():
    rounds = songs(songs=5 * ROUND)
    for start in range(0, len(rounds), ROUND):
        programs = [{stem.program for stem in song.stems} for song in rounds[start : start + ROUND]]
        for name, members in CLASSES.items():
            share = np.mean([bool(played & set(members)) for played in programs])
            assert 0.25 <= share <= 0.85, name


def test_random_splits_of_the_default_songs_usually_hold_every_class():
    programs = [{stem.program for stem in song.stems} for song in songs(songs=40)]
    rng = np.random.default_rng(0)
    complete = 0
    for _ in range(200):
        chosen = rng.choice(40, size=8, replace=False)
        present = set().union(*(programs[i] for i in chosen))
        complete += all(present & set(members) for members in CLASSES.values())
    assert complete > 140


def test_ensembles_have_four_to_eight_different_parts():
    for index in range(10 * ROUND):
        _, chairs = lineup(index)
        assert 4 <= len(chairs) <= 8
        assert len({(chair.player.drums, chair.program) for chair in chairs}) == len(chairs)


def test_every_band_comes_to_play_every_style():
    pairs = {(song.artist, lineup(i)[0].name) for i, song in enumerate(songs(songs=66))}
    assert len(pairs) == 11 * len(STYLES)


# The source


def test_names_and_labels():
    found = SOURCE.find(None, HouseBandOptions(songs=2))
    first, second = found.songs
    assert found.count == 2
    assert (first.name, second.name) == ("house_band-0000", "house_band-0001")
    assert first.artist != second.artist
    drums = next(stem for stem in first.stems if stem.program == 128)
    assert (drums.name, drums.instrument) == ("drum_set", "drum set")
    voice = next(stem for stem in first.stems if stem.program == 53)
    assert (voice.name, voice.instrument) == ("voice_oohs", "Voice Oohs")


def test_the_lead_voice_is_a_singer_on_request_only():
    instruments = {stem.instrument for song in songs(songs=ROUND) for stem in song.stems}
    assert "singer" not in instruments
    singers = [s for song in songs(songs=ROUND, lead_voice_is_singer=True) for s in song.stems if s.program is None]
    assert len(singers) >= ROUND / 4
    assert {stem.instrument for stem in singers} == {"singer"}


def test_stems_of_a_song_fit_together():
    for song in songs(songs=6, sample_rate=16000):
        performances = [stem.perform() for stem in song.stems]
        assert len({performance.audio.shape for performance in performances}) == 1
        assert {performance.sample_rate for performance in performances} == {16000}
        mixture = sum(performance.audio for performance in performances)
        assert 0.1 < np.abs(mixture).max() < 0.6
        for performance in performances:
            audio = performance.audio[0]
            assert np.isfinite(audio).all()
            assert 0.01 < np.abs(audio).max() < 0.5
            assert abs(audio.mean()) < 1e-4
            assert np.abs(audio[-1600:]).max() < 0.01  # What rings longer than the tail is faint.
            assert performance.notes
            assert all(0 <= n.onset_s < n.offset_s <= len(audio) / 16000 for n in performance.notes)


def test_stems_pickle_and_render_the_same_in_any_order():
    song = songs(songs=2, seconds=10.0, sample_rate=16000)[1]
    forward = [stem.perform() for stem in song.stems]
    compose.cache_clear()
    copies = pickle.loads(pickle.dumps(song)).stems
    assert len(pickle.dumps(song)) < 5000
    backward = [stem.perform() for stem in reversed(copies)][::-1]
    for one, other in zip(forward, backward, strict=True):
        assert np.array_equal(one.audio, other.audio)
        assert one.notes == other.notes


def test_a_path_or_a_missing_soundfont_is_refused(tmp_path):
    with pytest.raises(UserError, match="leave out"):
        SOURCE.find(tmp_path, HouseBandOptions())
    with pytest.raises(UserError, match="no SoundFont"):
        SOURCE.find(None, HouseBandOptions(soundfont="missing.sf2"))
