"""One sample as the page shows it: texts with their edits marked, where they come from, neighbours, and what runs scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from data_manifests.errors import InputError
from data_manifests.negatives import edit_pieces, scores_of, shorten_pieces
from data_manifests.shards import ShardReader
from data_manifests.sidecar_diff import MAX_JSON_BYTES
from data_manifests.text_diff import DiffPiece, diff_words
from flows.window.columns import IndexColumns

MAX_TEXTS = 400
"""Most views and negatives of a sample that are shown."""
MAX_NEIGHBOURS = 12
_MAX_CHARS = 2_000
_SIGNS = {"same": "=", "removed": "-", "added": "+"}
_SHOWN_APART = (
    "uid", "key", "name", "captions", "views", "negatives", "caption", "rewrite", "knowledge", "image_neighbours",
    "text_neighbours", "attributes",
)  # fmt: skip


def read_sample(columns: IndexColumns, row: int) -> dict[str, Any]:
    """Return a sample's published JSON.

    Raises:
        InputError: no such row, or the shard does not hold what the index says.
    """
    if not 0 <= row < columns.num_rows:
        raise InputError(f"sample {row}", allowed=f"0 to {columns.num_rows - 1}")
    shard, offset, size = columns.place(row, "shard", "json_offset", "json_bytes")
    if not 0 < size <= MAX_JSON_BYTES or offset < 0:
        raise InputError(f"sample {row}: JSON of {size} bytes at {offset}", fix="run clipcurate verify")
    with ShardReader(columns.version.folder) as reader:
        sample: dict[str, Any] = orjson.loads(reader.read(shard, offset, size))
    return sample


def sample_view(columns: IndexColumns, row: int, runs: Mapping[str, Path]) -> dict[str, Any]:
    """Return what the page shows of a sample: plain values, every text in pieces ``[sign, text]``."""
    sample = read_sample(columns, row)
    captions: list[str] = sample["captions"]
    texts = [_view(captions, record) for record in (sample.get("views") or ())[:MAX_TEXTS]]
    texts += [_negative(captions, record) for record in (sample.get("negatives") or ())[:MAX_TEXTS]]
    total = len(sample.get("views") or ()) + len(sample.get("negatives") or ())
    attributes = sample.get("attributes") or {}
    known = orjson.loads(attributes) if isinstance(attributes, str) else attributes
    fields = {name: value for name, value in sample.items() if name not in _SHOWN_APART and value not in (None, "", [])}
    return {
        "row": row,
        "uid": sample["uid"],
        "name": sample["name"],
        "captions": captions,
        "texts": texts,
        "more": total - len(texts),
        "fields": {name: _short(value) for name, value in sorted(fields.items())},
        "attributes": {name: _short(value) for name, value in known.items() if name != "edits"},
        "edits": known.get("edits") or [],
        "neighbours": _neighbours(columns, sample),
        "runs": [_scored(name, folder, sample["uid"]) for name, folder in runs.items()],
    }


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]} …"


def _pieces(pieces: Sequence[DiffPiece]) -> list[list[str]]:
    return [[_SIGNS[piece.kind], piece.text] for piece in shorten_pieces(pieces, _MAX_CHARS)]


def _view(captions: Sequence[str], record: Mapping[str, Any]) -> dict[str, Any]:
    number = record.get("caption") or 0
    return {
        "role": "view",
        "caption": number,
        "text": record["text"],
        "pieces": _pieces(diff_words(captions[number], record["text"])),
        "kind": record.get("kind") or "",
        "what": record.get("family") or "",
        "rule": record.get("rule") or "",
        "source": record.get("source") or "",
    }


def _negative(captions: Sequence[str], record: Mapping[str, Any]) -> dict[str, Any]:
    against = record.get("against") or captions[record["caption"]]
    words = (record.get("operation"), record.get("span_class"))
    return {
        "role": "negative",
        "caption": record["caption"],
        "text": record["text"],
        "pieces": _pieces(edit_pieces(against, record)),
        "kind": record.get("type") or "",
        "what": " ".join(word for word in words if word),
        "rule": record.get("rule") or "",
        "source": record.get("source") or "",
        "difficulty": record.get("difficulty"),
        "scores": scores_of(record),
    }


def _neighbours(columns: IndexColumns, sample: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the nearest samples by picture and by text that are in the version, with their rows."""
    found = []
    for name in ("image_neighbours", "text_neighbours"):
        near = (sample.get(name) or ())[:MAX_NEIGHBOURS]
        rows = columns.rows_of([item["uid"] for item in near]) if near else ()
        of = name.partition("_")[0]
        found += [
            {"of": of, "row": int(row), "similarity": item["similarity"]}
            for item, row in zip(near, rows, strict=True)
            if row >= 0
        ]
    return found


def _scored(name: str, folder: Path, uid: str) -> dict[str, Any]:
    """Return what a run's feedback has of a sample: margins and losses of its texts, first and last."""
    import polars as pl

    scanned = pl.scan_parquet(folder).filter(pl.col("uid") == uid).sort("caption", "text").head(MAX_TEXTS)
    return {"run": name, "rows": scanned.collect().drop("uid").to_dicts()}
