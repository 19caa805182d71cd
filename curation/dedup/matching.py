"""Duplicate images: candidates by hash and by embedding, each confirmed by a check of the pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.dedup.hash_search import near_pairs
from curation.dedup.perceptual_hash import MIRROR, NUM_WINDOWS
from curation.dedup.pixel_check import agreement

_MAX_EXACT = 50_000
"""Up to this many vectors are searched exhaustively, more with an inverted-file index."""

TRAIN_SPLITS = (None, "train")
"""Splits of samples that are trained on; samples of the others are never dropped."""

_DECIMALS = 4


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


def find_matches(
    left: ImageSignatures,
    right: ImageSignatures | None,
    detectors: Detectors,
    candidates: Iterable[tuple[int, int]] = (),
) -> list[Match]:
    """Return the duplicate pairs, sorted: between two sets of images, or within one if `right` is None.

    Args:
        left: The first set.
        right: The second set, or None for pairs within the first.
        detectors: How candidates are found and confirmed.
        candidates: Further candidates.
    """
    other = left if right is None else right
    bits = _by_hash(left, right, detectors.radius)
    similar = _by_embedding(left, right, detectors)
    found = []
    for pair in sorted({*bits, *similar, *candidates}):
        score = agreement(left.thumbnails[pair[0]], other.thumbnails[pair[1]])
        unchecked = detectors.similarity_alone is not None and similar.get(pair, -1.0) >= detectors.similarity_alone
        if score >= detectors.least_agreement or unchecked:
            found.append(Match(*pair, bits.get(pair), similar.get(pair), score))
    return found


def _by_hash(left: ImageSignatures, right: ImageSignatures | None, radius: int) -> dict[tuple[int, int], int]:
    """Return the Hamming distances of pairs in which one image is near a window of the other, mirrored or not.

    Of images with identical hashes, such as a site's placeholder, only the first is searched for; its matches are
    matches of the others too.
    """
    hashes, owners, same_hashes = _distinct_hashes(left)
    other_hashes, other_owners, _ = (hashes, owners, same_hashes) if right is None else _distinct_hashes(right)
    best: dict[tuple[int, int], int] = {}
    searches = [(hashes, owners, other_hashes, other_owners, False)]
    if right is not None:
        searches.append((other_hashes, other_owners, hashes, owners, True))
    for query, query_owners, known, known_owners, swapped in searches:
        windows = np.concatenate([query.ravel(), query.ravel() ^ np.uint64(MIRROR)])
        for window, image, bits in zip(*near_pairs(windows, known[:, 0].copy(), radius), strict=True):
            one, two = int(query_owners[(window // NUM_WINDOWS) % len(query_owners)]), int(known_owners[image])
            if right is None and one == two:
                continue
            pair = (two, one) if swapped or (right is None and two < one) else (one, two)
            best[pair] = min(int(bits), best.get(pair, 64))
    if right is None:
        return best | {(one, other): 0 for one, others in same_hashes.items() for other in others}
    return best | {(other, two): bits for (one, two), bits in best.items() for other in same_hashes[one]}


def _distinct_hashes(images: ImageSignatures) -> tuple[NDArray[Any], NDArray[Any], dict[int, list[int]]]:
    """Return the distinct window hashes of images that are not flat.

    Returns:
        Hashes [m, windows], position of the first image with each [m], and the positions of the others by the first.
    """
    others: dict[int, list[int]] = {}
    first: dict[str, int] = {}
    for position, text in enumerate(images.windows):
        if text and text in first:
            others[first[text]].append(position)
        elif text:
            first[text] = position
            others[position] = []
    packed = b"".join(bytes.fromhex(text) for text in first)
    hashes = np.frombuffer(packed, dtype=">u8").astype(np.uint64).reshape(len(first), NUM_WINDOWS)
    return hashes, np.array(list(first.values()), dtype=np.int64), others


def _by_embedding(
    left: ImageSignatures, right: ImageSignatures | None, detectors: Detectors
) -> dict[tuple[int, int], float]:
    """Return the cosines of the closest pairs of neighbours.

    Their number is set by `closest`, not by a cosine, so that it does not depend on the model.
    """
    other = left if right is None else right
    if left.embeddings is None or other.embeddings is None or not len(other.uids) or not detectors.neighbours:
        return {}
    positions, cosines = nearest(left.embeddings, other.embeddings, detectors.neighbours + (right is None))
    best: dict[tuple[int, int], float] = {}
    for one, (row, values) in enumerate(zip(positions.tolist(), cosines.tolist(), strict=True)):
        for two, cosine in zip(row, values, strict=True):
            if two < 0 or (right is None and one == two):
                continue
            pair = (min(one, two), max(one, two)) if right is None else (one, two)
            best[pair] = max(round(cosine, _DECIMALS), best.get(pair, -1.0))
    ranked = sorted(best.items(), key=lambda item: (-item[1], item[0]))
    return dict(ranked[: round(detectors.closest * len(left.uids))])


def nearest(queries: NDArray[Any], known: NDArray[Any], count: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return positions and cosines [q, count] of the nearest unit vectors; exact up to 50,000 of them."""
    import faiss

    faiss.omp_set_num_threads(1)
    vectors = np.ascontiguousarray(known, dtype=np.float32)
    flat = faiss.IndexFlatIP(vectors.shape[1])
    index: Any = flat
    if len(vectors) > _MAX_EXACT:
        lists = round(len(vectors) ** 0.5)
        index = faiss.IndexIVFFlat(flat, vectors.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
        index.nprobe = 16
        index.train(vectors[:: max(1, len(vectors) // (64 * lists))])
    index.add(vectors)
    cosines, positions = index.search(np.ascontiguousarray(queries, dtype=np.float32), min(count, len(vectors)))
    return positions, cosines
