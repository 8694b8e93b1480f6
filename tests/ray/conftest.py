"""One small real Ray, and one small library, for each module of tests that need them; other tests run without Ray."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from timbrel import registry
from timbrel.launch import Workplace
from timbrel.library import Library
from timbrel.mixing.index import build_index
from timbrel.mixing.recipe import Recipe
from timbrel.prepare import prepare
from timbrel.runtime import ray_session
from timbrel.tracking import Tracker

RATE_HZ, SECONDS = 16_000, 10
CLIPS = {"train": 20, "test": 10}
PITCHES_HZ = {"clarinet": 300.0, "flute": 1700.0, "voice": 4000.0}


@pytest.fixture(scope="module")
def ray_cluster():
    with ray_session():
        yield


@pytest.fixture(scope="module")
def composed_library(ray_cluster, tmp_path_factory) -> Path:
    """Twelve short composed songs, stored by Ray tasks."""
    root = tmp_path_factory.mktemp("library")
    source = registry.load("source", "house_band")
    prepare(source, None, root, source.options_type(songs=12, seconds=10.0, sample_rate=16_000))
    return root


@pytest.fixture(scope="module")
def place(ray_cluster, composed_library, tmp_path_factory) -> Workplace:
    """Where runs on those songs are logged and stored."""
    folder = tmp_path_factory.mktemp("work")
    tracker = Tracker(f"sqlite:///{folder / 'mlflow.db'}")
    return Workplace(Library.open(composed_library), tracker, folder / "runs")


@pytest.fixture(scope="module")
def short_recipe() -> Recipe:
    return Recipe(sample_rate=8_000, seconds=1.0)


@pytest.fixture(scope="module")
def composed_index(composed_library, short_recipe):
    task = registry.load("task", "multi_instrument")
    # So short a hop only for the network, which is not used here, to accept so short a mixture.
    front_end = dataclasses.replace(task.config_type().front_end, hop=50)
    config = dataclasses.replace(task.config_type(), mixing=short_recipe, front_end=front_end)
    return build_index(Library.open(composed_library), "train", task, config)


def write_openmic(root, unequal):
    """Write clips of tones, one pitch an instrument; listeners judged two each, or some of them one if `unequal`."""
    generator = np.random.default_rng(0)
    time_s = np.arange(RATE_HZ * SECONDS) / RATE_HZ
    names = list(PITCHES_HZ)
    labels, metadata = ["sample_key,instrument,relevance,num_responses"], ["track_id,artist_name,sample_key,start_time"]
    for split, count in CLIPS.items():
        keys = []
        for number in range(count):
            key = f"{len(metadata):06d}_3840"
            sounding = [names[(number + each) % 3] for each in range(1 + number % 2)]
            audio = sum(0.2 * np.sin(2 * np.pi * PITCHES_HZ[name] * time_s) for name in sounding)
            (root / f"audio/{key[:3]}").mkdir(parents=True, exist_ok=True)
            (root / f"vggish/{key[:3]}").mkdir(parents=True, exist_ok=True)
            soundfile.write(root / f"audio/{key[:3]}/{key}.ogg", audio, RATE_HZ)
            features = generator.integers(100, 140, (10, 128))
            for column, name in enumerate(names):
                features[:, column * 40 : column * 40 + 40] += 100 * (name in sounding)
            (root / f"vggish/{key[:3]}/{key}.json").write_text(
                json.dumps({"time_points": [0.96 * row for row in range(10)], "features": features.tolist()})
            )
            judged = [names[number % 3], names[(number + 2) % 3]]
            if unequal and split == "train" and number % 3 == 0:
                judged.pop()
            labels += [f"{key},{name},{0.9 if name in sounding else 0.1},3" for name in judged]
            metadata.append(f"1,Artist {number},{key},3.84")
            keys.append(key)
        (root / "partitions").mkdir(exist_ok=True)
        (root / f"partitions/split01_{split}.csv").write_text("\n".join(keys) + "\n")
    (root / "openmic-2018-aggregated-labels.csv").write_text("\n".join(labels) + "\n")
    (root / "openmic-2018-metadata.csv").write_text("\n".join(metadata) + "\n")
    (root / "class-map.json").write_text(json.dumps({name: number for number, name in enumerate(names)}))
    return root


def prepared_openmic(folder, unequal=False) -> Workplace:
    """Thirty clips in the layout of OpenMIC, prepared with the embeddings that come with them, and an MLflow store."""
    source = registry.load("source", "openmic")
    data = write_openmic(folder / "openmic-2018", unequal)
    prepare(source, data, folder / "library", source.options_type(valid_share=0.3))
    tracker = Tracker(f"sqlite:///{folder / 'mlflow.db'}")
    return Workplace(Library.open(folder / "library"), tracker, folder / "runs")


@pytest.fixture(scope="module")
def openmic_place(ray_cluster, tmp_path_factory) -> Workplace:
    return prepared_openmic(tmp_path_factory.mktemp("weak"))


@pytest.fixture(scope="module")
def unequal_place(ray_cluster, tmp_path_factory) -> Workplace:
    """Whose clips were judged once or twice, so that the halves of a batch hold unlike numbers of judgements."""
    return prepared_openmic(tmp_path_factory.mktemp("unequal"), unequal=True)
