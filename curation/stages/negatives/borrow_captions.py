"""Borrow real captions of visually similar images as negatives: fluent by nature, and false of this image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from curation.engine.stage import Corpus, CorpusStage, Drop, Field
from curation.entailment.word_meanings import WordRelations, word_relations
from curation.knowledge.interface import KnowledgeGraph
from curation.negatives.borrowed_captions import Borrower, Read, read, whole_text_record
from curation.text.edits import normalise
from data_manifests.errors import InputError


@dataclass(frozen=True)
class BorrowCaptions(CorpusStage):
    """Give each sample up to `per_sample` captions of its nearest images that its own captions speak against.

    Provides ``borrow_negatives``, a list of negative records, and ``borrow_rejected``, what was refused on the way (see
    `curation.negatives.borrowed_captions.REASONS`). A record's ``caption`` is the own caption that shares most words with the borrowed
    text, its edit spans both as a whole, its ``type`` says what the text names that no own caption does, and its
    ``rule`` names the image that it comes from. Each neighbour lends one caption at most.

    A text is refused when one own caption, or all together, say it already, and when nothing in them speaks against it.
    A neighbour more similar than the `most_similar` percentile of all neighbours is likely the same scene, and lends
    nothing.

    Attributes:
        per_sample: Most negatives of a sample, 1 or more.
        neighbours: Most neighbours that are looked at, nearest first, 1 or more.
        most_similar: Percentile of the similarities of all neighbours looked at, 0 to 100; 100 refuses none.
        graph: Knows synonyms and kinds beyond our own lists; none leaves those alone.

    Raises:
        InputError: a setting is out of range; in `fit`, a neighbour that is no such record.

    Source: Yuksekgonul et al. 2023 (NegCLIP), section 4, arXiv 2210.01936: an image's nearest neighbours are its hard
        alternatives; Hsieh et al. 2023 (SugarCrepe), arXiv 2306.14610: negatives must be as fluent as captions.
    Differs: NegCLIP puts neighbours into the batch whole, where a true caption of the neighbour counts as false of the
        image whatever it says; here only captions that the image's own contradict are taken.
    """

    name: ClassVar[str] = "borrow_captions"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("captions", "parses", "image_neighbours")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("borrow_negatives", kind="json", publish="sample", role="negatives"),
        Field("borrow_rejected", kind="json", publish="store", role="rejects"),
    )
    source: ClassVar[str] = "Yuksekgonul et al. 2023, section 4, arXiv 2210.01936"

    per_sample: int = 3
    neighbours: int = 8
    most_similar: float = 98.0
    graph: KnowledgeGraph | None = None

    def __post_init__(self) -> None:
        for name in ("per_sample", "neighbours"):
            if getattr(self, name) < 1:
                raise InputError(f"{self.name}: {name} is {getattr(self, name)}", allowed="1 or more", fix="raise it")
        if not 0 <= self.most_similar <= 100:
            raise InputError(
                f"{self.name}: most_similar is {self.most_similar}",
                allowed="a percentile, 0 to 100",
                fix="the default is 98",
            )

    def fit(self, corpus: Corpus) -> list[dict[str, Any] | Drop]:
        """Borrow for every sample; neighbours that are no longer in are passed over."""
        uids = list(corpus.uids)
        place = {uid: at for at, uid in enumerate(uids)}
        near = [
            self._neighbours(uid, found, place)
            for uid, found in zip(uids, corpus.column("image_neighbours"), strict=True)
        ]
        values = [similarity for of_sample in near for _, similarity in of_sample]
        limit = float(np.percentile(values, self.most_similar)) if values else 1.0
        texts = [
            read(tuple(captions), parses)
            for captions, parses in zip(corpus.column("captions"), corpus.column("parses"), strict=True)
        ]
        words = {noun for one in texts for facts in one.facts for noun in (*facts.nouns, *facts.verbs)}
        kinds = word_relations(self.graph, words if self.graph is not None else ())
        return [self._of_sample(at, near[at], limit, uids, texts, kinds) for at in range(len(uids))]

    def _neighbours(self, uid: str, found: Any, place: Mapping[str, int]) -> list[tuple[int, float]]:
        """Return (place, similarity) of a sample's neighbours, nearest first, equal ones by uid."""
        if not isinstance(found, list) or not all(_is_neighbour(item) for item in found):
            raise InputError(
                f"sample {uid}: field 'image_neighbours' holds {str(found)[:80]!r}",
                allowed='a list of {"uid", "similarity"}',
                fix="run the stage that finds neighbours before this one",
            )
        here = [item for item in found if item["uid"] in place and item["uid"] != uid]
        ranked = sorted(here, key=lambda item: (-item["similarity"], item["uid"]))
        return [(place[item["uid"]], float(item["similarity"])) for item in ranked[: self.neighbours]]

    def _of_sample(
        self,
        at: int,
        near: Sequence[tuple[int, float]],
        limit: float,
        uids: Sequence[str],
        texts: Sequence[Read],
        kinds: WordRelations,
    ) -> dict[str, Any]:
        own, negatives, rejected = texts[at], list[dict[str, Any]](), list[dict[str, Any]]()
        borrower = Borrower(own, kinds)
        taken: set[str] = set()
        for other, similarity in near:
            if len(negatives) == self.per_sample:
                break
            rule = f"borrow from {uids[other]}"
            if self.most_similar < 100 and similarity > limit:
                shown = texts[other].captions[0]
                rejected.append(_reject(shown, borrower, "too_similar", rule, f"similarity {similarity:.4f}"))
                continue
            for index, text in enumerate(texts[other].captions):
                kind, reason = borrower.judge(texts[other], index)
                reason = reason or ("repeated" if normalise(text) in taken else "")
                if reason:
                    rejected.append(_reject(text, borrower, reason, rule, f"caption {index}"))
                    continue
                taken.add(normalise(text))
                caption = borrower.nearest(text)
                record = {
                    "text": text,
                    "caption": caption,
                    "operation": "borrow",
                    "span_class": "caption",
                    "type": kind,
                }
                record |= whole_text_record(own, caption, text, texts[other].parses[index])
                negatives.append(record | {"rule": f"{rule}, caption {index}", "source": self.name})
                break
        return {"borrow_negatives": negatives, "borrow_rejected": rejected}


def _is_neighbour(item: Any) -> bool:
    return (
        isinstance(item, Mapping)
        and isinstance(item.get("uid"), str)
        and isinstance(item.get("similarity"), int | float)
    )


def _reject(text: str, borrower: Borrower, reason: str, rule: str, detail: str) -> dict[str, Any]:
    return {"text": text, "caption": borrower.nearest(text), "reason": reason, "rule": rule, "detail": detail}
