import os
import pickle

import numpy as np
import pytest

from timbrel.clip_labels import MAGNATAGATUNE
from timbrel.errors import UserError
from timbrel.library import Library
from timbrel.prepare import prepare
from timbrel.sources.base import Skipped
from timbrel.sources.magnatagatune import (
    EMPTY,
    MALFORMED,
    N_TAGS,
    NO_ANNOTATION,
    NO_AUDIO,
    NOT_ANNOTATED,
    NOT_LISTED,
    SOURCE,
    MagnatagatuneOptions,
)

TAGS = ["singer", *sorted(MAGNATAGATUNE), *(f"rare {number}" for number in range(N_TAGS - 51))]
"""188 columns, not by frequency, as in the data set."""
HEADER = "\t".join(["clip_id", *TAGS, "mp3_path"])
CLIPS = {
    "f/american_bach_soloists-j_s__bach_solo_cantatas-01-bwv54__i_aria-30-59.mp3": ("2", {"classical", "violin"}),
    "f/american_bach_soloists-j_s__bach_solo_cantatas-01-bwv54__i_aria-146-175.mp3": ("6", {"classical", "singer"}),
    "b/processor-insomnia-08-shiraio_pig-117-146.mp3": ("7", {"techno", "rare 3"}),
    "0/jackalopes-jacksploitation-02-love_my_mind-0-29.mp3": ("9", set()),
    "c/vito_paternoster-cd1bach_sonatas-15-sonata_seconda-204-233.mp3": ("12", {"violin"}),
}
PATHS = list(CLIPS)


def find(path, **options):
    return SOURCE.find(path, MagnatagatuneOptions(**options))


def line(path, clip_id, present, tags=TAGS):
    return "\t".join([clip_id, *("1" if tag in present else "0" for tag in tags), path])


def write_annotations(root, *lines, header=HEADER):
    path = root / "annotations_final.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def write_lists(root, **lists):
    root.mkdir(exist_ok=True)
    for split in ("train", "valid", "test"):
        paths = lists.get(split, [])
        np.save(
            root / f"{split}.npy", np.array([f"{index}\t{path}" for index, path in enumerate(paths)], dtype="<U200")
        )


@pytest.fixture
def unpacked(tmp_path, write_tone):
    """The archive unpacked, with five clips."""
    root = tmp_path / "magnatagatune"
    for path in CLIPS:
        write_tone(root / path, sample_rate=16_000, channels=1)
    write_annotations(root, *(line(path, *CLIPS[path]) for path in CLIPS))
    return root


def test_clips_have_the_50_tags_and_the_split_of_their_folder(unpacked):
    found = find(unpacked)
    assert [(song.name, song.split, song.artist, song.tags) for song in found.songs] == [
        ("2", "test", "american_bach_soloists", {"classical": 1.0, "violin": 1.0}),
        ("6", "test", "american_bach_soloists", {"classical": 1.0}),
        ("7", "train", "processor", {"techno": 1.0}),
        ("9", "train", "jackalopes", {}),
        ("12", "valid", "vito_paternoster", {"violin": 1.0}),
    ]
    assert [song.group for song in found.songs][:3] == [
        "american_bach_soloists-j_s__bach_solo_cantatas-01-bwv54__i_aria",
        "american_bach_soloists-j_s__bach_solo_cantatas-01-bwv54__i_aria",
        "processor-insomnia-08-shiraio_pig",
    ]
    assert found.vocabulary == MAGNATAGATUNE
    assert found.count == 5
    assert found.skipped == []
    assert all([(stem.name, stem.instrument) for stem in song.stems] == [("mix", "mix")] for song in found.songs)
    assert find(unpacked) == found


def test_all_188_tags(unpacked):
    found = find(unpacked, tags="188")
    assert found.vocabulary == tuple(TAGS)
    tags = {song.name: set(song.tags) for song in found.songs}
    assert tags == dict(CLIPS.values())


