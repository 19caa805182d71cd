"""Intake: reads a source once into a snapshot of samples sorted by uid, and records everything it rejects."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

import orjson
from blake3 import blake3

from curation.engine.denylist import Denylist
from curation.engine.kept_reading import ROWS, kept_folder, note_part, noted_part
from curation.engine.snapshot_rows import open_rows
from curation.engine.store import ALL_SAMPLES, Partition
from curation.sources import SPLIT_PRIORITY, SampleSource, SourceSplit
from curation.sources.reading.sorted_rows import SortedRows, merged
from data_manifests.atomic_files import open_atomically, publish_folder, write_atomically
from data_manifests.errors import InputError
from data_manifests.sample import ImageRef, Sample, image_uid
from data_manifests.seeds import canonical

if TYPE_CHECKING:
    import pyarrow as pa

INTAKE_VERSION = 2
"""Increased when the same source gives another snapshot."""

ALONE_S = 1.0
"""Seconds of reading a source after which other processes are asked to help."""

_ROWS_PER_CHUNK = 4096
"""Rows of a row group of ``samples.parquet``."""

SplitMap = Callable[
    [Callable[[tuple[int, SourceSplit]], "_SplitReport"], Iterable[tuple[int, SourceSplit]]], Iterator["_SplitReport"]
]

MAX_IMAGE_BYTES = 256 * 2**20
"""Encoded bytes of an image; larger ones are rejected before they are read."""


@dataclass(frozen=True)
class Snapshot:
    """A source as it was read: samples sorted by uid.

    Attributes:
        folder: Has ``samples.parquet``, ``rejected.json``, ``about.json``, and ``images-NUMBER.pack`` for each split with
            images that are not in a file.
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

    def samples(self) -> list[Sample]:
        """Return all samples, sorted by uid."""
        return [sample for batch in self.batches(ALL_SAMPLES) for sample in _samples_in(batch)]

    def samples_of(self, uids: Sequence[str]) -> list[Sample]:
        """Return the samples with these uids, which are sorted."""
        rows = open_rows(self.folder / "samples.parquet")
        return [sample for table in rows.of(uids) for sample in _samples_in(table)]

    def part(self, folder: Path, uids: Sequence[str]) -> Snapshot:
        """Return a snapshot of some samples in a folder of its own.

        Args:
            folder: A new folder.
            uids: The samples, sorted.
        """
        import pyarrow.compute as pc
        import pyarrow.dataset as ds
        import pyarrow.parquet as pq

        folder.mkdir(parents=True)
        rows = ds.dataset(self.folder / "samples.parquet").to_table(filter=pc.field("uid").isin(list(uids)))
        pq.write_table(rows, folder / "samples.parquet")
        write_atomically(folder / "rejected.json", b"[]")
        about = {"num_samples": len(uids), "num_records": len(uids), "content": "", "notes": []}
        write_atomically(folder / "about.json", orjson.dumps(about))
        return Snapshot.load(folder)

    def num_image_bytes(self) -> int:
        """Return how many bytes all images have."""
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        sizes = pq.read_table(self.folder / "samples.parquet", columns=["size_bytes"])["size_bytes"]
        return int(pc.sum(sizes).as_py())

    def batches(self, partition: Partition) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a partition's samples, sorted by uid."""
        for table in open_rows(self.folder / "samples.parquet").between(*partition.bounds()):
            yield from table.to_batches()


def _samples_in(rows: pa.Table | pa.RecordBatch) -> Iterator[Sample]:
    """Yield the samples of some rows."""
    columns = (rows[spec.name].to_pylist() for spec in _row_schema())
    for uid, name, path, offset, size_bytes, captions, split, attributes in zip(*columns, strict=True):
        image = ImageRef(path, offset, size_bytes)
        yield Sample(uid, name, image, tuple(captions), split, orjson.loads(attributes))


class _ImageReader:
    """Reads images; the last file stays open, since the images of a tar follow each other."""

    def __init__(self) -> None:
        self._path, self._file = "", -1

    def read(self, path: str, offset: int, size: int) -> bytes | tuple[str, str]:
        """Return an image's bytes, or the reason and the detail of why they cannot be read.

        Args:
            path: Its file.
            offset: Its first byte.
            size: Its number of bytes; -1 means to the end of the file.
        """
        try:
            if path != self._path:
                self.close()
                self._file, self._path = os.open(path, os.O_RDONLY), path
            size = size if size >= 0 else os.fstat(self._file).st_size - offset
            if size > MAX_IMAGE_BYTES:
                return "unreadable_image", f"{size} encoded bytes, at most {MAX_IMAGE_BYTES} are read"
            data = os.pread(self._file, size, offset)
        except OSError as error:
            reason = "missing_image" if isinstance(error, FileNotFoundError) else "unreadable_image"
            return reason, error.strerror or ""
        return data if len(data) == size else ("unreadable_image", "")

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
        self._path, self._file = "", -1


