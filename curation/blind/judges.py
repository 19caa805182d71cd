"""Judges that see no image: how often they tell a caption from its negative, 0.5 when the negatives give nothing away.

Each judge learns from half of the images and is asked about the other half, then the other way round, so that every
pair is judged once, by a judge that has not met its image.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from curation.blind.gru_judge import NetworkJudge
from curation.blind.ngram_model import Floats, Ints, NgramModel, Vocabulary, WordClasses
from curation.blind.pair_features import View, fit_logistic, judge, pair_features
from curation.blind.pairs import Judge, Pair, positive_of
from data_manifests.errors import InputError, nearest
from data_manifests.seeds import draw_seed

_DECIMALS = 4
_ACCURACY_DECIMALS = 3
_MAX_PER_IMAGE = 64


class WordJudge:
    """Prefers the text that an interpolated trigram model of other images' captions finds likelier."""

    def gaps(self, learn: Sequence[Pair], captions: Sequence[str], ask: Sequence[Pair], seed: int) -> Floats:
        """Return differences of log probability."""
        texts = list(captions) or [pair.caption for pair in learn]
        vocabulary = Vocabulary(texts)
        model = NgramModel.fit(vocabulary.encode(texts), len(vocabulary))
        right = model.score(vocabulary.encode([pair.caption for pair in ask]))
        return right - model.score(vocabulary.encode([pair.negative for pair in ask]))


class FeatureJudge:
    """Logistic regression over hashed n-grams of words and of word endings, and over lengths."""

    def gaps(self, learn: Sequence[Pair], captions: Sequence[str], ask: Sequence[Pair], seed: int) -> Floats:
        """Return log odds."""
        pairs = [*learn, *ask]
        right, wrong = [pair.caption for pair in pairs], [pair.negative for pair in pairs]
        vocabulary = Vocabulary([*captions, *right, *wrong])
        classes = WordClasses(vocabulary, ())
        sides = vocabulary.encode(right), vocabulary.encode(wrong)
        views = [View(*sides, 3), View(classes.encode(sides[0]), classes.encode(sides[1]), 4)]
        lengths = [
            sides[0].lengths - sides[1].lengths,
            [(len(a) - len(b)) / 5 for a, b in zip(right, wrong, strict=True)],
        ]
        features = pair_features(views, np.array(lengths, np.float64).T.reshape(len(pairs), 2))
        weights = fit_logistic(features.take(np.arange(len(learn))))
        return judge(features.take(np.arange(len(learn), len(pairs))), weights)


class EmbeddingJudge:
    """Logistic regression over differences of sentence embeddings that somebody else has learned.

    Args:
        encode: Texts to embeddings [texts, numbers].
    """

    def __init__(self, encode: Callable[[Sequence[str]], np.ndarray[Any, Any]]) -> None:
        self._encode = encode

    def gaps(self, learn: Sequence[Pair], captions: Sequence[str], ask: Sequence[Pair], seed: int) -> Floats:
        """Return log odds."""
        pairs = [*learn, *ask]
        distinct = sorted({text for pair in pairs for text in (pair.caption, pair.negative)})
        place = {text: number for number, text in enumerate(distinct)}
        embedded = np.asarray(self._encode(distinct), np.float64)
        difference = embedded[[place[pair.caption] for pair in pairs]]
        difference -= embedded[[place[pair.negative] for pair in pairs]]
        difference /= max(float(difference[: len(learn)].std()), 1e-9)
        features = pair_features([], difference)
        weights = fit_logistic(features.take(np.arange(len(learn))), penalty=10.0, num_steps=100)
        return judge(features.take(np.arange(len(learn), len(pairs))), weights)


