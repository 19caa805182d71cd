"""Captions of similar images: taken where the image's own speak against them, refused by name where not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from curation.stages.negatives.borrow_captions import BorrowCaptions
from data_manifests.errors import InputError
from data_manifests.sample import Sample
from tests.curation.index_steps import check_steps, drawn_uids
from tests.curation.listed_columns import ListedColumns
from tests.curation.negative_checks import check_edits, parsed, sample
from tests.curation.test_negative_edge_cases import ODD


def lent(stage: BorrowCaptions, samples: Sequence[Sample], near: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the results by uid, with made-up neighbours."""
    columns = ListedColumns([one.adding({"image_neighbours": near[one.uid]}) for one in samples])
    results = stage.results(columns, stage.update(columns, None))
    return {uid: got for uid, got in zip(columns.uids, results, strict=True) if isinstance(got, dict)}


def neighbours(samples: Sequence[Sample], similarity: float = 0.5) -> dict[str, list[dict[str, Any]]]:
    """Make every sample everyone's neighbour."""
    return {
        one.uid: [{"uid": other.uid, "similarity": similarity} for other in samples if other is not one]
        for one in samples
    }


def fitted(stage: BorrowCaptions, *images: tuple[str, ...]) -> list[tuple[Sample, dict[str, Any]]]:
    samples = parsed([sample(*captions) for captions in images])
    results = lent(stage, samples, neighbours(samples))
    return [(one, results[one.uid]) for one in samples]


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
    mine = lent(BorrowCaptions(most_similar=80.0), samples, near)[samples[0].uid]
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
        lenders = [record["rule"].split()[2].rstrip(",") for record in result["borrow_negatives"]]
        others = sorted(
            other.uid for other in parsed([sample(*captions) for captions in images]) if other.uid != one.uid
        )
        assert lenders == others[:2]


def test_odd_captions_and_neighbours_that_are_gone() -> None:
    images = [(odd,) for odd in ODD]
    results = fitted(BorrowCaptions(), *images)
    assert results == fitted(BorrowCaptions(), *images)
    for one, result in results:
        for record in result["borrow_negatives"]:
            check_edits(one, record)
    samples = parsed([sample(*DOG)])
    gone = {samples[0].uid: [{"uid": "0" * 32, "similarity": 0.5}]}
    assert lent(BorrowCaptions(), samples, gone) == {samples[0].uid: {"borrow_negatives": [], "borrow_rejected": []}}


PARSED = parsed(
    [
        sample(f"A {one} {verb} on a {place} .")
        for one in ("brown dog", "cat", "red bus")
        for verb in ("runs", "stands")
        for place in ("beach", "street")
    ]
)
"""Captions to draw from; to parse them anew for each sample would take most of the test's time."""


@pytest.mark.parametrize("most_similar", [100.0, 70.0])
def test_an_update_gives_the_state_of_a_rebuild(most_similar: float) -> None:
    pool = drawn_uids(np.random.default_rng(6), 12)  # some are in the data set, others never are

    def draw(draws: np.random.Generator) -> dict[str, Any]:
        one = PARSED[draws.integers(0, len(PARSED))]
        near = [
            {"uid": uid, "similarity": float(draws.integers(0, 9)) / 9} for uid in draws.permutation(pool)[:5].tolist()
        ]
        return {"captions": one.captions, "parses": one["parses"], "image_neighbours": near}

    stage = BorrowCaptions(neighbours=2, most_similar=most_similar)
    results = check_steps(stage, draw, seed=1, pool=pool)
    rejected = {item["reason"] for row in results[-1] if isinstance(row, dict) for item in row["borrow_rejected"]}
    assert ("too_similar" in rejected) == (most_similar < 100)
    assert any(row["borrow_negatives"] for row in results[-1] if isinstance(row, dict))


def test_bad_settings_and_bad_neighbours() -> None:
    for settings in ({"per_sample": 0}, {"neighbours": 0}, {"most_similar": 101.0}):
        with pytest.raises(InputError, match=next(iter(settings))):
            BorrowCaptions(**settings)  # type: ignore[arg-type]
    samples = parsed([sample(*DOG)])
    with pytest.raises(InputError, match="image_neighbours"):
        lent(BorrowCaptions(), samples, {samples[0].uid: [{"uid": 3}]})
