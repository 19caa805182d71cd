"""The order of training is data: planners compute it, a run saves it, and a resumed run replays it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from blake3 import blake3

from data_manifests.atomic_files import write_table_atomically
from data_manifests.errors import InputError
from training.batches.epoch import Planner, RunPlanner
from training.batches.index import IndexColumn, PlanIndex
from training.batches.separate_duplicates import separate_duplicates


@dataclass(frozen=True)
class BatchPlan:
    """All batches of a run, epoch after epoch, cut at the run's number of steps.

    Attributes:
        rows: int64 [num_steps, batch_size], row numbers in index.parquet.
        caption: int16 [num_steps, batch_size].
        epoch: int32 [num_steps].
        uids: The samples meant by the rows, in the order of `rows`' flattening; binds the plan to its data.
    """

    rows: IndexColumn
    caption: IndexColumn
    epoch: IndexColumn
    uids: tuple[str, ...]

    @property
    def num_steps(self) -> int:
        """Optimiser steps."""
        return int(self.rows.shape[0])

    @property
    def fingerprint(self) -> str:
        """BLAKE3 (128 bits, hex) of everything the plan says."""
        digest = blake3(np.asarray(self.rows.shape, dtype="<i8").tobytes())
        for array, dtype in ((self.rows, "<i8"), (self.caption, "<i2"), (self.epoch, "<i4")):
            digest.update(np.ascontiguousarray(array, dtype=dtype).tobytes())
        digest.update("".join(self.uids).encode())
        return digest.hexdigest(length=16)

    def save(self, path: Path) -> None:
        """Write plan.parquet atomically: one row per (step, sample), readable by any parquet tool."""
        import pyarrow as pa

        steps, batch = self.rows.shape
        table = pa.table(
            {
                "step": np.repeat(np.arange(steps, dtype=np.int32), batch),
                "epoch": np.repeat(self.epoch, batch),
                "row": self.rows.ravel(),
                "caption": self.caption.ravel(),
                "uid": pa.array(self.uids),
            },
            metadata={"fingerprint": self.fingerprint, "batch_size": str(batch)},
        )
        write_table_atomically(path, table)

    def first_steps(self, steps: int) -> BatchPlan:
        """Return the plan's first steps."""
        uids = self.uids[: steps * self.rows.shape[1]]
        return BatchPlan(self.rows[:steps], self.caption[:steps], self.epoch[:steps], uids)

    @classmethod
    def load(cls, path: Path) -> BatchPlan:
        """Read plan.parquet.

        Raises:
            InputError: missing, not a plan, or edited by hand.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path)
            metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
            batch = int(metadata["batch_size"])
            columns = {name: table.column(name).to_numpy() for name in ("epoch", "row", "caption")}
            uids = tuple(table.column("uid").to_pylist())
            rows, caption = columns["row"].reshape(-1, batch), columns["caption"].reshape(-1, batch)
        except (OSError, pa.ArrowInvalid, KeyError, ValueError) as error:
            raise InputError(f"{path}: not a training plan: {error}", fix="start a new run folder") from None
        plan = cls(rows, caption, columns["epoch"].reshape(-1, batch)[:, 0], uids)
        if plan.fingerprint != metadata.get("fingerprint"):
            raise InputError(f"{path}: the plan was edited by hand", fix="start a new run folder")
        return plan


def plan_epoch(
    planner: Planner, index: PlanIndex, seed: int, epoch: int, batch_size: int, done: int, num_steps: int
) -> BatchPlan:
    """Return the plan of one epoch, duplicates kept apart.

    Args:
        planner: Makes it.
        index: The samples.
        seed: The run's seed.
        epoch: Number of the epoch.
        batch_size: Samples a batch.
        done: Steps of the run before this epoch, below `num_steps`.
        num_steps: Steps of the run.

    Raises:
        InputError: fewer samples than a batch, a column that the planner needs is missing, or so many duplicates that
            no batch can be filled.
    """
    if isinstance(planner, RunPlanner):
        made = planner.part_of_run(index, seed, epoch, batch_size, done, num_steps)
    else:
        made = planner(index, seed, epoch, batch_size)
    plan = separate_duplicates(made, index, seed, epoch)
    if not len(plan.rows):
        raise InputError(
            f"no batch of {batch_size} samples without two that are duplicates or share a caption",
            fix="a smaller --set train.batch_size=N, or curate with --set stages.find_duplicates.keep=one",
        )
    uid_of = dict(zip(index.rows.tolist(), index.uids, strict=True))
    uids = tuple(uid_of[row] for row in plan.rows.ravel().tolist())
    return BatchPlan(plan.rows, plan.caption, np.full(len(plan.rows), epoch, dtype=np.int32), uids)


def join_plans(plans: Sequence[BatchPlan]) -> BatchPlan:
    """Return the plan of several epochs, one after the other."""
    rows, caption, epoch = (
        np.concatenate([getattr(plan, name) for plan in plans]) for name in ("rows", "caption", "epoch")
    )
    return BatchPlan(rows, caption, epoch, tuple(uid for plan in plans for uid in plan.uids))


def make_plan(planner: Planner, index: PlanIndex, seed: int, num_steps: int, batch_size: int) -> BatchPlan:
    """Return the plan of a whole run: epochs one after the other, cut after `num_steps` batches.

    Duplicates are kept out of each other's batches, whatever the planner.

    Raises:
        InputError: fewer samples than a batch, a column that the planner needs is missing, or so many duplicates that
            no batch can be filled.
    """
    epochs: list[BatchPlan] = []
    planned = 0
    while planned < num_steps:
        epochs.append(plan_epoch(planner, index, seed, len(epochs), batch_size, planned, num_steps))
        planned += epochs[-1].num_steps
    return join_plans(epochs).first_steps(num_steps)
