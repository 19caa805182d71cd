"""Duplicate images: candidates by hash and by embedding, each confirmed by a check of the pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curation.dedup.hash_search import near_pairs
from curation.dedup.perceptual_hash import GRID, MIRROR, NUM_WINDOWS
from curation.dedup.pixel_check import agreements
from curation.engine.stage import Columns, PreviousIndex
from curation.vectors.index import VectorIndex, build_index, compares_every_pair
from curation.vectors.nearest_lists import NearestLists, nearest_lists, updated_lists
from curation.vectors.rows import Positions, blocks

_EXACT_BELOW = 50_000
"""Fewer vectors are searched exhaustively, more with an inverted-file index."""

_TARGET_RECALL = 0.97

TRAIN_SPLITS = (None, "train")
"""Splits of samples that are trained on; samples of the others are never dropped."""

_DECIMALS = 4
_SIMILARITY_UNIT = 10**6
_AGREEMENT_UNIT = 1000
_NO_BITS = -1
_NO_SIMILARITY = -2 * _SIMILARITY_UNIT
_IMAGES_AT_ONCE = 4_096

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class ImageSignatures:
    """What images are compared by, sorted by uid.

    Attributes:
        uids: Identities [n].
        windows: Hashes of each image's windows as hex, ``""`` for a flat image [n].
        thumbnails: Grey, [n, grid, grid].
        embeddings: Unit vectors [n, d], or None to use hashes only.
    """

    uids: Sequence[str]
    windows: Sequence[str]
    thumbnails: NDArray[Any]
    embeddings: NDArray[Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Detectors:
    """How candidates are found and confirmed: settings of the stages that compare images.

    Attributes:
        radius: Maximum number of the 64 bits in which the hashes of a window and an image differ.
        neighbours: Number of nearest neighbours by embedding that are candidates; 0 uses hashes only.
        closest: Number of closest pairs by embedding that are candidates, as a share of the number of images.
        least_agreement: Minimum correlation of the fine structure of duplicates.
        similarity_alone: Cosine of embeddings from which pixels are not checked; None checks all candidates.
    """

    radius: int = 9
    neighbours: int = 5
    closest: float = 1.0
    least_agreement: float = 0.7
    similarity_alone: float | None = None


@dataclass(frozen=True)
class Match:
    """Two duplicate images, and the evidence.

    Attributes:
        left: Position among the first images.
        right: Position among the second; after `left` when both are the same set.
        bits: Hamming distance of the hashes, or None if they are not near.
        similarity: Cosine of the embeddings, or None if they are not near or missing.
        agreement: Correlation of the fine structure.
    """

    left: int
    right: int
    bits: int | None
    similarity: float | None
    agreement: float

    def evidence(self) -> dict[str, Any]:
        """Return what matched, as JSON values."""
        by = (["hash"] if self.bits is not None else []) + (["embedding"] if self.similarity is not None else [])
        return {"by": by, "bits": self.bits, "similarity": self.similarity, "agreement": self.agreement}


def describe_evidence(evidence: Mapping[str, Any]) -> str:
    """Return in words what matched, for the detail of a drop."""
    parts = [f"by {' and '.join(evidence['by']) or 'embedding'}"]
    parts += [f"{evidence['bits']} of 64 bits differ"] if evidence["bits"] is not None else []
    parts += [f"cosine {evidence['similarity']:.4f}"] if evidence["similarity"] is not None else []
    parts += [f"{evidence['captions']:.0%} of captions"] if evidence.get("captions") is not None else []
    return ", ".join([*parts, f"agreement {evidence['agreement']:.3f}"])


class Earlier(NamedTuple):
    """Earlier candidates, and the row now of each image they were found among; -1 if it is gone or has changed."""

    candidates: Candidates
    row_now: Positions

    @classmethod
    def of(cls, before: PreviousIndex | None, most: int, prefix: str = "") -> Earlier | None:
        """Read them from an earlier state; `most` is the number of neighbours."""
        return cls(Candidates.load(before.state.arrays, most, prefix), before.row_now) if before else None


@dataclass(frozen=True)
class Candidates:
    """Candidate pairs, sorted, with their evidence, and what an update needs.

    Attributes:
        left: Positions [m].
        right: Positions [m]; after `left` when both are of the same set.
        bits: Hamming distances, -1 where hashes are not near [m].
        similarity: Cosines in millionths, -2,000,000 for pairs that are not among the closest [m].
        agreement: Correlations of fine structure in thousandths [m].
        near: Nearest neighbours of each image by embedding, none without embeddings.
        is_first: Whether an image is the first with its hash [n]; none are between two sets.
    """

    left: Positions
    right: Positions
    bits: Positions
    similarity: Positions
    agreement: Positions
    near: NearestLists
    is_first: BoolArray

    def matches(self, detectors: Detectors) -> list[Match]:
        """Return the pairs that are duplicates, sorted."""
        cosine = np.round(self.similarity / _SIMILARITY_UNIT, _DECIMALS)
        confirmed = self.agreement >= round(detectors.least_agreement * _AGREEMENT_UNIT)
        if detectors.similarity_alone is not None:
            confirmed |= cosine >= detectors.similarity_alone
        columns = (self.left, self.right, self.bits, self.similarity, cosine, self.agreement / _AGREEMENT_UNIT)
        rows = zip(*(column[confirmed].tolist() for column in columns), strict=True)
        return [
            Match(
                left,
                right,
                None if bits == _NO_BITS else bits,
                None if similarity == _NO_SIMILARITY else rounded,
                agreement,
            )
            for left, right, bits, similarity, rounded, agreement in rows
        ]

    def arrays(self, prefix: str = "") -> dict[str, NDArray[Any]]:
        """Return the arrays of a state."""
        types = {"left": "i4", "right": "i4", "bits": "i1", "similarity": "i4", "agreement": "i2", "is_first": "u1"}
        own = {f"{prefix}{name}": getattr(self, name).astype(kind) for name, kind in types.items()}
        return own | self.near.arrays(f"{prefix}near_")

    @classmethod
    def load(cls, arrays: Mapping[str, NDArray[Any]], most: int, prefix: str = "") -> Candidates:
        """Return the candidates that `arrays` was called on; `most` is the number of neighbours."""
        names = ("left", "right", "bits", "similarity", "agreement")
        left, right, bits, similarity, agreement = (arrays[f"{prefix}{name}"].astype(np.int64) for name in names)
        near = NearestLists.load(arrays, most, f"{prefix}near_")
        is_first = arrays[f"{prefix}is_first"].astype(np.bool_)
        return cls(left, right, bits, similarity, agreement, near, is_first)


class _Found(NamedTuple):
    """Pairs and a number for each: bits, nearness or agreement."""

    left: Positions
    right: Positions
    value: Positions

    @classmethod
    def none(cls) -> _Found:
        return cls(*(np.zeros(0, np.int64) for _ in range(3)))

    def where(self, kept: BoolArray) -> _Found:
        return _Found(self.left[kept], self.right[kept], self.value[kept])

    def joined(self, other: _Found) -> _Found:
        return _Found(*(np.concatenate(both) for both in zip(self, other, strict=True)))

    def least_of_each(self, num_right: int) -> _Found:
        """Return each pair once, sorted, with its least value."""
        order = np.lexsort((self.value, self.right, self.left))
        found = _Found(*(part[order] for part in self))
        codes = found.left * num_right + found.right
        return found.where(np.append(True, codes[1:] != codes[:-1])[: len(codes)])

    def value_of(self, codes: Positions, num_right: int, absent: int) -> Positions:
        """Return the values of pairs, given as left * num_right + right; `absent` for those that are not there."""
        order = np.argsort(own := self.left * num_right + self.right)
        place = np.minimum(np.searchsorted(own[order], codes), max(0, len(own) - 1))
        values = np.full(len(codes), absent, np.int64)
        if len(own):
            there = own[order][place] == codes
            values[there] = self.value[order][place[there]]
        return values


def candidates_within(
    images: ImageSignatures,
    detectors: Detectors,
    further: Sequence[tuple[int, int]] = (),
    before: Earlier | None = None,
) -> Candidates:
    """Return the candidate pairs of one set; `before` only saves work.

    Args:
        images: The images.
        detectors: How candidates are found.
        further: Further candidates.
        before: Candidates of an earlier set.
    """
    size = len(images.uids)
    first = _first_with_hash(images.windows)
    is_first, was_first = first == np.arange(size), np.zeros(size, np.bool_)
    old = _moved(before, both=True)
    if before is not None:
        was_first[before.row_now[before.candidates.is_first & (before.row_now >= 0)]] = True
    kept = _Found(old.left, old.right, old.bits).where(
        (old.bits != _NO_BITS) & (is_first & was_first)[old.left] & (is_first & was_first)[old.right]
    )
    copies = np.flatnonzero((first >= 0) & ~is_first)
    by_hash = kept.joined(_Found(first[copies], copies, np.zeros(len(copies), np.int64)))
    by_hash = by_hash.joined(_hash_pairs_of_new(images.windows, is_first, was_first, detectors.radius))

    near, closest = NearestLists.empty(0, detectors.neighbours), _Found.none()
    if images.embeddings is not None and detectors.neighbours:
        near = _near_within(np.asarray(images.embeddings, np.float16), detectors.neighbours, before)
        pairs = _Found(np.minimum(near.rows, near.others), np.maximum(near.rows, near.others), near.nearness)
        closest = _closest(pairs.least_of_each(size), round(detectors.closest * size), size)
    more = np.array(further, np.int64).reshape(-1, 2)
    codes = np.unique(np.concatenate([_codes(by_hash, size), _codes(closest, size), more[:, 0] * size + more[:, 1]]))
    agreement = _agreements(codes, old, images.thumbnails, lambda: images.thumbnails, size)
    bits = by_hash.least_of_each(size).value_of(codes, size, _NO_BITS)
    similarity = closest.value_of(codes, size, _NO_SIMILARITY)
    return Candidates(codes // size, codes % size, bits, similarity, agreement, near, is_first)


def candidates_between(
    images: ImageSignatures,
    searched: Positions,
    other: Callable[[], ImageSignatures],
    num_others: int,
    detectors: Detectors,
    before: Earlier | None = None,
) -> Candidates:
    """Return the candidate pairs of two sets; `before` only saves work.

    Args:
        images: The first set.
        searched: Positions of those of its images that are compared.
        other: Returns the second set, which is the same as before; not called if nothing is new.
        num_others: An upper bound of its size.
        detectors: How candidates are found.
        before: Candidates of an earlier first set.
    """
    size, old = len(images.uids), _moved(before, both=False)
    is_new = np.zeros(size, np.bool_)
    is_new[searched] = True
    near = NearestLists.empty(size, detectors.neighbours)
    if before is not None:
        is_new[before.row_now[before.row_now >= 0]] = False
        near = _with_rows(before.candidates.near, before.row_now, size)
    new = np.flatnonzero(is_new)
    by_hash = _Found(old.left, old.right, old.bits).where(old.bits != _NO_BITS)
    if len(new):
        by_hash = by_hash.joined(_hash_pairs_between(images, new, other(), detectors.radius))
        near = near.adding(_near_between(images, new, other(), detectors.neighbours))
    pairs = _Found(near.rows, near.others, near.nearness)
    closest = _closest(pairs, round(detectors.closest * len(searched)), num_others)
    codes = np.unique(np.concatenate([_codes(by_hash, num_others), _codes(closest, num_others)]))
    agreement = _agreements(codes, old, images.thumbnails, lambda: other().thumbnails, num_others)
    bits = by_hash.least_of_each(num_others).value_of(codes, num_others, _NO_BITS)
    similarity = closest.value_of(codes, num_others, _NO_SIMILARITY)
    none = np.zeros(0, np.bool_)
    return Candidates(codes // num_others, codes % num_others, bits, similarity, agreement, near, none)


def stacked_thumbnails(columns: Columns) -> NDArray[np.float16]:
    """Return the thumbnails of all samples, memory-mapped [n, grid, grid]."""
    rows, _ = columns.vector_lists("thumbnail")
    return rows.reshape(-1, GRID, GRID)


def _codes(found: _Found, num_right: int) -> Positions:
    return found.left * num_right + found.right


def _moved(before: Earlier | None, *, both: bool) -> Candidates:
    """Return the earlier pairs of images that are still there, by their rows now; `both` sides have rows."""
    if before is None:
        none = np.zeros(0, np.int64)
        return Candidates(none, none, none, none, none, NearestLists.empty(0, 0), np.zeros(0, np.bool_))
    found, row_now = before
    left, right = row_now[found.left], row_now[found.right] if both else found.right
    kept = (left >= 0) & (right >= 0)
    bits, similarity, agreement = (column[kept] for column in (found.bits, found.similarity, found.agreement))
    return Candidates(left[kept], right[kept], bits, similarity, agreement, found.near, found.is_first)


def _agreements(
    codes: Positions,
    known: Candidates,
    left: NDArray[Any],
    right: Callable[[], NDArray[Any]],
    num_right: int,
) -> Positions:
    """Return the agreement of pairs, given as left * num_right + right, in thousandths; known ones are looked up."""
    unknown = -2 * _AGREEMENT_UNIT
    found = _Found(known.left, known.right, known.agreement).value_of(codes, num_right, unknown)
    missing = np.flatnonzero(found == unknown)
    if len(missing):
        pairs = np.stack([codes[missing] // num_right, codes[missing] % num_right], axis=1)
        found[missing] = np.rint(agreements(left, right(), pairs) * _AGREEMENT_UNIT).astype(np.int64)
    return found


def _first_with_hash(windows: Sequence[str]) -> Positions:
    """Return for each image the first one with the same hashes, or -1 if it is flat [n]."""
    first: dict[str, int] = {}
    return np.array([first.setdefault(text, row) if text else -1 for row, text in enumerate(windows)], np.int64)


def _hashes(windows: Sequence[str], rows: Positions) -> NDArray[np.uint64]:
    """Return the hashes of some images that are not flat [rows, windows]."""
    packed = b"".join(bytes.fromhex(windows[row]) for row in rows.tolist())
    return np.frombuffer(packed, dtype=">u8").astype(np.uint64).reshape(len(rows), NUM_WINDOWS)


def _hash_pairs_of_new(windows: Sequence[str], is_first: BoolArray, was_first: BoolArray, radius: int) -> _Found:
    """Return the pairs in which one image is near a window of the other, mirrored or not, and one was no first before.

    Of images with identical hashes, such as a site's placeholder, only the first is searched for.
    """
    firsts = np.flatnonzero(is_first)
    hashes, is_new = _hashes(windows, firsts), ~was_first[firsts]
    new, old = np.flatnonzero(is_new), np.flatnonzero(~is_new)
    one, two, bits = _near_windows(hashes[new], hashes[:, 0], radius)
    found = _Found(firsts[new[one]], firsts[two], bits)
    one, two, bits = _near_windows(hashes[old], hashes[new, 0], radius)
    found = found.joined(_Found(firsts[old[one]], firsts[new[two]], bits))
    ordered = _Found(np.minimum(found.left, found.right), np.maximum(found.left, found.right), found.value)
    return ordered.where(ordered.left != ordered.right)


def _hash_pairs_between(images: ImageSignatures, rows: Positions, other: ImageSignatures, radius: int) -> _Found:
    """Return the pairs of some images and the first with each hash of the other set, as `_hash_pairs_of_new` does."""
    rows = rows[[bool(images.windows[row]) for row in rows.tolist()]]
    first = _first_with_hash(other.windows)
    there = np.flatnonzero(first == np.arange(len(first)))
    hashes, known = _hashes(images.windows, rows), _hashes(other.windows, there)
    one, two, bits = _near_windows(hashes, known[:, 0], radius)
    found = _Found(rows[one], there[two], bits)
    two, one, bits = _near_windows(known, hashes[:, 0], radius)
    return found.joined(_Found(rows[one], there[two], bits))


def _near_windows(queries: NDArray[np.uint64], known: NDArray[np.uint64], radius: int) -> _Found:
    """Return rows of images' windows [q, windows], positions of hashes near one of them or its mirror image, distances."""
    found = _Found.none()
    for part in blocks(len(queries), _IMAGES_AT_ONCE):
        own = queries[part]
        windows = np.concatenate([own.ravel(), own.ravel() ^ np.uint64(MIRROR)])
        window, image, bits = near_pairs(windows, np.ascontiguousarray(known), radius)
        rows = (window // NUM_WINDOWS) % len(own) + part.start
        found = found.joined(_Found(rows, image, bits.astype(np.int64)).least_of_each(max(1, len(known))))
    return found


def _near_within(vectors: NDArray[np.float16], most: int, before: Earlier | None) -> NearestLists:
    sizes = (len(vectors), *([len(before.row_now)] if before else []))
    if before and all(compares_every_pair(size, _EXACT_BELOW) for size in sizes):
        return updated_lists(vectors, before.candidates.near, before.row_now)
    return nearest_lists(_index(vectors), most)


def _index(vectors: NDArray[np.float16]) -> VectorIndex:
    return build_index(vectors, exact_below=_EXACT_BELOW, seed=0, target_recall=_TARGET_RECALL)


def _near_between(
    images: ImageSignatures, rows: Positions, other: ImageSignatures, most: int
) -> list[tuple[Positions, Positions, Positions]]:
    """Return entries of lists of the nearest images of the other set."""
    if images.embeddings is None or other.embeddings is None or not most or not other.uids:
        return []
    index = _index(np.asarray(other.embeddings, np.float16))
    similarity, others = index.search(images.embeddings[rows], min(most, len(other.uids)))
    there = others >= 0
    own = np.broadcast_to(rows[:, None], others.shape)
    return [(own[there], others[there], np.rint(similarity[there] * _SIMILARITY_UNIT).astype(np.int64))]


def _with_rows(near: NearestLists, row_now: Positions, num_rows: int) -> NearestLists:
    rows = row_now[near.rows]
    kept = rows >= 0
    return NearestLists(num_rows, near.most, rows[kept], near.others[kept], near.nearness[kept])


def _closest(pairs: _Found, number: int, num_right: int) -> _Found:
    """Return the closest pairs; their number and not a cosine bounds them, so that it does not depend on the model."""
    order = np.lexsort((_codes(pairs, num_right), -pairs.value))[:number]
    return _Found(*(part[order] for part in pairs))
