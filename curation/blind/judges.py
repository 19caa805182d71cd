"""Judges that see no image: how often they prefer a caption to its negative; 0.5 when the negatives give nothing away.

Each judge learns from the pairs of one half of the images and judges the other half, then the other way round, so that
every pair is judged once, by a judge that has not seen its image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from curation.blind.image_sample import ImageSample
from curation.blind.ngram_model import NgramModel
from curation.blind.pair_features import TokenView, fit_logistic, pair_features
from curation.blind.tokens import Encoded, Float64s, Vocabulary, WordClasses, Words, pad_differences, split_text
from data_manifests.seeds import draw_seed

T = TypeVar("T")

_GAP_DECIMALS = 4
_ACCURACY_DECIMALS = 3
_MAX_PAIRS_PER_IMAGE = 16
_PURPOSE = "blind_image"
_MOST_LETTERS, _MAX_LETTERS = 4, 1024
_LETTER_PENALTY = 3.0


class Pair(NamedTuple):
    """A caption and a negative of it.

    Attributes:
        uid: The image's.
        caption: A true text: the caption, or the text that the negative is an edit of.
        negative: A false text.
        operation: Name under which the pair is counted.
    """

    uid: str
    caption: str
    negative: str
    operation: str


def positive_of(record: Mapping[str, Any], captions: Sequence[str]) -> str:
    """Return the true text that a negative is paired with: the one its record names, or else its caption."""
    return str(record.get("against") or captions[record["caption"]])


_split = lru_cache(maxsize=1 << 16)(split_text)


def _read(texts: Iterable[str]) -> Words:
    """Split texts into words; both judges and both halves read the same texts."""
    return Words.of([_split(text) for text in texts])


class Judge(Protocol):
    """Learns from some pairs and judges others, from text alone."""

    def gaps(self, train: Sequence[Pair], captions: Sequence[str], test: Sequence[Pair]) -> Float64s:
        """Return by how much the caption of each test pair is preferred to its negative; 0 is a tie.

        Args:
            train: Pairs to learn from.
            captions: Captions to learn from, those of `train` among them; none of an image of `test`.
            test: Pairs to judge.
        """


class NgramJudge:
    """Prefers the text that an interpolated trigram model of other images' captions gives the higher probability."""

    def gaps(self, train: Sequence[Pair], captions: Sequence[str], test: Sequence[Pair]) -> Float64s:  # noqa: ARG002 - it learns from captions alone
        """Return differences of log probability."""
        known = _read(captions)
        vocabulary = Vocabulary.of(known)
        model = NgramModel.fit(vocabulary.encode(known), len(vocabulary))
        sides = [pair.caption for pair in test], [pair.negative for pair in test]
        positives, negatives = pad_differences(*(vocabulary.encode(_read(side)) for side in sides))
        without = np.full(len(test), model.num_folds)
        return model.score_read(positives, without) - model.score_read(negatives, without)


class LinearJudge:
    """Logistic regression over hashed n-grams of words and of word endings, and over lengths."""

    def gaps(self, train: Sequence[Pair], captions: Sequence[str], test: Sequence[Pair]) -> Float64s:
        """Return log odds."""
        pairs = [*train, *test]
        positives, negatives = [pair.caption for pair in pairs], [pair.negative for pair in pairs]
        words = _read(positives), _read(negatives)
        texts = Words.joined([_read(captions), *words])
        vocabulary = Vocabulary.of(texts)
        classes = WordClasses.learn(vocabulary, texts, {})
        encoded = [vocabulary.encode(side) for side in words]
        tags = [classes.encode(side.ids, own) for side, own in zip(encoded, words, strict=True)]
        views = [TokenView(*pad_differences(*encoded), 3), TokenView(*pad_differences(*tags), 4)]
        lengths = [
            words[0].lengths - words[1].lengths,
            [(len(a) - len(b)) / 5 for a, b in zip(positives, negatives, strict=True)],
        ]
        features = pair_features(views, np.array(lengths, np.float64).T.reshape(len(pairs), 2))
        return np.asarray(features[len(train) :] @ fit_logistic(features[: len(train)]))


class LetterJudge:
    """Logistic regression over hashed groups of one to four letters: it reads no words, and refinement does not know it."""

    def gaps(self, train: Sequence[Pair], captions: Sequence[str], test: Sequence[Pair]) -> Float64s:  # noqa: ARG002 - it learns from pairs alone
        """Return log odds."""
        pairs = [*train, *test]
        sides = (_letters(pair.caption for pair in pairs), _letters(pair.negative for pair in pairs))
        features = pair_features([TokenView(*pad_differences(*sides), _MOST_LETTERS)], np.zeros((len(pairs), 0)))
        return np.asarray(features[len(train) :] @ fit_logistic(features[: len(train)], penalty=_LETTER_PENALTY))


