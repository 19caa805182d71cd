"""Planners: which samples share a batch, and when, one class each; `training.batches.plan` makes a run's plan of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from data_manifests.seeds import generator
from training.batches.epoch import EpochPlan, Planner, count_batches, draw_captions
from training.batches.index import PlanIndex
from training.settings import check_settings


@dataclass(frozen=True)
class ShuffledPlan:
    """Uniformly shuffled batches: the control every other order is compared with.

    Source: Radford et al. 2021, figure 3 (arXiv 2103.00020): minibatches without any order.
    Differs: one caption per image and epoch, drawn uniformly; the last incomplete batch is dropped.
    """

    name: ClassVar[str] = "shuffled"
    source: ClassVar[str] = "Radford et al. 2021, figure 3 (arXiv 2103.00020)"

    def __call__(self, index: PlanIndex, seed: int, epoch: int, batch_size: int) -> EpochPlan:
        """Return the epoch's batches."""
        num_batches = count_batches(index, batch_size)
        order = generator(seed, self.name, epoch, "order").permutation(len(index))
        return draw_captions(index, order[: num_batches * batch_size].reshape(num_batches, batch_size), seed, epoch)


@dataclass(frozen=True)
class ClusterPlan:
    """Batches of a few clusters each, so that similar images share a batch and the contrast gets hard.

    A share `fraction` of every batch comes in runs of neighbours from `clusters_per_batch` positions of the data set
    sorted by cluster; the rest is drawn from everywhere. A run at the edge of a cluster goes on into the next one,
    so that no sample is left over.

    Attributes:
        fraction: Share of each batch that comes in runs, 0 to 1.
        clusters_per_batch: Runs in each batch; a run has about fraction * batch_size / clusters_per_batch samples.

    Source: SimCLIP (FITML workshop at NeurIPS 2024): batches of num_clusters groups of similar samples, share p.
    Differs: groups are k-means clusters of the data set version instead of neighbours of random pivots found again
        every epoch by the current model, so the order is a pure function of the version; without replacement.
    """

    name: ClassVar[str] = "clusters"
    source: ClassVar[str] = "SimCLIP, FITML workshop at NeurIPS 2024"

    fraction: float = 0.5
    clusters_per_batch: int = 8

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            InputError: a value is out of range.
        """
        check_settings(self, 0 <= self.fraction <= 1, "fraction", "0 to 1")
        check_settings(self, self.clusters_per_batch >= 1, "clusters_per_batch", "1 or more")

    def __call__(self, index: PlanIndex, seed: int, epoch: int, batch_size: int) -> EpochPlan:
        """Return the epoch's batches."""
        cluster_id = index.require("cluster_id", self.name)
        num_batches = count_batches(index, batch_size)
        run = int(batch_size * self.fraction) // self.clusters_per_batch
        in_runs = run * self.clusters_per_batch
        draws = generator(seed, self.name, epoch, "order")
        order = draws.permutation(len(index))[: num_batches * batch_size]
        scattered, grouped = order[in_runs * num_batches :], order[: in_runs * num_batches]
        batches = scattered.reshape(num_batches, batch_size - in_runs)
        if in_runs:
            by_cluster = grouped[np.argsort(cluster_id[grouped], kind="stable")].reshape(-1, run)
            runs = by_cluster[draws.permutation(len(by_cluster))].reshape(num_batches, in_runs)
            batches = np.concatenate([runs, batches], axis=1)
        return draw_captions(index, batches, seed, epoch)


@dataclass(frozen=True)
class CurriculumPlan:
    """An inner plan over a pool that grows from one end of the difficulty scale to all samples, batches in that order.

    With p the share of the run's steps that will be done when the epoch ends, the epoch's pool is the first c(p) of the
    samples by difficulty, c(p) = min(1, sqrt(s^2 + (1 - s^2) p / `pace`)), s = `start_fraction`. The inner planner makes
    the batches; they come in order of their mean difficulty. Where the run ends before the epoch does, as many of its
    batches are left out as do not fit, evenly over that order: a run of half an epoch goes from one end to the other, too.

    Attributes:
        inner: The planner that makes the batches.
        direction: Which end comes first. FALCON (CVPR 2026) found hard first better, so both can be tried.
        start_fraction: Share of the samples at the run's start, above 0 to 1.
        pace: Share of the run until all samples are in, above 0 to 1.

    Source: Platanios et al. 2019, square-root competence (arXiv 1903.09848).
    Differs: competence grows from epoch to epoch instead of by step; within an epoch batches are sorted by mean difficulty.
    """

    name: ClassVar[str] = "curriculum"
    source: ClassVar[str] = "Platanios et al. 2019, square-root competence (arXiv 1903.09848)"

    inner: Planner
    direction: Literal["easy_to_hard", "hard_to_easy"] = "easy_to_hard"
    start_fraction: float = 0.5
    pace: float = 0.5

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            InputError: a value is out of range.
        """
        directions = ("easy_to_hard", "hard_to_easy")
        check_settings(self, self.direction in directions, "direction", " or ".join(directions))
        check_settings(self, 0 < self.start_fraction <= 1, "start_fraction", "above 0, to 1")
        check_settings(self, 0 < self.pace <= 1, "pace", "above 0, to 1: a share of the run")

    def __call__(self, index: PlanIndex, seed: int, epoch: int, batch_size: int) -> EpochPlan:
        """Return the batches of an epoch that is a run of its own."""
        return self.part_of_run(index, seed, epoch, batch_size, 0, count_batches(index, batch_size))

    def part_of_run(
        self, index: PlanIndex, seed: int, epoch: int, batch_size: int, done: int, num_steps: int
    ) -> EpochPlan:
        """Return the epoch's batches; see `RunPlanner`."""
        difficulty = index.require("difficulty", self.name)
        count_batches(index, batch_size)
        sign = 1.0 if self.direction == "easy_to_hard" else -1.0
        left, size, before = num_steps - done, self._pool_size(done / num_steps, len(index)), 0
        while size > before:  # a larger pool makes a longer epoch, and by its end the pool may be larger
            ahead = min(left, size // batch_size)
            size, before = self._pool_size((done + ahead) / num_steps, len(index)), size
        size = max(batch_size, size)
        pool = np.sort(np.argsort(sign * difficulty, kind="stable")[:size])
        plan = self.inner(index.take(pool), seed, epoch, batch_size)
        by_row = np.zeros(int(index.rows.max()) + 1)
        by_row[index.rows] = difficulty
        order = np.argsort(sign * by_row[plan.rows].mean(axis=1), kind="stable")
        if len(order) > left:
            order = order[np.linspace(0, len(order) - 1, left).round().astype(np.int64)]
        return EpochPlan(plan.rows[order], plan.caption[order])

    def _pool_size(self, progress: float, size: int) -> int:
        start = self.start_fraction**2
        return math.ceil(min(1.0, math.sqrt(start + (1.0 - start) * progress / self.pace)) * size)
