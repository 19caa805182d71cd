"""Joins the indexes of two versions and finds the samples and fields that differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from data_manifests.errors import InputError
from data_manifests.manifest import DatasetVersion

if TYPE_CHECKING:
    import polars as pl

_LAYOUT = {
    "uid", "shard", "key", "image_offset", "image_bytes", "json_offset", "json_bytes", "text_offset", "text_bytes", "image_ext",
    "width", "height", "shown_differently", "split", "num_captions", "num_negatives", "num_views", "cluster_id",
}  # fmt: skip
"""Index columns that are not scores."""

PLACE = ["uid", "shard", "json_offset", "json_bytes"]
"""Index columns that locate a sample's JSON."""

_NUM_LARGEST = 20
_RANKS = ("captions", "negatives", "views")
"""Fields whose changes are shown first."""

_SOURCE_FIELDS = ("captions", "split", "attributes")
"""Fields that come from the source; all others are computed by stages."""


@dataclass(frozen=True, slots=True)
class ClusterMove:
    """A sample outside the cluster that its old cluster was matched to."""

    uid: str
    old: int
    new: int


@dataclass(frozen=True, slots=True)
class ClusterDiff:
    """How samples of both versions changed clusters, which are matched across versions by their members.

    Attributes:
        num_old: Clusters of the common samples in the old version.
        num_new: Clusters of the common samples in the new version.
        matched: (old cluster, new cluster, common samples), largest overlap first, each cluster at most once.
        num_moved: Common samples outside the matched cluster.
        moved: The first of them, by uid.
    """

    num_old: int
    num_new: int
    matched: tuple[tuple[int, int, int], ...]
    num_moved: int
    moved: tuple[ClusterMove, ...]


@dataclass(frozen=True, slots=True)
class NumberShift:
    """How a number of the index (difficulty, a score) changed in samples of both versions.

    Attributes:
        name: The column.
        num_changed: Samples whose number differs.
        mean_abs: Mean absolute difference over all common samples that have it.
        largest: (uid, old, new) of the largest differences.
    """

    name: str
    num_changed: int
    mean_abs: float
    largest: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class IndexDiff:
    """Differences that the indexes alone show.

    Attributes:
        num_old: Samples in the old version.
        num_new: Samples in the new version.
        added: Rows (uid, shard, json_offset, json_bytes) only in the new index.
        removed: The same, only in the old index.
        differing: Samples of both that differ: the same of the old index, of the new one (``shard@new`` ...),
            ``differs:<field>``, ``is_edited`` (a field of the source differs) and rank (shown first: 0).
        num_moved: Common samples with another key.
        differing_fields: Field -> samples in which it differs.
        added_fields: Fields only in the new index.
        removed_fields: Fields only in the old index.
        clusters: Changes of clusters, if both indexes have clusters.
        shifts: Scores that changed.
    """

    num_old: int
    num_new: int
    added: pl.DataFrame
    removed: pl.DataFrame
    differing: pl.DataFrame
    num_moved: int
    differing_fields: dict[str, int]
    added_fields: tuple[str, ...]
    removed_fields: tuple[str, ...]
    clusters: ClusterDiff | None
    shifts: tuple[NumberShift, ...]


def compare_indexes(old: DatasetVersion, new: DatasetVersion, max_details: int) -> IndexDiff:
    """Join two indexes on uid.

    Args:
        old: The old version.
        new: The new version.
        max_details: Most samples in the list of cluster changes.

    Raises:
        InputError: an index is missing, damaged or lacks a column.
    """
    import polars as pl

    before, after = _read(old), _read(new)
    rows = (
        before.select("uid")
        .with_row_index("old")
        .join(after.select("uid").with_row_index("new"), on="uid", how="full", coalesce=True)
    )
    both = _JoinedIndexes(before, after, rows.drop_nulls())
    contents = [name for name in both.common if name.startswith("h_") or name == "split"]
    differs = pl.DataFrame({f"differs:{name.removeprefix('h_')}": both.differs(name) for name in contents})
    differ = pl.any_horizontal(pl.all()) if contents else pl.lit(value=False)
    places = both.rows.hstack(differs).filter(differs.select(differ).to_series())
    before_fields, after_fields = _fields(before), _fields(after)
    return IndexDiff(
        num_old=before.height,
        num_new=after.height,
        added=_places(after, rows.filter(pl.col("old").is_null())["new"]),
        removed=_places(before, rows.filter(pl.col("new").is_null())["old"]),
        differing=_pairs(before, after, places).with_columns(
            rank=_rank(differs.columns), is_edited=_is_edited(differs.columns)
        ),
        num_moved=int(both.differs("key").sum()),
        differing_fields={
            name.removeprefix("differs:"): int(differs[name].sum()) for name in differs.columns if differs[name].any()
        },
        added_fields=tuple(name for name in after_fields if name not in before_fields),
        removed_fields=tuple(name for name in before_fields if name not in after_fields),
        clusters=_clusters(both.column("cluster_id"), max_details) if "cluster_id" in both.common else None,
        shifts=tuple(
            shift
            for name in both.common
            if _is_score(name)
            and before[name].dtype.is_numeric()
            and (shift := _shift(both.column(name), name)).num_changed
        ),
    )


