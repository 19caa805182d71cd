"""The gate's verdicts on a table of our own, and on every example that the prompts hold."""

from __future__ import annotations

from functools import lru_cache

import pytest

from curation.models.parser import Parse, SpacyParser
from curation.rewriting.gate import RewriteGate
from curation.rewriting.prompts import FAMILIES, PROMPTINGS, example_pairs, read_answer
from curation.rewriting.text_checks import REASONS, Verdict, echoes_of
from curation.text.caption_facts import facts_of


@lru_cache(maxsize=4096)
def parsed(text: str) -> Parse:
    return SpacyParser().parse([text])[0]


def verdict(
    source: str, others: tuple[str, ...], text: str, growth: float = 1.6, view: bool = False, **more: object
) -> Verdict | None:
    facts = [facts_of(one, parsed(one)) for one in (source, *others)]
    gate = RewriteGate(source, facts[0], facts[1:], **more)  # type: ignore[arg-type]
    return gate.screen(text, growth) or gate.judge(text, parsed(text), view=view)


BIKE = "A man in a red jacket rides a bicycle on a wet road ."
DOGS = "Two black dogs chase a small white cat across the lawn ."
CASES: list[tuple[str, tuple[str, ...], str, str]] = [
    # kept: order, voice, light words, synonyms of our own
    (BIKE, (), "On a wet road, a man in a red jacket rides a bicycle.", ""),
    (BIKE, (), "A bicycle is ridden on a wet road by a man in a red jacket.", ""),
    (BIKE, (), "A guy wearing a red jacket is riding his bike along a wet road.", ""),
    (BIKE, (), "A picture of a man in a red jacket riding a bicycle on a wet road.", ""),
    (DOGS, (), "A small white cat is being chased across the lawn by two black dogs.", ""),
    (DOGS, (), "A pair of black dogs are chasing a little white cat across the lawn.", ""),
    (DOGS, (), "2 black dogs chase a small white cat across the lawn", ""),
    ("Three kids play on a couch .", (), "Three children are playing on a sofa.", ""),
    ("A gray horse eats grass .", (), "A grey horse is eating some grass.", ""),
    ("A shirtless man climbs a rock .", (), "A man without a shirt is climbing a rock.", ""),
    ("A man without a shirt climbs a rock .", (), "A shirtless man is climbing a rock.", ""),
    ("A woman does not look at the camera .", (), "The woman isn't looking at the camera.", ""),
    ("A pair of skis leans against a wall .", (), "Skis leaning against a wall.", ""),
    ("A dog jumps over a fence .", (), "A dog makes a jump over a fence.", ""),
    ("The ball is to the left of the box .", (), "The box is to the right of the ball.", ""),
    ("A lamp hangs above a table .", (), "A table stands below a lamp.", ""),
    ("A girl holds an orange ball .", (), "A girl is holding a ball that is orange.", ""),
    ("A boy eats an orange .", (), "An orange is being eaten by a boy.", ""),
    ("A car .", (), "A car on its own.", ""),
    # kept because another caption of the image says so
    ("A man rides a wave .", ("A surfer in a black wetsuit .",), "A man in a black wetsuit rides a wave.", ""),
    ("A skier goes downhill .", ("A snowboarder on a slope .",), "A snowboarder goes downhill.", ""),
    ("Dogs run on a beach .", ("Two dogs run by the sea .",), "Two dogs run on a beach.", ""),
    ("A person rides her horse .", ("A woman on a horse .",), "The woman is a person riding her horse.", ""),
    # nouns
    (BIKE, (), "A man in a red jacket rides on a wet road.", "lost_noun"),
    (BIKE, (), "A red jacket and a bicycle on a wet road.", "lost_noun"),
    (BIKE, (), "A woman in a red jacket rides a bicycle on a wet road.", "lost_noun"),
    ("A boy throws a ball .", (), "A girl throws a ball.", "lost_noun"),
    ("A man walks .", ("A woman walks .",), "A woman is walking slowly.", "lost_noun"),
    ("A boy kicks a ball .", (), "A man kicks a ball.", "lost_noun"),
    ("A carpet lies in a car .", (), "A carpet lies there alone.", "lost_noun"),
    ("A cat sits on a mat .", (), "A dog sits on a mat.", "lost_noun"),
    ("A caterpillar eats a leaf .", (), "A cat eats a leaf.", "lost_noun"),
    ("A hot dog on a plate .", (), "A dog on a table.", "lost_noun"),
    (BIKE, (), "A man in a red jacket rides a bicycle past a church on a wet road.", "new_object"),
    ("A dog runs .", (), "A dog runs along with its owner.", "new_object"),
    ("A dog runs .", (), "A dog runs in the park.", "new_object"),
    ("A dog runs .", (), "A close-up of a dog that runs.", "new_object"),
    ("A man rides a wave .", (), "A man in a wetsuit rides a wave.", "new_object"),
    # numbers
    (DOGS, (), "Black dogs chase a small white cat across the lawn.", "lost_number"),
    (DOGS, (), "Three black dogs chase a small white cat across the lawn.", "changed_number"),
    ("Dogs run on a beach .", (), "Two dogs run on a beach.", "changed_number"),
    ("A dog runs on a beach .", (), "Dogs run on a beach.", "changed_number"),
    ("Dogs run on a beach .", (), "A dog runs on a beach.", "changed_number"),
    ("Two men and three boys wait .", (), "Three men and two boys wait.", "changed_number"),
    ("Five people wait .", (), "A few people wait.", "lost_number"),
    # colours
    (BIKE, (), "A man in a jacket rides a bicycle on a wet road.", "lost_colour"),
    (BIKE, (), "A man in a blue jacket rides a bicycle on a wet road.", "changed_colour"),
    (BIKE, (), "A man in a red jacket rides a yellow bicycle on a wet road.", "changed_colour"),
    ("A red car passes a blue bus .", (), "A blue car passes a red bus.", "changed_colour"),
    ("A girl holds an orange ball .", (), "A girl holds a ball.", "lost_colour"),
    # negation
    ("A man without a helmet rides a horse .", (), "A man with a helmet rides a horse.", "lost_negation"),
    ("The dog is not wet .", (), "The dog is wet all over.", "lost_negation"),
    ("A shirtless man climbs a rock .", (), "A man climbs up a rock.", "lost_negation"),
    ("A man with a helmet rides a horse .", (), "A man without a helmet rides a horse.", "added_negation"),
    ("A child smiles .", (), "A child is not smiling.", "added_negation"),
    # who, and what cannot be
    ("A man holds a hat .", (), "A man holds her hat.", "changed_gender"),
    ("A person holds a hat .", (), "A person is holding his hat.", "changed_gender"),
    ("A dog chases a cat .", (), "A cat chases a dog.", "swapped_roles"),
    ("A dog is chased by a cat .", (), "A dog is chasing a cat.", "swapped_roles"),
    ("A young man reads a book .", (), "An old man reads a book.", "contradiction"),
    ("The ball is to the left of the box .", (), "The ball is to the right of the box.", "contradiction"),
    ("A cat sits under a table .", (), "A cat sits above a table.", "contradiction"),
    ("A big black dog chases a brown dog .", (), "A brown dog chases a big black dog.", "swapped_roles"),
    ("A woman walks past a waterfall .", (), "A woman is being walked by a waterfall.", "swapped_roles"),
    ("A woman walks past a waterfall .", (), "A woman walks through a waterfall.", "contradiction"),
    ("A boy lies on a bench .", (), "A boy is sitting on a bench.", "contradiction"),
    ("A dog catches a frisbee .", (), "A dog catches a frisbee, then the dog throws the frisbee.", "new_action"),
    ("A dog with a frisbee .", ("A dog throws a frisbee .",), "A dog is throwing a frisbee.", ""),
    ("A surfer on a wave .", (), "A surfer is surfing on a wave.", ""),
    # form
    (BIKE, (), "", "empty"),
    (BIKE, (), " ... ", "empty"),
    (BIKE, (), "a man in a red jacket rides a bicycle on a wet road", "copy"),
    (BIKE, ("A man cycles on a wet road .",), "A man cycles on a wet road!", "copy"),
    (BIKE, (), "A man rides.", "too_short"),
    ("A man rides a bicycle .", (), "A man rides a bicycle " + "very very far away and on and on " * 3, "too_long"),
    (BIKE, (), "Ein Mann in einer roten Jacke faehrt Fahrrad auf nasser Strasse.", "not_english"),
    (BIKE, (), "Мужчина в красной куртке едет на велосипеде.", "not_english"),
    (BIKE, (), "A man in a red jacket rides a bicycle on a wet road on a wet road.", "repeated"),
    (BIKE, (), "A man man in a red jacket rides a bicycle on a wet road.", "repeated"),
    (BIKE, (), "A man in a red jacket rides. A bicycle is on a wet road.", "several_sentences"),
    (BIKE, (), "A man in an red jacket rides a bicycle on a wet road.", "wrong_article"),
    (BIKE, (), "Rewrite: a man in a red jacket riding a bicycle on a wet road.", "prompt_leak"),
    (BIKE, (), "Sure, here is a man in a red jacket riding a bicycle on a wet road.", "prompt_leak"),
    (BIKE, (), "A man rides a bicycle => A man in a red jacket rides.", "template_echo"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "others", "text", "reason"), CASES)
