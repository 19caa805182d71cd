"""Directions turned round."""

from __future__ import annotations

import pytest

from curation.stages.negatives.invert_relations import InvertRelations
from tests.curation.negative_checks import every_text, texts


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A red star is to the left of a ring .", "A red star is to the right of a ring ."),
        ("Above a star is a circle .", "Below a star is a circle ."),
        ("A dog sits in front of a house .", "A dog sits behind a house ."),
        ("A dog jumps over a hurdle .", "A dog jumps under a hurdle ."),
        ("A boy jumps into the pool .", "A boy jumps out of the pool ."),
        ("A man walks up the stairs .", "A man walks down the stairs ."),
        ("Two people run towards a house .", "Two people run away from a house ."),
        ("A cat sleeps under a table .", "A cat sleeps on top of a table ."),
        ("Children play outside .", "Children play inside ."),
        ("A girl raises her left hand .", "A girl raises her right hand ."),
        ("A house with trees in the background", "A house with trees in the foreground"),
        ("PEOPLE STAND INSIDE A TENT", "PEOPLE STAND OUTSIDE A TENT"),
    ],
)
def test_turns(caption: str, expected: str) -> None:
    assert expected in every_text(InvertRelations, caption)


@pytest.mark.parametrize(
    "caption",
    [
        "A dog next to a cat .",
        "A dog near a house .",
        "A dog behind another dog .",  # either is behind one and before the other's eyes
        "A man walks down the street .",  # up the street is the same street
        "A dog runs over the grass .",
        "A man is right next to a car .",
        "She left the house .",
        "A man looks into the camera .",
        "A dog is not behind the house .",
    ],
)
def test_leaves_alone(caption: str) -> None:
    assert texts(InvertRelations(), caption) == set()
