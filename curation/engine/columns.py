"""Columns: the samples of a data set as fitted and indexed stages read them, partition by partition from disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from curation.engine.replay import EncodedSample, WorkUnit, replay_partitions
from curation.engine.stage import Field
from data_manifests.sample import Sample

Float16s = np.ndarray[Any, np.dtype[np.float16]]
Int64s = np.ndarray[Any, np.dtype[np.int64]]

_BATCH_SIZE = 256


class StoredColumns:
    """The samples before a stage, read from the snapshot and the store; see `Columns`.

    Vectors are spooled once to a file without a name on the store's disk and mapped into memory; the system removes it
    with the process.

    Args:
        unit: The stage, what runs before it, and where the results are.
    """

    def __init__(self, unit: WorkUnit) -> None:
        self._unit = unit
        self._fields = {field.name: field for item in unit.upstream for field in item.stage.provides}
        self._vectors: dict[str, tuple[Float16s, Int64s]] = {}

    def encoded(self) -> Iterator[list[EncodedSample]]:
        """Yield the samples with the encoded fields that the stage requires, partition by partition."""
        return replay_partitions(self._unit, self._unit.stage.required_fields())

    @cached_property
    def uids(self) -> list[str]:
        """Uids, sorted."""
        return [item.uid for part in self.encoded() for item in part]

    @property
    def num_samples(self) -> int:
        """Number of samples."""
        return len(self.uids)

    def batches(self) -> Iterator[list[Sample]]:
        """Yield the samples in batches, with the fields that the stage requires."""
        for part in self.encoded():
            for start in range(0, len(part), _BATCH_SIZE):
                yield [item.sample for item in part[start : start + _BATCH_SIZE]]

    def vectors(self, name: str) -> Float16s:
        """Return a field of one vector a sample, memory-mapped [num_samples, dims]."""
        return self._spooled(name)[0]

    def vector_lists(self, name: str) -> tuple[Float16s, Int64s]:
        """Return all vectors of a field [num_vectors, dims], memory-mapped, and where each sample's begin [num_samples + 1]."""
        return self._spooled(name)

    def _spooled(self, name: str) -> tuple[Float16s, Int64s]:
        if name not in self._vectors:
            self._vectors[name] = self._spool(self._fields[name])
        return self._vectors[name]

    def _spool(self, field: Field) -> tuple[Float16s, Int64s]:
        starts, width = [0], 1
        with tempfile.TemporaryFile(dir=self._unit.store) as file:
            for part in self.encoded():
                for item in part:
                    rows = np.atleast_2d(field.decode(item.encoded[field.name]))
                    file.write(rows.tobytes())
                    starts.append(starts[-1] + (len(rows) if rows.size else 0))
                    width = max(width, rows.shape[1])
            file.flush()
            # a mapped file lives on after it is closed; an empty one cannot be mapped
            shape = (starts[-1], width)
            mapped = np.memmap(file, np.float16, "r", shape=shape) if starts[-1] else np.zeros(shape, np.float16)
        return mapped, np.array(starts, np.int64)
