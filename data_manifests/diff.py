"""Differences of two dataset versions: samples, words, negatives, clusters, difficulty, statistics, stages.

The two indexes are joined on uid and compared by their content columns (``h_*``, 64 bits of each field); only samples
that differ are read. So a diff of a million samples of which few changed takes seconds.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from data_manifests.drift import (
    DistributionShift,
    StageChange,
    ValueChange,
    changed_distributions,
    changed_numbers,
    changed_settings,
    changed_stages,
    differences,
)
from data_manifests.index_diff import PLACE, ClusterDiff, IndexDiff, NumberShift, compare_indexes
from data_manifests.manifest import DatasetVersion
from data_manifests.sidecar_diff import NegativeCount, Payload, count_negatives, read_payloads
from data_manifests.text_diff import (
    VIEW_KIND,
    CaptionChange,
    DifficultyChange,
    TextChange,
    diff_captions,
    diff_difficulties,
    diff_records,
)

if TYPE_CHECKING:
    import polars as pl

MAX_DETAILS = 1000


@dataclass(frozen=True, slots=True)
class SampleRef:
    """A sample with its name and caption.

    Attributes:
        uid: Its identity.
        name: Its name in the source.
        caption: Its first caption.
    """

    uid: str
    name: str
    caption: str


@dataclass(frozen=True, slots=True)
class SampleDiff:
    """A sample of both versions whose content differs.

    Attributes:
        uid: Its identity.
        name: Its name in the source of the new version.
        fields: Names of the fields that differ.
        captions: Captions that differ, word by word.
        negatives: Negatives that differ, word by word.
        regraded: Negatives whose difficulty differs and whose text does not; None if there are none.
        num_rescored: Negatives that kept both and differ in something else, such as the scores of a judge.
        views: Rewrites and knowledge captions that differ, word by word.
        values: Old and new values of other fields; arrays are only named in `fields`.
    """

    uid: str
    name: str
    fields: tuple[str, ...]
    captions: tuple[CaptionChange, ...]
    negatives: tuple[TextChange, ...]
    regraded: DifficultyChange | None
    num_rescored: int
    views: tuple[TextChange, ...]
    values: tuple[ValueChange, ...]


@dataclass(frozen=True, slots=True)
class VersionDiff:
    """All differences of two versions. Numbers are complete; lists of samples have at most `MAX_DETAILS` entries.

    Attributes:
        old: The old version, ``name@X.Y.Z``.
        new: The new version.
        num_old: Samples in the old version.
        num_new: Samples in the new version.
        num_added: Samples only in the new version.
        num_removed: Samples only in the old version.
        num_edited: Samples in both whose captions, split or attributes differ: the source was edited.
        num_followed: The other samples in both that differ: only in what stages computed, such as negatives that were
            balanced anew, or lists of neighbours.
        num_moved: Samples in both at another position in the shards.
        edited_fields: Field -> samples in which it differs, edited or not.
        added_fields: Fields that only the new version has.
        removed_fields: Fields that only the old version has.
        added: The first added samples, by uid.
        removed: The first removed samples, by uid.
        edited: The first edited samples: those with other captions first, then other negatives, then by uid.
        followed: The first of those that only followed, in the same order.
        negatives: Negatives that were added, removed and changed in samples of both versions, by operation and span class.
        clusters: How samples changed clusters; None unless both versions have clusters.
        shifts: Numbers of the index (difficulty, scores) that changed.
        numbers: Counts and statistics of the manifests that differ.
        distributions: Distributions of the manifests that differ.
        stages: Stages that were added, removed or changed.
        settings: Other differences of recipe, source and stage order.
    """

    old: str
    new: str
    num_old: int
    num_new: int
    num_added: int
    num_removed: int
    num_edited: int
    num_followed: int
    num_moved: int
    edited_fields: dict[str, int]
    added_fields: tuple[str, ...]
    removed_fields: tuple[str, ...]
    added: tuple[SampleRef, ...]
    removed: tuple[SampleRef, ...]
    edited: tuple[SampleDiff, ...]
    followed: tuple[SampleDiff, ...]
    negatives: tuple[NegativeCount, ...]
    clusters: ClusterDiff | None
    shifts: tuple[NumberShift, ...]
    numbers: tuple[ValueChange, ...]
    distributions: tuple[DistributionShift, ...]
    stages: tuple[StageChange, ...]
    settings: tuple[ValueChange, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        differing = self.num_edited or self.num_followed
        same_samples = not (self.num_added or self.num_removed or differing or self.num_moved)
        same_clusters = self.clusters is None or not self.clusters.num_moved
        fields = self.added_fields or self.removed_fields or self.shifts
        manifests = self.numbers or self.distributions or self.stages or self.settings
        return same_samples and same_clusters and not fields and not manifests

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**dataclasses.asdict(self), "is_empty": self.is_empty}


def diff_versions(old: DatasetVersion, new: DatasetVersion) -> VersionDiff:
    """Compare two versions, of one data set or of two.

    Args:
        old: The version to compare with.
        new: The version to describe.

    Raises:
        InputError: a file of a version is missing or damaged.
    """
    import polars as pl

    index = compare_indexes(old, new, MAX_DETAILS)
    bodies = old.manifest.body, new.manifest.body
    edited, followed = index.differing.filter("is_edited"), index.differing.filter(~pl.col("is_edited"))
    return VersionDiff(
        old=old.ref,
        new=new.ref,
        num_old=index.num_old,
        num_new=index.num_new,
        num_added=index.added.height,
        num_removed=index.removed.height,
        num_edited=edited.height,
        num_followed=followed.height,
        num_moved=index.num_moved,
        edited_fields=index.differing_fields,
        added_fields=index.added_fields,
        removed_fields=index.removed_fields,
        added=_refs(new, index.added),
        removed=_refs(old, index.removed),
        edited=_sample_diffs(old, new, edited, index),
        followed=_sample_diffs(old, new, followed, index),
        negatives=_negatives(old, new, index),
        clusters=index.clusters,
        shifts=index.shifts,
        numbers=changed_numbers(*bodies),
        distributions=changed_distributions(*bodies),
        stages=changed_stages(bodies[0]["stages"], bodies[1]["stages"]),
        settings=changed_settings(*bodies),
    )


def _refs(version: DatasetVersion, frame: pl.DataFrame) -> tuple[SampleRef, ...]:
    listed = frame.sort("uid").head(MAX_DETAILS)
    rows = read_payloads(version, listed)
    return tuple(SampleRef(uid, rows[uid]["name"], rows[uid]["caption"]) for uid in listed["uid"].to_list())


def _sample_diffs(
    old: DatasetVersion, new: DatasetVersion, differing: pl.DataFrame, index: IndexDiff
) -> tuple[SampleDiff, ...]:
    listed = differing.sort("rank", "uid").head(MAX_DETAILS)
    before = read_payloads(old, listed)
    after = read_payloads(new, listed.select("uid", **{name: f"{name}@new" for name in PLACE[1:]}))
    fields = list(index.differing_fields)
    return tuple(
        _sample(row["uid"], [name for name in fields if row[f"differs:{name}"]], before[row["uid"]], after[row["uid"]])
        for row in listed.iter_rows(named=True)
    )


def _sample(uid: str, fields: list[str], old: Payload, new: Payload) -> SampleDiff:
    captions, new_positions = diff_captions(old["captions"], new["captions"])
    negatives = diff_records(old["negatives"], new["negatives"], new_positions) if "negatives" in fields else ()
    grades = diff_difficulties(old["negatives"], new["negatives"]) if "negatives" in fields else (None, 0)
    views = diff_records(old["views"], new["views"], new_positions, VIEW_KIND) if "views" in fields else ()
    others = [name for name in fields if name in old and name not in ("captions", "negatives", "views")]
    values = tuple(value for name in others for value in differences(old[name], new[name], name))
    return SampleDiff(uid, new["name"], tuple(fields), captions, negatives, *grades, views, values)


def _negatives(old: DatasetVersion, new: DatasetVersion, index: IndexDiff) -> tuple[NegativeCount, ...]:
    if "negatives" not in index.differing_fields:
        return ()
    return count_negatives(old, new, index.differing.filter("differs:negatives"))