@dataclass(frozen=True)
class _JoinedIndexes:
    """The samples of both indexes, joined one column at a time to save memory."""

    before: pl.DataFrame
    after: pl.DataFrame
    rows: pl.DataFrame

    @property
    def common(self) -> list[str]:
        """Names of the columns that both have."""
        return [name for name in self.before.columns if name in self.after.columns]

    def differs(self, name: str) -> pl.Series:
        """Return whether a column differs, for each common sample."""
        return self.before[name].gather(self.rows["old"]).ne_missing(self.after[name].gather(self.rows["new"]))

    def column(self, name: str) -> pl.DataFrame:
        """Return uid, old and new value of a column."""
        import polars as pl

        old, new = self.before[name].gather(self.rows["old"]), self.after[name].gather(self.rows["new"])
        return pl.DataFrame({"uid": self.rows["uid"], "old": old, "new": new})


def _places(index: pl.DataFrame, rows: pl.Series) -> pl.DataFrame:
    """Return the locations of rows of an index."""
    return index.select(PLACE)[rows]


def _pairs(before: pl.DataFrame, after: pl.DataFrame, places: pl.DataFrame) -> pl.DataFrame:
    """Return the locations of samples in both versions (``@new`` for the new one) and the other columns of `places`."""
    new = _places(after, places["new"]).drop("uid")
    marked = places.drop("uid", "old", "new")
    return _places(before, places["old"]).hstack(new.rename(lambda name: f"{name}@new")).hstack(marked)


def _read(version: DatasetVersion) -> pl.DataFrame:
    import polars as pl

    path = version.folder / "index.parquet"
    if not path.is_file():
        raise InputError(f"{path}: file of {version.ref} is missing", fix="run clipcurate curate again")
    try:
        names = list(pl.read_parquet_schema(path))
        missing = [name for name in (*PLACE, "key") if name not in names]
        if missing:
            raise InputError(f"{path}: index has no column {', '.join(missing)}", fix="run clipcurate verify")
        skipped = _LAYOUT - {*PLACE, "key", "split", "cluster_id"}
        return pl.read_parquet(path, columns=[name for name in names if name not in skipped])
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{path}: index cannot be read: {error}", fix="run clipcurate verify") from error


def _fields(index: pl.DataFrame) -> list[str]:
    """Return the fields of an index: those with content hashes, clusters and scores."""
    hashed = [name.removeprefix("h_") for name in index.columns if name.startswith("h_")]
    return hashed + [name for name in index.columns if name == "cluster_id" or _is_score(name)]


def _is_score(name: str) -> bool:
    return name not in _LAYOUT and not name.startswith("h_")


def _rank(columns: list[str]) -> pl.Expr:
    """Return 0 for samples whose captions differ, 1 for other negatives, 2 for other views, 3 for the rest."""
    import polars as pl

    rank = pl.lit(len(_RANKS))
    for number, name in reversed(list(enumerate(_RANKS))):
        if f"differs:{name}" in columns:
            rank = pl.when(pl.col(f"differs:{name}")).then(number).otherwise(rank)
    return rank


def _is_edited(columns: list[str]) -> pl.Expr:
    """Return whether a field of the source differs."""
    import polars as pl

    found = [pl.col(name) for field in _SOURCE_FIELDS if (name := f"differs:{field}") in columns]
    return pl.any_horizontal(found) if found else pl.lit(value=False)


def _clusters(column: pl.DataFrame, max_details: int) -> ClusterDiff:
    import polars as pl

    pairs = column.drop_nulls()
    overlaps = pairs.group_by("old", "new").len().sort("len", "old", "new", descending=[True, False, False])
    became: dict[int, int] = {}
    taken: set[int] = set()
    matched = []
    for old, new, number in overlaps.iter_rows():
        if old not in became and new not in taken:
            became[old] = new
            taken.add(new)
            matched.append((old, new, number))
    match = pl.DataFrame(
        {"old": list(became), "expected": list(became.values())},
        schema={"old": pairs["old"].dtype, "expected": pairs["new"].dtype},
    )
    moved = pairs.join(match, on="old", how="left").filter(pl.col("new").ne_missing(pl.col("expected")))
    listed = moved.sort("uid").head(max_details).select("uid", "old", "new")
    return ClusterDiff(
        pairs["old"].n_unique(),
        pairs["new"].n_unique(),
        tuple(matched),
        moved.height,
        tuple(ClusterMove(*row) for row in listed.iter_rows()),
    )


def _shift(column: pl.DataFrame, name: str) -> NumberShift:
    import polars as pl

    pairs = column.select("uid", pl.col("old", "new").cast(pl.Float64)).drop_nulls()
    moved = pairs.with_columns(by=(pl.col("new") - pl.col("old")).abs())
    largest = moved.filter(pl.col("by") > 0).sort("by", "uid", descending=[True, False]).head(_NUM_LARGEST)
    mean = moved["by"].mean()
    return NumberShift(
        name,
        moved.filter(pl.col("by") > 0).height,
        float(mean) if isinstance(mean, float) else 0.0,
        tuple(largest.select("uid", "old", "new").iter_rows()),
    )
