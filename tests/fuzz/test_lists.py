"""Lists of stems, in CSV and in Parquet: any columns, cells, types and encodings."""

import datetime
import decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from timbrel.sources.stems import SOURCE, StemsOptions

FUZZ = settings.get_profile("fuzz")
COLUMNS = ["path", "song", "instrument", "split", "artist"]
FILES = ["1.wav", "2.wav", "3.flac", "silent.wav", "broken.wav", "gone.wav", "folder.wav", ".", "..", "/", "/dev/null"]
WORDS = [
    "",
    " ",
    "a",
    "Night Owl",
    "夜",
    "e\u0301",
    "\0",
    "a\nb",
    '"',
    "../x",
    "x" * 300,
    "=1+1",
    "nan",
    "17",
    "\x1b[31m",
]
INSTRUMENTS = ["piano", "violin", "lead vox", "Violins 2", "808", "mix", "theorbo"]
SPLITS = ["train", "valid", "Dev", "test", "eval"]
WORD = st.sampled_from(WORDS)
GOOD_FILE = st.sampled_from(["1.wav", "2.wav", "3.flac", "silent.wav", "broken.wav", "gone.wav"])
NAME = st.sampled_from([*COLUMNS, " Path", "SONG", "mood", "", "\ufeffpath"])
CELL = st.sampled_from([*FILES, *WORDS, *INSTRUMENTS, *SPLITS]) | st.text(max_size=20)
OPTIONS = st.sampled_from(["skip", "keep", "error"]).map(lambda unknown: StemsOptions(unknown=unknown))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with files for a list to name: good, silent and broken ones, and a folder called like one."""
    folder = tmp_path_factory.mktemp("files")
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 2000)
    for name in ("1.wav", "2.wav", "3.flac"):
        soundfile.write(folder / name, noise, 8000)
    soundfile.write(folder / "silent.wav", 0 * noise, 8000)
    (folder / "broken.wav").write_bytes(b"RIFF")
    (folder / "folder.wav").mkdir()
    return folder


@st.composite
def good_rows(draw):
    """Rows without a contradiction: every song has one split and one artist, and every file is listed once."""
    facts = {song: (draw(st.sampled_from(["", "", *SPLITS])), draw(WORD)) for song in ("a", "b", draw(WORD))}
    rows = draw(
        st.lists(st.tuples(GOOD_FILE, st.sampled_from(sorted(facts)), st.sampled_from(INSTRUMENTS)), max_size=6)
    )
    return [(*row, *facts[row[1]]) for row in {row[0]: row for row in rows}.values()]


@st.composite
def csv_texts(draw):
    """A list as a program, or somebody, might write it."""
    if draw(st.booleans()):
        columns, rows = COLUMNS, draw(good_rows())
    else:
        columns = draw(st.lists(NAME, max_size=7))
        rows = draw(st.lists(st.lists(CELL, max_size=8), max_size=6))
    separator = draw(st.sampled_from([",", ",", ",", ",", ";"]))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    quoted = draw(st.sampled_from([True, True, False]))

    def quote(cell):
        return '"' + cell.replace('"', '""') + '"' if quoted else cell

    return end.join(separator.join(map(quote, row)) for row in [columns, *rows])


@FUZZ
@given(
    text=csv_texts(), encoding=st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "latin-1", "utf-16"]), options=OPTIONS
)
def test_lists_in_csv(attempt_prepare, folder, text, encoding, options):
    path = folder / "list.csv"
    path.write_bytes(text.encode(encoding, errors="replace"))
    attempt_prepare("CSV", SOURCE, path, options)


@FUZZ
@given(content=st.binary(max_size=400), header=st.sampled_from([b"", b"path,song,instrument\n"]), options=OPTIONS)
def test_lists_of_any_bytes(attempt_prepare, folder, content, header, options):
    path = folder / "list.csv"
    path.write_bytes(header + content)
    attempt_prepare("bytes", SOURCE, path, options)


VALUES = {
    "text": CELL,
    "large text": CELL,
    "shared text": CELL,
    "bytes": st.binary(max_size=10),
    "integer": st.integers(-(2**63), 2**63 - 1),
    "number": st.floats(),
    "truth": st.booleans(),
    "time": st.datetimes(),
    "date": st.dates() | st.just(datetime.date(1, 1, 1)),
    "decimal": st.decimals(0, 99, places=2) | st.just(decimal.Decimal("0.01")),
    "list": st.lists(CELL, max_size=3),
    "struct": st.fixed_dictionaries({"a": CELL}),
}
TYPES = {
    "large text": pa.large_string(),
    "shared text": pa.string(),
    "bytes": pa.binary(),
    "decimal": pa.decimal128(10, 2),
    "list": pa.list_(pa.string()),
    "struct": pa.struct({"a": pa.string()}),
}


@st.composite
def parquet_tables(draw):
    """A table with any columns of any type, or one that is nearly right."""
    if draw(st.booleans()):
        rows = draw(good_rows())
        columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)] or [pa.nulls(0)] * 5
        names = list(COLUMNS)
        if draw(st.sampled_from([True, False, False])):  # one column of another type
            changed = draw(st.integers(0, 4))
            columns[changed] = draw(parquet_columns(len(rows)))
        return pa.table(columns, names=names)
    length = draw(st.integers(0, 4))
    names = draw(st.lists(NAME, min_size=1, max_size=7))
    return pa.table([draw(parquet_columns(length)) for _ in names], names=names)


@st.composite
def parquet_columns(draw, length):
    kind = draw(st.sampled_from([*VALUES, "nothing"]))
    if kind == "nothing":
        return pa.nulls(length)
    values = draw(st.lists(st.none() | VALUES[kind], min_size=length, max_size=length))
    array = pa.array(values, TYPES.get(kind))
    return array.dictionary_encode() if kind == "shared text" and length else array


@FUZZ
@given(
    table=parquet_tables(),
    damage=st.just([]) | st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=2),
    options=OPTIONS,
)
def test_lists_in_parquet(attempt_prepare, folder, table, damage, options):
    path = folder / "list.parquet"
    pq.write_table(table, path)
    content = bytearray(path.read_bytes())
    for place, value in damage:
        content[round(place * (len(content) - 1))] = value
    path.write_bytes(content)
    facts = attempt_prepare("Parquet", SOURCE, path, options)
    if facts and not damage:
        assert facts["stems"] + len(facts["skipped"]) >= table.num_rows
