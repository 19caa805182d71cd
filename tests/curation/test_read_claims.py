"""Claims read from texts: wordings of one claim are equal, others are not, and the captions speak for or against them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.entailment.claims import SCENE, Claims
from curation.entailment.entail import is_compatible, is_entailed, merge_claims
from curation.entailment.read_claims import read_claims
from curation.entailment.tokens import content_words, split_words, tag_new_words, tags_of
from curation.entailment.word_meanings import WordRelations, contradicts, word_relations
from curation.knowledge.open_graph import SeedGraph
from curation.models.parser import SpacyParser


def tags(*texts: str) -> dict[str, str]:
    return tags_of(SpacyParser().parse(texts))


def read(text: str, *more: str) -> Claims:
    return read_claims(text, tags(text, *more))


def verdict(negative: str, *captions: str) -> str:
    """Return "said", "open" or "against": what the captions have for a text."""
    known = tags(*captions, negative)
    world = merge_claims([read_claims(caption, known) for caption in captions], WordRelations())
    claims = read_claims(negative, known)
    if is_entailed(claims, world, WordRelations()):
        return "said"
    return "open" if is_compatible(claims, world, WordRelations()) else "against"


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("A man and a woman share an umbrella", "A woman and a man share an umbrella"),
        ("a big red bus", "a red big bus"),
        ("a black and white dog runs", "a white and black dog runs"),
        ("a dog next to a cat", "a cat next to a dog"),
        ("a dog beside a cat", "a cat near a dog"),
        ("a red star is left of a blue ring", "a blue ring is to the right of a red star"),
        ("above a star is a circle", "a circle is over a star"),
        ("a ring surrounds a heart", "a heart is inside a ring"),
        ("a star with stripes", "a striped star"),
        ("A dog chases a cat .", "a cat is chased by a dog"),
        ("two dogs run", "two dogs run"),
        ("a star, a ring and a heart", "a heart, a star and a ring"),
    ],
)
def test_wordings_of_one_claim_say_the_same(text: str, same: str) -> None:
    assert verdict(same, text) == "said"
    assert verdict(text, same) == "said"


@pytest.mark.parametrize(
    ("caption", "negative"),
    [
        ("A dog chases a cat .", "A cat chases a dog ."),
        ("a red star is left of a blue ring", "a blue ring is left of a red star"),
        ("a red star is left of a blue ring", "a blue star is left of a red ring"),
        ("a star is above a ring", "a star is below a ring"),
        ("a man in a red shirt", "a man in a green shirt"),
        ("a man on a horse", "a horse on a man"),
        ("two dogs run", "three dogs run"),
        ("a dog runs", "a dog does not run"),
        ("a dog with a ball", "a dog without a ball"),
        ("a man holds a dog", "a man holds a cat"),
        ("a dog sits on a rock", "a dog stands on a rock"),
        ("a woman sits on a bench", "a woman sits under a bench"),
        ("a man with a hat and a woman with a bag", "a woman with a hat and a man with a bag"),
    ],
)
def test_other_claims_are_spoken_against(caption: str, negative: str) -> None:
    assert verdict(negative, caption) == "against"


@pytest.mark.parametrize(
    ("negative", "captions", "expected"),
    [
        ("a large star", ["a red star"], "open"),
        ("a large star", ["a red star", "a small star"], "against"),
        ("a large star", ["a red star", "a small star and a large star"], "said"),
        ("a star above a ring", ["a star and a ring"], "open"),
        ("a star above a ring", ["a star and a ring", "a ring is over a star"], "against"),
        ("a star is left of a heart", ["a star is left of a ring", "a ring is left of a heart"], "said"),
        ("two dogs", ["three dogs"], "said"),
        ("two stars", ["a red star", "a blue star"], "said"),
        ("a person runs", ["a man runs"], "said"),
        ("a boy runs", ["a man runs"], "against"),
        ("a man runs", ["a person runs"], "open"),
        ("no dog runs", ["a dog runs"], "against"),
        ("a barren dog on black terrain", ["a black dog on barren terrain"], "against"),
    ],
)
def test_captions_are_put_together(negative: str, captions: Sequence[str], expected: str) -> None:
    assert verdict(negative, *captions) == expected


def test_things_and_links_of_a_sentence() -> None:
    claims = read("A big red star is to the left of two rings on a grey background.")
    assert [thing.noun for thing in claims.things] == ["star", "ring", "ring", "background"]
    assert claims.things[0].properties == {"large", "red"}
    assert claims.links == {(0, "left", 1), (0, "left", 2), (SCENE, "at", 3)}
    exact = read_claims("two rings", tags("two rings"), copies=False)
    assert (len(exact.things), exact.things[0].properties) == (1, {"#2"})


def test_owner_and_owned() -> None:
    claims = read("a woman holds the man 's hat")
    nouns = [thing.noun for thing in claims.things]
    assert {(nouns[one], name, nouns[other]) for one, name, other in claims.links} == {
        ("woman", "hold", "hat"),
        ("hat", "of", "man"),
    }


@pytest.mark.parametrize(
    ("text", "known", "things", "links"),
    [
        ("a dog near a small square", "D N P D A A", {"dog": set(), "square": {"small"}}, {(0, "near", 1)}),
        ("a running dog", "D V N", {"dog": {"do:run"}}, set()),
        ("dogs running men", "N V N", {"dog": {"do:run"}, "man": set()}, {(0, "run", 1)}),
        ("a big, round plate", "D A C A N", {"plate": {"large", "round"}}, set()),
        ("a red large hoop", "D N A N", {"hoop": {"red", "large"}}, set()),
        ("a man looks toward a dog", "D N V P D N", {"man": {"do:look"}, "dog": set()}, {(0, "look toward", 1)}),
        ("a cat atop a box", "D N P D N", {"cat": set(), "box": set()}, {(0, "on", 1)}),
        ("one dog", "U N", {"dog": {"#1"}}, set()),
        ("a man has a hat", "D N X D N", {"man": set(), "hat": set()}, {(0, "with", 1)}),
        ("a dog runs", "D N N", {"dog": {"do:run"}}, set()),
        (
            "a dog | cats and men",
            "D N P N C N",
            {"dog": {"do:|"}, "cat": set(), "man": set()},
            {(0, "|", 1), (0, "|", 2)},
        ),
    ],
)
def test_phrases_and_what_stands_between_them(
    text: str, known: str, things: dict[str, set[str]], links: set[tuple[int, str, int]]
) -> None:
    claims = read_claims(text, dict(zip(split_words(text), known.split(), strict=True)), copies=False)
    assert {one.noun: one.properties for one in claims.things} == things
    assert claims.links == links


def test_new_words_take_the_place_of_old_ones() -> None:
    known = {"walks": "V", "a": "D", "dog": "N"}
    text = "a dog stands"
    assert tag_new_words("a dog walks", text, [[6, 11, 6, 12]], known)["stands"] == "V"
    assert tag_new_words("a dog walks", "a cow walks", [[2, 5, 2, 5]], known)["cow"] == "N"
    assert tag_new_words("a dog walks", "a dog walks", [], known) is known


def test_words_and_plain_text() -> None:
    assert split_words("A man\u2019s T-shirt, 8 dogs!") == ["a", "man", "\u2019s", "t-shirt", ",", "8", "dogs", "!"]
    assert content_words("The  Dog , and a cat .") == "dog and cat"
    assert content_words("") == ""


def test_clashing_words() -> None:
    assert contradicts("red", {"blue"})
    assert not contradicts("red", {"red", "blue"})
    assert not contradicts("tan", {"brown"})
    assert contradicts("large", {"small"})
    assert not contradicts("large", {"red"})
    assert contradicts("do:sit", {"do:stand"})
    assert contradicts("#2", {"#3"})


def test_kinds_of_a_graph_do_not_depend_on_what_else_is_asked() -> None:
    words = ["dog", "poodle", "sofa", "car", "boy", "apple"]
    together = word_relations(SeedGraph(), words)
    for word in words:
        alone = word_relations(SeedGraph(), [word])
        assert (alone.synonyms.get(word), alone.hypernyms.get(word)) == (
            together.synonyms.get(word),
            together.hypernyms.get(word),
        )
    assert "animal" in together.hypernyms["dog"]
    assert not together.covers("man", "boy")
    assert word_relations(None, words) == WordRelations()


ODD = [
    "",
    " ",
    ".",
    "\u2603 \U0001f600",
    "and",
    "a",
    "of of of",
    "the the",
    "no",
    "with",
    "not",
    "\x00",
    "a " * 300,
    "'s 's",
]


@pytest.mark.parametrize("text", ODD)
def test_odd_texts_are_read(text: str) -> None:
    claims = read_claims(text, {})
    world = merge_claims([claims], WordRelations())
    assert is_entailed(claims, world, WordRelations())


def test_long_texts_end_in_time() -> None:
    text = " and ".join(["a star"] * 400)
    claims = read_claims(text, tags("a star and a star"))
    other = read_claims(text + " and a ring", tags("a star and a ring"))
    assert not is_entailed(other, merge_claims([claims], WordRelations()), WordRelations())
    # A chain of stars that nothing speaks against, in a world of stars: found or given up, but soon.
    started = time.perf_counter()
    chain = read_claims(" left of ".join(["a star"] * 60), tags("a star"))
    back = read_claims("a star " + " ".join(["is right of a star"] * 40), tags("a star is right of a star"))
    is_compatible(chain, merge_claims([claims, back], WordRelations()), WordRelations())
    assert time.perf_counter() - started < 10


WORDS = [
    "a",
    "the",
    "two",
    "red",
    "big",
    "star",
    "ring",
    "dog",
    "and",
    ",",
    "left",
    "of",
    "is",
    "holds",
    "with",
    "no",
    "near",
]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=14))
def test_every_text_says_what_it_says(words: list[str]) -> None:
    known = {"red": "A", "big": "A", "star": "N", "ring": "N", "dog": "N", "holds": "V", "left": "N"}
    claims = read_claims(" ".join(words), known)
    world = merge_claims([claims], WordRelations())
    if not any(thing.denied for thing in claims.things):
        assert is_entailed(claims, world, WordRelations())
    assert all(end < len(claims.things) for link in claims.links for end in (link[0], link[2]))
