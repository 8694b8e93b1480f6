"""What published taggers say of real compositions that a SoundFont plays.

    python docs/results/tagged_pieces.py jamendo_musicnn.pth jamendo_fcn.pth --library library --dataset fluid

The stems of each piece's first minute are added up, brought to full scale, and tagged as `timbrel predict PIECE.wav
--run WEIGHTS.pth --task tagging --config tags=mtg_jamendo` does it: a tag's value is the probability that it reaches in
a tenth of the seconds.
What is found goes to ``tagged_pieces.csv`` beside this file, piece by piece; those that are in it are not tagged again.
"""

import csv
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import torch
import tyro
from tqdm import tqdm

from timbrel import registry
from timbrel.library import Library
from timbrel.predict import UNKNOWN_THRESHOLD, predict_file, whole_file
from timbrel.trained import TrainedModel, load_weights

OUT = Path(__file__).with_suffix(".csv")
FACTS = ("weights", "piece", "title", "kind", "instruments")
"""The first columns; the others are the tags."""

PIECES = {
    "mutopia__HaydnFJ__score": ("Haydn, String Quartet in B-flat", "string quartet"),
    "mutopia__BachJS__contrapunctusI": ("Bach, Contrapunctus I", "fugue for strings"),
    "mutopia__PaganiniN__Caprice-24": ("Paganini, Caprice 24", "violin alone"),
    "mutopia__FranckC__PFMUT": ("Franck, Prélude", "organ"),
    "mutopia__LutkinPC__brass-quartet": ("Lutkin, The Lord Bless You and Keep You", "hymn for brass"),
    "mutopia__SchubertF__Erlkoenig": ("Schubert, Erlkönig", "song with piano, sung by winds"),
    "mutopia__MozartWA__score": ("Mozart, Dies irae", "requiem for choir and orchestra"),
    "mutopia__SousaJP__JPSFotFConductorTransposed": ("Sousa, The Fairest of the Fair", "march for wind band"),
    "mutopia__BachJS__anna-magdalena-04-guitar-tab": ("Bach, Menuet in G", "guitar"),
    "mutopia__FaureG__GF-pavane50": ("Fauré, Pavane", "flute and guitar"),
    "mutopia__BrownCJ__ebbflow": ("Brown, Ebb and Flow", "flute and piano"),
    "mutopia__QuantzJJ__Allegro": ("Quantz, Allegro", "flute and harpsichord"),
    "mutopia__VivaldiA__StaPiangendo": ("Vivaldi, Sta piangendo", "aria with orchestra, sung by an oboe"),
    "mutopia__AlyabyevA__alyabyev-cherubic": ("Alyabyev, Cherubic Hymn", "choir, sung by strings and reeds"),
    "mutopia__HolstGT__Thaxted": ("Holst, Thaxted", "hymn for violin, guitar and harp"),
    "mutopia__DuyseFv__vanduyse2": ("van Duyse, Het daghet in den Oosten", "song with reed organ, sung by oohs"),
    "mutopia__HandelGF__LaRej": ("Handel, La Réjouissance", "trumpets and organ"),
    "freedoom__d_dm01": ("dm01", "rock: distorted guitars"),
    "freedoom__d_dm27": ("dm27", "rock: distorted and clean guitars"),
    "freedoom__d_dm14": ("dm14", "steel guitar, trumpet and strings"),
    "freedoom__d_dm11": ("dm11", "orchestra, bells and choir; no drums"),
    "freedoom__d_map19": ("map19", "strings, celesta and vibraphone"),
    "freedoom__d_e1m8": ("e1m8", "slow: electric piano, pads and choir"),
    "freedoom__d_read_m": ("read_m", "jazz guitar and bass"),
    "freedoom__d_dm03": ("dm03", "synthesisers and organ"),
    "freedoom__d_e2m3": ("e2m3", "synthesisers, slap bass"),
}
"""Title and kind of each piece, from its score; those of Freedoom have no titles, and their kind is what plays."""


def main(
    weights: tyro.conf.Positional[tuple[Path, ...]],
    /,
    library: Path = Path("library"),
    dataset: str = "fluid",
    seconds: Annotated[float, tyro.conf.arg(metavar="S")] = 60.0,
) -> None:
    """Tag the pieces that are not in the CSV file yet.

    Args:
        weights: files of the authors', trained on MTG-Jamendo.
        library: prepared by `timbrel prepare midi`.
        dataset: the pieces, as one SoundFont plays them.
        seconds: of each piece, from its beginning on.
    """
    torch.set_num_threads(1)
    known = set()
    if OUT.exists():
        with OUT.open(newline="", encoding="utf-8") as opened:
            known = {(row["weights"], row["piece"]) for row in csv.DictReader(opened)}
    rows = Library.open(library).catalogue([dataset]).to_pylist()
    left = [(file, piece) for file in weights for piece in PIECES if (file.stem, piece) not in known]
    taggers = {file: tagger(file) for file in weights}
    with tempfile.TemporaryDirectory() as folder, tqdm(left, unit="piece") as bar:
        for file, piece in bar:
            bar.set_postfix_str(f"{file.stem}, {piece}")
            stems = [row for row in rows if row["song"] == piece]
            recording = Path(folder) / f"{piece}.wav"
            soundfile.write(recording, *played(library, stems, seconds))
            values = whole_file(predict_file(taggers[file], recording))
            facts = (file.stem, piece, *PIECES[piece], "; ".join(stem["instrument"] for stem in stems))
            append(facts, taggers[file].classes, values)


def tagger(file: Path) -> TrainedModel:
    """Return a published tagger that was trained on MTG-Jamendo."""
    task = registry.load("task", "tagging")
    config, model = task.from_weights(load_weights(file), str(file), {"tags": "mtg_jamendo"})
    return TrainedModel(task, config, dict.fromkeys(task.classes(config), UNKNOWN_THRESHOLD), model.state_dict())


def played(library: Path, stems: list[dict[str, object]], seconds: float) -> tuple[np.ndarray, int]:
    """Return the first seconds of the sum of a song's stems at full scale, ``(sample,)``, and its rate in Hz."""
    audio, rates = zip(*(soundfile.read(library / str(stem["path"]), always_2d=True) for stem in stems), strict=True)
    (rate,) = set(rates)
    mixture = np.sum([stem.mean(axis=1) for stem in audio], axis=0)[: round(seconds * rate)]
    return mixture / np.abs(mixture).max(), rate


def append(facts: tuple[str, ...], tags: tuple[str, ...], values: np.ndarray) -> None:
    """Write a row to the CSV file, and the header before the first."""
    new = not OUT.exists()
    with OUT.open("a", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        if new:
            writer.writerow([*FACTS, *tags])
        writer.writerow([*facts, *(f"{value:.4f}" for value in values)])


if __name__ == "__main__":
    tyro.cli(main)
