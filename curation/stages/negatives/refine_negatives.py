"""Keep negatives so that text alone does not tell them from captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
import orjson

from curation.blind.adversarial_refinement import mirror_balance
from curation.blind.ngram_model import Float64s, Int64s
from curation.blind.pairs import positive_of
from curation.blind.scores import BlindGaps, PairTexts
from curation.engine.stage import Corpus, CorpusStage, Drop, Field, Resource
from data_manifests.errors import InputError
from data_manifests.seeds import canonical, draw_seed

_DECIMALS = 4
_MIN_GROUP = 64
_FIRST_STEPS, _LATER_STEPS = 25, 100
"""Steps of the judge: at first much is plain to it; what is left after a round takes it longer to find."""
_MAKER_OF_FIELD = {"swap_negatives": "swap_words"}
"""Makers that do not sign their records."""


@runtime_checkable
class TextScorer(Resource, Protocol):
    """A model that says how well a text reads, whatever it is about."""

    def score(self, texts: Sequence[str]) -> Sequence[float]:
        """Return one number per text, higher for better; it depends on nothing but that text."""


class _Found(NamedTuple):
    """A negative, where it was found and the true text that it is told from."""

    place: int
    uid: str
    positive: str
    record: Mapping[str, Any]


@dataclass(frozen=True)
class RefineNegatives(CorpusStage):
    """Mirror-balance negatives over the gaps of blind scorers, within each operation and span class.

    A gap is a scorer's number for the caption minus the one for the negative. Scorers are trigrams of words, trigrams
    of word classes, a linear judge that learns to tell captions from negatives, and a model from outside if one is
    given. None of the first three has met the image: each image is scored by what was learned from the other folds.
    A negative stays if there is one to match with all gaps turned round, so that each scorer alone and all together
    are right half of the time. Clumsy negatives have few matches, and most of them go: the manifest's usage holds
    what each operation had and kept.

    Provides ``refined_negatives``, the records that stay with their gaps under ``scores`` (``blind_words``,
    ``blind_tags``, ``blind_learned``, ``blind_model``: above 0 where the caption reads better), ``refine_rejected``,
    the others, and ``refine_usage``, counts per operation.

    Attributes:
        fields: The fields of negatives that are balanced together; they are published through this stage alone.
        bins: Sizes of gaps that are told apart, grid by grid, from fine to coarse; a coarser last grid keeps more and
            balances less exactly.
        num_rounds: How often the judge learns anew from what is left, each time with other folds.
        num_folds: Folds of images, at least 2.
        seed: Seed of folds and draws.
        model: A further scorer, such as a classifier of grammaticality.
        spared: Operations that are scored and kept whole. What exchanges words of one sentence (``swap``, ``bind``,
            ``role``) makes odd sentences by its nature: balanced, hardly one in a hundred is left, and models learn
            nothing of word order. The manifest's blind accuracy says what it costs.

    Raises:
        InputError: a setting is out of range; a record of negatives has not the agreed shape.

    Source: adversarial refinement of SugarCrepe, Hsieh et al. 2023, section 4, arXiv 2306.14610; a judge that learns
        from other folds as in AFLite, Le Bras et al. 2020, arXiv 2002.04108.
    Differs:
        - SugarCrepe's scorers are two large pretrained models; here n-gram models of the corpus's own captions and a
          judge of its own negatives, and a pretrained one if given;
        - cells are quantiles on several grids, from fine to coarse: see `mirror_balance`;
        - AFLite drops the examples that are easiest to tell, which leaves those told wrongly in the majority; here
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

    fields: tuple[str, ...] = ("swap_negatives",)
    bins: tuple[int, ...] = (8, 4, 2)
    num_rounds: int = 2
    num_folds: int = 5
    seed: int = 0
    model: TextScorer | None = None
    spared: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.fields or len(set(self.fields)) < len(self.fields):
            raise InputError(
                f"refine_negatives: fields are {list(self.fields)}",
                allowed="one or more different fields of negatives",
                fix="name what the earlier stages provide, such as swap_negatives",
            )
        if not self.bins or any(not 1 <= num <= 64 for num in self.bins) or list(self.bins) != sorted(self.bins)[::-1]:
            raise InputError(
                f"refine_negatives: bins are {list(self.bins)}",
                allowed="numbers from 64 to 1, from fine to coarse",
                fix="use 8, 4, 2",
            )
        for name, value, least in (("num_rounds", self.num_rounds, 1), ("num_folds", self.num_folds, 2)):
            if value < least:
                raise InputError(
                    f"refine_negatives: {name} is {value}", allowed=f"{least} or more", fix=f"raise {name}"
                )

    def required_fields(self) -> tuple[str, ...]:
        """Return the built-in needs and the fields of negatives."""
        return (*self.requires, *self.fields)

    def superseded_fields(self) -> tuple[str, ...]:
        """Return the fields whose records are passed on."""
        return self.fields

    def fit(self, corpus: Corpus) -> list[dict[str, Any] | Drop]:
        """Return the negatives that stay, those that go and how many there were, for each uid."""
        found = list(self._read(corpus))
        results: list[dict[str, Any]] = [
            {"refined_negatives": [], "refine_rejected": [], "refine_usage": {}} for _ in corpus.uids
        ]
        if found:
            names, gaps, kept = self._balance(corpus, found)
            for number, one in enumerate(found):
                scores = dict(zip(names, gaps[number].tolist(), strict=True))
                _put(results[one.place], one.record, scores, stays=bool(kept[number]))
        return list(results)

    def _read(self, corpus: Corpus) -> Iterator[_Found]:
        """Yield all negatives, image by image, field by field."""
        columns = [(name, corpus.column(name)) for name in self.fields]
        for place, (uid, captions) in enumerate(zip(corpus.uids, corpus.column("captions"), strict=True)):
            for name, column in columns:
                for record in column[place]:
                    yield _Found(place, uid, _caption_of(record, captions, uid, name), _signed(record, name))

    def _balance(self, corpus: Corpus, found: Sequence[_Found]) -> tuple[list[str], Float64s, np.ndarray[Any, Any]]:
        """Return the scorers' names, their gaps [negatives, scorers], and which negatives stay."""
        places = np.array([one.place for one in found])
        folds = self._folds(corpus, 0)
        scorers = self._scorers(corpus, found, folds)
        fixed: dict[str, Float64s] = {"blind_words": scorers.words, "blind_tags": scorers.tags, **self._asked(found)}
        draws = np.array(
            [draw_seed(self.seed, self.name, one.uid, one.positive, one.record["text"]) for one in found], np.uint64
        )
        groups = _groups(found)
        chosen = np.arange(len(found))
        gaps = np.zeros((len(found), len(fixed) + 1))
        gaps[:, 1:] = np.stack(list(fixed.values()), axis=1)
        for number in range(self.num_rounds):
            # the same folds again would find what is left smaller than it is: it was balanced over them
            folds = self._folds(corpus, number)
            steps = _LATER_STEPS if number else _FIRST_STEPS
            gaps[chosen, 0] = scorers.learned_gaps(chosen, folds[places[chosen]], steps)
            stays = mirror_balance(gaps[chosen], groups[chosen], draws[chosen], self.bins)
            chosen = chosen[stays]
        kept = np.array([one.record["operation"] in self.spared for one in found], np.bool_)
        kept[chosen] = True
        return ["blind_learned", *fixed], gaps, kept

    def _folds(self, corpus: Corpus, number: int) -> Int64s:
        """Return each image's fold in a round."""
        return np.array([draw_seed(self.seed, self.name, uid, "fold", number) % self.num_folds for uid in corpus.uids])

    def _scorers(self, corpus: Corpus, found: Sequence[_Found], folds: Int64s) -> BlindGaps:
        """Fit the scorers that the corpus itself gives."""
        of_image = corpus.column("captions")
        parses = corpus.column("parses")
        texts = PairTexts(
            captions=[caption for captions in of_image for caption in captions],
            caption_folds=np.repeat(folds, [len(captions) for captions in of_image]),
            positives=[one.positive for one in found],
            negatives=[one.record["text"] for one in found],
            pair_folds=folds[[one.place for one in found]],
            num_folds=self.num_folds,
        )
        return BlindGaps(texts, ((parse["words"], parse["tags"]) for of_one in parses for parse in of_one))

    def _asked(self, found: Sequence[_Found]) -> dict[str, Float64s]:
        """Return the gaps of the model from outside, if there is one; equal texts are asked about once."""
        if self.model is None:
            return {}
        texts = sorted({text for one in found for text in (one.positive, one.record["text"])})
        score = dict(zip(texts, self.model.score(texts), strict=True))
        gaps = [score[one.positive] - score[one.record["text"]] for one in found]
        return {"blind_model": np.array([round(gap, _DECIMALS) for gap in gaps], np.float64)}


