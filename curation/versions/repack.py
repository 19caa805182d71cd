"""Contents of a version made from another version: byte ranges of its tars, rows of its tables; nothing is recomputed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curation.blind.judges import PairSample
from curation.versions.sidecars import spool_sidecars, take_sidecar
from curation.versions.spool_samples import hash64
from curation.versions.statistics import StatisticsCounter, count_reasons, count_sample
from curation.versions.tables import VersionContents
from data_manifests.absence import TracePatterns, rows_with
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
    """What to take from a version.

    Attributes:
        rows: Rows of its index, in the new order.
        shard_bytes: Target size of a shard.
        replaced: New JSON of samples, by row of the old index.
        redacted: Uids and names that must not be in any list.
        needles: What no text in a list may have; None for no restriction.
        num_forgotten: Samples left out because they were forgotten: counted, not listed; 0 if they were not selected.
        with_blind_accuracy: Whether to measure the blind accuracy again if samples are left out; otherwise there is none.
        lost_fits: Hashes of fits that are not copied.
    """

    rows: Int64Array
    shard_bytes: int
    replaced: Mapping[int, dict[str, Any]] = field(default_factory=dict)
    redacted: frozenset[str] = frozenset()
    needles: TracePatterns | None = None
    num_forgotten: int = 0
    with_blind_accuracy: bool = True
    lost_fits: frozenset[str] = frozenset()

    def is_unwanted(self, text: str) -> bool:
        """Return whether a text in a list has something that must not be in any list."""
        mentions = self.needles is not None and self.needles.are_in(text.encode())
        return mentions or any(word in text for word in self.redacted)


def write_repacked(
    folder: Path, old: DatasetVersion, plan: RepackPlan, progress: Callable[[int], None] | None = None
) -> VersionContents:
    """Write a version's files into an empty folder; in memory are the index and the tables of one old or new shard.

    Args:
        folder: An empty folder that is not published yet.
        old: The version to take from.
        plan: What to take.
        progress: Called with the number of samples written so far.

    Raises:
        InputError: the old version's files do not match its index.
    """
    index = old.index()
    ranges = SampleRanges.of(index, old.ref).take(plan.rows)
    bounds = split_into_shards(ranges.length.tolist(), plan.shard_bytes)
    replaced = {position: plan.replaced[row] for position, row in enumerate(plan.rows.tolist()) if row in plan.replaced}
    taken = index.take(plan.rows)
    builder = _IndexBuilder(taken)
    contents = VersionContents(folder, list(old.manifest.body["fields"]))
    spool = spool_sidecars(folder, old, index, plan.rows, bounds)
    counter, pairs = StatisticsCounter(), PairSample() if plan.with_blind_accuracy else None
    changed = len(plan.rows) < index.num_rows or bool(replaced)
    with_negatives = any(record["name"] == "negatives" for record in contents.fields)
    for number, (first, end) in enumerate(bounds):
        new_json = {position - first: replaced[position] for position in range(first, end) if position in replaced}
        part = ranges.take(np.arange(first, end))
        shard, starts, sizes = copy_shard(old.folder, folder, number, part, new_json)
        builder.add_shard(first, number, part, starts, sizes)
        sidecar = take_sidecar(spool / f"{number}.arrow", number, new_json)
        contents.add_shard(number, shard, sidecar)
        (spool / f"{number}.arrow").unlink()
        if changed:
            rows, sizes_of_images = taken.slice(first, end - first), builder.image_bytes[first:end]
            _count_samples(counter, pairs, sidecar, rows, sizes_of_images, with_negatives=with_negatives)
        if progress:
            progress(end)
    spool.rmdir()
    builder.update_fields(replaced, contents.fields)
    contents.add_index(builder.table())
    _write_lists(contents, old, index, plan)
    for record in old.manifest.body["stages"]:
        fit = record.get("fit", {"file": ""})
        if fit["file"] and fit["hash"] not in plan.lost_fits:
            contents.add_copy(old.folder / fit["file"], fit["file"])
    accuracy = pairs.accuracy() if pairs is not None and counter.has_enough_pairs else None
    _add_statistics(contents, old, plan, counter if changed else None, accuracy)
    return contents


class _IndexBuilder:
    """Builds the new index.parquet from the taken rows of the old one."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._keys: list[str] = [""] * table.num_rows
        self._shards = np.zeros(table.num_rows, np.int32)
        self._offsets = np.zeros((table.num_rows, len(MEMBERS)), np.int64)
        self._sizes = np.stack([table[f"{name}_bytes"].to_numpy() for name in MEMBERS], axis=1).astype(np.int64)
        self.image_bytes: Int64Array = self._sizes[:, 0]
        self._values: dict[str, list[Any]] = {}

    def add_shard(self, first: int, shard: int, part: SampleRanges, starts: Int64Array, sizes: Int64Array) -> None:
        """Set the positions of a shard's samples, as `copy_shard` returned them."""
        rows = slice(first, first + len(starts))
        self._keys[rows] = [sample_key(shard, position) for position in range(len(starts))]
        self._shards[rows] = shard
        self._offsets[rows] = starts[:, None] + part.offsets
        for row in np.flatnonzero(sizes[:, 0] >= 0).tolist():
            self._sizes[first + row] = sizes[row]
            lengths = padded(sizes[row]) + 512
            self._offsets[first + row] = starts[row] + 512 + np.concatenate([[0], np.cumsum(lengths[:-1])])

    def update_fields(self, replaced: Mapping[int, Mapping[str, Any]], fields: Sequence[Mapping[str, str]]) -> None:
        """Compute hashes and numbers of samples with new JSON again."""
        names = dict.fromkeys(["negatives", "views", *(item["name"] for item in fields if item["where"] != "index")])
        for name in names if replaced else ():
            for column, compute in ((f"h_{name}", lambda value: hash64(canonical(value))), (f"num_{name}", len)):
                if column in self._table.column_names:
                    values = self._table[column].to_pylist()
                    values_of_new = {row: compute(json[name]) for row, json in replaced.items() if name in json}
                    self._values[column] = [values_of_new.get(row, value) for row, value in enumerate(values)]

    def table(self) -> pa.Table:
        """Return the table."""
        import pyarrow as pa

        new: dict[str, Any] = {"shard": self._shards, "key": self._keys, **self._values}
        for number, name in enumerate(MEMBERS):
            new |= {f"{name}_offset": self._offsets[:, number], f"{name}_bytes": self._sizes[:, number]}
        columns = {
            column.name: pa.array(new[column.name], column.type)
            if column.name in new
            else self._table[column.name].combine_chunks()
            for column in self._table.schema
        }
        return pa.table(columns)


