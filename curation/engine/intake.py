"""Intake: reads a source once into a snapshot of samples sorted by uid, and records everything it rejects."""

from __future__ import annotations

import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import orjson
from blake3 import blake3

from curation.engine.denylist import Denylist
from curation.engine.store import PREFIXES, Partition
from curation.sources import SPLIT_PRIORITY, Note, Rejected, SampleSource, SourceRecord
from data_manifests.atomic_files import draft_folder, open_atomically, publish_folder, write_atomically
from data_manifests.errors import InputError
from data_manifests.sample import ImageRef, Sample, image_uid
from data_manifests.seeds import canonical

if TYPE_CHECKING:
    import pyarrow as pa

INTAKE_VERSION = 2
"""Increased when the same source gives another snapshot."""

_CHUNKS = "rows.arrow"
_ROWS_PER_CHUNK = 4096
"""Rows in memory at once."""

MAX_IMAGE_BYTES = 256 * 2**20
"""Encoded bytes of an image; larger ones are rejected before they are read."""

_BLANK_CATEGORIES = ("Cc", "Cf", "Zs", "Zl", "Zp", "Mn", "Me", "Cn")
_BLANK_LETTERS = "\u115f\u1160\u3164\uffa0\u2800"
"""Hangul fillers and the empty Braille pattern, which Unicode counts as letters and symbols."""


@dataclass(frozen=True)
class Snapshot:
    """A source as it was read: samples sorted by uid.

    Attributes:
        folder: Has ``samples.parquet``, ``rejected.json``, ``about.json`` and, for sources that are not files,
            ``images.pack``.
        num_samples: Samples in it.
        num_records: Records that were read.
        content: Hash of all samples' content; equal content gives equal versions.
        rejected: Rejected records, as (name, reason, detail).
        notes: Sentences about how the source was read.
    """

    folder: Path
    num_samples: int
    num_records: int
    content: str
    rejected: tuple[tuple[str, str, str], ...]
    notes: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path) -> Snapshot:
        """Open a finished snapshot."""
        about = orjson.loads((folder / "about.json").read_bytes())
        rejected = tuple(tuple(row) for row in orjson.loads((folder / "rejected.json").read_bytes()))
        return cls(
            folder, about["num_samples"], about["num_records"], about["content"], rejected, tuple(about["notes"])
        )

    def samples(self, partition: Partition | None = None) -> list[Sample]:
        """Return the samples of a partition (by default all), sorted by uid."""
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        low, end = partition.bounds() if partition else ("", "g")
        filters = (pc.field("uid") >= low) & (pc.field("uid") < end) if partition else None
        table = pq.read_table(self.folder / "samples.parquet", filters=filters)
        return [_sample(row) for row in table.to_pylist()]

    def content_of(self, partition: Partition) -> str:
        """Return a hash of the content of a partition's samples."""
        return _content_of(self, partition)


@lru_cache(maxsize=PREFIXES)
def _content_of(snapshot: Snapshot, partition: Partition) -> str:
    """Return a hash of the content of a partition's samples; the snapshot has a hash of its content."""
    hasher = blake3()
    for sample in snapshot.samples(partition):
        hasher.update(canonical([sample.uid, sample.name, sample.captions, sample.split, sample.attributes]))
    return hasher.hexdigest(length=16)


def _sample(row: dict[str, Any]) -> Sample:
    return Sample(
        uid=row["uid"],
        name=row["name"],
        image=ImageRef(row["path"], row["offset"], row["size_bytes"]),
        captions=tuple(row["captions"]),
        split=row["split"],
        attributes=orjson.loads(row["attributes"]),
    )


