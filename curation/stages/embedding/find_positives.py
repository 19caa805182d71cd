"""Find the samples of a cluster that are too alike to be negatives of each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from curation.engine.fits import Fit
from curation.engine.stage import Columns, Drop, Field, IndexedStage, PreviousIndex
from curation.vectors.nearest_lists import NearestLists
from curation.vectors.rows import Positions, blocks, members_by_cluster, one_thread
from data_manifests.errors import InputError
from data_manifests.seeds import canonical

_RULES = ("t2i", "i2i", "t2t")
_UNIT = 10_000
"""Cosines are whole numbers of this part, as thresholds have four decimals."""

_SAMPLES_AT_ONCE = 256


@dataclass(frozen=True)
class FindPositives(IndexedStage):
    """For each sample, the samples of its cluster that are a sure positive of it, by `calibrate_positives`' thresholds.

    A pair is one if for any of their captions text-image similarity is above p1, or image-image above p2 and text-image
    above the weaker p1', or text-text above p3. Provides ``likely_positives``, as JSON text, the most similar first:
    ``{"by", "similarity", "uid"}``, where ``by`` is the first of these rules that the pair passes.

    The state has each sample's list. A new or edited sample is compared with its cluster; a list that was full and lost
    a sample is made again.

    Attributes:
        max_listed: Likely positives listed for a sample, 0 or more.

    Raises:
        InputError: `max_listed` is negative; in `update`, an embedding without direction.

    Source: Bulat et al. 2024 (FFF), assignment of positives, arXiv 2405.10286.
    Differs: FFF assigns positives within a batch; here also offline, within a cluster, so that a person sees them.
    """

    name: ClassVar[str] = "find_positives"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = (
        "uid",
        "image_embedding",
        "text_embeddings",
        "cluster_id",
        "positive_thresholds",
    )
    provides: ClassVar[tuple[Field, ...]] = (Field("likely_positives", publish="sample"),)
    source: ClassVar[str] = "Bulat et al. 2024 (FFF), arXiv 2405.10286"

    max_listed: int = 16

    def __post_init__(self) -> None:
        self.check_least(max_listed=0)

    def update(self, columns: Columns, before: PreviousIndex | None) -> Fit:
        """Return the state: the lists."""
        embedded = _Clusters.of(columns)
        lists = NearestLists.empty(columns.num_samples, self.max_listed)
        is_new = asked = np.ones(columns.num_samples, np.bool_)
        if before is not None:
            old = NearestLists.load(before.state.arrays, self.max_listed)
            lists, is_new, lacks = old.moved(before.row_now, columns.num_samples)
            asked = is_new | lacks
        with one_thread():
            found = [
                part
                for members in embedded.members
                for rows in _chunks(members[asked[members]])
                for part in self._of_rows(embedded, rows, members, asked, is_new)
            ]
        return Fit(arrays=lists.without(asked).adding(found).arrays())

    def _of_rows(
        self,
        embedded: _Clusters,
        rows: Positions,
        members: Positions,
        asked: NDArray[np.bool_],
        is_new: NDArray[np.bool_],
    ) -> Iterator[tuple[Positions, Positions, Positions]]:
        """Yield entries of the lists of some rows, and those that new ones among them are in the lists of others."""
        pairs = [embedded.positives(rows, others) for others in _chunks(members)]
        size = len(asked)
        own = NearestLists.of(size, self.max_listed, pairs)
        yield own.rows, own.others, own.nearness
        for one, other, nearness in pairs:
            mirrored = is_new[one] & ~asked[other]
            yield other[mirrored], one[mirrored], nearness[mirrored]

    def results(self, columns: Columns, state: Fit) -> Iterator[dict[str, Any] | Drop]:
        """Yield ``likely_positives`` of each sample."""
        for found in NearestLists.load(state.arrays, self.max_listed).by_row():
            listed = [
                {"uid": columns.uids[other], "by": _RULES[-1 - rank], "similarity": similarity / _UNIT}
                for other, (similarity, rank) in ((other, divmod(code, len(_RULES))) for other, code in found)
            ]
            yield {"likely_positives": canonical(listed).decode()}


@dataclass(frozen=True)
class _Clusters:
    """Embeddings [n, d] and [sum of captions, d], where each sample's captions start, members of clusters, thresholds."""

    uids: Sequence[str]
    images: NDArray[np.float16]
    texts: NDArray[np.float16]
    starts: Positions
    members: Sequence[Positions]
    thresholds: Mapping[str, int]

    @classmethod
    def of(cls, columns: Columns) -> _Clusters:
        clusters, thresholds = list[int](), dict[str, float]()
        for samples in columns.batches("cluster_id", "positive_thresholds"):
            clusters += [sample["cluster_id"] for sample in samples]
            thresholds = samples[0]["positive_thresholds"]["sure"]
        labels, found = np.unique(np.array(clusters, np.int64), return_inverse=True)
        order, starts = members_by_cluster(found, len(labels))
        members = [order[first:last] for first, last in pairwise(starts)]
        limits = {name: round(value * _UNIT) for name, value in thresholds.items()}
        texts = columns.vector_lists("text_embeddings")
        return cls(columns.uids, columns.vectors("image_embedding"), *texts, members, limits)

    def positives(self, rows: Positions, others: Positions) -> tuple[Positions, Positions, Positions]:
        """Return (row, other, code) of the pairs that pass; a higher code is more alike, then by an earlier rule."""
        images, near = self._directions(rows), self._directions(others)
        texts, owned = self._captions(rows)
        near_texts, near_owned = self._captions(others)
        t2i = np.maximum(
            _best(_cosines(images, near_texts), near_owned, axis=1), _best(_cosines(texts, near), owned, axis=0)
        )
        t2t = _best(_best(_cosines(texts, near_texts), near_owned, axis=1), owned, axis=0)
        i2i = _cosines(images, near)
        rules = np.stack(
            [
                t2i > self.thresholds["t2i"],
                (i2i > self.thresholds["i2i"]) & (t2i > self.thresholds["t2i_weak"]),
                t2t > self.thresholds["t2t"],
            ]
        )
        row, other = np.nonzero(rules.any(axis=0) & (rows[:, None] != others[None, :]))
        by = rules.argmax(axis=0)[row, other]
        similarity = np.stack([t2i, i2i, t2t])[by, row, other]
        return rows[row], others[other], similarity * len(_RULES) + (len(_RULES) - 1 - by)

    def _directions(self, rows: Positions) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return _with_norms(self.images[rows], rows, self.uids)

    def _captions(self, rows: Positions) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], Positions]:
        """Return the captions of some samples with their norms, and how many each sample has."""
        counts = self.starts[rows + 1] - self.starts[rows]
        owned = np.repeat(self.starts[rows] - np.cumsum(counts) + counts, counts) + np.arange(int(counts.sum()))
        return _with_norms(self.texts[owned], np.repeat(rows, counts), self.uids), counts


