"""A library of many songs: what indexing it and planning from it take, each in a process of its own."""

import numpy as np
import pytest

from benchmarks.scale_catalogue import STEMS, alone, index, plan, write
from timbrel import library
from timbrel.library import Library

FEW, MANY = 120, 12_000
PLANS = 20_000


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Figures of both sizes."""

    def measure(songs):
        root = tmp_path_factory.mktemp(f"songs_{songs}")
        return write(root, songs) | alone(index, root) | alone(plan, root, PLANS)

    return {songs: measure(songs) for songs in (FEW, MANY)}


def test_planning_takes_no_more_memory_from_many_songs(measured):
    few, many = measured[FEW], measured[MANY]
    assert many["stems"] == 100 * few["stems"]
    assert many["songs_heard"] > 50 * few["songs_heard"]
    assert many["plan_growth_mb"] < few["plan_growth_mb"] + 4
    # What was there before is the index, and what the process is without it.
    assert many["plan_before_mb"] < few["plan_before_mb"] + 2 * many["index_mb"] + 4


def test_indexing_never_holds_all_activity(measured):
    few, many = measured[FEW], measured[MANY]
    assert many["activity_mb"] > 400
    assert many["index_peak_mb"] < few["index_peak_mb"] + many["activity_mb"] / 2


def test_a_catalogue_is_written_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.scale_catalogue.ROWS_AT_ONCE", 7)
    write(tmp_path, 5)
    opened = Library.open(tmp_path)
    rows = opened.catalogue()
    assert rows.schema == library.CATALOGUE
    assert rows["song"].to_pylist() == np.repeat([f"song {number:06d}" for number in range(5)], STEMS).tolist()
    assert [len(batch) for batch in opened.activity()] == [5 * STEMS]
