"""Cluster the images, so that batches and shards can hold images that look alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from curation.stage import Corpus, CorpusStage, Drop, Field


@dataclass(frozen=True)
class ClusterEmbeddings(CorpusStage):
    """Spherical k-means over image embeddings.

    Attributes:
        samples_per_cluster: Wished mean size; the number of clusters follows from the corpus size.
        num_iterations: Lloyd iterations.
        seed: Picks the initial centroids.

    Source: Lloyd 1982 as in faiss (Johnson 2017, arXiv 1702.08734); clusters as batch candidates as in
        SimCLIP (FITML 2024).
    Differs: SimCLIP finds neighbours anew for each batch; clusters are fixed here and the plan draws from them.
        Numbered by the smallest uid they hold, so that numbers do not depend on the initial centroids' order.
    """

    name = "cluster_embeddings"
    version = 1
    requires = ("image_embedding",)
    provides = (Field("cluster_id", publish="index"),)
    source = "Lloyd 1982 by faiss, arXiv 1702.08734"

    samples_per_cluster: int = 64
    num_iterations: int = 25
    seed: int = 0

    def fit(self, corpus: Corpus) -> list[dict[str, Any] | Drop]:
        """Return ``cluster_id`` (0 .. clusters - 1) for each sample."""
        import faiss

        faiss.omp_set_num_threads(1)
        points = np.ascontiguousarray(corpus.array("image_embedding"), dtype=np.float32)
        count = max(1, round(len(points) / self.samples_per_cluster))
        kmeans = faiss.Kmeans(
            points.shape[1],
            count,
            niter=self.num_iterations,
            seed=self.seed,
            spherical=True,
            min_points_per_centroid=1,
            max_points_per_centroid=len(points),
        )
        kmeans.train(points)
        nearest = kmeans.index.search(points, 1)[1][:, 0]
        numbers: dict[int, int] = {}
        for label in nearest.tolist():
            numbers.setdefault(label, len(numbers))
        return [{"cluster_id": numbers[label]} for label in nearest.tolist()]
