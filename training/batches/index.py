"""The index that planners read: columns of a version's index, one entry per sample."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from data_manifests.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

IndexColumn = np.ndarray[Any, np.dtype[Any]]


_STAGES = {
    "cluster_id": "cluster_embeddings",
    "difficulty": "order_difficulty",
    "embeddings": "embed_samples",
    "neighbours": "find_neighbours",
}
"""Which stage makes a column."""


@dataclass(frozen=True)
class PlanIndex:
    """The columns of index.parquet that planners may look at, one entry per sample that may be trained on.

    Attributes:
        rows: Row numbers in index.parquet, ascending (shard order), int64 [n].
        uids: Sample identities [n].
        num_captions: Captions of each sample, at least 1, int64 [n].
        cluster_id: int64 [n], or None when the recipe made no clusters.
        difficulty: 0 (easiest) to 1, float64 [n], or None when the recipe ordered nothing.
        weight: How often each sample should be seen, relative to the others, float64 [n], or None when the recipe
            balanced nothing.
        neighbours: Positions in this index of each sample's neighbours, nearest first, -1 where there is none,
            int64 [n, K]; only read when a planner needs them.
        embeddings: Unit-norm embeddings, float32 [n, d]; only read when a planner needs them.
        duplicate_group: Which samples show the same picture: a number for each group, -1 for none, int64 [n]; None
            when the recipe looked for no duplicates.
        caption_group: The same for samples that share a caption.
    """

    rows: IndexColumn
    uids: tuple[str, ...]
    num_captions: IndexColumn
    cluster_id: IndexColumn | None = None
    difficulty: IndexColumn | None = None
    weight: IndexColumn | None = None
    neighbours: IndexColumn | None = None
    embeddings: IndexColumn | None = None
    duplicate_group: IndexColumn | None = None
    caption_group: IndexColumn | None = None

    def __len__(self) -> int:
        return len(self.uids)

    @classmethod
    def from_table(cls, table: pa.Table, split: str = "train") -> PlanIndex:
        """Read index.parquet; keep samples of `split` and those that have none.

        Raises:
            InputError: no sample may be trained on.
        """
        splits = table.column("split").to_pylist() if "split" in table.column_names else [None] * table.num_rows
        keep = np.array([item is None or item == split for item in splits], dtype=bool)
        if not keep.any():
            found = ", ".join(sorted({str(item) for item in splits})) or "none: the data set is empty"
            raise InputError(
                f"no sample to train on: splits are {found}", allowed=f"{split}, or samples without a split"
            )

        def column(name: str, dtype: str) -> IndexColumn | None:
            if name not in table.column_names:
                return None
            values: IndexColumn = table.column(name).to_numpy()[keep].astype(dtype)
            return values

        uids = tuple(uid for uid, kept in zip(table.column("uid").to_pylist(), keep, strict=True) if kept)
        captions = column("num_captions", "int64")
        if captions is None or captions.min() < 1:
            raise InputError("index.parquet: every sample needs num_captions of 1 or more", fix="run clipcurate verify")
        rows = np.flatnonzero(keep).astype(np.int64)
        numbers = column("cluster_id", "int64"), column("difficulty", "float64"), column("keep_weight", "float64")
        groups = {name: _numbered(column(name, "str")) for name in ("duplicate_group", "caption_group")}
        return cls(rows, uids, captions, *numbers, **groups)

    def take(self, chosen: IndexColumn) -> PlanIndex:
        """Return the entries at ascending positions `chosen`."""
        columns: dict[str, Any] = {
            name: value[chosen] for name, value in vars(self).items() if name != "uids" and value is not None
        }
        if self.neighbours is not None:
            # one entry more than there are samples, so that -1 (no neighbour) maps to -1
            position_of = np.full(len(self) + 1, -1, dtype=np.int64)
            position_of[chosen] = np.arange(len(chosen))
            columns["neighbours"] = position_of[columns["neighbours"]]
        return replace(self, uids=tuple(self.uids[position] for position in chosen), **columns)

    def require(self, name: str, plan: str) -> IndexColumn:
        """Return a column that a plan needs.

        Raises:
            InputError: the data set version does not have it.
        """
        column: IndexColumn | None = getattr(self, name)
        if column is None or np.isnan(column).any():
            raise InputError(
                f"the plan '{plan}' needs the column {name}, which this data set version does not have for every sample",
                fix=f"curate with a recipe that has the stage {_STAGES[name]}, or use another plan",
            )
        return column


def _numbered(names: IndexColumn | None) -> IndexColumn | None:
    """Return a number for each group's name, in order of the names; -1 for the empty one."""
    if names is None:
        return None
    known, numbers = np.unique(names, return_inverse=True)
    numbers = numbers.astype(np.int64)
    return np.where(known[numbers] == "", -1, numbers)
