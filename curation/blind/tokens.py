"""Texts as arrays of tokens: words by their hashes, words and classes of words as numbers.

A text is split once; everything after that is work on whole arrays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from blake3 import blake3

from data_manifests.text_diff import SIGNS

Int64s = np.ndarray[Any, np.dtype[np.int64]]
Float64s = np.ndarray[Any, np.dtype[np.float64]]
UInt64s = np.ndarray[Any, np.dtype[np.uint64]]
UInt8s = np.ndarray[Any, np.dtype[np.uint8]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

BEGIN, END, UNKNOWN = 0, 1, 2
NUM_RESERVED = 3
_MAX_WORDS = 1 << 21
_MAX_TOKENS = 256
_KEPT_WORDS = 150
_CONTEXT = 3
_TOKEN = re.compile(rf"[{SIGNS}]|[^\W{SIGNS}]+(?:['\u2019-][^\W{SIGNS}]+)*|[^\w\s]")
_TAG_OF_ENDING = (("ing", "VBG"), ("ed", "VBD"), ("ly", "RB"), ("s", "NNS"))
_ENDINGS = (*(tag for _, tag in _TAG_OF_ENDING), "NN", "CD", ".")
"""Tags that a word without a known tag can get by its ending or first letter."""


class Words(NamedTuple):
    """Texts as words: the hash of each word, its tag by its ending (index into `_ENDINGS`), and the length of each text."""

    hashes: UInt64s
    endings: UInt8s
    lengths: Int64s

    @classmethod
    def of(cls, texts: Sequence[tuple[bytes, bytes]]) -> Words:
        """Return texts that `split_text` has split."""
        hashes = np.frombuffer(b"".join([text for text, _ in texts]), "<u8")
        endings = np.frombuffer(b"".join([text for _, text in texts]), np.uint8)
        return cls(hashes, endings, np.array([len(text) for _, text in texts], np.int64))

    def take(self, chosen: Int64s) -> Words:
        """Return some texts, in the given order."""
        places = _places(self.lengths, chosen)
        return Words(self.hashes[places], self.endings[places], self.lengths[chosen])

    @classmethod
    def joined(cls, parts: Sequence[Words]) -> Words:
        """Return the texts of all parts."""
        empty = cls(np.zeros(0, np.uint64), np.zeros(0, np.uint8), np.zeros(0, np.int64))
        return cls(*(np.concatenate(column) for column in zip(empty, *parts, strict=True)))


class Encoded(NamedTuple):
    """Texts as token numbers: the tokens of all texts one after another, and the length of each text."""

    ids: Int64s
    lengths: Int64s

    def take(self, chosen: Int64s) -> Encoded:
        """Return some texts, in the given order."""
        return Encoded(self.ids[_places(self.lengths, chosen)], self.lengths[chosen])

    def part(self, start: int, stop: int) -> Encoded:
        """Return texts start:stop."""
        ends = np.cumsum(self.lengths[:stop])
        return Encoded(self.ids[ends[start] - self.lengths[start] : ends[stop - 1]], self.lengths[start:stop])


def _places(lengths: Int64s, chosen: Int64s) -> Int64s:
    """Return where the tokens of the chosen texts are, in the order of `chosen`."""
    starts, sizes = (np.cumsum(lengths) - lengths)[chosen], lengths[chosen]
    return np.asarray(np.arange(int(sizes.sum())) + np.repeat(starts - (np.cumsum(sizes) - sizes), sizes))


def tokenise(text: str) -> list[str]:
    """Return words in lower case and punctuation marks, at most 256; of scripts without spaces every sign is a word."""
    return _TOKEN.findall(text.lower())[:_MAX_TOKENS]


def read_words(texts: Iterable[str]) -> Words:
    """Split texts into words."""
    return Words.of([split_text(text) for text in texts])


def split_text(text: str) -> tuple[bytes, bytes]:
    """Return the hashes of a text's words, 8 bytes each, and the tags of their endings, one byte each."""
    facts = [_word_facts(word) for word in tokenise(text)]
    return b"".join([digest for digest, _ in facts]), bytes([ending for _, ending in facts])


