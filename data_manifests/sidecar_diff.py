"""Read what differs: the whole JSON of few samples, and from sidecars counts over the negatives of many."""

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
"""JSON of one sample; an index that claims more is wrong."""


@dataclass(frozen=True, slots=True)
class NegativeCount:
    """Negatives of one operation and span class that differ, over samples of both versions.

    Attributes:
        operation: What was done to the caption.
        span_class: What it was done to.
        added: Negatives without a predecessor in their sample.
        removed: Negatives without a successor in their sample.
        changed: Negatives that another text of the same kind replaced.
        regraded: Negatives that kept their text and have another difficulty.
    """

    operation: str
    span_class: str
    added: int
    removed: int
    changed: int
    regraded: int


def read_payloads(version: DatasetVersion, frame: pl.DataFrame) -> dict[str, Payload]:
    """Return samples' JSON by uid, read from the shards by byte range: a few reads, however large the version.

    Args:
        version: Whose shards.
        frame: Columns uid, shard, json_offset and json_bytes: which samples.

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
    """Count over many samples what `diff_records` and `diff_grades` would tell of each.

    Texts are compared by 64 bits of hash, shard by shard, so that millions of negatives fit in memory.

    Args:
        old: The old version.
        new: The new version.
        edited: Columns uid, shard and ``shard@new`` of the samples whose negatives differ.
    """
    import polars as pl

    numbered = edited.with_row_index("sample")
    sides = [
        _tallied(version, numbered.select("sample", "uid", shard=column))
        for version, column in ((old, "shard"), (new, "shard@new"))
    ]
    keys = ["sample", *NEGATIVE_KIND, "text"]
    joined = sides[0].join(sides[1], on=keys, how="full", suffix="@new", coalesce=True)
    left, right = pl.col("number").fill_null(0), pl.col("number@new").fill_null(0)
    # of a text that is there several times, all are counted if their mean has moved
    stayed = pl.min_horizontal("number", "number@new") * (pl.col("grade") != pl.col("grade@new")).cast(pl.Int64)
    lost = joined.select(*keys, lost=(left - right).clip(0), won=(right - left).clip(0), regraded=stayed.fill_null(0))
    kinds = lost.group_by("sample", *NEGATIVE_KIND).agg(pl.col("lost", "won", "regraded").sum())
    changed = pl.min_horizontal("lost", "won")
    counts = kinds.group_by("operation", "span_class").agg(
        added=(pl.col("won") - changed).sum(),
        removed=(pl.col("lost") - changed).sum(),
        changed=changed.sum(),
        regraded=pl.col("regraded").sum(),
    )
    told = pl.col("added", "removed", "changed", "regraded")
    some = counts.filter(pl.any_horizontal(told > 0)).sort("operation", "span_class")
    return tuple(NegativeCount(**row) for row in some.iter_rows(named=True))


def _tallied(version: DatasetVersion, samples: pl.DataFrame) -> pl.DataFrame:
    """Return (sample, kind, hash of the text, number, grade): how often each negative occurs, its mean difficulty."""
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