def _caption_of(record: Mapping[str, Any], captions: Sequence[str], uid: str, name: str) -> str:
    """Return the true text that a record is told from: the one it names, or the caption it was made from.

    Raises:
        InputError: the record lacks what every negative has, or names a caption that is not there.
    """
    wanted = {"text": str, "operation": str, "span_class": str, "caption": int}
    wrong = [key for key, kind in wanted.items() if not isinstance(record.get(key), kind)]
    if wrong or not 0 <= record["caption"] < len(captions):
        raise InputError(
            f"sample {uid}: a record of '{name}' has no usable {', '.join(wrong) or 'caption number'}",
            allowed="records with text, operation, span_class and the number of one of the image's captions",
            fix=f"correct the stage that provides '{name}'",
        )
    return positive_of(record, captions)


def _signed(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a record that says which stage made it."""
    if "source" in record or name not in _MAKER_OF_FIELD:
        return record
    return {**record, "source": _MAKER_OF_FIELD[name]}


def _kind(record: Mapping[str, Any]) -> str:
    return f"{record['operation']} {record['span_class']}"


def _groups(found: Sequence[_Found]) -> Int64s:
    """Return each negative's group: operation and span class, or the operation alone for classes that are too rare."""
    counts = Counter(_kind(one.record) for one in found)
    names = [
        kind if counts[kind] >= _MIN_GROUP else one.record["operation"]
        for one, kind in ((one, _kind(one.record)) for one in found)
    ]
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    return np.array([numbers[name] for name in names], np.int64)


def _put(result: dict[str, Any], record: Mapping[str, Any], scores: Mapping[str, float], *, stays: bool) -> None:
    """Add a negative to its image's results."""
    usage = result["refine_usage"]
    kind = _kind(record)
    usage[f"given {kind}"] = usage.get(f"given {kind}", 0) + 1
    if stays:
        usage[f"kept {kind}"] = usage.get(f"kept {kind}", 0) + 1
        every = {**orjson.loads(record.get("scores") or "{}"), **scores}
        result["refined_negatives"].append({**record, "scores": canonical(every).decode()})
        return
    reject = {
        "text": record["text"],
        "caption": record["caption"],
        "reason": "unbalanced",
        "rule": record.get("rule", ""),
    }
    result["refine_rejected"].append({**reject, "detail": f"{kind} {canonical(scores).decode()}"})
