"""Columns: the samples of a data set as fitted and indexed stages read them, partition by partition from disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from curation.engine.receipts import publish_receipts
from curation.engine.replay import Replay, WorkUnit
from curation.engine.store import Store
from data_manifests.sample import Sample

if TYPE_CHECKING:
    import pyarrow as pa

Float16s = np.ndarray[Any, np.dtype[np.float16]]
Int64s = np.ndarray[Any, np.dtype[np.int64]]

_BATCH_SIZE = 256


class StoredColumns:
    """The samples before a stage, read from the snapshot and the store; see `Columns`.

    Vectors are spooled once to a file without a name on the store's disk and mapped into memory; the system removes it
    with the process.

    Args:
        unit: The stage, and where the results are.
        samples: All samples before it.
    """

    def __init__(self, unit: WorkUnit, samples: Replay) -> None:
        self._stage, self._store, self._samples = unit.stage, Store(unit.store), samples
        self._vectors: dict[str, tuple[Float16s, Int64s]] = {}

    @cached_property
    def input_ids(self) -> list[tuple[bytes, str]]:
        """Input id and uid of each sample, in uid order."""
        folder = self._store.folder(self._stage)
        ids, receipts = self._samples.input_ids(self._stage, folder)
        publish_receipts(folder, (uid for _, uid in ids), receipts)
        return ids

    @cached_property
    def uids(self) -> list[str]:
        """Uids, sorted."""
        return self._samples.uids

    @property
    def num_samples(self) -> int:
        """Number of samples."""
        return len(self.uids)

    def batches(self, *fields: str) -> Iterator[list[Sample]]:
        """Yield the samples in batches, with some fields or all that the stage requires."""
        for block in self._samples.blocks():
            # each file is read once for a block, not for each batch; values are decoded batch by batch
            items = self._samples.unencoded(fields or self._stage.required_fields(), block)
            for start in range(0, len(items), _BATCH_SIZE):
                yield [item.sample for item in items[start : start + _BATCH_SIZE]]

    def vectors(self, name: str) -> Float16s:
        """Return a field of one vector a sample, memory-mapped [num_samples, dims]."""
        return self._spooled(name)[0]

    def vector_lists(self, name: str) -> tuple[Float16s, Int64s]:
        """Return all vectors of a field [num_vectors, dims], memory-mapped, and where each sample's begin [num_samples + 1]."""
        return self._spooled(name)

    def _spooled(self, name: str) -> tuple[Float16s, Int64s]:
        """Write the vectors of a field to a file and map it."""
        if name not in self._vectors:
            starts, width = [np.zeros(1, np.int64)], 1
            with tempfile.TemporaryFile(dir=self._store.root) as file:
                for positions in self._samples.blocks():
                    vectors, counts = _decode(self._samples.column(name, positions))
                    file.write(vectors)
                    starts.append(starts[-1][-1] + np.cumsum(counts))
                    width = max(width, len(vectors) // 2 // max(int(counts.sum()), 1))
                file.flush()
                begins = np.concatenate(starts)
                shape = (int(begins[-1]), width)
                # a mapped file lives on after it is closed; an empty one cannot be mapped
                mapped = np.memmap(file, np.float16, "r", shape=shape) if shape[0] else np.zeros(shape, np.float16)
                self._vectors[name] = mapped, begins
        return self._vectors[name]


def _decode(column: pa.LargeBinaryArray) -> tuple[bytes, Int64s]:
    """Return the vectors of encoded arrays one after another (float16), and how many each array has; see `Field.encode`."""
    first, end = column.offset, column.offset + len(column)
    offsets = np.frombuffer(column.buffers()[1], np.int64)[first : end + 1]
    data = np.frombuffer(column.buffers()[2], np.uint8)
    heads = offsets[:-1, None] + np.arange(4)
    num_rows = data[heads].copy().view("<u4")[:, 0].astype(np.int64)
    is_vector = np.ones(len(data), np.bool_)
    is_vector[heads] = False
    counts = np.where(num_rows > 0, num_rows, np.diff(offsets) > 4)
    return data[offsets[0] : offsets[-1]][is_vector[offsets[0] : offsets[-1]]].tobytes(), counts
