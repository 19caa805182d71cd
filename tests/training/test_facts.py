"""Facts that training reads from a version's knowledge captions, and the error where there are none."""

from __future__ import annotations

import pytest
import torch

from curation.knowledge.interface import Edge
from data_manifests.errors import InputError
from training.batches.basic import ShuffledPlan
from training.batches.batch import StepTexts
from training.facts import Fact, distinct_facts, encode_facts, read_fact
from training.model.clip_model import StepEncoder
from training.model.spec import ModelSpec
from training.objectives.info_nce import InfoNCE
from training.objectives.knowledge import EntityContrast
from training.train_parts import TrainParts, check_ingredients

DOG = Edge("hot dog", "AtLocation", "street corner", head_sense="n/wn/food", tail_sense="n")


@pytest.mark.parametrize(
    ("edge", "told"),
    [
        (DOG, Fact("hot dog", "at location", "street corner")),
        (Edge("dog", "IsA", "animal"), Fact("dog", "is a", "animal")),
        (Edge("dog", "IsA", "animal", head_sense="n"), Fact("dog", "is a", "animal")),
        (Edge("o'clock, sharp", "next to", "café"), Fact("o'clock, sharp", "next to", "café")),
    ],
)
def test_a_fact_is_what_its_edge_says(edge: Edge, told: Fact) -> None:
    assert read_fact(edge.uri) == told


@pytest.mark.parametrize(
    "rule", ["", "chatgpt", "red: blue", "/a/[/r/IsA/,/c/en/dog/]", "/a/[/r/IsA/,/c/en/a/,/c/en/b/] "]
)
def test_other_rules_name_no_fact(rule: str) -> None:
    assert read_fact(rule) is None


def test_facts_of_a_batch_come_once_and_each_text_is_encoded_once() -> None:
    edges = [Edge("dog", "IsA", "animal"), Edge("cat", "IsA", "animal"), DOG]
    rules = [[edges[0].uri, "none"], [], [edges[1].uri, edges[0].uri], [DOG.uri]]
    facts = distinct_facts(rules)
    assert facts == [Fact("dog", "is a", "animal"), Fact("cat", "is a", "animal"), read_fact(DOG.uri)]
    with pytest.warns(UserWarning, match="random"):
        model = ModelSpec.parse("tiny").load()
    model.eval()
    found = encode_facts(StepEncoder(model), facts)
    texts = ["dog", "animal", "cat", "hot dog", "street corner"]
    assert torch.allclose(found.entity, model.encode_text(model.tokenize(texts)), atol=1e-6)
    assert torch.allclose(found.query[2:], model.encode_text(model.tokenize(["hot dog at location"])), atol=1e-6)
    assert torch.allclose(found.pair[:1], model.encode_text(model.tokenize(["dog, animal"])), atol=1e-6)
    assert torch.allclose(found.relation_text, model.encode_text(model.tokenize(["is a", "at location"])), atol=1e-6)
    numbers = found.head.tolist(), found.relation.tolist(), found.tail.tolist()
    assert numbers == ([0, 2, 3], [0, 0, 1], [1, 1, 4]) and found.query.requires_grad
    none = encode_facts(StepEncoder(model), [])
    assert none.query.shape == none.entity.shape == (0, model.embed_dim) and none.head.shape == (0,)


def test_a_run_without_facts_is_refused() -> None:
    parts = TrainParts("own", ShuffledPlan(), (InfoNCE(negatives=False), EntityContrast()))
    other = Edge("cat", "IsA", "animal").uri
    check_ingredients(parts, [step_of([[], []]), step_of([[DOG.uri], [other]])])
    check_ingredients(TrainParts("own", ShuffledPlan(), (InfoNCE(negatives=False),)), [step_of([[], []])])
    with pytest.raises(InputError, match="objective entity_contrast compares facts of a knowledge graph, and no batch"):
        check_ingredients(parts, [step_of([[DOG.uri], ["none"]]), step_of([[other]])])


def step_of(facts: list[list[str]]) -> StepTexts:
    """Return the texts of a step of which only the facts are known."""
    empty: list[list[str]] = [[] for _ in facts]
    names = tuple(str(number) for number in range(len(facts)))
    return StepTexts(names, names, [[] for _ in facts], empty, names, empty, empty, (), (), facts=facts)
