"""Find duplicate images, group them, and keep all or one of each group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from curation.dedup.captions import same_caption_pairs, shared_caption_groups
from curation.dedup.groups import star_groups
from curation.dedup.matching import TRAIN_SPLITS, Detectors, ImageSignatures, Match, describe_evidence, find_matches
from curation.engine.stage import Corpus, CorpusStage, Drop, Field

RULES = ("all", "one")


@dataclass(frozen=True)
class FindDuplicates(Detectors, CorpusStage):
    """Near-duplicates: candidates by perceptual hash, embedding and captions, confirmed by aligning their thumbnails.

    A group is named by its smallest uid. With ``keep="one"`` the largest image of a group stays; among equals the one
    with most distinct captions, then the smallest uid. Samples of an evaluation split always stay, and their duplicates
    among the training samples are dropped.

    Attributes:
        keep: ``all``, or ``one`` of each group.
        embeddings: Whether embeddings give candidates too; requires `embed_samples`.
        radius: Maximum number of the 64 bits in which hashes of duplicates differ.
        neighbours: Number of nearest neighbours by embedding that are candidates.
        closest: Number of closest pairs by embedding that are candidates, as a share of the number of samples.
        least_agreement: Minimum correlation of the fine structure of duplicates.
        similarity_alone: Cosine of embeddings from which pixels are not checked (SemDeDup); None checks all candidates.
        caption_share: Minimum share of near-duplicate captions that makes two samples candidates.
        largest_group: Maximum size of a group.

    Source: Abbas et al. 2023 (SemDeDup), section 3, arXiv 2303.09540.
    Differs: SemDeDup drops by cosine within a cluster; here cosine, hash and captions only give candidates, and the
        pixels decide, so that photographs of similar scenes stay. Groups are stars, not chains.
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
    caption_share: float = 0.5
    largest_group: int = 1000

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            InputError: a value is out of range.
        """
        self.require(
            self.keep in RULES and 0 <= self.radius <= 15 and self.largest_group >= 2,
            "keep radius largest_group",
            allowed="keep all or one, radius 0 to 15, largest_group 2 or more",
            fix="for example --set stages.find_duplicates.keep=one",
        )

    def required_fields(self) -> tuple[str, ...]:
        """Return `requires`, and embeddings if they are used."""
        return (*self.requires, "image_embedding") if self.embeddings else self.requires

    def fit(self, corpus: Corpus) -> list[dict[str, Any] | Drop]:
        """Return ``duplicate_group``, ``caption_group`` ("" for none) and ``duplicate_match``, or a drop, for each."""
        captions = corpus.column("captions")
        shares = same_caption_pairs(captions)
        vectors = corpus.array("image_embedding") if self.embeddings else None
        images = ImageSignatures(corpus.uids, corpus.column("hash_windows"), corpus.array("thumbnail"), vectors)
        candidates = [pair for pair, share in shares.items() if share >= self.caption_share]
        matches = {(item.left, item.right): item for item in find_matches(images, None, self, candidates)}
        caption_groups = [corpus.uids[first] if first >= 0 else "" for first in shared_caption_groups(captions)]
        results: list[dict[str, Any] | Drop] = [
            {"duplicate_group": "", "caption_group": group, "duplicate_match": {}} for group in caption_groups
        ]
        sizes = [info["width"] * info["height"] for info in corpus.column("image_info")]
        splits, num_captions = corpus.column("split"), [len(set(texts)) for texts in captions]
        for members in star_groups(len(corpus.uids), matches, self.largest_group):
            kept = min(members, key=lambda i: (splits[i] in TRAIN_SPLITS, -sizes[i], -num_captions[i], i))
            for member in members:
                evidence = _best_match(corpus.uids, member, kept, members, matches, shares)
                if self.keep == "one" and member != kept and splits[member] in TRAIN_SPLITS:
                    results[member] = Drop("near_duplicate", _drop_detail(corpus.uids[kept], evidence))
                else:
                    group = {"duplicate_group": corpus.uids[members[0]], "caption_group": caption_groups[member]}
                    results[member] = {**group, "duplicate_match": evidence}
        return results


def _best_match(
    uids: Sequence[str],
    member: int,
    kept: int,
    members: Sequence[int],
    matches: dict[tuple[int, int], Match],
    shares: dict[tuple[int, int], float],
) -> dict[str, Any]:
    """Return what a member matched: the sample that stays if these two match, otherwise its best match in the group."""
    pairs = [(min(member, other), max(member, other)) for other in members if other != member]
    matched = [pair for pair in pairs if pair in matches]
    best = max(matched, key=lambda pair: (kept in pair, matches[pair].agreement, -pair[0], -pair[1]))
    evidence = matches[best].evidence()
    if (share := shares.get(best)) is not None:
        evidence["by"].append("caption")
    return {"uid": uids[best[0] if best[1] == member else best[1]], **evidence, "captions": share}


def _drop_detail(kept: str, evidence: dict[str, Any]) -> str:
    through = "" if evidence["uid"] == kept else f" through {evidence['uid']}"
    return f"like {kept}{through}: {describe_evidence(evidence)}"
