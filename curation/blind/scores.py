"""By how much scorers without the image prefer captions to their negatives: the gaps that refinement balances."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from curation.blind.ngram_model import Encoded, Float64s, Int64s, NgramModel, Vocabulary, WordClasses
from curation.blind.pair_features import Sparse, TokenView, fit_logistic, log_odds, pair_features
from curation.blind.word_vectors import WordVectors

_MAX_TRAINING_PAIRS = 60_000
_PENALTY = 3.0
_DECIMALS = 4


@dataclass(frozen=True)
class PairTexts:
    """The texts that scorers are fitted to and score.

    Attributes:
        captions: All captions of the corpus.
        caption_folds: The fold of each caption's image.
        positives: The caption of each pair.
        negatives: The negative of each pair.
        pair_folds: The fold of each pair's image.
        num_folds: Number of folds.
    """

    captions: Sequence[str]
    caption_folds: Int64s
    positives: Sequence[str]
    negatives: Sequence[str]
    pair_folds: Int64s
    num_folds: int


class BlindGaps:
    """Gaps of n-gram models and of a linear judge; each scores an image by what it learned from the other folds.

    Args:
        texts: Captions, pairs and their folds.
        tagged: Words and tags of parsed captions, for the classes of words.
    """

    def __init__(self, texts: PairTexts, tagged: Iterable[tuple[Sequence[str], Sequence[str]]]) -> None:
        vocabulary = Vocabulary([*texts.captions, *texts.negatives])
        classes = WordClasses(vocabulary, tagged)
        words = [vocabulary.encode(side) for side in (texts.captions, texts.positives, texts.negatives)]
        tags = [classes.encode(side) for side in words]
        self._texts = texts
        self.words = self._ngram_gaps(words, len(vocabulary))
        """Log probability of the caption under word trigrams, minus that of the negative [pairs]."""
        self.tags = self._ngram_gaps(tags, len(vocabulary))
        """The same for trigrams of word classes."""
        lengths = (words[1].lengths - words[2].lengths).astype(np.float64)
        vectors = WordVectors(vocabulary, words[0])
        meanings = vectors.features(words[1]) - vectors.features(words[2])
        dense = np.column_stack([_scaled(self.words), _scaled(self.tags), lengths, meanings])
        views = [TokenView(words[1], words[2], 3), TokenView(tags[1], tags[2], 4)]
        self._features: Sparse = pair_features(views, dense)

    def _ngram_gaps(self, sides: Sequence[Encoded], size: int) -> Float64s:
        """Return differences of log probability, each by the model of the other folds."""
        captions, positives, negatives = sides
        folds = self._texts.pair_folds
        model = NgramModel.fit(captions, size, self._texts.caption_folds, self._texts.num_folds)
        return np.round(model.score(positives, folds) - model.score(negatives, folds), _DECIMALS)

    def learned_gaps(self, chosen: Int64s, folds: Int64s, num_steps: int) -> Float64s:
        """Return log odds of the chosen pairs, by a linear judge that is fitted to the chosen pairs of the other folds.

        Args:
            chosen: Indices of pairs, ascending.
            folds: The fold of each chosen pair's image.
            num_steps: Most steps of the fit.
        """
        gaps = np.zeros(len(chosen))
        features = self._features.take(chosen)
        for fold in range(self._texts.num_folds):
            train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            if len(train) and len(test):
                # every n-th: pairs are in the order of their images' uids, which are hashes
                train = train[:: 1 + (len(train) - 1) // _MAX_TRAINING_PAIRS]
                weights = fit_logistic(features.take(train), penalty=_PENALTY, num_steps=num_steps)
                gaps[test] = log_odds(features.take(test), weights)
        return np.round(gaps, _DECIMALS)


def _scaled(gaps: Float64s) -> Float64s:
    """Return gaps with a mean square of 1."""
    size = float(np.sqrt(np.mean(gaps**2))) if len(gaps) else 0.0
    return gaps / size if size else gaps
