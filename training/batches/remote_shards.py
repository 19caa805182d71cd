"""Shards behind a URL: byte ranges over https or s3, one round trip for each batch, nothing trusted that is not checked.

A step's ranges are known from the plan, so they are fetched together: neighbours in one request, all requests at once,
over connections that stay open. What comes back must be the member that the index means: each range is fetched with
the tar header in front of it, whose name is a member's and whose size is the range's.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
from blake3 import blake3

from data_manifests.atomic_files import write_atomically
from data_manifests.errors import InputError
from data_manifests.manifest import Catalog, DatasetVersion, Manifest
from data_manifests.object_store import FIRST_PAUSE_S, SCHEMES, TRIES, given_up, s3_store
from data_manifests.seeds import canonical
from data_manifests.shards import BLOCK_BYTES, ShardReader, check_file, shard_name

Range = tuple[int, int, int]
"""Shard, offset, number of bytes."""

GAP_BYTES = 64 << 10
"""Ranges of a shard this near are one request: cheaper than another round trip."""
MOST_BYTES = 32 << 20
"""Larger requests are cut, so that none fails as a whole."""

@dataclass(frozen=True)
class RemoteVersion(DatasetVersion):
    """A version whose manifest and tables are here and whose shards lie behind a URL.

    Attributes:
        url: Folder of the shards: ``https://...`` or ``s3://...``.
    """

    url: str = ""


def open_shards(dataset: DatasetVersion) -> ShardReader | RemoteShards:
    """Return what reads a version's shards, wherever they lie."""
    if isinstance(dataset, RemoteVersion):
        return RemoteShards(dataset.url, {name: int(record["bytes"]) for name, record in dataset.records.items()})
    return ShardReader(dataset.folder, dataset.records)


def fetch_ahead(reader: ShardReader | RemoteShards, ranges: Iterable[Range]) -> None:
    """Fetch what a step will read in one go; local files need none of it, the kernel reads ahead."""
    if isinstance(reader, RemoteShards):
        reader.fetch(ranges)


class ByteRanges(Protocol):
    """What byte ranges are read with: a file system of fsspec, or our connections to s3."""

    def size(self, path: str) -> int:
        """Return a file's size."""

    def cat_ranges(
        self, paths: list[str], starts: list[int], ends: list[int], *, on_error: Literal["return"]
    ) -> Sequence[bytes | Exception]:
        """Return byte ranges; what was wrong with one takes its place."""


class RemoteShards:
    """Reads byte ranges of shards behind a URL; what was fetched ahead is read once and forgotten.

    Args:
        url: Folder of the shards.
        sizes: Bytes of each file by name, from the manifest.
        pause: Waits between tries; seconds.

    Raises:
        InputError: the URL cannot be used, or the package for it is missing.
    """

    def __init__(self, url: str, sizes: Mapping[str, int], pause: Callable[[float], None] = time.sleep) -> None:
        self._system, self._root = open_url(url)
        self._sizes, self._pause = sizes, pause
        self._checked: set[int] = set()
        self._held: dict[Range, bytes] = {}
        self._lock = threading.Lock()

    def fetch(self, ranges: Iterable[Range]) -> None:
        """Fetch ranges that will be read next, all at once, unless they are here; what was fetched before and not read is forgotten.

        Raises:
            InputError: see `read`.
        """
        wanted = sorted(set(ranges))
        with self._lock:
            missing = [key for key in wanted if key not in self._held]
            if not missing:
                return
            self._held = {key: self._held[key] for key in wanted if key in self._held}
        made = self._load(missing)
        with self._lock:
            self._held |= made

    def read(self, shard: int, offset: int, num_bytes: int) -> bytes:
        """Return `num_bytes` at `offset` of a shard.

        Raises:
            InputError: the server does not have the shard, does not answer after several tries, or answers with
                something else than that range.
        """
        key = (shard, offset, num_bytes)
        with self._lock:
            data = self._held.pop(key, None)
        return self._load([key])[key] if data is None else data

    def close(self) -> None:
        """Forget what was fetched; connections close with the process."""
        self._held = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _path(self, shard: int) -> str:
        return f"{self._root}/{shard_name(shard)}"

    def _load(self, missing: Sequence[Range]) -> dict[Range, bytes]:
        self._check_sizes({shard for shard, _, _ in missing})
        made: dict[Range, bytes] = {}
        together = join_ranges(missing)
        spans = [(self._path(shard), first, end) for shard, first, end, _ in together]
        for (shard, first, _, parts), data in zip(together, get_ranges(self._system, spans, self._pause), strict=True):
            for offset, size in parts:
                header = data[offset - BLOCK_BYTES - first : offset - first]
                _check_header(header, size, f"{self._path(shard)}: {size} bytes at {offset}")
                made[shard, offset, size] = data[offset - first : offset - first + size]
        return made

    def _check_sizes(self, shards: set[int]) -> None:
        for shard in sorted(shards - self._checked):
            path, expected = self._path(shard), self._sizes.get(shard_name(shard))
            if expected is None:
                raise InputError(f"{path}: the manifest knows no such shard", fix="run clipcurate verify")
            size = self._try(path, lambda path=path: self._system.size(path))  # type: ignore[misc]
            if size != expected:
                raise InputError(
                    f"{path}: {size} bytes, the manifest says {expected}",
                    allowed="the shards of exactly this version",
                    fix="give the URL of the folder that holds this version's shards, or upload them again",
                )
            self._checked.add(shard)

    def _try(self, path: str, work: Callable[[], Any]) -> Any:
        why = ""
        for attempt in range(TRIES):
            if attempt:
                self._pause(FIRST_PAUSE_S * 2 ** (attempt - 1))
            try:
                return work()
            except Exception as error:  # noqa: BLE001 - each library behind a URL has errors of its own; the last is shown
                why = _reason(error, path)
        raise _given_up(path, why)


