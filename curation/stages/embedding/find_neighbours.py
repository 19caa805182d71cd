"""Find each image's nearest images, and each image's nearest by caption, for batches of things that look alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.engine.stage import Corpus, CorpusStage, Drop, Field
from data_manifests.errors import InputError

_MOST_NEIGHBOURS = 1_000


@dataclass(frozen=True)
class FindNeighbours(CorpusStage):
    """The nearest other images by image embedding, and by the mean of the captions' embeddings.

    Attributes:
        num_neighbours: How many of each kind, at most.
        max_similarity: Nearer ones are taken for copies and left out; 1.0 leaves all in, exact copies too.
        exact_below: Compare every pair in sets smaller than this; an inverted file beyond.
        target_recall: What the inverted file must reach on a sample.
        seed: Of the inverted file and of the sample.

    Source: Yuksekgonul et al. 2023 (NegCLIP), section 4, arXiv 2210.01936: three nearest images by CLIP, one of
        them drawn beside each image.
    Differs: neighbours by caption as well; similarities are kept; copies can be left out (`max_similarity`), and
        what the index misses is measured and told.
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
        if not 1 <= self.num_neighbours <= _MOST_NEIGHBOURS:
            raise InputError(
                f"find_neighbours.num_neighbours={self.num_neighbours}", allowed=f"1 .. {_MOST_NEIGHBOURS}"
            )

    def describe_method(self, num_samples: int) -> str:
        """Say which index so many samples get, and why."""
        from curation.vectors.index import choose_kind

        if choose_kind(num_samples, self.exact_below) == "exact":
            return f"every pair compared: {num_samples} samples are fewer than exact_below={self.exact_below}"
        return (
            f"inverted file, looking as far as recall {self.target_recall} on a sample needs: {num_samples} samples "
            f"are at least exact_below={self.exact_below}"
        )

    def fit(self, corpus: Corpus) -> list[dict[str, Any] | Drop]:
        """Return ``image_neighbours`` and ``text_neighbours`` for each sample: uid and similarity, nearest first."""
        uids = corpus.uids
        images, image_recall = self._neighbours(corpus.array("image_embedding"), uids)
        texts, text_recall = self._neighbours(_mean_texts(corpus.column("text_embeddings")), uids)
        # the manifest sums usage up over the samples: the recall stands with the first, in hundredths of a per cent
        told = {"image_recall_per_10000": round(image_recall * 1e4), "text_recall_per_10000": round(text_recall * 1e4)}
        return [
            {"image_neighbours": image, "text_neighbours": text, "neighbour_usage": {} if number else told}
            for number, (image, text) in enumerate(zip(images, texts, strict=True))
        ]

    def _neighbours(
        self, vectors: NDArray[np.float16], uids: Sequence[str]
    ) -> tuple[list[list[dict[str, Any]]], float]:
        """Return each sample's neighbours, and the recall of the index that found them."""
        from curation.vectors.index import build_index

        index = build_index(vectors, exact_below=self.exact_below, seed=self.seed, target_recall=self.target_recall)
        found: list[list[dict[str, Any]]] = [[] for _ in uids]
        asking = np.arange(len(uids))
        wanted = min(self.num_neighbours, len(uids) - 1)
        width = min(len(uids), wanted + 1)
        while len(asking) and wanted:
            all_of_them = len(asking) == len(uids)
            similarity, positions = index.search_own(width) if all_of_them else index.search(vectors[asking], width)
            short = []
            for row, own in enumerate(asking.tolist()):
                kept = [
                    {"uid": uids[place], "similarity": round(value, 6)}
                    for value, place in zip(similarity[row].tolist(), positions[row].tolist(), strict=True)
                    if place not in (own, -1) and (value <= self.max_similarity or self.max_similarity >= 1.0)
                ][:wanted]
                found[own] = kept
                if len(kept) < wanted:
                    short.append(own)
            if width == len(uids) or width > _MOST_NEIGHBOURS * 4:
                break
            asking, width = np.array(short, dtype=np.int64), min(len(uids), width * 4)
        return found, index.measured_recall


def _mean_texts(matrices: Sequence[NDArray[np.float16]]) -> NDArray[np.float16]:
    """Return the direction [n, d] in which the captions of each sample lie on average; zeros without captions."""
    means = np.zeros((len(matrices), next((m.shape[1] for m in matrices if m.ndim == 2 and len(m)), 1)), np.float16)
    for number, matrix in enumerate(matrices):
        if len(matrix):
            mean = matrix.astype(np.float64).mean(axis=0)
            means[number] = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return means
