"""Columns over a list of samples, for tests of fitted and indexed stages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from data_manifests.sample import REQUIRABLE, Sample


class ListedColumns:
    """See `Columns`."""

    def __init__(self, samples: Sequence[Sample], batch: int = 7) -> None:
        self.samples, self.batch = sorted(samples, key=lambda sample: sample.uid), batch
        self.uids, self.num_samples = [sample.uid for sample in self.samples], len(samples)

    def batches(self, *fields: str) -> Iterator[list[Sample]]:
        for start in range(0, len(self.samples), self.batch):
            samples = self.samples[start : start + self.batch]
            own = [name for name in fields if name not in REQUIRABLE]
            yield [replace(one, fields={name: one[name] for name in own}) if fields else one for one in samples]

    def vectors(self, name: str) -> Any:
        return np.stack([sample[name] for sample in self.samples])

    def vector_lists(self, name: str) -> tuple[Any, Any]:
        rows = [np.atleast_2d(sample[name]) for sample in self.samples]
        return np.concatenate(rows), np.cumsum([0, *(len(row) for row in rows)])