def test_verdicts(source: str, others: tuple[str, ...], text: str, reason: str) -> None:
    found = verdict(source, others, text, growth=2.0)
    assert (found.reason if found else "") == reason, found


def test_the_table_is_wide_enough() -> None:
    assert len(CASES) >= 60
    assert len({reason for *_, reason in CASES}) >= 20
    assert {reason for *_, reason in CASES if reason} <= set(REASONS)


def test_an_example_of_the_prompt_may_not_come_back() -> None:
    echoes = echoes_of(["A green parrot sitting on a branch", "old boat"])
    found = verdict("A bird sits .", (), "a green parrot sitting on a branch .", echoes=echoes, growth=3.0)
    assert found is not None and found.reason == "template_echo"
    assert (
        verdict("A green parrot sitting on a branch .", (), "On a branch, a green parrot sits .", echoes=echoes) is None
    )


def test_where_a_view_may_be_named() -> None:
    assert verdict("A dog runs .", (), "A close-up view of a dog that runs .", view=True) is None


def test_a_graph_gives_synonyms_but_never_of_people() -> None:
    synonyms = {"bench": frozenset({"settle"}), "man": frozenset({"husband", "gull"})}
    caption = "A man sleeps on a bench ."
    assert verdict(caption, (), "A man is asleep on a settle .", synonyms=synonyms) is None
    assert verdict(caption, (), "A man is asleep on a settle .") is not None
    assert verdict(caption, (), "A gull sleeps on a bench , alone .", synonyms=synonyms) is not None
    assert verdict(caption, (), "A husband sleeps on a bench , alone .", synonyms=synonyms) is not None


@pytest.mark.parametrize("family", FAMILIES)
def test_every_example_that_teaches_a_model_passes_itself(family: str) -> None:
    for source, target in example_pairs()[family]:
        found = verdict(source, (), target, FAMILIES[family].growth, view=family == "tda_sp/viewpoint")
        assert found is None, (source, target, found)


def test_answers_are_read_by_their_form() -> None:
    assert read_answer(' "A dog runs."\nmore', "", "few_shot") == ("A dog runs.", "", "")
    assert read_answer('{"caption": "A dog."}', "", "schema") == ("A dog.", "", "")
    assert read_answer('{"varied": "place", "caption": "A dog."}', "place", "schema")[1] == ""
    assert read_answer('{"varied": "object", "caption": "A dog."}', "place", "schema")[1] == "wrong_field"
    for text in ("", "A dog.", "[1]", '{"caption": 3}', '{"caption": "A d', "[" * 100_000):
        assert read_answer(text, "", "schema")[1] == "invalid_json"
    assert PROMPTINGS == ("few_shot", "schema")