class CheckedTexts:
    """Compares the texts of remote samples with the version's tables, which were checked against the manifest's hashes.

    With it everything that training takes from a remote shard is checked without reading it twice: the size, the images by
    their uid, the texts by the table beside the shard. A table is read once; eight bytes a sample are kept.

    Args:
        dataset: The version.
    """

    def __init__(self, dataset: RemoteVersion) -> None:
        self._dataset = dataset
        shards = dataset.index()["shard"].to_numpy()
        self._first_rows = np.searchsorted(shards, np.arange(int(shards[-1]) + 2)).tolist() if len(shards) else [0]
        self._digests: dict[int, bytes | None] = {}  # None: the version has no such table
        self._lock = threading.Lock()

    def check(self, shard: int, row: int, sample: Mapping[str, Any]) -> None:
        """Check a sample's captions, negatives, views, phrases, words and tags.

        Args:
            shard: Its shard.
            row: Its row of the index.
            sample: Its JSON.

        Raises:
            InputError: they are not those of the version.
        """
        with self._lock:
            if shard not in self._digests:
                self._digests[shard] = self._read_table(shard)
        at, known = _DIGEST_BYTES * (row - self._first_rows[shard]), self._digests[shard]
        if known is not None and _digest(sample) != known[at : at + _DIGEST_BYTES]:
            raise InputError(
                f"sample {sample['uid']}: its texts in {self._dataset.url}/{shard_name(shard)} are not those of "
                f"{self._dataset.ref}",
                allowed="the shards of exactly this version",
                fix="upload this version's shards again, or give the URL of the folder that holds them",
            )

    def _read_table(self, shard: int) -> bytes | None:
        import pyarrow.parquet as pq

        name = f"{shard:05d}.parquet"
        if name not in self._dataset.records:
            return None
        check_file(self._dataset.folder / name, self._dataset.records)
        table = pq.ParquetFile(self._dataset.folder / name, memory_map=True)
        columns = [column for column in _TEXT_COLUMNS if column in table.schema_arrow.names]
        batches = table.iter_batches(batch_size=256, columns=columns)
        return b"".join(_digest(sample) for batch in batches for sample in batch.to_pylist())


_DIGEST_BYTES = 8
_TEXT_COLUMNS = ("captions", "negatives", "views", "phrase_foils", "words", "attribute_tags")
_TEXT_FIELDS = (
    "text",
    "caption",
    "difficulty",
    "type",
    "against",
    "source",
    "kind",
    "rule",
    "scale",
    "foil",
    "class",
    "word",
)


def _digest(sample: Mapping[str, Any]) -> bytes:
    """Return a hash of a sample's captions and tags, and of its negatives, views, phrases and words as far as training uses them."""
    others = [
        [[text.get(name) for name in _TEXT_FIELDS] for text in sample.get(column) or ()]
        for column in _TEXT_COLUMNS[1:-1]
    ]
    return blake3(canonical([sample.get("captions"), others, sample.get("attribute_tags")])).digest(
        length=_DIGEST_BYTES
    )


