"""Replaced words: grammar kept, opposites and kin only, context minded."""

from __future__ import annotations

import pytest

from curation.knowledge.open_graph import SeedGraph
from curation.stages.negatives.replace_words import ReplaceWords
from curation.text.lexicon import canonical_noun
from curation.text.word_families import ACTIONS, ATTRIBUTES, OBJECTS
from data_manifests.errors import InputError
from tests.curation.negative_checks import every_text, made, parsed, sample, texts


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A dog runs on the beach .", "A cat runs on the beach ."),
        ("Two dogs are sleeping .", "Two rabbits are sleeping ."),
        ("An old man smiles .", "A young man smiles ."),
        ("A young woman smiles .", "An old woman smiles ."),
        ("Two men sit on a bench .", "Two women sit on a bench ."),
        ("The children sing .", "The men sing ."),
        ("A man eats an apple .", "A man eats a pear ."),
        ("A man eats a pear .", "A man eats an apple ."),
        ("A DOG SLEEPS", "A CAT SLEEPS"),
        ("A man is walking his dog .", "A woman is walking her dog ."),
        ("A boy is throwing a ball .", "A boy is kicking a ball ."),
        ("A boy threw a ball .", "A boy caught a ball ."),
        ("The girl wears a red hat .", "The girl wears a blue hat ."),
        ("The girl wears a red hat .", "The girl holds a red hat ."),
        ("A man playing a guitar", "A man repairing a guitar"),
        ("A cat sits on a bench .", "A cat sits under a bench ."),
        ("A soccer player waves .", "A tennis player waves ."),
        ("a red star", "a red circle"),
        # opposites of position, kind and course
        ("MRI showing a lesion in the left kidney.", "MRI showing a lesion in the right kidney."),
        ("Fracture of the lower end of the femur.", "Fracture of the upper end of the femur."),
        ("An axial image shows a malignant lesion.", "A coronal image shows a malignant lesion."),
        ("An axial image shows a malignant lesion.", "An axial image shows a benign lesion."),
        # titles, whose nouns are tagged as names
        ("Skechers Men's Brown Casual Lifestyle Shoe", "Skechers Women's Brown Casual Lifestyle Shoe"),
        ("Playboy Men Jack Green Brief", "Playboy Women Jack Green Brief"),
        ("Elle Girls Red Tunic", "Elle Boys Red Tunic"),
        ("Nike Unisex Cheyenne Blue Backpack", "Nike Unisex Cheyenne Blue Suitcase"),
        # figures, not parts of a body
        ("A red heart above a square", "A red star above a square"),
        ("A disc on a board", "A cross on a board"),
        # a negation in another sentence
        ("The left lung shows a mass. No fluid is seen.", "The right lung shows a mass. No fluid is seen."),
        ("No fluid is seen. The left lung shows a mass.", "No fluid is seen. The right lung shows a mass."),
    ],
)
def test_replaces(caption: str, expected: str) -> None:
    assert expected in every_text(ReplaceWords, caption)


@pytest.mark.parametrize(
    ("caption", "word"),
    [
        ("A hot dog on a plate", "hot cat"),
        ("A man in a T-shirt", "T-"),
        ("A brown dog", "purple"),
        ("A green lawn", "purple"),
        ("A man rides a dirt bike .", "dirt motorcycle"),
        ("A man sitting down", "lying down"),
        ("A boy looks at him .", "girl"),
        ("A woman waves to him with her hand .", "man waves to him with his hand"),
        ("A dog swims in the water .", "snow"),
        ("A pregnant woman", "man"),
        ("A bowl of apples", "bottle of apple "),
        ("A lateral view of the chest", "medial"),
        ("A dilated small bowel loop", "big bowel"),
        ("Puma Women Bra Top", "Men"),
        ("The old man has no hat. He smiles.", "young"),
        ("A red bus with no windows", "blue"),
        ("The intervertebral disc is narrow", "intervertebral cross"),
        ("The heart is seen behind the lung", "star is seen"),
        ("Two houses on the other hand", "ear"),
    ],
)
def test_leaves_alone(caption: str, word: str) -> None:
    changed = {text for text in every_text(ReplaceWords, caption) if word in text}
    if word == "T-":
        assert all("T-shirt" in text for text in every_text(ReplaceWords, caption))
    elif word == "man":
        assert not any(" man" in text for text in changed)
    else:
        assert not changed


def test_types_come_in_turn() -> None:
    (one,) = parsed([sample("A young man in a red hat holds a camera on a bench .")])
    assert {record["type"] for record in made(ReplaceWords(), one)} == {"object", "attribute", "action", "relation"}


def test_a_word_may_have_several_negatives_each_word_once_before_any_twice() -> None:
    (caption,) = parsed([sample("A brown dog runs on the beach near a small red boat")])
    once, more = (made(ReplaceWords(per_caption=30, per_slot=number), caption) for number in (1, 3))
    assert len(once) >= 4
    assert more[: len(once)] == once
    assert len(more) > len(once) + 4
    of_place: dict[int, int] = {}
    for record in more:
        place = record["tokens"][0][0]
        of_place[place] = of_place.get(place, 0) + 1
    assert max(of_place.values()) == 3
    assert len({record["text"] for record in more}) == len(more)
    assert made(ReplaceWords(per_caption=len(once), per_slot=3), caption) == once


def test_no_family_offers_what_means_the_same() -> None:
    for family in (*OBJECTS, *ATTRIBUTES, *ACTIONS):
        for word, rivals in family.rivals.items():
            assert word not in rivals
            assert rivals, (family.name, word)
            if family in OBJECTS:
                assert canonical_noun(word) not in {canonical_noun(rival) for rival in rivals}, (family.name, word)


def test_a_graph_gives_what_no_family_knows() -> None:
    captions = [
        "A parrot on a roof .",
        "A violet on a lawn .",
        "A cricket player eats a cherry .",
        "A moth and a bee .",
    ]
    samples = parsed([sample(caption) for caption in captions])
    plain = [record for one in samples for record in made(ReplaceWords(), one)]
    told = [record for one in samples for record in made(ReplaceWords(graph=SeedGraph()), one)]
    edges = [record["rule"] for record in told if not record["rule"].startswith("replace ")]
    assert len(told) > len(plain)
    assert edges
    assert all("IsA" in edge for edge in edges)
    assert ReplaceWords(graph=SeedGraph()).fingerprint() != ReplaceWords().fingerprint()


@pytest.mark.parametrize("caption", ["A star is on the left of a ring .", "A cat is to the right of a parrot ."])
def test_a_side_is_no_thing(caption: str) -> None:
    (one,) = parsed([sample(caption)])
    assert {"left", "right"}.isdisjoint(
        word
        for record in made(ReplaceWords(graph=SeedGraph(), per_caption=99), one)
        for start, end, *_ in record["edits"]
        for word in caption[start:end].split()
    )


def test_captions_of_the_image_are_no_negatives() -> None:
    stage = ReplaceWords(per_caption=1)
    assert "A girl ." not in {
        text for seed in range(20) for text in texts(ReplaceWords(seed=seed), "A boy .", "a  girl .")
    }
    assert len(texts(stage, "A young man in a red hat holds a camera .")) == 1


def test_settings_are_checked() -> None:
    with pytest.raises(InputError, match="per_slot is 0"):
        ReplaceWords(per_slot=0)
    with pytest.raises(InputError, match="per_caption is 0"):
        ReplaceWords(per_caption=0)
