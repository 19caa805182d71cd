"""Select negatives so that text alone does not distinguish them from captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np

from curation.blind.adversarial_refinement import mirror_balance
from curation.blind.judges import positive_of
from curation.blind.ngram_model import Float64s, Int64s
from curation.blind.scores import BlindGaps, PairTexts
from curation.engine.stage import Corpus, CorpusStage, Drop, Field, Resource
from curation.negatives.records import STAGE_OF_UNSIGNED_FIELD, NegativeRecord, NegativesStage, add_scores, rejection
from data_manifests.errors import InputError
from data_manifests.seeds import canonical, draw_seed

_DECIMALS = 4
_MIN_GROUP = 64
_FIRST_STEPS, _LATER_STEPS = 25, 100
"""Training steps of the judge: the first round is easy, later ones need more."""


@runtime_checkable
class TextScorer(Resource, Protocol):
    """A model that scores how plausible a text is, whatever the image."""

    def score(self, texts: Sequence[str]) -> Sequence[float]:
        """Return one score per text, higher for better; it depends on that text alone."""


class _Negative(NamedTuple):
    """A negative, its image's place in the corpus and uid, and the true text it is compared with."""

    place: int
    uid: str
    positive: str
    record: NegativeRecord


@dataclass(frozen=True)
class RefineNegatives(NegativesStage, CorpusStage):
    """Mirror-balance negatives over the gaps of blind scorers, within each operation and span class.

    A gap is a scorer's score of the caption minus its score of the negative. Scorers are trigrams of words, trigrams of
    word classes, a linear judge trained to distinguish captions from negatives, and optionally an external model. The
    first three have not seen the image: each image is scored by what was learned from the other folds. A negative stays
    if another has all its gaps with opposite signs, so that each scorer alone and all together are right half of the
    time. Clumsy negatives have few matches, and most of them are dropped: the manifest's usage holds the numbers before
    and after of each operation.

    Provides ``refined_negatives``, the records that stay with their gaps under ``scores`` (``blind_words``,
    ``blind_tags``, ``blind_learned``, ``blind_model``: above 0 where the caption scores higher), ``refine_rejected``,
    the others, and ``refine_usage``, counts per operation.

    Attributes:
        fields: Fields of negatives that are balanced together; this stage's own field is published in their place.
        bins: Numbers of bins of a gap, grid by grid, from fine to coarse; a coarser last grid keeps more and balances
            less exactly.
        num_rounds: How often the judge is trained again on what is left, each time with other folds.
        num_folds: Folds of images, at least 2.
        seed: Seed of folds and draws.
        model: A further scorer, such as a classifier of grammaticality.
        spared: Operations that are scored and kept whole. Exchanging words of one sentence (``swap``, ``bind``,
            ``role``) makes odd sentences by nature: balanced, hardly one in a hundred is left, and models learn
            nothing of word order. The manifest's blind accuracy shows the cost.

    Raises:
        InputError: a setting is out of range; a record of negatives lacks a field.

    Source: adversarial refinement of SugarCrepe, Hsieh et al. 2023, section 4, arXiv 2306.14610; a judge that learns
        from other folds as in AFLite, Le Bras et al. 2020, arXiv 2002.04108.
    Differs:
        - SugarCrepe's scorers are two large pretrained models; here n-gram models of the corpus's own captions and a
          judge of its own negatives, and a pretrained one if given;
        - cells are quantiles on several grids, from fine to coarse: see `mirror_balance`;
        - AFLite drops the examples that are easiest to classify, so that most of the rest are classified wrongly; here
          right and wrong balance.
    """

    name: ClassVar[str] = "refine_negatives"
    version: ClassVar[int] = 3
    requires: ClassVar[tuple[str, ...]] = ("uid", "captions", "parses")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("refined_negatives", publish="sample", role="negatives"),
        Field("refine_rejected", role="rejects"),
        Field("refine_usage", role="usage"),
    )
    source: ClassVar[str] = "Hsieh et al. 2023 (SugarCrepe), section 4, arXiv 2306.14610"

    bins: tuple[int, ...] = (8, 4, 2)
    num_rounds: int = 2
    num_folds: int = 5
    seed: int = 0
    model: TextScorer | None = None
    spared: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(num_rounds=1, num_folds=2)
        fine_to_coarse = list(self.bins) == sorted(self.bins, reverse=True) and all(1 <= num <= 64 for num in self.bins)
        allowed = "numbers from 64 to 1, from fine to coarse"
        self.require(bool(self.bins) and fine_to_coarse, "bins", allowed=allowed, fix="use 8, 4, 2")

    def fit(self, corpus: Corpus) -> list[dict[str, Any] | Drop]:
        """Return the negatives that stay, the others, and their counts, for each uid."""
        negatives = list(self._read(corpus))
        results: list[dict[str, Any]] = [
            {"refined_negatives": [], "refine_rejected": [], "refine_usage": {}} for _ in corpus.uids
        ]
        if negatives:
            names, gaps, kept = self._balance(corpus, negatives)
            for number, one in enumerate(negatives):
                scores = dict(zip(names, gaps[number].tolist(), strict=True))
                _add(results[one.place], one.record, scores, stays=bool(kept[number]))
        return list(results)

    def _read(self, corpus: Corpus) -> Iterator[_Negative]:
        """Yield all negatives, image by image, field by field."""
        columns = [(name, corpus.column(name)) for name in self.fields]
        for place, (uid, captions) in enumerate(zip(corpus.uids, corpus.column("captions"), strict=True)):
            for name, column in columns:
                for record in column[place]:
                    yield _Negative(place, uid, _positive(record, captions, uid, name), _signed(record, name))

    def _balance(
        self, corpus: Corpus, negatives: Sequence[_Negative]
    ) -> tuple[list[str], Float64s, np.ndarray[Any, Any]]:
        """Return the scorers' names, their gaps [negatives, scorers], and which negatives stay."""
        places = np.array([one.place for one in negatives])
        folds = self._folds(corpus, 0)
        scorers = self._scorers(corpus, negatives, folds)
        fixed: dict[str, Float64s] = {
            "blind_words": scorers.words,
            "blind_tags": scorers.tags,
            **self._model_gaps(negatives),
        }
        draws = np.array(
            [draw_seed(self.seed, self.name, one.uid, one.positive, one.record["text"]) for one in negatives], np.uint64
        )
        groups = _groups(negatives)
        chosen = np.arange(len(negatives))
        gaps = np.zeros((len(negatives), len(fixed) + 1))
        gaps[:, 1:] = np.stack(list(fixed.values()), axis=1)
        for number in range(self.num_rounds):
            # with the same folds the remaining gaps would look smaller than they are: they were balanced over them
            folds = self._folds(corpus, number)
            steps = _LATER_STEPS if number else _FIRST_STEPS
            gaps[chosen, 0] = scorers.learned_gaps(chosen, folds[places[chosen]], steps)
            stays = mirror_balance(gaps[chosen], groups[chosen], draws[chosen], self.bins)
            chosen = chosen[stays]
        kept = np.array([one.record["operation"] in self.spared for one in negatives], np.bool_)
        kept[chosen] = True
        return ["blind_learned", *fixed], gaps, kept

    def _folds(self, corpus: Corpus, number: int) -> Int64s:
        """Return each image's fold in a round."""
        return np.array([draw_seed(self.seed, self.name, uid, "fold", number) % self.num_folds for uid in corpus.uids])

    def _scorers(self, corpus: Corpus, negatives: Sequence[_Negative], folds: Int64s) -> BlindGaps:
        """Fit the scorers of the corpus."""
        of_image = corpus.column("captions")
        parses = corpus.column("parses")
        texts = PairTexts(
            captions=[caption for captions in of_image for caption in captions],
            caption_folds=np.repeat(folds, [len(captions) for captions in of_image]),
            positives=[one.positive for one in negatives],
            negatives=[one.record["text"] for one in negatives],
            pair_folds=folds[[one.place for one in negatives]],
            num_folds=self.num_folds,
        )
        return BlindGaps(texts, ((parse["words"], parse["tags"]) for of_one in parses for parse in of_one))

    def _model_gaps(self, negatives: Sequence[_Negative]) -> dict[str, Float64s]:
        """Return the gaps of the external model, if there is one; equal texts are scored once."""
        if self.model is None:
            return {}
        texts = sorted({text for one in negatives for text in (one.positive, one.record["text"])})
        score = dict(zip(texts, self.model.score(texts), strict=True))
        gaps = [score[one.positive] - score[one.record["text"]] for one in negatives]
        return {"blind_model": np.array([round(gap, _DECIMALS) for gap in gaps], np.float64)}


