"""What teaching needs beside embeddings in the library, by the names under which configs ask for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from timbrel.teaching.config import TeacherConfig


@dataclass(frozen=True)
class Parts:
    """Classifiers on embeddings, and networks that listen beside the training; or references to them."""

    heads: Mapping[str, Any] = field(default_factory=dict)
    """Weights, by the run or file of ``teacher.head``."""
    networks: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    """By ``teacher.name`` and ``teacher.weights``."""

    def put(self, put: Callable[[Any], Any]) -> "Parts":
        """Return the same with what ``put`` returns in place of each."""
        heads, networks = self.heads.items(), self.networks.items()
        return Parts({name: put(head) for name, head in heads}, {key: put(network) for key, network in networks})

    def of(self, asked: TeacherConfig) -> tuple[Any, Any]:
        """Return the head and the network that a config asks for, each None if it asks for none."""
        return self.heads.get(asked.own_head), self.networks.get((asked.name, asked.weights))


NOTHING = Parts()
