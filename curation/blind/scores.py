"""By how much scorers without the image prefer captions to their negatives: the gaps that refinement balances."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from curation.blind.ngram_model import NgramModel, TrigramCounts
from curation.blind.pair_features import TokenView, fit_logistic, fitting, pair_features, word_differences
from curation.blind.tokens import (
    Encoded,
    Float64s,
    Int64s,
    Padded,
    UInt64s,
    Vocabulary,
    WordClasses,
    Words,
    pad_differences,
)
from curation.blind.word_vectors import WordVectors

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_MAX_TRAINING_PAIRS = 60_000
_PENALTY = 3.0
_DECIMALS = 4
_PAIRS_PER_CHUNK = 10_000
_GAP_SIZE = 5.0
"""Usual size of a gap of an n-gram model; features are about 1 in size."""

_TABLES = ("word_trigrams", "class_trigrams")

Arrays = Mapping[str, np.ndarray[Any, Any]]
Float16s = np.ndarray[Any, np.dtype[np.float16]]


class PairTexts(NamedTuple):
    """Pairs of a caption and a negative, by their places among some texts.

    Attributes:
        words: The texts.
        captions: The place of each pair's caption.
        negatives: The place of each pair's negative.
    """

    words: Words
    captions: Int64s
    negatives: Int64s

    def take(self, chosen: slice | Int64s) -> PairTexts:
        """Return some pairs and their texts."""
        captions, negatives = self.captions[chosen], self.negatives[chosen]
        used, place = np.unique(np.concatenate([captions, negatives]), return_inverse=True)
        return PairTexts(self.words.take(used), place[: len(captions)], place[len(captions) :])


def learn_scorers(
    captions: Words, folds: Int64s, pairs: PairTexts, tags: Mapping[str, UInt64s]
) -> dict[str, np.ndarray[Any, Any]]:
    """Learn the arrays of `BlindScorers`: no word is in them, only hashes of words.

    Args:
        captions: The captions that the n-gram models learn from.
        folds: The fold of each caption's image.
        pairs: Pairs whose words get numbers too.
        tags: Tags of words in parsed captions; see `WordClasses.learn`.
    """
    texts = Words.joined([captions, pairs.words.take(np.unique(pairs.negatives))])
    vocabulary = Vocabulary.of(texts)
    classes = WordClasses.learn(vocabulary, texts, tags)
    encoded = vocabulary.encode(captions)
    every = vocabulary.encode(texts)
    vectors = WordVectors.learn(encoded, vocabulary.most_frequent(every, len(vocabulary)))
    found: dict[str, np.ndarray[Any, Any]] = {
        "words": vocabulary.hashes,
        "classes": classes.of_word.astype(np.int32),
        "ending_classes": classes.of_ending.astype(np.int32),
        "vector_words": vectors.words.astype(np.int32),
        "vectors": vectors.vectors,
    }
    for name, side in zip(_TABLES, (encoded, classes.encode(encoded.ids, captions)), strict=True):
        counts = TrigramCounts.of(side, len(vocabulary), folds)
        found |= {f"{name}_{field}": array for field, array in counts._asdict().items()}
    return found


class _Sides(NamedTuple):
    """Where the texts of pairs differ, and the encoded texts."""

    words: tuple[Padded, Padded]
    classes: tuple[Padded, Padded]
    texts: Encoded


class Scored(NamedTuple):
    """What scorers find in pairs.

    Attributes:
        gaps: Gaps of the n-gram models of words and of classes [pairs, 2].
        features: Features for a judge.
        words: How often the caption has each word, minus how often the negative has it [pairs, words].
    """

    gaps: Float64s
    features: csr_array
    words: csr_array


class BlindScorers:
    """N-gram models and word vectors that score pairs; each image is scored by what was learned from the other folds.

    Args:
        arrays: What `learn_scorers` returned.
        num_folds: Number of folds.
    """

    def __init__(self, arrays: Arrays, num_folds: int) -> None:
        self._vocabulary = Vocabulary(arrays["words"])
        self._classes = WordClasses(arrays["classes"].astype(np.int64), arrays["ending_classes"].astype(np.int64))
        self._vectors = WordVectors(arrays["vector_words"].astype(np.int64), arrays["vectors"])
        counts = [TrigramCounts(*(arrays[f"{name}_{field}"] for field in TrigramCounts._fields)) for name in _TABLES]
        self._models = [NgramModel.of(table, len(self._vocabulary), num_folds) for table in counts]
        self._trigrams = counts[0]

    def score(self, pairs: PairTexts, folds: Int64s) -> Scored:
        """Return gaps of the n-gram models of words and of classes, features for a judge, and which words differ.

        Args:
            pairs: The pairs.
            folds: The fold of each pair's image.
        """
        return self._score(pairs, self._sides(pairs), folds)

    def score_to_learn(self, pairs: PairTexts, folds: Int64s) -> tuple[Scored, Float64s]:
        """Return what `score` does, and gaps of n-grams of words learned from half of the other captions [pairs].

        Another judge makes other errors.

        Args:
            pairs: The pairs.
            folds: As in `score`; images of an even fold are scored by what was learned from odd folds, and the reverse.
        """
        sides, halves = self._sides(pairs), folds % 2
        captions, negatives = (self._halves.score_read(side, halves) for side in sides.words)
        return self._score(pairs, sides, folds), np.round(captions - negatives, _DECIMALS)

    def _score(self, pairs: PairTexts, sides: _Sides, folds: Int64s) -> Scored:
        gaps = np.empty((len(folds), 2))
        for number, (model, view) in enumerate(zip(self._models, (sides.words, sides.classes), strict=True)):
            captions, negatives = (model.score_read(side, folds) for side in view)
            gaps[:, number] = np.round(captions - negatives, _DECIMALS)
        lengths, meanings = sides.texts.lengths, self._vectors.features(sides.texts)
        longer = (lengths[pairs.captions] - lengths[pairs.negatives]).astype(np.float64)
        dense = np.column_stack([gaps / _GAP_SIZE, longer, meanings[pairs.captions] - meanings[pairs.negatives]])
        views = [TokenView(*sides.words, 3), TokenView(*sides.classes, 4)]
        differ = word_differences(*sides.words, (len(folds), len(self._vocabulary)))
        return Scored(gaps, pair_features(views, dense), differ)

    @cached_property
    def _halves(self) -> NgramModel:
        keys, place = np.unique(self._trigrams.keys, return_inverse=True)
        both, where = np.unique(2 * place + self._trigrams.folds % 2, return_inverse=True)
        counts = np.bincount(where, self._trigrams.counts).astype(np.int32)
        halves = TrigramCounts(keys[both // 2], (both % 2).astype(np.uint16), counts)
        return NgramModel.of(halves, len(self._vocabulary), 2)

    def _sides(self, pairs: PairTexts) -> _Sides:
        """Encode the texts of pairs."""
        texts = self._vocabulary.encode(pairs.words)
        words, classes = (
            pad_differences(encoded.take(pairs.captions), encoded.take(pairs.negatives))
            for encoded in (texts, self._classes.encode(texts.ids, pairs.words))
        )
        return _Sides(words, classes, texts)


@dataclass(frozen=True)
class FoldJudges:
    """Linear judges, one for each fold, each fitted to the pairs of the other folds.

    Attributes:
        columns: The features that any of them knows, sorted.
        weights: Their weights [features, folds].
    """

    columns: np.ndarray[Any, np.dtype[np.int32]]
    weights: Float16s

    @classmethod
    def learn(cls, features: csr_array, folds: Int64s, num_folds: int, num_steps: int) -> FoldJudges:
        """Fit the judges.

        Args:
            features: Features of pairs.
            folds: The fold of each pair's image.
            num_folds: Number of folds.
            num_steps: Most steps of each fit.
        """
        weights = np.zeros((features.shape[1], num_folds), np.float16)
        common = np.bincount(features.indices, minlength=features.shape[1]) >= 3
        for fold in range(num_folds):
            train = np.flatnonzero(folds != fold)
            if len(train):
                # every n-th: pairs are in the order of their images' uids, which are hashes
                train = train[:: 1 + (len(train) - 1) // _MAX_TRAINING_PAIRS]
                weights[:, fold] = fit_logistic(features[train], common, penalty=_PENALTY, num_steps=num_steps)
        known = np.flatnonzero(weights.any(axis=1))
        return cls(known.astype(np.int32), weights[known])

    def gaps(self, features: csr_array, folds: Int64s) -> Float64s:
        """Return the log odds that each caption is the true text, by the judge of its image's fold.

        Args:
            features: Features of pairs.
            folds: The fold of each pair's image.
        """
        odds = np.zeros(len(folds))
        for start in range(0, len(folds), _PAIRS_PER_CHUNK) if len(self.columns) else ():
            part = slice(start, start + _PAIRS_PER_CHUNK)
            odds[part] = self._log_odds(features[part], folds[part])
        return odds.round(_DECIMALS)

    def _log_odds(self, features: csr_array, folds: Int64s) -> Float64s:
        rows = np.repeat(np.arange(len(folds)), np.diff(features.indptr))
        place = np.minimum(np.searchsorted(self.columns, features.indices), len(self.columns) - 1)
        known = self.columns[place] == features.indices
        rows, values = rows[known], features.data[known].astype(np.float64)
        weights = self.weights[place[known], folds[rows]].astype(np.float64)
        return np.asarray(np.bincount(rows, values * weights, minlength=len(folds)))


def stack_features(parts: Iterable[csr_array]) -> csr_array:
    """Return the features of all parts, one after another, without holding them twice."""
    from scipy.sparse import csr_array

    data, columns, lengths, width = np.zeros(0, np.float32), np.zeros(0, np.int32), [np.zeros(1, np.int64)], 0
    for part in parts:
        for whole, more in ((data, part.data), (columns, part.indices)):
            whole.resize(len(whole) + part.nnz, refcheck=False)  # large arrays grow where they are, nothing is copied
            whole[len(whole) - part.nnz :] = more
        lengths.append(np.diff(part.indptr))
        width = part.shape[1]
    ends = np.cumsum(np.concatenate(lengths))
    return csr_array((data, columns, fitting(ends)), shape=(len(ends) - 1, width))
