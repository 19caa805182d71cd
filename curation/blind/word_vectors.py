"""Word vectors from co-occurrence in captions: words for similar things have similar vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from curation.blind.tokens import Encoded, Float64s, Int64s

_NUM_WORDS = 1500
_NUM_CONTEXTS = 600
_WIDTH = 32
_MIN_OCCURRENCES = 20
_MAX_TEXTS = 50_000
_TEXTS_PER_CHUNK = 2_000

Float32s = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class WordVectors:
    """Vectors of frequent words: singular vectors of the positive pointwise mutual information of two words in a text.

    Of the 1,500 most frequent words, those that occur 20 times in the texts get a vector.

    Attributes:
        words: Their numbers.
        vectors: Their vectors [words, 32].

    Source: Levy and Goldberg 2014, Neural word embedding as implicit matrix factorization, section 5.
    Differs: the window is the whole caption; the 600 most frequent words are contexts.
    """

    words: Int64s
    vectors: Float32s

    @classmethod
    def learn(cls, texts: Encoded, most_frequent: Int64s) -> WordVectors:
        """Learn vectors from texts, evenly chosen where there are more than 50,000.

        Args:
            texts: The texts.
            most_frequent: Words in the order of their frequency.
        """
        # the vector of a rarer word would give away which texts were counted
        most = most_frequent[:_NUM_WORDS]
        times = np.bincount(texts.ids, minlength=int(most.max(initial=0)) + 1)
        frequent = most[times[most] >= _MIN_OCCURRENCES]
        shared = _co_occurrences(texts, frequent)
        total = max(float(shared.sum()), 1.0)
        expected = shared.sum(axis=1, keepdims=True) * shared.sum(axis=0, keepdims=True) / total
        information = np.log(np.maximum(shared, 1e-9) / np.maximum(expected, 1e-9)).clip(0.0)
        left, sizes, _ = np.linalg.svd(information, full_matrices=False)
        found = left[:, :_WIDTH] * np.sqrt(sizes[:_WIDTH])
        vectors = np.zeros((len(frequent), _WIDTH), np.float32)
        vectors[:, : found.shape[1]] = found / max(float(np.sqrt((found**2).sum() / max(found.size, 1))), 1e-9)
        return cls(frequent, vectors)

    def features(self, texts: Encoded) -> Float64s:
        """Return for each text the sum of its words' vectors, and the mean similarity of two of its words [texts, 33]."""
        from scipy.sparse import csr_array

        owner, column = _known_words(texts, self.words)
        num = len(texts.lengths)
        ends = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=num))])
        said = csr_array((np.ones(len(column)), column, ends), shape=(num, len(self.words)))
        vectors = self.vectors.astype(np.float64)
        units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        sums, whole = said @ vectors, said @ units
        # the mean of all products of two words' directions
        count = np.diff(ends).astype(np.float64)
        together = ((whole**2).sum(axis=1) - count) / np.maximum(count * (count - 1), 1.0)
        return np.concatenate([sums, 10 * together[:, None]], axis=1)


def _co_occurrences(texts: Encoded, words: Int64s) -> Float64s:
    """Return how many texts have each word and each context [words, contexts]."""
    num = len(words)
    step = 1 + (len(texts.lengths) - 1) // _MAX_TEXTS if len(texts.lengths) else 1
    owner, column = _known_words(texts, words)
    chosen = owner % step == 0
    owner, column = owner[chosen] // step, column[chosen]
    shared = np.zeros((num, min(num, _NUM_CONTEXTS)))
    for start in range(0, int(owner.max(initial=-1)) + 1, _TEXTS_PER_CHUNK):
        first, last = np.searchsorted(owner, (start, start + _TEXTS_PER_CHUNK))
        said = np.zeros((_TEXTS_PER_CHUNK, num), np.float32)
        said[owner[first:last] - start, column[first:last]] = 1.0  # whole numbers, so that sums are exact
        shared += said.T @ said[:, :_NUM_CONTEXTS]
    shared[np.arange(shared.shape[1]), np.arange(shared.shape[1])] = 0.0
    return shared


def _known_words(texts: Encoded, words: Int64s) -> tuple[Int64s, Int64s]:
    """Return the text and the place among `words` of each occurrence of one of them, in reading order."""
    place = np.full(1 + int(max(texts.ids.max(initial=0), words.max(initial=0))), -1, np.int64)
    place[words] = np.arange(len(words))
    column = place[texts.ids]
    owner = np.repeat(np.arange(len(texts.lengths)), texts.lengths)
    return owner[column >= 0], column[column >= 0]
