"""Writing mixtures to a folder, whole or not at all.

::

    mixtures/
        index.html                          to listen and look; works without a network, straight from the disk
        mixtures.json                       the same in full, for a program: see ``timbrel.listen.example``
        mixture-000000.wav                  what a model is given: 32-bit float, never clipped
        stems/mixture-000000-1-violin.wav   one a source, effects applied; they add up to the mixture
"""

import contextlib
import dataclasses
import errno
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.io import wavfile
from tqdm import tqdm

import timbrel
from timbrel.errors import UserError
from timbrel.listen.example import Example, make_example
from timbrel.listen.page import Card, write_page
from timbrel.listen.pictures import pictures
from timbrel.mixing.index import StemIndex
from timbrel.mixing.recipe import Recipe
from timbrel.safety import without_secrets

RecipeName = Literal["training", "evaluation"]


@dataclass(frozen=True)
class Request:
    """Which mixtures: numbers ``start`` to ``start + count`` of a stream."""

    task: str
    classes: Sequence[str]
    split: str
    recipe_name: RecipeName
    recipe: Recipe
    seed: int
    start: int
    count: int


def write_mixtures(request: Request, index: StemIndex, digest: str, out: Path) -> dict[str, Any]:
    """Write mixtures to a new folder, and return what ``mixtures.json`` says of them.

    ``digest`` tells the contents of the library.

    Raises:
        UserError: the folder is not empty or can't be written to, the disk is full, or a file of the library is
            damaged.
    """
    recipe, rate = request.recipe, request.recipe.sample_rate
    facts: dict[str, Any] = {
        "timbrel": timbrel.__version__,
        "library": without_secrets(index.root),
        "data_digest": digest,
        **{name: value for name, value in vars(request).items() if name != "recipe"},
        "recipe": dataclasses.asdict(recipe),
        "mixtures": [],
    }
    cards = []
    with new_folder(out) as draft:
        (draft / "stems").mkdir()
        for number in tqdm(range(request.start, request.start + request.count), desc="mixing", unit="mixture"):
            example = make_example(index, recipe, request.seed, request.split, number, request.classes)
            _write_audio(example, draft, rate)
            facts["mixtures"].append(example.facts)
            cards.append(Card(example.facts, list(pictures(example, rate))))
        text = json.dumps(facts, indent=1, ensure_ascii=False, default=str)
        (draft / "mixtures.json").write_text(text + "\n", encoding="utf-8")
        write_page(facts, recipe, cards, draft / "index.html")
    return facts


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a folder to write to; what it holds is ``out``'s once all is written, and nobody's if anything fails.

    Raises:
        UserError: ``out`` is not empty or can't be written to, or the disk is full.
    """
    made: list[Path] = []
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out} is not empty: name a new folder by --out.")
        made = [folder for folder in (out, *out.absolute().parents) if not folder.exists()]
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".mixtures-", dir=out) as draft:
            yield Path(draft)
            for written in Path(draft).iterdir():
                written.rename(out / written.name)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"the disk of {out} is full: free some space, or ask for fewer mixtures by -n (each takes a few MB)."
            ) from None
        raise UserError(f"{out} can't be written to ({error}): name another folder by --out.") from None
    finally:
        with contextlib.suppress(OSError):  # not empty: something came of it
            for folder in made:
                folder.rmdir()


def _write_audio(example: Example, folder: Path, sample_rate: int) -> None:
    """Write a mixture and its sources as 32-bit float: what passes full scale is kept."""
    tracks = zip((example.facts, *example.facts["sources"]), (example.audio, *example.sources), strict=True)
    for facts, audio in tracks:
        # scipy's, because libsndfile writes the time of day into files of floats.
        wavfile.write(folder / facts["file"], sample_rate, np.ascontiguousarray(audio.T))
