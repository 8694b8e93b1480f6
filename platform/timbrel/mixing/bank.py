"""The bank: variants of a data set's stems at another pitch or speed, rendered once, drawn while mixing.

A recipe with ``stretch="bank"`` reads the variant that comes nearest to what was drawn, instead of stretching. The
price is disk, one copy of the data set a variant, and that strengths are from a list.
"""

import errno
import json
import math
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soundfile
from annotated_types import Ge
from tqdm import tqdm

from timbrel.errors import UserError
from timbrel.library import Library
from timbrel.mixing.effects import PitchTime, apply_frozen
from timbrel.mixing.render import read_chunk, variant_frames, variant_path
from timbrel.prepare import alone
from timbrel.spread import spread

Variant = tuple[float, float]
"""Semitones and rate."""
WORK = ".bank"
"""The folder of a bank that is not complete yet."""


@dataclass(frozen=True, kw_only=True)
class Bank:
    """Which variants of each stem are kept: ``steps`` at another pitch, as many at another speed, as many at both.

    The strengths are the middles of ``steps`` equal parts of each range, so that what is drawn uniformly is met with
    the same mean and no more than half a part away.
    """

    steps: Annotated[int, Ge(2)] = 4
    """Variants of each kind: three times as many in all."""
    semitones: tuple[float, float] = (-2.0, 2.0)
    """Lowest and highest pitch shift (as the recipe's default)."""
    rates: tuple[float, float] = (0.8, 1.25)
    """Lowest and highest speed (as the recipe's default)."""

    def __post_init__(self) -> None:
        if not (self.semitones[0] < self.semitones[1] and 0 < self.rates[0] < self.rates[1]):
            raise ValueError(
                f"semitones {self.semitones} and rates {self.rates} must go from low to high, rates above 0"
            )
        if any(semitones == 0 for semitones in self._middles(*self.semitones)) or 1 in self._middles(*self.rates):
            raise ValueError(f"steps ({self.steps}) would hold a variant that changes nothing: take an even number")

    def variants(self) -> tuple[Variant, ...]:
        """Return semitones and rate of each variant."""
        pitches, rates = self._middles(*self.semitones), self._middles(*self.rates)
        # Each pitch and each speed once, in an order in which the two have little to do with each other.
        shuffled = sorted(range(self.steps), key=lambda i: (i + 1) * (math.sqrt(5) - 1) / 2 % 1)
        both = [(pitch, rates[i]) for pitch, i in zip(pitches, shuffled, strict=True)]
        return (*((pitch, 1.0) for pitch in pitches), *((0.0, rate) for rate in rates), *both)

    def _middles(self, low: float, high: float) -> list[float]:
        return [round(low + (high - low) * (i + 0.5) / self.steps, 6) for i in range(self.steps)]


def add_bank(root: Path, dataset: str, bank: Bank) -> tuple[dict[str, Any], bool]:
    """Render a bank for a data set, and return what is known of it and whether anything had to be done.

    It takes the place of another bank once it is complete.

    Raises:
        UserError: no such data set, a file of it is damaged, the disk is full, or another process is preparing it.
    """
    library = Library.open(root)
    asked = json.loads(json.dumps({**asdict(bank), "variants": bank.variants()}))
    home = library.root / dataset
    work = home / WORK
    with alone(library.root / f".{dataset}.lock", f"'{dataset}' in {root}"):
        facts = library.facts(dataset)
        known = facts.get("bank", {})
        if asked.items() <= known.items():
            return known, False
        started = time.perf_counter()
        table = library.catalogue([dataset], ["path", "sample_rate", "channels", "frames"])
        render = _Render(library.root, bank.variants())
        shutil.rmtree(work, ignore_errors=True)
        try:
            rendered = list(
                tqdm(
                    spread(render, table.to_pylist()),
                    total=len(table),
                    desc=f"rendering {len(bank.variants())} variants of {dataset}",
                    unit="stem",
                )
            )
            sizes, times = zip(*rendered, strict=True)
            seconds = {"seconds": round(time.perf_counter() - started, 1), "cpu_seconds": round(sum(times), 1)}
            done = asked | {"bytes": sum(sizes), **seconds}
            # Between these steps no bank is known, rather than one that is not what is there.
            _write_facts(home, {key: value for key, value in facts.items() if key != "bank"})
            shutil.rmtree(home / "bank", ignore_errors=True)
            work.rename(home / "bank")
            _write_facts(home, facts | {"bank": done})
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(
                    f"the disk of {root} is full: a bank of {len(bank.variants())} variants is as many copies of "
                    f"'{dataset}'; free some space, or take fewer steps."
                ) from None
            raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return done, True


def _write_facts(home: Path, facts: dict[str, Any]) -> None:
    part = home / "dataset.json.part"
    part.write_text(json.dumps(facts, indent=2) + "\n")
    part.replace(home / "dataset.json")


class _Render:
    """Renders all variants of one stem, and returns their size in bytes and the CPU time in s; picklable."""

    def __init__(self, root: Path, variants: tuple[Variant, ...]) -> None:
        self.root, self.variants = root, variants

    def __call__(self, row: dict[str, Any]) -> tuple[int, float]:
        started = time.process_time()
        path, rate, frames = row["path"], row["sample_rate"], row["frames"]
        channels = 2 if row["channels"] == 2 else 1
        audio = read_chunk(self.root / path, rate, frames, 0, frames / rate, rate, channels)
        written = 0
        for number, (semitones, speed) in enumerate(self.variants):
            wanted = variant_frames(frames, speed)
            changed = audio
            if audio.any():
                changed = apply_frozen(PitchTime(p=1), audio, rate, semitones=semitones, rate=speed)
            changed = changed[..., :wanted]
            missing = wanted - changed.shape[-1]
            changed = np.pad(changed, [(0, 0)] * (changed.ndim - 1) + [(0, missing)])
            file = self.root / variant_path(path, number, WORK)
            file.parent.mkdir(parents=True, exist_ok=True)
            loud = float(np.abs(changed).max(initial=0)) > 1
            try:
                soundfile.write(file, changed.T, rate, subtype="FLOAT" if loud else "PCM_16")
            except soundfile.LibsndfileError as error:  # it does not say why; in a folder of ours it is the disk
                raise OSError(errno.ENOSPC, f"{file} can't be written ({error})") from None
            written += file.stat().st_size
        return written, time.process_time() - started
