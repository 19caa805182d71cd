"""Columns: the samples of a data set as fitted and indexed stages read them, partition by partition from disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import Any

import numpy as np

from curation.engine.replay import EncodedSample, WorkUnit, replay_partitions
from curation.engine.stage import Field
from curation.engine.store import input_id_of
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
    def input_ids(self) -> list[tuple[bytes, str]]:
        """Input id and uid of each sample, in uid order."""
        names = self._unit.stage.required_fields()
        return [(input_id_of(names, item.encoded), item.uid) for part in self.encoded() for item in part]

    @cached_property
    def uids(self) -> list[str]:
        """Uids, sorted."""
        return [uid for _, uid in self.input_ids]

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
            required = self._unit.stage.required_fields()
            self._spool([self._fields[other] for other in required if self._is_array(other)])
        return self._vectors[name]

    def _is_array(self, name: str) -> bool:
        return name in self._fields and self._fields[name].kind == "array"

    def _spool(self, fields: Sequence[Field]) -> None:
        """Write the vectors of some fields to files, in one pass over the samples, and map them."""
        starts = {field.name: [0] for field in fields}
        widths = dict.fromkeys(starts, 1)
        with ExitStack() as stack:
            files = {name: stack.enter_context(tempfile.TemporaryFile(dir=self._unit.store)) for name in starts}
            for item in (item for part in self.encoded() for item in part):
                for field in fields:
                    name, rows = field.name, np.atleast_2d(field.decode(item.encoded[field.name]))
                    files[name].write(rows.tobytes())
                    starts[name].append(starts[name][-1] + (len(rows) if rows.size else 0))
                    widths[name] = max(widths[name], rows.shape[1])
            for name, file in files.items():
                file.flush()
                shape = (starts[name][-1], widths[name])
                # a mapped file lives on after it is closed; an empty one cannot be mapped
                mapped = np.memmap(file, np.float16, "r", shape=shape) if shape[0] else np.zeros(shape, np.float16)
                self._vectors[name] = mapped, np.array(starts[name], np.int64)
