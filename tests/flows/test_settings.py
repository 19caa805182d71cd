"""`--set path=value`: fields of one part change together, and what does not fit is said."""

from __future__ import annotations

from itertools import permutations

import pytest

from data_manifests.errors import InputError
from flows.recipe import load_recipe
from training.hard_negatives import AdaptiveNegatives


@pytest.mark.parametrize(
    "settings", list(permutations(["negatives.choose=4", "negatives.candidates=6", "train.lr=1e-3"]))
)
def test_what_must_fit_together_may_come_in_any_order(settings: tuple[str, ...]) -> None:
    recipe = load_recipe("ahnm", settings=settings)
    assert isinstance(recipe.negatives, AdaptiveNegatives)
    assert (recipe.negatives.candidates, recipe.negatives.choose, recipe.train.lr) == (6, 4, 1e-3)


def test_of_two_values_of_one_field_the_last_holds() -> None:
    settings = ("train.steps=3", "stages.parse_captions=null", "train.steps=5")
    recipe = load_recipe("laclip", settings=settings)
    assert recipe.train.steps == 5
    assert "parse_captions" not in [stage.name for stage in recipe.stages]
    assert "parse_captions" in [stage.name for stage in load_recipe("laclip").stages]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (("negatives.choose=9", "negatives.candidates=6"), "choose=9, candidates=6"),
        (("gate=null", "gate.temperature=1"), "both set 'gate'"),
        (("negatives.chose=4",), "did you mean 'choose'"),
        (("objectives=1",), "'objectives' is not a value"),
        (("train=1",), "'train' is not a value"),
        (("stages.no_such=null",), "no field 'no_such'"),
    ],
)
def test_what_does_not_fit_is_said(settings: tuple[str, ...], told: str) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe("ahnm", settings=settings)
    assert told in str(caught.value)
