"""Qualities that change hands."""

from __future__ import annotations

import pytest

from curation.stages.negatives.bind_attributes import BindAttributes
from tests.curation.negative_checks import texts


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A red ball lies beside a blue box .", "A blue ball lies beside a red box ."),
        ("An old man talks to a young woman .", "A young man talks to an old woman ."),
        ("a black dog chases a white dog", "a white dog chases a black dog"),
        ("A small red star is left of a large blue ring .", "A large red star is left of a small blue ring ."),
        ("A small red star is left of a large blue ring .", "A small blue star is left of a large red ring ."),
    ],
)
def test_exchanges(caption: str, expected: str) -> None:
    assert expected in texts(BindAttributes(), caption)


@pytest.mark.parametrize(
    "caption",
    [
        "A black dog and a white dog .",  # the same the other way round
        "A black dog next to a white dog .",
        "A red ball and a red box .",
        "A young man in a red shirt .",  # not of one kind
        "A brown dog carries a red ball .",  # no dog is red
        "A big dog and a large cat .",  # the same meaning
        "A red-haired girl with a blue-eyed cat .",
        "A man in a red shirt .",
    ],
)
def test_leaves_alone(caption: str) -> None:
    assert texts(BindAttributes(), caption) == set()
