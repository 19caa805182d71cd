"""An n-gram language model, over words or over classes of words.

A text never scores itself: texts are counted in folds, and each is scored by the counts of the folds that it is not in.
All work is on whole arrays (sorted 64-bit keys, one column of counts per omitted fold), so that 100,000 texts are
scored in seconds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Int64s = np.ndarray[Any, np.dtype[np.int64]]
Float64s = np.ndarray[Any, np.dtype[np.float64]]

BEGIN, END, UNKNOWN = 0, 1, 2
_NUM_RESERVED = 3
_MAX_WORDS = 1 << 21
_MAX_TOKENS = 256
_DISCOUNT = 0.75
_TEXTS_PER_CHUNK = 20_000
_KEPT_WORDS = 150
_TOKEN = re.compile(r"\w+(?:['\u2019-]\w+)*|[^\w\s]")
_CLASS_OF_ENDING = (("ing", "VBG"), ("ed", "VBD"), ("ly", "RB"), ("s", "NNS"))


class Encoded(NamedTuple):
    """Texts as token numbers: the tokens of all texts one after another, and the length of each text."""

    ids: Int64s
    lengths: Int64s

    def part(self, start: int, stop: int) -> Encoded:
        """Return texts start:stop."""
        ends = np.cumsum(self.lengths)
        return Encoded(self.ids[ends[start] - self.lengths[start] : ends[stop - 1]], self.lengths[start:stop])


def tokenise(text: str) -> list[str]:
    """Return words in lower case and punctuation marks, at most 256."""
    return _TOKEN.findall(text.lower())[:_MAX_TOKENS]


class Vocabulary:
    """Words and their numbers, in alphabetical order, so that numbers depend on the set of words alone.

    Args:
        texts: Texts with the words; the 2,097,149 most frequent are kept (three of them fit a 64-bit key).
    """

    def __init__(self, texts: Iterable[str]) -> None:
        counted = Counter(word for text in texts for word in tokenise(text))
        most = sorted(counted, key=lambda word: (-counted[word], word))[: _MAX_WORDS - _NUM_RESERVED]
        self.words: tuple[str, ...] = tuple(sorted(most))
        self._number = {word: number for number, word in enumerate(self.words, _NUM_RESERVED)}
        self._counted = counted

    def __len__(self) -> int:
        return len(self.words) + _NUM_RESERVED

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return texts as token numbers; an unknown word is `UNKNOWN`."""
        number, ids, lengths = self._number, [], np.empty(len(texts), np.int64)
        for place, text in enumerate(texts):
            words = tokenise(text)
            ids += [number.get(word, UNKNOWN) for word in words]
            lengths[place] = len(words)
        return Encoded(np.array(ids, np.int64), lengths)

    def most_frequent(self, count: int) -> list[str]:
        """Return the most frequent words, ties in alphabetical order."""
        return sorted(self.words, key=lambda word: (-self._counted[word], word))[:count]


class WordClasses:
    """A class for each word: a frequent word is its own class, any other has its most frequent tag.

    A negative has no parse, and a caption's parse must not give it away, so both get their classes from the same table.

    Args:
        vocabulary: The words.
        tagged: Words and Penn Treebank tags of parsed texts; a word without a tag gets one by its ending.
    """

    def __init__(self, vocabulary: Vocabulary, tagged: Iterable[tuple[Sequence[str], Sequence[str]]]) -> None:
        seen: dict[str, Counter[str]] = {}
        for words, tags in tagged:
            for word, tag in zip(words, tags, strict=True):
                seen.setdefault(word.lower(), Counter())[tag] += 1
        own = set(vocabulary.most_frequent(_KEPT_WORDS))
        names = [f"word {word}" if word in own else _class_name(word, seen.get(word)) for word in vocabulary.words]
        numbers = {name: number for number, name in enumerate(sorted(set(names)), _NUM_RESERVED)}
        self._class_of = np.array([BEGIN, END, UNKNOWN, *(numbers[name] for name in names)], np.int64)

    def encode(self, texts: Encoded) -> Encoded:
        """Return texts as numbers of classes."""
        return Encoded(self._class_of[texts.ids], texts.lengths)


def _class_name(word: str, tags: Counter[str] | None) -> str:
    """Return the class of a word that is not frequent."""
    if tags:
        return f"tag {min(tags, key=lambda tag: (-tags[tag], tag))}"
    if not word[0].isalpha():
        return "tag CD" if word[0].isdigit() else "tag ."
    return "tag " + next((tag for ending, tag in _CLASS_OF_ENDING if word.endswith(ending)), "NN")


class _Table(NamedTuple):
    """Counts of n-grams under sorted keys; column f omits fold f, the last column omits none."""

    keys: Int64s
    counts: Int64s

    def look_up(self, keys: Int64s, folds: Int64s) -> Int64s:
        """Return the count of each key, 0 for an unknown one."""
        if not len(self.keys):
            return np.zeros(len(keys), np.int64)
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.asarray(np.where(self.keys[place] == keys, self.counts[place, folds], 0))


