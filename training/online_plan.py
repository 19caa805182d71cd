"""The order of a run: planned before it starts, replayed from a file, or made epoch by epoch with the current model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_manifests.errors import InputError
from training.batches.epoch import Planner, load_index
from training.batches.index import IndexColumn, PlanIndex
from training.batches.loader import PlannedBatches
from training.batches.plan import BatchPlan, join_plans, make_plan, plan_epoch

if TYPE_CHECKING:
    from data_manifests.manifest import DatasetVersion
    from training.config import TrainConfig
    from training.distributed import Ranks
    from training.precompute import FrozenPrefixes

EMBED_ROWS = 64
"""Images per forward pass: always so many and always the same, so that no vector depends on the number of ranks."""


def is_online(planner: Planner) -> bool:
    """Return whether a planner, or one inside it, needs embeddings of the current model at each epoch."""
    inner = getattr(planner, "inner", None)
    return bool(getattr(planner, "online", False)) or (inner is not None and is_online(inner))


def plan_ahead(
    dataset: DatasetVersion, planner: Planner, config: TrainConfig, replay: Path | None, ranks: Ranks
) -> tuple[PlanIndex, BatchPlan | None]:
    """Return the planner's index, and the plan of the whole run unless the planner is online (None).

    Raises:
        InputError: the version lacks what the planner needs, the saved plan does not fit, or ranks differ.
    """
    if replay is not None:
        index, plan = PlanIndex.from_table(dataset.index(), config.split), replayed_plan(replay, dataset, config)
    else:
        index = load_index(dataset, config.split, planner)
        if is_online(planner):
            return index, None
        plan = make_plan(planner, index, config.seed, config.steps, config.batch_size)
    ranks.check_equal("plan", plan.fingerprint)
    return index, plan


def replayed_plan(path: Path, dataset: DatasetVersion, config: TrainConfig) -> BatchPlan:
    """Return the order that another run saved, cut at this run's steps.

    Raises:
        InputError: not a plan, of another batch size, too short, or it shows samples that may not be trained on.
    """
    plan = BatchPlan.load(path)
    steps, batch = plan.rows.shape
    if batch != config.batch_size:
        raise InputError(
            f"{path}: batches of {batch}, train.batch_size is {config.batch_size}",
            allowed="the batch size of the plan",
            fix=f"--set train.batch_size={batch}",
        )
    if steps < config.steps:
        raise InputError(f"{path}: {steps} steps, train.steps is {config.steps}", fix=f"--steps {steps}, or less")
    index = PlanIndex.from_table(dataset.index(), config.split)
    uid_of = dict(zip(index.rows.tolist(), index.uids, strict=True))
    for row, uid in zip(plan.rows.ravel().tolist(), plan.uids, strict=True):
        if uid_of.get(row) != uid:
            raise InputError(
                f"{path}: the plan has sample {uid} at row {row}, which in {dataset.ref} is "
                f"{uid_of.get(row, f'not of the split {config.split}')}",
                allowed="a plan of this version and split",
                fix="train on the version that the plan's run.json names, or without --replay",
            )
    return plan.first_steps(config.steps)


@dataclass(frozen=True)
class GrowingPlan:
    """The order of a run whose planner uses the current model, one epoch longer at a time.

    Attributes:
        planner: Makes each epoch.
        index: What it reads, without embeddings.
        config: Seed, steps and batch size.
        path: plan.parquet, rewritten atomically with each epoch.
        ranks: Who trains together; rank 0 writes.
    """

    planner: Planner
    index: PlanIndex
    config: TrainConfig
    path: Path
    ranks: Ranks

    def plans(self, done: int, embed: Callable[[], IndexColumn]) -> Iterator[BatchPlan]:
        """Yield the plan so far, each time one epoch longer; take the next one when all its steps are done.

        A saved plan is replayed, not made again: a resumed run sees the batches that it would have seen.

        Args:
            done: Steps that are done already.
            embed: Returns the current model's embeddings of the index [n, d].

        Raises:
            InputError: the saved plan is damaged or of another run, or an epoch cannot be planned.
        """
        config, plan = self.config, BatchPlan.load(self.path) if self.path.is_file() else None
        if plan is not None and plan.rows.shape[1] != config.batch_size:
            raise InputError(f"{self.path}: batches of {plan.rows.shape[1]}", fix="start a new run folder")
        if (0 if plan is None else plan.num_steps) < done:
            raise InputError(f"{self.path}: shorter than the {done} steps that are done", fix="start a new run folder")
        if plan is not None and done < plan.num_steps:
            yield plan
        while plan is None or plan.num_steps < config.steps:
            number, planned = (0, 0) if plan is None else (int(plan.epoch[-1]) + 1, plan.num_steps)
            index = replace(self.index, embeddings=embed())
            epoch = plan_epoch(self.planner, index, config.seed, number, config.batch_size, planned, config.steps)
            plan = join_plans([plan, epoch] if plan else [epoch]).first_steps(config.steps)
            self.ranks.check_equal("plan", plan.fingerprint)
            self.ranks.on_rank_zero(lambda plan=plan: plan.save(self.path))  # type: ignore[misc]
            yield plan


def embed_images(
    dataset: DatasetVersion, index: PlanIndex, prefixes: FrozenPrefixes, config: TrainConfig, ranks: Ranks
) -> IndexColumn:
    """Return unit-norm embeddings of an index's images by the current model, float32 [n, d]; ranks share the work.

    Args:
        dataset: Whose shards are read.
        index: Whose images.
        prefixes: Its model is put in eval mode; a frozen image prefix computes ahead.
        config: Limits of images.
        ranks: Each embeds its share, all get all.
    """
    import torch

    from training.model.clip_model import StepEncoder

    prefixes.model.eval()
    size = len(index)
    # rectangular, with equally many chunks for each rank: what is missing at the end begins again from the front
    chunks = -(-size // (EMBED_ROWS * ranks.size)) * ranks.size
    order = np.resize(np.arange(size), chunks * EMBED_ROWS).reshape(-1, EMBED_ROWS)[ranks.rank :: ranks.size]
    rows, uids = index.rows[order], tuple(index.uids[position] for position in order.ravel().tolist())
    plan = BatchPlan(rows, np.zeros(rows.shape, dtype=np.int16), np.zeros(len(rows), dtype=np.int32), uids)
    encoder = StepEncoder(prefixes.model)
    with closing(PlannedBatches(dataset, plan, prefixes.model, config)) as batches, torch.no_grad():
        prefixes.precompute(batches, ("image",))
        parts = [encoder.encode_image(batch.image, cached=batch.image_cached).float() for batch in batches]
    # chunk k of rank r is chunk k * size + r of all
    every = ranks.gather(torch.stack(parts)[None]).transpose(0, 1).flatten(0, 2)
    embeddings: IndexColumn = every[:size].cpu().numpy()
    return embeddings
