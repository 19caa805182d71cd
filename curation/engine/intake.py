"""Intake: read a source once into a snapshot of samples sorted by uid, with everything refused on record."""

from __future__ import annotations

import shutil
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
"""Raised when what a snapshot holds for the same source changes."""

MAX_IMAGE_BYTES = 256 * 2**20
"""Encoded bytes of one image; more is refused before it is read."""

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Snapshot:
    """A source as it was read: samples sorted by uid.

    Attributes:
        folder: Holds ``samples.parquet``, ``rejected.json``, ``about.json`` and, for sources without
            files, ``images.pack``.
        num_samples: Samples taken in.
        content: Hash over all samples' content; equal content builds equal versions.
        rejected: What was refused, as (name, reason, detail).
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
        """Return the samples of a partition (all without one), sorted by uid."""
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
class _Intake:
    """The state of one reading."""

    pack: BinaryIO
    pack_path: Path
    forgotten: Denylist
    seen: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[tuple[str, str, str]] = field(default_factory=list)

    def refuse(self, name: str, reason: str, detail: str = "") -> None:
        self.rejected.append((name, reason, detail))

    def take(self, record: SourceRecord) -> bool:
        """Take a record in, or refuse it by name; return whether it was taken."""
        captions = tuple(" ".join(text.split()) for text in record.captions)
        for position, text in enumerate(captions):
            if not text:
                self.refuse(record.name, "empty_caption", f"caption {position} of {len(captions)} is blank")
        captions = tuple(text for text in captions if text)
        if not captions:
            self.refuse(record.name, "no_captions", "no caption with text in it")
            return False
        try:
            data = record.image if isinstance(record.image, bytes) else _read_bounded(record.image)
        except (OSError, ValueError) as error:
            reason = "missing_image" if isinstance(error, FileNotFoundError) else "unreadable_image"
            self.refuse(record.name, reason, error.strerror or "" if isinstance(error, OSError) else str(error))
            return False
        uid = image_uid(data)
        if self.forgotten.contains(uid):
            self.refuse("", "forgotten")  # not even by name
            return False
        if uid in self.seen:
            self.refuse(record.name, "duplicate_image", f"same bytes as {self.seen[uid]}")
            return False
        self.seen[uid] = record.name
        ref = self._spill(data) if isinstance(record.image, bytes) else record.image
        self.rows.append(
            {
                "uid": uid,
                "name": record.name,
                "path": ref.path,
                "offset": ref.offset,
                "size_bytes": len(data),
                "captions": list(captions),
                "split": record.split,
                "attributes": canonical(dict(record.attributes)),
            }
        )
        return True

    def _spill(self, data: bytes) -> ImageRef:
        """Keep image bytes that no file holds."""
        offset = self.pack.tell()
        self.pack.write(data)
        return ImageRef(str(self.pack_path), offset, len(data))


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
    progress: Progress | None = None,
    forgotten: Denylist | None = None,
) -> Snapshot:
    """Read a source into ``<root>/<signature>``, or open it if the unchanged source was read before.

    Args:
        source: What to read.
        root: Folder of snapshots.
        location: Where the source lies on this machine; snapshots hold absolute paths.
        limit: At most so many samples, in the source's order.
        progress: Called with the number of records read so far.
        forgotten: What must not be taken in; a snapshot that holds any of it is made anew.

    Raises:
        InputError: the source has no usable sample at all.
    """
    signature = blake3(canonical([INTAKE_VERSION, location, source.signature(), limit])).hexdigest(length=16)
    folder, refused = root / signature, forgotten or Denylist()
    if (folder / "about.json").is_file() and not _holds_any(folder, refused):
        return Snapshot.load(folder)
    with draft_folder(root) as draft:
        with open(draft / "images.pack", "wb") as pack:
            intake = _Intake(pack, folder / "images.pack", refused)
            num_records = _read_all(source.records(), intake, limit, progress)
        if not intake.rows:
            raise InputError(
                f"--source {source.describe()['kind']}: no usable sample among {num_records} records{_tell(intake.rejected)}",
                allowed="at least one image with a caption",
            )
        _write_snapshot(draft, intake, num_records)
        if folder.exists():
            shutil.rmtree(folder)
        publish_folder(draft, folder)
    return Snapshot.load(folder)


def _holds_any(folder: Path, forgotten: Denylist) -> bool:
    """Whether a snapshot from before a forget holds what was forgotten."""
    import pyarrow.parquet as pq

    if not forgotten.marks:
        return False
    uids = pq.read_table(folder / "samples.parquet", columns=["uid"])["uid"].to_pylist()
    return any(forgotten.contains(uid) for uid in uids)


def _read_all(
    records: Iterator[SourceRecord | Rejected], intake: _Intake, limit: int | None, progress: Progress | None
) -> int:
    taken = num_records = 0
    for num_records, record in enumerate(records, start=1):
        if isinstance(record, Rejected):
            intake.refuse(record.name, record.reason, record.detail)
        else:
            taken += intake.take(record)
        if progress:
            progress(num_records)
        if limit is not None and taken >= limit:
            break
    return num_records


def _tell(rejected: list[tuple[str, str, str]]) -> str:
    first = [f"{name}: {reason}" + (f" ({detail})" if detail else "") for name, reason, detail in rejected[:3]]
    return "; " + "; ".join(first) if first else ""


def _write_snapshot(folder: Path, intake: _Intake, num_records: int) -> None:
    import pyarrow as pa

    rows = sorted(intake.rows, key=lambda row: row["uid"])
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
    rejected = sorted(intake.rejected)
    hasher.update(canonical(rejected))
    write_atomically(folder / "rejected.json", orjson.dumps(rejected))
    about = {"num_samples": len(rows), "num_records": num_records, "content": hasher.hexdigest(length=16)}
    write_atomically(folder / "about.json", orjson.dumps(about))
