"""A source that hands out songs written down in a test, and a look at what was stored of them."""

from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from timbrel.prepare import prepare
from timbrel.sources import Found, Performance, Song, Stem

RATE_HZ = 8000
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, RATE_HZ).astype(np.float32)


@dataclass(frozen=True)
class Options:
    take: int = 1


class Scripted:
    """A source that hands out given songs."""

    summary = "for tests"
    needs_path = False
    options_type = Options

    def __init__(self, *songs, name="scripted", skipped=(), vocabulary=()):
        self.songs, self.name, self.skipped, self.vocabulary = songs, name, list(skipped), vocabulary

    def find(self, path, options):
        return Found(self.songs, len(self.songs), self.skipped, self.vocabulary)


def stem(name, audio=NOISE, rate_hz=RATE_HZ, instrument=None, program=None, notes=None):
    audio = np.atleast_2d(audio)
    return Stem(name, instrument or name, lambda: Performance(audio, rate_hz, notes), program)


def failing(name, error):
    def perform():
        raise error

    return Stem(name, name, perform)


def song(name, *stems, **facts):
    return Song(name, stems or (stem("piano"),), **facts)


def rows_of(root, dataset="scripted"):
    return pq.read_table(root / dataset / "catalogue.parquet").to_pylist()


def names(root):
    return sorted(path.name for path in root.iterdir())


def visible(root):
    return [name for name in names(root) if not name.startswith(".")]


def prepared(root, *songs, replace=False, **options):
    return prepare(Scripted(*songs), None, root, Options(**options), replace=replace)
