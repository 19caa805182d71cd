"""Batches of samples of similar difficulty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from data_manifests.seeds import generator
from training.batches.epoch import EpochPlan, count_batches, draw_captions
from training.batches.index import PlanIndex


@dataclass(frozen=True)
class SortedPlan:
    """Batches of samples that are next to each other by difficulty, in shuffled order.

    Source: this example.
    """

    name: ClassVar[str] = "sorted"
    source: ClassVar[str] = "this example"

    def __call__(self, index: PlanIndex, seed: int, epoch: int, batch_size: int) -> EpochPlan:
        """Return the epoch's batches: row numbers [num_batches, batch_size], and which caption of each."""
        num_batches = count_batches(index, batch_size)
        order = np.argsort(index.difficulty, kind="stable")[: num_batches * batch_size]
        batches = order.reshape(num_batches, batch_size)
        batches = batches[generator(seed, self.name, epoch, "order").permutation(num_batches)]
        return draw_captions(index, batches, seed, epoch)
