"""A version's index as lists of values, which the sections of its page share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data_manifests.manifest import DatasetVersion
from data_manifests.sidecar_diff import Payload, read_payloads

IndexRows = Mapping[str, list[Any]]
"""Columns of index.parquet by name, one value a sample."""


def read_rows(version: DatasetVersion, rows: IndexRows, numbers: Sequence[int]) -> list[Payload]:
    """Return the published JSON of some samples, in the order of `numbers`.

    Args:
        version: The version.
        rows: Columns uid, shard, json_offset and json_bytes of its index.
        numbers: Numbers of rows.

    Raises:
        InputError: a shard is missing, or does not hold what the index says.
    """
    import polars as pl

    names = ("uid", "shard", "json_offset", "json_bytes")
    payloads = read_payloads(version, pl.DataFrame({name: [rows[name][row] for row in numbers] for name in names}))
    return [payloads[rows["uid"][row]] for row in numbers]
