"""The index that planners look at, with the columns beside the shards that a planner needs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from data_manifests.errors import InputError
from training.batches.epoch import Planner
from training.batches.index import Array, PlanIndex

if TYPE_CHECKING:
    import pyarrow as pa

    from data_manifests.manifest import DatasetVersion

NEIGHBOURS = "image_neighbours"
EMBEDDINGS = "image_embedding"
_STAGES = {NEIGHBOURS: "find_neighbours", EMBEDDINGS: "embed_samples"}


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
    if NEIGHBOURS in needs:
        index = replace(index, neighbours=_positions(_read(dataset, NEIGHBOURS, planner), index))
    if EMBEDDINGS in needs:
        index = replace(index, embeddings=_vectors(_read(dataset, EMBEDDINGS, planner))[index.rows])
    return index


def _read(dataset: DatasetVersion, name: str, planner: Planner) -> list[pa.Array]:
    """Return a sidecar column, shard by shard: together one value for each row of the index."""
    chunks = []
    for shard in range(len(dataset.manifest.body["shards"])):
        table = dataset.sidecar(shard, [name])
        if name not in table.column_names:
            raise InputError(
                f"the plan '{planner.name}' needs the column {name}, which {dataset.ref} does not have",
                fix=f"curate with a recipe that has the stage {_STAGES[name]}, or use another plan",
            )
        chunks.append(table.column(name).combine_chunks())
    return chunks


def _positions(chunks: list[pa.Array], index: PlanIndex) -> Array:
    """Return neighbours' positions in the index; those of other splits are left out."""
    at = {uid: position for position, uid in enumerate(index.uids)}
    listed: list[list[dict[str, Any]] | None] = [row for chunk in chunks for row in chunk.to_pylist()]
    found = [[at[item["uid"]] for item in listed[row] or () if item["uid"] in at] for row in index.rows.tolist()]
    neighbours = np.full((len(found), max(1, *(len(row) for row in found))), -1, dtype=np.int64)
    for place, row in enumerate(found):
        neighbours[place, : len(row)] = row
    return neighbours


def _vectors(chunks: list[pa.Array]) -> Array:
    arrays = [np.asarray(chunk.flatten()).reshape(len(chunk), -1) for chunk in chunks]
    return np.concatenate(arrays).astype(np.float32)
