"""The section of a version's page that shows clusters as contact sheets, and how alike their pictures are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_manifests.errors import InputError
from data_manifests.manifest import DatasetVersion
from data_manifests.seeds import draw_seed
from flows.pages.html import Html, join, tag
from flows.pages.thumbnails import Thumbnails

NUM_CLUSTERS, CLUSTER_PICTURES = 10, 12

_EMBEDDING = "image_embedding"

Rows = Mapping[str, list[Any]]


@dataclass(frozen=True)
class ContactSheet:
    """One cluster.

    Attributes:
        cluster: Its number.
        size: Samples in it.
        uids: Those shown, from the easiest to the hardest.
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
    """What the section shows.

    Attributes:
        sheets: Some clusters, largest first.
        num_clusters: How many there are.
        within: Mean cosine similarity over all pairs of pictures that share a cluster.
        between: The same over all pairs of pictures of the version.
    """

    sheets: Sequence[ContactSheet]
    num_clusters: int
    within: float | None
    between: float | None

    @property
    def uids(self) -> list[str]:
        """The pictures that are needed."""
        return [uid for sheet in self.sheets for uid in sheet.uids]


def draw_sheets(version: DatasetVersion, rows: Rows, seed: int) -> ClusterSheets:
    """Choose the largest and the smallest cluster and draw others, with pictures spread over each.

    Args:
        version: Where embeddings are.
        rows: Columns uid, shard, cluster_id and difficulty of the index, the last two if there are.
        seed: Picks the clusters.

    Raises:
        InputError: a sidecar is missing, or has not as many rows as the index says.
    """
    if "cluster_id" not in rows:
        return ClusterSheets((), 0, None, None)
    members: dict[int, list[int]] = {}
    for place, cluster in enumerate(rows["cluster_id"]):
        if cluster is not None:
            members.setdefault(cluster, []).append(place)
    ordered = sorted(members, key=lambda cluster: (-len(members[cluster]), cluster))
    chosen = _drawn(ordered, seed)
    alike = _similarities(version, rows, ordered)
    sheets = []
    for cluster in chosen:
        places = members[cluster]
        uids = [rows["uid"][places[at]] for at in spread(len(places), CLUSTER_PICTURES)]
        sheets.append(ContactSheet(cluster, len(places), uids, _mean_difficulty(rows, places), alike.of.get(cluster)))
    return ClusterSheets(sheets, len(ordered), alike.within, alike.between)


def _mean_difficulty(rows: Rows, places: Sequence[int]) -> float | None:
    known = [rows["difficulty"][place] for place in places] if "difficulty" in rows else []
    told = [value for value in known if value is not None]
    return sum(told) / len(told) if told else None


def spread(total: int, wanted: int) -> list[int]:
    """Return up to `wanted` places, evenly over 0 .. total - 1."""
    return np.unique(np.linspace(0, total - 1, min(total, wanted)).round().astype(int)).tolist() if total else []


def _drawn(ordered: Sequence[int], seed: int) -> list[int]:
    """Return the first, the last and some drawn in between, in their order."""
    if len(ordered) <= NUM_CLUSTERS:
        return list(ordered)
    draw = np.random.default_rng(draw_seed(seed, "contact sheets"))
    inner = sorted(draw.choice(len(ordered) - 2, NUM_CLUSTERS - 2, replace=False).tolist())
    return [ordered[0], *(ordered[place + 1] for place in inner), ordered[-1]]


@dataclass(frozen=True)
class _Alike:
    of: Mapping[int, float]
    within: float | None
    between: float | None


def _similarities(version: DatasetVersion, rows: Rows, clusters: Sequence[int]) -> _Alike:
    """Return mean similarities over all pairs, exactly, with one shard's embeddings in memory at a time.

    The pairs of n vectors x sum up to (|sum of x|^2 - sum of |x|^2) / 2, so no pair has to be looked at.
    """
    if _EMBEDDING not in {field["name"] for field in version.manifest.body["fields"]}:
        return _Alike({}, None, None)
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
            mine = vectors[here == label]
            sums[label] += mine.sum(axis=0)
            squares[label] += (mine**2).sum()
    if sums is None:
        return _Alike({}, None, None)
    counts = np.bincount(labels, minlength=len(numbers) + 1)
    pairs = counts * (counts - 1.0)
    products = (sums**2).sum(axis=1) - squares
    found = {cluster: float(products[number] / pairs[number]) for cluster, number in numbers.items() if pairs[number]}
    listed = slice(0, len(numbers))
    inside, everything = pairs[listed].sum(), len(labels) * (len(labels) - 1.0)
    whole = (sums.sum(axis=0) ** 2).sum() - squares.sum()
    within = float(products[listed].sum() / inside) if inside else None
    return _Alike(found, within, float(whole / everything) if everything else None)


def _embeddings(version: DatasetVersion, shard: int, expected: int) -> NDArray[np.float64]:
    column = version.sidecar(shard, [_EMBEDDING])[_EMBEDDING].combine_chunks()
    if len(column) != expected:
        told = f"{version.ref}: {shard:05d}.parquet has {len(column)} rows, the manifest says {expected}"
        raise InputError(told, fix="run clipcurate verify")
    vectors: NDArray[np.float64] = column.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    return vectors.reshape(len(column), -1)


def cluster_section(found: ClusterSheets, pictures: Thumbnails) -> Html:
    """Return a contact sheet for each cluster; nothing when there are none."""
    parts: list[Html] = []
    for sheet in found.sheets:
        label = f"Cluster {sheet.cluster}"
        facts = [f"{sheet.size:,} sample(s)"]
        facts += [] if sheet.difficulty is None else [f"mean difficulty {sheet.difficulty:.3f}"]
        facts += [] if sheet.similarity is None else [f"mean similarity {sheet.similarity:.3f}"]
        shown = [pictures.picture(uid, f"sample {uid}") for uid in sheet.uids]
        parts.append(tag("h3", label, tag("span", f" {', '.join(facts)}", class_="soft")))
        parts.append(tag("div", *shown, class_="sheet", role="group", aria_label=label))
    return join([_note(found), *parts]) if parts else Html("")


def _note(found: ClusterSheets) -> Html:
    told = f"{len(found.sheets):,} of {found.num_clusters:,} clusters: the largest, the smallest, and others at random."
    if len(found.sheets) == found.num_clusters:
        told = f"All {found.num_clusters:,} clusters, the largest first."
    told += " Pictures go from the easiest to the hardest of each."
    if found.within is not None and found.between is not None:
        told += (
            f" Two pictures of one cluster have a mean similarity of {found.within:.3f}, any two of the version "
            f"{found.between:.3f} (cosine of image embeddings, all pairs)."
        )
    return tag("p", told, class_="soft")
