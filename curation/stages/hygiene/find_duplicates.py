"""Find duplicate images, group them, and keep all or one of each group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curation.dedup.captions import plain_texts, same_caption_pairs, shared_caption_groups
from curation.dedup.groups import star_groups
from curation.dedup.matching import (
    TRAIN_SPLITS,
    Candidates,
    Detectors,
    Earlier,
    ImageSignatures,
    Match,
    candidates_within,
    describe_evidence,
    stacked_thumbnails,
)
from curation.engine.fits import Fit
from curation.engine.stage import Columns, Drop, Field, IndexedStage, PreviousIndex

RULES = ("all", "one")
_NO_SHARE = -1.0


@dataclass(frozen=True)
class FindDuplicates(Detectors, IndexedStage):
    """Near-duplicates: candidates by perceptual hash, embedding and captions, confirmed by aligning their thumbnails.

    A group is named by its smallest uid. With ``keep="one"`` the largest image of a group stays; among equals the one
    with most distinct captions, then the smallest uid. Samples of an evaluation split always stay, and their duplicates
    among the training samples are dropped.

    The state has the candidate pairs with their evidence. A new or edited sample is compared with all others; pairs of
    unchanged images keep their pixel check. Captions are compared anew each time, as this takes seconds for 100,000.

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
    version = 3
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

    def update(self, columns: Columns, before: PreviousIndex | None) -> Fit:
        """Return the state: candidate pairs with their evidence, and what decides which sample of a group stays."""
        captions, windows, splits, sizes = list[Sequence[str]](), list[str](), list[str | None](), list[int]()
        for samples in columns.batches("captions", "split", "image_info", "hash_windows"):
            captions += [sample.captions for sample in samples]
            windows += [sample["hash_windows"] for sample in samples]
            splits += [sample.split for sample in samples]
            sizes += [sample["image_info"]["width"] * sample["image_info"]["height"] for sample in samples]
        plain = [plain_texts(texts) for texts in captions]
        shares = same_caption_pairs(plain)
        vectors = columns.vectors("image_embedding") if self.embeddings else None
        images = ImageSignatures(columns.uids, windows, stacked_thumbnails(columns), vectors)
        earlier = Earlier.of(before, self.neighbours)
        further = [pair for pair, share in shares.items() if share >= self.caption_share]
        pairs = candidates_within(images, self, further, earlier)
        shared = [shares.get(pair, _NO_SHARE) for pair in zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)]
        return Fit(
            arrays={
                **pairs.arrays(),
                "caption_share": np.array(shared, np.float64),
                "caption_group": np.array(shared_caption_groups(plain), np.int32),
                "num_captions": np.array([len(set(texts)) for texts in captions], np.int32),
                "size_px": np.array(sizes, np.int64),
                "trained": np.array([split in TRAIN_SPLITS for split in splits], np.uint8),
            }
        )

    def results(self, columns: Columns, state: Fit) -> Iterator[dict[str, Any] | Drop]:
        """Yield ``duplicate_group``, ``caption_group`` ("" for none) and ``duplicate_match``, or a drop, for each."""
        uids, pairs = columns.uids, Candidates.load(state.arrays, self.neighbours)
        matches = {(item.left, item.right): item for item in pairs.matches(self)}
        shared = zip(pairs.left.tolist(), pairs.right.tolist(), state.arrays["caption_share"].tolist(), strict=True)
        shares = {(left, right): share for left, right, share in shared if share != _NO_SHARE}
        names = ("trained", "size_px", "num_captions", "caption_group")
        trained, sizes, num_captions, same_captions = (state.arrays[name].tolist() for name in names)
        caption_groups = [uids[first] if first >= 0 else "" for first in same_captions]
        grouped: dict[int, dict[str, Any] | Drop] = {}
        for members in star_groups(len(uids), matches, self.largest_group):
            kept = min(members, key=lambda i: (trained[i], -sizes[i], -num_captions[i], i))
            for member in members:
                evidence = _best_match(uids, member, kept, members, matches, shares)
                if self.keep == "one" and member != kept and trained[member]:
                    grouped[member] = Drop("near_duplicate", _drop_detail(uids[kept], evidence))
                else:
                    grouped[member] = {"duplicate_group": uids[members[0]], "duplicate_match": evidence}
        for member, caption_group in enumerate(caption_groups):
            result = grouped.get(member, {"duplicate_group": "", "duplicate_match": {}})
            yield result if isinstance(result, Drop) else {**result, "caption_group": caption_group}


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
