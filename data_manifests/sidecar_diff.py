"""Reads what differs: the JSON of some samples, and counts over the negatives of many samples from the sidecars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from data_manifests.errors import InputError
from data_manifests.manifest import DatasetVersion
from data_manifests.shards import ShardReader, shard_name
from data_manifests.text_diff import NEGATIVE_KIND

if TYPE_CHECKING:
    import polars as pl

Payload = dict[str, Any]

MAX_JSON_BYTES = 64 * 2**20
"""Most bytes of a sample's JSON; an index with more is wrong."""


@dataclass(frozen=True, slots=True)
class NegativeCount:
    """Negatives of one operation and span class that differ, over samples of both versions.

    Attributes:
        operation: What was done to the caption.
        span_class: What it was done to.
        added: Negatives that replace none of their sample.
        removed: Negatives that none of their sample replaces.
        changed: Negatives that another text of the same kind replaces.
        regraded: Negatives that kept their text and have another difficulty.
    """

    operation: str
    span_class: str
    added: int
    removed: int
    changed: int
    regraded: int


def read_payloads(version: DatasetVersion, frame: pl.DataFrame) -> dict[str, Payload]:
    """Return the JSON of samples by uid, read from the shards by byte range.

    Args:
        version: The version.
        frame: Columns uid, shard, json_offset and json_bytes of the samples.

    Raises:
        InputError: a shard is missing, or does not hold what the index says.
    """
    found: dict[str, Payload] = {}
    with ShardReader(version.folder) as reader:
        for uid, shard, offset, size in frame.select("uid", "shard", "json_offset", "json_bytes").iter_rows():
            what = f"{version.ref}: sample {uid} in {shard_name(shard)}"
            if not 0 < size <= MAX_JSON_BYTES or offset < 0:
                raise InputError(f"{what}: JSON of {size} bytes at {offset}", allowed=f"1 to {MAX_JSON_BYTES} bytes")
            try:
                payload = orjson.loads(reader.read(shard, offset, size))
            except orjson.JSONDecodeError:
                payload = None
            if not isinstance(payload, dict) or payload.get("uid") != uid:
                raise InputError(f"{what}: no such JSON where index.parquet puts it", fix="run clipcurate verify")
            found[uid] = payload
    return found


def count_negatives(old: DatasetVersion, new: DatasetVersion, edited: pl.DataFrame) -> tuple[NegativeCount, ...]:
    """Count over many samples what `diff_records` and `diff_grades` return for each.

    Texts are compared by 64 bits of hash, shard by shard, so that millions of negatives fit in memory.

    Args:
        old: The old version.
        new: The new version.
        edited: Columns uid, shard and ``shard@new`` of the samples whose negatives differ.
    """
    import polars as pl

    numbered = edited.with_row_index("sample")
    sides = [
        _count_texts(version, numbered.select("sample", "uid", shard=column))
        for version, column in ((old, "shard"), (new, "shard@new"))
    ]
    keys = ["sample", *NEGATIVE_KIND, "text"]
    joined = sides[0].join(sides[1], on=keys, how="full", suffix="@new", coalesce=True)
    left, right = pl.col("number").fill_null(0), pl.col("number@new").fill_null(0)
    # all copies of a text are counted if their mean difficulty changed
    stayed = pl.min_horizontal("number", "number@new") * (pl.col("grade") != pl.col("grade@new")).cast(pl.Int64)
    texts = joined.select(*keys, gone=(left - right).clip(0), new=(right - left).clip(0), regraded=stayed.fill_null(0))
    kinds = texts.group_by("sample", *NEGATIVE_KIND).agg(pl.col("gone", "new", "regraded").sum())
    changed = pl.min_horizontal("gone", "new")
    counts = kinds.group_by("operation", "span_class").agg(
        added=(pl.col("new") - changed).sum(),
        removed=(pl.col("gone") - changed).sum(),
        changed=changed.sum(),
        regraded=pl.col("regraded").sum(),
    )
    numbers = pl.col("added", "removed", "changed", "regraded")
    some = counts.filter(pl.any_horizontal(numbers > 0)).sort("operation", "span_class")
    return tuple(NegativeCount(**row) for row in some.iter_rows(named=True))


def _count_texts(version: DatasetVersion, samples: pl.DataFrame) -> pl.DataFrame:
    """Return (sample, kind, hash of the text, number, grade): count and mean difficulty of each negative."""
    import polars as pl

    keys = ["sample", *NEGATIVE_KIND, "text"]
    kinds = dict.fromkeys(NEGATIVE_KIND, pl.Categorical)
    parts = [
        pl.DataFrame(schema={"sample": pl.UInt32, **kinds, "text": pl.UInt64, "number": pl.Int64, "grade": pl.Float64})
    ]
    for (shard,), part in samples.group_by("shard"):
        table = pl.DataFrame(version.sidecar(int(str(shard)), ["uid", "negatives"]))
        flat = part.select("sample", "uid").join(table, on="uid").explode("negatives").drop_nulls("negatives")
        record = pl.col("negatives").struct
        columns = [record.field(name).cast(pl.Categorical) for name in NEGATIVE_KIND]
        records = flat.select("sample", *columns, text=record.field("text").hash(), grade=record.field("difficulty"))
        parts.append(records.group_by(keys).agg(number=pl.len().cast(pl.Int64), grade=pl.col("grade").mean()))
    return pl.concat(parts)