def _count_samples(
    counter: StatisticsCounter,
    pairs: PairSample | None,
    sidecar: pa.Table,
    index: pa.Table,
    image_bytes: Int64Array,
    *,
    with_negatives: bool,
) -> None:
    """Count a shard's samples as `publish` does.

    Args:
        counter: Gets their counts.
        pairs: Gets their negatives.
        sidecar: The shard's sidecar.
        index: Their rows of the index.
        image_bytes: Sizes of their images.
        with_negatives: Whether stages made negatives; what became of each candidate is recorded for no sample alone.
    """
    optional = [name for name in ("negatives", "views") if name in sidecar.column_names]
    counted = index.select([name for name in ("cluster_id", "shown_differently") if name in index.column_names])
    table = sidecar.select(["uid", "name", "captions", "split", *optional])
    for row, columns, size in zip(table.to_pylist(), counted.to_pylist(), image_bytes.tolist(), strict=True):
        sample = Sample(row["uid"], row["name"], ImageRef("", 0, size), tuple(row["captions"]), row["split"])
        negatives = row.get("negatives") or []
        counter.add(
            count_sample(sample, columns, negatives, row.get("views") or [], generators=() if with_negatives else None)
        )
        if pairs is not None:
            pairs.add(sample.uid, sample.captions, negatives)


