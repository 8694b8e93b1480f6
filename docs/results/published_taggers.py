"""How well a published tagger's raw outputs rank our classes: ROC-AUC on mixtures of songs that nobody trained on.

    python docs/results/published_taggers.py WEIGHTS.pth --tags mtg_jamendo --library library --datasets fluid

A tag such as ``instrument---piano`` is compared with the class *piano* of task multi_instrument, on the musical
mixtures of the test split that `timbrel tune ... --preset published` judges on. Nothing is trained.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from tqdm import trange

from tasks.tagging.task import tags_of
from timbrel import registry
from timbrel.config import with_values
from timbrel.library import Library
from timbrel.metrics import roc_auc
from timbrel.mixing.index import build_index
from timbrel.mixing.pool import Stream, mix
from timbrel.trained import load_weights
from timbrel.training.run import evaluation_recipe

CLASSES = {
    "mtg_jamendo": {
        "instrument---piano": "piano",
        "instrument---violin": "violin",
        "instrument---electricguitar": "electric guitar",
        "instrument---acousticguitar": "acoustic guitar",
        "instrument---bass": "electric bass",
        "instrument---drums": "drums",
        "instrument---strings": "bowed string",
        "instrument---synthesizer": "synth",
        "instrument---voice": "voice",
        "instrument---keyboard": "key",
    },
    "magnatagatune": {
        "piano": "piano",
        "violin": "violin",
        "guitar": "plucked string",
        "drums": "drums",
        "strings": "bowed string",
        "synth": "synth",
        "vocal": "voice",
        "flute": "woodwind",
    },
}
"""The class that each tag is compared with."""


def main(
    weights: tyro.conf.Positional[Path],
    /,
    library: Path = Path("library"),
    datasets: tuple[str, ...] = (),
    tags: Literal["mtg_jamendo", "magnatagatune"] = "mtg_jamendo",
    examples: Annotated[int, tyro.conf.arg(metavar="N")] = 480,
) -> None:
    """Print ROC-AUC by tag as CSV.

    Args:
        weights: a file of the authors'.
        library: prepared by `timbrel prepare`.
        datasets: whose test split to mix from; default: all.
        tags: the data set that the tagger was trained on.
        examples: number of mixtures.
    """
    task = registry.load("task", "multi_instrument")
    config = with_values(task.config_type(), {**task.presets["published"], "data.datasets": list(datasets)})
    recipe = evaluation_recipe(config)
    index = build_index(Library.open(library), "test", task, config)
    stream = Stream(index, recipe, config.evaluation.seed, "test")
    _, model = registry.load("task", "tagging").from_weights(load_weights(weights), str(weights), {"tags": tags})
    labels, scores = [], []
    for first in trange(0, examples, 16, desc=weights.stem, unit="batch"):
        batch = mix(stream, index, range(first, min(first + 16, examples)))
        with torch.inference_mode():
            scores.append(torch.sigmoid(model(torch.from_numpy(batch["audio"]))).numpy())
        labels.append(batch["labels"])
    truth, said = np.concatenate(labels), np.concatenate(scores)
    print("weights,tag,class,positives,examples,roc_auc")
    for tag, name in CLASSES[tags].items():
        column = truth[:, task.classes(config).index(name)]
        area = roc_auc(column[:, None], said[:, [tags_of(tags).index(tag)]])[0]
        print(f"{weights.stem},{tag},{name},{int(column.sum())},{examples},{area:.4f}")
    sys.stdout.flush()


if __name__ == "__main__":
    tyro.cli(main)
