"""Captions of similar images: taken where the image's own speak against them, refused by name where not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from curation.stages.negatives.borrow_captions import BorrowCaptions
from data_manifests.errors import InputError
from data_manifests.sample import Sample
from tests.curation.negative_checks import check_edits, parsed, sample
from tests.curation.test_negative_edge_cases import ODD


class Together:
    """Samples with made-up neighbours, as a corpus."""

    def __init__(self, samples: Sequence[Sample], near: Any) -> None:
        self.samples, self.near = sorted(samples, key=lambda one: one.uid), near

    @property
    def uids(self) -> list[str]:
        return [one.uid for one in self.samples]

    def column(self, name: str) -> list[Any]:
        return [self.near[one.uid] if name == "image_neighbours" else one[name] for one in self.samples]

    def array(self, name: str) -> Any:
        raise AssertionError(name)


def neighbours(samples: Sequence[Sample], similarity: float = 0.5) -> dict[str, list[dict[str, Any]]]:
    """Make every sample everyone's neighbour."""
    return {
        one.uid: [{"uid": other.uid, "similarity": similarity} for other in samples if other is not one]
        for one in samples
    }


def fitted(stage: BorrowCaptions, *images: tuple[str, ...]) -> list[tuple[Sample, dict[str, Any]]]:
    samples = parsed([sample(*captions) for captions in images])
    corpus = Together(samples, neighbours(samples))
    results = {one.uid: got for one, got in zip(corpus.samples, stage.fit(corpus), strict=True)}
    return [(one, got) for one in samples if isinstance(got := results[one.uid], dict)]


DOG = ("A brown dog runs on a beach .", "A dog runs through the sand .")


def verdict(text: str) -> tuple[str, str]:
    """Return (type, reason) of a neighbour's caption for the dog's picture."""
    (_, result), _ = fitted(BorrowCaptions(most_similar=100.0), DOG, (text,))
    if result["borrow_negatives"]:
        return result["borrow_negatives"][0]["type"], ""
    return "", result["borrow_rejected"][0]["reason"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A cat runs on a beach .", ("object", "")),
        ("A brown dog sleeps on a beach .", ("action", "")),
        ("A dog runs .", ("", "said")),
        ("a brown dog runs on the beach", ("", "same_text")),
        ("No dog runs on a beach .", ("", "denies")),
    ],
)  # fmt: skip
def test_what_is_borrowed_and_what_is_not(text: str, expected: tuple[str, str]) -> None:
    assert verdict(text) == expected


def test_a_record_spans_the_whole_caption() -> None:
    (one, result), _ = fitted(BorrowCaptions(most_similar=100.0), DOG, ("A cat runs through the sand .",))
    (record,) = result["borrow_negatives"]
    assert record["caption"] == 1  # shares most words
    assert record["operation"] == "borrow"
    check_edits(one, record)


def test_neighbours_that_are_too_similar_lend_nothing() -> None:
    samples = parsed([sample(*DOG), sample("A cat sits ."), sample("Two boys swim .")])
    near = neighbours(samples)
    near[samples[0].uid][0]["similarity"] = 0.99
    results = dict(
        zip(
            sorted(one.uid for one in samples),
            BorrowCaptions(most_similar=80.0).fit(Together(samples, near)),
            strict=True,
        )
    )
    mine = results[samples[0].uid]
    assert isinstance(mine, dict)
    assert [record["text"] for record in mine["borrow_negatives"]] == ["Two boys swim ."]
    assert [record["reason"] for record in mine["borrow_rejected"]] == ["too_similar"]


def test_nearest_first_each_neighbour_once_and_ties_by_uid() -> None:
    images = (
        DOG,
        ("A cat sits .", "A cat on a chair ."),
        ("Two boys swim .",),
        ("A red car on a street .",),
        ("A bird flies .",),
    )
    for one, result in fitted(BorrowCaptions(per_sample=2, most_similar=100.0), *images):
        lent = [record["rule"].split()[2].rstrip(",") for record in result["borrow_negatives"]]
        others = sorted(
            other.uid for other in parsed([sample(*captions) for captions in images]) if other.uid != one.uid
        )
        assert lent == others[:2]


def test_odd_captions_and_neighbours_that_are_gone() -> None:
    images = [(odd,) for odd in ODD]
    results = fitted(BorrowCaptions(), *images)
    assert results == fitted(BorrowCaptions(), *images)
    for one, result in results:
        for record in result["borrow_negatives"]:
            check_edits(one, record)
    samples = parsed([sample(*DOG)])
    gone = {samples[0].uid: [{"uid": "0" * 32, "similarity": 0.5}]}
    assert BorrowCaptions().fit(Together(samples, gone)) == [{"borrow_negatives": [], "borrow_rejected": []}]


def test_bad_settings_and_bad_neighbours() -> None:
    for settings in ({"per_sample": 0}, {"neighbours": 0}, {"most_similar": 101.0}):
        with pytest.raises(InputError, match=next(iter(settings))):
            BorrowCaptions(**settings)  # type: ignore[arg-type]
    samples = parsed([sample(*DOG)])
    with pytest.raises(InputError, match="image_neighbours"):
        BorrowCaptions().fit(Together(samples, {samples[0].uid: [{"uid": 3}]}))