def _positive(record: NegativeRecord, captions: Sequence[str], uid: str, name: str) -> str:
    """Return the true text a record is compared with: the one it names, or the caption it was made from.

    Raises:
        InputError: the record lacks a field of every negative, or names a caption that does not exist.
    """
    types = {"text": str, "operation": str, "span_class": str, "caption": int}
    wrong = [key for key, kind in types.items() if not isinstance(record.get(key), kind)]
    if wrong or not 0 <= record["caption"] < len(captions):
        raise InputError(
            f"sample {uid}: a record of '{name}' has no usable {', '.join(wrong) or 'caption number'}",
            allowed="records with text, operation, span_class and the number of one of the image's captions",
            fix=f"correct the stage that provides '{name}'",
        )
    return positive_of(record, captions)


def _signed(record: NegativeRecord, name: str) -> NegativeRecord:
    """Return a record with the name of the stage that made it."""
    if "source" in record or name not in STAGE_OF_UNSIGNED_FIELD:
        return record
    return {**record, "source": STAGE_OF_UNSIGNED_FIELD[name]}


def _kind(record: NegativeRecord) -> str:
    return f"{record['operation']} {record['span_class']}"


def _groups(negatives: Sequence[_Negative]) -> Int64s:
    """Return each negative's group: operation and span class, or the operation alone for rare classes."""
    kinds = [_kind(one.record) for one in negatives]
    counts = Counter(kinds)
    names = [
        kind if counts[kind] >= _MIN_GROUP else one.record["operation"]
        for one, kind in zip(negatives, kinds, strict=True)
    ]
    return np.unique(names, return_inverse=True)[1]


def _add(result: dict[str, Any], record: NegativeRecord, scores: Mapping[str, float], *, stays: bool) -> None:
    """Add a negative to its image's results."""
    usage = result["refine_usage"]
    kind = _kind(record)
    usage[f"given {kind}"] = usage.get(f"given {kind}", 0) + 1
    if stays:
        usage[f"kept {kind}"] = usage.get(f"kept {kind}", 0) + 1
        result["refined_negatives"].append(add_scores(record, scores))
    else:
        result["refine_rejected"].append(rejection(record, "unbalanced", f"{kind} {canonical(scores).decode()}"))
