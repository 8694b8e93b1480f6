"""Embeddings on the disk: what is read, and what is refused."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray import tune

from timbrel import registry
from timbrel.config import with_values
from timbrel.embeddings.parts import Parts, row_of
from timbrel.embeddings.sound import songs_of
from timbrel.embeddings.store import ROWS, Embeddings, Rows, arrow_file, common_names, facts_file, facts_of
from timbrel.errors import UserError
from timbrel.launch import Workplace
from timbrel.library import EMBEDDINGS, Library
from timbrel.mixing.pool import Stream
from timbrel.mixing.taught import SongEmbeddings
from timbrel.search import Search
from timbrel.storing import write_table

SONGS = tuple(f"song {number}" for number in range(9))


def write(library, name="level", dataset="tones", songs=SONGS, dimension=3, dtype="<f4", time=5, values=None, **facts):
    """Write embeddings whose value at song, time and dimension is 100 song + 10 time + dimension."""
    parts = Parts(library.root, dataset, name)
    about = {"teacher": name, "weights": "w", "digest": "d", "dimension": dimension, "hop_s": 1.0}
    about |= {"data_digest": library.facts(dataset)["digest"]} | facts
    parts.begin(about)
    grid = 10 * np.arange(time)[:, None] + np.arange(dimension)
    rows = [row_of(song, (100 * i + grid).astype(float), dimension, dtype) for i, song in enumerate(songs)]
    with parts.append() as writer:
        for row in values or rows:
            writer.write_table(pa.Table.from_pylist([row], ROWS))
    parts.finish({"name": name, **about})
    return library


def rewrite(library, **columns):
    """Put other columns into the file of `write`, as it lies there."""
    file = arrow_file(library.root, "tones", "level")
    table = Rows.of_file(file).table
    for name, column in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    with pa.OSFile(f"{file}.new", "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    Path(f"{file}.new").replace(file)


def test_what_was_written_is_read(library):
    found = Embeddings.open(write(library), "level", ["tones"])
    assert (found.dimension, found.hop_s, found.datasets) == (3, 1.0, ("tones",))
    values = found.of("tones", "song 4")
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, 400 + 10 * np.arange(5)[:, None] + np.arange(3))
    found.check(("tones", song) for song in SONGS)


def test_names_that_all_data_sets_have(library):
    with pytest.raises(UserError, match=r"has no embeddings of 'tones': make some with `timbrel embed TEACHER"):
        common_names(library, ["tones"])
    clicks = [song.name for song in songs_of(library, "clicks")]
    for name in ("level", "other"):
        write(library, name)
    write(library, "level", "clicks", clicks)
    write(library, "third", "clicks", clicks)
    assert common_names(library, ["tones"]) == ["level", "other"]
    assert common_names(library, ["clicks"]) == ["level", "third"]
    assert common_names(library) == common_names(library, library.datasets) == ["level"]


def test_values_stay_in_the_file_and_are_read_only(library):
    found = Embeddings.open(write(library), "level")
    before = pa.total_allocated_bytes()
    values = found.of("tones", "song 4")
    assert pa.total_allocated_bytes() == before
    assert not values.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 1


def test_it_pickles_small_and_maps_again(library):
    found = Embeddings.open(write(library, time=4000), "level")
    found.of("tones", "song 1")
    content = pickle.dumps(found)
    assert len(content) < 1000
    again = pickle.loads(content)
    assert again == found
    np.testing.assert_array_equal(again.of("tones", "song 1"), found.of("tones", "song 1"))


@pytest.mark.parametrize(
    ("start_s", "seconds", "rows"),
    [(0, 2, [0, 1]), (1.4, 2, [1, 2]), (1.6, 1, [2]), (3, 4, [3, 4, 4, 4]), (0, 0.1, [0]), (9, 1, [4]),
     (-2, 3, [0, 0, 0])],
)  # fmt: skip
def test_windows_by_hand(library, start_s, seconds, rows):
    window = Embeddings.open(write(library), "level").window("tones", "song 0", start_s, seconds)
    assert window.dtype == np.float32
    np.testing.assert_array_equal(window, [[10 * row, 10 * row + 1, 10 * row + 2] for row in rows])


def test_one_vector_a_song(library):
    found = Embeddings.open(write(library, time=1, hop_s=0.0), "level")
    np.testing.assert_array_equal(found.window("tones", "song 2", 3.0, 60.0), [[200, 201, 202]])


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "|u1", "<i2"])
def test_dtypes_are_kept_and_windows_are_float32(library, dtype):
    found = Embeddings.open(write(library, songs=SONGS[:2], dtype=dtype), "level")
    assert found.of("tones", "song 1").dtype == np.dtype(dtype)
    window = found.window("tones", "song 1", 1.0, 1.0)
    assert window.dtype == np.float32
    np.testing.assert_array_equal(window, [[110, 111, 112]])


# What comes with a data set


def ship(library, rows, dataset="clicks"):
    table = pa.Table.from_pylist([{"dataset": dataset, **row} for row in rows], EMBEDDINGS)
    write_table(library.root / dataset / "embeddings.parquet", table)
    return library


def vggish(song, stem="mix", network="vggish"):
    values = np.arange(10 * 128).astype(np.uint8).reshape(10, 128)
    return {
        "song": song,
        "stem": stem,
        "network": network,
        "shape": [10, 128],
        "dtype": "|u1",
        "values": values.tobytes(),
    }


def test_what_comes_with_a_data_set_opens_by_its_network(library):
    songs = ("train song", "valid song", "test song")
    found = Embeddings.open(ship(library, [vggish(song) for song in songs]), "vggish")
    assert (found.dimension, found.hop_s, found.datasets) == (128, 0.96, ("clicks",))
    found.check(("clicks", song) for song in songs)
    window = pickle.loads(pickle.dumps(found)).window("clicks", "valid song", 0.96, 1.92)
    np.testing.assert_array_equal(window, np.arange(1280).astype(np.uint8).reshape(10, 128)[1:3])
    with pytest.raises(UserError, match=r"4 of 7 songs have no embedding 'vggish' \(tones/song 0, .* and 1 more\)"):
        found.check([*(("clicks", song) for song in songs), *(("tones", song) for song in SONGS[:4])])


def test_shipped_embeddings_of_stems_or_of_unknown_networks_are_refused(library):
    with pytest.raises(UserError, match=r"are of stems \('train song' has several\)"):
        Embeddings.open(ship(library, [vggish("train song"), vggish("train song", "other")]), "vggish")
    with pytest.raises(UserError, match=r"unknown network .* 'vgish': did you mean 'vggish'"):
        Embeddings.open(ship(library, [vggish("train song", network="vgish")]), "vgish")


# What is refused


def test_never_embedded(library):
    with pytest.raises(UserError, match=r"no embeddings 'crnn' of 'clicks', 'tones' are in .*`timbrel embed TEACHER"):
        Embeddings.open(library, "crnn")
    write(library)
    with pytest.raises(UserError, match=r"no embeddings 'level' of 'clicks' are in"):
        Embeddings.open(library, "level", ["clicks", "tones"])
    with pytest.raises(UserError, match=r"no embeddings 'levle' .* \(there are level\)"):
        Embeddings.open(library, "levle")
    with pytest.raises(UserError, match=r"'\.\./x' is no name of embeddings"):
        Embeddings.open(library, "../x")
    with pytest.raises(UserError, match=r"unknown data set in .* 'tone': did you mean 'tones'"):
        Embeddings.open(library, "level", ["tone"])


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"dimension": 4}, r"different dimensions \(clicks 4, tones 3\)"),
        ({"hop_s": 0.5}, r"different hops \(clicks 0\.5, tones 1\.0\)"),
        ({"digest": "e"}, r"different weights \(clicks e, tones d\)"),
    ],
)
def test_data_sets_that_do_not_go_together(library, other, what):
    write(library)
    write(library, dataset="clicks", songs=("train song",), **other)
    with pytest.raises(UserError, match=what):
        Embeddings.open(library, "level")
    assert Embeddings.open(library, "level", ["tones"]).dimension == 3


def test_stale_embeddings_are_refused(library):
    write(library, data_digest="another")
    with pytest.raises(UserError, match=r"'tones' was prepared again since its embeddings 'level' were made"):
        Embeddings.open(library, "level")


def test_missing_songs_are_counted_and_named(library):
    found = Embeddings.open(write(library, songs=SONGS[:4]), "level")
    with pytest.raises(UserError, match=r"5 of 9 songs .*\(tones/song 4, tones/song 5, tones/song 6 and 2 more\)"):
        found.check(("tones", song) for song in SONGS)
    with pytest.raises(UserError, match=r"no embedding 'level' of the song 'song 8' of 'tones'"):
        found.of("tones", "song 8")
    with pytest.raises(UserError, match=r"of the song 'train song' of 'clicks'"):
        found.window("clicks", "train song", 0, 1)


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"shape": [[5, 2]]}, r"has the shape \(5, 2\), not \(time, 3\)"),
        ({"shape": [[15]]}, r"has the shape \(15,\)"),
        ({"shape": [[0, 3]]}, r"has the shape \(0, 3\)"),
        ({"shape": [[6, 3]]}, r"has 60 bytes of dtype float32 for the shape \(6, 3\)"),
        ({"dtype": ["<f8"]}, "has 60 bytes of dtype float64"),
        ({"dtype": ["|O"]}, "dtype object"),
        ({"dtype": ["nonsense"]}, "has the dtype nonsense"),
    ],
)
def test_a_row_that_is_not_what_it_says(library, columns, why):
    write(library, songs=SONGS[:1])
    types = {"shape": pa.list_(pa.int32()), "dtype": pa.string()}
    rewrite(library, **{name: pa.array(values, types[name]) for name, values in columns.items()})
    with pytest.raises(UserError, match=rf"level\.arrow is damaged .*{why}.*--replace"):
        Embeddings.open(library, "level").of("tones", "song 0")


@pytest.mark.parametrize("keep", [0, 5, 100, 700, -1])
def test_a_file_that_is_cut_off(library, keep):
    file = arrow_file(write(library).root, "tones", "level")
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"level\.arrow is damaged"):
        Embeddings.open(library, "level").of("tones", "song 0")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"dimension": "3", "hop_s": 1, "digest": "", "data_digest": ""}']
)
def test_facts_that_are_damaged(library, content):
    facts_file(write(library).root, "tones", "level").write_text(content)
    with pytest.raises(UserError, match=r"level\.json is damaged"):
        Embeddings.open(library, "level")


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (np.full((4, 3), np.nan), "NaN or infinite"),
        (np.array([[0, 1, np.inf]]), "NaN or infinite"),
        (np.zeros((4, 2)), r"shape \(4, 2\), not \(time, 3\)"),
        (np.zeros((0, 3)), r"shape \(0, 3\)"),
        (np.zeros(3), r"shape \(3,\)"),
    ],
)
def test_values_that_are_never_written(values, why):
    with pytest.raises(UserError, match=why):
        row_of("song", values, 3, "<f4")


# Parts


def test_facts_come_last_and_nothing_else_is_left(library):
    write(library)
    assert sorted(path.name for path in (library.root / "tones/embeddings").iterdir()) == ["level.arrow", "level.json"]
    facts = json.loads(facts_file(library.root, "tones", "level").read_text())
    assert facts["songs"] == 9
    assert facts_of(library, "tones", "level") == facts
    assert facts_of(library, "clicks", "level") is None


@given(keep=st.floats(0, 1), songs=st.integers(1, 6))
def test_a_part_is_read_up_to_where_the_run_was_killed(tmp_path_factory, keep, songs):
    root = tmp_path_factory.mktemp("parts")
    parts = Parts(root, "tones", "level")
    parts.begin({"a": 1})
    rows = [row_of(f"song {number}", np.full((3, 2), number), 2, "<f4") for number in range(songs)]
    sizes = []
    file = parts.folder / "00000.arrows"
    with parts.append() as writer:
        for row in rows:
            writer.write_table(pa.Table.from_pylist([row], ROWS))
            sizes.append(file.stat().st_size)
    content = file.read_bytes()
    cut = int(keep * len(content))
    file.write_bytes(content[:cut])
    whole = {f"song {number}" for number, size in enumerate(sizes) if size <= cut}
    assert Parts(root, "tones", "level").begin({"a": 1}) == whole
    with parts.append() as writer:
        for row in rows[len(whole) :]:
            writer.write_table(pa.Table.from_pylist([row], ROWS))
    assert parts.finish({"name": "level"}) == songs
    table = Rows.of_file(arrow_file(root, "tones", "level"))
    for number in range(songs):
        np.testing.assert_array_equal(table.read(table.numbers[f"song {number}"], 2), np.full((3, 2), number))


def test_parts_of_another_teacher_are_dropped(tmp_path):
    parts = Parts(tmp_path, "tones", "level")
    parts.begin({"digest": "a"})
    with parts.append() as writer:
        writer.write_table(pa.Table.from_pylist([row_of("song", np.ones((1, 1)), 1, "<f4")], ROWS))
    assert parts.begin({"digest": "a"}) == {"song"}
    assert parts.begin({"digest": "b"}) == set()


def test_the_store_needs_no_torch():
    code = "import sys, timbrel.embeddings.store; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_library(tmp_path):
    with pytest.raises(UserError, match="no prepared library"):
        Embeddings.open(Library.open(tmp_path), "level")


# What examples carry


def test_embeddings_that_examples_carry_take_their_space(library, tmp_path):
    task = registry.load("task", "clip_tagging")
    write(library, dimension=30, hop_s=0.5, time=8)
    own = {"teacher.name": "level", "data.datasets": "tones", "mixing.seconds": 2.0}
    config = with_values(task.config_type(), {**task.presets["smoke"], **own})
    seeds = {"seed": tune.grid_search([0, 1])}
    systems = {"system": tune.grid_search(["final", "baseline", "teacher_lr"])}
    place = Workplace(library, None, tmp_path)
    sound, carried = 4 * config.mixing.samples, 4 * 30 * 4
    assert place.example_bytes(Search(task, with_values(config, {"system": "baseline"}), seeds)) == sound
    assert place.example_bytes(Search(task, with_values(config, {"system": "teacher_lr"}), seeds)) == carried
    taught = Search(task, config, {**systems, "lr": tune.grid_search([0.1, 0.2])})
    assert place.example_bytes(taught) == sound + carried
    assert sorted(taught.streams().values()) == [2, 2]  # one with embeddings, one without
    embeddings = SongEmbeddings(
        Embeddings.open(library, "level", ["tones"]), 0.0, 1.0, config.mixing.seconds, heard=False
    )
    stream = Stream(None, config.mixing, 0, "train", embeddings=embeddings)
    assert stream.example_bytes == sound + carried
