"""Use captions of visually similar images as negatives: fluent by nature, and false of this image."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import orjson

from curation.engine.fits import Fit
from curation.engine.stage import Columns, Drop, Field, IndexedStage, PreviousIndex
from curation.entailment.word_meanings import WordRelations, word_relations
from curation.knowledge.interface import KnowledgeGraph
from curation.negatives.borrowed_captions import CaptionBorrower, ImageTexts, read
from curation.text.edits import normalise
from data_manifests.errors import InputError
from data_manifests.sample import Sample
from data_manifests.seeds import canonical


@dataclass(frozen=True)
class BorrowCaptions(IndexedStage):
    """Give each sample up to `per_sample` captions of its nearest images that its own captions contradict.

    Provides ``borrow_negatives``, a list of negative records, and ``borrow_rejected``, the rejected texts (see
    `curation.negatives.borrowed_captions.REASONS`). A record's ``caption`` is the own caption that shares most words with
    the borrowed text, its edit spans both as a whole, its ``type`` says what the text mentions that no own caption does,
    and its ``rule`` names the image it comes from. Each neighbour gives one caption at most.

    A text is rejected when one own caption, or all together, already say it, and when none of them contradicts it. A
    neighbour more similar than the `most_similar` percentile of all neighbours is likely the same scene, and gives none.

    The state has each sample's result; it is made again when the sample or one of its neighbours has changed, or the
    percentile has moved past the similarity of one.

    Attributes:
        per_sample: Most negatives of a sample, 1 or more.
        neighbours: Most neighbours that are used, nearest first, 1 or more.
        most_similar: Percentile of the similarities of all these neighbours, 0 to 100; 100 rejects none.
        graph: Synonyms and kinds beyond our own lists; None uses the lists only.

    Raises:
        InputError: a setting is out of range; in `update`, a malformed neighbour record.

    Source: Yuksekgonul et al. 2023 (NegCLIP), section 4, arXiv 2210.01936: an image's nearest neighbours are its hard
        alternatives; Hsieh et al. 2023 (SugarCrepe), arXiv 2306.14610: negatives must be as fluent as captions.
    Differs: NegCLIP adds whole neighbours to the batch, where each of their captions counts as false of the image
        whatever it says; here only captions that the image's own contradict are used.
    """

    name: ClassVar[str] = "borrow_captions"
    version: ClassVar[int] = 2
    requires: ClassVar[tuple[str, ...]] = ("captions", "parses", "image_neighbours")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("borrow_negatives", publish="sample", role="negatives"),
        Field("borrow_rejected", role="rejects"),
    )
    source: ClassVar[str] = "Yuksekgonul et al. 2023, section 4, arXiv 2210.01936"
    knows_only_english: ClassVar[bool] = True

    per_sample: int = 3
    neighbours: int = 8
    most_similar: float = 98.0
    graph: KnowledgeGraph | None = None

    def __post_init__(self) -> None:
        self.check_least(per_sample=1, neighbours=1)
        percentile = 0 <= self.most_similar <= 100
        self.require(percentile, "most_similar", allowed="a percentile, 0 to 100", fix="the default is 98")

    def update(self, columns: Columns, before: PreviousIndex | None) -> Fit:
        """Return the state: the limit of similarity, and each sample's result as JSON."""
        place = {uid: row for row, uid in enumerate(columns.uids)}
        near = [self._neighbours(sample, place) for samples in columns.batches() for sample in samples]
        values = [similarity for of_sample in near for _, similarity in of_sample]
        limit = float(np.percentile(values, self.most_similar)) if values and self.most_similar < 100 else np.inf
        known = _known_results(before, limit, near)
        stale = [row for row in range(len(near)) if row not in known]
        needed = {*stale, *(other for row in stale for other, _ in near[row])}
        texts = _read_texts(columns, needed)
        words = {word for image in texts.values() for facts in image.facts for word in (*facts.nouns, *facts.verbs)}
        kinds = word_relations(self.graph, words if self.graph is not None else ())
        for row in stale:
            known[row] = canonical(self._of_sample(row, near[row], limit, columns.uids, texts, kinds))
        found = [known[row] for row in range(len(near))]
        others = [other for of_sample in near for other, _ in of_sample]
        arrays: dict[str, np.ndarray[Any, Any]] = {
            "results": np.frombuffer(b"".join(found), np.uint8),
            "ends": np.cumsum([len(result) for result in found], dtype=np.int64),
            "others": np.array(others, np.int32),
            "num_others": np.array([len(of_sample) for of_sample in near], np.int32),
        }
        return Fit({"limit": None if np.isinf(limit) else limit}, arrays)

    def results(self, columns: Columns, state: Fit) -> Iterator[dict[str, Any] | Drop]:  # noqa: ARG002 - all is in the state
        """Yield the provided fields of each sample."""
        for result in _stored_results(state):
            yield orjson.loads(result)

    def _neighbours(self, sample: Sample, place: Mapping[str, int]) -> list[tuple[int, float]]:
        """Return (row, similarity) of a sample's neighbours, nearest first, equal ones by uid."""
        uid, records = sample.uid, sample["image_neighbours"]
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
        row: int,
        near: Sequence[tuple[int, float]],
        limit: float,
        uids: Sequence[str],
        texts: Mapping[int, ImageTexts],
        kinds: WordRelations,
    ) -> dict[str, Any]:
        own = texts[row]
        negatives, rejected = list[dict[str, Any]](), list[dict[str, Any]]()
        borrower = CaptionBorrower(own, kinds)
        taken: set[str] = set()
        for other, similarity in near:
            if len(negatives) == self.per_sample:
                break
            rule = f"borrow from {uids[other]}"
            if similarity > limit:
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


def _known_results(
    before: PreviousIndex | None, limit: float, near: Sequence[Sequence[tuple[int, float]]]
) -> dict[int, bytes]:
    """Return the earlier results that still hold, by row: sample, neighbours and their sides of the limit are unchanged."""
    if before is None:
        return {}
    limit_before = np.inf if before.state.values["limit"] is None else before.state.values["limit"]
    others = before.row_now[before.state.arrays["others"]].tolist()
    ends = np.cumsum(before.state.arrays["num_others"]).tolist()
    known = {}
    stored = zip(before.row_now.tolist(), _stored_results(before.state), pairwise([0, *ends]), strict=True)
    for row, result, (start, end) in stored:
        same = row >= 0 and others[start:end] == [other for other, _ in near[row]]
        if same and all((similarity > limit) == (similarity > limit_before) for _, similarity in near[row]):
            known[row] = result
    return known


def _stored_results(state: Fit) -> Iterator[bytes]:
    """Yield each sample's result as JSON."""
    stored = state.arrays["results"].tobytes()
    return (stored[start:end] for start, end in pairwise([0, *state.arrays["ends"].tolist()]))


def _read_texts(columns: Columns, needed: Collection[int]) -> dict[int, ImageTexts]:
    """Read the captions of some rows."""
    samples = (sample for part in columns.batches() for sample in part)
    return {row: read(sample.captions, sample["parses"]) for row, sample in enumerate(samples) if row in needed}


def _is_neighbour(item: Any) -> bool:
    return (
        isinstance(item, Mapping)
        and isinstance(item.get("uid"), str)
        and isinstance(item.get("similarity"), int | float)
    )


def _reject(text: str, borrower: CaptionBorrower, reason: str, rule: str, detail: str) -> dict[str, Any]:
    return {"text": text, "caption": borrower.nearest(text), "reason": reason, "rule": rule, "detail": detail}
