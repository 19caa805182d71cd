"""Contents of a version made from another version's: byte ranges of tars, rows of tables; nothing is computed anew."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curation.engine.store import write_parquet
from curation.versions.publish import VersionContents, hash64
from curation.versions.sidecars import spool_sidecars, take_sidecar
from curation.versions.statistics import StatisticsCounter
from curation.versions.tables import write_json, written
from data_manifests.manifest import DatasetVersion
from data_manifests.sample import ImageRef, Sample
from data_manifests.seeds import canonical
from data_manifests.shards import sample_key, split_into_shards
from data_manifests.tar_copy import MEMBERS, SampleRanges, copy_shard, padded
from data_manifests.tar_index import Int64Array

if TYPE_CHECKING:
    import pyarrow as pa

NOT_SELECTED = ("reshard", "not_selected")


@dataclass(frozen=True)
class RepackPlan:
    """What is taken from a version.

    Attributes:
        rows: Rows of its index, in the new order.
        shard_bytes: Wished size of a shard.
        replaced: New JSON of a sample, by row of the old index.
        unseen: Uids and names that no list may hold.
        num_forgotten: Samples left out for good: counted, never named; 0 when samples are merely not selected.
        judged: Whether judges that see no image are asked again where samples left; else nothing is said of it.
    """

    rows: Int64Array
    shard_bytes: int
    replaced: Mapping[int, dict[str, Any]] = field(default_factory=dict)
    unseen: frozenset[str] = frozenset()
    num_forgotten: int = 0
    judged: bool = True


def write_repacked(
    folder: Path, old: DatasetVersion, cut: RepackPlan, progress: Callable[[int], None] | None = None
) -> VersionContents:
    """Write a version's files into an empty folder; in memory are the index and one old or new shard's tables.

    Args:
        folder: An empty folder that no reader looks at.
        old: The version to take from.
        cut: What is taken.
        progress: Called with the number of samples written so far.

    Raises:
        InputError: the old version's files are not what its index says.
    """
    index = old.index()
    ranges = SampleRanges.of(index, old.ref).take(cut.rows)
    bounds = split_into_shards(ranges.length.tolist(), cut.shard_bytes)
    replaced = {place: cut.replaced[row] for place, row in enumerate(cut.rows.tolist()) if row in cut.replaced}
    table = _IndexBuilder(index.take(cut.rows))
    contents = VersionContents([], [], {}, {}, list(old.manifest.body["fields"]))
    spool = spool_sidecars(folder, old, index, cut.rows, bounds)
    tally = StatisticsCounter(cut.judged)
    recount = len(cut.rows) < index.num_rows or bool(replaced)
    for number, (first, end) in enumerate(bounds):
        here = {place - first: replaced[place] for place in range(first, end) if place in replaced}
        part = ranges.take(np.arange(first, end))
        shard, starts, sizes = copy_shard(old.folder, folder, number, part, here)
        table.place(first, number, part, starts, sizes)
        contents.shards.append({**shard.to_json(), "samples": end - first})
        sidecar = take_sidecar(spool / f"{number}.arrow", number, here)
        stats = {"count": end - first, "successes": end - first, "status_dict": {"success": end - first}}
        contents.files.append(shard)
        contents.files.append(written(write_parquet(folder / f"{number:05d}.parquet", sidecar)))
        contents.files.append(write_json(folder / f"{number:05d}_stats.json", stats))
        (spool / f"{number}.arrow").unlink()
        if recount:
            _count(tally, sidecar, index.column_names, table.image_bytes[first:end])
        if progress:
            progress(end)
    spool.rmdir()
    table.revalue(replaced, contents.published)
    contents.files.append(written(write_parquet(folder / "index.parquet", table.finish())))
    sizes_json = {shard["name"]: shard["samples"] for shard in contents.shards}
    contents.files.append(write_json(folder / "sizes.json", sizes_json))
    _write_lists(folder, old, index, cut, contents)
    _tell(folder, old, cut, contents, tally if recount else None)
    return contents


class _IndexBuilder:
    """The new index.parquet."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._keys: list[str] = [""] * table.num_rows
        self._shards = np.zeros(table.num_rows, np.int32)
        self._places = np.zeros((table.num_rows, len(MEMBERS)), np.int64)
        self._sizes = np.stack([table[f"{name}_bytes"].to_numpy() for name in MEMBERS], axis=1).astype(np.int64)
        self.image_bytes: Int64Array = self._sizes[:, 0]
        self._values: dict[str, list[Any]] = {}

    def place(self, first: int, shard: int, part: SampleRanges, starts: Int64Array, sizes: Int64Array) -> None:
        """Say where samples came to lie."""
        here = slice(first, first + len(starts))
        self._keys[here] = [sample_key(shard, position) for position in range(len(starts))]
        self._shards[here] = shard
        self._places[here] = starts[:, None] + part.offsets
        for row in np.flatnonzero(sizes[:, 0] >= 0).tolist():
            self._sizes[first + row] = sizes[row]
            ahead = padded(sizes[row]) + 512
            self._places[first + row] = starts[row] + 512 + np.concatenate([[0], np.cumsum(ahead[:-1])])

    def revalue(self, replaced: Mapping[int, Mapping[str, Any]], published: Sequence[Mapping[str, str]]) -> None:
        """Hash and count again what of some samples' JSON has changed."""
        names = [item["name"] for item in published if item["where"] != "index"]
        for name in dict.fromkeys(["negatives", "views", *names]):
            for column, value in ((f"h_{name}", _hash), (f"num_{name}", len)):
                if column in self._table.column_names and replaced:
                    values = self._table[column].to_pylist()
                    for row, payload in replaced.items():
                        values[row] = value(payload[name]) if name in payload else values[row]
                    self._values[column] = values

    def finish(self) -> pa.Table:
        """Return the table."""
        import pyarrow as pa

        new: dict[str, Any] = {"shard": self._shards, "key": self._keys, **self._values}
        for place, name in enumerate(MEMBERS):
            new |= {f"{name}_offset": self._places[:, place], f"{name}_bytes": self._sizes[:, place]}
        columns = {
            spec.name: pa.array(new[spec.name], spec.type)
            if spec.name in new
            else self._table[spec.name].combine_chunks()
            for spec in self._table.schema
        }
        return pa.table(columns)


