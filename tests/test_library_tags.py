"""What a library keeps of a data set besides stems: tags of songs, and embeddings that came with it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from scripted import Options, Scripted
from timbrel.errors import UserError
from timbrel.library import EMBEDDINGS, TAGS, Library
from timbrel.prepare import prepare
from timbrel.sources import Performance, Song, Stem

TONE = np.full((1, 800), 0.25, dtype=np.float32)


def song(name, tags=None, embeddings=None, stem="mix"):
    def perform():
        return Performance(TONE, 8_000, embeddings=embeddings or {})

    return Song(name, (Stem(stem, "mix", perform),), tags=tags)


def prepared(root, *songs, name="scripted", vocabulary=()):
    facts, _ = prepare(Scripted(*songs, vocabulary=vocabulary), None, root, Options(), name)
    return Library.open(root), facts


def arrays_of(library):
    rows = library.embeddings().to_pylist()
    return {
        (row["song"], row["stem"], row["network"]): np.frombuffer(row["values"], row["dtype"]).reshape(row["shape"])
        for row in rows
    }


def test_tags_are_kept_as_they_are(tmp_path):
    values = {"clarinet": 0.17104999999999998, "flute": 0.0, "voice": 0.49999999999999994}
    library, facts = prepared(tmp_path, song("b", values), song("a", {"voice": 1.0}), song("c", {}), song("d"))
    table = library.tags()
    assert table.schema == TAGS
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        ("scripted", "a", "voice", 1.0),
        *(("scripted", "b", tag, value) for tag, value in values.items()),
    ]
    assert facts["vocabulary"] == []


def test_the_vocabulary_keeps_its_order(tmp_path):
    _, facts = prepared(tmp_path, song("a", {"voice": 1.0}), vocabulary=("voice", "accordion", "flute"))
    assert facts["vocabulary"] == ["voice", "accordion", "flute"]


@given(st.dictionaries(st.text(min_size=1).filter(str.isprintable), st.floats(0, 1), max_size=5))
def test_any_tag_and_value_come_back(tmp_path_factory, tags):
    library, _ = prepared(tmp_path_factory.mktemp("library"), song("a", tags))
    assert {row["tag"]: row["value"] for row in library.tags().to_pylist()} == tags


@given(
    arrays.arrays(
        st.sampled_from([np.uint8, np.float16, np.float32, np.int32, np.dtype(">f4")]),
        arrays.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=5),
    )
)
def test_embeddings_come_back_bit_for_bit(tmp_path_factory, values):
    library, _ = prepared(tmp_path_factory.mktemp("library"), song("a", embeddings={"vggish": values}))
    [(key, read)] = arrays_of(library).items()
    assert key == ("a", "mix", "vggish")
    assert (read.dtype, read.shape) == (values.dtype, values.shape)
    assert read.tobytes() == values.tobytes()


def test_a_view_of_an_embedding_is_stored_as_it_reads(tmp_path):
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    library, _ = prepared(tmp_path, song("a", embeddings={"turned": values.T, "thinned": values[::2]}))
    read = arrays_of(library)
    np.testing.assert_array_equal(read["a", "mix", "turned"], values.T)
    np.testing.assert_array_equal(read["a", "mix", "thinned"], values[::2])


def test_data_sets_are_read_together_or_by_name(tmp_path):
    vggish = {"vggish": np.zeros((1, 128), dtype=np.uint8)}
    prepared(tmp_path, song("a", {"voice": 1.0}, vggish), name="one")
    prepared(tmp_path, song("a", {"flute": 0.5}, vggish, stem="other"), name="two")
    library, _ = prepared(tmp_path, song("a"), name="bare")
    assert library.tags()["dataset"].to_pylist() == ["one", "two"]
    assert library.tags(["two"])["tag"].to_pylist() == ["flute"]
    assert library.tags(["two", "one", "two"]).num_rows == 2
    assert library.embeddings()["dataset"].to_pylist() == ["one", "two"]
    assert library.embeddings(["two"])["stem"].to_pylist() == ["other"]
    with pytest.raises(UserError, match="'three'"):
        library.tags(["one", "three"])
    with pytest.raises(UserError, match="'three'"):
        library.embeddings(["three"])


def test_a_data_set_without_them_has_empty_tables_and_no_files(tmp_path):
    library, _ = prepared(tmp_path, song("a"))
    assert library.tags() == TAGS.empty_table()
    assert library.embeddings(["scripted"]) == EMBEDDINGS.empty_table()
    assert not (tmp_path / "scripted/tags.parquet").exists()
    assert not (tmp_path / "scripted/embeddings.parquet").exists()


def test_tags_count_in_the_digest_and_their_order_does_not(tmp_path):
    digests = [
        prepared(tmp_path / str(number), song("a", tags))[1]["digest"]
        for number, tags in enumerate([{"x": 1.0, "y": 0.5}, {"y": 0.5, "x": 1.0}, {"x": 1.0, "y": 0.25}, {"x": 1.0}])
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize("name", ["tags", "embeddings"])
def test_a_damaged_table_is_named(tmp_path, name):
    library, _ = prepared(tmp_path, song("a", {"x": 1.0}, {"net": np.zeros((1, 2))}))
    (tmp_path / f"scripted/{name}.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(UserError, match=rf"{name}\.parquet can't be read .*--replace"):
        getattr(library, name)()