def hash_words(words: Sequence[str]) -> UInt64s:
    """Return the 64-bit hashes by which words are known; vocabularies hold no words."""
    return np.frombuffer(b"".join([_word_facts(word)[0] for word in words]), "<u8")


@lru_cache(maxsize=1 << 17)
def _word_facts(word: str) -> tuple[bytes, int]:
    """Return the hash of a word, and the tag of its ending as an index into `_ENDINGS`."""
    if word[:1].isalpha():
        tag = next((tag for ending, tag in _TAG_OF_ENDING if word.endswith(ending)), "NN")
    else:
        tag = "CD" if word[:1].isdigit() else "."
    return blake3(word.encode("utf-8", "surrogatepass")).digest(length=8), _ENDINGS.index(tag)


@dataclass(frozen=True)
class Vocabulary:
    """Known words and their numbers, in the order of their hashes, so that numbers depend on the set of words alone.

    Attributes:
        hashes: Hashes of the words, sorted.
    """

    hashes: UInt64s

    @classmethod
    def of(cls, words: Words) -> Vocabulary:
        """Return the words of texts; of more than 2,097,149 the most frequent (three of them fit a 64-bit key)."""
        distinct, counts = np.unique(words.hashes, return_counts=True)
        most = np.lexsort((distinct, -counts))[: _MAX_WORDS - NUM_RESERVED]
        return cls(distinct[np.sort(most)])

    def __len__(self) -> int:
        return len(self.hashes) + NUM_RESERVED

    def encode(self, words: Words) -> Encoded:
        """Return texts as token numbers; an unknown word is `UNKNOWN`."""
        return Encoded(self.numbers(words.hashes), words.lengths)

    def numbers(self, hashes: UInt64s) -> Int64s:
        """Return the numbers of words."""
        if not len(self.hashes):
            return np.full(len(hashes), UNKNOWN, np.int64)
        place = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return np.where(self.hashes[place] == hashes, place + NUM_RESERVED, UNKNOWN)

    def most_frequent(self, texts: Encoded, count: int) -> Int64s:
        """Return the numbers of the most frequent words of texts, ties by number."""
        times = np.bincount(texts.ids, minlength=len(self))[NUM_RESERVED:]
        return np.lexsort((np.arange(len(times)), -times))[:count] + NUM_RESERVED


@dataclass(frozen=True)
class WordClasses:
    """A class for each word: a frequent word is its own class, any other has its most frequent tag.

    A negative has no parse, and a caption's parse must not give it away, so both get their classes from the same table.

    Attributes:
        of_word: The class of each word of a vocabulary, by number.
        of_ending: The class of an unknown word, by its ending.
    """

    of_word: Int64s
    of_ending: Int64s

    @classmethod
    def learn(cls, vocabulary: Vocabulary, texts: Words, tags: Mapping[str, UInt64s]) -> WordClasses:
        """Learn the classes of a vocabulary's words.

        Args:
            vocabulary: The words.
            texts: Texts in which words are counted: the 150 most frequent are classes of their own.
            tags: Penn Treebank tag -> hashes of the words that parsed texts have with it, one for each time.
        """
        encoded = vocabulary.encode(texts)
        names = sorted({*tags, *_ENDINGS})
        tag_of = np.full(len(vocabulary), -1, np.int64)
        of_ending = np.array([names.index(tag) for tag in _ENDINGS])
        tag_of[encoded.ids] = of_ending[texts.endings]  # every word of the vocabulary is in the texts
        most = np.zeros(len(vocabulary), np.int64)
        for number, name in enumerate(names):  # of equally frequent tags the first in the alphabet
            times = np.bincount(vocabulary.numbers(tags.get(name, np.zeros(0, np.uint64))), minlength=len(vocabulary))
            tag_of[times > most] = number
            most = np.maximum(most, times)
        own = vocabulary.most_frequent(encoded, _KEPT_WORDS)
        of_word = NUM_RESERVED + len(own) + tag_of
        of_word[own] = NUM_RESERVED + np.arange(len(own))
        of_word[:NUM_RESERVED] = BEGIN, END, UNKNOWN
        return cls(of_word, NUM_RESERVED + len(own) + of_ending)

    def encode(self, ids: Int64s, words: Words) -> Encoded:
        """Return texts as numbers of classes.

        Args:
            ids: The words' numbers.
            words: The texts.
        """
        return Encoded(np.where(ids == UNKNOWN, self.of_ending[words.endings], self.of_word[ids]), words.lengths)


