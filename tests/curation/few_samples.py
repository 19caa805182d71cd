"""A corpus in memory: columns by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class FewSamples:
    uids: Sequence[str]
    columns: Mapping[str, Any]

    def column(self, name: str) -> list[Any]:
        return list(self.uids) if name == "uid" else list(self.columns[name])

    def array(self, name: str) -> np.ndarray[Any, Any]:
        return np.stack(self.column(name))


def uids_of(number: int) -> list[str]:
    return [f"{place:032x}" for place in range(number)]


def directions(draws: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
    """Return unit vectors with a common part, as a model's embeddings have, in float16."""
    vectors = draws.normal(size=shape) + 0.8
    stored: np.ndarray[Any, Any] = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float16)
    return stored
