"""Find pictures that show the same, group them, and keep all or one of each group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from curation.dedup.captions import same_caption_pairs, shared_caption_groups
from curation.dedup.groups import star_groups
from curation.dedup.matching import Detectors, ImageSignatures, Match, find_matches
from curation.engine.stage import Corpus, CorpusStage, Drop, Field
from data_manifests.errors import InputError

RULES = ("all", "one")
_TRAINED = (None, "train")


@dataclass(frozen=True)
class FindDuplicates(CorpusStage):
    """Near-duplicates: candidates by perceptual hash, embedding and captions, judged by laying thumbnails over each other.

    A group is named by its smallest uid. With the rule ``one`` the largest picture stays; among equals the one with most
    distinct captions, then the smallest uid. A sample of an evaluation split always stays, and what is like it among those trained on goes.

    Attributes:
        keep: ``all``, or ``one`` of each group.
        embeddings: Whether embeddings name candidates too; needs `embed_samples`.
        radius: Bits of 64 by which hashes may differ.
        neighbours: Nearest pictures by embedding that are candidates.
        closest: Share of the samples: so many closest pairs by embedding get a second look.
        least_agreement: Correlation of the fine structure from which two pictures show the same.
        similarity_alone: Cosine of embeddings from which no second look is needed (SemDeDup); None always looks.
        caption_share: Share of captions that must be the same but for slips to make two samples candidates.
        largest_group: Most members of a group.

    Source: Abbas et al. 2023 (SemDeDup), section 3, arXiv 2303.09540.
    Differs: SemDeDup drops by cosine within a cluster; here cosine, hash and captions only name candidates, and the
        pixels decide, so that photographs of the same kind of scene stay. Groups are stars, not chains.
    """

    name = "find_duplicates"
    version = 2
    requires = ("captions", "split", "image_info", "hash_windows", "thumbnail")
    provides = (
        Field("duplicate_group", publish="index"),
        Field("caption_group", publish="index"),
        Field("duplicate_match", publish="sidecar"),
    )
    drops = ("near_duplicate",)
    source = "Abbas et al. 2023, section 3, arXiv 2303.09540"

    keep: str = "all"
    embeddings: bool = False
    radius: int = 9
    neighbours: int = 5
    closest: float = 1.0
    least_agreement: float = 0.7
    similarity_alone: float | None = None
    caption_share: float = 0.5
    largest_group: int = 1000

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            InputError: a value is out of range.
        """
        if self.keep not in RULES or not 0 <= self.radius <= 15 or self.largest_group < 2:
            raise InputError(
                f"find_duplicates: keep={self.keep!r}, radius={self.radius}, largest_group={self.largest_group}",
                allowed="keep all or one, radius 0 to 15, largest_group 2 or more",
            )

    def required_fields(self) -> tuple[str, ...]:
        """Return `requires`, and embeddings if they are used."""
        return (*self.requires, "image_embedding") if self.embeddings else self.requires

    def fit(self, corpus: Corpus) -> list[dict[str, Any] | Drop]:
        """Return ``duplicate_group``, ``caption_group`` ("" for none) and ``duplicate_match``, or a drop, for each."""
        captions = corpus.column("captions")
        shares = same_caption_pairs(captions)
        vectors = corpus.array("image_embedding") if self.embeddings else None
        pictures = ImageSignatures(corpus.uids, corpus.column("hash_windows"), corpus.array("thumbnail"), vectors)
        neighbours = self.neighbours if self.embeddings else 0
        how = Detectors(self.radius, neighbours, self.closest, self.least_agreement, self.similarity_alone)
        also = [pair for pair, share in shares.items() if share >= self.caption_share]
        matches = {(item.left, item.right): item for item in find_matches(pictures, None, how, also)}
        groups = star_groups(len(corpus.uids), matches, self.largest_group)
        shared = [corpus.uids[at] if at >= 0 else "" for at in shared_caption_groups(captions)]
        results: list[dict[str, Any] | Drop] = [
            {"duplicate_group": "", "caption_group": text, "duplicate_match": {}} for text in shared
        ]
        sizes = [info["width"] * info["height"] for info in corpus.column("image_info")]
        splits, told_of = corpus.column("split"), [len(set(texts)) for texts in captions]
        for members in groups:
            ranked = sorted(members, key=lambda at: (splits[at] in _TRAINED, -sizes[at], -told_of[at], at))
            for at in members:
                told = _told(corpus.uids, at, ranked[0], members, matches, shares)
                if self.keep == "one" and at != ranked[0] and splits[at] in _TRAINED:
                    results[at] = Drop("near_duplicate", _sentence(corpus.uids[ranked[0]], told))
                else:
                    group = {"duplicate_group": corpus.uids[members[0]], "caption_group": shared[at]}
                    results[at] = {**group, "duplicate_match": told}
        return results


def _told(
    uids: Sequence[str],
    at: int,
    kept: int,
    members: Sequence[int],
    matches: dict[tuple[int, int], Match],
    shares: dict[tuple[int, int], float],
) -> dict[str, Any]:
    """Return what matched a member: with the one that stays if these two match, else its best match in the group."""
    pairs = [(min(at, other), max(at, other)) for other in members if other != at]
    mine = [pair for pair in pairs if pair in matches]
    best = max(mine, key=lambda pair: (kept in pair, matches[pair].agreement, -pair[0], -pair[1]))
    told = matches[best].told()
    if (share := shares.get(best)) is not None:
        told["by"].append("caption")
    return {"uid": uids[best[0] if best[1] == at else best[1]], **told, "captions": share}


def _sentence(kept: str, told: dict[str, Any]) -> str:
    """Return the detail of a drop."""
    through = "" if told["uid"] == kept else f" through {told['uid']}"
    return f"like {kept}{through}: {describe(told)}"


def describe(told: dict[str, Any]) -> str:
    """Return in words what matched."""
    parts = [f"by {' and '.join(told['by']) or 'embedding'}"]
    parts += [f"{told['bits']} of 64 bits differ"] if told["bits"] is not None else []
    parts += [f"cosine {told['similarity']:.4f}"] if told["similarity"] is not None else []
    parts += [f"{told['captions']:.0%} of captions"] if told.get("captions") is not None else []
    return ", ".join([*parts, f"agreement {told['agreement']:.3f}"])