class _Level(NamedTuple):
    """One order of the model: counts of n-grams, and for each context their sum and number of different continuations."""

    ngrams: _Table
    totals: _Table
    kinds: _Table


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
    def fit(cls, texts: Encoded, size: int, folds: Int64s | None = None, num_folds: int = 1) -> NgramModel:
        """Fit a model to texts.

        Args:
            texts: The texts.
            size: Size of the vocabulary, the reserved numbers included.
            folds: Each text's fold, 0 .. num_folds - 1; all in fold 0 by default.
            num_folds: Number of folds.
        """
        of_text = np.zeros(len(texts.lengths), np.int64) if folds is None else folds
        _, middle, last, keys, owner = _trigrams(texts, size)
        distinct, place = np.unique(keys, return_inverse=True)
        width = num_folds + 1
        per_fold = np.bincount(place * width + of_text[owner], minlength=len(distinct) * width)
        counts = per_fold.reshape(-1, width)
        left = counts.sum(axis=1, keepdims=True) - counts
        del middle, last, place, keys, owner
        levels = []
        for power in (2, 1, 0):
            levels.append(_level(distinct, left, size))
            if power:
                # the lower orders count in how many different contexts an n-gram was seen (Kneser and Ney)
                shorter, groups = np.unique(distinct % size**power, return_inverse=True)
                left = _sum_groups(groups, (left > 0).astype(np.int64), len(shorter))
                distinct = shorter
        return cls(num_folds, size, tuple(levels))

    def score(self, texts: Encoded, left_out: Int64s | None = None) -> Float64s:
        """Return the log probability of each text, its end included (natural logarithm).

        Args:
            texts: The texts.
            left_out: The fold to omit for each text; none by default.
        """
        without = np.full(len(texts.lengths), self.num_folds, np.int64) if left_out is None else left_out
        scores = [np.zeros(0)]
        for start in range(0, len(texts.lengths), _TEXTS_PER_CHUNK):
            stop = min(start + _TEXTS_PER_CHUNK, len(texts.lengths))
            scores.append(self._score(texts.part(start, stop), without[start:stop]))
        return np.concatenate(scores)

    def _score(self, texts: Encoded, without: Int64s) -> Float64s:
        first, middle, last, keys, owner = _trigrams(texts, self.size)
        folds = without[owner]
        pair = middle * self.size + last
        chance = np.full(len(last), 1.0 / self.size)
        levels = zip(
            self._levels[::-1], (last, pair, keys), (0 * last, middle, first * self.size + middle), strict=True
        )
        for level, ngram, context in levels:
            total = level.totals.look_up(context, folds)
            some = np.maximum(total, 1)
            seen = np.maximum(level.ngrams.look_up(ngram, folds) - _DISCOUNT, 0.0) / some
            rest = _DISCOUNT * level.kinds.look_up(context, folds) / some
            chance = np.where(total > 0, seen + rest * chance, chance)
        return np.asarray(np.bincount(owner, np.log(chance), minlength=len(without)))


def _level(keys: Int64s, left: Int64s, size: int) -> _Level:
    """Return an order's tables from its n-grams and their counts."""
    contexts, groups = np.unique(keys // size, return_inverse=True)
    totals = _sum_groups(groups, left, len(contexts))
    kinds = _sum_groups(groups, (left > 0).astype(np.int64), len(contexts))
    return _Level(_Table(keys, left), _Table(contexts, totals), _Table(contexts, kinds))


def _sum_groups(groups: Int64s, values: Int64s, num_groups: int) -> Int64s:
    """Return the sums of rows that share a group."""
    sums = np.zeros((num_groups, values.shape[1]), np.int64)
    for column in range(values.shape[1]):
        # whole numbers far below 2**53, so the sums of floats are exact
        sums[:, column] = np.bincount(groups, values[:, column], minlength=num_groups)
    return sums


def _trigrams(texts: Encoded, size: int) -> tuple[Int64s, Int64s, Int64s, Int64s, Int64s]:
    """Return for every token and every `END`: the two tokens before it, itself, the three as one key, and its text."""
    padded, is_read, owner = pad(texts)
    at = np.flatnonzero(is_read)
    first, middle, last = padded[at - 2], padded[at - 1], padded[at]
    return first, middle, last, (first * size + middle) * size + last, owner[at]


def pad(texts: Encoded) -> tuple[Int64s, np.ndarray[Any, np.dtype[np.bool_]], Int64s]:
    """Return all texts in one row, each with two `BEGIN` and one `END`; which tokens are no `BEGIN`; the text of each token."""
    num = len(texts.lengths)
    owner = np.repeat(np.arange(num), texts.lengths + 3)
    starts = np.cumsum(texts.lengths + 3) - (texts.lengths + 3)
    padded = np.full(len(owner), END, np.int64)
    is_read = np.ones(len(owner), np.bool_)
    for place in (starts, starts + 1):
        padded[place], is_read[place] = BEGIN, False
    inner = is_read.copy()
    inner[starts + texts.lengths + 2] = False
    padded[inner] = texts.ids
    return padded, is_read, owner
