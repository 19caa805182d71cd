"""What a planner is, the columns it reads, and the batches of one epoch that it returns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from data_manifests.errors import InputError
from data_manifests.seeds import draw_seed
from data_manifests.shards import check_file
from training.batches.index import IndexColumn, PlanIndex

if TYPE_CHECKING:
    import pyarrow as pa

    from data_manifests.manifest import DatasetVersion

NEIGHBOURS = "image_neighbours"
EMBEDDINGS = "image_embedding"


@dataclass(frozen=True)
class EpochPlan:
    """The batches of one epoch.

    Attributes:
        rows: Row numbers in index.parquet, int64 [num_batches, batch_size]. A batch is a set: rows ascend within
            it, so that reading goes forward through the shards.
        caption: Which caption of the sample is shown, int16 [num_batches, batch_size].
    """

    rows: IndexColumn
    caption: IndexColumn


class Planner(Protocol):
    """Makes an epoch's batches as a pure function of its arguments. A frozen dataclass: its fields are its config.

    One that looks at neighbours or embeddings has a property `needs`, too: the sidecar columns they are read from,
    see `load_index`.
    """

    name: ClassVar[str]
    source: ClassVar[str]

    def __call__(self, index: PlanIndex, seed: int, epoch: int, batch_size: int) -> EpochPlan:
        """Return the epoch: every sample at most once, complete batches only.

        Raises:
            InputError: fewer samples than a batch, or a column that the planner needs is missing.
        """


@runtime_checkable
class RunPlanner(Protocol):
    """A planner whose epochs depend on how much of the run is done: it has this method besides those of `Planner`."""

    def part_of_run(
        self, index: PlanIndex, seed: int, epoch: int, batch_size: int, done: int, num_steps: int
    ) -> EpochPlan:
        """Return an epoch of a run, as `Planner.__call__` does.

        Args:
            index: The samples.
            seed: The run's seed.
            epoch: Number of the epoch.
            batch_size: Samples a batch.
            done: Steps of the run before this epoch, below `num_steps`.
            num_steps: Steps of the run.
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


def draw_captions(index: PlanIndex, positions: IndexColumn, seed: int, epoch: int) -> EpochPlan:
    """Return the epoch of these positions of the index, int64 [num_batches, batch_size], with a caption drawn for each.

    The draw depends on (seed, epoch, uid) alone: whatever batch a sample is in, it shows the same caption.
    """
    positions = np.sort(positions, axis=1)
    # A 64-bit hash modulo a handful of captions is uniform to within 2^-50; a generator per sample would cost 10x.
    captions = [
        draw_seed(seed, epoch, index.uids[position], "caption") % int(index.num_captions[position])
        for position in positions.flat
    ]
    return EpochPlan(index.rows[positions], np.array(captions, dtype=np.int16).reshape(positions.shape))


def column_needs(planner: Planner) -> tuple[str, ...]:
    """Return the sidecar columns that a planner, or one inside it, looks at."""
    own: tuple[str, ...] = getattr(planner, "needs", ())
    inner = getattr(planner, "inner", None)
    return own if inner is None else tuple(dict.fromkeys((*own, *column_needs(inner))))


def load_index(dataset: DatasetVersion, split: str, planner: Planner) -> PlanIndex:
    """Return the index of a split with what the planner needs.

    Raises:
        InputError: no sample may be trained on, or the version lacks a column that the planner needs.
    """
    index = PlanIndex.from_table(dataset.index(), split)
    needs = column_needs(planner)
    if NEIGHBOURS in needs and (chunks := _read(dataset, NEIGHBOURS)):
        index = replace(index, neighbours=_positions(chunks, index))
    if EMBEDDINGS in needs and (chunks := _read(dataset, EMBEDDINGS)):
        vectors = [np.asarray(chunk.flatten()).reshape(len(chunk), -1) for chunk in chunks]
        index = replace(index, embeddings=np.concatenate(vectors).astype(np.float32)[index.rows])
    for column, name in ((NEIGHBOURS, "neighbours"), (EMBEDDINGS, "embeddings")):
        if column in needs:
            index.require(name, planner.name)
    return index


def _read(dataset: DatasetVersion, name: str) -> list[pa.Array]:
    """Return a sidecar column, shard by shard: together one value for each row of the index; empty without it."""
    shards, records = range(len(dataset.manifest.body["shards"])), dataset.records
    for shard in shards:
        check_file(dataset.folder / f"{shard:05d}.parquet", records)
    tables = [dataset.sidecar(shard, [name]) for shard in shards]
    return [table.column(name).combine_chunks() for table in tables if name in table.column_names]


def _positions(chunks: list[pa.Array], index: PlanIndex) -> IndexColumn:
    """Return neighbours' positions in the index; those of other splits are left out."""
    position_of = {uid: position for position, uid in enumerate(index.uids)}
    listed: list[list[dict[str, Any]] | None] = [row for chunk in chunks for row in chunk.to_pylist()]
    found = [
        [position_of[item["uid"]] for item in listed[row] or () if item["uid"] in position_of]
        for row in index.rows.tolist()
    ]
    neighbours = np.full((len(found), max(1, *(len(row) for row in found))), -1, dtype=np.int64)
    for position, row in enumerate(found):
        neighbours[position, : len(row)] = row
    return neighbours