def blind_accuracy(
    pairs: Sequence[Pair],
    judge: Judge | str,
    seed: int = 0,
    captions: Iterable[tuple[str, str]] = (),
    lessons: Sequence[Pair] | None = None,
) -> dict[str, float]:
    """Return how often a judge tells captions from negatives, per operation, ``overall``, and the ``num`` of pairs.

    Args:
        pairs: The pairs; their order does not matter.
        judge: A judge, or the name of one: see `JUDGES`.
        seed: Seed of the halves and of the judge's draws.
        captions: Further (uid, caption), from which a judge of words learns how captions read; those of images that
            are asked about are left out.
        lessons: What a judge learns from in place of `pairs`; those of images that are asked about are left out.

    Returns:
        Accuracies with three decimals, ties counted one half; without pairs, ``num`` alone.

    Raises:
        InputError: no judge has that name.
    """
    if isinstance(judge, str) and judge not in JUDGES:
        raise InputError(f"blind judge '{judge}'", allowed=", ".join(JUDGES), fix=nearest(judge, JUDGES))
    asked = JUDGES[judge]() if isinstance(judge, str) else judge
    ordered = sorted(set(pairs))
    taught = ordered if lessons is None else sorted(set(lessons))
    more = sorted(set(captions) | {(pair.uid, pair.caption) for pair in ordered})
    right = np.full(len(ordered), 0.5)
    half = [draw_seed(seed, "blind_half", pair.uid) % 2 for pair in ordered]
    half_of_lesson = [draw_seed(seed, "blind_half", pair.uid) % 2 for pair in taught]
    half_of_caption = [draw_seed(seed, "blind_half", uid) % 2 for uid, _ in more]
    for number in (0, 1):
        ask: Ints = np.flatnonzero(np.array(half) == number)
        learn = [pair for pair, side in zip(taught, half_of_lesson, strict=True) if side != number]
        known = [text for (_, text), side in zip(more, half_of_caption, strict=True) if side != number]
        if len(ask) and learn:
            gaps = asked.gaps(learn, known, [ordered[k] for k in ask], seed)
            right[ask] = (1 + np.sign(np.round(gaps, _DECIMALS))) / 2
    return _summed(ordered, right)


def _summed(pairs: Sequence[Pair], right: Floats) -> dict[str, float]:
    """Return means per operation and overall."""
    if not pairs:
        return {"num": 0}
    sums: dict[str, list[float]] = {}
    for pair, value in zip(pairs, right.tolist(), strict=True):
        sums.setdefault(pair.operation, []).append(value)
    means = {name: round(sum(values) / len(values), _ACCURACY_DECIMALS) for name, values in sorted(sums.items())}
    return {**means, "overall": round(float(right.mean()), _ACCURACY_DECIMALS), "num": len(pairs)}


class PairSample:
    """Pairs of some images of a data set, gathered while it streams by: bounded, and the same in any order of images.

    Args:
        max_pairs: At most this many pairs are held (an image has all of its own, up to 64, or none).
    """

    def __init__(self, max_pairs: int = 20_000) -> None:
        self._max_pairs, self._num_pairs = max_pairs, 0
        self._held: list[tuple[int, str, list[Pair], tuple[str, ...]]] = []

    def add(self, uid: str, captions: Sequence[str], negatives: Iterable[Mapping[str, Any]]) -> None:
        """See one image; it takes the place of one with a larger hash if there are too many."""
        records = sorted(negatives, key=lambda record: draw_seed("blind_pair", uid, record["text"]))
        pairs = [
            Pair(uid, positive_of(one, captions), one["text"], f"{one['operation']} {one['span_class']}")
            for one in records[:_MAX_PER_IMAGE]
        ]
        if pairs:
            heapq.heappush(self._held, (-draw_seed("blind_image", uid), uid, pairs, tuple(captions)))
            self._num_pairs += len(pairs)
        while self._num_pairs > self._max_pairs:
            self._num_pairs -= len(heapq.heappop(self._held)[2])

    def accuracy(self, judges: Sequence[str] = ("words", "features"), seed: int = 0) -> dict[str, dict[str, float]]:
        """Return what each judge reaches: see `blind_accuracy`.

        Raises:
            InputError: no judge has that name.
        """
        pairs = [pair for _, _, of_image, _ in self._held for pair in of_image]
        captions = [(uid, caption) for _, uid, _, texts in self._held for caption in texts]
        return {name: blind_accuracy(pairs, name, seed, captions) for name in judges}


JUDGES: Mapping[str, Callable[[], Judge]] = {"words": WordJudge, "features": FeatureJudge, "network": NetworkJudge}
"""Name -> judge: n-gram fluency, linear over n-grams, and a small recurrent network."""