class Padded(NamedTuple):
    """Texts in one row, each with two `BEGIN` and one `END`.

    Attributes:
        ids: Token numbers.
        is_read: Which tokens a language model scores: no `BEGIN`, and of a pair of texts no token that both share.
        owner: The text of each token.
    """

    ids: Int64s
    is_read: Mask
    owner: Int64s


def pad(texts: Encoded) -> Padded:
    """Return texts with their begins and ends."""
    num = len(texts.lengths)
    owner = np.repeat(np.arange(num), texts.lengths + 3)
    starts = _padded_starts(texts)
    padded = np.full(len(owner), END, np.int64)
    is_read = np.ones(len(owner), np.bool_)
    for place in (starts, starts + 1):
        padded[place], is_read[place] = BEGIN, False
    inner = is_read.copy()
    inner[starts + texts.lengths + 2] = False
    padded[inner] = texts.ids
    return Padded(padded, is_read, owner)


def pad_differences(captions: Encoded, negatives: Encoded) -> tuple[Padded, Padded]:
    """Return where the texts of each pair differ, with three shared tokens on either side.

    Differences of counts of n-grams (up to four tokens) and of log probabilities under trigrams are those of the whole texts.
    """
    limits = np.minimum(captions.lengths, negatives.lengths)
    starts = [np.cumsum(side.lengths) - side.lengths for side in (captions, negatives)]
    first = _num_shared(captions.ids, negatives.ids, starts, limits, 1)
    ends = [start + side.lengths - 1 for start, side in zip(starts, (captions, negatives), strict=True)]
    last = _num_shared(captions.ids, negatives.ids, ends, limits - first, -1)
    one, other = (_cut(side, first, last) for side in (captions, negatives))
    return one, other


def _num_shared(one: Int64s, other: Int64s, starts: Sequence[Int64s], limits: Int64s, step: int) -> Int64s:
    """Return for each pair how many tokens are equal from `starts` on, at most `limits`."""
    shared = np.zeros(len(limits), np.int64)
    active = np.flatnonzero(limits > 0)
    while len(active):
        at = step * shared[active]
        active = active[one[starts[0][active] + at] == other[starts[1][active] + at]]
        shared[active] += 1
        active = active[shared[active] < limits[active]]
    return shared


def _cut(texts: Encoded, first: Int64s, last: Int64s) -> Padded:
    """Return texts without all but three of the first and last tokens that are shared; the tokens around stay to be read in context."""
    whole = pad(texts)
    place = np.arange(len(whole.ids)) - np.repeat(_padded_starts(texts), texts.lengths + 3)
    differs_from, differs_to = first + 2, texts.lengths - last + 2
    kept = (place >= (differs_from - _CONTEXT)[whole.owner]) & (place < (differs_to + _CONTEXT)[whole.owner])
    # the two tokens after a difference have another context
    is_read = whole.is_read & (place >= differs_from[whole.owner]) & (place < (differs_to + 2)[whole.owner])
    return Padded(whole.ids[kept], is_read[kept], whole.owner[kept])


def _padded_starts(texts: Encoded) -> Int64s:
    return np.asarray(np.cumsum(texts.lengths + 3) - (texts.lengths + 3))
