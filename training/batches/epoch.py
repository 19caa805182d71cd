"""One epoch's batches, and what a planner is that makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from data_manifests.errors import InputError
from data_manifests.seeds import draw_seed
from training.batches.index import Array, PlanIndex

Feedback = Mapping[str, Array]
"""What training reports back to a planner: one number per row of the index, by name."""


@dataclass(frozen=True)
class EpochPlan:
    """The batches of one epoch.

    Attributes:
        rows: Row numbers in index.parquet, int64 [num_batches, batch_size]. A batch is a set: rows ascend within
            it, so that reading goes forward through the shards.
        caption: Which caption of the sample is shown, int16 [num_batches, batch_size].
    """

    rows: Array
    caption: Array


class Planner(Protocol):
    """Makes an epoch's batches as a pure function of its arguments. A frozen dataclass: its fields are its config.

    One that looks at neighbours or embeddings has a property `needs`, too: the sidecar columns they are read from,
    see `training.batches.index_columns`.
    """

    name: ClassVar[str]
    source: ClassVar[str]

    def __call__(
        self, index: PlanIndex, seed: int, epoch: int, batch_size: int, feedback: Feedback | None = None
    ) -> EpochPlan:
        """Return the epoch: every sample at most once, complete batches only.

        Raises:
            InputError: fewer samples than a batch, or a column that the planner needs is missing.
        """


def count_batches(index: PlanIndex, batch_size: int) -> int:
    """Return the number of complete batches.

    Raises:
        InputError: there is none.
    """
    if len(index) < batch_size:
        raise InputError(
            f"the data set has {len(index)} samples to train on, fewer than one batch of {batch_size}",
            allowed=f"a batch_size of at most {len(index)}",
            fix=f"--set train.batch_size={max(2, len(index))}",
        )
    return len(index) // batch_size


def draw_captions(index: PlanIndex, positions: Array, seed: int, epoch: int) -> EpochPlan:
    """Return the epoch of these positions of the index, int64 [num_batches, batch_size], with a caption drawn for each.

    The draw depends on (seed, epoch, uid) alone: whatever batch a sample is in, it shows the same caption.
    """
    positions = np.sort(positions, axis=1)
    # A 64-bit hash modulo a handful of captions is uniform to within 2^-50; a generator per sample would cost 10x.
    captions = [
        draw_seed(seed, epoch, index.uids[at], "caption") % int(index.num_captions[at]) for at in positions.flat
    ]
    return EpochPlan(index.rows[positions], np.array(captions, dtype=np.int16).reshape(positions.shape))
