"""Cluster the images, so that batches and shards have images that look alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.engine.stage import Corpus, CorpusStage, Drop, Field


@dataclass(frozen=True)
class ClusterEmbeddings(CorpusStage):
    """Clusters of image embeddings, numbered so that near clusters have near numbers and lie in near shards.

    Attributes:
        samples_per_cluster: Target size; the number of clusters follows from the size of the data set.
        balanced: Clusters of equal size (they differ by 1 at most, or by `slack`), as needed for batches with equally many
            neighbours; otherwise spherical k-means with clusters of any size.
        num_iterations: Rounds of k-means, or of price updates when balanced.
        slack: How far sizes of balanced clusters may be from the mean size, as a share of it. Exactly equal sizes put
            leftovers of groups into one cluster; 0.1 avoids most of that.
        seed: Seed of every draw.

    Source: k-means: Lloyd 1982 as in faiss (Johnson 2017, arXiv 1702.08734); balanced: k-means with size
        constraints (Bradley 2000, MSR-TR-2000-65), solved by prices as in Bertsekas' auctions (1988);
        clusters as batch candidates as in SimCLIP (FITML 2024).
    Differs: SimCLIP searches neighbours for each batch; here clusters are fixed and the plan draws from them.
        Balancing moves images between near clusters only, so that it can cluster millions of images.
    """

    name = "cluster_embeddings"
    version = 2
    requires = ("image_embedding",)
    provides = (Field("cluster_id", publish="index"),)
    source = "Lloyd 1982 by faiss, arXiv 1702.08734; balanced: Bradley 2000, MSR-TR-2000-65"

    samples_per_cluster: int = 64
    balanced: bool = False
    num_iterations: int = 25
    slack: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        self.require(
            min(self.samples_per_cluster, self.num_iterations) >= 1,
            "samples_per_cluster num_iterations",
            allowed="1 or more",
        )
        self.require(0.0 <= self.slack < 1.0, "slack", allowed="0 or more, less than 1")
        self.require(
            self.balanced or not self.slack,
            "slack balanced",
            allowed="slack 0, or balanced=true",
            fix="k-means has clusters of any size, so there is no slack to set",
        )

    def describe_method(self, num_samples: int) -> str:
        """Return number and size of the clusters for this many samples."""
        count = self._count(num_samples)
        if self.balanced:
            from curation.vectors.pricing import size_bounds

            least, most = size_bounds(num_samples, count, self.slack)
            sizes = str(most) if least == most else f"{least} to {most}"
            return f"{count} clusters of {sizes} samples, balanced by prices"
        return f"{count} clusters by k-means, of any size"

    def fit(self, corpus: Corpus) -> list[dict[str, Any] | Drop]:
        """Return ``cluster_id`` (0 .. clusters - 1) for each sample."""
        if not corpus.uids:
            return []
        points = corpus.array("image_embedding")
        labels = self._balanced(points) if self.balanced else self._k_means(points)
        return [{"cluster_id": label} for label in labels.tolist()]

    def _count(self, num_samples: int) -> int:
        return max(1, round(num_samples / self.samples_per_cluster))

    def _balanced(self, points: NDArray[np.float16]) -> NDArray[np.int64]:
        from curation.vectors.balanced import balanced_clusters

        count = self._count(len(points))
        return balanced_clusters(points, count, seed=self.seed, rounds=self.num_iterations, slack=self.slack)

    def _k_means(self, points: NDArray[np.float16]) -> NDArray[np.int64]:
        import faiss

        from curation.vectors.balanced import order_by_nearness
        from curation.vectors.rows import one_thread

        wide = np.ascontiguousarray(points, dtype=np.float32)
        with one_thread():
            kmeans = faiss.Kmeans(
                wide.shape[1],
                self._count(len(wide)),
                niter=self.num_iterations,
                seed=self.seed,
                spherical=True,
                min_points_per_centroid=1,
                max_points_per_centroid=len(wide),
            )
            kmeans.train(wide)
            nearest = kmeans.index.search(wide, 1)[1][:, 0]
        used, compact = np.unique(nearest, return_inverse=True)
        return order_by_nearness(np.asarray(kmeans.centroids)[used], seed=self.seed)[compact]