def test_the_library_holds_tags_and_vocabulary(unpacked, tmp_path):
    facts, _ = prepare(SOURCE, unpacked, tmp_path / "library", MagnatagatuneOptions())
    assert facts["splits"] == {"train": 2, "valid": 1, "test": 2}
    assert facts["vocabulary"] == list(MAGNATAGATUNE)
    assert facts["sample_rates"] == {"16000": 5}
    library = Library.open(tmp_path / "library")
    assert [(row["song"], row["tag"], row["value"]) for row in library.tags().to_pylist()] == [
        ("12", "violin", 1.0),
        ("2", "classical", 1.0),
        ("2", "violin", 1.0),
        ("6", "classical", 1.0),
        ("7", "techno", 1.0),
    ]
    assert library.catalogue().num_rows == 5


@pytest.mark.parametrize("folder", ["mp3", "audio"])
def test_mp3s_may_be_in_a_folder_of_their_own(unpacked, folder):
    (unpacked / folder).mkdir()
    for name in "0bcf":
        (unpacked / name).rename(unpacked / folder / name)
    assert find(unpacked).count == 5


def test_every_folder_has_a_split(unpacked, write_tone):
    clips = {
        f"{folder}/a-b-01-c-0-29.mp3": (str(number), {"guitar"}) for number, folder in enumerate("0123456789abcdef")
    }
    for path in clips:
        (unpacked / path).parent.mkdir(exist_ok=True)
        (unpacked / path).write_bytes(b"1")
    write_annotations(unpacked, *(line(path, *clips[path]) for path in clips))
    assert [song.split for song in find(unpacked).songs] == ["train"] * 12 + ["valid"] + ["test"] * 3


def test_the_cleaned_split_leaves_out_what_is_in_no_list(unpacked):
    write_lists(unpacked / "split", train=[PATHS[2]], valid=[PATHS[4]], test=[PATHS[0], "e/gone-gone-01-gone-0-29.mp3"])
    found = find(unpacked, lists="split")
    assert [(song.name, song.split) for song in found.songs] == [("2", "test"), ("7", "train"), ("12", "valid")]
    assert found.skipped == [
        Skipped(PATHS[1], NOT_LISTED),
        Skipped(PATHS[3], NOT_LISTED),
        Skipped("e/gone-gone-01-gone-0-29.mp3", NOT_ANNOTATED),
    ]


def test_clips_pickle_and_read_from_elsewhere(unpacked, monkeypatch):
    monkeypatch.chdir(unpacked)
    song = next(iter(find(type(unpacked)(".")).songs))
    monkeypatch.chdir("/")
    performance = pickle.loads(pickle.dumps(song)).stems[0].perform()
    assert performance.audio.shape == (1, 16_000)
    assert performance.sample_rate == 16_000


# Broken data sets


def test_what_is_missing_or_empty_is_named_under_one_reason_each(unpacked, write_tone):
    (unpacked / PATHS[0]).unlink()
    (unpacked / PATHS[1]).write_bytes(b"")
    stray = write_tone(unpacked / "c/nobody-nothing-01-none-0-29.mp3")
    found = find(unpacked)
    assert [song.name for song in found.songs] == ["7", "9", "12"]
    assert found.skipped == [
        Skipped(PATHS[0], NO_AUDIO),
        Skipped(PATHS[1], EMPTY),
        Skipped(str(stray), NO_ANNOTATION),
    ]


@pytest.mark.parametrize("content", [b"no audio at all", None])
def test_damaged_audio_leaves_the_rest(unpacked, tmp_path, content):
    path = unpacked / PATHS[2]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content is None else content)
    facts, _ = prepare(SOURCE, unpacked, tmp_path / "library", MagnatagatuneOptions())
    assert facts["songs"] == 4
    assert f"{path.name}: " in dict(facts["skipped"])["7/mix"]


