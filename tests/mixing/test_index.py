"""The index of a split: which stems, grouped how, and in which order."""

import dataclasses
import itertools
import re

import numpy as np
import pytest

from timbrel import library, registry
from timbrel.config import with_values
from timbrel.errors import UserError
from timbrel.library import Library
from timbrel.mixing.index import NAMED, build_index, missing_examples
from timbrel.mixing.plan import plan_mixture
from timbrel.mixing.render import render_example
from timbrel.taxonomy import CLASSES


@pytest.fixture(scope="module")
def build(tone_library, instrument_task):
    def run(split="train", task=instrument_task, **values):
        config = with_values(task.config_type(), {path.replace("__", "."): value for path, value in values.items()})
        return build_index(Library.open(tone_library), split, task, config)

    return run


def test_the_arrays_agree_with_the_catalogue(build, tone_library):
    index = build()
    rows = [row for row in Library.open(tone_library).catalogue().to_pylist() if row["split"] == "train"]
    assert index.paths.to_pylist() == [row["path"] for row in rows]
    assert index.names.to_pylist() == [row["instrument"] for row in rows]
    np.testing.assert_array_equal(index.frames, [row["frames"] for row in rows])
    assert index.datasets == ("clicks", "tones")
    for dataset, name in enumerate(index.datasets):
        for song in range(index.dataset_songs[dataset], index.dataset_songs[dataset + 1]):
            stems = rows[index.song_stems[song] : index.song_stems[song + 1]]
            assert {(row["dataset"], row["song"]) for row in stems} == {(name, index.songs[song].as_py())}
    assert index.dataset_songs[-1] == len(index.songs)
    assert index.song_stems[-1] == len(rows) == len(index.labels)
    assert index.active_rows[-1] == len(index.active)
    assert index.seconds_of(0) == 4.0
    assert index.active.dtype == np.float32


def test_a_catalogue_may_be_read_in_any_pieces(build, monkeypatch):
    whole = build()
    monkeypatch.setattr(library, "ROWS_AT_ONCE", 5)
    pieces = build()
    np.testing.assert_array_equal(pieces.active, whole.active)
    np.testing.assert_array_equal(pieces.active_rows, whole.active_rows)


def test_activity_of_known_stems(build):
    index = build()
    for stem, name in enumerate(index.names.to_pylist()):
        spans = index.active[index.active_rows[stem] : index.active_rows[stem + 1]]
        if name == "electric bass":
            assert len(spans) == 0
        if name == "violin":
            np.testing.assert_allclose(spans, [(1.0, 2.5)], atol=0.3)
        if name == "piano":
            assert spans[-1, 1] - spans[0, 0] > 3.5


def test_songs_of_a_class(build, tone_library):
    index = build()
    counts = {name: len(index.songs_with(number)) for number, name in enumerate(CLASSES)}
    rows = [row for row in Library.open(tone_library).catalogue().to_pylist() if row["split"] == "train"]
    for name in ("piano", "violin", "drums", "electric bass"):
        assert counts[name] == len({row["song"] for row in rows if row["instrument"] == name}), name
    assert counts["piano"] > 3
    assert counts["singer"] == 0


def test_classes_without_an_example_are_said(tone_library, instrument_task):
    lines = missing_examples(Library.open(tone_library), instrument_task, instrument_task.config_type())
    assert [line.split(" has: ")[0] for line in lines] == ["no training song", "no validation song", "no test song"]
    lacking = set(lines[0].split(": ")[1].split(", "))
    assert {"singer", "woodwind"} <= lacking
    assert not {"piano", "violin", "drums", "percussion", "brass"} & lacking


def test_many_classes_without_an_example_are_counted(band_library):
    task = registry.load("task", "tagging")
    line = missing_examples(Library.open(band_library), task, task.config_type())[0]
    assert re.search(r" and \d+ more of 129 classes$", line)
    assert line.count(", ") == NAMED - 1


def test_a_library_without_a_split_is_refused(tmp_path, write_stems, prepare_stems, instrument_task):
    folder = write_stems(tmp_path / "in", {"song": {"piano": 0.3 * np.sin(np.arange(16_000) / 10)}})
    prepare_stems(folder, tmp_path / "library")
    with pytest.raises(UserError, match="no song of the split 'valid' of stems"):
        missing_examples(Library.open(tmp_path / "library"), instrument_task, instrument_task.config_type())


