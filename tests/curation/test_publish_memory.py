"""Publishing keeps some numbers of each sample in memory, no objects; the index gets the types that all values need."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from PIL import Image

from curation.engine.engine import run_stages
from curation.engine.intake import read_source
from curation.sources.folder import FolderSource
from curation.stages.hygiene.check_images import CheckImages
from curation.versions.numbering import VersionRequest, publish_version
from curation.versions.tables import IndexParts, index_table
from data_manifests.manifest import Catalog
from data_manifests.seeds import canonical

FEW, MANY = 1000, 3000
MOST_BYTES_PER_SAMPLE = 1000
"""Small files of Arrow have larger tables of values than large ones; objects of each sample were over 8,000."""
SHARD_BYTES = 2**18


def write_pictures(folder: Path, number: int) -> None:
    folder.mkdir(parents=True)
    lines = []
    for place in range(number):
        Image.fromarray(np.full((8, 8, 3), [place % 256, place // 256, 9], np.uint8)).save(folder / f"{place}.png")
        lines.append(orjson.dumps({"file_name": f"{place}.png", "captions": [f"a plain picture, number {place}"]}))
    (folder / "captions.jsonl").write_bytes(b"\n".join(lines) + b"\n")


def peak_of_publishing(root: Path, number: int) -> int:
    """Return the most bytes that Python, numpy and Arrow held while a version was published."""
    write_pictures(root / "photos", number)
    snapshot = read_source(FolderSource(str(root / "photos")), root / "intake", location="here")
    ran, _ = run_stages([CheckImages()], snapshot, root / "store")
    request = VersionRequest("toy", {"name": "test", "paper": "none"}, {"kind": "folder"}, SHARD_BYTES)
    usual, counted = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(counted)
    tracemalloc.start()
    try:
        made = publish_version(Catalog(root / "m", root / "w"), request, ran, snapshot, root / "store")
        peak = tracemalloc.get_traced_memory()[1] + counted.max_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(usual)
    assert made.manifest.num_samples == number
    return peak


def test_memory_of_publishing_grows_by_the_columns_of_the_index_alone(tmp_path: Path) -> None:
    few, many = (peak_of_publishing(tmp_path / str(number), number) for number in (FEW, MANY))
    assert (many - few) / (MANY - FEW) < MOST_BYTES_PER_SAMPLE


def test_canonical_json_that_is_kept_occupies_its_own_size() -> None:
    tracemalloc.start()
    kept = [canonical([number]) for number in range(1000)]
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(kept) == 1000
    assert held < 200 * len(kept)


@pytest.mark.parametrize(
    "values",
    [
        [1, 2, None, 3],
        [1, 2, 2.5, None],
        [None, None, 1, 2],
        [None] * 4,
        ["a", None, None, "b"],
        [True, None, False, None],
    ],
)
def test_an_index_in_parts_has_the_types_of_one_that_is_made_at_once(tmp_path: Path, values: list[Any]) -> None:
    rows = [
        {"uid": f"{number:032x}", "h_split": number, "difficulty": None, "seen": value}
        for number, value in enumerate(values)
    ]
    parts = IndexParts(tmp_path / "index")
    for start in (0, 2):
        parts.add(index_table(rows[start : start + 2]))
    assert parts.joined().equals(index_table(rows))
    assert list(tmp_path.iterdir()) == []