@pytest.mark.parametrize(
    "row",
    [
        "7",
        "7\tb/a-b-01-c-0-29.mp3",
        line("b/a-b-01-c-0-29.mp3", "7", set(), TAGS[:-1]),
        line("b/a-b-01-c-0-29.mp3", "7", set()).replace("\t0", "\t2", 1),
        line("b/a-b-01-c-0-29.mp3", "seven", set()),
        line("g/a-b-01-c-0-29.mp3", "7", set()),
        line("b/../a.mp3", "7", set()),
        line("b/a-b-01-c-0-29.wav", "7", set()),
    ],
)
def test_a_malformed_row_is_named_and_the_rest_goes_on(unpacked, row):
    path = write_annotations(unpacked, row, *(line(path, *CLIPS[path]) for path in CLIPS))
    found = find(unpacked)
    assert found.count == 5
    assert found.skipped == [Skipped(f"{path}, line 2", MALFORMED)]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("clip_id\tmp3_path", "got 2 columns without the tag guitar"),
        ("clip_id", "got 1 columns"),
        ("\t".join(["clip_id", *TAGS]), "got 189 columns"),
        ("\t".join(["clip_id", *TAGS[:-1], "mp3_path"]), "got 189 columns"),
        ("\t".join(["clip_id", *TAGS[:-1], TAGS[0], "mp3_path"]), "got 190 columns"),
        (",".join(["clip_id", *TAGS, "mp3_path"]), "got 1 columns"),
        ("\t".join(["clip_id", *TAGS, "mp3_path"]).replace("guitar", "gitarre"), "without the tag guitar"),
    ],
)
def test_a_wrong_header_is_refused(unpacked, header, message):
    write_annotations(unpacked, header=header)
    with pytest.raises(UserError, match=rf"annotations_final\.csv, line 1: expected clip_id, 188 tags .*{message}"):
        find(unpacked)


@pytest.mark.parametrize("twin", [(PATHS[0], "99"), ("f/other-other-01-other-0-29.mp3", "2")])
def test_duplicates_are_refused_with_both_lines(unpacked, twin):
    path, clip_id = twin
    table = write_annotations(unpacked, *(line(path, *CLIPS[path]) for path in CLIPS), line(path, clip_id, set()))
    with pytest.raises(UserError, match=rf"line 7: .* is there already \({table}, line 2\)"):
        find(unpacked)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (np.array(["0\ta", None], dtype=object), "not a list of text as .npy .*pickle"),
        (np.zeros(3), "expected lines of text, got float64"),
        (np.array([["0\ta"]]), r"expected lines of text, got <U3 of shape \(1, 1\)"),
        (np.array(["a/b.mp3"]), "expected index<tab>mp3_path, got 'a/b.mp3'"),
        (np.array([f"0\t{PATHS[0]}"]), "is in train.npy already"),
        (b"", "not a list of text"),
        (None, "no such file"),
    ],
)
def test_damaged_lists_are_refused(unpacked, lines, message):
    write_lists(unpacked / "split", train=[PATHS[0]])
    path = unpacked / "split/valid.npy"
    path.unlink()
    if isinstance(lines, bytes):
        path.write_bytes(lines)
    elif lines is not None:
        np.save(path, lines, allow_pickle=True)
    with pytest.raises(UserError, match=rf"valid\.npy: .*{message}"):
        find(unpacked, lists="split")


def test_a_file_whose_name_is_not_utf8_is_reported(unpacked):
    folder = os.fsencode(unpacked / "b")
    os.rename(os.fsencode(unpacked / PATHS[2]), folder + b"/pr\xf6cessor.mp3")
    found = find(unpacked)
    assert Skipped(PATHS[2], NO_AUDIO) in found.skipped
    assert [each.why for each in found.skipped if "udcf6" in each.what] == ["its name is not UTF-8: rename it."]


def test_a_table_that_is_no_text_is_refused(unpacked):
    path = write_annotations(unpacked)
    path.write_bytes(path.read_bytes().replace(b"guitar", b"g\xfctar"))
    with pytest.raises(UserError, match=r"annotations_final\.csv: it is not UTF-8 text"):
        find(unpacked)
    path.unlink()
    with pytest.raises(UserError, match=r"annotations_final\.csv: no such file"):
        find(unpacked)


def test_nothing_usable(unpacked, tmp_path):
    with pytest.raises(UserError, match="needs the path of a folder"):
        find(None)
    with pytest.raises(UserError, match=r"nowhere: no such folder; expected annotations_final\.csv"):
        find(tmp_path / "nowhere")
    for path in CLIPS:
        (unpacked / path).unlink()
    with pytest.raises(UserError, match=r"no clip can be used \(first problem: f/american_bach.*its audio is missing"):
        find(unpacked)
    for name in "0bcf":
        (unpacked / name).rmdir()
    with pytest.raises(UserError, match=r"no folder 0 to f of MP3s in it"):
        find(unpacked)
