"""Take out what is trained on and also evaluated on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from curation.dedup.evaluation_sets import EvaluationSets
from curation.dedup.matching import Detectors, ImageSignatures, Match, find_matches
from curation.engine.stage import Corpus, CorpusStage, Drop, Field
from data_manifests.errors import InputError

_TRAINED = (None, "train")


@dataclass(frozen=True)
class RemoveLeaks(CorpusStage):
    """Drop samples that show a picture of an evaluation set: the same bytes, or a copy found as duplicates are found.

    Samples of an evaluation split stay, as they are not trained on. Without evaluation sets nothing is dropped.

    Attributes:
        against: The evaluation sets.
        embeddings: Whether embeddings name candidates too; needs `embed_samples`.
        radius: Bits of 64 by which hashes may differ.
        neighbours: Nearest evaluation pictures by embedding that are candidates.
        closest: Share of the samples: so many closest pairs by embedding get a second look, for each set.
        least_agreement: Correlation of the fine structure from which two pictures show the same.
        similarity_alone: Cosine of embeddings from which no second look is needed; None always looks.

    Source: Radford 2021 (CLIP), section 5, data overlap analysis, arXiv 2103.00020.
    Differs: CLIP trains a detector and only reports; here hash and embedding name candidates, the pixels decide, and
        what leaks is dropped.
    """

    name = "remove_leaks"
    version = 1
    requires = ("split", "hash_windows", "thumbnail")
    provides = (Field("leak_checked"),)
    drops = ("leak",)
    source = "Radford 2021, section 5, arXiv 2103.00020"

    against: EvaluationSets
    embeddings: bool = False
    radius: int = 9
    neighbours: int = 5
    closest: float = 1.0
    least_agreement: float = 0.7
    similarity_alone: float | None = None

    def required_fields(self) -> tuple[str, ...]:
        """Return `requires`, and embeddings if they are used."""
        return (*self.requires, "image_embedding") if self.embeddings else self.requires

    def fit(self, corpus: Corpus) -> list[dict[str, Any] | Drop]:
        """Return ``leak_checked`` (how many evaluation pictures it was held against) or a drop, for each sample.

        Raises:
            InputError: nothing would be left, or the sets were embedded by another model.
        """
        splits = corpus.column("split")
        checked = [at for at, split in enumerate(splits) if split in _TRAINED]
        total = sum(len(each.items) for each in self.against.sets)
        results: list[dict[str, Any] | Drop] = [{"leak_checked": total if split in _TRAINED else 0} for split in splits]
        if not self.against.sets or not checked:
            return results
        vectors = corpus.array("image_embedding")[checked] if self.embeddings else None
        windows = corpus.column("hash_windows")
        pictures = ImageSignatures(
            [corpus.uids[at] for at in checked],
            [windows[at] for at in checked],
            corpus.array("thumbnail")[checked],
            vectors,
        )
        for number, each in sorted(enumerate(self.against.sets), key=lambda item: item[1].name):
            for at, detail in self._leaks(pictures, number).items():
                if not isinstance(results[checked[at]], Drop):
                    results[checked[at]] = Drop("leak", f"{each.name} {detail}")
        if all(isinstance(result, Drop) for result in results):
            raise InputError(
                f"--against {self.against.describe()}: every sample of the data set is in it",
                allowed="evaluation sets that hold a part of the data set at most",
                fix="name one split of the source, such as --split train and --against KIND:PATH#test",
            )
        return results

    def _leaks(self, pictures: ImageSignatures, number: int) -> dict[int, str]:
        """Return what leaks of one evaluation set, by position, with its item and what told."""
        seen = self.against.see(number, embedded=self.embeddings)
        names = dict(self.against.sets[number].items)
        if pictures.embeddings is not None and seen.embeddings is not None:
            _check_widths(pictures.embeddings, seen.embeddings)
        neighbours = self.neighbours if self.embeddings else 0
        how = Detectors(self.radius, neighbours, self.closest, self.least_agreement, self.similarity_alone)
        best: dict[int, Match] = {}
        for match in find_matches(pictures, seen, how):
            if match.left not in best or match.agreement > best[match.left].agreement:
                best[match.left] = match
        items = {at: seen.uids[item.right] for at, item in best.items()}
        found = {at: f"{names[uid]} {uid}: {_sentence(best[at])}" for at, uid in items.items()}
        # also those that could not be decoded
        same = {at: uid for at, uid in enumerate(pictures.uids) if uid in names}
        return found | {at: f"{names[uid]} {uid}: by uid, the same bytes" for at, uid in same.items()}


def _check_widths(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> None:
    if ours.shape[1] != theirs.shape[1]:
        raise InputError(
            f"remove_leaks: embeddings of {ours.shape[1]} and of {theirs.shape[1]} numbers",
            allowed="one model for the data set and its evaluation sets",
            fix="give the model by --model, which both use, instead of --set",
        )


def _sentence(match: Match) -> str:
    told = match.told()
    parts = [f"by {' and '.join(told['by'])}"]
    parts += [f"{match.bits} of 64 bits differ"] if match.bits is not None else []
    parts += [f"cosine {match.similarity:.4f}"] if match.similarity is not None else []
    return ", ".join([*parts, f"agreement {match.agreement:.3f}"])
