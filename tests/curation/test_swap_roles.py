"""Roles that are exchanged, and relations that hold both ways."""

from __future__ import annotations

import pytest

from curation.stages.negatives.swap_roles import SwapRoles
from tests.curation.negative_checks import texts


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A dog chases a cat .", "A cat chases a dog ."),
        ("A cat is chased by a dog .", "A dog is chased by a cat ."),
        ("A dog chasing a cat", "A cat chasing a dog"),
        ("Two dogs chase an old cat .", "An old cat chases two dogs ."),
        ("A cat is watching three birds .", "Three birds are watching a cat ."),
        ("A man in a red hat carries a child .", "A child carries a man in a red hat ."),
        ("A man stands behind a woman .", "A woman stands behind a man ."),
        ("A red star is above a blue star .", "A blue star is above a red star ."),
        ("A black dog was bitten by the white dog .", "The white dog was bitten by a black dog ."),
    ],
)
def test_exchanges(caption: str, expected: str) -> None:
    assert texts(SwapRoles(), caption) == {expected}


@pytest.mark.parametrize(
    "caption",
    [
        "A man and a woman .",
        "A man next to a woman .",
        "A man hugs a woman .",
        "A dog plays with a cat .",
        "A man throws a ball .",  # balls throw nothing
        "A man chases his dog .",  # whose?
        "A dog chases a dog .",
        "A dog chases another dog .",
        "A dog does not chase a cat .",
        "A red star is next to a blue star .",
        "A man rides a horse .",
    ],
)
def test_leaves_alone(caption: str) -> None:
    assert texts(SwapRoles(), caption) == set()
