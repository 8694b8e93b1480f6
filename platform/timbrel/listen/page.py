"""The page to listen and look: one HTML file, beside the WAV files that it plays."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from timbrel import config as configs
from timbrel.listen import words
from timbrel.listen.pictures import POINTS, Picture
from timbrel.mixing.recipe import Recipe
from timbrel.settings import Experiment, evaluation_recipe

SPLITS = {"train": "training", "valid": "validation", "test": "test"}
SHOWN = 6
"""Recipe fields that the page shows unfolded."""


class Card(NamedTuple):
    """A mixture on the page."""

    facts: Mapping[str, Any]
    """As in ``mixtures.json``."""
    pictures: Sequence[Picture]
    """Of the mixture, then of each source."""

    @property
    def gain(self) -> float:
        """What the page multiplies by, so that no loudspeaker clips what passes full scale; at most 1."""
        peaks = [track["peak_dbfs"] or 0.0 for track in (self.facts, *self.facts["sources"])]
        return min(1.0, 10 ** (-max(peaks) / 20))


class Bar(NamedTuple):
    """A row of a small chart."""

    name: str
    mixtures: int
    share: float
    """Of all mixtures."""


def write_page(facts: Mapping[str, Any], recipe: Recipe, cards: Sequence[Card], file: Path) -> None:
    """Write the page of the mixtures that ``facts`` describes as ``mixtures.json`` does."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("timbrel.listen"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"clock": words.clock, "dbfs": words.dbfs, "signed": words.signed, "spans": _spans}
    text = environment.get_template("page.html").render(
        facts=facts,
        recipe=recipe,
        cards=cards,
        split=SPLITS[facts["split"]],
        charts=charts(facts),
        changes=changes(recipe, facts["recipe_name"]),
        shown=SHOWN,
        points=POINTS,
    )
    file.write_text(text, encoding="utf-8")


def charts(facts: Mapping[str, Any]) -> dict[str, list[Bar]]:
    """Return how many of the mixtures are musical, have so many sources, and are labelled with each class."""
    mixtures = facts["mixtures"]
    kinds = Counter(mixture["musical"] for mixture in mixtures)
    sizes = Counter(len(mixture["sources"]) for mixture in mixtures)
    labels = Counter(name for mixture in mixtures for name in mixture["labels"])

    def bar(name: str, count: int) -> Bar:
        return Bar(name, count, count / len(mixtures))

    return {
        "Musical or not": [bar("musical", kinds[True]), bar("not musical", kinds[False])],
        "Sources in a mixture": [bar(str(size), sizes[size]) for size in sorted(sizes)],
        "Mixtures with each label": [
            bar(name, labels[name]) for name in sorted(facts["classes"], key=lambda name: -labels[name])
        ],
    }


def changes(recipe: Recipe, recipe_name: str) -> list[tuple[str, str, str]]:
    """Return the fields in which a recipe differs from the default for training or evaluation: path, value, default."""
    default = configs.flatten(Recipe() if recipe_name == "training" else evaluation_recipe(Experiment()))
    given = configs.flatten(recipe)
    return [
        (f"mixing.{path}", _value(value), _value(default[path]))
        for path, value in given.items()
        if value != default[path]
    ]


def _value(value: Any) -> str:
    """Return a value as ``--config`` takes it."""
    return (",".join(map(str, value)) or "none") if isinstance(value, tuple) else str(value)


def _spans(intervals: Sequence[Sequence[float]]) -> str:
    """Return intervals in s as ``0.00–1.20, 3.10–4.00 s``."""
    return ", ".join(f"{start:.2f}–{end:.2f}" for start, end in intervals) + " s" if intervals else "nowhere"
