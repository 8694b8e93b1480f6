"""What teaching needs beside embeddings in the library, by the names under which configs ask for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from timbrel.settings import Experiment


@dataclass(frozen=True)
class Parts:
    """Classifiers on embeddings, and networks that listen beside the training; or references to them."""

    heads: Mapping[str, Any] = field(default_factory=dict)
    """Weights, by the run or file of ``teacher.head``."""
    networks: Mapping[tuple[str, str, int], Any] = field(default_factory=dict)
    """By ``teacher.name``, ``teacher.weights`` and the sample rate in Hz of what they hear."""

    def put(self, put: Callable[[Any], Any]) -> "Parts":
        """Return the same with what ``put`` returns in place of each."""
        heads, networks = self.heads.items(), self.networks.items()
        return Parts({name: put(head) for name, head in heads}, {key: put(network) for key, network in networks})

    def of(self, config: Experiment) -> tuple[Any, Any]:
        """Return the head and the network that a config asks for, each None if it asks for none."""
        return self.heads.get(config.taught_by.own_head), self.networks.get(network_key(config))


NOTHING = Parts()


def network_key(config: Experiment) -> tuple[str, str, int]:
    """Return which network a config asks for."""
    return config.taught_by.name, config.taught_by.weights, config.mixing.sample_rate
