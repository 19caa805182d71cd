"""Denials."""

from __future__ import annotations

import pytest

from curation.stages.negate_captions import NegateCaptions
from tests.curation.negative_checks import texts


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
    assert texts(NegateCaptions(), caption) == expected


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
    assert texts(NegateCaptions(), caption) == set()
