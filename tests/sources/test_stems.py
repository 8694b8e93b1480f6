import datetime
import os
import pickle
import shutil
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from timbrel.errors import UserError
from timbrel.sources.base import Skipped
from timbrel.sources.stems import SOURCE, AudioFile, StemsOptions

RATE_HZ = 8000
SINE = 0.5 * np.sin(2 * np.pi * 440 / RATE_HZ * np.arange(2 * RATE_HZ)).astype(np.float32)


def audio(path, samples=SINE, rate_hz=RATE_HZ, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, samples, rate_hz, **how)
    return path


def listing(folder, *rows, header="path,song,instrument,split,artist"):
    path = folder / "stems.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def find(path, **options):
    return SOURCE.find(path, StemsOptions(**options))


def layout(found):
    """Songs as nested tuples of what the library asks them."""
    return [(s.name, s.split, [(stem.name, stem.instrument) for stem in s.stems]) for s in found.songs]


# The folder layout


def test_folders_of_songs(tmp_path):
    for name in (
        "Night Owl/lead vox.wav",
        "Night Owl/violin_1.wav",
        "Night Owl/violin-2.flac",
        "Blue/piano.ogg",
    ):
        audio(tmp_path / name)
    found = find(tmp_path)
    assert layout(found) == [
        ("Blue", None, [("piano", "piano")]),
        ("Night Owl", None, [("lead vox", "lead vox"), ("violin-2", "violin"), ("violin_1", "violin")]),
    ]
    assert found.count == 2
    assert found.skipped == []


@pytest.mark.parametrize("valid", ["valid", "validation", "val", "dev", "Valid"])
def test_folders_of_splits(tmp_path, valid):
    for split, song in (("train", "a"), (valid, "b"), ("test", "c")):
        audio(tmp_path / split / song / "piano.wav")
    songs = {name: split for name, split, _ in layout(find(tmp_path))}
    assert songs == {"a": "train", "b": "valid", "c": "test"}


def test_a_song_called_test_is_a_song(tmp_path):
    audio(tmp_path / "test/piano.wav")
    assert layout(find(tmp_path)) == [("test", None, [("piano", "piano")])]


def test_one_song_in_two_splits_is_refused(tmp_path):
    audio(tmp_path / "train/a/piano.wav")
    audio(tmp_path / "test/a/piano.wav")
    with pytest.raises(UserError, match="song 'a' has the split train, but test before"):
        find(tmp_path)


def test_what_cannot_be_used_is_reported_and_the_rest_goes_on(tmp_path):
    song = tmp_path / "song"
    for name in ("piano.wav", "mix.wav", "tamborine.wav", "violin.wav", "violin.flac", "takes/viola.wav"):
        audio(song / name)
    audio(tmp_path / "stray.wav")
    (tmp_path / "empty").mkdir()
    for name in ("flute.m4a", "notes.txt", "._piano.wav", ".DS_Store"):
        (song / name).touch()
    found = find(tmp_path)
    assert layout(found) == [("song", None, [("piano", "piano"), ("violin", "violin")])]
    reported = {skipped.what.removeprefix(f"{tmp_path}/"): skipped.why for skipped in found.skipped}
    assert set(reported) == {
        *("stray.wav", "empty", "song/mix.wav", "song/tamborine.wav", "song/violin.wav", "song/takes"),
        "song/flute.m4a",
    }
    assert reported["song/mix.wav"] == "'mix' is outside the taxonomy: a mixture of stems."
    assert "did you mean 'tambourine'?" in reported["song/tamborine.wav"]
    assert "named like violin.flac" in reported["song/violin.wav"]
    assert "convert it" in reported["song/flute.m4a"]


def test_unknown_instruments_may_stop_or_stay(tmp_path):
    for name in ("piano.wav", "theorbo_2.wav", "mix.wav"):
        audio(tmp_path / "song" / name)
    with pytest.raises(UserError, match=r"theorbo_2\.wav: unknown instrument 'theorbo_2'"):
        find(tmp_path, unknown="error")
    stems = [("mix", "mix"), ("piano", "piano"), ("theorbo_2", "theorbo_2")]
    assert layout(find(tmp_path, unknown="keep")) == [("song", None, stems)]


def test_a_song_without_a_usable_stem_is_reported(tmp_path):
    audio(tmp_path / "good/piano.wav")
    audio(tmp_path / "bad/mix.wav")
    found = find(tmp_path)
    assert found.count == len(list(found.songs)) == 1
    assert Skipped("bad", "none of the song's stems can be used.") in found.skipped


