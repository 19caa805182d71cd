"""Select negatives so that text alone does not distinguish them from captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np

from curation.blind.image_sample import ImageSample
from curation.blind.judges import positive_of
from curation.blind.learning_images import ImagePacker, PackedImage
from curation.blind.refinement import UNKNOWN_KIND, ImagePairs, Kind, Refinement, learn_refinement
from curation.blind.scores import PairTexts
from curation.blind.tokens import UInt64s, hash_words, read_words
from curation.engine.fits import Evidence, Fit, FitCheck, FitKey
from curation.engine.stage import Columns, Drop, Field, FittedStage, Resource
from curation.negatives.records import STAGE_OF_UNSIGNED_FIELD, NegativeRecord, NegativesStage, add_scores, rejection
from data_manifests.errors import InputError
from data_manifests.sample import Sample
from data_manifests.seeds import canonical, draw_seed

_DECIMALS = 4
_MAX_CAPTIONS, _MAX_PAIRS, _MAX_PAIRS_OF_IMAGE = 50_000, 125_000, 20
"""Most captions and pairs to learn from; many pairs of few images would leave few captions."""

_MOST_UNKNOWN = 0.1
"""Largest share of negatives that no group was learned for with which a fit is kept."""

_MAX_DISTANCE = 0.05
"""Largest distance of the blind accuracy from one half, beside two standard errors, with which a fit is kept."""

_SCORERS = ("blind_learned", "blind_words", "blind_tags", "blind_model")
_LABELS = {
    "blind_learned": "the linear judge",
    "blind_words": "word trigrams",
    "blind_tags": "trigrams of word classes",
    "blind_model": "the further scorer",
}


@runtime_checkable
class TextScorer(Resource, Protocol):
    """A model that scores how plausible a text is, whatever the image."""

    def score(self, texts: Sequence[str]) -> Sequence[float]:
        """Return one score per text, higher for better; it depends on that text alone."""


class _Negative(NamedTuple):
    """A negative, and the true text that it is compared with."""

    positive: str
    record: NegativeRecord

    @property
    def kind(self) -> Kind:
        """Operation and span class."""
        return self.record["operation"], self.record["span_class"]


@dataclass(frozen=True)
class RefineNegatives(NegativesStage, FittedStage):
    """Mirror-balance negatives over the gaps of blind scorers, within each operation and span class.

    A gap is a scorer's score of the caption minus its score of the negative. Scorers are trigrams of words, trigrams of
    word classes, a linear judge trained to distinguish captions from negatives, and optionally an external model. The
    first three have not seen the image: each image is scored by what was learned from the other folds. From the gaps of
    a kind's pairs, and from the words that captions have and negatives have not, it is learned by which odds captions are
    preferred there; a negative stays with a chance that makes up for its odds, so that as many are preferred to their
    captions as not, and "two" becomes "three" about as often as "three" becomes "two". What shows no preference stays
    whole, few or many (`MirrorOdds`). Kinds that wording gives away are dropped: the manifest's usage holds the numbers before and
    after of each.

    Fitted, from the images with the smallest hashes (at most 50,000 captions and 125,000 pairs, 20 of an image): counts of trigrams by
    fold, classes and vectors of words, each round's judge of each fold, and the odds of each kind. Applied: the
    negatives of one image are scored; a hash of uid and texts is a negative's draw, so what happens to it depends on no
    other. Words are held as hashes. Checked: the blind accuracy of the kept negatives by each scorer is within 5 points
    of one half, or two standard errors more, and at most a tenth of the negatives are of an operation of which it learned from none.

    Provides ``refined_negatives``, the records that stay with their gaps under ``scores`` (``blind_words``,
    ``blind_tags``, ``blind_learned``, ``blind_model``: above 0 where the caption scores higher), ``refine_rejected``,
    the others (``unbalanced``; ``given_away``: all of its kind are dropped; ``unknown_kind``: none of its operation was
    learned from; ``foreign_word``: it has a word that none of 300 or more captions has, "hedge" among X-rays), ``refine_usage``, counts per operation, and ``refine_evidence``, how often each scorer prefers the
    caption to a kept negative, and how many it was given, or knows nothing of.

    Attributes:
        fields: Fields of negatives that are balanced together; this stage's own field is published in their place.
        num_rounds: How often the judge is trained again on what is left, each time with other folds.
        num_folds: Folds of images, at least 2.
        seed: Seed of folds and draws.
        model: A further scorer, such as a classifier of grammaticality.
        least_share: A kind of which a smaller share and fewer than 100 would stay is dropped whole: 0 to 1.

    Raises:
        InputError: a setting is out of range; a record of negatives lacks a field.

    Source: adversarial refinement of SugarCrepe, Hsieh et al. 2023, section 4, arXiv 2306.14610; a judge that learns
        from other folds as in AFLite, Le Bras et al. 2020, arXiv 2002.04108.
    Differs:
        - SugarCrepe's scorers are two large pretrained models; here n-gram models of the corpus's own captions and a
          judge of its own negatives, and a pretrained one if given;
        - chances by fitted odds instead of counts in cells: see `MirrorOdds`;
        - AFLite drops the examples that are easiest to classify, so that most of the rest are classified wrongly; here
          right and wrong balance.
    """

    name: ClassVar[str] = "refine_negatives"
    version: ClassVar[int] = 10
    requires: ClassVar[tuple[str, ...]] = ("uid", "captions", "parses")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("refined_negatives", publish="sample", role="negatives"),
        Field("refine_rejected", role="rejects"),
        Field("refine_usage", role="usage"),
        Field("refine_evidence", role="evidence"),
    )
    source: ClassVar[str] = "Hsieh et al. 2023 (SugarCrepe), section 4, arXiv 2306.14610"

    num_rounds: int = 2
    num_folds: int = 5
    seed: int = 0
    model: TextScorer | None = None
    least_share: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(num_rounds=1, num_folds=2)
        fix = "use 0.3; 0 gives no kind up for its share"
        self.require(0 <= self.least_share <= 1, "least_share", allowed="a share from 0 to 1", fix=fix)

    def runs_model(self) -> bool:
        """Return whether there is a further scorer."""
        return self.model is not None

    def fit(self, columns: Columns) -> Fit:
        """Learn scorers and grids from a sample of the images."""
        sample: ImageSample[tuple[bytes, int]] = ImageSample("refine_negatives", _MAX_CAPTIONS, _MAX_PAIRS)
        packer, tags = ImagePacker(), dict[str, int]()
        for batch in columns.batches():
            wanted = [one for one in batch if sample.wants(one.uid)]
            for one, pairs in zip(wanted, self._pairs([(one, self._read(one)) for one in wanted]), strict=True):
                captions = pairs.texts.words.take(np.arange(len(one.captions)))
                some = pairs.with_smallest_draws(_MAX_PAIRS_OF_IMAGE)
                learned = PackedImage(some, captions, self._folds(one.uid)[0], *_tagged(one["parses"], tags))
                sample.add(one.uid, (packer.pack(learned), len(pairs.draws)), len(one.captions), len(some.draws))
        images, (_, num_pairs) = sample.items(), sample.totals
        if not num_pairs:
            return Fit({"groups": []})
        del sample
        share = num_pairs / sum(num for _, num in images)
        # each step frees what the one before it held
        texts = [packer.joined([packed for packed, _ in images], list(tags))]
        del images
        arrays, groups = learn_refinement(texts.pop(), self.num_rounds, self.num_folds, self.least_share, share)
        return Fit({"groups": groups}, arrays)

    def apply(self, samples: Sequence[Sample], fit: Fit) -> list[dict[str, Any] | Drop]:
        """Return the negatives of each sample that stay, the others, and their counts."""
        read = [self._read(one) for one in samples]
        num = sum(map(len, read))
        gaps, kept, why = np.zeros((num, 0)), np.zeros(num, np.bool_), [UNKNOWN_KIND] * num
        if num and fit.values["groups"]:
            pairs = ImagePairs.joined(self._pairs(list(zip(samples, read, strict=True))))
            gaps, kept, why = _refinement(FitKey(fit), self.num_folds).decide(pairs)
        reasons = ["" if stays else reason for stays, reason in zip(kept.tolist(), why, strict=True)]
        results: list[dict[str, Any] | Drop] = []
        start = 0
        for negatives in read:
            stop = start + len(negatives)
            results.append(self._result(negatives, gaps[start:stop].tolist(), reasons[start:stop]))
            start = stop
        return results

    def check(self, fit: Fit, evidence: Evidence) -> Sequence[FitCheck]:  # noqa: ARG002 - one half, whatever the fit
        """Return by how much each scorer's accuracy on the kept negatives differs from one half, and what it knows nothing of."""
        num, given = evidence.sums.get("kept", 0.0), evidence.sums.get("given", 0.0)
        share = evidence.sums.get("unknown", 0.0) / max(given, 1.0)
        unknown = FitCheck("share of negatives of operations that it has not learned from", share, _MOST_UNKNOWN)
        bound = round(_MAX_DISTANCE + 2 * 0.5 / max(num, 1.0) ** 0.5, 4)
        return [
            FitCheck(
                f"distance from one half of the blind accuracy of the kept negatives, by {label}",
                abs(evidence.sums[name] / num - 0.5),
                bound,
            )
            for name, label in _LABELS.items()
            if num and name in evidence.sums
        ] + [unknown] * (given > 0)

    def _read(self, sample: Sample) -> list[_Negative]:
        """Return the negatives of a sample, field by field."""
        return [
            _Negative(_positive(record, sample.captions, sample.uid, name), _signed(record, name))
            for name in self.fields
            for record in sample[name]
        ]

    def _pairs(self, read: Sequence[tuple[Sample, Sequence[_Negative]]]) -> list[ImagePairs]:
        """Return the pairs of each sample as arrays; of its texts the captions come first."""
        scores = self._model_scores(one for _, negatives in read for one in negatives)
        return [self._arrays(sample, negatives, scores) for sample, negatives in read]

    def _arrays(self, sample: Sample, negatives: Sequence[_Negative], scores: Mapping[str, float]) -> ImagePairs:
        """Return the pairs of a sample."""
        captions, wrong = list(sample.captions), [one.record["text"] for one in negatives]
        true = [*captions, *sorted({one.positive for one in negatives} - set(captions))]
        place = {text: number for number, text in enumerate(true)}
        num, uid = len(negatives), sample.uid
        seen: Counter[tuple[str, str]] = Counter()
        draws = []
        for pair in ((one.positive, one.record["text"]) for one in negatives):
            again = [seen[pair]] if pair in seen else []  # no two draws are equal, so that halves of cells are exact
            draws.append(draw_seed(self.seed, self.name, uid, *pair, *again))
            seen[pair] += 1
        gaps = [round(scores[one.positive] - scores[one.record["text"]], _DECIMALS) for one in negatives if scores]
        return ImagePairs(
            PairTexts(
                read_words([*true, *wrong]),
                np.array([place[one.positive] for one in negatives], np.int64),
                len(true) + np.arange(num),
            ),
            [_same_kind(one.kind) for one in negatives],
            np.array(draws, np.uint64),
            np.tile(np.array(self._folds(uid), np.int64), (num, 1)),
            np.array(gaps, np.float64).reshape(num, 0 if self.model is None else 1),
        )

    def _folds(self, uid: str) -> list[int]:
        """Return an image's fold in each round."""
        return [
            draw_seed(self.seed, self.name, uid, "fold", number) % self.num_folds for number in range(self.num_rounds)
        ]

    def _model_scores(self, negatives: Iterable[_Negative]) -> dict[str, float]:
        """Return the scores of all texts by the external model, if there is one; equal texts are scored once."""
        if self.model is None:
            return {}
        texts = sorted({text for one in negatives for text in (one.positive, one.record["text"])})
        return dict(zip(texts, self.model.score(texts), strict=True))

    def _result(
        self, negatives: Sequence[_Negative], gaps: Sequence[Sequence[float]], reasons: Sequence[str]
    ) -> dict[str, Any]:
        """Return a sample's fields; a negative without a reason against it stays."""
        refined, rejected = [], []
        usage: Counter[str] = Counter()
        evidence: Counter[str] = Counter()
        for one, own, reason in zip(negatives, gaps, reasons, strict=True):
            kind, scores = " ".join(one.kind), dict(zip(_SCORERS, own, strict=False))
            usage[f"given {kind}"] += 1
            evidence["given"] += 1
            if reason:
                evidence["unknown"] += reason == UNKNOWN_KIND
                rejected.append(rejection(one.record, reason, f"{kind} {canonical(scores).decode()}"))
                continue
            usage[f"kept {kind}"] += 1
            refined.append(add_scores(one.record, scores))
            evidence["kept"] += 1
            # halves are exact, whatever the order in which they are added up
            evidence.update({name: 0.5 + 0.5 * np.sign(gap) for name, gap in scores.items()})
        return {
            "refined_negatives": refined,
            "refine_rejected": rejected,
            "refine_usage": dict(usage),
            "refine_evidence": {name: float(number) for name, number in evidence.items()},
        }


@lru_cache(maxsize=4096)
def _same_kind(kind: Kind) -> Kind:
    """Return one object for equal kinds: many are held at once."""
    return kind


@lru_cache(maxsize=2)
def _refinement(key: FitKey, num_folds: int) -> Refinement:
    return Refinement.of(key.fit.arrays, key.fit.values["groups"], num_folds)


def _tagged(parses: Iterable[Mapping[str, Any]], numbers: dict[str, int]) -> tuple[UInt64s, Any]:
    """Return the hashes of the words of parsed captions, and the number of each one's tag; new tags get numbers."""
    pairs = [pair for parse in parses for pair in zip(parse["words"], parse["tags"], strict=True)]
    return hash_words([word.lower() for word, _ in pairs]), np.array(
        [numbers.setdefault(tag, len(numbers)) for _, tag in pairs], np.uint16
    )


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
