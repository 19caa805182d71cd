"""Proof of absence: searches every remaining byte for traces of forgotten samples.

Sought are uids, image bytes, whole captions, and every five words in a row of a caption that no remaining caption has, so
that a caption with one word changed is found, too. Every file is searched raw; Parquet files are also decoded column by
column, since their pages are compressed, and gzip and zstd files are unpacked. Names of files and folders are searched
too. No index is trusted.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from data_manifests.byte_search import MIN_BYTES, MOST_BETWEEN_WORDS, BytePatterns, WordRuns, runs_of
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
WORDS_IN_A_RUN = 5
"""Words in a row of a caption that nothing may have after the caption is forgotten, unless a remaining caption has them."""
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}


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
        num_sought: Byte strings and runs of words that were searched for.
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


class OwnTexts(NamedTuple):
    """What only forgotten captions say, sorted.

    Attributes:
        captions: Captions that are no part of a remaining one.
        runs: Runs of `WORDS_IN_A_RUN` words that no remaining caption has.
    """

    captions: list[str]
    runs: list[str]


def own_texts(texts: Iterable[str], others: Iterable[Sequence[str]]) -> OwnTexts:
    """Return what no remaining caption says.

    Args:
        texts: Captions of forgotten samples.
        others: Captions of the remaining samples, in batches.
    """
    captions = set(texts)
    runs = runs_of(captions, WORDS_IN_A_RUN)
    search = WordRuns(runs)
    for batch in others:
        joined = "\n".join(
            batch
        )  # what goes from one caption into the next is theirs, too: files have them in this order
        captions = {text for text in captions if text not in joined}
        runs -= {run for _, run in search.find(joined.encode())}
    return OwnTexts(sorted(captions), sorted(runs))


class TracePatterns:
    """What must not be in anything that stays: byte strings and runs of words.

    Args:
        labels: Label of each byte string.
        runs: Runs of words.
    """

    def __init__(self, labels: Mapping[bytes, str], runs: Iterable[str]) -> None:
        self._strings, self._runs = BytePatterns(labels), WordRuns(runs)
        self._num_runs = len(set(runs))

    def __len__(self) -> int:
        return len(self._strings) + self._num_runs

    @property
    def overlap_bytes(self) -> int:
        """Return how many bytes of a file's last block must be searched again with the next one."""
        return max(self._strings.overlap_bytes, MOST_BETWEEN_WORDS)

    def find(self, data: Any) -> Iterator[tuple[int, str]]:
        """Yield (position, label) of every occurrence in a buffer, byte strings first."""
        for position, pattern in self._strings.find(data):
            yield position, self._strings.labels[pattern]
        for position, run in self._runs.find(data):
            yield position, f"words {run!r} of a caption"

    def are_in(self, data: Any) -> bool:
        """Return whether any of them is in a buffer."""
        return any(True for _ in self.find(data))


def rows_with(table: pa.Table, patterns: TracePatterns) -> set[int]:
    """Return the rows of a table that have a pattern in one of their texts or byte strings."""
    rows: set[int] = set()
    for column in table.combine_chunks().columns:
        first = 0
        for array in column.chunks:
            rows |= {first + row for row in _rows_of_array(array, patterns)}
            first += len(array)
    return rows


def _rows_of_array(array: pa.Array, patterns: TracePatterns) -> set[int]:
    from pyarrow import types

    wide = types.is_large_binary(array.type) or types.is_large_string(array.type)
    if not wide and not types.is_binary(array.type) and not types.is_string(array.type):
        return set()
    _, offsets, data = array.buffers()
    if data is None:
        return set()
    kind = np.int64 if wide else np.int32
    starts = np.frombuffer(offsets, dtype=kind)[array.offset : array.offset + len(array) + 1]
    positions = np.array([position for position, _ in patterns.find(data)], dtype=np.int64)
    found = np.searchsorted(starts, positions, side="right") - 1
    return set(found[(found >= 0) & (found < len(array))].tolist())


