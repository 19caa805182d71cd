"""Which concept a word names, and in which sense: our own sentences, a small graph of our own."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import pytest

from curation.knowledge.concept_linking import mentions, noun_lemmas, verb_lemmas
from curation.knowledge.homonyms import homonyms
from curation.knowledge.interface import Edge
from curation.knowledge.open_graph import SeedGraph
from curation.knowledge.word_sense import Lexicon, head_word, root_class
from curation.stages.captions.link_concepts import LinkConcepts
from curation.stages.captions.parse_captions import ParseCaptions
from data_manifests.sample import ImageRef, Sample, image_uid


class FewFacts:
    """A graph in memory that counts what it is asked."""

    def __init__(self, *facts: str | Edge) -> None:
        self.edges = [one if isinstance(one, Edge) else Edge(*one.split("|")) for one in facts]
        self.asked: list[Sequence[str]] = []

    content_hash = describe = lambda self: str(sorted(self.edges))  # fmt: skip
    edges_to = lambda self, concepts, relations=(): self.edges_from(concepts, relations, "tail")  # noqa: E731 # fmt: skip

    def edges_from(self, concepts: Sequence[str], relations: Sequence[str] = (), end: str = "head") -> Any:
        kept = sorted((e for e in self.edges if not relations or e.relation in relations), key=lambda e: -e.weight)
        return {
            one: [e for e in kept if getattr(e, end) == one] for one in {getattr(e, end) for e in kept} & {*concepts}
        }

    def known(self, concepts: Sequence[str]) -> set[str]:
        self.asked.append(list(concepts))
        return {*concepts} & {word for edge in self.edges for word in (edge.head, edge.tail)}


FACTS = (
    "bat|IsA|animal", "bat|CapableOf|fly", "bat|UsedFor|play baseball", "dog|IsA|animal", "crane|IsA|bird",
    "hot dog|IsA|food", "tennis racket|UsedFor|tennis", "racket|IsA|tool", "pick up|RelatedTo|lift", "pick|IsA|tool",
    "glass|IsA|container", "leaf|PartOf|plant", "person|IsA|animal", "skateboard|IsA|toy", "brown dog|RelatedTo|fur",
    "ride|RelatedTo|horse", "horse|IsA|animal", "baseball|IsA|sport", "palm tree|IsA|tree", "palm|PartOf|hand",
    "swan|IsA|bird", "swan|IsA|boat", "swan|CapableOf|preen", "swan|UsedFor|pedal", "tower|IsA|building",
    "box office|IsA|place",
)  # fmt: skip


def parsed(*captions: str) -> Sample:
    one = Sample(image_uid(" ".join(captions).encode()), "a.jpg", ImageRef("a.jpg"), captions)
    (result,) = ParseCaptions().process([one])
    assert isinstance(result, dict)
    return one.adding(result)


def links(*captions: str, graph: Any = None) -> list[list[dict[str, Any]]]:
    (result,) = LinkConcepts(graph=graph or FewFacts(*FACTS)).process([parsed(*captions)])
    assert isinstance(result, dict)
    found: list[list[dict[str, Any]]] = result["concepts"]
    return found


def concepts(caption: str) -> dict[str, str]:
    return {link["words"]: link["concept"] for link in links(caption)[0]}


def sense(word: str, *captions: str, graph: Any = None) -> str | None:
    found = [link for link in links(*captions, graph=graph)[0] if link["concept"] == word]
    assert len(found) == 1, found
    value: str | None = found[0]["sense"]
    return value


def test_the_longest_known_name_wins() -> None:
    found = concepts("A woman with a tennis racket eats a hot dog under a palm tree .")
    assert found["tennis racket"] == "tennis racket"
    assert found["hot dog"] == "hot dog"
    assert found["palm tree"] == "palm tree"
    assert "racket" not in found and "palm" not in found


def test_an_adjective_is_left_out_unless_the_graph_says_what_the_whole_is() -> None:
    assert concepts("A brown dog sleeps .") == {"dog": "dog"}


def test_a_compound_that_is_not_known_is_linked_by_its_head() -> None:
    assert concepts("He holds a baseball bat .")["bat"] == "bat"


def test_verbs_keep_their_particle_where_it_makes_a_concept() -> None:
    assert concepts("The girl picks up a leaf .")["picks"] == "pick up"
    assert concepts("The girl picks a leaf .")["picks"] == "pick"


def test_plurals_and_irregular_forms() -> None:
    found = concepts("Two dogs play in the leaves near people riding horses .")
    assert found["dogs"] == "dog" and found["leaves"] == "leaf" and found["people"] == "person"
    assert found["riding"] == "ride" and found["horses"] == "horse"


def test_lemmas_do_not_rest_on_the_parser_alone() -> None:
    assert verb_lemmas("riding", "rid")[0] == "ride"
    assert noun_lemmas("leaves", True, "leaf")[0] == "leaf"
    assert noun_lemmas("glasses", True, "glass") == ("glasses",)
    assert noun_lemmas("grass", False, "gras") == ("grass",)


def test_spectacles_are_no_drinking_glasses() -> None:
    assert "glasses" not in concepts("A man wearing glasses reads .")


@pytest.mark.parametrize(
    ("word", "captions", "expected"),
    [
        ("bat", ("The boy swings a baseball bat .",), "thing"),
        ("bat", ("A boy holds a bat .", "A player waits for the pitch ."), "thing"),
        ("bat", ("A bat hangs from the roof of a cave .",), "animal"),
        ("bat", ("A boy looks at a bat .",), None),
        ("bat", ("A bat in a cave near a ball .",), None),
        ("crane", ("A yellow crane is lifting steel at a construction site .",), "thing"),
        ("crane", ("A crane is standing in a lake .",), "animal"),
        ("crane", ("A crane near a house .",), None),
        ("dog", ("A dog .",), "animal"),
        ("hot dog", ("A hot dog .",), "food"),
        ("person", ("People talk .",), "person"),
        ("horse", ("A plush horse on a bed .",), "thing"),
        ("horse", ("A horse on a bed .", "A toy horse"), "thing"),
        ("swan", ("A swan .",), None),
        ("swan", ("Two people pedal a swan .",), "thing"),
    ],
)
def test_senses(word: str, captions: tuple[str, ...], expected: str | None) -> None:
    assert sense(word, *captions) == expected


def test_the_sense_marks_of_a_source_are_believed() -> None:
    marked = [
        Edge("jay", "IsA", "thief", 2.0, head_sense="n/wn/animal"),
        Edge("jay", "IsA", "letter", 1.0, head_sense="n/wn/communication"),
        Edge("jay", "IsA", "person", 9.0, head_sense="v"),
    ]
    assert sense("jay", "A jay .", graph=FewFacts(*marked)) == "animal"


def test_what_decided_is_told() -> None:
    (found,) = [link for link in links("The boy swings a baseball bat .")[0] if link["concept"] == "bat"]
    assert "baseball" in found["evidence"]
    assert (found["tokens"], found["pos"], found["plural"], found["countable"]) == ([5, 6], "NOUN", False, True)


def test_negated_things_are_marked() -> None:
    marks = {link["concept"]: link["negated"] for link in links("A dog without a racket and no horse .")[0]}
    assert marks == {"dog": False, "racket": True, "horse": True}


def test_a_noun_that_may_be_a_verb_after_a_plural_is_not_believed() -> None:
    parse = parsed("Three firefighters duck from fire .", "A duck on a pond .")["parses"][0]
    (found,) = [one for one in mentions(parse) if one.options[-1][1][0] == "duck"]
    assert found.pos == "VERB" or found.doubtful


def test_one_question_for_what_is_known_and_no_dependence_on_the_batch() -> None:
    graph = FewFacts(*FACTS)
    samples = [parsed("A dog .", "A bat ."), parsed("A baseball bat"), parsed("A crane on a tower")]
    together = LinkConcepts(graph=graph).process(samples)
    assert len(graph.asked) == 1
    assert [LinkConcepts(graph=FewFacts(*FACTS)).process([one])[0] for one in samples] == together
    assert LinkConcepts(graph=graph).process(samples[::-1])[::-1] == together


def test_the_graph_enters_the_fingerprint_and_the_stage_travels() -> None:
    stage = LinkConcepts(graph=SeedGraph())
    assert pickle.loads(pickle.dumps(stage)).fingerprint() == stage.fingerprint()
    assert LinkConcepts(graph=FewFacts(*FACTS)).fingerprint() != stage.fingerprint()


def test_the_seed_graph_links() -> None:
    assert sense("dog", "A dog runs on the beach .", graph=SeedGraph()) == "animal"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("four legged animal", "animal"), ("form of clothing", "thing"), ("bird with long leg", "animal"),
        ("small than elephant", ""), ("not bird", ""), ("idea", ""), ("piece of furniture", "thing"),
    ],
)  # fmt: skip
def test_classes_that_a_phrase_names(words: str, expected: str) -> None:
    assert root_class(words) == expected


def test_head_words() -> None:
    assert head_word("knot of ribbon") == "knot"
    assert head_word("form of art") == "art"


def test_classes_are_found_two_steps_up_and_no_further() -> None:
    lexicon = Lexicon(FewFacts("a1|IsA|a2", "a2|IsA|a3", "a3|IsA|animal", "b0|IsA|a1"))
    lexicon.prepare(["a1", "b0"])
    assert lexicon.votes("a1") == {"animal": 1.0}
    assert lexicon.votes("b0") == {}
    alone = Lexicon(lexicon.graph)
    alone.prepare(["b0"])
    assert alone.votes("b0") == {}


def test_every_homonym_has_cues_for_each_sense() -> None:
    for word, one in homonyms().items():
        assert one.senses and all(one.senses.values()), word
        assert not one.assumed or one.assumed in one.senses
