"""A small data set version, written with the real shard writer."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw

from data_manifests.manifest import DatasetVersion, Manifest
from data_manifests.sample import image_uid
from data_manifests.shards import ShardWriter, sample_key, sha256_file, shard_name

COLOURS = ("red", "green", "blue", "yellow", "white", "black", "purple", "orange")
SHAPES = ("circle", "square", "bar", "pillar")
PLACES = ("left", "right")

MakeVersion = Callable[..., DatasetVersion]


def draw(colour: str, shape: str, place: str, shade: int) -> bytes:
    """Return a PNG of one coloured shape; the shade of grey behind it keeps uids apart."""
    image = Image.new("RGB", (64, 64), (100 + shade, 100, 100))
    pen = ImageDraw.Draw(image)
    x = 4 if place == "left" else 34
    width, height = {"bar": (26, 10), "pillar": (10, 40)}.get(shape, (26, 26))
    box = (x, 12, x + width, 12 + height)
    (pen.ellipse if shape == "circle" else pen.rectangle)(box, fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def letters(texts: Sequence[str], context: int = 99) -> list[bytes]:
    """Return what a model would read whose tokens are letters, upper case or not."""
    return [text.lower().encode()[:context] for text in texts]


def describe(number: int) -> tuple[bytes, list[str], list[dict[str, Any]]]:
    """Return the image, captions and negatives of sample `number` (no two alike below 64)."""
    colour, shape, place = COLOURS[number % 8], SHAPES[number // 8 % 4], PLACES[number // 32 % 2]
    captions = [f"a {colour} {shape} on the {place}", f"{place}: one {shape}, {colour}"]
    others = [name for name in COLOURS if name != colour]
    negatives = [
        {"text": text.replace(colour, other), "caption": at, "operation": "replace", "span_class": "colour"}
        for at, text in enumerate(captions)
        for other in others[: number % 8]
    ]
    return draw(colour, shape, place, number // 64), captions, negatives


def write_version(
    root: Path,
    num_samples: int = 24,
    columns: dict[str, list[Any]] | None = None,
    name: str = "shapes",
    text: Callable[[str], str] = str,
    more: Callable[[int], dict[str, Any]] = lambda number: {},
) -> DatasetVersion:
    """Write a version with two shards below `root`.

    `columns` adds to the index, `text` changes captions and negatives, `more` adds to the JSON of a sample by its number.
    """
    folder = root / "datasets" / name
    folder.mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    half = (num_samples + 1) // 2
    for shard, numbers in enumerate((range(half), range(half, num_samples))):
        with ShardWriter(folder / shard_name(shard)) as writer:
            for position, number in enumerate(numbers):
                data, captions, negatives = describe(number)
                captions = [text(caption) for caption in captions]
                negatives = [negative | {"text": text(negative["text"])} for negative in negatives]
                key, uid = sample_key(shard, position), image_uid(data)
                image = writer.add(f"{key}.png", data)
                body = {"uid": uid, "key": key, "captions": captions, "negatives": negatives} | more(number)
                meta = writer.add(f"{key}.json", orjson.dumps(body))
                rows.append(
                    {"uid": uid, "key": key, "shard": shard, "num_captions": len(captions), "split": "train"}
                    | {"image_offset": image.offset, "image_bytes": image.size_bytes, "image_ext": "png"}
                    | {"json_offset": meta.offset, "json_bytes": meta.size_bytes, "num_negatives": len(negatives)}
                )
            writer.finish()
    table = pa.Table.from_pylist(rows)
    for column, values in (columns or {}).items():
        table = table.drop_columns([column] if column in table.column_names else []).append_column(
            column, pa.array(values)
        )
    pq.write_table(table, folder / "index.parquet")
    about: dict[str, Any] = {
        "format": "clipcurate/1",
        "name": name,
        "version": "1.0.0",
        "counts": {"samples": num_samples},
    }
    return seal(DatasetVersion(Manifest(about), folder))


def seal(version: DatasetVersion) -> DatasetVersion:
    """Return a version whose manifest lists the files that are in its folder now."""
    files = [
        {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for path in sorted(version.folder.iterdir())
    ]
    return replace(version, manifest=Manifest.seal({**version.manifest.body, "files": files}))


@pytest.fixture
def make_version(tmp_path: Path) -> MakeVersion:
    """Return a function (num_samples, columns) -> DatasetVersion with two shards; `columns` adds to the index."""
    return functools.partial(write_version, tmp_path)
