"""What may be said more: grammar, the gate and its reasons, choice, and an encoder's word."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.knowledge.interface import Edge
from curation.knowledge.open_graph import SeedGraph
from curation.knowledge.verbalise import predicate
from curation.stages.captions.expand_knowledge import VERBALISED, ExpandKnowledge
from curation.stages.captions.link_concepts import LinkConcepts
from curation.stages.captions.parse_captions import ParseCaptions
from data_manifests.errors import InputError
from data_manifests.sample import ImageRef, Sample, image_uid


class FewFacts:
    """A graph in memory."""

    def __init__(self, *facts: str | Edge) -> None:
        self.edges = [one if isinstance(one, Edge) else Edge(*one.split("|")) for one in facts]

    content_hash = describe = lambda self: str(sorted(self.edges))  # fmt: skip
    edges_to = lambda self, concepts, relations=(): self.edges_from(concepts, relations, "tail")  # noqa: E731 # fmt: skip
    known = lambda self, concepts: {*concepts} & {word for e in self.edges for word in (e.head, e.tail)}  # noqa: E731 # fmt: skip

    def edges_from(self, concepts: Any, relations: Any = (), end: str = "head") -> Any:
        kept = sorted((e for e in self.edges if not relations or e.relation in relations), key=lambda e: -e.weight)
        return {
            one: [e for e in kept if getattr(e, end) == one] for one in {getattr(e, end) for e in kept} & {*concepts}
        }


def expanded(captions: str | tuple[str, ...], *facts: str | Edge, graph: Any = None, **config: Any) -> dict[str, Any]:
    captions = (captions,) if isinstance(captions, str) else captions
    one = Sample(image_uid(" ".join(captions).encode()), "a.jpg", ImageRef("a.jpg"), captions)
    graph = graph or FewFacts(*facts)
    for stage in (ParseCaptions(), LinkConcepts(graph=graph), ExpandKnowledge(graph=graph, **config)):
        (result,) = stage.process([one])
        assert isinstance(result, dict)
        one = one.adding(result)
    assert isinstance(result, dict)
    return result


def texts(captions: str | tuple[str, ...], *facts: str | Edge, caption: int = 0, **config: Any) -> list[str]:
    return [view["text"] for view in expanded(captions, *facts, **config)["knowledge"] if view["caption"] == caption]


def reasons(captions: str | tuple[str, ...], *facts: str | Edge) -> set[str]:
    result = expanded(captions, *facts)
    assert not [view for view in result["knowledge"] if view["caption"] == 0]
    return {record["reason"] for record in result["knowledge_rejected"] if record["caption"] == 0}


DOG = "dog|IsA|animal"
BAT = ("bat|IsA|animal", "bat|CapableOf|fly", "bat|HasA|wing", "bat|UsedFor|play baseball")
CRANE = ("crane|IsA|bird", "crane|HasA|wing", "crane|HasA|beak", "crane|CapableOf|fly")


@pytest.mark.parametrize(
    ("caption", "fact", "expected"),
    [
        ("A dog runs on the grass.", DOG, "A dog, which is a kind of animal, runs on the grass."),
        ("A dog is running .", DOG, "A dog, which is a kind of animal, is running ."),
        ("Dogs are running.", DOG, "Dogs, which are animals, are running."),
        ("a boy with a dog", DOG, "a boy with a dog, which is a kind of animal"),
        ("A boy sees a dog .", DOG, "A boy sees a dog, which is a kind of animal ."),
        ("A dog, wet and tired, sleeps.", DOG, "A dog, which is a kind of animal, wet and tired, sleeps."),
        ("A dog with a ball sleeps.", DOG, "A dog with a ball sleeps. The dog is a kind of animal."),
        ("A dog with a ball sleeps .", DOG, "A dog with a ball sleeps . The dog is a kind of animal ."),
        ("a dog in the snow", DOG, "a dog, which is a kind of animal, in the snow"),
        ("A boy and a dog are running.", DOG, "A boy and a dog are running. The dog is a kind of animal."),
        ("A dog sits.", ("dog|HasA|tail", DOG), "A dog, which has a tail, sits."),
        ("Two dogs are sitting.", ("dog|HasA|four leg", DOG), "Two dogs, which have legs, are sitting."),
        ("A dog sits.", ("dog|HasA|four leg", DOG), "A dog, which has four legs, sits."),
        ("A couch stands there.", "couch|IsA|piece of furniture", None),
        ("The boy sleeps.", "boy|IsA|child", "The boy, who is a child, sleeps."),
        ("Two girls are sleeping.", "girl|IsA|child", "Two girls, who are children, are sleeping."),
    ],
)  # fmt: skip
def test_grammar(caption: str, fact: str | tuple[str, ...], expected: str | None) -> None:
    facts = (fact,) if isinstance(fact, str) else fact
    found = texts(caption, *facts, per_caption=5)
    assert expected in found if expected else found == []


@pytest.mark.parametrize(
    ("fact", "plural", "expected"),
    [
        ("ball|UsedFor|play tennis", False, "is used for playing tennis"),
        ("ball|UsedFor|catch", True, "are used for catching"),
        ("hill|UsedFor|climbing", False, "is used for climbing"),
        ("ball|UsedFor|baseball", False, "is used for baseball"),
        ("dog|CapableOf|catch frisbee", False, "can catch frisbees"),
        ("dog|CapableOf|go for walk", False, ""),
        ("dog|CapableOf|happy", False, ""),
        ("ball|ReceivesAction|throw", True, "can be thrown"),
        ("dog|AtLocation|beach", False, "can be found on a beach"),
        ("bench|AtLocation|at park", False, "can be found at a park"),
        ("bird|AtLocation|water", True, "can be found in water"),
        ("wing|PartOf|airplane", False, "is part of an airplane"),
        ("bench|MadeOf|wood", True, "are made of wood"),
        ("hat|IsA|form of clothe", False, "is a kind of clothing"),
        ("hat|IsA|form of clothe", True, "are clothing"),
        ("bus|IsA|motor vehicle", True, "are motor vehicles"),
        ("man|IsA|adult", False, "is an adult"),
        ("dog|Desires|food", False, ""),
    ],
)
def test_predicates(fact: str, plural: bool, expected: str) -> None:
    assert predicate(Edge(*fact.split("|")), plural) == expected


def test_a_view_and_a_triplet_name_their_edge() -> None:
    edge = Edge("dog", "IsA", "animal", 2.0, "/d/conceptnet/4/en", "cc:by-sa/4.0")
    result = expanded("A dog is running.", edge)
    assert result["knowledge"] == [
        {"text": "A dog, which is a kind of animal, is running.", "caption": 0, "kind": "knowledge", "family": "IsA", "rule": edge.uri}
    ]  # fmt: skip
    assert result["triplets"] == [
        {"head": "dog", "relation": "IsA", "tail": "animal", "caption": 0, "weight": 2.0, "license": "cc:by-sa/4.0",
         "dataset": "/d/conceptnet/4/en"}
    ]  # fmt: skip


def test_a_baseball_bat_does_not_fly() -> None:
    captions = ("The boy swings a baseball bat .", "A player hits the ball and birds fly .")
    said = " ".join(texts(captions, *BAT))
    assert "animal" not in said and "wing" not in said and "fly" not in said


def test_a_bat_in_a_cave_may() -> None:
    captions = ("A bat hangs in a dark cave .", "A bat flies through the cave .")
    found = texts(captions, *BAT, per_caption=3)
    assert "A bat, which is a kind of animal, hangs in a dark cave ." in found
    assert "A bat, which can fly, hangs in a dark cave ." in found


def test_a_bat_of_which_nothing_is_known_says_nothing() -> None:
    assert reasons("A boy looks at a bat .", *BAT) == {"ambiguous_sense"}


def test_a_crane_at_a_construction_site_is_no_bird() -> None:
    assert not expanded("A yellow crane is lifting steel at a construction site .", *CRANE)["knowledge"]
    assert expanded("A crane is standing in a lake .", *CRANE)["knowledge"]


def test_a_toy_duck_has_no_beak() -> None:
    facts = ("duck|IsA|bird", "duck|HasA|beak")
    assert not expanded(("A dog chews a toy duck .", "A dog holds a duck in the water ."), *facts)["knowledge"]


@pytest.mark.parametrize(
    ("captions", "facts", "reason"),
    [
        ("A dog sleeps .", (DOG, "dog|IsA|thing"), "generic_tail"),
        ("A dog sleeps .", ("dog|IsA|good animal",), "opinion"),
        ("A dog sleeps .", ("dog|IsA|animal that barks at cats",), "long_tail"),
        ("A dog sleeps .", ("dog|IsA|animal", "dog|HasA|collar"), "not_visible"),
        ("A dog sleeps .", ("dog|IsA|animal", "dog|IsA|book"), "wrong_sense"),
        ("A dog sleeps .", ("dog|IsA|animal", "dog|IsA|bird", "dog|IsA|not bird"), "denied"),
        ("A dog sleeps .", ("dog|IsA|animal", "dog|IsA|bird", "dog|NotIsA|bird"), "denied"),
        ("A dog sleeps .", ("dog|IsA|animal", "dog|IsA|herd animal"), "not_a_category"),
        ("A dog sleeps .", ("dog|IsA|animal", "dog|CapableOf|swim"), "unsupported"),
        ("A woman sleeps .", ("woman|CapableOf|cook",), "about_people"),
        ("A woman sleeps .", ("woman|HasProperty|beautiful",), "about_people"),
        ("A woman sleeps .", ("woman|IsA|person",), "about_people"),
        ("A man without a dog sleeps .", (DOG,), "negated"),
        ("A wug sleeps .", ("wug|HasA|tail",), "unknown_kind"),
        ("An animal , a dog , sleeps .", (DOG,), "already_said"),
        (("A ball .", "A red ball ."), ("ball|HasProperty|blue", "ball|IsA|toy"), "contradicted"),
        (("A bench .", "A wooden bench ."), ("bench|IsA|furniture", "bench|MadeOf|metal"), "contradicted"),
        (("A dog in the snow .", "A dog on a beach ."), (DOG, "dog|AtLocation|beach", "snow|IsA|ice"), "contradicted"),
        (("A tree .", "A short tree ."), ("tree|HasProperty|tall",), "contradicted"),
        (("A dog .", "A dog swims by a dog ."), (DOG, "dog|CapableOf|swim"), "unclear_which"),
    ],
)
def test_the_gate_names_its_reason(captions: str | tuple[str, ...], facts: tuple[str, ...], reason: str) -> None:
    refused = {record["reason"] for record in expanded(captions, *facts)["knowledge_rejected"]}
    assert reason in refused


@pytest.mark.parametrize(
    ("captions", "facts", "expected"),
    [
        (("A dog rests .", "The dog swims in a lake ."), (DOG, "dog|CapableOf|swim"), "A dog, which can swim, rests ."),
        (("A dog rests .", "A black dog ."), (DOG, "dog|HasProperty|black"), "A dog, which is black, rests ."),
        (("A bench .", "A wooden bench ."), ("bench|IsA|furniture", "bench|MadeOf|wood"), "A bench, which is made of wood ."),
        (("A dog rests .", "A dog on a beach ."), (DOG, "dog|AtLocation|beach"), "A dog, which can be found on a beach, rests ."),
        (("A ball lies there .", "A boy throws a ball ."), ("ball|IsA|toy", "ball|ReceivesAction|throw"), "A ball, which can be thrown, lies there ."),
    ],
)  # fmt: skip
def test_another_caption_of_the_image_may_bear_a_fact_out(
    captions: tuple[str, ...], facts: tuple[str, ...], expected: str
) -> None:
    assert expected in texts(captions, *facts, per_caption=4)
    assert expected not in texts(captions[:1], *facts, per_caption=4)


def test_a_fact_is_about_who_does_it() -> None:
    captions = ("A dog rests .", "A boy swims past a dog .")
    assert "A dog, which can swim, rests ." not in texts(captions, DOG, "dog|CapableOf|swim", per_caption=4)


def test_weight_then_support_then_one_for_each_thing() -> None:
    heavy = Edge("dog", "HasA", "tail", 3.0)
    assert texts("A dog is running .", DOG, heavy, per_caption=1) == ["A dog, which has a tail, is running ."]
    found = expanded("A dog sees a horse .", DOG, heavy, "horse|IsA|animal", per_caption=2)["triplets"]
    assert [one["head"] for one in found] == ["dog", "horse"]
    supported = ("A dog is running .", "A brown dog .")
    assert "brown" in texts(supported, DOG, "dog|HasProperty|brown", "dog|HasA|tail", per_caption=1)[0]


def test_refusals_are_counted_by_concept_relation_and_reason() -> None:
    result = expanded(("A dog is running .", "A dog ."), DOG, "dog|IsA|thing", "dog|IsA|object", "dog|HasA|collar")
    found = {(one["reason"], one["detail"]) for one in result["knowledge_rejected"]}
    assert found == {("generic_tail", "2 of IsA: thing; object"), ("not_visible", "1 of HasA: collar")}
    assert all(set(one) == {"text", "caption", "reason", "rule", "detail"} for one in result["knowledge_rejected"])


def test_a_text_is_never_a_caption_of_the_image() -> None:
    caption = "A dog, which is a kind of animal, is running ."
    assert caption not in texts(("A dog is running .", caption), DOG)


def test_batch_and_order_do_not_matter() -> None:
    graph = SeedGraph()
    samples: list[Sample] = []
    for captions in (("A dog runs on a beach .",), ("Two horses are near a tree .", "A brown horse .")):
        one = Sample(image_uid(captions[0].encode()), "a.jpg", ImageRef("a.jpg"), captions)
        for stage in (ParseCaptions(), LinkConcepts(graph=graph)):
            (result,) = stage.process([one])
            assert isinstance(result, dict)
            one = one.adding(result)
        samples.append(one)
    expand = ExpandKnowledge(graph=graph)
    together = expand.process(samples)
    assert expand.process(samples[::-1])[::-1] == together
    assert [pickle.loads(pickle.dumps(expand)).process([one])[0] for one in samples] == together
    assert all(isinstance(result, dict) and result["knowledge"] for result in together)


class LikesShort:
    """An encoder for which a text fits a picture the worse the longer it is."""

    content_hash = describe = lambda self: "likes short"  # fmt: skip
    load = preprocess = lambda self, *_: self  # fmt: skip

    def embed_one(self, sample: Sample) -> tuple[Any, Any]:
        assert sample.image.read()
        fit = np.array([1 - len(text) / 1000 for text in sample.captions])
        return np.array([1.0, 0.0], np.float16), np.stack([fit, 1 - fit], axis=1).astype(np.float16)


def test_an_encoder_has_the_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.models.encoder.open_encoder", lambda spec: spec)
    (tmp_path / "a.jpg").write_bytes(io.BytesIO(b"x").getvalue())
    monkeypatch.setattr(ImageRef, "read", lambda self: b"x")
    kept = expanded("A dog is running .", DOG, model=LikesShort(), margin=0.1)
    assert len(kept["knowledge"]) == 1
    refused = expanded("A dog is running .", DOG, model=LikesShort(), margin=0.01)
    assert not refused["knowledge"]
    assert [one["reason"] for one in refused["knowledge_rejected"]] == ["low_score"]


def test_the_image_is_needed_with_a_model_only() -> None:
    graph = FewFacts(DOG)
    assert "image" not in ExpandKnowledge(graph=graph).required_fields()
    assert "image" in ExpandKnowledge(graph=graph, model=LikesShort()).required_fields()
    assert ExpandKnowledge(graph=graph, model=LikesShort()).fingerprint() != ExpandKnowledge(graph=graph).fingerprint()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"relations": ("IsAn",)}, "did you mean 'IsA'"), ({"per_caption": 0}, "per_caption is 0"),
        ({"margin": -1.0}, "margin=-1.0"), ({"margin": float("nan")}, "margin=nan"),
    ],
)  # fmt: skip
def test_bad_settings(config: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ExpandKnowledge(graph=FewFacts(DOG), **config)


def test_only_the_relations_asked_for_speak() -> None:
    assert set(VERBALISED) >= {"IsA", "HasA"}
    result = expanded("A dog is running .", DOG, "dog|HasA|tail", relations=("HasA",))
    assert {view["family"] for view in result["knowledge"]} == {"HasA"}


def test_empty_and_odd_captions() -> None:
    for caption in ("", " ", "...", "dog-", "the dog's bone", "A dog\u2019s tail", "🐕 dog"):
        for view in expanded(caption, DOG)["knowledge"]:
            assert view["text"].replace(", which is a kind of animal", "").rstrip(",") == caption
