"""Phrases and words of captions against those of their negatives: what is set against what, and what is left out."""

from __future__ import annotations

from typing import Any

import pytest

from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.negatives.match_phrases import MatchPhrases
from data_manifests.errors import InputError
from data_manifests.sample import ImageRef, Sample, image_uid

CAPTION = "A small dog runs on the wet grass ."


def negative(caption: str, old: str, new: str, number: int = 0, **more: Any) -> dict[str, Any]:
    at = caption.index(old)
    text = caption.replace(old, new, 1)
    return {"text": text, "caption": number, "edits": [[at, at + len(old), at, at + len(new)]], **more}


def matched(captions: tuple[str, ...], *records: dict[str, Any]) -> list[tuple[str, str, str]]:
    sample = Sample(image_uid(b"x"), "a.jpg", ImageRef("a.jpg"), captions)
    (parsed,) = ParseCaptions().process([sample])
    assert isinstance(parsed, dict)
    (result,) = MatchPhrases().process([sample.adding(parsed | {"swap_negatives": list(records)})])
    assert isinstance(result, dict)
    return [(one["scale"], one["text"], one["foil"]) for one in result["phrase_foils"]]


def test_a_phrase_and_the_changed_word_have_foils_of_their_own() -> None:
    found = matched((CAPTION,), negative(CAPTION, "dog", "cat"), negative(CAPTION, "wet", "dry"))
    assert found == [
        ("phrase", "A small dog", "A small cat"),
        ("word", "dog", "cat"),
        ("phrase", "the wet grass", "the dry grass"),
        ("word", "wet", "dry"),
    ]
    again = matched((CAPTION,), negative(CAPTION, "dog", "cat"), negative(CAPTION, "dog", "cat", operation="twice"))
    assert len(again) == 2


def test_an_article_that_is_corrected_belongs_to_the_phrase_alone() -> None:
    record = {"text": "An old dog runs on the wet grass .", "caption": 0, "edits": [[0, 1, 0, 2], [2, 7, 3, 6]]}
    assert matched((CAPTION,), record) == [("phrase", "A small dog", "An old dog"), ("word", "small", "old")]


def test_what_may_be_true_of_something_else_is_left_out() -> None:
    other = "A cat sits on dry grass ."
    found = matched((CAPTION, other), negative(CAPTION, "dog", "cat"), negative(CAPTION, "wet", "dry"))
    assert found == [("phrase", "A small dog", "A small cat"), ("phrase", "the wet grass", "the dry grass")]
    assert matched((CAPTION, "The DRY grass!"), negative(CAPTION, "wet", "dry")) == []


@pytest.mark.parametrize(
    "record",
    [
        negative(CAPTION, "runs", "sits"),
        negative(CAPTION, "dog runs on the wet grass", "grass runs on the wet dog"),
        negative(CAPTION, "dog", "cat", against="One dog ."),
        negative(CAPTION, "dog", "Dog"),
        {"text": "Something else .", "caption": 0},
    ],
)
def test_negatives_that_change_no_single_phrase_give_nothing(record: dict[str, Any]) -> None:
    assert matched((CAPTION,), record) == []


ODD = (
    "",
    "   ",
    "dog",
    "Ein Hund läuft .",
    "犬",
    "dog " * 60,
    "a “red” dog — running",
    "A dog's dog-house, e.g. N° 5 !",
)


@pytest.mark.parametrize("caption", ODD)
def test_odd_captions_pass(caption: str) -> None:
    records = [negative(caption, "dog", "cat")] if "dog" in caption else []
    for scale, text, foil in matched((caption,), *records):
        assert scale in ("phrase", "word") and text in caption and foil in records[0]["text"]


def test_fields_must_be_named_once() -> None:
    for fields in ((), ("a", "a")):
        with pytest.raises(InputError, match="fields"):
            MatchPhrases(fields)
