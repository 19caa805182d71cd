"""Reads whole tars as tests want them."""

from __future__ import annotations

from pathlib import Path

from data_manifests.shards import ShardMember
from data_manifests.tar_index import PlainTarReader


def walk(path: Path) -> tuple[list[ShardMember], PlainTarReader]:
    """Return a tar's members and the reader that found them, which knows where it stopped."""
    with open(path, "rb") as file:
        reader = PlainTarReader(file.fileno())
        parts = list(reader)
    rows = (row for part in parts for row in zip(part.names, part.offsets.tolist(), part.sizes.tolist(), strict=True))
    return [ShardMember(*row) for row in rows], reader
