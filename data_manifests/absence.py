"""Proof of absence: searches every remaining byte for traces of forgotten samples.

Every file is searched raw; Parquet files are also decoded column by column, since their pages are compressed. Names of
files and folders are searched too. No index is trusted.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from data_manifests.byte_search import MIN_BYTES, BytePatterns
from data_manifests.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_BYTES = 32
"""Any 64 bytes of an image contain an aligned block of 32, so copies of them are found at any offset."""
_PIECE_BYTES = 16 * 2**20
_DISTINCT = 16
_SCAN = b"\xff\xda"
_ROWS = 65_536
_MAX_PLACES = 1000


@dataclass(frozen=True)
class OriginalSample:
    """A forgotten sample's content, which is needed to search for its image and captions.

    Attributes:
        image: The encoded bytes.
        captions: Its captions.
    """

    image: bytes
    captions: tuple[str, ...]


@dataclass
class AbsenceReport:
    """Result of a search.

    Attributes:
        places: ``path: what`` of every trace; empty proves absence.
        num_files: Files searched.
        num_bytes: Bytes searched raw.
        num_decoded_bytes: Decoded bytes of Parquet that were searched.
        num_sought: Byte strings that were searched for.
        shared: Captions that are not searched for, because a remaining caption contains the same words.
        too_short: Captions that are too short to search for.
    """

    places: list[str] = field(default_factory=list)
    num_files: int = 0
    num_bytes: int = 0
    num_decoded_bytes: int = 0
    num_sought: int = 0
    shared: list[str] = field(default_factory=list)
    too_short: list[str] = field(default_factory=list)


def uid_labels(uid: str) -> dict[bytes, str]:
    """Return a uid in all its encodings: hex, raw, and text of numpy."""
    wide = uid.encode("utf-32-le")
    return {uid.encode(): f"uid {uid}", bytes.fromhex(uid): f"raw uid {uid}", wide: f"uid {uid} in an array"}


def text_labels(text: str, label: str) -> dict[bytes, str]:
    """Return a text in all its encodings: plain, and in JSON once or twice."""
    once = orjson.dumps(text)[1:-1]
    return dict.fromkeys((text.encode(), once, orjson.dumps(once.decode())[1:-1]), label)


def image_labels(data: bytes, uid: str) -> dict[bytes, str]:
    """Return an image's aligned blocks, without the tables of a JPEG header and without flat areas."""
    first = data.find(_SCAN) if data.startswith(b"\xff\xd8") else 64
    low = -(-max(first, 0) // BLOCK_BYTES) * BLOCK_BYTES
    blocks = (data[at : at + BLOCK_BYTES] for at in range(low, len(data) - BLOCK_BYTES + 1, BLOCK_BYTES))
    return {block: f"picture bytes of {uid}" for block in blocks if len(set(block)) >= _DISTINCT}


def hash_labels(data: bytes, uid: str) -> dict[bytes, str]:
    """Return the SHA-256 of an image, as hex and raw."""
    digest = hashlib.sha256(data)
    return {digest.hexdigest().encode(): f"sha256 of {uid}", digest.digest(): f"raw sha256 of {uid}"}


def unshared_texts(texts: Iterable[str], others: Iterable[Sequence[str]]) -> list[str]:
    """Return the texts that no remaining caption contains, sorted.

    Args:
        texts: Captions of forgotten samples.
        others: Captions of the remaining samples, in batches.
    """
    unique = set(texts)
    for captions in others:
        joined = "\n".join(captions)
        unique = {text for text in unique if text not in joined}
    return sorted(unique)


def search_traces(
    roots: Sequence[Path], originals: Mapping[str, OriginalSample | None], others: Iterable[Sequence[str]]
) -> AbsenceReport:
    """Search all files below some folders for traces of samples.

    Args:
        roots: Workspace and manifests.
        originals: Full uids, with the samples' content where it is known.
        others: Captions of the remaining samples, in batches.
    """
    known = {uid: original for uid, original in originals.items() if original is not None}
    texts = {text for original in known.values() for text in original.captions}
    unique = set(unshared_texts(texts, others))
    found = AbsenceReport(
        shared=sorted(texts - unique), too_short=sorted(text for text in unique if len(text.encode()) < MIN_BYTES)
    )
    labels: dict[bytes, str] = {}
    for text in sorted(unique):
        labels |= text_labels(text, f"caption {text!r}")
    for uid, original in known.items():
        labels |= image_labels(original.image, uid) | hash_labels(original.image, uid)
    for uid in originals:
        labels |= uid_labels(uid)
    patterns = BytePatterns(labels)
    found.num_sought = len(patterns)
    for path in _files(roots):
        _search_file(path, patterns, found)
    return found


def _files(roots: Sequence[Path]) -> Iterator[Path]:
    """Yield every regular file once, in a fixed order; links are not followed."""
    seen: set[Path] = set()
    for root in roots:
        for folder, inner, names in os.walk(root):
            inner.sort()
            for name in sorted(names):
                path = Path(folder) / name
                real = path.resolve()
                if path.is_file() and not path.is_symlink() and real not in seen:
                    seen.add(real)
                    yield path


def _search_file(path: Path, patterns: BytePatterns, found: AbsenceReport) -> None:
    places: dict[str, None] = {}
    named = str(path).encode("utf-8", "surrogateescape")
    places |= {f"{path}: its name holds the {patterns.labels[pattern]}": None for _, pattern in patterns.find(named)}
    keep, tail, at = patterns.overlap_bytes, b"", 0
    with open(path, "rb") as file:
        while piece := file.read(_PIECE_BYTES):
            data = tail + piece
            for position, pattern in patterns.find(data):
                places[f"{path}: {patterns.labels[pattern]}, byte {at - len(tail) + position}"] = None
            tail = data[-keep:] if keep else b""
            at += len(piece)
    found.num_files += 1
    found.num_bytes += at
    if path.suffix == ".parquet":
        for column, data in _decoded(path):
            found.num_decoded_bytes += len(data)
            places |= {
                f"{path}: {patterns.labels[pattern]}, column {column}": None for _, pattern in patterns.find(data)
            }
    found.places += list(places)[: max(_MAX_PLACES - len(found.places), 0)]


def _decoded(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield every column's decoded bytes, some rows at a time.

    Raises:
        InputError: the file is damaged, so that it cannot be searched.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_ROWS):
                for name, column in zip(batch.schema.names, batch.columns, strict=True):
                    yield from ((name, memoryview(buffer)) for buffer in _buffers(column))
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path}: cannot be decoded, so absence is not proved: {error}", fix="repair or delete it"
        ) from error


def _buffers(column: pa.Array) -> Iterator[Any]:
    return (buffer for buffer in column.buffers() if buffer is not None and buffer.size >= MIN_BYTES)
