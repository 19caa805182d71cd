"""What forgotten captions left in files: every five words in a row that no remaining caption has, whatever wraps them.

It shares no code with `data_manifests.absence`, whose claims it checks: files are read raw and unpacked (gzip, zstd, zip,
tar, Parquet by column), bytes become lower-case words, and runs of words are looked up one by one.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

WORDS = 5


def words_of(data: bytes) -> list[bytes]:
    """Return runs of ASCII letters and digits; text in UTF-16 or UTF-32 is read, too."""
    return re.findall(rb"[a-z0-9]+", data.replace(b"\0", b"").lower())


def shingles(texts: Iterable[str]) -> set[tuple[bytes, ...]]:
    """Return all runs of `WORDS` words."""
    split = [words_of(text.encode()) for text in texts]
    return {tuple(words[at : at + WORDS]) for words in split for at in range(len(words) - WORDS + 1)}


def left_behind(roots: Iterable[Path], forgotten: Iterable[str], remaining: Iterable[str]) -> dict[str, list[str]]:
    """Return for each file the runs of words of forgotten captions that it has and no remaining caption has."""
    sought = shingles(forgotten) - shingles(remaining)
    found: dict[str, set[str]] = {}
    for path in sorted(path for root in roots for path in root.rglob("*") if path.is_file()):
        for data in unpacked(path.name, path.read_bytes()):
            words = words_of(data)
            runs = zip(*(words[shift:] for shift in range(WORDS)), strict=False)
            hits = {b" ".join(run).decode() for run in sought.intersection(runs)}
            if hits:
                found.setdefault(str(path), set()).update(hits)
    return {path: sorted(runs) for path, runs in found.items()}


def unpacked(name: str, data: bytes) -> Iterator[bytes]:
    """Yield a file's bytes, and those of everything packed in it."""
    yield data
    if name.endswith(".parquet"):
        table = pq.read_table(io.BytesIO(data))
        yield from (str(column.to_pylist()).encode() for column in table.columns)
    elif data[:2] == b"\x1f\x8b":
        yield from unpacked(name.removesuffix(".gz"), gzip.decompress(data))
    elif data[:4] == b"\x28\xb5\x2f\xfd":
        yield from unpacked(name, pa.input_stream(io.BytesIO(data), compression="zstd").read())
    elif data[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for inner in archive.namelist():
                yield from unpacked(inner, archive.read(inner))
    elif name.endswith(".tar"):
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            members = [archive.extractfile(member) for member in archive.getmembers()]
            yield from (member.read() for member in members if member is not None)
