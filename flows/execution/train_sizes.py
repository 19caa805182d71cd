"""How many steps and how large a batch a training of one's own takes, where that depends on the number of samples."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

from training.batches.epoch import count_batches
from training.batches.index import PlanIndex

if TYPE_CHECKING:
    from data_manifests.manifest import DatasetVersion
    from training.config import TrainConfig

_BATCHES = 2
"""Batches that an epoch of a small data set has at least, so that its samples meet others in each epoch."""


def fit_sizes(
    dataset: DatasetVersion, config: TrainConfig, *, fit_batch: bool, epochs: int | None
) -> tuple[TrainConfig, list[str]]:
    """Return the numbers with a batch that a small data set fills, and the steps of so many epochs; with what to say of it.

    Args:
        dataset: The training data.
        config: The numbers of recipe and settings.
        fit_batch: Take the largest power of two that an epoch of a smaller data set has twice, divided evenly among ranks; where not,
            a batch larger than the data set is an error.
        epochs: Steps are those of so many times all samples; None keeps them.

    Raises:
        InputError: the data set has less than one batch.
    """
    if not fit_batch and epochs is None:
        return config, []
    index, notes = PlanIndex.from_table(dataset.index(), config.split), []
    if fit_batch and len(index) < config.batch_size:
        ranks = int(os.environ.get("WORLD_SIZE", "1"))
        size = 1 << max(1, (len(index) // _BATCHES).bit_length() - 1)
        size = max(2, size // ranks * ranks)
        notes.append(
            f"{len(index)} samples to train on, fewer than one batch of {config.batch_size}: "
            f"batches of {size}; --batch-size N sets another"
        )
        config = dataclasses.replace(config, batch_size=size)
    if epochs is not None:
        batches = count_batches(index, config.batch_size)
        config = dataclasses.replace(config, steps=epochs * batches)
        notes.append(f"{epochs} epochs of {batches} batches of {config.batch_size}: {config.steps} steps")
    return config, notes
