"""Images that refinement learns from: each is packed into one object, since 18,000 captions' worth of them are held at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from curation.blind.refinement import ImagePairs, Kind, LearningTexts
from curation.blind.scores import PairTexts
from curation.blind.tokens import UInt64s, Words

_COLUMNS = ("u8", "u1", "u4", "u4", "u4", "u2", "u8", "u4", "f8", "u8", "u1", "u4", "u4", "u8", "u2")
"""Types of what is packed, in the order of `_columns`."""

(
    _HASHES, _ENDINGS, _LENGTHS, _CAPTIONS, _NEGATIVES, _KINDS, _DRAWS, _FOLDS, _FURTHER,
    _OWN_HASHES, _OWN_ENDINGS, _OWN_LENGTHS, _FOLD, _TAGGED, _TAGS,
) = range(len(_COLUMNS))  # fmt: skip

_SIZES = np.array([np.dtype(name).itemsize for name in _COLUMNS])
_HEAD_BYTES = 4 * len(_COLUMNS)

Array = np.ndarray[Any, Any]


class PackedImage(NamedTuple):
    """What is held of an image.

    Attributes:
        pairs: Its pairs.
        captions: Its captions.
        fold: Its fold in the first round.
        tagged_words: Hashes of the words of its parsed captions.
        tags: Their tags, as numbers.
    """

    pairs: ImagePairs
    captions: Words
    fold: int
    tagged_words: UInt64s
    tags: np.ndarray[Any, np.dtype[np.uint16]]


class ImagePacker:
    """Packs images, and joins packed ones."""

    def __init__(self) -> None:
        self._kinds: dict[Kind, int] = {}

    def pack(self, image: PackedImage) -> bytes:
        """Return an image as bytes."""
        pairs = image.pairs
        columns = (
            *pairs.texts.words,
            pairs.texts.captions,
            pairs.texts.negatives,
            [self._kinds.setdefault(kind, len(self._kinds)) for kind in pairs.kinds],
            pairs.draws,
            pairs.folds.ravel(),
            pairs.further.ravel(),
            *image.captions,
            [image.fold],
            image.tagged_words,
            image.tags,
        )
        packed = [np.asarray(column, name) for column, name in zip(columns, _COLUMNS, strict=True)]
        head = np.array([len(column) for column in packed], "u4")
        return b"".join([head.tobytes(), *(column.tobytes() for column in packed)])

    def joined(self, images: Sequence[bytes], tags: Sequence[str]) -> LearningTexts:
        """Return what to learn from some images, one after another.

        Args:
            images: Packed images, at least one.
            tags: Names of the tags, by their numbers.
        """
        heads = np.frombuffer(b"".join([image[:_HEAD_BYTES] for image in images]), "u4").reshape(len(images), -1)
        starts = _HEAD_BYTES + np.cumsum(heads * _SIZES, axis=1) - heads * _SIZES

        def column(number: int, dtype: str) -> Array:
            places = zip(images, heads[:, number].tolist(), starts[:, number].tolist(), strict=True)
            parts = [np.frombuffer(image, _COLUMNS[number], count, start) for image, count, start in places]
            return np.concatenate(parts).astype(dtype, copy=False)

        def words(first: int) -> Words:
            return Words(column(first, "u8"), column(first + 1, "u1"), column(first + 2, "i8"))

        num_pairs, num_texts = heads[:, _DRAWS].astype(np.int64), heads[:, _LENGTHS].astype(np.int64)
        first_texts = np.repeat(np.cumsum(num_texts) - num_texts, num_pairs)
        captions, negatives = (column(number, "i8") + first_texts for number in (_CAPTIONS, _NEGATIVES))
        total, kinds = int(num_pairs.sum()), list(self._kinds)
        pairs = ImagePairs(
            PairTexts(words(_HASHES), captions, negatives),
            [kinds[number] for number in column(_KINDS, "i8").tolist()],
            column(_DRAWS, "u8"),
            column(_FOLDS, "i8").reshape(total, -1),
            column(_FURTHER, "f8").reshape(total, -1),
        )
        folds = np.repeat(column(_FOLD, "i8"), heads[:, _OWN_LENGTHS])
        tagged, numbers = column(_TAGGED, "u8"), column(_TAGS, "u2")
        of_tag = {tag: tagged[numbers == number] for number, tag in enumerate(tags)}
        return LearningTexts(pairs, words(_OWN_HASHES), folds, of_tag)
