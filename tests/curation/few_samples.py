"""Uids and embeddings of a few samples."""

from __future__ import annotations

from typing import Any

import numpy as np


def uids_of(number: int) -> list[str]:
    return [f"{place:032x}" for place in range(number)]


def directions(draws: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
    """Return unit vectors with a common part, as a model's embeddings have, in float16."""
    vectors = draws.normal(size=shape) + 0.8
    stored: np.ndarray[Any, Any] = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float16)
    return stored
