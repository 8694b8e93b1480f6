"""Small libraries and indices that many tests share. Everything is synthesised, and nothing here starts Ray."""

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import settings

from timbrel import registry
from timbrel.cli import main
from timbrel.config import with_values
from timbrel.library import Library
from timbrel.mixing.index import build_index
from timbrel.mixing.recipe import Recipe
from timbrel.prepare import prepare
from timbrel.sources.house_band import HouseBandOptions
from timbrel.sources.stems import StemsOptions

settings.register_profile("timbrel", deadline=None)  # the machines that run tests are shared
settings.load_profile("timbrel")
torch.set_num_threads(1)  # networks of a few hundred weights: on a busy machine threads wait for each other longest

RATE_HZ = 16_000
SECONDS = 4.0


@pytest.fixture
def command(capsys, tmp_path, monkeypatch):
    """Run a command line in an empty folder; return its exit status, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        status = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code or 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def write_stems():
    """Write ``{song: {instrument: samples}}`` as the folders that the source ``stems`` reads."""

    def write(folder, songs, rate_hz=RATE_HZ, subtype="PCM_16"):
        for song, stems in songs.items():
            (folder / song).mkdir(parents=True, exist_ok=True)
            for instrument, samples in stems.items():
                soundfile.write(folder / song / f"{instrument}.wav", samples, rate_hz, subtype=subtype)
        return folder

    return write


@pytest.fixture(scope="session")
def prepare_stems():
    """Prepare a folder of stems in this process, and return the facts and whether anything was done."""

    def run(folder, root, name=None, replace=False, **options):
        return prepare(registry.load("source", "stems"), folder, root, StemsOptions(**options), name, replace=replace)

    return run


@pytest.fixture(scope="session")
def tone_library(tmp_path_factory, write_stems, prepare_stems):
    """A library of two data sets, 16 kHz, songs of 4 s.

    ``tones``: nine songs with a piano (a sine throughout), a violin (a sine from 1 to 2.5 s) and drums (noise bursts);
    every second song has an electric bass that is silent. ``clicks``: three songs with official splits.
    """
    folder, root = tmp_path_factory.mktemp("tones"), tmp_path_factory.mktemp("library")
    generator = np.random.default_rng(0)
    time_s = np.arange(int(SECONDS * RATE_HZ)) / RATE_HZ
    songs = {}
    for number in range(9):
        stems = {
            "piano": 0.3 * np.sin(2 * np.pi * (220 + 30 * number) * time_s),
            "violin": 0.3 * np.sin(2 * np.pi * (880 + 50 * number) * time_s) * ((time_s >= 1) & (time_s < 2.5)),
            "drums": generator.normal(scale=0.3, size=len(time_s)).clip(-0.9, 0.9) * (time_s % 0.5 < 0.1),
        }
        if number % 2:
            stems["electric bass"] = np.zeros(len(time_s))
        songs[f"song {number}"] = stems
    prepare_stems(write_stems(folder / "tones", songs), root, "tones")
    clicks = 0.8 * (np.arange(len(time_s)) % 2000 < 40)
    for split in ("train", "valid", "test"):
        stems = {"marimba": clicks, "trumpet": 0.3 * np.sin(2 * np.pi * 330 * time_s)}
        write_stems(folder / "clicks" / split, {f"{split} song": stems})
    prepare_stems(folder / "clicks", root, "clicks")
    return root


@pytest.fixture(scope="session")
def band_library(tmp_path_factory):
    """A library of six songs of about 10 s by house_band, whose stems have General MIDI programs and notes."""
    root = tmp_path_factory.mktemp("band")
    options = HouseBandOptions(songs=6, seconds=10, sample_rate=RATE_HZ)
    prepare(registry.load("source", "house_band"), None, root, options)
    return root


@pytest.fixture(scope="session")
def short_recipe():
    """The paper's recipe with mixtures of 1 s at 16 kHz."""
    return Recipe(sample_rate=RATE_HZ, seconds=1.0)


@pytest.fixture(scope="session")
def instrument_task():
    return registry.load("task", "multi_instrument")


@pytest.fixture(scope="session")
def tiny_config(instrument_task):
    """A network of a few hundred weights, on 1.1 s at 16 kHz: the shortest that seven halvings leave a frame of."""
    values = {
        "mixing.sample_rate": RATE_HZ,
        "mixing.seconds": 1.1,
        "front_end.hop": 128,
        "model.width": 2,
        "training.precision": "float32",
        "training.epochs": 4,
        "training.batch_size": 4,
    }
    return with_values(instrument_task.config_type(), values)


@pytest.fixture(scope="session")
def tone_index(tone_library, instrument_task):
    """The training split of ``tone_library``."""
    return build_index(Library.open(tone_library), "train", instrument_task, instrument_task.config_type())
