"""Memory of learning a refinement: an image is held in few bytes, and the whole does not grow with the data set."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from curation.blind.learning_images import ImagePacker, PackedImage
from curation.blind.refinement import ImagePairs
from curation.blind.scores import PairTexts
from curation.blind.tokens import Words, hash_words, read_words
from curation.stages.negatives import refine_negatives
from curation.stages.negatives.refine_negatives import RefineNegatives
from data_manifests.sample import ImageRef, Sample, image_uid

WORDS = [
    f"{first}{middle}{last}" for first in "bdfgklmnp" for middle in "aeiou" for last in ("rn", "sk", "lt", "mp", "nd")
]


class DrawnColumns:
    """Images with one caption of eleven words and seven negatives; each is drawn when it is read, so none is held."""

    def __init__(self, num: int) -> None:
        self.num_samples = num

    def batches(self, *fields: str) -> Iterator[list[Sample]]:
        assert not fields
        for start in range(0, self.num_samples, 50):
            yield [drawn(number) for number in range(start, min(start + 50, self.num_samples))]


def drawn(number: int) -> Sample:
    draw = random.Random(number)
    words = draw.choices(WORDS, k=11)
    records = []
    for place in draw.sample(range(11), 7):
        text = " ".join([*words[:place], draw.choice(WORDS), *words[place + 1 :]])
        records.append(
            {"text": text, "caption": 0, "operation": "replace", "span_class": draw.choice(("noun", "verb"))}
        )
    uid = image_uid(str(number).encode())
    sample = Sample(uid, uid, ImageRef(uid), (" ".join(words),))
    return sample.adding({"parses": [{"words": words, "tags": ["NN"] * 11}], "swap_negatives": records})


def peak_bytes(num: int) -> int:
    """Return the most memory that a fit on so many images allocates."""
    tracemalloc.start()
    try:
        RefineNegatives(num_rounds=1).fit(DrawnColumns(num))  # type: ignore[arg-type]  # it needs no vectors
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_what_is_learned_from_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """With as many images as there is room for, a further one costs nothing."""
    monkeypatch.setattr(refine_negatives, "_MAX_PAIRS", 1_400)
    peak_bytes(50)  # imports
    growth = (peak_bytes(1_000) - peak_bytes(250)) / 750
    assert growth < 100


def test_an_image_that_is_learned_from_takes_few_bytes() -> None:
    """Below the limit too: of these, features of seven pairs are 3.7 KB."""
    peak_bytes(50)
    growth = (peak_bytes(1_400) - peak_bytes(700)) / 700
    assert growth < 14_000


def pairs_of(texts: list[str], captions: list[int], kinds: list[tuple[str, str]], further: int) -> ImagePairs:
    num = len(kinds)
    return ImagePairs(
        PairTexts(read_words(texts), np.array(captions, np.int64), len(texts) - num + np.arange(num)),
        kinds,
        np.arange(num).astype(np.uint64) + np.uint64(2**63),
        np.tile(np.array([3, 70_000], np.int64), (num, 1)),
        np.arange(num * further).reshape(num, further) / 3.0,
    )


def arrays(pairs: ImagePairs, captions: Words) -> list[np.ndarray[Any, Any]]:
    texts = pairs.texts
    return [*texts.words, texts.captions, texts.negatives, pairs.draws, pairs.folds, pairs.further, *captions]


@pytest.mark.parametrize("further", [0, 1, 2])
def test_packed_images_are_joined_as_they_were(further: int) -> None:
    images = [
        PackedImage(pairs, read_words(texts), fold, hash_words(words), np.arange(len(words)).astype(np.uint16) % 2)
        for pairs, texts, fold, words in (
            (
                pairs_of(["a dog", "a cat", "two"], [0, 0], [("a", "b"), ("c", "d")], further),
                ["a dog"],
                4,
                ["a", "dog"],
            ),
            (pairs_of(["x", "y"], [], [], further), ["x", "", "y"], 0, []),
            (
                pairs_of(["", "one big house", "z"], [1], [("c", "d")], further),
                ["", "one big house"],
                2,
                ["one", "x", "é"],
            ),
        )
    ]
    packer = ImagePacker()
    found = packer.joined([packer.pack(image) for image in images], ["NN", "VB"])
    expected = ImagePairs.joined([image.pairs for image in images])
    captions = Words.joined([image.captions for image in images])
    for one, other in zip(arrays(found.pairs, found.captions), arrays(expected, captions), strict=True):
        assert one.dtype == other.dtype
        assert one.tolist() == other.tolist()
    assert list(found.pairs.kinds) == list(expected.kinds)
    assert found.folds.tolist() == [4, 0, 0, 0, 2, 2]
    tagged = np.concatenate([image.tagged_words for image in images])
    assert found.tags["NN"].tolist() == tagged[[0, 2, 4]].tolist()
    assert found.tags["VB"].tolist() == tagged[[1, 3]].tolist()
