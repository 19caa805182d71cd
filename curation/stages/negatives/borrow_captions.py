"""Use captions of visually similar images as negatives: fluent by nature, and false of this image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from curation.engine.stage import Corpus, CorpusStage, Drop, Field
from curation.entailment.word_meanings import WordRelations, word_relations
from curation.knowledge.interface import KnowledgeGraph
from curation.negatives.borrowed_captions import CaptionBorrower, ImageTexts, read
from curation.text.edits import normalise
from data_manifests.errors import InputError


@dataclass(frozen=True)
class BorrowCaptions(CorpusStage):
    """Give each sample up to `per_sample` captions of its nearest images that its own captions contradict.

    Provides ``borrow_negatives``, a list of negative records, and ``borrow_rejected``, the rejected texts (see
    `curation.negatives.borrowed_captions.REASONS`). A record's ``caption`` is the own caption that shares most words with
    the borrowed text, its edit spans both as a whole, its ``type`` says what the text mentions that no own caption does,
    and its ``rule`` names the image it comes from. Each neighbour gives one caption at most.

    A text is rejected when one own caption, or all together, already say it, and when none of them contradicts it. A
    neighbour more similar than the `most_similar` percentile of all neighbours is likely the same scene, and gives none.

    Attributes:
        per_sample: Most negatives of a sample, 1 or more.
        neighbours: Most neighbours that are used, nearest first, 1 or more.
        most_similar: Percentile of the similarities of all these neighbours, 0 to 100; 100 rejects none.
        graph: Synonyms and kinds beyond our own lists; None uses the lists only.

    Raises:
        InputError: a setting is out of range; in `fit`, a malformed neighbour record.

    Source: Yuksekgonul et al. 2023 (NegCLIP), section 4, arXiv 2210.01936: an image's nearest neighbours are its hard
        alternatives; Hsieh et al. 2023 (SugarCrepe), arXiv 2306.14610: negatives must be as fluent as captions.
    Differs: NegCLIP adds whole neighbours to the batch, where each of their captions counts as false of the image
        whatever it says; here only captions that the image's own contradict are used.
    """

    name: ClassVar[str] = "borrow_captions"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("captions", "parses", "image_neighbours")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("borrow_negatives", publish="sample", role="negatives"),
        Field("borrow_rejected", role="rejects"),
    )
    source: ClassVar[str] = "Yuksekgonul et al. 2023, section 4, arXiv 2210.01936"

    per_sample: int = 3
    neighbours: int = 8
    most_similar: float = 98.0
    graph: KnowledgeGraph | None = None

    def __post_init__(self) -> None:
        self.check_least(per_sample=1, neighbours=1)
        percentile = 0 <= self.most_similar <= 100
        self.require(percentile, "most_similar", allowed="a percentile, 0 to 100", fix="the default is 98")

    def fit(self, corpus: Corpus) -> list[dict[str, Any] | Drop]:
        """Borrow for every sample; neighbours that were dropped are skipped."""
        uids = list(corpus.uids)
        place = {uid: number for number, uid in enumerate(uids)}
        near = [
            self._neighbours(uid, records, place)
            for uid, records in zip(uids, corpus.column("image_neighbours"), strict=True)
        ]
        values = [similarity for of_sample in near for _, similarity in of_sample]
        limit = float(np.percentile(values, self.most_similar)) if values else 1.0
        texts = [
            read(tuple(captions), parses)
            for captions, parses in zip(corpus.column("captions"), corpus.column("parses"), strict=True)
        ]
        words = {word for image in texts for facts in image.facts for word in (*facts.nouns, *facts.verbs)}
        kinds = word_relations(self.graph, words if self.graph is not None else ())
        return [self._of_sample(own, near[number], limit, uids, texts, kinds) for number, own in enumerate(texts)]

    def _neighbours(self, uid: str, records: Any, place: Mapping[str, int]) -> list[tuple[int, float]]:
        """Return (place, similarity) of a sample's neighbours, nearest first, equal ones by uid."""
        if not isinstance(records, list) or not all(_is_neighbour(item) for item in records):
            raise InputError(
                f"sample {uid}: field 'image_neighbours' contains {str(records)[:80]!r}",
                allowed='a list of {"uid", "similarity"}',
                fix="run the stage that finds neighbours before this one",
            )
        here = [item for item in records if item["uid"] in place and item["uid"] != uid]
        ranked = sorted(here, key=lambda item: (-item["similarity"], item["uid"]))
        return [(place[item["uid"]], float(item["similarity"])) for item in ranked[: self.neighbours]]

    def _of_sample(
        self,
        own: ImageTexts,
        near: Sequence[tuple[int, float]],
        limit: float,
        uids: Sequence[str],
        texts: Sequence[ImageTexts],
        kinds: WordRelations,
    ) -> dict[str, Any]:
        negatives, rejected = list[dict[str, Any]](), list[dict[str, Any]]()
        borrower = CaptionBorrower(own, kinds)
        taken: set[str] = set()
        for other, similarity in near:
            if len(negatives) == self.per_sample:
                break
            rule = f"borrow from {uids[other]}"
            if self.most_similar < 100 and similarity > limit:
                first = texts[other].captions[0]
                rejected.append(_reject(first, borrower, "too_similar", rule, f"similarity {similarity:.4f}"))
                continue
            for index, text in enumerate(texts[other].captions):
                kind, reason = borrower.judge(texts[other], index)
                reason = reason or ("repeated" if normalise(text) in taken else "")
                if reason:
                    rejected.append(_reject(text, borrower, reason, rule, f"caption {index}"))
                    continue
                taken.add(normalise(text))
                caption = borrower.nearest(text)
                num_old, num_new = len(own.parses[caption]["words"]), len(texts[other].parses[index]["words"])
                record = {
                    "text": text, "caption": caption, "operation": "borrow", "span_class": "caption", "type": kind,
                    "edits": [[0, len(own.captions[caption]), 0, len(text)]], "tokens": [[0, num_old, 0, num_new]],
                    "rule": f"{rule}, caption {index}", "source": self.name,
                }  # fmt: skip
                negatives.append(record)
                break
        return {"borrow_negatives": negatives, "borrow_rejected": rejected}


def _is_neighbour(item: Any) -> bool:
    return (
        isinstance(item, Mapping)
        and isinstance(item.get("uid"), str)
        and isinstance(item.get("similarity"), int | float)
    )


def _reject(text: str, borrower: CaptionBorrower, reason: str, rule: str, detail: str) -> dict[str, Any]:
    return {"text": text, "caption": borrower.nearest(text), "reason": reason, "rule": rule, "detail": detail}
