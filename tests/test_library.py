"""The prepared library, as it is read: its tables, its digest, and what is no library."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripted import NOISE, Options, Scripted, prepared, song, stem
from timbrel.errors import UserError
from timbrel.library import NOTES, SCHEMA_VERSION, Library, safe_name
from timbrel.prepare import prepare
from timbrel.sources import Note


def test_notes_of_a_mix_have_programs_and_older_libraries_have_none(tmp_path):
    notes = (Note(0.1, 0.4, 62, 90, 40), Note(0.5, 0.9, 36, 100, 128))
    prepare(Scripted(song("a", stem("mix", notes=notes)), name="mixes"), None, tmp_path, Options())
    prepare(Scripted(song("b", stem("violin", notes=notes[:1])), name="older"), None, tmp_path, Options())
    older = tmp_path / "older/notes.parquet"
    pq.write_table(pq.read_table(older).drop_columns("program"), older)
    assert Library.open(tmp_path).notes().schema.equals(NOTES)
    assert Library.open(tmp_path).notes()["program"].to_pylist() == [40, 128, None]
    assert Library.open(tmp_path).notes(("older",))["pitch"].to_pylist() == [62]


@given(st.text(max_size=120), st.text(max_size=120))
def test_safe_names(one, other):
    safe = safe_name(one)
    assert safe == safe.strip(" .")
    assert not set(safe) & set('/\\\0:*?"<>|\n')
    assert (safe == safe_name(other)) == (one == other)


def test_the_digest_speaks_of_content_not_of_order(tmp_path):
    def digest(folder, *songs):
        prepared(tmp_path / folder, *songs)
        return Library.open(tmp_path / folder).digest()

    songs = [song("a", stem("piano"), stem("violin", NOISE / 2)), song("b"), song("c", split="test")]
    original = digest("original", *songs)
    assert digest("reordered", songs[2], song("a", *songs[0].stems[::-1]), songs[1]) == original
    others = {
        "audio": song("b", stem("piano", np.append(NOISE[:-1], 0.1).astype(np.float32))),
        "length": song("b", stem("piano", NOISE[:-1])),
        "instrument": song("b", stem("piano", instrument="harp")),
        "program": song("b", stem("piano", program=3)),
        "split": song("b", split="valid"),
        "name": song("bb"),
        "sample rate": song("b", stem("piano", rate_hz=16_000)),
        "group": song("b", group="a"),
    }
    same = [what for what, other in others.items() if digest(what, songs[0], other, songs[2]) == original]
    assert same == []


def test_the_digest_of_a_library_is_that_of_its_data_sets(tone_library):
    library = Library.open(tone_library)
    assert library.digest() == library.digest(("tones", "clicks")) == library.digest(("clicks", "tones"))
    assert len({library.digest(), library.digest(("tones",)), library.digest(("clicks",))}) == 3


@pytest.mark.parametrize("content", [b"", b"PAR1 and so on", None])
def test_a_damaged_catalogue_is_named(tmp_path, content):
    prepared(tmp_path, song("a"))
    file = tmp_path / "scripted/catalogue.parquet"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    with pytest.raises(UserError, match=r"catalogue\.parquet can't be read .*prepare the data set anew with --replace"):
        Library.open(tmp_path).catalogue()


def test_opening_what_is_no_library(tmp_path):
    with pytest.raises(UserError, match="is no prepared library: make one with `timbrel prepare"):
        Library.open(tmp_path / "nowhere")
    Library.create(tmp_path)
    with pytest.raises(UserError, match="holds no data set yet"):
        Library.open(tmp_path)
    assert Library.create(tmp_path).root == tmp_path


def make_newer(root):
    Library.create(root)
    (root / "library.json").write_text(json.dumps({"schema": SCHEMA_VERSION + 1}))


def test_a_newer_library_is_refused(tmp_path):
    prepared(tmp_path, song("a"))
    make_newer(tmp_path)
    with pytest.raises(UserError, match=f"has schema {SCHEMA_VERSION + 1}.*upgrade timbrel"):
        Library.open(tmp_path)


def test_nothing_is_added_to_a_newer_library(tmp_path):
    make_newer(tmp_path)
    with pytest.raises(UserError, match="upgrade timbrel"):
        prepared(tmp_path, song("a"))


def test_a_damaged_library_is_refused(tmp_path):
    (tmp_path / "library.json").write_text('{"sche')
    with pytest.raises(UserError, match=r"library\.json"):
        Library.open(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file"):
        prepared(tmp_path / "file", song("a"))


def test_catalogue_of_some_data_sets(tone_library):
    library = Library.open(tone_library)
    assert library.datasets == ("clicks", "tones")
    assert set(library.catalogue(("tones",))["dataset"].to_pylist()) == {"tones"}
    whole = library.catalogue()
    assert whole.equals(library.catalogue(("tones", "clicks")))
    assert whole.num_rows == 6 + 9 * 3 + 4
    assert library.catalogue((), ["song"]).column_names == ["song"]
    with pytest.raises(UserError, match="'tone': did you mean 'tones'"):
        library.catalogue(("tone",))


def test_a_rendered_band_has_programs_and_notes(band_library):
    library = Library.open(band_library)
    catalogue, notes = library.catalogue().to_pylist(), library.notes().to_pylist()
    assert all(0 <= row["program"] <= 128 for row in catalogue)
    lengths = {row["song"]: row["frames"] / row["sample_rate"] for row in catalogue}
    assert len(lengths) == 6
    assert {(note["song"], note["stem"]) for note in notes} <= {(row["song"], row["stem"]) for row in catalogue}
    assert all(0 <= note["onset_s"] < note["offset_s"] <= lengths[note["song"]] for note in notes)
    assert library.facts("house_band")["notes"] == len(notes) > 100
    hours = sum(row["frames"] / row["sample_rate"] for row in catalogue) / 3600
    assert library.facts("house_band")["hours"] == pytest.approx(hours, abs=1e-3)