def _chunks(positions: Positions) -> Iterator[Positions]:
    return (positions[part] for part in blocks(len(positions), _SAMPLES_AT_ONCE))


def _with_norms(
    vectors: NDArray[np.float16], owners: Positions, uids: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    exact = vectors.astype(np.float64)
    norms = np.sqrt((exact * exact).sum(axis=1))
    bad = ~np.isfinite(norms) | (norms == 0)
    if bad.any():
        raise InputError(
            f"find_positives: an embedding of sample {uids[owners[np.flatnonzero(bad)[0]]]} has no direction",
            allowed="finite numbers, not all 0",
            fix="check the model: it embeds this sample as zeros or not-a-number",
        )
    return exact, norms


def _cosines(
    left: tuple[NDArray[np.float64], NDArray[np.float64]], right: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> Positions:
    """Return cosines in whole parts of `_UNIT` [l, r], whatever the shapes: float64 adds products of float16 exactly."""
    return np.rint(left[0] @ right[0].T / (left[1][:, None] * right[1]) * _UNIT).astype(np.int64)


def _best(values: Positions, counts: Positions, axis: int) -> Positions:
    """Return the largest of each sample's values along an axis, whose entries are sorted by sample."""
    best: Positions = np.maximum.reduceat(values, np.cumsum(counts) - counts, axis=axis)
    return best
