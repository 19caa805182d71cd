"""The section of a version's page with contact sheets of clusters and the similarity inside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_manifests.errors import InputError
from data_manifests.manifest import DatasetVersion
from data_manifests.seeds import draw_seed
from flows.pages.glossary import word
from flows.pages.html import Html, join, note, tag
from flows.pages.index_rows import IndexRows
from flows.pages.thumbnails import Thumbnails

NUM_CLUSTERS, CLUSTER_PICTURES = 10, 12

_EMBEDDING = "image_embedding"


@dataclass(frozen=True)
class ContactSheet:
    """One cluster.

    Attributes:
        cluster: Its number.
        size: Samples in it.
        uids: The samples shown, from the easiest to the hardest.
        difficulty: Mean difficulty of its samples; None if they have none.
        similarity: Mean cosine similarity over all pairs of its pictures; None for one picture, or without embeddings.
    """

    cluster: int
    size: int
    uids: Sequence[str]
    difficulty: float | None
    similarity: float | None


@dataclass(frozen=True)
class ClusterSheets:
    """The contact sheets of a version.

    Attributes:
        sheets: Some clusters, largest first.
        num_clusters: Clusters of the version.
        within: Mean cosine similarity over all pairs of pictures that share a cluster.
        between: The same over all pairs of pictures of the version.
    """

    sheets: Sequence[ContactSheet]
    num_clusters: int
    within: float | None
    between: float | None

    @property
    def uids(self) -> list[str]:
        """The samples whose pictures are shown."""
        return [uid for sheet in self.sheets for uid in sheet.uids]


def draw_sheets(version: DatasetVersion, rows: IndexRows, seed: int) -> ClusterSheets:
    """Choose the largest and the smallest cluster and draw others; pictures are spread over each.

    Args:
        version: The version.
        rows: Columns uid, shard, and cluster_id and difficulty if there are, of its index.
        seed: Picks the clusters.

    Raises:
        InputError: a sidecar is missing, or has not as many rows as the index says.
    """
    if "cluster_id" not in rows:
        return ClusterSheets((), 0, None, None)
    members: dict[int, list[int]] = {}
    for row, cluster in enumerate(rows["cluster_id"]):
        if cluster is not None:
            members.setdefault(cluster, []).append(row)
    ordered = sorted(members, key=lambda cluster: (-len(members[cluster]), cluster))
    chosen = _draw(ordered, seed)
    similarities = _similarities(version, rows, ordered)
    sheets = []
    for cluster in chosen:
        inside = members[cluster]
        uids = [rows["uid"][inside[at]] for at in spread(len(inside), CLUSTER_PICTURES)]
        difficulty, similarity = _mean_difficulty(rows, inside), similarities.of_cluster.get(cluster)
        sheets.append(ContactSheet(cluster, len(inside), uids, difficulty, similarity))
    return ClusterSheets(sheets, len(ordered), similarities.within, similarities.between)


def _mean_difficulty(rows: IndexRows, numbers: Sequence[int]) -> float | None:
    values = [rows["difficulty"][row] for row in numbers] if "difficulty" in rows else []
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def spread(total: int, count: int) -> list[int]:
    """Return up to `count` numbers, evenly over 0 .. total - 1."""
    return np.unique(np.linspace(0, total - 1, min(total, count)).round().astype(int)).tolist() if total else []


def _draw(ordered: Sequence[int], seed: int) -> list[int]:
    """Return the first, the last and some drawn from between them, in order."""
    if len(ordered) <= NUM_CLUSTERS:
        return list(ordered)
    draw = np.random.default_rng(draw_seed(seed, "contact sheets"))
    inner = sorted(draw.choice(len(ordered) - 2, NUM_CLUSTERS - 2, replace=False).tolist())
    return [ordered[0], *(ordered[number + 1] for number in inner), ordered[-1]]


@dataclass(frozen=True)
class _Similarities:
    of_cluster: Mapping[int, float]
    within: float | None
    between: float | None


def _similarities(version: DatasetVersion, rows: IndexRows, clusters: Sequence[int]) -> _Similarities:
    """Return mean similarities over all pairs, exactly, with one shard's embeddings in memory at a time.

    The pairs of n vectors x sum up to (|sum of x|^2 - sum of |x|^2) / 2, so no pair is computed.
    """
    if _EMBEDDING not in {field["name"] for field in version.manifest.body["fields"]}:
        return _Similarities({}, None, None)
    numbers = {cluster: number for number, cluster in enumerate(clusters)}
    labels = np.array([numbers.get(cluster, len(numbers)) for cluster in rows["cluster_id"]], dtype=np.int64)
    sums: NDArray[np.float64] | None = None
    squares, done = np.zeros(len(numbers) + 1), 0
    for shard, record in enumerate(version.manifest.body["shards"]):
        vectors = _embeddings(version, shard, record["samples"])
        here = labels[done : done + len(vectors)]
        done += len(vectors)
        if sums is None:
            sums = np.zeros((len(numbers) + 1, vectors.shape[1]))
        for label in np.unique(here):
            inside = vectors[here == label]
            sums[label] += inside.sum(axis=0)
            squares[label] += (inside**2).sum()
    if sums is None:
        return _Similarities({}, None, None)
    counts = np.bincount(labels, minlength=len(numbers) + 1)
    pairs = counts * (counts - 1.0)
    products = (sums**2).sum(axis=1) - squares
    of_cluster = {
        cluster: float(products[number] / pairs[number]) for cluster, number in numbers.items() if pairs[number]
    }
    clustered = slice(0, len(numbers))
    inside, everything = pairs[clustered].sum(), len(labels) * (len(labels) - 1.0)
    whole = (sums.sum(axis=0) ** 2).sum() - squares.sum()
    within = float(products[clustered].sum() / inside) if inside else None
    return _Similarities(of_cluster, within, float(whole / everything) if everything else None)


def _embeddings(version: DatasetVersion, shard: int, expected: int) -> NDArray[np.float64]:
    column = version.sidecar(shard, [_EMBEDDING])[_EMBEDDING].combine_chunks()
    if len(column) != expected:
        got = f"{version.ref}: {shard:05d}.parquet has {len(column)} rows, the manifest says {expected}"
        raise InputError(got, fix="run clipcurate verify")
    vectors: NDArray[np.float64] = column.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    return vectors.reshape(len(column), -1)


def cluster_section(sheets: ClusterSheets, pictures: Thumbnails) -> Html:
    """Return a contact sheet for each cluster; nothing if there are none."""
    parts: list[Html] = []
    for sheet in sheets.sheets:
        label = f"Cluster {sheet.cluster}"
        facts = [f"{sheet.size:,} sample(s)"]
        facts += [] if sheet.difficulty is None else [f"mean difficulty {sheet.difficulty:.3f}"]
        facts += [] if sheet.similarity is None else [f"mean similarity {sheet.similarity:.3f}"]
        shown = [pictures.picture(uid, f"sample of {label.lower()}") for uid in sheet.uids]
        parts.append(tag("h3", label, tag("span", f" {', '.join(facts)}", class_="soft")))
        parts.append(tag("div", *shown, class_="sheet", role="group", aria_label=label))
    return join([_note(sheets), *parts]) if parts else Html("")


def _note(sheets: ClusterSheets) -> Html:
    text = (
        f"{len(sheets.sheets):,} of {sheets.num_clusters:,} clusters: the largest, the smallest, and others at random."
    )
    if len(sheets.sheets) == sheets.num_clusters:
        text = f"All {sheets.num_clusters:,} clusters, the largest first."
    text += " Pictures go from the easiest to the hardest of each."
    if sheets.within is not None and sheets.between is not None:
        text += (
            f" Two pictures of one cluster have a mean similarity of {sheets.within:.3f}, any two of the version "
            f"{sheets.between:.3f} (cosine of image embeddings, all pairs)."
        )
    return note(word("cluster", "Clusters"), " are groups of images that look alike. ", text)
