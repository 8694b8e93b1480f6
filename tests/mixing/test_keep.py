"""Mixtures kept for other trials: each rendered once, whoever asks, and never anything but what rendering gives."""

import errno
import os
import threading
import time
from collections import Counter

import numpy as np
import pytest

from timbrel.mixing import keep as module
from timbrel.mixing.keep import Keep, Keeper

SIZE = 4


def rendered(numbers):
    return {"number": numbers, "audio": np.sqrt(numbers[:, None] + np.arange(5)).astype(np.float32)}


def numbers(batch):
    return np.arange(batch * SIZE, (batch + 1) * SIZE)


def same(batch, number):
    expected = rendered(numbers(number))
    return all(np.array_equal(batch[name], expected[name]) for name in expected) and len(batch) == len(expected)


@pytest.fixture
def keeper(tmp_path):
    def make(render=rendered, below=10_000):
        return Keeper(Keep(str(tmp_path / "kept"), below, SIZE), render)

    return make


def test_the_second_to_ask_reads_what_the_first_rendered(keeper):
    calls = Counter()

    def render(which):
        calls[int(which[0])] += 1
        return rendered(which)

    for _ in range(3):
        assert all(same(keeper(render).batch(numbers(number)), number) for number in range(5))
    assert set(calls.values()) == {1}
    assert len(calls) == 5


def test_a_block_of_several_batches_is_kept_batch_by_batch(keeper, tmp_path):
    """So that a trial whose blocks begin elsewhere reads them too."""
    whole = keeper().batches(np.arange(SIZE, 4 * SIZE - 1))  # the last batch lacks an example
    assert np.array_equal(whole["audio"], rendered(np.arange(SIZE, 4 * SIZE - 1))["audio"])
    assert len(list((tmp_path / "kept").glob("*.npz"))) == 3
    assert same(keeper(render=None).batches(numbers(2)), 2)


def test_types_and_bits_survive(keeper):
    keeper().batch(numbers(3))
    batch = keeper(render=None).batch(numbers(3))
    expected = rendered(numbers(3))
    assert {name: values.dtype for name, values in batch.items()} == {n: v.dtype for n, v in expected.items()}
    assert batch["audio"].tobytes() == expected["audio"].tobytes()


def test_several_at_once_share_the_work(keeper):
    """Eight actors that all need all batches render each once between them, and nobody waits for one who sleeps."""
    calls, lock = Counter(), threading.Lock()

    def render(which):
        with lock:
            calls[int(which[0]) // SIZE] += 1
        time.sleep(0.01)
        return rendered(which)

    wrong = []

    def actor():
        mine = keeper(render, below=40 * SIZE)
        wrong.extend(number for number in range(40) if not same(mine.batch(numbers(number)), number))

    threads = [threading.Thread(target=actor) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert calls == Counter(range(40))


def test_beyond_the_limit_nothing_is_kept(keeper, tmp_path):
    mine = keeper(below=2 * SIZE)
    assert all(same(mine.batch(numbers(number)), number) for number in range(4))
    assert sorted(file.name for file in (tmp_path / "kept").iterdir()) == ["000000000.npz", "000000004.npz"]


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut short", b"\x00" * 5000])
def test_a_damaged_file_is_rendered_anew(keeper, tmp_path, damage):
    keeper().batch(numbers(0))
    (file,) = (tmp_path / "kept").glob("*.npz")
    file.write_bytes(damage)
    assert same(keeper().batch(numbers(0)), 0)
    assert same(keeper(render=None).batch(numbers(0)), 0)


def test_a_flipped_bit_is_noticed(keeper, tmp_path):
    keeper().batch(numbers(0))
    (file,) = (tmp_path / "kept").glob("*.npz")
    content = bytearray(file.read_bytes())
    at = content.find(rendered(numbers(0))["audio"].tobytes())
    assert at > 0
    content[at] ^= 1
    file.write_bytes(content)
    assert same(keeper().batch(numbers(0)), 0)


def test_a_batch_that_somebody_gave_up_is_taken_over(keeper, tmp_path, monkeypatch):
    mine = keeper()
    claim = tmp_path / "kept" / "000000000.claim"
    claim.touch()
    os.utime(claim, (0, 0))
    assert same(mine.batch(numbers(0)), 0)
    assert list((tmp_path / "kept").glob("*.claim")) == []


def test_a_failure_while_rendering_leaves_no_claim(keeper, tmp_path):
    def fail(which):
        raise RuntimeError("no sound")

    with pytest.raises(RuntimeError, match="no sound"):
        keeper(fail).batch(numbers(0))
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_full_disk_ends_the_keeping_but_not_the_run(keeper, tmp_path, monkeypatch):
    mine = keeper()
    mine.batch(numbers(0))

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.np, "savez", full)
    assert all(same(mine.batch(numbers(number)), number) for number in range(3))
    assert [file.name for file in (tmp_path / "kept").iterdir()] == ["000000000.npz"]
