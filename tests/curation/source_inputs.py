"""Small inputs for the tests of sources, and checks that apply to every source."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from PIL import Image

from curation.sources import Note, Rejected, SampleSource, SourceRecord, open_source, read_batches
from curation.sources.reading.record_batches import record_schema
from data_manifests.errors import InputError
from data_manifests.sample import ImageRef


def picture(shade: int = 0, kind: str = "JPEG") -> bytes:
    """Return a small encoded picture."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 90, 30)).save(file, kind)
    return file.getvalue()


def put(path: Path, content: str | bytes = "") -> Path:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def records_of(source: SampleSource) -> Iterator[SourceRecord | Rejected | Note]:
    """Yield the entries of a source's batches; of captions that were left out, nothing."""
    for batch in read_batches(source):
        assert batch.schema == record_schema()
        batch.validate(full=True)
        for row in batch.to_pylist():
            if row["note"] is not None:
                yield Note(row["note"])
            elif row["path"] is None and row["data"] is None:
                assert row["captions"] is None
                yield from (Rejected(row["name"], **problem) for problem in row["problems"])
            else:
                image = row["data"] or ImageRef(row["path"], row["offset"], row["size_bytes"])
                attributes = orjson.loads(row["attributes"])
                yield SourceRecord(row["name"], image, tuple(row["captions"]), row["split"], attributes)


def read(spec: str, split: str | None = None) -> tuple[list[SourceRecord], list[tuple[str, str]]]:
    """Return the records of a source, and name and reason of what it rejected; all of it must be fit to publish."""
    items = list(records_of(open_source(spec, split)))
    records = [item for item in items if isinstance(item, SourceRecord)]
    rejected = [item for item in items if isinstance(item, Rejected)]
    orjson.dumps([(r.name, r.captions, r.split, dict(r.attributes)) for r in records])
    text = orjson.dumps([(r.name, r.reason, r.detail) for r in rejected]).decode()
    root = spec.partition(":")[2]
    assert root not in text
    assert all(r.detail for r in rejected)
    return records, [(item.name, item.reason) for item in rejected]


def bytes_of(record: SourceRecord) -> bytes:
    """Return a record's image."""
    return record.image.read() if isinstance(record.image, ImageRef) else record.image


def refused(spec: str, split: str | None = None) -> str:
    """Return the message with which a source refuses its path on construction."""
    with pytest.raises(InputError) as caught:
        open_source(spec, split)
    assert caught.value.fix
    return str(caught.value)


def flickr8k(root: Path, folder: str = "images") -> Path:
    """Make the official layout: a and b for training, c for dev, u in no list."""
    for shade, name in enumerate("abcu"):
        put(root / folder / f"{name}.jpg", picture(shade))
    lines = [f"{name}.jpg#{number}\t{name} caption {number} ." for name in "cbau" for number in (1, 0)]
    put(root / "Flickr8k.token.txt", "\n".join(lines))
    put(root / "Flickr_8k.trainImages.txt", "b.jpg\na.jpg\n")
    put(root / "Flickr_8k.devImages.txt", "c.jpg\n")
    return root


def coco(images: Iterable[dict[str, Any]], notes: Iterable[tuple[int, Any]]) -> str:
    """Return a captions file."""
    licences = [{"id": 4, "name": "Attribution License", "url": "http://by"}, {"id": 7, "name": "Unused"}]
    annotations = [{"id": n, "image_id": image, "caption": text} for n, (image, text) in enumerate(notes)]
    return json.dumps({"info": {}, "licenses": licences, "images": list(images), "annotations": annotations})


Member = tuple[str, bytes] | tarfile.TarInfo


def pack(path: Path, members: Iterable[Member], form: int = tarfile.USTAR_FORMAT) -> Path:
    """Write a tar."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return path


def sample(key: str, *captions: str, **more: Any) -> list[Member]:
    """Return the members of one sample in img2dataset's layout."""
    row = {"key": key, "caption": captions[0], "url": f"http://{key}", "width": 8, "status": "success"} | more
    text = captions[0].encode()
    return [(f"{key}.jpg", picture(len(key))), (f"{key}.txt", text), (f"{key}.json", json.dumps(row).encode())]


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """Return a member without data."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info