def _count(tally: StatisticsCounter, sidecar: pa.Table, indexed: Sequence[str], image_bytes: Int64Array) -> None:
    """Count a shard's samples as `publish` counts them."""
    wanted = [name for name in ("negatives", "views", "cluster_id") if name in sidecar.column_names]
    table = sidecar.select(["uid", "name", "captions", "split", *wanted])
    for row, size in zip(table.to_pylist(), image_bytes.tolist(), strict=True):
        sample = Sample(row["uid"], row["name"], ImageRef("", 0, size), tuple(row["captions"]), row["split"])
        placed = {"cluster_id": row["cluster_id"]} if "cluster_id" in indexed else {}
        tally.sample(sample, placed, row.get("negatives") or [], row.get("views") or [])


def _write_lists(
    folder: Path, old: DatasetVersion, index: pa.Table, cut: RepackPlan, contents: VersionContents
) -> None:
    """Write the lists of drops and of refused texts: unchanged when everything is kept."""
    import pyarrow as pa
    import pyarrow.compute as pc

    whole = len(cut.rows) == index.num_rows and not cut.unseen
    for name in ("dropped.parquet", "rejected.parquet"):
        if whole and (old.folder / name).is_file():
            shutil.copyfile(old.folder / name, folder / name)
            contents.files.append(written(folder / name))
    if whole:
        return
    dropped = old.table("dropped.parquet")
    rows = [row for row in dropped.to_pylist() if row["uid"] not in cut.unseen]
    for row in rows:
        row["name"] = "" if row["name"] in cut.unseen else row["name"]
        row["detail"] = "" if any(word in row["detail"] for word in cut.unseen) else row["detail"]
    if not cut.num_forgotten:
        rows += _unselected(old, index, cut.rows)
    rows.sort(key=lambda row: tuple(row[name] for name in dropped.column_names))
    listed = pa.Table.from_pylist(rows, schema=dropped.schema)
    contents.files.append(written(write_parquet(folder / "dropped.parquet", listed)))
    if (old.folder / "rejected.parquet").is_file():
        kept = pa.array(index["uid"].take(cut.rows).to_pylist(), pa.string())
        table = old.table("rejected.parquet")
        table = table.filter(pc.is_in(table["uid"], value_set=kept)).combine_chunks()
        contents.files.append(written(write_parquet(folder / "rejected.parquet", table)))


def _unselected(old: DatasetVersion, index: pa.Table, rows: Int64Array) -> list[dict[str, str]]:
    left = np.ones(index.num_rows, dtype=bool)
    left[rows] = False
    shard, found = index["shard"].to_numpy(), []
    stage, reason = NOT_SELECTED
    for number in np.unique(shard[left]).tolist():
        table = old.sidecar(number, ["uid", "name"]).filter(left[shard == number])
        found += [{**row, "stage": stage, "reason": reason, "detail": ""} for row in table.to_pylist()]
    return found


def _tell(
    folder: Path, old: DatasetVersion, cut: RepackPlan, contents: VersionContents, tally: StatisticsCounter | None
) -> None:
    """Fill in counts and statistics: the old version's, or counted again where samples left."""
    body = old.manifest.body
    contents.counts.update({"views": 0, "rejected": {}} | body["counts"])
    contents.statistics.update({"views": {}, "usage": {}} | body["statistics"])
    if tally is None:
        return
    dropped = _reasons(folder / "dropped.parquet")
    # never listed, so the count is carried from version to version
    if gone := body["counts"]["dropped"].get("forget", {}).get("forgotten", 0) + cut.num_forgotten:
        dropped["forget"] = {"forgotten": gone}
    none: dict[str, dict[str, int]] = {stage: {} for stage in contents.counts["rejected"]}
    refused = none | _reasons(folder / "rejected.parquet")
    statistics = tally.statistics()
    contents.counts.update(
        samples=tally.num_samples,
        captions=sum(number * times for number, times in tally.captions.items()),
        negatives=sum(tally.negatives.values()),
        views=sum(tally.views.values()),
        dropped=dropped,
        rejected=refused,
    )
    # what models read and wrote for the parent is not told sample by sample, so it stays the parent's sum; what a
    # stage found out of the whole, such as thresholds, is what the fields of those that stay were made with
    found = body["statistics"].get("quality", {})
    quality = {name: value for name, value in found.items() if name != "blind_accuracy"} | statistics["quality"]
    contents.statistics.update(statistics | {"usage": contents.statistics["usage"], "quality": quality})


def _reasons(path: Path) -> dict[str, dict[str, int]]:
    import pyarrow.parquet as pq

    if not path.is_file():
        return {}
    table = pq.read_table(path, columns=["stage", "reason"])
    found: dict[str, dict[str, int]] = {}
    counted = Counter(zip(table["stage"].to_pylist(), table["reason"].to_pylist(), strict=True))
    for (stage, reason), number in sorted(counted.items()):
        found.setdefault(stage, {})[reason] = number
    return found


def _hash(value: Any) -> int:
    return hash64(canonical(value))
