"""Plans that are not computed ahead: replayed from a file, or made epoch by epoch with the model as it then is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_manifests.errors import InputError
from training.batches.epoch import Planner
from training.batches.index import Array, PlanIndex
from training.batches.index_columns import load_index
from training.batches.loader import PlannedBatches
from training.batches.plan import Plan, make_plan, plan_epoch
from training.model import lora
from training.negative_scores import encode

if TYPE_CHECKING:
    from data_manifests.manifest import DatasetVersion
    from training.config import TrainConfig
    from training.distributed import Ranks
    from training.model.clip_model import ClipModel

EMBED_ROWS = 64
"""Images per forward pass: always so many and always the same, so that no vector depends on the number of ranks."""


def is_online(planner: Planner) -> bool:
    """Say whether a planner, or one inside it, wants embeddings of the current model at each epoch."""
    inner = getattr(planner, "inner", None)
    return bool(getattr(planner, "online", False)) or (inner is not None and is_online(inner))


def plan_ahead(
    dataset: DatasetVersion, planner: Planner, config: TrainConfig, replay: Path | None, ranks: Ranks
) -> tuple[PlanIndex, Plan | None]:
    """Return what the planner looks at, and the whole order if it can be known before training.

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
    ranks.agree("plan", plan.fingerprint)
    return index, plan


def replayed_plan(path: Path, dataset: DatasetVersion, config: TrainConfig) -> Plan:
    """Return the order that another run saved, cut at this run's steps.

    Raises:
        InputError: not a plan, of another batch size, too short, or it shows samples that may not be trained on.
    """
    plan = Plan.load(path)
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
                f"{path}: the plan means sample {uid} by row {row}, which in {dataset.ref} is "
                f"{uid_of.get(row, f'not of the split {config.split}')}",
                allowed="a plan of this version and split",
                fix="train on the version that the plan's run.json names, or without --replay",
            )
    return cut_plan(plan, config.steps)


def cut_plan(plan: Plan, steps: int) -> Plan:
    """Return a plan's first steps."""
    uids = plan.uids[: steps * plan.rows.shape[1]]
    return Plan(plan.rows[:steps], plan.caption[:steps], plan.epoch[:steps], uids)


@dataclass(frozen=True)
class GrowingPlan:
    """The order of a run whose planner looks at the current model.

    Attributes:
        planner: Makes each epoch.
        index: What it looks at, without embeddings.
        config: Seed, steps and batch size.
        path: plan.parquet; holds what is planned so far, whole or not at all.
        ranks: Who trains together; the first one writes.
    """

    planner: Planner
    index: PlanIndex
    config: TrainConfig
    path: Path
    ranks: Ranks

    def plans(self, done: int, embed: Callable[[], Array]) -> Iterator[Plan]:
        """Yield the plan of the epochs so far, each time one epoch longer; ask for the next when it is trained to its end.

        What is saved is replayed, not made again: who resumes meets the batches that were to come.

        Args:
            done: Steps that are done already.
            embed: Returns the current model's embeddings of the index [n, d].

        Raises:
            InputError: the saved plan is damaged or of another run, or an epoch cannot be planned.
        """
        plan = Plan.load(self.path) if self.path.is_file() else None
        if plan is not None and plan.rows.shape[1] != self.config.batch_size:
            raise InputError(f"{self.path}: batches of {plan.rows.shape[1]}", fix="start a new run folder")
        if (0 if plan is None else plan.num_steps) < done:
            raise InputError(f"{self.path}: shorter than the {done} steps that are done", fix="start a new run folder")
        if plan is not None and done < plan.num_steps:
            yield plan
        while plan is None or plan.num_steps < self.config.steps:
            plan = cut_plan(self._longer(plan, embed()), self.config.steps)
            self.ranks.agree("plan", plan.fingerprint)
            self.ranks.first_does(lambda plan=plan: plan.save(self.path))  # type: ignore[misc]
            yield plan

    def _longer(self, plan: Plan | None, embeddings: Array) -> Plan:
        epoch = 0 if plan is None else int(plan.epoch[-1]) + 1
        index = replace(self.index, embeddings=embeddings)
        made = plan_epoch(self.planner, index, self.config.seed, epoch, self.config.batch_size)
        uid_of = dict(zip(index.rows.tolist(), index.uids, strict=True))
        uids = tuple(uid_of[row] for row in made.rows.ravel().tolist())
        new = Plan(made.rows, made.caption, np.full(len(made.rows), epoch, dtype=np.int32), uids)
        if plan is None:
            return new
        rows, caption = np.concatenate([plan.rows, new.rows]), np.concatenate([plan.caption, new.caption])
        return Plan(rows, caption, np.concatenate([plan.epoch, new.epoch]), plan.uids + uids)


@dataclass(frozen=True)
class Embedder:
    """Embeds an index's images by the model as it is.

    Attributes:
        dataset: Whose shards are read.
        index: Whose images.
        model: The model; put in eval mode.
        config: Limits of images.
        ranks: Share the work; all get all.
        fill: Lets frozen trunks compute ahead.
    """

    dataset: DatasetVersion
    index: PlanIndex
    model: ClipModel
    config: TrainConfig
    ranks: Ranks
    fill: Callable[[PlannedBatches], None]

    def __call__(self) -> Array:
        """Return unit-norm embeddings, float32 [n, d]."""
        import torch

        lora.eval_mode(self.model)
        size = len(self.index)
        # rectangular: the last chunk, and whatever the ranks need to have equally many, begins again from the front
        chunks = -(-size // (EMBED_ROWS * self.ranks.size)) * self.ranks.size
        order = np.resize(np.arange(size), chunks * EMBED_ROWS).reshape(-1, EMBED_ROWS)
        order = order[self.ranks.rank :: self.ranks.size]
        rows, uids = self.index.rows[order], tuple(self.index.uids[at] for at in order.ravel().tolist())
        plan = Plan(rows, np.zeros(rows.shape, dtype=np.int16), np.zeros(len(rows), dtype=np.int32), uids)
        device = next(self.model.module.parameters()).device
        with closing(PlannedBatches(self.dataset, plan, self.model, self.config)) as batches, torch.no_grad():
            self.fill(batches)
            made = [encode(self.model, "image", item.image.to(device), item.image_cached).float() for item in batches]
        # chunk k of rank r is chunk k * size + r of all
        whole = self.ranks.gather(torch.stack(made)[None]).transpose(0, 1).flatten(0, 2)
        embeddings: Array = whole[:size].cpu().numpy()
        return embeddings
