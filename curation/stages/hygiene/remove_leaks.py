"""Drop training samples that are also in an evaluation set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.dedup.evaluation_sets import EvaluationSet, EvaluationSets
from curation.dedup.matching import (
    TRAIN_SPLITS,
    Candidates,
    Detectors,
    Earlier,
    ImageSignatures,
    Match,
    candidates_between,
    describe_evidence,
    stacked_thumbnails,
)
from curation.engine.fits import Fit
from curation.engine.stage import Columns, Drop, Field, IndexedStage, PreviousIndex
from data_manifests.errors import InputError


@dataclass(frozen=True)
class RemoveLeaks(Detectors, IndexedStage):
    """Drop samples whose image is in an evaluation set: the same bytes, or a copy found as `find_duplicates` does.

    Samples of an evaluation split stay, as they are not trained on. Without evaluation sets nothing is dropped.

    The state has the candidate pairs with their evidence; only new and edited samples are compared with the sets.

    Attributes:
        against: The evaluation sets.
        embeddings: Whether embeddings give candidates too; requires `embed_samples`.
        radius: Maximum number of the 64 bits in which hashes of copies differ.
        neighbours: Number of nearest evaluation images by embedding that are candidates.
        closest: Number of closest pairs by embedding that are candidates, for each set, as a share of the samples.
        least_agreement: Minimum correlation of the fine structure of copies.
        similarity_alone: Cosine of embeddings from which pixels are not checked; None checks all candidates.

    Source: Radford 2021 (CLIP), section 5, data overlap analysis, arXiv 2103.00020.
    Differs: CLIP trains a detector and only reports overlap; here hash and embedding give candidates, the pixels
        decide, and leaks are dropped.
    """

    name = "remove_leaks"
    version = 2
    requires = ("split", "hash_windows", "thumbnail")
    provides = (Field("leak_checked"),)
    drops = ("leak",)
    source = "Radford 2021, section 5, arXiv 2103.00020"

    against: EvaluationSets
    embeddings: bool = False

    def required_fields(self) -> tuple[str, ...]:
        """Return `requires`, and embeddings if they are used."""
        return (*self.requires, "image_embedding") if self.embeddings else self.requires

    def update(self, columns: Columns, before: PreviousIndex | None) -> Fit:
        """Return the state: which samples are compared, and candidate pairs with each evaluation set.

        Raises:
            InputError: the sets were embedded by another model.
        """
        windows, trained = list[str](), list[bool]()
        for samples in columns.batches("split", "hash_windows"):
            windows += [sample["hash_windows"] for sample in samples]
            trained += [sample.split in TRAIN_SPLITS for sample in samples]
        vectors = columns.vectors("image_embedding") if self.embeddings else None
        images = ImageSignatures(columns.uids, windows, stacked_thumbnails(columns), vectors)
        arrays: dict[str, np.ndarray[Any, Any]] = {"trained": np.array(trained, np.uint8)}
        for place, (number, each) in enumerate(self._sets()):
            prefix = f"set_{place}_"

            @cache
            def other(number: int = number) -> ImageSignatures:
                found = self.against.signatures(number, embedded=self.embeddings)
                if images.embeddings is not None and found.embeddings is not None:
                    _check_widths(images.embeddings, found.embeddings)
                return found

            earlier = Earlier.of(before, self.neighbours, prefix)
            pairs = candidates_between(images, np.flatnonzero(trained), other, len(each.items), self, earlier)
            uids = before.state.arrays[f"{prefix}items"] if before else _places(each, other().uids)
            arrays |= {**pairs.arrays(prefix), f"{prefix}items": uids}
        return Fit(arrays=arrays)

    def results(self, columns: Columns, state: Fit) -> Iterator[dict[str, Any] | Drop]:
        """Yield ``leak_checked`` (the number of evaluation images it was compared with) or a drop, for each sample.

        Raises:
            InputError: no sample would be left.
        """
        leaks: dict[int, str] = {}
        for place, (_, each) in enumerate(self._sets()):
            leaks = self._leaks(columns.uids, state, place, each) | leaks
        if leaks and len(leaks) == columns.num_samples:
            raise InputError(
                f"--against {self.against.describe()}: every sample of the data set is in an evaluation set",
                allowed="evaluation sets that contain at most a part of the data set",
                fix="use different splits, such as --split train with --against KIND:PATH#test",
            )
        total = sum(len(each.items) for each in self.against.sets)
        for row, is_trained in enumerate(state.arrays["trained"].tolist()):
            yield Drop("leak", leaks[row]) if row in leaks else {"leak_checked": total if is_trained else 0}

    def _sets(self) -> list[tuple[int, EvaluationSet]]:
        """Return the sets and their numbers in `against`, in an order that does not depend on how they were given."""
        return sorted(enumerate(self.against.sets), key=lambda item: (item[1].name, item[1].items))

    def _leaks(self, uids: Sequence[str], state: Fit, place: int, each: EvaluationSet) -> dict[int, str]:
        """Return the leaks of one evaluation set: row -> the set, the evaluation image and the evidence."""
        prefix, best = f"set_{place}_", dict[int, Match]()
        for match in Candidates.load(state.arrays, self.neighbours, prefix).matches(self):
            if match.left not in best or match.agreement > best[match.left].agreement:
                best[match.left] = match
        leaks: dict[int, str] = {}
        for row, match in best.items():
            uid, name = each.items[state.arrays[f"{prefix}items"][match.right]]
            leaks[row] = f"{each.name} {name} {uid}: {describe_evidence(match.evidence())}"
        # by uid are found also the images that could not be decoded
        names, trained = dict(each.items), state.arrays["trained"]
        same = {row: uid for row, uid in enumerate(uids) if trained[row] and uid in names}
        return leaks | {row: f"{each.name} {names[uid]} {uid}: by uid, the same bytes" for row, uid in same.items()}


def _places(each: EvaluationSet, uids: Sequence[str]) -> NDArray[np.int32]:
    """Return where in its items the images of an evaluation set are that could be decoded."""
    place = {uid: number for number, (uid, _) in enumerate(each.items)}
    return np.array([place[uid] for uid in uids], np.int32)


def _check_widths(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> None:
    if ours.shape[1] != theirs.shape[1]:
        raise InputError(
            f"remove_leaks: the data set has embeddings of {ours.shape[1]} dimensions, the evaluation set of "
            f"{theirs.shape[1]}",
            allowed="one model for the data set and its evaluation sets",
            fix="set the model with --model, which applies to both, instead of --set",
        )
