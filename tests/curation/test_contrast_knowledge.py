"""Other facts of the same object: from edges that are named, visible, and said by no caption."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from curation.knowledge.interface import Edge
from curation.knowledge.open_graph import SeedGraph
from curation.knowledge.relations import SYMMETRIC
from curation.stages.captions.link_concepts import LinkConcepts
from curation.stages.negatives.contrast_knowledge import ContrastKnowledge
from data_manifests.errors import InputError
from data_manifests.sample import Sample
from tests.curation.negative_checks import check, parsed, sample
from tests.curation.test_negative_edge_cases import ODD


def linked(*images: tuple[str, ...]) -> list[Sample]:
    samples = parsed([sample(*captions) for captions in images])
    found = LinkConcepts(SeedGraph()).process(samples)
    return [one.adding(got) for one, got in zip(samples, found, strict=True) if isinstance(got, dict)]


@dataclass(frozen=True)
class Told:
    """A graph of a few edges."""

    edges: tuple[Edge, ...]

    def content_hash(self) -> str:
        return str(self.edges)

    def describe(self) -> str:
        return "told"

    def edges_from(self, concepts: Sequence[str], relations: Sequence[str] = ()) -> dict[str, list[Edge]]:
        return {
            name: got
            for name in concepts
            if (got := [e for e in self.edges if e.head == name and (not relations or e.relation in relations)])
        }

    def edges_to(self, concepts: Sequence[str], relations: Sequence[str] = ()) -> dict[str, list[Edge]]:
        return {
            name: got
            for name in concepts
            if (got := [e for e in self.edges if e.tail == name and (not relations or e.relation in relations)])
        }

    def known(self, concepts: Sequence[str]) -> set[str]:
        return {name for name in concepts if any(name in (e.head, e.tail) for e in self.edges)}


GRAPH = Told((
    Edge("dog", "CapableOf", "jump"), Edge("dog", "CapableOf", "swim"), Edge("dog", "CapableOf", "bark"), Edge("dog", "IsA", "animal"),
    Edge("cat", "IsA", "animal"), Edge("dog", "CapableOf", "chase cat"), Edge("dog", "Desires", "cat"), Edge("cat", "CapableOf", "fly"),
    Edge("apple", "HasProperty", "red"), Edge("apple", "HasProperty", "tasty"), Edge("ball", "UsedFor", "kick"), Edge("ball", "UsedFor", "own"),
))  # fmt: skip


def made(*captions: str, seeds: int = 6) -> set[tuple[str, str]]:
    (one,) = linked(captions)
    found = set()
    for seed in range(seeds):
        (result,) = ContrastKnowledge(GRAPH, per_caption=4, seed=seed).process([one])
        assert isinstance(result, dict)
        found |= {(record["text"], record["rule"]) for record in result["contrast_negatives"] if record["caption"] == 0}
    return found


def test_an_action_of_the_same_object_names_its_edge() -> None:
    assert made("A dog runs in the park .") == {("A dog jumps in the park .", Edge("dog", "CapableOf", "jump").uri)}
    assert {text for text, _ in made("A dog runs through the water .")} == {"A dog swims through the water ."}
    assert {text for text, _ in made("A man throws a ball .")} == {"A man kicks a ball ."}


def test_what_may_be_true_beside_it_or_is_said_is_left_alone() -> None:
    assert made("A dog runs in the park .", "A dog jumps .") == set()
    assert made("A dog plays in the park .") == set()  # it may jump while it plays
    assert made("A dog jumps in the air .") == set()
    assert made("No dog runs .") == set()


def test_a_property_that_excludes_the_captions_own() -> None:
    assert {text for text, _ in made("A girl holds a green apple .")} == {"A girl holds a red apple ."}
    assert made("A girl holds a big apple .") == set()


def test_a_relation_that_the_graph_knows_one_way_is_reversed() -> None:
    edge = Edge("dog", "Desires", "cat")
    assert edge.relation not in SYMMETRIC
    found = made("A dog chases a cat .")
    assert ("A cat chases a dog .", edge.uri) in found
    both = Told((*GRAPH.edges, Edge("cat", "Desires", "dog")))
    (one,) = linked(("A dog chases a cat .",))
    (result,) = ContrastKnowledge(both).process([one])
    assert isinstance(result, dict)
    assert not any(record["span_class"] == "reversed" for record in result["contrast_negatives"])


def test_odd_captions_alone_in_a_batch_and_reversed() -> None:
    samples = linked(*((odd,) for odd in ODD), ("A dog runs .", "A cat sits on a red chair ."))
    stage = ContrastKnowledge(SeedGraph())
    together = stage.process(samples)
    assert stage.process(samples[::-1])[::-1] == together
    assert [stage.process([one])[0] for one in samples] == together
    assert pickle.loads(pickle.dumps(stage)).process(samples) == together
    for one, result in zip(samples, together, strict=True):
        assert isinstance(result, dict)
        check(stage, one, result["contrast_negatives"])


def test_settings_out_of_range() -> None:
    with pytest.raises(InputError, match="per_caption"):
        ContrastKnowledge(GRAPH, per_caption=0)
    with pytest.raises(InputError, match="kin"):
        ContrastKnowledge(GRAPH, kin=-1)