class _SnapshotBuilder:
    """Rows and rejected records read so far; of a row in memory only its uid's digest stays.

    Args:
        draft: Folder of the snapshot that is being made.
        final: Its folder once it is finished.
        denylist: Samples that are rejected.
    """

    def __init__(self, draft: Path, final: Path, denylist: Denylist) -> None:
        self.digests: set[bytes] = set()
        self.rejected: list[tuple[str, str, str]] = []
        self.notes: list[str] = []
        self._draft, self._pack_path, self._denylist = draft, str(final / "images.pack"), denylist
        self._rows: list[dict[str, Any]] = []
        self._files = ExitStack()

    def __enter__(self) -> Self:
        """Open the files that receive rows and the images that are not in a file."""
        import pyarrow as pa

        self._pack = self._files.enter_context((self._draft / "images.pack").open("wb"))
        self._chunks = self._files.enter_context(pa.ipc.new_file(str(self._draft / _CHUNKS), _row_schema()))
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self._files.close()

    def add(self, record: SourceRecord, may_be_new: bool) -> bool:
        """Add a record, or reject it with a reason.

        Args:
            record: What the source gave.
            may_be_new: Whether its image may be one that no record had before.

        Returns:
            False when the record was not taken because its image would be a new one.
        """
        captions, unusable = _usable_captions(record.captions)
        data: bytes | tuple[str, str] = ("no_captions", "no caption with text in it")
        if captions:
            data = record.image if isinstance(record.image, bytes) else _read_bounded(record.image)
        uid = image_uid(data) if isinstance(data, bytes) else ""
        digest = bytes.fromhex(uid)
        if not may_be_new and digest not in self.digests:
            return False
        self.rejected += [(record.name, *problem) for problem in unusable]
        if isinstance(data, tuple):
            self.rejected.append((record.name, *data))
        elif self._denylist.contains(uid):
            self.rejected.append(("", "forgotten", ""))  # the name is forgotten too
        else:
            self._add_row(record, uid, data, captions)
            self.digests.add(digest)
        return True

    def _add_row(self, record: SourceRecord, uid: str, data: bytes, captions: list[str]) -> None:
        """Add a usable record's row; of equal images, the first one's bytes are stored."""
        path, offset = self._pack_path, self._pack.tell()
        if isinstance(record.image, ImageRef):
            path, offset = record.image.path, record.image.offset
        elif bytes.fromhex(uid) not in self.digests:
            self._pack.write(data)
        row = {"uid": uid, "name": record.name, "path": path, "offset": offset, "size_bytes": len(data)}
        attributes = canonical(dict(record.attributes))
        self._rows.append(row | {"captions": captions, "split": record.split, "attributes": attributes})
        if len(self._rows) == _ROWS_PER_CHUNK:
            self._flush()

    def _flush(self) -> None:
        """Move the rows in memory to the file of chunks."""
        import pyarrow as pa

        self._chunks.write_table(pa.Table.from_pylist(self._rows, schema=_row_schema()))
        self._rows = []

    def samples(self) -> Iterator[dict[str, Any]]:
        """Yield one row per image, sorted by uid, with the captions of all records that have its bytes."""
        import pyarrow as pa
        import pyarrow.compute as pc

        self._flush()
        self._chunks.close()
        with pa.memory_map(str(self._draft / _CHUNKS)) as file:
            table = pa.ipc.open_file(file).read_all()
            order = pc.sort_indices(table["uid"])  # stable: records of one image stay in the source's order
            starts = range(0, len(order), _ROWS_PER_CHUNK)
            rows = (row for start in starts for row in table.take(order.slice(start, _ROWS_PER_CHUNK)).to_pylist())
            for _, group in groupby(rows, itemgetter("uid")):
                row, rejected = _united(list(group))
                self.rejected += rejected
                yield row
        (self._draft / _CHUNKS).unlink()


def _united(rows: list[dict[str, Any]]) -> tuple[dict[str, Any], list[tuple[str, str, str]]]:
    """Return one row with the captions of all rows of one image, and the rejections of the other rows.

    An image in several splits belongs to the first of `SPLIT_PRIORITY`; captions from other splits are not taken, those
    from records without a split are. Name and attributes are those of the first row of that split.
    """
    split = min((row["split"] for row in rows), key=SPLIT_PRIORITY.index)
    first = next(row for row in rows if row["split"] == split)
    captions: list[str] = []
    rejected = []
    for row in rows:
        number = len(row["captions"])
        if row["split"] not in (None, split):
            detail = f"same image as {first['name']}, which is in split {split}: {number} caption(s) lost"
            rejected.append((row["name"], "split_conflict", detail))
            continue
        known = set(captions)
        captions += [text for text in row["captions"] if text not in known]
        if row is not first:
            detail = f"same image as {first['name']}: its {number} caption(s) are kept there"
            rejected.append((row["name"], "duplicate_image", detail))
    location = {name: rows[0][name] for name in ("path", "offset", "size_bytes")}
    return {**first, **location, "captions": captions}, rejected


def _usable_captions(captions: tuple[object, ...]) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the captions with text in them, without superfluous spaces, and reason and detail of the others."""
    usable, problems = [], []
    for position, caption in enumerate(captions, 1):
        text = " ".join(caption.split()) if isinstance(caption, str) else ""
        if is_visible(text):
            usable.append(text)
            continue
        reason = "empty_caption" if caption is None or isinstance(caption, str) else "malformed_caption"
        what = "null" if caption is None else "blank" if isinstance(caption, str) else f"{caption!r:.60}, not text"
        problems.append((reason, f"caption {position} of {len(captions)} is {what}"))
    return usable, problems


def is_visible(text: str) -> bool:
    """Return whether a text has a character that is seen: no space, control, zero-width or combining one."""
    return any(char not in _BLANK_LETTERS and unicodedata.category(char) not in _BLANK_CATEGORIES for char in text)


def _read_bounded(image: ImageRef) -> bytes | tuple[str, str]:
    """Return an image's bytes, or the reason and the detail of why they cannot be read."""
    try:
        size = image.size_bytes if image.size_bytes >= 0 else Path(image.path).stat().st_size - image.offset
        if size > MAX_IMAGE_BYTES:
            return "unreadable_image", f"{size} encoded bytes, at most {MAX_IMAGE_BYTES} are read"
        return image.read()
    except OSError as error:
        reason = "missing_image" if isinstance(error, FileNotFoundError) else "unreadable_image"
        return reason, error.strerror or ""


