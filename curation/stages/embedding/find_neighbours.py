"""Find the nearest images of each image, by image and by caption embeddings, for batches of similar samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from curation.engine.fits import Fit
from curation.engine.stage import Columns, Drop, Field, IndexedStage, PreviousIndex

if TYPE_CHECKING:
    from curation.vectors.nearest_lists import NearestLists

_MOST_NEIGHBOURS = 1_000
_MILLION = 10**6
_SAMPLES_AT_ONCE = 1_024
_SMALLEST_NORM = 1e-12


@dataclass(frozen=True)
class FindNeighbours(IndexedStage):
    """The nearest other images by image embedding, and by the mean of the captions' embeddings.

    The state has each sample's lists. In a data set smaller than `exact_below`, a new or edited sample is compared with
    all others, and a list that was full and lost a sample is made again; a larger one is searched as a whole, since its
    inverted file depends on every vector.

    Attributes:
        num_neighbours: Maximum number of neighbours of each kind.
        max_similarity: More similar images are treated as copies and left out; 1.0 keeps all, exact copies too.
        exact_below: Data sets smaller than this compare every pair; larger ones use an inverted file.
        target_recall: Recall that the inverted file must reach on a random sample.
        seed: Seed of the inverted file and of that sample.

    Source: Yuksekgonul et al. 2023 (NegCLIP), section 4, arXiv 2210.01936: three nearest images by CLIP, one of
        them drawn for each image.
    Differs: neighbours by caption as well; similarities are kept; copies can be left out (`max_similarity`); the recall
        of the index is measured and reported.
    """

    name = "find_neighbours"
    version = 2
    requires = ("image_embedding", "text_embeddings")
    provides = (
        Field("image_neighbours", publish="sidecar"),
        Field("text_neighbours", publish="sidecar"),
        Field("neighbour_usage", role="usage"),
    )
    source = "Yuksekgonul et al. 2023, section 4, arXiv 2210.01936"

    num_neighbours: int = 3
    max_similarity: float = 1.0
    exact_below: int = 50_000
    target_recall: float = 0.97
    seed: int = 0

    def __post_init__(self) -> None:
        self.require(1 <= self.num_neighbours <= _MOST_NEIGHBOURS, "num_neighbours", allowed=f"1 .. {_MOST_NEIGHBOURS}")

    def describe_method(self, num_samples: int) -> str:
        """Return which index this many samples get, and why."""
        if num_samples < self.exact_below:
            return f"every pair compared: {num_samples} samples are fewer than exact_below={self.exact_below}"
        return (
            f"inverted file with a recall of {self.target_recall} on a sample: {num_samples} samples are not fewer than "
            f"exact_below={self.exact_below}"
        )

    def update(self, columns: Columns, before: PreviousIndex | None) -> Fit:
        """Return the state: lists of neighbours by image and by text, and the recall of each index."""
        vectors = {
            "image": columns.vectors("image_embedding"),
            "text": _mean_texts(*columns.vector_lists("text_embeddings")),
        }
        arrays, recalls = dict[str, NDArray[Any]](), dict[str, float]()
        for kind, of_kind in vectors.items():
            lists, recalls[kind] = self._lists(kind, of_kind, before)
            arrays |= lists.arrays(f"{kind}_")
        return Fit({"recalls": recalls}, arrays)

    def _lists(
        self, kind: str, vectors: NDArray[np.float16], before: PreviousIndex | None
    ) -> tuple[NearestLists, float]:
        """Return each sample's neighbours, and the recall of the index."""
        from curation.vectors.index import build_index, compares_every_pair
        from curation.vectors.nearest_lists import NearestLists, nearest_lists, updated_lists

        limit = self.max_similarity if self.max_similarity < 1.0 else np.inf
        sizes = (len(vectors), *([len(before.uids)] if before else []))
        if before and all(compares_every_pair(size, self.exact_below) for size in sizes):
            old = NearestLists.load(before.state.arrays, self.num_neighbours, f"{kind}_")
            return updated_lists(vectors, old, before.row_now, limit), 1.0
        index = build_index(vectors, exact_below=self.exact_below, seed=self.seed, target_recall=self.target_recall)
        return nearest_lists(index, self.num_neighbours, limit), index.measured_recall

    def results(self, columns: Columns, state: Fit) -> Iterator[dict[str, Any] | Drop]:
        """Yield ``image_neighbours`` and ``text_neighbours`` of each sample: uid and similarity, nearest first."""
        from curation.vectors.nearest_lists import NearestLists

        # the manifest adds up usage over the samples, so only the first one has the recall, in hundredths of a per cent
        usage = {f"{kind}_recall_per_10000": round(value * 1e4) for kind, value in state.values["recalls"].items()}
        kinds = ("image", "text")
        lists = [NearestLists.load(state.arrays, self.num_neighbours, f"{kind}_").by_row() for kind in kinds]
        for found in zip(*lists, strict=True):
            neighbours = [
                [{"uid": columns.uids[other], "similarity": nearness / _MILLION} for other, nearness in near]
                for near in found
            ]
            fields = {f"{kind}_neighbours": near for kind, near in zip(kinds, neighbours, strict=True)}
            yield {**fields, "neighbour_usage": usage}
            usage = {}


def _mean_texts(texts: NDArray[np.float16], starts: NDArray[np.int64]) -> NDArray[np.float16]:
    """Return the normalised mean [n, d] of each sample's caption embeddings, which start at `starts` [n + 1]."""
    means = np.empty((len(starts) - 1, texts.shape[1]), np.float16)
    for first in range(0, len(means), _SAMPLES_AT_ONCE):
        edges = starts[first : first + _SAMPLES_AT_ONCE + 1]
        exact = texts[edges[0] : edges[-1]].astype(np.float64)
        mean = np.add.reduceat(exact, edges[:-1] - edges[0], axis=0) / np.diff(edges)[:, None]
        norms = np.sqrt((mean * mean).sum(axis=1, keepdims=True))
        means[first : first + _SAMPLES_AT_ONCE] = mean / np.maximum(norms, _SMALLEST_NORM)
    return means
