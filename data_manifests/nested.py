"""Nested JSON values as flat names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def leaves(value: Any, separator: str = ".", prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of everything in nested mappings that is no mapping; the keys on the way make up the name."""
    if not isinstance(value, Mapping):
        yield prefix, value
        return
    for key, item in value.items():
        yield from leaves(item, separator, f"{prefix}{separator}{key}" if prefix else str(key))
