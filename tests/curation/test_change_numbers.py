"""Numbers, with noun and verb in agreement."""

from __future__ import annotations

import pytest

from curation.stages.negatives.change_numbers import ChangeNumbers
from tests.curation.negative_checks import every_text, made, parsed, sample, texts


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("Two dogs run .", {"One dog runs .", "Three dogs run .", "Four dogs run ."}),
        ("Three dogs run .", {"One dog runs .", "Two dogs run .", "Four dogs run .", "Five dogs run ."}),
        ("Two dogs fight .", {"Three dogs fight .", "Four dogs fight ."}),
        ("Two dogs chase sheep .", {"Three dogs chase sheep .", "Four dogs chase sheep ."}),
        ("2 dogs are running", {"1 dog is running", "3 dogs are running", "4 dogs are running"}),
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


def test_both_directions_are_one_class() -> None:
    (one,) = parsed([sample("Four dogs run .", "Two cats sit .")])
    records = [record for seed in range(40) for record in made(ChangeNumbers(seed=seed), one)]
    classes = {
        (one.captions[record["caption"]].split()[0], record["text"].split()[0]): record["span_class"]
        for record in records
    }
    assert classes == {
        ("Four", "Two"): "numeral", ("Four", "Three"): "numeral", ("Four", "Five"): "numeral", ("Four", "Six"): "numeral",
        ("Two", "One"): "plural", ("Two", "Three"): "numeral", ("Two", "Four"): "numeral",
    }  # fmt: skip
    only = [record for seed in range(20) for record in made(ChangeNumbers(seed=seed, fewer=False), one)]
    assert {record["text"].split()[0] for record in only if record["caption"] == 0} == {"Five", "Six"}


def test_several_are_told_from_one_where_nobody_speaks_of_several() -> None:
    (one, other) = parsed([sample("A dog runs by ."), sample("A dog runs by .", "Dogs .")])
    (result, none) = ChangeNumbers().process([one, other])
    assert isinstance(result, dict)
    assert isinstance(none, dict)
    (record,), (view,) = result["number_negatives"], result["count"]
    assert record["against"] == view["text"] == "One dog runs by ."
    assert (view["caption"], view["family"], view["source"]) == (0, "number", "change_numbers")
    assert none == {"number_negatives": [], "count": []}
