"""Planners by similarity and by weight: hard image pairs (NegCLIP), clusters around pivots (SimCLIP), M4's weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from data_manifests.errors import InputError
from data_manifests.seeds import draw_seed, generator
from training.batches.epoch import EMBEDDINGS, NEIGHBOURS, EpochPlan, Planner, count_batches, draw_captions
from training.batches.index import IndexColumn, PlanIndex
from training.settings import check_settings

Nearest = Callable[[int, IndexColumn], IndexColumn]
"""From a pivot and a mask of unused samples to the unused samples, nearest first."""


@dataclass(frozen=True)
class NeighbourPlan:
    """Batches of pairs: a sample and one of its nearest neighbours, so that each image has a hard negative.

    Samples come in a drawn order; each that is still unpaired takes, from a drawn position of its neighbours on, the
    first unpaired one. A sample that finds none stays single. A pair is always in one batch.

    Attributes:
        num_neighbours: How many of the nearest are drawn from.

    Source: Yuksekgonul et al. 2023, section 4 (NegCLIP, arXiv 2210.01936): every image brings one of its three nearest
        neighbours along, and both captions.
    Differs: a neighbour takes its place in the epoch instead of coming in addition, so that every sample is seen at
        most once an epoch; batch_size counts images, theirs counts pairs.
    """

    name: ClassVar[str] = "neighbours"
    source: ClassVar[str] = "Yuksekgonul et al. 2023, section 4 (NegCLIP, arXiv 2210.01936)"
    needs: ClassVar[tuple[str, ...]] = (NEIGHBOURS,)

    num_neighbours: int = 3

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            InputError: a value is out of range.
        """
        check_settings(self, self.num_neighbours >= 1, "num_neighbours", "1 or more")

    def __call__(self, index: PlanIndex, seed: int, epoch: int, batch_size: int) -> EpochPlan:
        """Return the epoch's batches."""
        num_batches = count_batches(index, batch_size)
        draws = generator(seed, self.name, epoch, "pairs")
        pairs, alone = _pair_up(index.require("neighbours", self.name)[:, : self.num_neighbours], draws)
        pairs = pairs[draws.permutation(len(pairs))]
        placed = min(num_batches * (batch_size // 2), len(pairs))
        # batch b gets pairs b, b + num_batches, ...; pairs that no batch has room for fill up as single samples
        dealt = [pairs[batch:placed:num_batches].ravel() for batch in range(num_batches)]
        singles = draws.permutation(np.concatenate([alone, pairs[placed:].ravel()]))
        return draw_captions(index, np.stack(list(_fill(dealt, singles, batch_size))), seed, epoch)


@dataclass(frozen=True)
class SimclipPlan:
    """Batches of clusters, each a drawn pivot and samples near it, and drawn samples for the rest.

    For each cluster: an unused pivot is drawn; of the unused samples nearest to it, the first `cluster_size` * `spread`
    are candidates; `cluster_size` - 1 of them are drawn.

    Attributes:
        fraction: Share of each batch that comes in clusters, above 0 to 1.
        cluster_size: Samples in a cluster, 2 or more.
        spread: From how many times as many candidates a cluster is drawn, 1 or more.
        max_similarity: Samples more similar to the pivot are left out as its likely doubles; 1 leaves none out.
        doubling_epochs: The share starts at fraction / 2^len and doubles at each of these epochs; the paper's are 4,
            6, ..., 18. Empty starts with `fraction`.
        table: Candidates are the pivot's listed neighbours alone, for data too large to compare each pivot with all.
        online: Embeddings are made anew with the current model when an epoch begins; see `training.train`.

    Source: SimCLIP (FITML workshop at NeurIPS 2024), `get_synthesis_batch` of the authors' code.
    Differs: a sample is used at most once an epoch, not only once a batch; similarity is that of images, as versions
        hold image embeddings; with a table, too, no sample comes twice.
    """

    name: ClassVar[str] = "simclip"
    source: ClassVar[str] = "SimCLIP, FITML workshop at NeurIPS 2024"

    fraction: float = 0.5
    cluster_size: int = 16
    spread: int = 1
    max_similarity: float = 1.0
    doubling_epochs: tuple[int, ...] = ()
    table: bool = False
    online: bool = False

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            InputError: a value is out of range.
        """
        check_settings(self, 0 < self.fraction <= 1, "fraction", "above 0, to 1")
        check_settings(self, self.cluster_size >= 2, "cluster_size", "2 or more")
        check_settings(self, self.spread >= 1, "spread", "1 or more")
        check_settings(self, 0 < self.max_similarity <= 1, "max_similarity", "above 0, to 1")
        needs_embeddings = self.online or self.max_similarity < 1
        allowed = "a table without online and max_similarity, which need embeddings"
        check_settings(self, not (self.table and needs_embeddings), "table online max_similarity", allowed)

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns it looks at."""
        return (NEIGHBOURS,) if self.table else () if self.online else (EMBEDDINGS,)

    def fraction_at(self, epoch: int) -> float:
        """Return the share of an epoch's batches that comes in clusters."""
        return self.fraction / 2.0 ** sum(when > epoch for when in self.doubling_epochs)

    def __call__(self, index: PlanIndex, seed: int, epoch: int, batch_size: int) -> EpochPlan:
        """Return the epoch's batches."""
        num_batches = count_batches(index, batch_size)
        if self.cluster_size > batch_size:
            raise InputError(
                f"simclip plan: clusters of {self.cluster_size} in a batch of {batch_size}",
                fix=f"--set planner.cluster_size={batch_size}",
            )
        nearest = self._by_table(index) if self.table else self._by_embedding(index)
        draws = generator(seed, self.name, epoch, "pivots")
        clusters = max(1, int(self.fraction_at(epoch) * batch_size) // self.cluster_size)
        unused = np.ones(len(index), dtype=bool)
        order = iter(draws.permutation(len(index)).tolist())
        grouped = [
            np.concatenate([self._cluster(nearest, unused, order, draws) for _ in range(clusters)])
            for _ in range(num_batches)
        ]
        rest = draws.permutation(np.flatnonzero(unused))
        return draw_captions(index, np.stack(list(_fill(grouped, rest, batch_size))), seed, epoch)

    def _cluster(
        self, nearest: Nearest, unused: IndexColumn, order: Iterator[int], draws: np.random.Generator
    ) -> IndexColumn:
        """Take the next unused pivot and samples near it, and mark them used; empty when none is left."""
        pivot = next((sample for sample in order if unused[sample]), None)
        if pivot is None:
            return np.empty(0, dtype=np.int64)
        unused[pivot] = False
        near = nearest(pivot, unused)[: self.cluster_size * self.spread]
        chosen = near if self.spread == 1 else draws.permutation(near)
        cluster = np.concatenate([[pivot], chosen[: self.cluster_size - 1]])
        unused[cluster] = False
        return cluster

    def _by_embedding(self, index: PlanIndex) -> Nearest:
        embeddings = index.require("embeddings", self.name)

        def nearest(pivot: int, unused: IndexColumn) -> IndexColumn:
            left = np.flatnonzero(unused)
            # rounded: the last bits of a matrix product differ between machines, plans must not
            similarity = np.round(embeddings[left] @ embeddings[pivot], 5)
            allowed = similarity <= self.max_similarity if self.max_similarity < 1 else slice(None)
            left, similarity = left[allowed], similarity[allowed]
            return left[np.lexsort((left, -similarity))]

        return nearest

    def _by_table(self, index: PlanIndex) -> Nearest:
        neighbours = index.require("neighbours", self.name)

        def nearest(pivot: int, unused: IndexColumn) -> IndexColumn:
            listed = neighbours[pivot][neighbours[pivot] >= 0]
            free: IndexColumn = listed[unused[listed]]
            return free

        return nearest


@dataclass(frozen=True)
class WeightedPlan:
    """An inner plan over samples drawn by weight: the largest comes every epoch, one of half of it every second.

    Attributes:
        inner: Makes the batches of those that were drawn.

    Source: Alabdulmohsin et al. 2024 (M4, arXiv 2403.04547): each example is kept with probability q / Q.
    Differs: drawn anew every epoch, by (seed, epoch, uid), instead of once.
    """

    name: ClassVar[str] = "weighted"
    source: ClassVar[str] = "Alabdulmohsin et al. 2024 (M4, arXiv 2403.04547)"

    inner: Planner

    def __call__(self, index: PlanIndex, seed: int, epoch: int, batch_size: int) -> EpochPlan:
        """Return the epoch's batches."""
        count_batches(index, batch_size)
        if index.weight is None or not (index.weight >= 0).all() or index.weight.max() <= 0:
            raise InputError(
                "a plan by weights needs a keep_weight of 0 or more for every sample, which this data set version lacks",
                fix="curate with a recipe that has the stage balance_attributes, or use another plan",
            )
        share = index.weight / index.weight.max()
        draws = np.array([draw_seed(seed, self.name, epoch, uid) for uid in index.uids], dtype=np.uint64)
        kept = np.flatnonzero(draws < share * 2.0**64)
        if len(kept) < batch_size:
            raise InputError(
                f"weights keep {len(kept)} of {len(index)} samples in epoch {epoch}, fewer than a batch of {batch_size}",
                fix="a smaller train.batch_size, or more even weights",
            )
        return self.inner(index.take(kept), seed, epoch, batch_size)


def _pair_up(neighbours: IndexColumn, draws: np.random.Generator) -> tuple[IndexColumn, IndexColumn]:
    """Return disjoint pairs int64 [m, 2] of samples and neighbours, and the samples without a partner."""
    alone = np.ones(len(neighbours), dtype=bool)
    pairs = []
    first = draws.integers(0, neighbours.shape[1], len(neighbours))
    for at in draws.permutation(len(neighbours)).tolist():
        if not alone[at]:
            continue
        listed = np.roll(neighbours[at], -first[at]).tolist()
        partner = next((other for other in listed if other >= 0 and other != at and alone[other]), None)
        if partner is not None:
            alone[at] = alone[partner] = False
            pairs.append((at, partner))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2), np.flatnonzero(alone)


def _fill(batches: list[IndexColumn], rest: IndexColumn, batch_size: int) -> Iterator[IndexColumn]:
    """Yield each batch, filled up from `rest`."""
    taken = 0
    for batch in batches:
        missing = batch_size - len(batch)
        yield np.concatenate([batch, rest[taken : taken + missing]])
        taken += missing