@dataclass(frozen=True)
class _SplitJob:
    """What is the same for all splits of a source.

    Attributes:
        draft: Folder of the snapshot that is being made.
        final: Its folder once it is finished.
        denylist: Samples that are rejected.
        limit: Reading ends at the first new image after this many different ones.
    """

    draft: Path
    final: Path
    denylist: Denylist
    limit: int | None


@dataclass
class _SplitReport:
    """What reading a split found, besides the rows of its records.

    Attributes:
        num_records: Entries that were read.
        is_cut: Whether the limit ended the reading.
        rejected: Entries and captions that are not taken, as (name, reason, detail), in order.
        notes: Sentences about how the split was read.
        files: Paths of the records' rows, which `merged` reads.
    """

    num_records: int = 0
    is_cut: bool = False
    rejected: list[tuple[str, str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


class _SplitReader:
    """Reads one split: identifies the images of its records, and writes the records' rows.

    Args:
        job: What is the same for all splits.
        number: The split's place in the source.
        known: Digests (bytes of the uid) of the images that count for the limit, or whose bytes were stored.
    """

    def __init__(self, job: _SplitJob, number: int, known: set[bytes]) -> None:
        self.report = _SplitReport()
        self._job, self._number, self._known = job, number, known
        self._rows = SortedRows(("uid",), self._open_rows)
        self._images = _ImageReader()
        self._pack_name = f"images-{number:06d}.pack"
        self._pack: IO[bytes] | None = None
        self.pack: Path | None = None

    def read(self, split: SourceSplit, progress: Callable[[int], None]) -> _SplitReport:
        """Read the split; a bounded number of its rows is in memory."""
        with self._rows:
            try:
                for batch in split.batches():
                    self._take(batch)
                    progress(self.report.num_records)
                    if self.report.is_cut:
                        break
                self._rows.files()
            finally:
                self._images.close()
                if self._pack:
                    self._pack.close()
            if self._pack:
                self.pack = self._job.draft / self._pack_name
                os.replace(self._pack.name, self.pack)
        return self.report

    def _open_rows(self) -> IO[bytes]:
        """Open a file for rows."""
        # with the process: workers of a killed run may write for another second
        path = self._job.draft / ROWS / f"{self._number:06d}-{len(self.report.files):06d}-{os.getpid()}.arrow"
        self.report.files.append(path)
        return path.open("w+b")

    def _take(self, batch: pa.RecordBatch) -> None:
        """Keep the records of a batch, and what is rejected."""
        columns = ("name", "note", "problems", "path", "offset", "size_bytes")
        kept: list[int] = []
        places: list[tuple[str, str, int, int]] = []
        rows = zip(*(batch[column].to_pylist() for column in columns), strict=True)
        for row, (name, note, problems, path, offset, size) in enumerate(rows):
            if note is not None:
                self.report.notes.append(note)
                continue
            image = batch["data"][row].as_buffer() if path is None else self._images.read(path, offset, size)
            uid = "" if image is None or isinstance(image, tuple) else image_uid(image)
            if self._is_beyond_limit(uid):
                self.report.is_cut = True
                break
            self.report.num_records += 1
            if uid and self._job.denylist.contains(uid):
                self.report.rejected.append(("", "forgotten", ""))  # the name is forgotten too
                continue
            self.report.rejected += [(name, item["reason"], item["detail"]) for item in problems or ()]
            if isinstance(image, tuple):
                self.report.rejected.append((name, *image))
            elif image is not None:
                kept.append(row)
                place = self._packed(image, uid) if path is None else (path, offset)
                places.append((uid, *place, len(image)))
                if path is None or self._job.limit is not None:
                    self._known.add(bytes.fromhex(uid))
        if kept:
            self._rows.add(_row_table(batch, kept, places))

    def _is_beyond_limit(self, uid: str) -> bool:
        """Return whether the limit is reached and an image is none of those that were read (or there is no image)."""
        limit = self._job.limit
        return limit is not None and len(self._known) >= limit and bytes.fromhex(uid) not in self._known

    def _packed(self, image: pa.Buffer, uid: str) -> tuple[str, int]:
        """Return path and offset of an image that is in no file; of equal images, the first one's bytes are stored."""
        if self._pack is None:
            self._pack = (self._job.draft / ROWS / f"{os.getpid()}-{self._pack_name}").open("wb")
        offset = self._pack.tell()
        if bytes.fromhex(uid) not in self._known:
            self._pack.write(image)
        return str(self._job.final / self._pack_name), offset


def _row_table(batch: pa.RecordBatch, rows: list[int], places: list[tuple[str, str, int, int]]) -> pa.Table:
    """Return rows of ``samples.parquet``.

    Args:
        batch: A batch of a source.
        rows: The rows that are records.
        places: For each of them uid, path, offset and size of the image.
    """
    import pyarrow as pa

    schema = _row_schema()
    taken = batch.select(["name", "captions", "split", "attributes"]).take(pa.array(rows))
    columns = dict(zip(("uid", "path", "offset", "size_bytes"), zip(*places, strict=True), strict=True))
    arrays = [
        taken[item.name] if item.name not in columns else pa.array(columns[item.name], item.type) for item in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _read_split(job: _SplitJob, numbered: tuple[int, SourceSplit]) -> _SplitReport:
    """Read one split, perhaps in another process, and note that it was read."""
    number, split = numbered
    reader = _SplitReader(job, number, set())
    report = reader.read(split, lambda _: None)
    about = {"num_records": report.num_records, "rejected": report.rejected, "notes": report.notes}
    about["files"] = [path.name for path in report.files]
    note_part(job.draft, number, about, [*report.files, *([reader.pack] if reader.pack else [])])
    return report


def _read_before(job: _SplitJob, number: int) -> _SplitReport | None:
    """Return the report on a split that a run read which was killed later; None if it is to be read."""
    about = noted_part(job.draft, number)
    if about is None:
        return None
    rejected = [(name, reason, detail) for name, reason, detail in about["rejected"]]
    files = [job.draft / ROWS / name for name in about["files"]]
    return _SplitReport(about["num_records"], False, rejected, about["notes"], files)


def _read_splits(
    splits: Sequence[SourceSplit], job: _SplitJob, processes: SplitMap, progress: Callable[[int], None]
) -> Iterator[_SplitReport]:
    """Yield the reports on a source's splits, in order.

    The first ones are read in this process: starting others would take longer than reading a small source. With a limit,
    all are. Those that a killed run has read are not read again.
    """

    def counted(before: int) -> Callable[[int], None]:
        return lambda number: progress(before + number)

    known: set[bytes] = set()
    num_records, started = 0, time.monotonic()
    before = {number: report for number in range(len(splits)) if (report := _read_before(job, number)) is not None}
    for number, split in enumerate(splits):
        if job.limit is None and time.monotonic() - started > ALONE_S and len(splits) - number > 1:
            lacking = [item for item in enumerate(splits[number:], number) if item[0] not in before]
            rest = iter(processes(partial(_read_split, job), lacking))
            for place in range(number, len(splits)):
                report = before[place] if place in before else next(rest)
                num_records += report.num_records
                progress(num_records)
                yield report
            return
        if number in before:
            report = before[number]
        else:
            reader = _SplitReader(job, number, known if job.limit is not None else set())
            report = reader.read(split, counted(num_records))
        num_records += report.num_records
        yield report
        if report.is_cut:
            return


def _united(table: pa.Table) -> tuple[pa.Table, list[tuple[str, str, str]]]:
    """Return one row per image, with the captions of all its rows, and the rejections of the other rows.

    Args:
        table: Rows sorted by uid, those of an image in the source's order.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    uids = table["uid"]
    is_first = np.ones(len(uids), bool)
    is_first[1:] = pc.not_equal(uids[1:], uids[:-1])
    if is_first.all():
        return table, []
    starts = np.flatnonzero(is_first)
    is_alone = np.diff(starts, append=len(uids)) == 1
    pieces, rejected = [table.take(starts[is_alone])], []
    groups = table.filter(~np.repeat(is_alone, np.diff(starts, append=len(uids)))).to_pylist()
    for _, group in groupby(groups, itemgetter("uid")):
        row, problems = _united_row(list(group))
        rejected += problems
        pieces.append(pa.Table.from_pylist([row], schema=table.schema))
    return pa.concat_tables(pieces).sort_by("uid"), rejected


def _united_row(rows: list[dict[str, Any]]) -> tuple[dict[str, Any], list[tuple[str, str, str]]]:
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


def read_source(
    source: SampleSource,
    root: Path,
    *,
    location: str,
    limit: int | None = None,
    progress: Callable[[int], None] = lambda _number: None,
    denylist: Denylist | None = None,
    processes: SplitMap = map,
) -> Snapshot:
    """Read a source into ``<root>/<signature>``, or open that snapshot if the unchanged source was read before.

    Args:
        source: What to read.
        root: Folder of snapshots.
        location: Where the source is on this machine; snapshots have absolute paths in them.
        limit: Read at most this many samples, in the source's order: reading ends at the first image after them.
        progress: Called with the number of records read so far.
        denylist: Samples to reject; a snapshot that has one of them is made again.
        processes: Calls a function of this module for each of many splits, as `map` does; it may do so in other processes.
            The snapshot has the same bytes.

    Raises:
        InputError: the source has no usable sample at all.
    """
    signature = blake3(canonical([INTAKE_VERSION, location, source.signature(), limit])).hexdigest(length=16)
    folder, denylist = root.absolute() / signature, denylist or Denylist()
    if is_usable(folder, denylist):
        return Snapshot.load(folder)
    # with what was read, so that nothing forgotten since is taken from what a killed run left
    content = blake3(canonical([signature, sorted(denylist.hashes)])).hexdigest(length=8)
    with kept_folder(root.absolute(), blake3(location.encode()).hexdigest(length=8), content) as draft:
        job = _SplitJob(draft, folder, denylist, limit)
        reports = list(_read_splits(source.splits(), job, processes, progress))
        num_records = sum(report.num_records for report in reports)
        rejected = [problem for report in reports for problem in report.rejected]
        num_samples, content = _write_samples(draft, [path for report in reports for path in report.files], rejected)
        if not num_samples:
            raise InputError(
                f"--source {source.describe()['kind']}: no usable sample among {num_records} records"
                + _commonest_reason(rejected),
                allowed="at least one image with a caption",
                fix="correct what the example shows" if rejected else "check the path: there is nothing in it",
            )
        rejected.sort()
        content = blake3(canonical([content, rejected])).hexdigest(length=16)
        write_atomically(draft / "rejected.json", orjson.dumps(rejected))
        about = {"num_samples": num_samples, "num_records": num_records, "content": content}
        about |= {"notes": [note for report in reports for note in report.notes]}
        write_atomically(draft / "about.json", orjson.dumps(about))
        publish_snapshot(draft, folder, denylist)
    return Snapshot.load(folder)


def publish_snapshot(draft: Path, folder: Path, denylist: Denylist) -> None:
    """Put a finished snapshot in its place, unless another run has put the same one there meanwhile and may be reading it."""
    if folder.exists() and not is_usable(folder, denylist):
        shutil.rmtree(folder)
    if not folder.exists():
        try:
            publish_folder(draft, folder)
        except OSError:
            if not is_usable(folder, denylist):
                raise


def is_usable(folder: Path, denylist: Denylist) -> bool:
    """Return whether a folder holds a finished snapshot without a sample that was forgotten after it was made."""
    return (folder / "about.json").is_file() and not _has_denied(folder, denylist)


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


def _write_samples(draft: Path, files: list[Path], rejected: list[tuple[str, str, str]]) -> tuple[int, str]:
    """Write ``samples.parquet`` piece by piece; return the number of samples and the hash of their content.

    Args:
        draft: Folder of the snapshot.
        files: The rows of all records, in the source's order; they are removed.
        rejected: Receives the rejections of equal images.
    """
    found = write_rows(draft / "samples.parquet", _samples(draft, files, rejected))
    shutil.rmtree(draft / ROWS)
    return found


def write_rows(path: Path, tables: Iterator[pa.Table]) -> tuple[int, str]:
    """Write samples, sorted by uid, piece by piece; return their number and the hash of their content."""
    import pyarrow.parquet as pq

    num_samples, hasher = 0, blake3()
    options = {"compression": "zstd", "compression_level": 3, "write_page_checksum": True}
    with open_atomically(path) as file, pq.ParquetWriter(file, _row_schema(), **options) as writer:
        for chunk in _chunks(tables):
            writer.write_table(chunk)
            num_samples += len(chunk)
            columns = (chunk[name].to_pylist() for name in ("uid", "name", "captions", "split", "attributes"))
            for uid, name, captions, split, attributes in zip(*columns, strict=True):
                hasher.update(canonical([uid, name, captions, split]))
                hasher.update(attributes)
    return num_samples, hasher.hexdigest(length=16)


def _samples(draft: Path, files: list[Path], rejected: list[tuple[str, str, str]]) -> Iterator[pa.Table]:
    """Yield one row per image, sorted by uid."""
    opened = (path.open("rb") for path in files)

    def open_file() -> IO[bytes]:
        return TemporaryFile(dir=draft)

    for table in merged(opened, ("uid",), open_file):
        samples, problems = _united(table)
        rejected += problems
        yield samples


def _chunks(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Yield the rows of tables in tables of `_ROWS_PER_CHUNK` rows, and the rest."""
    import pyarrow as pa

    rest = _row_schema().empty_table()
    for table in tables:
        rest = pa.concat_tables([rest, table])
        while len(rest) >= _ROWS_PER_CHUNK:
            yield rest.slice(0, _ROWS_PER_CHUNK).combine_chunks()
            rest = rest.slice(_ROWS_PER_CHUNK)
    if len(rest):
        yield rest.combine_chunks()
