"""What the sources of tagged clips share, and that all of them read a bucket as they read a folder."""

import io
import json
import pickle

import numpy as np
import pytest
import soundfile
from upath import UPath

from timbrel.errors import UserError
from timbrel.sources import magnatagatune, mtg_jamendo, openmic
from timbrel.sources.base import Skipped
from timbrel.sources.clips import Tree, data_set_folder, rows


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_numbered_and_have_no_ends(tmp_path, end):
    table = tmp_path / "table.tsv"
    table.write_bytes(end.join(["\ufeffa\t b ", "", '"two\twords"\tc', ""]).encode())
    assert list(rows(table, delimiter="\t")) == [
        (f"{table}, line 1", ["a", "b"]),
        (f"{table}, line 3", ["two\twords", "c"]),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n\xff,c\n", "it is not UTF-8 text"),
        (b'a,b\n"c,d\n', r"line \d: it is no table"),
        (b"a," + b"b" * 200_000, "line 1: it is no table"),
        (None, "no such file"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, message):
    table = tmp_path / "table.csv"
    if content is not None:
        table.write_bytes(content)
    with pytest.raises(UserError, match=rf"table\.csv(:|,) {message}"):
        list(rows(table))


def test_a_folder_is_no_table(tmp_path):
    (tmp_path / "table.csv").mkdir()
    with pytest.raises(UserError, match=r"table\.csv: cannot be read \(Is a directory\)"):
        list(rows(tmp_path / "table.csv"))


def test_a_tree_looks_at_each_folder_once(tmp_path, monkeypatch):
    for name in ("00/a.mp3", "00/b.mp3", "00/._b.mp3", "00/notes.txt", "01/c.mp3", "02/d.mp3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    looked = []
    listed = type(tmp_path).iterdir
    monkeypatch.setattr(type(tmp_path), "iterdir", lambda folder: looked.append(folder.name) or listed(folder))
    skipped: list[Skipped] = []
    tree = Tree(tmp_path, skipped)
    assert tree.file("00/a.mp3") == tmp_path / "00/a.mp3"
    assert tree.file("00/gone.mp3") is None
    assert tree.file("01/c.mp3") == tmp_path / "01/c.mp3"
    assert tree.file("99/c.mp3") is None
    assert looked == ["00", "01"]
    assert list(tree.unused(".mp3")) == [tmp_path / "00/b.mp3"]
    assert skipped == []


def test_the_folder_of_a_data_set_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert data_set_folder(type(tmp_path)("."), "openmic", "expected clips") == tmp_path


@pytest.fixture
def bucket(request):
    """A folder of a file system in memory, and a function that writes into it."""
    root = UPath(f"memory://{request.node.name}")

    def put(name, content):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    yield root, put
    root.fs.rm(root.path, recursive=True)


def noise(kind):
    stream = io.BytesIO()
    soundfile.write(stream, np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000, format=kind)
    return stream.getvalue()


def performed(found):
    """Read each clip as a worker would."""
    return {song.name: pickle.loads(pickle.dumps(song)).stems[0].perform() for song in found.songs}


def test_mtg_jamendo_in_a_bucket(bucket):
    root, put = bucket
    header = "\t".join(mtg_jamendo.HEADER)
    for number, word in enumerate(mtg_jamendo.SPLITS):
        row = f"track_{number}\tartist_{number}\talbum_0\t0{number}/{number}.mp3\t1.0\tgenre---rock"
        put(f"data/splits/split-0/autotagging_top50tags-{word}.tsv", f"{header}\r\n{row}\r\n")
        put(f"raw_30s/audio/0{number}/{number}.mp3", noise("MP3"))
    found = mtg_jamendo.SOURCE.find(root, mtg_jamendo.MtgJamendoOptions())
    assert {name: part.audio.shape for name, part in performed(found).items()} == {
        f"track_{number}": (1, 16_000) for number in range(3)
    }
    assert found.skipped == []


def test_openmic_in_a_bucket(bucket):
    root, put = bucket
    put("class-map.json", '{"flute": 0}')
    put(openmic.LABELS, "sample_key,instrument,relevance,num_responses\n000001_0,flute,0.3,3\n000002_0,flute,1.0,3\n")
    put(openmic.METADATA, "artist_name,sample_key\nA,000001_0\nB,000002_0\n")
    for split, key in (("train", "000001_0"), ("test", "000002_0")):
        put(f"partitions/split01_{split}.csv", f"{key}\n")
        put(f"audio/000/{key}.ogg", noise("OGG"))
        put(f"vggish/000/{key}.json", json.dumps({"features": [[7] * 128]}))
    found = openmic.SOURCE.find(root, openmic.OpenmicOptions())
    parts = performed(found)
    assert {name: part.audio.shape for name, part in parts.items()} == {
        "000001_0": (1, 16_000),
        "000002_0": (1, 16_000),
    }
    assert all((part.embeddings["vggish"] == np.full((1, 128), 7, dtype=np.uint8)).all() for part in parts.values())
    assert found.skipped == []


def test_magnatagatune_in_a_bucket(bucket):
    root, put = bucket
    path = "f/artist-album-01-title-0-29.mp3"
    tags = [*magnatagatune.MAGNATAGATUNE, *(f"rare {number}" for number in range(138))]
    lines = ["\t".join(["clip_id", *tags, "mp3_path"]), "\t".join(["1", *["1"] * 188, path])]
    put(magnatagatune.ANNOTATIONS, "\n".join(lines))
    put(path, noise("MP3"))
    for split in ("train", "valid", "test"):
        stream = io.BytesIO()
        np.save(stream, np.array([f"0\t{path}"] if split == "test" else [], dtype="<U40"))
        put(f"split/{split}.npy", stream.getvalue())
    found = magnatagatune.SOURCE.find(root, magnatagatune.MagnatagatuneOptions(lists="split"))
    assert {name: part.audio.shape for name, part in performed(found).items()} == {"1": (1, 16_000)}
    assert found.skipped == []
