"""Pairs of pictures that show the same: candidates by hash and by embedding, each given a second look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from curation.dedup.hash_search import near_pairs
from curation.dedup.perceptual_hash import MIRROR, NUM_WINDOWS
from curation.dedup.pixel_check import agreement

Array = np.ndarray[Any, np.dtype[Any]]

_EXACT_UP_TO = 50_000
"""Vectors that are searched one by one; more are searched in the lists nearest to each."""

_DECIMALS = 4


@dataclass(frozen=True)
class ImageSignatures:
    """ImageSignatures as the detectors see them, sorted by uid.

    Attributes:
        uids: Identities [n].
        windows: Hashes of each picture's windows as hex, ``""`` for a flat one [n].
        thumbnails: Grey, [n, grid, grid].
        embeddings: Unit vectors [n, d]; None looks at hashes alone.
    """

    uids: Sequence[str]
    windows: Sequence[str]
    thumbnails: Array
    embeddings: Array | None = None


@dataclass(frozen=True)
class Detectors:
    """How candidates are found and judged.

    Attributes:
        radius: Bits of 64 by which hashes of a window and a picture may differ.
        neighbours: Nearest pictures by embedding that are candidates; 0 uses hashes alone.
        closest: Share of the pictures: of all neighbours by embedding so many closest pairs get a second look.
        least_agreement: Correlation of the fine structure from which two pictures show the same.
        similarity_alone: Cosine of embeddings from which no second look is needed; None always looks.
    """

    radius: int = 9
    neighbours: int = 5
    closest: float = 1.0
    least_agreement: float = 0.7
    similarity_alone: float | None = None


@dataclass(frozen=True, order=True)
class Match:
    """Two pictures that show the same, and what told.

    Attributes:
        left: Position among the first pictures.
        right: Position among the second; behind `left` when both are the same pictures.
        bits: Distance of the hashes, or None if they are not near.
        similarity: Cosine of the embeddings, or None if they are not near or not there.
        agreement: What the second look found.
    """

    left: int
    right: int
    bits: int | None = field(compare=False)
    similarity: float | None = field(compare=False)
    agreement: float = field(compare=False)

    def told(self) -> dict[str, Any]:
        """Return what matched, as JSON values."""
        by = (["hash"] if self.bits is not None else []) + (["embedding"] if self.similarity is not None else [])
        return {"by": by, "bits": self.bits, "similarity": self.similarity, "agreement": self.agreement}


def find_matches(
    left: ImageSignatures,
    right: ImageSignatures | None,
    how: Detectors,
    also: Sequence[tuple[int, int]] = (),
) -> list[Match]:
    """Return pairs that show the same, sorted: of two sets of pictures, or within one if `right` is None.

    Args:
        left: ImageSignatures.
        right: Others, or None for the same.
        how: Detectors.
        also: Further candidates.
    """
    other = left if right is None else right
    bits = _by_hash(left, right, how.radius)
    similar = _by_embedding(left, right, how) if how.neighbours else {}
    found = []
    for pair in sorted({*bits, *similar, *also}):
        score = agreement(left.thumbnails[pair[0]], other.thumbnails[pair[1]])
        alone = how.similarity_alone is not None and similar.get(pair, -1.0) >= how.similarity_alone
        if score >= how.least_agreement or alone:
            found.append(Match(*pair, bits.get(pair), similar.get(pair), score))
    return found


def _by_hash(left: ImageSignatures, right: ImageSignatures | None, radius: int) -> dict[tuple[int, int], int]:
    """Return the distances of pairs of which one picture's hash is near that of a window of the other, or mirrored.

    Of pictures with one and the same hashes, such as a site's placeholder, only the first is searched for; the others
    go with it.
    """
    there, first, twins = _held(left)
    others, second, _ = (there, first, twins) if right is None else _held(right)
    best: dict[tuple[int, int], int] = {}
    ways = [(there, first, others, second, False)]
    if right is not None:
        ways.append((others, second, there, first, True))
    for asking, places, asked, known, turned in ways:
        windows = np.concatenate([asking.ravel(), asking.ravel() ^ np.uint64(MIRROR)])
        query, hit, distance = near_pairs(windows, asked[:, 0].copy(), radius)
        for place, at, bits in zip(query, hit, distance, strict=True):
            one, two = int(places[(place // NUM_WINDOWS) % len(places)]), int(known[at])
            if right is None and one == two:
                continue
            pair = (two, one) if turned or (right is None and two < one) else (one, two)
            best[pair] = min(int(bits), best.get(pair, 64))
    if right is None:
        return best | {(one, other): 0 for one, same in twins.items() for other in same}
    return best | {(other, two): bits for (one, two), bits in best.items() for other in twins[one]}


def _held(pictures: ImageSignatures) -> tuple[Array, Array, dict[int, list[int]]]:
    """Return different window hashes [m, windows] of pictures that are not flat, who has them first [m], and who too."""
    twins: dict[int, list[int]] = {}
    first: dict[str, int] = {}
    for at, text in enumerate(pictures.windows):
        if text and text in first:
            twins[first[text]].append(at)
        elif text:
            first[text] = at
            twins[at] = []
    packed = b"".join(bytes.fromhex(text) for text in first)
    hashes = np.frombuffer(packed, dtype=">u8").astype(np.uint64).reshape(len(first), NUM_WINDOWS)
    return hashes, np.array(list(first.values()), dtype=np.int64), twins


def _by_embedding(left: ImageSignatures, right: ImageSignatures | None, how: Detectors) -> dict[tuple[int, int], float]:
    """Return the cosines of the closest pairs of neighbours: as many as `closest` says, whatever model embedded them."""
    other = left if right is None else right
    if left.embeddings is None or other.embeddings is None or not len(other.uids):
        return {}
    places, cosines = nearest(left.embeddings, other.embeddings, how.neighbours + (right is None))
    best: dict[tuple[int, int], float] = {}
    for one, (row, values) in enumerate(zip(places.tolist(), cosines.tolist(), strict=True)):
        for two, cosine in zip(row, values, strict=True):
            if two < 0 or (right is None and one == two):
                continue
            pair = (min(one, two), max(one, two)) if right is None else (one, two)
            best[pair] = max(round(cosine, _DECIMALS), best.get(pair, -1.0))
    ranked = sorted(best.items(), key=lambda item: (-item[1], item[0]))
    return dict(ranked[: round(how.closest * len(left.uids))])


def nearest(queries: Array, known: Array, count: int) -> tuple[Array, Array]:
    """Return positions and cosines [q, count] of the nearest unit vectors; exact up to 50,000 of them."""
    import faiss

    faiss.omp_set_num_threads(1)
    vectors = np.ascontiguousarray(known, dtype=np.float32)
    flat = faiss.IndexFlatIP(vectors.shape[1])
    index: Any = flat
    if len(vectors) > _EXACT_UP_TO:
        lists = round(len(vectors) ** 0.5)
        index = faiss.IndexIVFFlat(flat, vectors.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
        index.nprobe = 16
        index.train(vectors[:: max(1, len(vectors) // (64 * lists))])
    index.add(vectors)
    cosines, places = index.search(np.ascontiguousarray(queries, dtype=np.float32), min(count, len(vectors)))
    return places, cosines
