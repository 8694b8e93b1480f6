"""What a study is: which config fields Ray Tune varies, and why."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from ray import tune
from ray.tune.search.variant_generator import generate_variants

from timbrel.config import short, with_values
from timbrel.errors import UserError

TRAINED_FIRST = "(trained first)"
"""Stands for a run that is not there yet."""
EMBEDDINGS = "(embeddings in the library)"
"""Stands in a space for the names of the embeddings that the library has."""


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """A task whose trained model a study's trials need, trained first if the user names none."""

    task: str
    target: str
    """The config field of the study's task that takes the run id."""
    songs: float = 0.4
    """Share of the songs that pre-training keeps to itself; the study's trials see the others only. 0: both see all."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Values of the pre-training's config beside those of its preset."""
    each: str = ""
    """A field for each of whose values in the study's space one is trained; the target is ``VALUE=RUN,VALUE=RUN``."""
    shared: Mapping[str, str] = field(default_factory=dict)
    """Fields, or branches (ending in a dot), in which both must agree: by their path in the study's task, their path
    in the pre-training task."""

    def config_values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the pre-training's config takes over from the flattened config of a trial."""
        return {
            there + path.removeprefix(here): value
            for path, value in values.items()
            for here, there in self.shared.items()
            if path == here or (here.endswith(".") and path.startswith(here))
        }


@dataclass(frozen=True, kw_only=True)
class Study:
    """One module of ``search_spaces``."""

    name: str
    summary: str
    """One line for ``timbrel list studies``."""
    why: str
    """The question it answers, and where its values come from."""
    task: str
    space: Mapping[str, Any]
    """Ray Tune distributions by dotted path: ``tune.grid_search`` for every combination, others to be sampled. A grid
    over a branch has mappings for values, and so some combinations of its fields instead of all. ``EMBEDDINGS``: what
    the library has."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Values that differ from the task's defaults in every trial."""
    samples: int = 0
    """Trials drawn by the search algorithm (Optuna's TPE); 0: every combination of the grid, for every seed."""
    early_stopping: bool = False
    """Stop trials that fall behind at the same epoch (ASHA)."""
    metric: str = "valid/roc_auc_macro"
    """What the search algorithm and early stopping look at, and the best trial is named by."""
    mode: str = "max"
    pretraining: Pretraining | None = None
    retrains: bool = True
    """False: the trials judge the outputs of a finished run (`--from-run`) under other decision rules."""

    def describe(self, path: str) -> str:
        """Return what a field is varied over, for people."""
        domain = self.space[path]
        if domain == EMBEDDINGS:
            return "each of the embeddings that the library has"
        if isinstance(domain, dict):  # what tune.grid_search returns
            return "each of " + ", ".join(map(short, domain["grid_search"]))
        return f"{type(domain.get_sampler()).__name__.strip('_').lower()} {domain.domain_str}"

    def values(self, path: str) -> list[Any]:
        """Return the values that a field may have in the space; none if it isn't in it."""
        domain = self.space.get(path, {"grid_search": ()})
        return list(domain["grid_search"] if isinstance(domain, dict) else domain.categories)

    @property
    def over_embeddings(self) -> list[str]:
        """The fields that are varied over what embeddings the library has."""
        return [path for path, domain in self.space.items() if domain == EMBEDDINGS]

    def of_embeddings(self, names: Sequence[str], drawn: bool) -> "Study":
        """Return the study with these for the embeddings that the library has, ``drawn`` or each in turn."""
        domain = tune.choice(list(names)) if drawn else tune.grid_search(list(names))
        return replace(self, space={**self.space, **dict.fromkeys(self.over_embeddings, domain)})

    def without(self, given: Collection[str]) -> "Study":
        """Return the study with fields that the user has given a value no longer varied.

        Raises:
            UserError: one of them is varied together with others.
        """
        for path in self.space:
            within = [each for each in given if each.startswith(f"{path}.")]
            if within:
                raise UserError(
                    f"study {self.name} varies {within[0]} together with all of {path}: leave it out, or train single "
                    f"runs with `timbrel train {self.task}`."
                )
        return replace(self, space={path: domain for path, domain in self.space.items() if path not in given})

    def check(self, base: Any, seed: int = 0, draws: int = 20) -> None:
        """Sample the space and build a config from every sample, before anything runs.

        Raises:
            UserError: the space names an unknown field or can draw a value that the config refuses.
        """
        for values in itertools.chain.from_iterable(self.variants(self.space, seed + draw) for draw in range(draws)):
            with_values(base, {**self.fixed, **values})

    @staticmethod
    def variants(space: Mapping[str, Any], seed: int = 0) -> list[dict[str, Any]]:
        """Return every combination of a space's grid; what is not in the grid is drawn at random."""
        state = np.random.RandomState(seed)
        return [values for _, values in generate_variants(dict(space), random_state=state)]