@pytest.mark.parametrize("name", ["piano.wav", "artist/song/piano.wav"])
def test_other_layouts_are_refused_with_the_ones_that_are_read(tmp_path, name):
    audio(tmp_path / name)
    with pytest.raises(UserError, match=r"no usable stems \(first problem: .*expected folders <song>/<instr"):
        find(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match="needs a path"):
        find(None)
    with pytest.raises(UserError, match=r"no usable stems; expected"):
        find(tmp_path)
    with pytest.raises(UserError, match=r"no such file or folder; expected"):
        find(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"song\.wav: neither a folder nor a list"):
        find(audio(tmp_path / "song.wav"))


# The list


def test_list_in_csv(tmp_path):
    elsewhere = audio(tmp_path / "elsewhere/3.wav")
    audio(tmp_path / "lists/takes/1.wav")
    audio(tmp_path / "lists/takes/2.wav")
    path = listing(
        tmp_path / "lists",
        'takes/1.wav,"Night, Owl",lead vox,train,The Owls',
        "",
        'takes/2.wav,"Night, Owl", violin ,training,The Owls',
        f"{elsewhere},Blau — Stück,piano,Val,",
    )
    found = find(path)
    assert layout(found) == [
        ("Night, Owl", "train", [("1", "lead vox"), ("2", "violin")]),
        ("Blau — Stück", "valid", [("3", "piano")]),
    ]
    assert [song.artist for song in found.songs] == ["The Owls", ""]
    assert all(stem.perform().audio.shape == (1, len(SINE)) for song in found.songs for stem in song.stems)


def test_list_needs_three_columns_in_any_order(tmp_path):
    audio(tmp_path / "1.wav")
    path = listing(tmp_path, "piano,bright,a,1.wav", header="\ufeffInstrument, mood ,SONG,path")
    assert layout(find(path)) == [("a", None, [("1", "piano")])]


def test_list_in_parquet(tmp_path):
    audio(tmp_path / "1.wav")
    audio(tmp_path / "2.wav")
    path = tmp_path / "stems.parquet"
    rows = {
        "path": ["1.wav", "2.wav"],
        "song": ["a", "b"],
        "instrument": ["piano", "violin"],
        "split": ["dev", None],
    }
    pd.DataFrame(rows).to_parquet(path)
    assert layout(find(path)) == [("a", "valid", [("1", "piano")]), ("b", None, [("2", "violin")])]
    pd.DataFrame(rows).drop(columns="song").to_parquet(path)
    with pytest.raises(UserError, match="no column song; expected path,song,instrument"):
        find(path)
    path.write_bytes(b"PAR1 but no more")
    with pytest.raises(UserError, match="the list is not Parquet"):
        find(path)


def test_stems_of_one_file_name_get_names_of_their_own(tmp_path):
    for folder in ("vox", "Piano", "bass"):
        audio(tmp_path / folder / "take.wav")
    audio(tmp_path / "violin/Take_2.wav")
    path = listing(
        tmp_path,
        "vox/take.wav,a,vox",
        "Piano/take.wav,a,piano",
        "violin/Take_2.wav,a,violin",
        "bass/take.wav,a,bass",
        header="path,song,instrument",
    )
    assert layout(find(path))[0][2] == [
        ("take", "vox"), ("take_2", "piano"), ("Take_2_2", "violin"), ("take_3", "bass"),
    ]  # fmt: skip


def test_missing_file_is_reported(tmp_path):
    audio(tmp_path / "1.wav")
    path = listing(tmp_path, "1.wav,a,piano,,", "2.wav,a,violin,,")
    found = find(path)
    assert layout(found) == [("a", None, [("1", "piano")])]
    [skipped] = found.skipped
    assert skipped.what == str(tmp_path / "2.wav")
    assert "line 3" in skipped.why
    (tmp_path / "1.wav").unlink()
    with pytest.raises(UserError, match=r"no usable stems \(first problem: .*1\.wav: no such file"):
        find(path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["1.wav,a,piano,eval,"], "line 2: 'eval' is no split: write train, valid, test"),
        (["1.wav,a,,train,"], "line 2: the column 'instrument' is empty"),
        ([",a,piano,train,"], "line 2: the column 'path' is empty"),
        (["1.wav,a,piano,,", "1.wav,b,violin,,"], r"line 3: 1\.wav is listed already .*line 2"),
        (
            ["1.wav,a,piano,train,", "2.wav,a,piano,test,"],
            "line 3: the song 'a' has the split test, but train",
        ),
        (["1.wav,a,piano,train,", "2.wav,a,piano,,"], "line 3: the song 'a' has the split none, but train"),
        (["1.wav,a,piano,,X", "2.wav,a,piano,,Y"], "line 3: the song 'a' has the artist Y, but X"),
        (["1.wav,Night, Owl,piano,train,X"], "line 2: 6 cells for 5 columns"),
        ([], "no usable stems"),
    ],
)
def test_contradictions_are_refused_with_their_line(tmp_path, rows, message):
    audio(tmp_path / "1.wav")
    audio(tmp_path / "2.wav")
    with pytest.raises(UserError, match=rf"stems\.csv.*{message}"):
        find(listing(tmp_path, *rows))


