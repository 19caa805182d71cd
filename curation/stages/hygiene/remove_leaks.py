"""Drop training samples that are also in an evaluation set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from curation.dedup.evaluation_sets import EvaluationSets
from curation.dedup.matching import TRAIN_SPLITS, Detectors, ImageSignatures, Match, describe_evidence, find_matches
from curation.engine.stage import Corpus, CorpusStage, Drop, Field
from data_manifests.errors import InputError


@dataclass(frozen=True)
class RemoveLeaks(Detectors, CorpusStage):
    """Drop samples whose image is in an evaluation set: the same bytes, or a copy found as `find_duplicates` does.

    Samples of an evaluation split stay, as they are not trained on. Without evaluation sets nothing is dropped.

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
    version = 1
    requires = ("split", "hash_windows", "thumbnail")
    provides = (Field("leak_checked"),)
    drops = ("leak",)
    source = "Radford 2021, section 5, arXiv 2103.00020"

    against: EvaluationSets
    embeddings: bool = False

    def required_fields(self) -> tuple[str, ...]:
        """Return `requires`, and embeddings if they are used."""
        return (*self.requires, "image_embedding") if self.embeddings else self.requires

    def fit(self, corpus: Corpus) -> list[dict[str, Any] | Drop]:
        """Return ``leak_checked`` (the number of evaluation images it was compared with) or a drop, for each sample.

        Raises:
            InputError: no sample would be left, or the sets were embedded by another model.
        """
        splits = corpus.column("split")
        checked = [sample for sample, split in enumerate(splits) if split in TRAIN_SPLITS]
        total = sum(len(each.items) for each in self.against.sets)
        results: list[dict[str, Any] | Drop] = [
            {"leak_checked": total if split in TRAIN_SPLITS else 0} for split in splits
        ]
        if not self.against.sets or not checked:
            return results
        vectors = corpus.array("image_embedding")[checked] if self.embeddings else None
        windows = corpus.column("hash_windows")
        images = ImageSignatures(
            [corpus.uids[sample] for sample in checked],
            [windows[sample] for sample in checked],
            corpus.array("thumbnail")[checked],
            vectors,
        )
        for number, each in sorted(enumerate(self.against.sets), key=lambda item: item[1].name):
            for index, detail in self._leaks(images, number).items():
                if not isinstance(results[checked[index]], Drop):
                    results[checked[index]] = Drop("leak", f"{each.name} {detail}")
        if all(isinstance(result, Drop) for result in results):
            raise InputError(
                f"--against {self.against.describe()}: every sample of the data set is in an evaluation set",
                allowed="evaluation sets that contain at most a part of the data set",
                fix="use different splits, such as --split train with --against KIND:PATH#test",
            )
        return results

    def _leaks(self, images: ImageSignatures, number: int) -> dict[int, str]:
        """Return the leaks of one evaluation set: position -> the evaluation image and the evidence."""
        evaluation = self.against.signatures(number, embedded=self.embeddings)
        names = dict(self.against.sets[number].items)
        if images.embeddings is not None and evaluation.embeddings is not None:
            _check_widths(images.embeddings, evaluation.embeddings)
        best: dict[int, Match] = {}
        for match in find_matches(images, evaluation, self):
            if match.left not in best or match.agreement > best[match.left].agreement:
                best[match.left] = match
        leaks: dict[int, str] = {}
        for index, match in best.items():
            uid = evaluation.uids[match.right]
            leaks[index] = f"{names[uid]} {uid}: {describe_evidence(match.evidence())}"
        # by uid are found also the images that could not be decoded
        same = {index: uid for index, uid in enumerate(images.uids) if uid in names}
        return leaks | {index: f"{names[uid]} {uid}: by uid, the same bytes" for index, uid in same.items()}


def _check_widths(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> None:
    if ours.shape[1] != theirs.shape[1]:
        raise InputError(
            f"remove_leaks: the data set has embeddings of {ours.shape[1]} dimensions, the evaluation set of "
            f"{theirs.shape[1]}",
            allowed="one model for the data set and its evaluation sets",
            fix="set the model with --model, which applies to both, instead of --set",
        )
