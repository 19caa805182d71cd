"""Denials."""

from __future__ import annotations

from typing import Any

import pytest

from curation.negatives.denied_words import deny_words
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


def changed(caption: str, *pairs: tuple[str, str]) -> dict[str, Any]:
    """Return a negative of caption 0 in which the first of each pair is replaced by the second."""
    text, edits, shift = caption, [], 0
    for old, new in pairs:
        at = caption.index(old)
        text = text[: at + shift] + new + text[at + shift + len(old) :]
        edits.append([at, at + len(old), at + shift, at + shift + len(new)])
        shift += len(new) - len(old)
    return {"text": text, "caption": 0, "operation": "replace", "type": "attribute", "edits": edits}


def denied(caption: str, *pairs: tuple[str, str]) -> list[tuple[str, str]]:
    (one,) = parsed([sample(caption)])
    records = list(deny_words(one.captions, one["parses"], [changed(caption, *pairs)], "negate_captions"))
    for record in records:
        (start, end, new_start, new_end) = record["edits"][-1]
        assert caption[:start] in record["text"] or len(record["edits"]) > 1
        assert record["text"][new_end:] == caption[end:] and record["text"][new_start:new_end]
    return [(record["text"], record["against"]) for record in records]


@pytest.mark.parametrize(
    ("caption", "pairs", "false", "true"),
    [
        (
            "Proline Men Navy Tracksuit",
            [("Navy", "Black")],
            "Proline Men Black, not Navy, Tracksuit",
            "Proline Men Navy, not Black, Tracksuit",
        ),
        (
            "Nike Men White Socks",
            [("Socks", "Caps")],
            "Nike Men White Caps, not Socks",
            "Nike Men White Socks, not Caps",
        ),
        (
            "Stone in the left kidney (arrow).",
            [("left", "right")],
            "Stone in the right, not left, kidney (arrow).",
            "Stone in the left, not right, kidney (arrow).",
        ),
        (
            "Coronal section of the knee.",
            [("Coronal", "Axial")],
            "Axial, not coronal, section of the knee.",
            "Coronal, not axial, section of the knee.",
        ),
        ("CT of the chest.", [("CT", "MRI")], "MRI, not CT, of the chest.", "CT, not MRI, of the chest."),
        (
            "many trees are around the square .",
            [("square", "airport")],
            "many trees are around the airport, not the square .",
            "many trees are around the square, not the airport .",
        ),
        ("an owl sits .", [("an", "a"), ("owl", "hawk")], "a hawk, not an owl, sits .", "an owl, not a hawk, sits ."),
    ],
)
def test_a_checked_negative_is_denied_both_ways(
    caption: str, pairs: list[tuple[str, str]], false: str, true: str
) -> None:
    assert denied(caption, *pairs) == [(false, true)]


@pytest.mark.parametrize(
    ("caption", "pairs"),
    [
        ("A dog without a ball .", [("dog", "cat")]),
        ("A black dog and a white cat .", [("black", "white"), ("white", "black")]),
        ("a 5-year-old boy", [("5", "4")]),
        ("A red ball .", [("red", "not red")]),
        ("A doghouse .", [("dog", "bird")]),
        ("犬 “ ” e.g. N° 5", [("5", "6")]),
    ],
)
def test_what_is_not_denied(caption: str, pairs: list[tuple[str, str]]) -> None:
    found = denied(caption, *pairs)
    assert found == [] or caption.startswith("犬")


def test_denied_negatives_take_the_place_of_the_given_ones() -> None:
    caption = "Proline Men Navy Tracksuit"
    (one,) = parsed([sample(caption)])
    records = [changed(caption, ("Navy", colour)) for colour in ("Black", "Blue", "Green", "White")]
    (result,) = NegateCaptions(("true_negatives",), per_caption=2).process([one.adding({"true_negatives": records})])
    assert isinstance(result, dict)
    texts_of = [(record["text"], record["against"], record["span_class"]) for record in result["negate_negatives"]]
    assert len(texts_of) == 2 and {kind for _, _, kind in texts_of} == {"contrast"}
    assert [view["text"] for view in result["denial"]] == [true for _, true, _ in texts_of]
    assert NegateCaptions(("true_negatives",)).superseded_fields() == ("true_negatives",)
    assert {*NegateCaptions(("true_negatives",)).required_fields()} > {"true_negatives"}
    other = NegateCaptions(("true_negatives",), per_caption=2, seed=5).process(
        [one.adding({"true_negatives": records})]
    )
    seeds = [NegateCaptions(("true_negatives",), per_caption=2, seed=seed) for seed in range(6)]
    drawn = {str(stage.process([one.adding({"true_negatives": records})])) for stage in seeds}
    assert len(drawn) > 1 and str(other) in drawn
