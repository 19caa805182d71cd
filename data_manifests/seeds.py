"""Canonical JSON and seeded draws: one rule for curation and training.

No result depends on workers, batch size or history, because every draw has a generator of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
from blake3 import blake3


def canonical(value: Any) -> bytes:
    """Return canonical JSON: sorted keys, shortest floats, UTF-8, no spaces."""
    found = orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY)
    return bytes(memoryview(found))  # a copy: what orjson returns occupies at least 4 KiB as long as it is held


def draw_seed(*parts: str | int) -> int:
    """Return a 64-bit seed for one draw, from e.g. (seed, stage or planner name, uid or epoch, purpose)."""
    digest = blake3(canonical([str(part) for part in parts])).digest(length=8)
    return int.from_bytes(digest, "little")


def generator(*parts: str | int) -> np.random.Generator:
    """Return the generator of one draw; see `draw_seed`."""
    return np.random.Generator(np.random.PCG64(draw_seed(*parts)))