@pytest.mark.parametrize("name", ["path", "song", "instrument", "split", "artist"])
def test_a_column_twice_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=f"the column {name} is there twice"):
        find(listing(tmp_path, header=f"path,song,instrument,split,artist,{name.upper()}"))


def test_an_open_quote_does_not_swallow_the_lines_that_follow(tmp_path):
    for name in "12":
        audio(tmp_path / f"{name}.wav")
    with pytest.raises(UserError, match=r"stems\.csv, line 3: the list is not CSV"):
        find(listing(tmp_path, '1.wav,a,"piano', "2.wav,b,violin", header="path,song,instrument"))


@pytest.mark.parametrize(
    ("song", "held"),
    [([b"a"], "binary"), ([["a"]], "list<.*string>"), ([{"a": 1}], "struct"), ([datetime.date(1, 1, 1)], "date32")],
)
def test_columns_of_a_parquet_list_hold_text(tmp_path, song, held):
    audio(tmp_path / "1.wav")
    path = tmp_path / "stems.parquet"
    pq.write_table(pa.table({"path": ["1.wav"], "song": song, "instrument": ["piano"]}), path)
    with pytest.raises(UserError, match=rf"stems\.parquet: the column 'song' holds {held}.*; expected text"):
        find(path)


def test_a_parquet_list_may_number_its_songs_and_share_its_words(tmp_path):
    audio(tmp_path / "1.wav")
    instruments = pa.array(["piano"]).dictionary_encode()
    table = pa.table({"path": ["1.wav"], "song": [17], "instrument": instruments, "split": pa.nulls(1)})
    pq.write_table(table, tmp_path / "stems.parquet")
    assert layout(find(tmp_path / "stems.parquet")) == [("17", None, [("1", "piano")])]


def test_text_of_a_parquet_list_that_is_not_utf8_is_refused(tmp_path):
    text = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\4\0\0\0"), pa.py_buffer(b"Fl\xf6t")])
    table = pa.table({"path": text, "song": ["a"], "instrument": ["flute"]})
    pq.write_table(table, tmp_path / "stems.parquet")
    with pytest.raises(UserError, match="holds text that is not UTF-8"):
        find(tmp_path / "stems.parquet")


@pytest.mark.parametrize(
    ("header", "missing"), [("path;song;instrument", "path and no column song"), ("path,song", "instrument")]
)
def test_missing_columns_are_shown(tmp_path, header, missing):
    with pytest.raises(UserError, match=rf"no column {missing}.*; expected path,song,instrument.*, got {header}"):
        find(listing(tmp_path, header=header))


def test_a_list_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "stems.csv"
    path.write_bytes(b"")
    with pytest.raises(UserError, match="got nothing"):
        find(path)
    path.write_bytes("path,song,instrument\n1.wav,Blaues Stück,piano\n".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8 text"):
        find(path)
    path.write_bytes(b'path,song,instrument\n"' + b"x" * 200_000)
    with pytest.raises(UserError, match="not CSV"):
        find(path)


# The audio


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".aiff", ".ogg", ".mp3"])
def test_audio_is_read_as_it_is(tmp_path, suffix):
    stereo = np.stack([SINE, np.zeros_like(SINE)], axis=1)
    performance = AudioFile(audio(tmp_path / f"piano{suffix}", stereo))()
    assert performance.sample_rate == RATE_HZ
    assert performance.audio.shape == (2, len(SINE))
    assert performance.audio.dtype == np.float32
    assert performance.audio.flags.c_contiguous
    assert performance.notes is None
    # A shift by one sample, as a decoder's delay would be, makes 0.17.
    tolerance = 0.1 if suffix in (".ogg", ".mp3") else 2**-15
    assert np.abs(performance.audio - stereo.T).max() < tolerance