def _letters(texts: Iterable[str]) -> Encoded:
    """Return texts as the numbers of their letters in lower case, at most 1,024."""
    coded = [text.lower()[:_MAX_LETTERS].encode("utf-32-le", "surrogatepass") for text in texts]
    ids = np.frombuffer(b"".join(coded), "<u4").astype(np.int64)
    return Encoded(ids, np.array([len(text) // 4 for text in coded], np.int64))


JUDGES: Mapping[str, Judge] = {"words": NgramJudge(), "features": LinearJudge(), "letters": LetterJudge()}
"""Name in a manifest -> judge; refinement uses scorers like the first two, and does not know the third."""


def blind_accuracy(pairs: Sequence[Pair], judge: Judge, captions: Iterable[tuple[str, str]] = ()) -> dict[str, Any]:
    """Return how often a judge prefers captions to negatives, per kind and ``overall``, and the ``num`` of pairs.

    Args:
        pairs: The pairs, in any order.
        judge: The judge.
        captions: Further (uid, caption) that the judge may learn from; those of images that it judges are left out.

    Returns:
        Accuracies with three decimals, ties counted one half, and ``operations``: of each operation (the first word of
        its kinds) the accuracy, the ``low`` and ``high`` end of its 95 % interval, and the ``num`` of pairs; without
        pairs, ``num`` alone.
    """
    if not pairs:
        return {"num": 0}
    ordered = sorted(set(pairs))
    known = sorted(set(captions) | {(pair.uid, pair.caption) for pair in ordered})
    scores = np.full(len(ordered), 0.5)
    half = {uid: draw_seed(0, "blind_half", uid) % 2 for uid in {uid for uid, _ in known}}
    for number in (0, 1):
        test = [index for index, pair in enumerate(ordered) if half[pair.uid] == number]
        train = [pair for pair in ordered if half[pair.uid] != number]
        if test and train:
            texts = [caption for uid, caption in known if half[uid] != number]
            gaps = judge.gaps(train, texts, [ordered[index] for index in test])
            scores[test] = (1 + np.sign(np.round(gaps, _GAP_DECIMALS))) / 2
    by_kind: dict[str, list[float]] = {}
    of_operation: dict[str, list[int]] = {}
    for place, (pair, score) in enumerate(zip(ordered, scores.tolist(), strict=True)):
        by_kind.setdefault(pair.operation, []).append(score)
        of_operation.setdefault(pair.operation.partition(" ")[0], []).append(place)
    means = {name: round(sum(found) / len(found), _ACCURACY_DECIMALS) for name, found in sorted(by_kind.items())}
    operations = {
        name: _with_interval([ordered[place].uid for place in places], scores[places])
        for name, places in sorted(of_operation.items())
    }
    overall = round(float(scores.mean()), _ACCURACY_DECIMALS)
    return {**means, "overall": overall, "num": len(ordered), "operations": operations}


def _with_interval(uids: Sequence[str], scores: Float64s) -> dict[str, float]:
    """Return the mean of scores and its 95 % interval; scores of one image are not taken for independent.

    Source: the linearised variance of a mean over clusters (Cochran 1977, Sampling techniques, section 9A), and no less
        than that of as many throws of a coin.
    """
    accuracy, num = float(scores.mean()), len(scores)
    _, image = np.unique(np.array(uids), return_inverse=True)
    of_images = np.bincount(image, scores - accuracy)
    half = 1.96 * max(float((of_images**2).sum()) / num**2, 0.25 / num) ** 0.5
    found = {"accuracy": accuracy, "low": max(0.0, accuracy - half), "high": min(1.0, accuracy + half)}
    return {**{name: round(value, _ACCURACY_DECIMALS) for name, value in found.items()}, "num": num}


MAX_PAIRS = 20_000
"""Most pairs that are judged; of larger data sets, those of the images with the smallest hashes are."""


class JudgedImages(Generic[T]):
    """The images in a `PairSample`, known from their numbers of negatives alone."""

    def __init__(self) -> None:
        self._images: ImageSample[T] = ImageSample(_PURPOSE, MAX_PAIRS)

    def add(self, uid: str, num_negatives: int, item: T) -> None:
        """Add an image, with what is held of it."""
        if num_negatives:
            self._images.add(uid, item, min(num_negatives, _MAX_PAIRS_PER_IMAGE))

    def items(self) -> list[T]:
        """Return what is held of the images, by uid."""
        return self._images.items()


class PairSample:
    """Pairs of the images with the smallest hashes: the same sample in any order of the images, in bounded memory.

    Args:
        max_pairs: Most pairs in the sample. An image has all of its pairs in it, at most 16, or none.
    """

    def __init__(self, max_pairs: int = MAX_PAIRS) -> None:
        self._images: ImageSample[tuple[str, list[Pair], tuple[str, ...]]] = ImageSample(_PURPOSE, max_pairs)

    def add(self, uid: str, captions: Sequence[str], negatives: Iterable[Mapping[str, Any]]) -> None:
        """Add the pairs of one image; if there are too many, the images with the largest hashes leave the sample."""
        if not self._images.wants(uid):
            return
        records = list(negatives)
        if len(records) > _MAX_PAIRS_PER_IMAGE:
            records.sort(key=lambda record: draw_seed("blind_pair", uid, record["text"]))
        pairs = [
            Pair(uid, positive_of(record, captions), record["text"], f"{record['operation']} {record['span_class']}")
            for record in records[:_MAX_PAIRS_PER_IMAGE]
        ]
        if pairs:
            self._images.add(uid, (uid, pairs, tuple(captions)), len(pairs))

    def accuracy(self) -> dict[str, dict[str, Any]]:
        """Return `blind_accuracy` of each judge by name."""
        images = self._images.items()
        pairs = [pair for _, of_image, _ in images for pair in of_image]
        captions = [(uid, caption) for uid, _, texts in images for caption in texts]
        return {name: blind_accuracy(pairs, judge, captions) for name, judge in JUDGES.items()}
