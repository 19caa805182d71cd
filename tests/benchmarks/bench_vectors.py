"""Neighbours and balanced clusters of many vectors, against scikit-learn's MiniBatchKMeans in one run.

Run: python -m tests.benchmarks.bench_vectors [--num 1000000] [--size 64] [--slack 0 0.1] [--groups 1000] [--no-peer]
    [--peer-epochs 100]
The vectors are a mixture with known groups of unequal sizes: related group centres, a subspace of 12 directions in
which a group spreads, and a little noise in all 512. CPU seconds, one thread each; peak memory is this process's
before the peer starts, the vectors included. Below `--exact-below`, updates of the neighbours are timed too. The peer passes over the vectors up to `--peer-epochs` times, by default as
often as scikit-learn lets it; with 15,625 clusters each pass takes many minutes.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
from numpy.typing import NDArray

from curation.vectors.balanced import balanced_clusters
from curation.vectors.index import VectorIndex, build_index, recall_of
from curation.vectors.nearest_lists import nearest_lists, updated_lists
from curation.vectors.rows import cluster_means, members_by_cluster, one_thread

DIM = 512
RANK = 12
BLOCK = 16_384
NEIGHBOURS = 10


def mixture(num: int, groups: int, seed: int = 0) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """Return unit vectors [num, 512] and the group of each."""
    rng = np.random.default_rng(seed)
    families = rng.standard_normal((max(1, groups // 20), DIM)).astype(np.float32)
    centres = families[rng.integers(0, len(families), groups)] + 0.8 * rng.standard_normal((groups, DIM), np.float32)
    spread = rng.standard_normal((groups, RANK, DIM)).astype(np.float32)
    weight = rng.gamma(4.0, 1.0, groups)
    group = rng.choice(groups, num, p=weight / weight.sum())
    vectors = np.empty((num, DIM), np.float16)
    for first in range(0, num, BLOCK):
        part = group[first : first + BLOCK]
        inside = rng.standard_normal((len(part), RANK), np.float32) * 0.35
        rows = centres[part] + 0.2 * rng.standard_normal((len(part), DIM), np.float32)
        order = np.argsort(part, kind="stable")
        starts = np.searchsorted(part[order], np.arange(groups + 1))
        for number in np.flatnonzero(np.diff(starts)):
            mine = order[starts[number] : starts[number + 1]]
            rows[mine] += inside[mine] @ spread[number]
        vectors[first : first + BLOCK] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return vectors, group


def inertia(vectors: NDArray[np.float16], labels: NDArray[np.int64], num_clusters: int) -> float:
    """Return the mean squared distance to the mean of one's cluster."""
    order, starts = members_by_cluster(labels, num_clusters)
    means = cluster_means(vectors, order, starts)
    total = 0.0
    for first in range(0, len(vectors), BLOCK):
        part = slice(first, first + BLOCK)
        total += float(((vectors[part].astype(np.float32) - means[labels[part]]) ** 2).sum(dtype=np.float64))
    return total / len(vectors)


def purity(labels: NDArray[np.int64], group: NDArray[np.int64]) -> float:
    """Return the share of vectors that are of the most frequent group of their cluster."""
    codes, counts = np.unique(labels * (int(group.max()) + 1) + group, return_counts=True)
    best = np.zeros(int(labels.max()) + 1, dtype=np.int64)
    np.maximum.at(best, codes // (int(group.max()) + 1), counts)
    return float(best.sum() / len(labels))


def tightness(
    vectors: NDArray[np.float16], labels: NDArray[np.int64], num_clusters: int, group: NDArray[np.int64] | None
) -> dict[str, object]:
    """Return what tells how good a partition is: sizes, inertia, purity where groups are known."""
    sizes = np.bincount(labels, minlength=num_clusters)
    found = {"sizes": f"{sizes.min()}-{sizes.max()}", "inertia": inertia(vectors, labels, num_clusters)}
    return found if group is None else {**found, "purity": purity(labels, group)}


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def tell(what: str, cpu_s: float, wall_s: float, **figures: object) -> None:
    told = ", ".join(
        f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items()
    )
    print(f"{what}: {cpu_s:.1f} CPU s, {wall_s:.1f} s, peak {peak_gib():.2f} GiB, {told}", flush=True)


def tell_updates(vectors: NDArray[np.float16]) -> None:
    """Print how long lists of neighbours take, for all and after one vector, or 1 %, has changed."""
    lists = nearest_lists(VectorIndex(vectors), NEIGHBOURS)
    for changed in (1, len(vectors) // 100, len(vectors)):
        row_now = np.arange(len(vectors))
        row_now[np.random.default_rng(2).choice(len(vectors), changed, replace=False)] = -1
        cpu, wall = time.process_time(), time.perf_counter()
        again = updated_lists(vectors, lists, row_now)
        tell(f"lists, {changed} changed", time.process_time() - cpu, time.perf_counter() - wall)
        assert np.array_equal(again.others, lists.others)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--num", type=int, default=1_000_000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--slack", type=float, nargs="+", default=[0.0, 0.1])
    parser.add_argument("--groups", type=int, default=1_000)
    parser.add_argument("--vectors", help="a .npy of float16 vectors instead of the mixture")
    parser.add_argument("--exact-below", type=int, default=50_000)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--peer-epochs", type=int, default=100)
    asked = parser.parse_args()
    vectors, group = (np.load(asked.vectors), None) if asked.vectors else mixture(asked.num, asked.groups)
    num, k = len(vectors), len(vectors) // asked.size
    print(f"{num} x {vectors.shape[1]}, {asked.groups} groups, {k} clusters", flush=True)

    for slack in asked.slack:
        cpu, wall = time.process_time(), time.perf_counter()
        labels = balanced_clusters(vectors, k, seed=0, slack=slack)
        spent = time.process_time() - cpu, time.perf_counter() - wall
        tell(f"balanced clusters, slack {slack:g}", *spent, **tightness(vectors, labels, k, group))

    cpu, wall = time.process_time(), time.perf_counter()
    index = build_index(vectors, exact_below=asked.exact_below, seed=0, target_recall=0.97)
    built = time.process_time() - cpu, time.perf_counter() - wall
    tell(f"index ({index.num_probes} probes)", *built, recall_on_its_sample=index.measured_recall)
    cpu, wall = time.process_time(), time.perf_counter()
    found = index.search_own(NEIGHBOURS + 1)[1]
    spent = time.process_time() - cpu, time.perf_counter() - wall
    queries = np.sort(np.random.default_rng(1).choice(num, min(num, 1_000), replace=False))
    truth = build_index(vectors, exact_below=num + 1, seed=0, target_recall=0.97).search(
        vectors[queries], NEIGHBOURS + 1
    )[1]
    tell("neighbours of all", *spent, recall_on_1000_others=recall_of(found[queries], truth))
    if num < asked.exact_below:
        tell_updates(vectors)
    if asked.no_peer:
        return
    from sklearn.cluster import MiniBatchKMeans

    wide = vectors.astype(np.float32)
    with one_thread():
        cpu, wall = time.process_time(), time.perf_counter()
        theirs = (
            MiniBatchKMeans(k, random_state=0, n_init=1, max_iter=asked.peer_epochs).fit(wide).labels_.astype(np.int64)
        )
        spent = time.process_time() - cpu, time.perf_counter() - wall
    tell(f"MiniBatchKMeans, at most {asked.peer_epochs} epochs", *spent, **tightness(vectors, theirs, k, group))


if __name__ == "__main__":
    main()
