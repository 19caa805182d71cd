"""Intake: reads a source once into a snapshot of samples sorted by uid, and records everything it rejects."""

from __future__ import annotations

import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from blake3 import blake3

from curation.engine.denylist import Denylist
from curation.engine.store import Partition, write_parquet
from curation.sources import Rejected, SampleSource, SourceRecord
from data_manifests.atomic_files import draft_folder, publish_folder, write_atomically
from data_manifests.errors import InputError
from data_manifests.sample import ImageRef, Sample, image_uid
from data_manifests.seeds import canonical

INTAKE_VERSION = 1
"""Increased when the same source gives another snapshot."""

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
    """

    folder: Path
    num_samples: int
    num_records: int
    content: str
    rejected: tuple[tuple[str, str, str], ...]

    @classmethod
    def load(cls, folder: Path) -> Snapshot:
        """Open a finished snapshot."""
        about = orjson.loads((folder / "about.json").read_bytes())
        rejected = tuple(tuple(row) for row in orjson.loads((folder / "rejected.json").read_bytes()))
        return cls(folder, about["num_samples"], about["num_records"], about["content"], rejected)

    def samples(self, partition: Partition | None = None) -> list[Sample]:
        """Return the samples of a partition (by default all), sorted by uid."""
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        low, end = partition.bounds() if partition else ("", "g")
        filters = (pc.field("uid") >= low) & (pc.field("uid") < end) if partition else None
        table = pq.read_table(self.folder / "samples.parquet", filters=filters)
        return [_sample(row) for row in table.to_pylist()]


def _sample(row: dict[str, Any]) -> Sample:
    return Sample(
        uid=row["uid"],
        name=row["name"],
        image=ImageRef(row["path"], row["offset"], row["size_bytes"]),
        captions=tuple(row["captions"]),
        split=row["split"],
        attributes=orjson.loads(row["attributes"]),
    )


@dataclass
class _SnapshotBuilder:
    """Samples and rejected records read so far.

    Attributes:
        pack: Receives the images that are not in a file.
        pack_path: Path of that file in the finished snapshot.
        denylist: Samples that are rejected.
        names: Uid of each sample -> its record's name.
    """

    pack: BinaryIO
    pack_path: Path
    denylist: Denylist
    names: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, record: SourceRecord) -> None:
        """Add a record, or reject it with a reason."""
        texts = [" ".join(text.split()) for text in record.captions]
        self.rejected += [
            (record.name, "empty_caption", f"caption {position} of {len(texts)} is blank")
            for position, text in enumerate(texts)
            if not is_visible(text)
        ]
        captions = [text for text in texts if is_visible(text)]
        if not captions:
            self.rejected.append((record.name, "no_captions", "no caption with text in it"))
            return
        try:
            data = record.image if isinstance(record.image, bytes) else _read_bounded(record.image)
        except (OSError, ValueError) as error:
            reason = "missing_image" if isinstance(error, FileNotFoundError) else "unreadable_image"
            detail = error.strerror or "" if isinstance(error, OSError) else str(error)
            self.rejected.append((record.name, reason, detail))
            return
        uid = image_uid(data)
        if self.denylist.contains(uid):
            self.rejected.append(("", "forgotten", ""))  # the name is forgotten too
            return
        if uid in self.names:
            self.rejected.append((record.name, "duplicate_image", f"same bytes as {self.names[uid]}"))
            return
        self.names[uid] = record.name
        path, offset = str(self.pack_path), self.pack.tell()
        if isinstance(record.image, bytes):
            self.pack.write(data)
        else:
            path, offset = record.image.path, record.image.offset
        self.rows.append(
            {
                "uid": uid,
                "name": record.name,
                "path": path,
                "offset": offset,
                "size_bytes": len(data),
                "captions": captions,
                "split": record.split,
                "attributes": canonical(dict(record.attributes)),
            }
        )


def is_visible(text: str) -> bool:
    """Return whether a text has a character that is seen: no space, control, zero-width or combining one."""
    return any(char not in _BLANK_LETTERS and unicodedata.category(char) not in _BLANK_CATEGORIES for char in text)


def _read_bounded(image: ImageRef) -> bytes:
    size = image.size_bytes if image.size_bytes >= 0 else Path(image.path).stat().st_size - image.offset
    if size > MAX_IMAGE_BYTES:
        raise ValueError(f"{size} encoded bytes, at most {MAX_IMAGE_BYTES} are read")
    return image.read()


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
        limit: Read at most this many samples, in the source's order.
        progress: Called with the number of records read so far.
        denylist: Samples to reject; a snapshot that has one of them is made again.

    Raises:
        InputError: the source has no usable sample at all.
    """
    signature = blake3(canonical([INTAKE_VERSION, location, source.signature(), limit])).hexdigest(length=16)
    folder, denylist = root / signature, denylist or Denylist()
    if (folder / "about.json").is_file() and not _has_denied(folder, denylist):
        return Snapshot.load(folder)
    with draft_folder(root) as draft:
        with open(draft / "images.pack", "wb") as pack:
            builder = _SnapshotBuilder(pack, folder / "images.pack", denylist)
            num_records = _read_all(source.records(), builder, limit, progress)
        if not builder.rows:
            raise InputError(
                f"--source {source.describe()['kind']}: no usable sample among {num_records} records"
                + _commonest_reason(builder.rejected),
                allowed="at least one image with a caption",
                fix="correct what the example shows",
            )
        _write_snapshot(draft, builder, num_records)
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
    records: Iterator[SourceRecord | Rejected],
    builder: _SnapshotBuilder,
    limit: int | None,
    progress: Callable[[int], None] | None,
) -> int:
    """Read records up to the limit; return how many were read."""
    num_records = 0
    for num_records, record in enumerate(records, start=1):
        if isinstance(record, Rejected):
            builder.rejected.append((record.name, record.reason, record.detail))
        else:
            builder.add(record)
        if progress:
            progress(num_records)
        if limit is not None and len(builder.rows) >= limit:
            break
    return num_records


def _write_snapshot(folder: Path, builder: _SnapshotBuilder, num_records: int) -> None:
    import pyarrow as pa

    rows = sorted(builder.rows, key=lambda row: row["uid"])
    schema = pa.schema(
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
    write_parquet(folder / "samples.parquet", pa.Table.from_pylist(rows, schema=schema), row_group_size=4096)
    hasher = blake3()
    for row in rows:
        hasher.update(canonical([row["uid"], row["name"], row["captions"], row["split"]]))
        hasher.update(row["attributes"])
    rejected = sorted(builder.rejected)
    hasher.update(canonical(rejected))
    write_atomically(folder / "rejected.json", orjson.dumps(rejected))
    about = {"num_samples": len(rows), "num_records": num_records, "content": hasher.hexdigest(length=16)}
    write_atomically(folder / "about.json", orjson.dumps(about))
