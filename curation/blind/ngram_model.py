"""An n-gram language model, over words or over classes of words.

A text never scores itself: texts are counted in folds, and each is scored by the counts of the folds that it is not in.
All work is on whole arrays (sorted 64-bit keys, one column of counts per omitted fold), so that 100,000 texts are
scored in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from curation.blind.tokens import Encoded, Float64s, Int64s, Padded, pad

_DISCOUNT = 0.75
_TEXTS_PER_CHUNK = 20_000

Int32s = np.ndarray[Any, np.dtype[np.int32]]
UInt16s = np.ndarray[Any, np.dtype[np.uint16]]


class TrigramCounts(NamedTuple):
    """How often each fold of some texts has each trigram: sorted by trigram and fold, without zeros."""

    keys: Int64s
    folds: UInt16s
    counts: Int32s

    @classmethod
    def of(cls, texts: Encoded, size: int, folds: Int64s) -> TrigramCounts:
        """Count the trigrams of texts.

        Args:
            texts: The texts.
            size: Size of the vocabulary, the reserved numbers included.
            folds: Each text's fold.
        """
        _, _, _, keys, owner = _trigrams(pad(texts), size)
        distinct, place = np.unique(keys, return_inverse=True)
        width = int(folds.max(initial=0)) + 1
        both, counts = np.unique(place * width + folds[owner], return_counts=True)
        return cls(distinct[both // width], (both % width).astype(np.uint16), counts.astype(np.int32))


class _Level(NamedTuple):
    """One order of the model: n-grams with their counts, and contexts with the sum and number of their different continuations.

    Keys are sorted. Column f of a table omits fold f, the last column omits none.
    """

    ngrams: Int64s
    counts: Int32s
    contexts: Int64s
    totals: Int32s
    kinds: Int32s

    def probabilities(self, ngrams: Int64s, contexts: Int64s, folds: Int64s, lower: Float64s) -> Float64s:
        """Return the probability of each n-gram's last token in its context, given those of the order below."""
        place, known = _find(self.contexts, contexts)
        total = np.where(known, self.totals[place, folds], 0)
        kinds = self.kinds[place, folds]
        place, known = _find(self.ngrams, ngrams)
        counts = np.where(known, self.counts[place, folds], 0)
        some = np.maximum(total, 1)
        seen = np.maximum(counts - _DISCOUNT, 0.0) / some
        return np.where(total > 0, seen + _DISCOUNT * kinds / some * lower, lower)


def _find(keys: Int64s, wanted: Int64s) -> tuple[Int64s, np.ndarray[Any, Any]]:
    """Return a place among sorted keys for each wanted one, and whether it is there."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return place, keys[place] == wanted


@dataclass(frozen=True)
class NgramModel:
    """An interpolated Kneser-Ney trigram model that can omit any one fold of the texts it was fitted to.

    Attributes:
        num_folds: Number of folds.
        size: Size of the vocabulary, the reserved numbers included.

    Source: Kneser and Ney 1995 as interpolated by Chen and Goodman 1999, section 3.
    Differs: one fixed discount of 0.75 for all orders and counts; the lowest order falls back on a uniform distribution.
    """

    num_folds: int
    size: int
    _levels: tuple[_Level, ...]

    @classmethod
    def fit(cls, texts: Encoded, size: int) -> NgramModel:
        """Fit a model with one fold to texts.

        Args:
            texts: The texts.
            size: Size of the vocabulary, the reserved numbers included.
        """
        return cls.of(TrigramCounts.of(texts, size, np.zeros(len(texts.lengths), np.int64)), size, 1)

    @classmethod
    def of(cls, trigrams: TrigramCounts, size: int, num_folds: int) -> NgramModel:
        """Return the model of counted trigrams."""
        distinct, place = np.unique(trigrams.keys, return_inverse=True)
        counts = np.zeros((len(distinct), num_folds + 1), np.int32)
        counts[place, trigrams.folds] = trigrams.counts
        left = counts.sum(axis=1, keepdims=True, dtype=np.int32) - counts
        levels = []
        for power in (2, 1, 0):
            levels.append(_level(distinct, left, size))
            if power:
                # the lower orders count in how many different contexts an n-gram was seen (Kneser and Ney)
                shorter, groups = np.unique(distinct % size**power, return_inverse=True)
                left = _sum_groups(groups, left > 0, len(shorter))
                distinct = shorter
        return cls(num_folds, size, tuple(levels))

    def score(self, texts: Encoded) -> Float64s:
        """Return the log probability of each text, its end included (natural logarithm); no fold is omitted."""
        without = np.full(len(texts.lengths), self.num_folds, np.int64)
        scores = [np.zeros(0)]
        for start in range(0, len(texts.lengths), _TEXTS_PER_CHUNK):
            stop = min(start + _TEXTS_PER_CHUNK, len(texts.lengths))
            scores.append(self.score_read(pad(texts.part(start, stop)), without[start:stop]))
        return np.concatenate(scores)

    def score_read(self, texts: Padded, without: Int64s) -> Float64s:
        """Return the log probability of the tokens of each text that are read.

        Args:
            texts: The texts.
            without: The fold to omit for each text; `num_folds` omits none.
        """
        first, middle, last, keys, owner = _trigrams(texts, self.size)
        if not len(self._levels[0].ngrams):
            return np.asarray(np.bincount(owner, minlength=len(without)) * -np.log(self.size))
        folds = without[owner]
        chance = np.full(len(last), 1.0 / self.size)
        ngrams = (last, middle * self.size + last, keys)
        contexts = (0 * last, middle, first * self.size + middle)
        for level, ngram, context in zip(self._levels[::-1], ngrams, contexts, strict=True):
            chance = level.probabilities(ngram, context, folds, chance)
        return np.asarray(np.bincount(owner, np.log(chance), minlength=len(without)))


def _level(keys: Int64s, left: Int32s, size: int) -> _Level:
    """Return an order's tables from its n-grams and their counts."""
    contexts, groups = np.unique(keys // size, return_inverse=True)
    totals = _sum_groups(groups, left, len(contexts))
    return _Level(keys, left, contexts, totals, _sum_groups(groups, left > 0, len(contexts)))


def _sum_groups(groups: Int64s, values: np.ndarray[Any, Any], num_groups: int) -> Int32s:
    """Return the sums of rows that share a group."""
    sums = np.zeros((num_groups, values.shape[1]), np.int32)
    for column in range(values.shape[1]):
        # whole numbers far below 2**53, so the sums of floats are exact
        sums[:, column] = np.bincount(groups, values[:, column], minlength=num_groups)
    return sums


def _trigrams(texts: Padded, size: int) -> tuple[Int64s, Int64s, Int64s, Int64s, Int64s]:
    """Return for every token that is read: the two tokens before it, itself, the three as one key, and its text."""
    at = np.flatnonzero(texts.is_read)
    first, middle, last = texts.ids[at - 2], texts.ids[at - 1], texts.ids[at]
    return first, middle, last, (first * size + middle) * size + last, texts.owner[at]