def test_a_song_shorter_than_a_mixture_is_heard_and_padded(tmp_path, write_stems, prepare_stems, instrument_task):
    tone = 0.3 * np.sin(np.arange(4_000) / 10)  # 0.25 s
    folder = write_stems(tmp_path / "in", {"song": {"piano": tone}})
    prepare_stems(folder, tmp_path / "library")
    config = with_values(instrument_task.config_type(), {"mixing.p_musical": 1, "mixing.effects.gain.p": 0})
    index = build_index(Library.open(tmp_path / "library"), "train", instrument_task, config)
    for number in range(3):
        plan = plan_mixture(index, config.mixing, 0, "train", number)
        mixture, labels, _ = render_example(plan, index, config.mixing)
        assert mixture.shape == (config.mixing.samples,)
        end = config.mixing.sample_rate // 4
        assert np.abs(mixture[:end]).max() > 0.05
        assert np.abs(mixture[end + 1000 :]).max() < 1e-3  # filters ring on for a moment
        assert labels[CLASSES.index("piano")] == 1


def test_one_data_set(build):
    index = build(data__datasets=("clicks",))
    assert (index.datasets, index.songs.to_pylist()) == (("clicks",), ["train song"])
    assert build("valid", data__datasets=("clicks",)).songs.to_pylist() == ["valid song"]
    with pytest.raises(UserError, match="'click': did you mean 'clicks'"):
        build(data__datasets=("click",))


def test_a_data_set_that_is_named_twice_counts_once(build):
    twice, once = build(data__datasets=("clicks", "clicks")), build(data__datasets=("clicks",))
    assert twice.paths.equals(once.paths)


@pytest.mark.parametrize("cuts", [(0, 0.4, 1), (0, 0.25, 0.5, 0.75, 1), (0, 0.7, 1)])
def test_shares_of_the_songs_are_disjoint_and_complete(build, cuts):
    def songs(start, stop):
        return build(data__datasets=("tones",), data__songs_from=start, data__songs_to=stop).songs.to_pylist()

    shares = [songs(start, stop) for start, stop in itertools.pairwise(cuts)]
    together = [song for share in shares for song in share]
    assert len(set(together)) == len(together)
    assert sorted(together) == songs(0, 1)


def test_a_split_without_songs_is_refused(build):
    with pytest.raises(UserError, match=r"no song of the split 'valid' of clicks .* prepare more songs"):
        build("valid", data__datasets=("clicks",), data__songs_to=0.1)


def test_stems_without_a_class_are_left_out(tmp_path, write_stems, prepare_stems, instrument_task):
    tone = 0.3 * np.sin(np.arange(16_000) / 10)
    folder = write_stems(tmp_path / "in", {"song": {"piano": tone, "fx": tone, "Drawbar Organ": tone}})
    prepare_stems(folder, tmp_path / "library", unknown="keep")
    config = instrument_task.config_type()
    index = build_index(Library.open(tmp_path / "library"), "train", instrument_task, config)
    assert index.names.to_pylist() == ["Drawbar Organ", "piano"]


def test_tags_come_from_programs(band_library, tone_library):
    task = registry.load("task", "tagging")
    index = build_index(Library.open(band_library), "train", task, task.config_type())
    assert index.labels.shape[1] == len(task.classes(task.config_type())) == 129
    assert (index.labels.sum(axis=1) == 1).all()
    with pytest.raises(UserError, match="has an instrument that task 'tagging' knows"):
        build_index(Library.open(tone_library), "train", task, task.config_type())


def test_an_index_depends_on_the_confidence_asked_for(build):
    strict = build(mixing__active_confidence=0.99)
    loose = build(mixing__active_confidence=0.1)
    assert np.diff(loose.active).sum() > np.diff(strict.active).sum() > 0
    everything = build(mixing__active_confidence=0.0)
    assert len(everything.active) == len(everything.paths)
    assert dataclasses.asdict(strict).keys() == dataclasses.asdict(loose).keys()
