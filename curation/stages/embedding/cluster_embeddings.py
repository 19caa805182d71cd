"""Cluster the images, so that batches and shards have images that look alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.engine.fits import Evidence, Fit, FitCheck
from curation.engine.stage import Columns, Drop, Field, FittedStage
from curation.selection.evidence import mean_and_error, with_squares
from curation.selection.scores import random_subset
from data_manifests.sample import Sample

_POINTS_PER_CENTROID = 256
_MOST_POINTS = 131_072
"""Vectors that centroids are learned from, at most; 256 MiB of float32 at 512 dimensions."""
_DECIMALS = 6
_LARGER_ERROR = 1.1
_MOVED_SHARE = 0.1


@dataclass(frozen=True)
class ClusterEmbeddings(FittedStage):
    """Clusters of image embeddings, numbered so that near clusters have near numbers and lie in near shards.

    Fitted: the centroids, learned from all images, or from 256 a centroid (at most 131,072) chosen by uid; and, when
    balanced, a price for each. Applied: an image belongs to the centroid of highest (similarity - price). Checked: the mean
    of 1 - similarity is at most 1.1 times that of the images learned from; when balanced, also that sizes stay as they were.

    With prices, clusters of the images learned from are as large as asked but for a few images (63 to 65 where 64 or 65
    were asked for, of 7,000), because equal images stay together; later versions differ as their images do. The plan
    ``clusters`` does not need equal sizes: its runs go on into the next cluster.

    Attributes:
        samples_per_cluster: Target size; the number of clusters follows from the size of the data set.
        balanced: Clusters of about equal size (or within `slack`), as needed for batches with equally many neighbours;
            otherwise spherical k-means with clusters of any size.
        num_iterations: Rounds of k-means, or of price updates when balanced.
        slack: How far sizes of balanced clusters may be from the mean size, as a share of it. Equal sizes put leftovers of
            groups into one cluster; 0.1 avoids most of that.
        seed: Seed of every draw.

    Source: k-means: Lloyd 1982 as in faiss (Johnson 2017, arXiv 1702.08734), with its bound on points per centroid;
        balanced: k-means with size constraints (Bradley 2000, MSR-TR-2000-65), solved by prices as in Bertsekas' auctions
        (1988); clusters as batch candidates as in SimCLIP (FITML 2024).
    Differs: SimCLIP searches neighbours for each batch; here clusters are fixed and the plan draws from them.
    """

    name = "cluster_embeddings"
    version = 3
    requires = ("image_embedding",)
    provides = (Field("cluster_id", publish="index"), Field("cluster_evidence", role="evidence"))
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
            return f"{count} clusters of about {sizes} samples, balanced by prices"
        return f"{count} clusters by k-means, of any size"

    def fit(self, columns: Columns) -> Fit:
        """Return centroids and prices, in order of their numbers, and how well they describe the images learned from."""
        from curation.vectors.balanced import order_by_nearness
        from curation.vectors.pricing import nearest_centroids, settled_prices
        from curation.vectors.rows import on_grid, one_thread

        if not columns.num_samples:
            return Fit()
        count = min(self._count(columns.num_samples), _MOST_POINTS)
        points = self._points(columns, min(_MOST_POINTS, _POINTS_PER_CENTROID * count))
        with one_thread():
            learned = self._balanced(points, count) if self.balanced else self._k_means(points, count)
            lengths = np.linalg.norm(learned.astype(np.float64), axis=1, keepdims=True)
            centroids = on_grid(learned / np.maximum(lengths, 1e-12))
            prices = settled_prices(points, centroids, self.slack) if self.balanced else np.zeros(len(centroids))
            labels, similarity = nearest_centroids(points, centroids, prices)
        used, sizes = np.unique(labels, return_counts=True)
        order = np.argsort(order_by_nearness(centroids[used], seed=self.seed))
        return Fit(
            {"error": round(float((1.0 - similarity).mean()), _DECIMALS)},
            {
                "centroids": centroids[used][order],
                "prices": prices[used][order],
                "shares": sizes[order] / len(points),
            },
        )

    def apply(self, samples: Sequence[Sample], fit: Fit) -> list[dict[str, Any] | Drop]:
        """Return ``cluster_id`` (0 .. clusters - 1) for each sample."""
        from curation.vectors.pricing import nearest_centroids

        if not samples:
            return []
        points = np.stack([sample["image_embedding"] for sample in samples])
        labels, similarity = nearest_centroids(points, fit.arrays["centroids"], fit.arrays["prices"])
        results: list[dict[str, Any] | Drop] = []
        for label, error in zip(labels.tolist(), np.round(1.0 - similarity, _DECIMALS).tolist(), strict=True):
            evidence = with_squares({"error": error}) | ({f"in {label}": 1} if self.balanced else {})
            results.append({"cluster_id": label, "cluster_evidence": evidence})
        return results

    def check(self, fit: Fit, evidence: Evidence) -> list[FitCheck]:
        """Return the mean error and, when balanced, how many samples are where the fit had none of that many."""
        mean, error = mean_and_error(evidence, "error")
        bound = round(_LARGER_ERROR * float(fit.values["error"]) + 2 * error, _DECIMALS)
        checks = [FitCheck("mean distance to the cluster's centroid (1 - cosine)", mean, bound)]
        if self.balanced:
            shares = fit.arrays["shares"]
            counts = np.array([evidence.sums.get(f"in {number}", 0.0) for number in range(len(shares))])
            moved = float(np.abs(counts / max(counts.sum(), 1.0) - shares).sum()) / 2
            # of samples that are drawn, this share is expected outside the sizes by chance
            by_chance = float(np.sqrt(shares / (2 * np.pi * max(counts.sum(), 1.0))).sum())
            checks.append(FitCheck("share of samples beyond the clusters' sizes", moved, _MOVED_SHARE + by_chance))
        return checks

    def _count(self, num_samples: int) -> int:
        return max(1, round(num_samples / self.samples_per_cluster))

    def _points(self, columns: Columns, most: int) -> NDArray[np.float16]:
        points: NDArray[np.float16] = columns.vectors("image_embedding")
        if len(points) <= most:
            return points
        return points[random_subset(columns.uids, most, self.seed, self.name, "points")]

    def _balanced(self, points: NDArray[np.float16], count: int) -> NDArray[np.float32]:
        from curation.vectors.balanced import balanced_clusters
        from curation.vectors.rows import as_half, cluster_means, members_by_cluster

        labels = balanced_clusters(points, count, seed=self.seed, rounds=self.num_iterations, slack=self.slack)
        return cluster_means(as_half(points), *members_by_cluster(labels, count))

    def _k_means(self, points: NDArray[np.float16], count: int) -> NDArray[np.float32]:
        import faiss

        wide = np.ascontiguousarray(points, dtype=np.float32)
        kmeans = faiss.Kmeans(
            wide.shape[1],
            count,
            niter=self.num_iterations,
            seed=self.seed,
            spherical=True,
            min_points_per_centroid=1,
            max_points_per_centroid=len(wide),
        )
        kmeans.train(wide)
        centroids: NDArray[np.float32] = np.asarray(kmeans.centroids)
        return centroids
