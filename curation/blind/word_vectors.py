"""What words go together in captions, as numbers: words that are said of like things lie near each other."""

from __future__ import annotations

import numpy as np

from curation.blind.ngram_model import Encoded, Floats, Ints, Vocabulary

_NUM_WORDS = 1500
_NUM_CONTEXTS = 600
_WIDTH = 32
_FEWEST = 20
_MAX_TEXTS = 50_000
_TEXTS_PER_CHUNK = 2_000


class WordVectors:
    """Vectors of frequent words: the singular vectors of how much oftener than by chance two share a text.

    Args:
        vocabulary: The words; the 1,500 most frequent get a vector if the texts have them 20
            times, the others have none.
        texts: The texts that are counted, evenly chosen where there are more than 50,000.

    Source: Levy and Goldberg 2014, Neural word embedding as implicit matrix factorization, section 5.
    Differs: the window is the whole caption; the 600 most frequent words are contexts.
    """

    def __init__(self, vocabulary: Vocabulary, texts: Encoded) -> None:
        # a rarer word's vector would tell which texts were counted
        times = np.bincount(texts.ids, minlength=len(vocabulary))
        most = vocabulary.most_frequent(_NUM_WORDS)
        frequent = [
            word for word, number in zip(most, vocabulary.encode(most).ids, strict=True) if times[number] >= _FEWEST
        ]
        self._column = np.full(len(vocabulary), -1, np.int64)
        self._column[vocabulary.encode(frequent).ids] = np.arange(len(frequent))
        shared = self._counted(texts, len(frequent))
        total = max(float(shared.sum()), 1.0)
        by_chance = shared.sum(axis=1, keepdims=True) * shared.sum(axis=0, keepdims=True) / total
        oftener = np.log(np.maximum(shared, 1e-9) / np.maximum(by_chance, 1e-9)).clip(0.0)
        left, sizes, _ = np.linalg.svd(oftener, full_matrices=False)
        vectors = left[:, :_WIDTH] * np.sqrt(sizes[:_WIDTH])
        self.vectors: Floats = np.zeros((len(frequent) + 1, _WIDTH))
        self.vectors[:-1, : vectors.shape[1]] = vectors / max(
            float(np.sqrt((vectors**2).sum() / max(vectors.size, 1))), 1e-9
        )

    def _counted(self, texts: Encoded, num: int) -> Floats:
        """Return how many texts hold each word and each context [words, contexts]."""
        step = 1 + (len(texts.lengths) - 1) // _MAX_TEXTS if len(texts.lengths) else 1
        owner, column = self._places(texts)
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

    def _places(self, texts: Encoded) -> tuple[Ints, Ints]:
        """Return the text and the number of each frequent word, in reading order."""
        owner = np.repeat(np.arange(len(texts.lengths)), texts.lengths)
        column = self._column[texts.ids]
        return owner[column >= 0], column[column >= 0]

    def features(self, texts: Encoded) -> Floats:
        """Return for each text the sum of its words' vectors, and how well they go together [texts, 33]."""
        owner, column = self._places(texts)
        num = len(texts.lengths)
        known = self.vectors[column]
        sums = np.stack([np.bincount(owner, known[:, k], minlength=num) for k in range(_WIDTH)], axis=1)
        # the mean of all products of two words' directions
        units = known / np.maximum(np.linalg.norm(known, axis=1, keepdims=True), 1e-9)
        whole = np.stack([np.bincount(owner, units[:, k], minlength=num) for k in range(_WIDTH)], axis=1)
        count = np.bincount(owner, minlength=num).astype(np.float64)
        together = ((whole**2).sum(axis=1) - count) / np.maximum(count * (count - 1), 1.0)
        return np.concatenate([sums, 10 * together[:, None]], axis=1)