def read_source(
    source: SampleSource,
    root: Path,
    *,
    location: str,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
    denylist: Denylist | None = None,
) -> Snapshot:
    """Read a source into ``<root>/<signature>``, or open that snapshot if the unchanged source was read before.

    Args:
        source: What to read.
        root: Folder of snapshots.
        location: Where the source is on this machine; snapshots have absolute paths in them.
        limit: Read at most this many samples, in the source's order: reading ends at the first image after them.
        progress: Called with the number of records read so far.
        denylist: Samples to reject; a snapshot that has one of them is made again.

    Raises:
        InputError: the source has no usable sample at all.
    """
    signature = blake3(canonical([INTAKE_VERSION, location, source.signature(), limit])).hexdigest(length=16)
    folder, denylist = root.absolute() / signature, denylist or Denylist()
    if (folder / "about.json").is_file() and not _has_denied(folder, denylist):
        return Snapshot.load(folder)
    with draft_folder(root) as draft:
        with _SnapshotBuilder(draft, folder, denylist) as builder:
            num_records = _read_all(source.records(), builder, limit, progress)
            num_samples, content = _write_samples(draft / "samples.parquet", builder.samples())
        if not num_samples:
            raise InputError(
                f"--source {source.describe()['kind']}: no usable sample among {num_records} records"
                + _commonest_reason(builder.rejected),
                allowed="at least one image with a caption",
                fix="correct what the example shows",
            )
        rejected = sorted(builder.rejected)
        content = blake3(canonical([content, rejected])).hexdigest(length=16)
        write_atomically(draft / "rejected.json", orjson.dumps(rejected))
        about = {"num_samples": num_samples, "num_records": num_records, "content": content}
        about |= {"notes": builder.notes}
        write_atomically(draft / "about.json", orjson.dumps(about))
        if folder.exists():
            shutil.rmtree(folder)
        publish_folder(draft, folder)
    return Snapshot.load(folder)


def _commonest_reason(rejected: list[tuple[str, str, str]]) -> str:
    """Return the commonest reason of rejected records with its number and one example."""
    if not rejected:
        return ""
    (reason, number), *_ = Counter(reason for _, reason, _ in rejected).most_common(1)
    name, _, detail = next(item for item in rejected if item[1] == reason)
    return f"; most often {reason} ({number} times), for example {name or 'one sample'}" + (
        f": {detail}" if detail else ""
    )


def _has_denied(folder: Path, denylist: Denylist) -> bool:
    """Return whether a snapshot has a sample that was forgotten after it was made."""
    import pyarrow.parquet as pq

    if not denylist.hashes:
        return False
    uids = pq.read_table(folder / "samples.parquet", columns=["uid"])["uid"].to_pylist()
    return any(denylist.contains(uid) for uid in uids)


def _read_all(
    records: Iterator[SourceRecord | Rejected | Note],
    builder: _SnapshotBuilder,
    limit: int | None,
    progress: Callable[[int], None] | None,
) -> int:
    """Read records up to the limit; return how many were read."""
    num_records = 0
    for record in records:
        full = limit is not None and len(builder.digests) >= limit
        if isinstance(record, Note):
            builder.notes.append(record.text)
            continue
        if isinstance(record, SourceRecord):
            if not builder.add(record, may_be_new=not full):
                break
        elif full:
            break
        else:
            builder.rejected.append((record.name, record.reason, record.detail))
        num_records += 1
        if progress:
            progress(num_records)
    return num_records


def _row_schema() -> pa.Schema:
    """Return the columns of ``samples.parquet``."""
    import pyarrow as pa

    return pa.schema(
        [
            ("uid", pa.string()),
            ("name", pa.string()),
            ("path", pa.string()),
            ("offset", pa.int64()),
            ("size_bytes", pa.int64()),
            ("captions", pa.list_(pa.string())),
            ("split", pa.string()),
            ("attributes", pa.large_binary()),
        ]
    )


def _write_samples(path: Path, rows: Iterator[dict[str, Any]]) -> tuple[int, str]:
    """Write ``samples.parquet`` piece by piece; return the number of samples and the hash of their content."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    num_samples, hasher = 0, blake3()
    options = {"compression": "zstd", "compression_level": 3, "write_page_checksum": True}
    with open_atomically(path) as file, pq.ParquetWriter(file, _row_schema(), **options) as writer:
        while chunk := list(islice(rows, _ROWS_PER_CHUNK)):
            writer.write_table(pa.Table.from_pylist(chunk, schema=_row_schema()))
            num_samples += len(chunk)
            for row in chunk:
                hasher.update(canonical([row["uid"], row["name"], row["captions"], row["split"]]))
                hasher.update(row["attributes"])
    return num_samples, hasher.hexdigest(length=16)
