"""`--set path=value`: fields of one part change together, and what does not fit is said."""

from __future__ import annotations

from itertools import permutations

import pytest

from data_manifests.errors import InputError
from flows.recipe import load_recipe
from flows.recipe_parts import named_parts
from training.batches.basic import ClusterPlan, CurriculumPlan, ShuffledPlan
from training.batches.similarity import WeightedPlan
from training.batches.text_sampling import FurtherTexts
from training.false_negative_gate import PositiveGate
from training.hard_negatives import AdaptiveNegatives, UniformNegatives
from training.objectives.info_nce import InfoNCE, MemoryContrast
from training.objectives.knowledge import Distillation
from training.objectives.negative_rank import NegativeRank


@pytest.mark.parametrize(
    "settings", list(permutations(["negatives.choose=4", "negatives.candidates=6", "train.lr=1e-3"]))
)
def test_what_must_fit_together_may_come_in_any_order(settings: tuple[str, ...]) -> None:
    recipe = load_recipe("ahnm", settings=settings)
    assert isinstance(recipe.negatives, AdaptiveNegatives)
    assert (recipe.negatives.candidates, recipe.negatives.choose, recipe.train.lr) == (6, 4, 1e-3)


def test_of_two_values_of_one_field_the_last_holds() -> None:
    settings = ("train.steps=3", "stages.rewrite_captions=null", "train.steps=5")
    recipe = load_recipe("laclip", settings=settings)
    assert recipe.train.steps == 5
    assert "rewrite_captions" not in [stage.name for stage in recipe.stages]
    assert "rewrite_captions" in [stage.name for stage in load_recipe("laclip").stages]


def test_a_stage_that_another_needs_is_not_taken_out() -> None:
    with pytest.raises(InputError, match="recipe 'laclip': stage 'rewrite_captions' requires 'parses'"):
        load_recipe("laclip", settings=["stages.parse_captions=null"])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (("negatives.choose=9", "negatives.candidates=6"), "choose=9, candidates=6"),
        (("gate=null", "gate.temperature=1"), "both set 'gate'"),
        (("negatives.chose=4",), "did you mean 'choose'"),
        (("objectives=1",), "'objectives' is not a value"),
        (("train=1",), "'train' is not a value"),
        (("stages.no_such=null",), "no field 'no_such'"),
        (("stages.no_such=default",), "no field 'no_such'"),
        (("negatives=adaptve",), "did you mean 'adaptive'"),
        (("negatives=adaptve",), "negatives=uniform"),
        (("negatives=null", "negatives.choose=2"), "both set 'negatives'"),
        (("negatives=uniform", "negatives.gate_quantile=0.9"), "no field 'gate_quantile'"),
        (("positives=texts",), "further_texts"),
        (("objectives.distillation.weight=2",), "add it: --set objectives.distillation=default"),
        (("objectives.distilation=default",), "did you mean 'distillation'"),
        (("objectives.triplet=default",), "triplet_contrast"),
        (("objectives.negative_rank=2",), "add it: --set objectives.negative_rank=default"),
    ],
)
def test_what_does_not_fit_is_said(settings: tuple[str, ...], told: str) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe("ahnm", settings=settings)
    assert told in str(caught.value)


def test_a_part_may_be_named_and_set_in_any_order() -> None:
    for settings in permutations(["negatives=uniform", "negatives.choose=4"]):
        assert load_recipe("ahnm", settings=settings).negatives == UniformNegatives(4)
    assert load_recipe("clip").negatives is None
    assert load_recipe("clip", settings=["negatives=adaptive"]).negatives == AdaptiveNegatives()
    assert load_recipe("ahnm", settings=["negatives.choose=3", "negatives=adaptive"]).negatives == AdaptiveNegatives(
        choose=3
    )
    changed = load_recipe("clip", settings=["gate=positive_gate", "gate.teacher=false", "positives=further_texts"])
    assert changed.gate == PositiveGate(teacher=False) and changed.positives == FurtherTexts()
    assert load_recipe("ahnm", settings=["views=null"]).views is None


def test_objectives_are_added_replaced_and_reset() -> None:
    settings = [
        "objectives.intra_modal_contrast=null",
        "objectives.cross_modal_rank=null",
        "objectives.negative_rank=default",
        "objectives.negative_rank.gradient=text",
    ]
    ahnm = load_recipe("ahnm", settings=settings)
    assert ahnm.objectives == (InfoNCE(negatives=True), NegativeRank(gradient="text"))
    kept = load_recipe("clip", settings=["objectives.distillation.weight=0.5", "objectives.distillation=default"])
    assert kept.objectives == (InfoNCE(negatives=False), Distillation(weight=0.5))
    weighted = ["objectives.memory_contrast=default", "objectives.memory_contrast.weight=0.2"]
    assert load_recipe("ahnm", settings=weighted).objectives[-1] == MemoryContrast(weight=0.2)


def test_a_planner_that_wraps_another_wraps_the_recipes() -> None:
    assert load_recipe("clip", settings=["planner=clusters"]).planner == ClusterPlan()
    clip = load_recipe("clip").planner
    assert clip == ShuffledPlan()
    assert load_recipe("clip", settings=["planner=curriculum"]).planner == CurriculumPlan(clip)
    assert load_recipe("clip", settings=["planner=weighted"]).planner == WeightedPlan(clip)
    assert load_recipe("m4").planner == load_recipe("m4", settings=["planner=weighted"]).planner == WeightedPlan(clip)


@pytest.mark.parametrize("field", sorted(named_parts()))
def test_every_part_can_be_named(field: str) -> None:
    for name, kind in named_parts()[field].items():
        path = f"objectives.{name}=default" if field == "objectives" else f"{field}={name}"
        found = getattr(load_recipe("ahnm", settings=[path]), field)
        assert any(type(part) is kind for part in (found if field == "objectives" else [found])), path


@pytest.mark.parametrize("text", ["0.5,1", "(0.5, 1.0)", "[0.5, 1]"])
def test_several_numbers_are_written_with_commas(text: str) -> None:
    chosen = load_recipe("ahnm", settings=(f"negatives.band_start={text}",)).negatives
    assert isinstance(chosen, AdaptiveNegatives) and chosen.band_start == (0.5, 1.0)
    named = load_recipe("ce_clip", settings=("negatives=adaptive", f"negatives.band_start={text}")).negatives
    assert isinstance(named, AdaptiveNegatives) and named.band_start == (0.5, 1.0)


@pytest.mark.parametrize("text", ["0.5", "0.5,1,2", "a,b", "", "0.5;1"])
def test_other_numbers_of_numbers_are_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe("ahnm", settings=(f"negatives.band_start={text}",))
    assert "2 values of type float with commas" in str(caught.value) and "negatives.band_start=1.0,1.0" in str(
        caught.value
    )