def _write_lists(contents: VersionContents, old: DatasetVersion, index: pa.Table, plan: RepackPlan) -> None:
    """Write the lists of drops and of rejected texts; they are copied if everything is kept."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lists = [name for name in ("dropped.parquet", "rejected.parquet") if (old.folder / name).is_file()]
    if len(plan.rows) == index.num_rows and not plan.redacted:
        for name in lists:
            shutil.copyfile(old.folder / name, contents.folder / name)
            contents.add_file(name)
        return
    dropped = old.table("dropped.parquet")
    rows = [row for row in dropped.to_pylist() if row["uid"] not in plan.redacted]
    for row in rows:
        row["name"] = "" if row["name"] in plan.redacted else row["name"]
        row["detail"] = "" if plan.is_unwanted(row["detail"]) else row["detail"]
    if not plan.num_forgotten:
        rows += _not_selected(old, index, plan.rows)
    rows.sort(key=lambda row: tuple(row[name] for name in dropped.column_names))
    contents.add_table("dropped.parquet", pa.Table.from_pylist(rows, schema=dropped.schema))
    if "rejected.parquet" in lists:
        kept = pa.array(index["uid"].take(plan.rows).to_pylist(), pa.string())
        table = old.table("rejected.parquet")
        table = table.filter(pc.is_in(table["uid"], value_set=kept))
        if plan.needles is not None:
            clean = np.ones(table.num_rows, dtype=bool)
            clean[list(rows_with(table, plan.needles))] = False
            table = table.filter(pa.array(clean))
        contents.add_table("rejected.parquet", table.combine_chunks())


def _not_selected(old: DatasetVersion, index: pa.Table, rows: Int64Array) -> list[dict[str, str]]:
    """Return the drops of samples that are not taken."""
    left_out = np.ones(index.num_rows, dtype=bool)
    left_out[rows] = False
    shard, drops = index["shard"].to_numpy(), []
    stage, reason = NOT_SELECTED
    for number in np.unique(shard[left_out]).tolist():
        table = old.sidecar(number, ["uid", "name"]).filter(left_out[shard == number])
        drops += [{**row, "stage": stage, "reason": reason, "detail": ""} for row in table.to_pylist()]
    return drops


def _add_statistics(
    contents: VersionContents,
    old: DatasetVersion,
    plan: RepackPlan,
    counter: StatisticsCounter | None,
    blind_accuracy: Mapping[str, Any] | None,
) -> None:
    """Set counts and statistics: the old version's, or new ones if samples changed."""
    body = old.manifest.body
    contents.counts = {"views": 0, "rejected": {}} | body["counts"]
    contents.statistics = {"views": {}, "usage": {}} | body["statistics"]
    if counter is None:
        return
    dropped = _read_reasons(contents.folder / "dropped.parquet")
    # forgotten samples are not listed, so their number is carried from version to version
    if num_forgotten := body["counts"]["dropped"].get("forget", {}).get("forgotten", 0) + plan.num_forgotten:
        dropped["forget"] = {"forgotten": num_forgotten}
    rejected: dict[str, dict[str, int]] = {stage: {} for stage in contents.counts["rejected"]}
    rejected |= _read_reasons(contents.folder / "rejected.parquet")
    contents.counts |= counter.text_counts() | {"dropped": dropped, "rejected": rejected}
    # usage is not recorded per sample, so the parent's sum stays; findings such as thresholds stay too, because the
    # fields of the remaining samples were computed with them
    statistics = counter.statistics(blind_accuracy)
    findings = {
        name: value for name, value in body["statistics"].get("quality", {}).items() if name != "blind_accuracy"
    }
    statistics |= {"usage": contents.statistics["usage"], "quality": findings | statistics["quality"]}
    contents.statistics |= statistics


def _read_reasons(path: Path) -> dict[str, dict[str, int]]:
    """Return stage -> reason -> number of rows of a list; empty if there is no such file."""
    import pyarrow.parquet as pq

    if not path.is_file():
        return {}
    table = pq.read_table(path, columns=["stage", "reason"])
    return count_reasons(zip(table["stage"].to_pylist(), table["reason"].to_pylist(), strict=True))
