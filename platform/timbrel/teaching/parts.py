"""What teaching needs beside embeddings in the library, by the names under which configs ask for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from timbrel.teaching.config import TeacherConfig


@dataclass(frozen=True)
class Parts:
    """Classifiers on embeddings, and networks that listen beside the training; or references to them."""

    heads: Mapping[str, Any] = field(default_factory=dict)
    """Weights, by ``teacher.head``."""
    networks: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    """By ``teacher.name`` and ``teacher.weights``."""

    def of(self, asked: TeacherConfig) -> tuple[Any, Any]:
        """Return the head and the network that a config asks for, each None if it asks for none."""
        return self.heads.get(asked.head), self.networks.get((asked.name, asked.weights))


NOTHING = Parts()