def test_stems_pickle_and_read_from_elsewhere(tmp_path, monkeypatch):
    audio(tmp_path / "song/piano.wav")
    monkeypatch.chdir(tmp_path)
    [song] = find(type(tmp_path)(".")).songs
    monkeypatch.chdir("/")
    [stem] = pickle.loads(pickle.dumps(song)).stems
    assert stem.perform().audio.shape == (1, len(SINE))


def test_silence_is_audio(tmp_path):
    assert not AudioFile(audio(tmp_path / "piano.wav", np.zeros(100)))().audio.any()


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".aiff", ".mp3"])
def test_truncated_audio_is_refused(tmp_path, suffix):
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE_HZ)
    path = audio(tmp_path / f"piano{suffix}", noise)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=rf"piano\{suffix}: (truncated|cannot be read as audio)"):
        AudioFile(path)()


def test_audio_of_a_pipe_does_not_know_its_length(tmp_path):
    wav = bytearray(audio(tmp_path / "pipe.wav").read_bytes())
    size = wav.find(b"data") + 4
    wav[size : size + 4] = b"\xff" * 4
    (tmp_path / "pipe.wav").write_bytes(wav)
    assert AudioFile(tmp_path / "pipe.wav")().audio.shape == (1, len(SINE))
    flac = bytearray(audio(tmp_path / "pipe.flac").read_bytes())
    flac[21] &= 0xF0  # the 36 bits of STREAMINFO that count the samples
    flac[22:26] = bytes(4)
    (tmp_path / "pipe.flac").write_bytes(flac)
    with pytest.raises(UserError, match=r"pipe\.flac: does not say how long it is"):
        AudioFile(tmp_path / "pipe.flac")()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "cannot be read as audio"), (b"no audio" * 99, "cannot be read as audio"), (None, "no such file")],
)
def test_what_is_no_audio_is_refused(tmp_path, content, message):
    path = tmp_path / "piano.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"piano\.wav: {message}"):
        AudioFile(path)()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path, bad):
    samples = SINE.copy()
    samples[7] = bad
    path = audio(tmp_path / "piano.wav", samples, subtype="FLOAT")
    with pytest.raises(UserError, match=r"piano\.wav: holds NaN or infinite samples"):
        AudioFile(path)()


def test_audio_without_samples_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"piano\.wav: holds no audio"):
        AudioFile(audio(tmp_path / "piano.wav", SINE[:0]))()


def test_samples_without_a_header_are_refused(tmp_path):
    (tmp_path / "piano.raw").write_bytes(bytes(1000))
    with pytest.raises(UserError, match=r"piano\.raw: has no header"):
        AudioFile(tmp_path / "piano.raw")()


@pytest.mark.skipif(sys.platform == "darwin", reason="file systems of macOS take no other names")
def test_names_that_are_not_utf8_are_reported(tmp_path):
    audio(tmp_path / "good/piano.wav")
    audio(tmp_path / "good/violin.wav")
    os.rename(tmp_path / "good/violin.wav", os.fsencode(tmp_path / "good") + b"/fl\xf6te.wav")
    audio(tmp_path / "song/piano.wav")
    os.rename(tmp_path / "song", os.fsencode(tmp_path) + b"/Fr\xfchling")
    found = find(tmp_path)
    assert layout(found) == [("good", None, [("piano", "piano")])]
    assert {(skipped.what.rsplit("/")[-1], skipped.why) for skipped in found.skipped} == {
        ("fl\\udcf6te.wav", "its name is not UTF-8: rename it."),
        ("Fr\\udcfchling", "its name is not UTF-8: rename it."),
    }


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("songs")


@settings(max_examples=25)
@given(
    st.dictionaries(st.sampled_from("abcdef"), st.sets(st.sampled_from(["piano", "violin", "lead vox"]), min_size=1))
)
def test_both_layouts_describe_the_same_songs(scratch, songs):
    shutil.rmtree(scratch)
    scratch.mkdir()
    rows = []
    for song, instruments in sorted(songs.items()):
        for instrument in sorted(instruments):
            (scratch / song).mkdir(exist_ok=True)
            (scratch / song / f"{instrument}.wav").touch()
            rows.append(f"{song}/{instrument}.wav,{song},{instrument},,")
    if songs:
        assert layout(find(scratch)) == layout(find(listing(scratch, *rows)))
