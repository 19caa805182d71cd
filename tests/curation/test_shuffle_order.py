"""Shuffles for evaluation."""

from __future__ import annotations

import pytest

from curation.stages.negatives.shuffle_order import ShuffleOrder
from data_manifests.errors import InputError
from tests.curation.negative_checks import made, parsed, sample, texts

CAPTION = "A brown dog chases a white cat across the wet lawn ."


def test_each_kind_moves_what_it_says() -> None:
    (one,) = parsed([sample(CAPTION)])
    words = CAPTION.split()
    by_kind = {record["span_class"]: record["text"].split() for record in made(ShuffleOrder(), one)}
    assert set(by_kind) == {"naming", "rest", "within_trigrams", "trigrams"}
    for shuffled in by_kind.values():
        assert sorted(shuffled) == sorted(words)
        assert shuffled != words
    naming = [1, 2, 5, 6, 9, 10]
    assert [word for at, word in enumerate(by_kind["naming"]) if at not in naming] == [
        word for at, word in enumerate(words) if at not in naming
    ]
    assert {by_kind["naming"][at] for at in (1, 5, 9)} == {"brown", "white", "wet"}
    assert [by_kind["rest"][at] for at in naming] == [words[at] for at in naming]
    for at in range(0, 9, 3):
        assert sorted(by_kind["within_trigrams"][at : at + 3]) == sorted(words[at : at + 3])
    groups = {tuple(words[at : at + 3]) for at in range(0, 9, 3)}
    text = " ".join(by_kind["trigrams"])
    assert all(" ".join(group) in text for group in groups)


def test_never_the_caption_itself() -> None:
    for seed in range(50):
        assert "a dog" not in texts(ShuffleOrder(seed), "a dog")
    assert texts(ShuffleOrder(), "dog") == set()
    assert texts(ShuffleOrder(), "dog dog dog dog") == set()


def test_seeded_and_checked() -> None:
    assert texts(ShuffleOrder(1), CAPTION) == texts(ShuffleOrder(1), CAPTION)
    assert texts(ShuffleOrder(1), CAPTION) != texts(ShuffleOrder(2), CAPTION)
    assert len(texts(ShuffleOrder(kinds=("rest",)), CAPTION)) == 1
    with pytest.raises(InputError, match="'bigrams'"):
        ShuffleOrder(kinds=("bigrams",))
