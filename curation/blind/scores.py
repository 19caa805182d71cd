"""By how much readers without the image prefer captions to their negatives: the scores that refinement balances."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from curation.blind.ngram_model import Encoded, Floats, Ints, NgramModel, Vocabulary, WordClasses
from curation.blind.pair_features import Sparse, View, fit_logistic, judge, pair_features
from curation.blind.word_vectors import WordVectors

_MAX_LEARNED = 60_000
_PENALTY = 3.0
_DECIMALS = 4


@dataclass(frozen=True)
class Texts:
    """What is read.

    Attributes:
        captions: All captions of the corpus.
        caption_folds: The fold of each caption's image.
        rights: For each pair, the caption.
        wrongs: For each pair, the negative.
        pair_folds: The fold of each pair's image.
        num_folds: Number of folds.
    """

    captions: Sequence[str]
    caption_folds: Ints
    rights: Sequence[str]
    wrongs: Sequence[str]
    pair_folds: Ints
    num_folds: int


class BlindGaps:
    """Gaps of n-gram models, and of a judge that learns to tell captions from negatives; none has met the image.

    Args:
        texts: Captions, pairs and their folds.
        tagged: Words and tags of parsed captions, from which words get their classes.
    """

    def __init__(self, texts: Texts, tagged: Iterable[tuple[Sequence[str], Sequence[str]]]) -> None:
        vocabulary = Vocabulary([*texts.captions, *texts.wrongs])
        classes = WordClasses(vocabulary, tagged)
        words = [vocabulary.encode(side) for side in (texts.captions, texts.rights, texts.wrongs)]
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
        views = [View(words[1], words[2], 3), View(tags[1], tags[2], 4)]
        self._features: Sparse = pair_features(views, dense)

    def _ngram_gaps(self, sides: Sequence[Encoded], size: int) -> Floats:
        """Return differences of log probability, each by the model of the other folds."""
        captions, rights, wrongs = sides
        folds = self._texts.pair_folds
        model = NgramModel.fit(captions, size, self._texts.caption_folds, self._texts.num_folds)
        return np.round(model.score(rights, folds) - model.score(wrongs, folds), _DECIMALS)

    def learned(self, chosen: Ints, folds: Ints, num_steps: int) -> Floats:
        """Return log odds of the chosen pairs by a linear judge that learned from the other folds' chosen pairs.

        Args:
            chosen: Numbers of pairs, ascending.
            folds: The fold of each chosen pair's image.
            num_steps: At most so many steps towards the best judge.
        """
        gaps = np.zeros(len(chosen))
        features = self._features.take(chosen)
        for fold in range(self._texts.num_folds):
            learn, ask = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            # every n-th: pairs are in order of their images' uids, which are hashes
            learn = learn[:: 1 + (len(learn) - 1) // _MAX_LEARNED] if len(learn) else learn
            if len(learn) and len(ask):
                weights = fit_logistic(features.take(learn), penalty=_PENALTY, num_steps=num_steps)
                gaps[ask] = judge(features.take(ask), weights)
        return np.round(gaps, _DECIMALS)


def _scaled(gaps: Floats) -> Floats:
    """Return gaps with a mean square of 1."""
    size = float(np.sqrt(np.mean(gaps**2))) if len(gaps) else 0.0
    return gaps / size if size else gaps
