"""Find the nearest images of each image, by image and by caption embeddings, for batches of similar samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.engine.stage import Corpus, CorpusStage, Drop, Field

_MOST_NEIGHBOURS = 1_000


@dataclass(frozen=True)
class FindNeighbours(CorpusStage):
    """The nearest other images by image embedding, and by the mean of the captions' embeddings.

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
    version = 1
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

    def fit(self, corpus: Corpus) -> list[dict[str, Any] | Drop]:
        """Return ``image_neighbours`` and ``text_neighbours`` for each sample: uid and similarity, nearest first."""
        uids = corpus.uids
        images, image_recall = self._neighbours(corpus.array("image_embedding"), uids)
        texts, text_recall = self._neighbours(_mean_texts(corpus.column("text_embeddings")), uids)
        # the manifest adds up usage over the samples, so only the first one has the recall, in hundredths of a per cent
        usage = {"image_recall_per_10000": round(image_recall * 1e4), "text_recall_per_10000": round(text_recall * 1e4)}
        return [
            {"image_neighbours": image, "text_neighbours": text, "neighbour_usage": {} if number else usage}
            for number, (image, text) in enumerate(zip(images, texts, strict=True))
        ]

    def _neighbours(
        self, vectors: NDArray[np.float16], uids: Sequence[str]
    ) -> tuple[list[list[dict[str, Any]]], float]:
        """Return each sample's neighbours, and the recall of the index."""
        from curation.vectors.index import build_index

        index = build_index(vectors, exact_below=self.exact_below, seed=self.seed, target_recall=self.target_recall)
        found: list[list[dict[str, Any]]] = [[] for _ in uids]
        queries = np.arange(len(uids))
        number = min(self.num_neighbours, len(uids) - 1)
        width = min(len(uids), number + 1)
        while len(queries) and number:
            is_first = len(queries) == len(uids)
            similarity, positions = index.search_own(width) if is_first else index.search(vectors[queries], width)
            for row, own in enumerate(queries.tolist()):
                found[own] = [
                    {"uid": uids[position], "similarity": round(value, 6)}
                    for value, position in zip(similarity[row].tolist(), positions[row].tolist(), strict=True)
                    if position not in (own, -1) and (value <= self.max_similarity or self.max_similarity >= 1.0)
                ][:number]
            if width == len(uids) or width > _MOST_NEIGHBOURS * 4:
                break
            queries = np.array([own for own in queries.tolist() if len(found[own]) < number], dtype=np.int64)
            width = min(len(uids), width * 4)
        return found, index.measured_recall


def _mean_texts(matrices: Sequence[NDArray[np.float16]]) -> NDArray[np.float16]:
    """Return the normalised mean [n, d] of each sample's caption embeddings; zeros without captions."""
    num_dims = next((matrix.shape[1] for matrix in matrices if matrix.ndim == 2 and len(matrix)), 1)
    means = np.zeros((len(matrices), num_dims), np.float16)
    for number, matrix in enumerate(matrices):
        if len(matrix):
            mean = matrix.astype(np.float64).mean(axis=0)
            means[number] = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return means
