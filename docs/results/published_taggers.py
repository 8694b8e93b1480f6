"""How well a published tagger's raw outputs rank our classes: ROC-AUC on mixtures of songs that it never heard.

    python docs/results/published_taggers.py WEIGHTS.pth --tags mtg_jamendo --library library --datasets fluid \\
        --level-dbfs -16

A tag such as ``instrument---piano`` is compared with the class *piano* of task multi_instrument, on musical mixtures as
`timbrel tune ... --preset published` judges on, of all songs: nothing is trained, so each of them is unseen. The
interval is that of 95 % of bootstrap draws of the songs.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from tqdm import tqdm

from tasks.tagging.task import tags_of
from timbrel import bootstrap, registry
from timbrel.config import with_values
from timbrel.library import Library
from timbrel.metrics import roc_auc
from timbrel.mixing.index import build_index
from timbrel.mixing.pool import Stream, mix
from timbrel.settings import evaluation_recipe
from timbrel.splits import SPLITS
from timbrel.trained import load_weights

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
    examples: Annotated[int, tyro.conf.arg(metavar="N")] = 1440,
    level_dbfs: Annotated[float | None, tyro.conf.arg(metavar="DBFS")] = None,
    times: Annotated[int, tyro.conf.arg(metavar="N")] = 1,
) -> None:
    """Print ROC-AUC by tag as CSV.

    Args:
        weights: a file of the authors'.
        library: prepared by `timbrel prepare`.
        datasets: to mix from; default: all.
        tags: the data set that the tagger was trained on.
        examples: number of mixtures.
        level_dbfs: bring every mixture to this RMS level before the network hears it; default: as mixed.
        times: let the network hear each mixture so many times in a row: 7 times 4 s is about what CRNNs learned on.
    """
    task = registry.load("task", "multi_instrument")
    config = with_values(task.config_type(), {**task.presets["published"], "data.datasets": list(datasets)})
    recipe = evaluation_recipe(config)
    values = {"tags": tags, "front_end.level_dbfs": level_dbfs}
    _, model = registry.load("task", "tagging").from_weights(load_weights(weights), str(weights), values)
    labels, scores, songs = [], [], []
    with tqdm(total=examples, desc=weights.stem, unit="mixture") as bar:
        for split in SPLITS:
            index = build_index(Library.open(library), split, task, config)
            stream = Stream(index, recipe, config.evaluation.seed, split)
            number = examples // len(SPLITS)
            for first in range(0, number, 16):
                batch = mix(stream, index, range(first, min(first + 16, number)))
                with torch.inference_mode():
                    heard = torch.from_numpy(batch["audio"]).repeat(1, times)
                    scores.append(torch.sigmoid(model(heard)).numpy())
                labels.append(batch["labels"])
                songs.append(np.array(index.songs.to_pylist())[batch["song"]])
                bar.update(len(batch["song"]))
    named = list(CLASSES[tags].items())
    columns = [task.classes(config).index(name) for _, name in named]
    truth = np.concatenate(labels)[:, columns]
    said = np.concatenate(scores)[:, [tags_of(tags).index(tag) for tag, _ in named]]
    areas = roc_auc(truth, said)
    drawn = bootstrap.draws(truth, said[None], np.concatenate(songs), np.full((1, len(named)), 0.5))
    level = "as mixed" if level_dbfs is None else level_dbfs
    print("weights,level_dbfs,times,tag,class,positives,examples,roc_auc,low,high")
    for column, (tag, name) in enumerate(named):
        ends = bootstrap.interval(drawn["roc_auc_per_class"][:, column])
        figures = f"{areas[column]:.3f},{ends.low:.3f},{ends.high:.3f}"
        print(f"{weights.stem},{level},{times},{tag},{name},{int(truth[:, column].sum())},{len(truth)},{figures}")
    sys.stdout.flush()


if __name__ == "__main__":
    tyro.cli(main)
