"""Numbers, with noun and verb in agreement."""

from __future__ import annotations

import pytest

from curation.stages.change_numbers import ChangeNumbers
from tests.curation.negative_checks import every_text, made, parsed, sample, texts


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("Two dogs run .", {"Three dogs run .", "Four dogs run ."}),
        ("Three dogs run .", {"Two dogs run .", "Four dogs run .", "Five dogs run ."}),
        ("A dog runs by .", {"Two dogs run by .", "Three dogs run by ."}),
        ("A dog is running and jumps .", {"Two dogs are running and jump .", "Three dogs are running and jump ."}),
        ("a child was asleep", {"two children were asleep", "three children were asleep"}),
        ("There is a red star .", {"There are two red stars .", "There are three red stars ."}),
        ("12 people and 3 dogs", {"10 people and 3 dogs", "11 people and 3 dogs", "12 people and 2 dogs", "12 people and 4 dogs",
                                  "12 people and 5 dogs"}),
    ],
)  # fmt: skip
def test_counts(caption: str, expected: set[str]) -> None:
    assert every_text(ChangeNumbers, caption) == expected


@pytest.mark.parametrize(
    "caption",
    [
        "A two year old boy runs .",
        "Two boys , one of them tall .",
        "A man holds his hat .",
        "A pair of jeans .",
        "A man and a woman run .",
        "The water is cold .",
        "Two hands .",
        "A man in a red shirt runs .",  # two men would wear two
        "Player number 12 runs .",
        "A group of people .",
    ],
)
def test_leaves_alone(caption: str) -> None:
    assert texts(ChangeNumbers(), caption) == set()


def test_the_class_says_which_way() -> None:
    (one,) = parsed([sample("Four dogs run .")])
    values = {"Two": "fewer", "Three": "fewer", "Five": "more", "Six": "more"}
    records = [record for seed in range(20) for record in made(ChangeNumbers(seed), one)]
    assert {record["text"].split()[0] for record in records} == set(values)
    assert all(values[record["text"].split()[0]] == record["span_class"] for record in records)
    only = [record for seed in range(20) for record in made(ChangeNumbers(seed, fewer=False), one)]
    assert {record["span_class"] for record in only} == {"more"}