def get_ranges(
    system: ByteRanges, spans: Sequence[tuple[str, int, int]], pause: Callable[[float], None]
) -> list[bytes]:
    """Return (path, first, end) ranges, all requested at once; those that fail are tried again after a pause.

    Raises:
        InputError: a file is not there, or there is no right answer after several tries.
    """
    found: dict[tuple[str, int, int], bytes] = {}
    left, why = list(spans), ""
    for attempt in range(TRIES):
        if attempt:
            pause(FIRST_PAUSE_S * 2 ** (attempt - 1))
        paths = [path for path, _, _ in left]
        starts, ends = [first for _, first, _ in left], [end for _, _, end in left]
        answers = system.cat_ranges(paths, starts, ends, on_error="return") if left else []
        for span, data in zip(left, answers, strict=True):
            if isinstance(data, bytes) and len(data) == span[2] - span[1]:
                found[span] = data
            else:
                why = _reason(data, span[0])
        left = [span for span in left if span not in found]
        if not left:
            return [found[span] for span in spans]
    path, first, end = left[0]
    raise _given_up(f"{path}: bytes {first} to {end}", why)


def join_ranges(ranges: Sequence[Range]) -> list[tuple[int, int, int, list[tuple[int, int]]]]:
    """Return requests (shard, first, end, parts) that cover sorted ranges with their headers; parts are (offset, size)."""
    joined: list[tuple[int, int, int, list[tuple[int, int]]]] = []
    for shard, offset, size in ranges:
        first, end = offset - BLOCK_BYTES, offset + size
        if joined:
            last_shard, last_first, last_end, parts = joined[-1]
            if shard == last_shard and first <= last_end + GAP_BYTES and end - last_first <= MOST_BYTES:
                joined[-1] = (shard, last_first, max(end, last_end), [*parts, (offset, size)])
                continue
        joined.append((shard, first, end, [(offset, size)]))
    return joined


def open_url(url: str) -> tuple[ByteRanges, str]:
    """Return the file system behind a URL and the folder on it.

    Raises:
        InputError: another kind of URL, or the package for it is missing.
    """
    scheme, found, _ = url.partition("://")
    if not found or scheme not in SCHEMES:
        raise InputError(f"--shards {url!r}", allowed=", ".join(f"{name}://..." for name in SCHEMES))
    if scheme == "s3":
        return s3_store(), url.rstrip("/")
    try:
        import fsspec

        system, root = fsspec.core.url_to_fs(url.rstrip("/"))
    except ImportError as error:
        raise InputError(f"--shards {url!r}: {error}", fix="pip install 'clipcurate[remote]'") from None
    return system, str(root)


def open_remote(catalog: Catalog, ref: str, url: str) -> RemoteVersion:
    """Open a version whose manifest is here; its tables are fetched, checked and kept, its shards stay where they are.

    Raises:
        InputError: no such version, the URL cannot be used, or what lies there is not this version.
    """
    name, version = catalog.resolve(ref)
    manifest = Manifest.load(catalog.manifest_path(name, version))
    folder = catalog.workspace / "remote" / name / manifest.fingerprint
    system, root = open_url(url)
    for record in manifest.body["files"]:
        if record["name"].endswith(".parquet"):
            _fetch_table(system, root, record, folder)
    return RemoteVersion(manifest, folder, url)


def _fetch_table(system: ByteRanges, root: str, record: Mapping[str, Any], folder: Path) -> None:
    # only the last part of a name, so that no manifest writes outside the folder
    path, url, size = folder / Path(record["name"]).name, f"{root}/{record['name']}", int(record["bytes"])
    if path.is_file() and path.stat().st_size == size:
        return
    data = get_ranges(system, [(url, 0, size)], time.sleep)[0]
    if (actual := hashlib.sha256(data).hexdigest()) != record["sha256"]:
        raise InputError(
            f"{url}: sha256 {actual}, the manifest says {record['sha256']}", fix="upload this version again"
        )
    write_atomically(path, data)


def _reason(answer: object, path: str) -> str:
    """Return why an answer is none; what no further try can mend is raised.

    Raises:
        InputError: the file is not there, or not for us.
    """
    if isinstance(answer, InputError):
        raise answer
    if isinstance(answer, (FileNotFoundError, PermissionError)):
        raise InputError(f"{path}: {answer}", fix="give the URL of the folder that holds 00000.tar, readable for you")
    if isinstance(answer, bytes):
        return f"{len(answer)} bytes came back"
    return f"{type(answer).__name__}: {answer}"


def _given_up(what: str, why: str) -> InputError:
    allowed = "a server that answers byte ranges with exactly these bytes"
    return given_up(what, why, allowed, "look at the server or the network, then go on with --resume")


def _check_header(header: bytes, size: int, what: str) -> None:
    """Check that the range is a member of a tar: its header stands before it and names its size."""
    try:
        holds = header[257:262] == b"ustar" and int(header[124:136].rstrip(b" \0"), 8) == size
    except ValueError:
        holds = False
    if not holds:
        raise InputError(
            f"{what}: the server sent other bytes than these",
            allowed="a server that honours byte ranges",
            fix="upload the shards again, or serve them by another server",
        )
