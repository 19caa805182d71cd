"""Denials."""

from __future__ import annotations

import pytest

from curation.stages.negatives.negate_captions import NegateCaptions
from curation.text.lexicon import NEGATIONS
from tests.curation.negative_checks import made, parsed, sample, texts


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A dog is running .", {"A dog is not running .", "No dog is running ."}),
        ("The dog runs .", {"The dog does not run ."}),
        ("The dogs run .", {"The dogs do not run ."}),
        ("The dog ran .", {"The dog did not run ."}),
        ("the dog running on grass", {"the dog not running on grass"}),
        ("The man is wearing a hat .", {"The man is wearing no hat .", "The man is not wearing a hat ."}),
        ("The man with an umbrella", {"The man without an umbrella"}),
        ("Children play .", {"No children play .", "Children do not play ."}),
        ("The ball is being thrown .", {"The ball is not being thrown ."}),
    ],
)
def test_denies(caption: str, expected: set[str]) -> None:
    assert texts(NegateCaptions(paired=False), caption) == expected


@pytest.mark.parametrize(
    "caption",
    [
        "A dog is not running .",
        "A man without a hat is sitting .",
        "A hill covered with snow",
        "Sunset .",
        "The cat 's black .",
        "a group",
    ],
)
def test_leaves_alone(caption: str) -> None:
    assert texts(NegateCaptions(paired=False), caption) == set()


def beside(caption: str, *others: str) -> set[tuple[str, str]]:
    """Return what is denied falsely and what truly beside it, over many seeds."""
    (one,) = parsed([sample(caption, *others)])
    found = [record for seed in range(30) for record in made(NegateCaptions(seed=seed), one) if record["caption"] == 0]
    return {(record["text"], record["against"]) for record in found}


@pytest.mark.parametrize(
    ("caption", "negative", "true"),
    [
        ("A dog is sleeping .", "No dog is sleeping .", "No cat is sleeping ."),
        ("Dogs are sleeping .", "No dogs are sleeping .", "No cats are sleeping ."),
        ("Black dogs are sleeping .", "No black dogs are sleeping .", "No black cats are sleeping ."),
        ("The man with an umbrella .", "The man without an umbrella .", "The man without a balloon ."),
        ("The dog runs along the road .", "The dog does not run along the road .", "The dog does not walk along the road ."),
        ("The man is wearing a hat .", "The man is wearing no hat .", "The man is wearing no helmet ."),
        ("the dog running along the road", "the dog not running along the road", "the dog not crawling along the road"),
    ],
)  # fmt: skip
def test_the_same_denial_of_what_is_not_there_stands_beside_it(caption: str, negative: str, true: str) -> None:
    assert (negative, true) in beside(caption)


def test_what_another_caption_tells_of_is_not_denied_as_if_it_were_true() -> None:
    alone = {true for _, true in beside("A dog is sleeping .")}
    together = {true for _, true in beside("A dog is sleeping .", "A cat is sleeping .")}
    assert "No cat is sleeping ." in alone
    assert together
    assert "No cat is sleeping ." not in together


def test_every_denial_is_told_from_a_denial_and_each_true_one_is_a_view() -> None:
    (one,) = parsed([sample("A dog is sleeping .", "A man wearing a hat walks along the road .")])
    (result,) = NegateCaptions().process([one])
    assert isinstance(result, dict)
    records, views = result["negate_negatives"], result["denial"]
    assert {record["span_class"] for record in records} == {"action", "thing"}
    for record in records:
        assert not NEGATIONS.isdisjoint(record["text"].lower().split())
        assert not NEGATIONS.isdisjoint(record["against"].lower().split())
    assert {(view["caption"], view["text"]) for view in views} == {
        (record["caption"], record["against"]) for record in records
    }
    assert {view["family"] for view in views} == {"negation"}