def search_traces(
    roots: Sequence[Path], originals: Mapping[str, OriginalSample | None], others: Iterable[Sequence[str]]
) -> AbsenceReport:
    """Search all files below some folders for traces of samples.

    Args:
        roots: Workspace and manifests, and other folders or files.
        originals: Full uids, with the samples' content where it is known.
        others: Captions of the remaining samples, in batches.
    """
    known = {uid: original for uid, original in originals.items() if original is not None}
    texts = {text for original in known.values() for text in original.captions}
    unique, runs = own_texts(texts, others)
    found = AbsenceReport(
        shared=sorted(texts.difference(unique)),
        too_short=sorted(text for text in unique if len(text.encode()) < MIN_BYTES),
    )
    labels: dict[bytes, str] = {}
    for text in unique:
        labels |= text_labels(text, f"caption {text!r}")
    for uid, original in known.items():
        labels |= image_labels(original.image, uid) | hash_labels(original.image, uid)
    for uid in originals:
        labels |= uid_labels(uid)
    patterns = TracePatterns(labels, runs)
    found.num_sought = len(patterns)
    for path in _files(roots):
        _search_file(path, patterns, found)
    return found


def files_mentioning(root: Path, patterns: TracePatterns) -> list[Path]:
    """Return the files below a folder (or the file itself) that have any of the patterns."""
    return [path for path in _files([root]) if mentions(path, patterns)]


def mentions(path: Path, patterns: TracePatterns) -> bool:
    """Return whether a file, its name or its decoded content has any of the patterns."""
    found = AbsenceReport()
    _search_file(path, patterns, found)
    return bool(found.places)


def _files(roots: Sequence[Path]) -> Iterator[Path]:
    """Yield every regular file once, in a fixed order; links are not followed."""
    seen: set[Path] = set()
    for root in roots:
        for path in [root] if root.is_file() else _below(root):
            real = path.resolve()
            if path.is_file() and not path.is_symlink() and real not in seen:
                seen.add(real)
                yield path


def _below(root: Path) -> Iterator[Path]:
    for folder, inner, names in os.walk(root):
        inner.sort()
        yield from (Path(folder) / name for name in sorted(names))


def _search_file(path: Path, patterns: TracePatterns, found: AbsenceReport) -> None:
    places: dict[str, None] = {}
    named = str(path).encode("utf-8", "surrogateescape")
    places |= {f"{path}: its name holds the {label}": None for _, label in patterns.find(named)}
    with open(path, "rb") as file:
        start = file.read(4)
        file.seek(0)
        for at, label in _search_stream(file, patterns):
            places[f"{path}: {label}, byte {at}"] = None
        found.num_bytes += file.tell()
    found.num_files += 1
    for kind in (kind for magic, kind in _PACKED.items() if start.startswith(magic)):
        for at, label in _unpacked(path, kind, patterns):
            places[f"{path}: {label}, byte {at} unpacked"] = None
    if path.suffix == ".parquet":
        for column, data in _decoded(path):
            found.num_decoded_bytes += len(data)
            places |= {f"{path}: {label}, column {column}": None for _, label in patterns.find(data)}
    found.places += list(places)[: max(_MAX_PLACES - len(found.places), 0)]


def _search_stream(file: Any, patterns: TracePatterns) -> Iterator[tuple[int, str]]:
    """Yield (position, label) of every occurrence in a file; in overlaps of its pieces, twice."""
    tail, at = b"", 0
    while piece := file.read(_PIECE_BYTES):
        data = tail + piece
        for position, label in patterns.find(data):
            yield at - len(tail) + position, label
        tail = data[-patterns.overlap_bytes :]
        at += len(piece)


def _unpacked(path: Path, kind: str, patterns: TracePatterns) -> Iterator[tuple[int, str]]:
    """Yield (position, label) of every occurrence in a compressed file's content.

    Raises:
        InputError: the file is damaged, so that it cannot be searched.
    """
    import pyarrow as pa

    try:
        with pa.input_stream(str(path), compression=kind) as stream:
            yield from _search_stream(stream, patterns)
    except (pa.ArrowException, OSError) as error:
        raise _undecodable(path, error) from error


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
        raise _undecodable(path, error) from error


def _undecodable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: cannot be decoded, so absence is not proved: {error}", fix="repair or delete it")


def _buffers(column: pa.Array) -> Iterator[Any]:
    return (buffer for buffer in column.buffers() if buffer is not None and buffer.size >= MIN_BYTES)
