"""Word vectors from co-occurrence in captions: words for similar things have similar vectors."""

from __future__ import annotations

import numpy as np

from curation.blind.ngram_model import Encoded, Float64s, Int64s, Vocabulary

_NUM_WORDS = 1500
_NUM_CONTEXTS = 600
_WIDTH = 32
_MIN_OCCURRENCES = 20
_MAX_TEXTS = 50_000
_TEXTS_PER_CHUNK = 2_000


class WordVectors:
    """Vectors of frequent words: singular vectors of the positive pointwise mutual information of two words in a text.

    Args:
        vocabulary: The words; of the 1,500 most frequent, those that occur 20 times in the texts get a vector.
        texts: The texts that are counted, evenly chosen where there are more than 50,000.

    Source: Levy and Goldberg 2014, Neural word embedding as implicit matrix factorization, section 5.
    Differs: the window is the whole caption; the 600 most frequent words are contexts.
    """

    def __init__(self, vocabulary: Vocabulary, texts: Encoded) -> None:
        # the vector of a rarer word would give away which texts were counted
        times = np.bincount(texts.ids, minlength=len(vocabulary))
        most = vocabulary.most_frequent(_NUM_WORDS)
        frequent = [
            word
            for word, number in zip(most, vocabulary.encode(most).ids, strict=True)
            if times[number] >= _MIN_OCCURRENCES
        ]
        self._column = np.full(len(vocabulary), -1, np.int64)
        self._column[vocabulary.encode(frequent).ids] = np.arange(len(frequent))
        shared = self._co_occurrences(texts, len(frequent))
        total = max(float(shared.sum()), 1.0)
        expected = shared.sum(axis=1, keepdims=True) * shared.sum(axis=0, keepdims=True) / total
        information = np.log(np.maximum(shared, 1e-9) / np.maximum(expected, 1e-9)).clip(0.0)
        left, sizes, _ = np.linalg.svd(information, full_matrices=False)
        vectors = left[:, :_WIDTH] * np.sqrt(sizes[:_WIDTH])
        self.vectors: Float64s = np.zeros((len(frequent) + 1, _WIDTH))
        self.vectors[:-1, : vectors.shape[1]] = vectors / max(
            float(np.sqrt((vectors**2).sum() / max(vectors.size, 1))), 1e-9
        )

    def _co_occurrences(self, texts: Encoded, num: int) -> Float64s:
        """Return how many texts have each word and each context [words, contexts]."""
        step = 1 + (len(texts.lengths) - 1) // _MAX_TEXTS if len(texts.lengths) else 1
        owner, column = self._frequent_words(texts)
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

    def _frequent_words(self, texts: Encoded) -> tuple[Int64s, Int64s]:
        """Return the text and the column of each occurrence of a frequent word, in reading order."""
        owner = np.repeat(np.arange(len(texts.lengths)), texts.lengths)
        column = self._column[texts.ids]
        return owner[column >= 0], column[column >= 0]

    def features(self, texts: Encoded) -> Float64s:
        """Return for each text the sum of its words' vectors, and the mean similarity of two of its words [texts, 33]."""
        owner, column = self._frequent_words(texts)
        num = len(texts.lengths)
        known = self.vectors[column]
        sums = np.stack([np.bincount(owner, known[:, k], minlength=num) for k in range(_WIDTH)], axis=1)
        # the mean of all products of two words' directions
        units = known / np.maximum(np.linalg.norm(known, axis=1, keepdims=True), 1e-9)
        whole = np.stack([np.bincount(owner, units[:, k], minlength=num) for k in range(_WIDTH)], axis=1)
        count = np.bincount(owner, minlength=num).astype(np.float64)
        together = ((whole**2).sum(axis=1) - count) / np.maximum(count * (count - 1), 1.0)
        return np.concatenate([sums, 10 * together[:, None]], axis=1)
