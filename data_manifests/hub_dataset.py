"""A version as a data set of Hugging Face: parquet with embedded images, a file for each shard and split, and a card.

`datasets.load_dataset(FOLDER)` reads it, and so does ``--source hf:FOLDER`` with the same uids and captions: images keep their
bytes. One shard is in memory at a time, a few rows at once.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from data_manifests.atomic_files import draft_folder, publish_folder
from data_manifests.data_card import card_text
from data_manifests.errors import InputError
from data_manifests.manifest import DatasetVersion
from data_manifests.shards import ShardReader

if TYPE_CHECKING:
    import pyarrow as pa

SPLIT_NAMES: Mapping[str | None, str] = {"train": "train", "dev": "validation", "test": "test", None: "train"}
"""Our splits -> the names that the hub gives them; what has no split is there to be trained on."""
ROWS_PER_GROUP = 100
"""Rows of a row group, about 10 MB of photographs: what a reader of single rows must fetch."""

_INDEX_COLUMNS = ("shard", "split", "json_offset", "json_bytes", "image_offset", "image_bytes")
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LARGEST = "1M<n<10M"


def export_hub_dataset(version: DatasetVersion, out: Path) -> dict[str, int]:
    """Write ``data/SPLIT-NNNNN-of-NNNNN.parquet`` and ``README.md``; the folder appears whole or not at all.

    Columns: ``image``, ``uid``, ``captions``, ``negatives`` and ``views`` (texts with the number of their caption), ``url``,
    ``attributes`` (JSON).

    Args:
        version: A version whose shards are here.
        out: The new folder.

    Returns:
        The number of rows of each split, by the hub's name.

    Raises:
        InputError: the folder exists, or a shard is missing or damaged.
        OSError: the disk is full; nothing is left behind.
    """
    if out.exists() or out.is_symlink():
        raise InputError(f"{out}: exists already", fix="choose a folder that does not exist yet")
    rows = version.index(list(_INDEX_COLUMNS)).to_pylist()
    parts = sorted({(SPLIT_NAMES[row["split"]], row["shard"]) for row in rows})
    numbers = Counter(split for split, _ in parts)
    places: dict[tuple[str, int], str] = {}
    for split, group in groupby(parts, itemgetter(0)):
        for number, part in enumerate(group):
            places[part] = f"{split}-{number:05d}-of-{numbers[split]:05d}.parquet"
    with draft_folder(out.parent, f".{out.name}.{os.getpid()}.building") as draft:
        (draft / "data").mkdir()
        with ShardReader(
            version.folder, {record["name"]: record for record in version.manifest.body["files"]}
        ) as reader:
            for (split, shard), name in places.items():
                own = (row for row in rows if row["shard"] == shard and SPLIT_NAMES[row["split"]] == split)
                _write(draft / "data" / name, (_row(reader, row) for row in own))
        counts = Counter(SPLIT_NAMES[row["split"]] for row in rows)
        found = {name: counts[name] for name in dict.fromkeys(SPLIT_NAMES.values()) if name in counts}
        (draft / "README.md").write_text(_card(version.manifest.body, found), encoding="utf-8")
        _flush(draft)
        publish_folder(draft, out)
    return found


def _row(reader: ShardReader, place: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sample as a row."""
    sample = orjson.loads(reader.read(place["shard"], place["json_offset"], place["json_bytes"]))
    image = reader.read(place["shard"], place["image_offset"], place["image_bytes"])
    return {
        "image": {"bytes": image, "path": sample["name"].rpartition("/")[2]},
        "uid": sample["uid"],
        "captions": sample["captions"],
        "negatives": [
            {key: item.get(key) for key in ("text", "caption", "operation", "type", "source")}
            for item in sample["negatives"]
        ],
        "views": [
            {key: item.get(key) for key in ("text", "caption", "kind", "source")} for item in sample.get("views", [])
        ],
        "url": sample["url"],
        "attributes": sample["attributes"],
    }


def _schema() -> pa.Schema:
    """Return the columns; that ``image`` has images is said as the library writes it."""
    import pyarrow as pa

    text, number = pa.string(), pa.int32()
    negative = pa.struct([("text", text), ("caption", number), ("operation", text), ("type", text), ("source", text)])
    view = pa.struct([("text", text), ("caption", number), ("kind", text), ("source", text)])
    about = orjson.dumps({"info": {"features": {"image": {"_type": "Image"}}}})
    return pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", text)])),
            ("uid", text),
            ("captions", pa.list_(text)),
            ("negatives", pa.list_(negative)),
            ("views", pa.list_(view)),
            ("url", text),
            ("attributes", text),
        ],
        metadata={b"huggingface": about},
    )


def _write(path: Path, rows: Iterator[Mapping[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, group = _schema(), list[Mapping[str, Any]]()
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for row in rows:
            group.append(row)
            if len(group) >= ROWS_PER_GROUP:
                writer.write_table(pa.Table.from_pylist(group, schema))
                group.clear()
        if group:
            writer.write_table(pa.Table.from_pylist(group, schema))


def _card(body: Mapping[str, Any], counts: Mapping[str, int]) -> str:
    """Return the card: what the hub reads, and the version's data card."""
    number = sum(counts.values())
    lines = [
        "---",
        f"pretty_name: {orjson.dumps(body['name']).decode()}",
        "task_categories:",
        "- zero-shot-image-classification",
        "- image-to-text",
        "tags:",
        "- clip",
        "- clipcurate",
        "size_categories:",
        f"- {next((name for most, name in _SIZES if number < most), _LARGEST)}",
        "configs:",
        "- config_name: default",
        "  data_files:",
        *(f"  - split: {split}\n    path: data/{split}-*.parquet" for split in counts),
        "---",
    ]
    return "\n".join(lines) + "\n" + card_text(body)


def _flush(folder: Path) -> None:
    """Flush a finished folder's files to disk."""
    for path in sorted(folder.rglob("*.*")):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
