"""Where contrasts come from besides evidence on pairs: general classes, names that fill a slot, units; on known truths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest

from curation.contrasts.caption_words import Phrases, split
from curation.contrasts.general_classes import exclude, general_classes, mean_the_same
from curation.contrasts.numbers import Numbers
from curation.contrasts.open_slots import open_slots
from curation.engine.fits import Fit
from curation.sources.scenes import ScenesSource
from curation.sources.synthetic.world import COLOURS, SHAPES
from curation.stages.negatives.mine_contrasts import MineContrasts
from curation.text.languages import CaptionLanguage
from data_manifests.sample import ImageRef, Sample, image_uid
from tests.curation.listed_columns import ListedColumns
from tests.curation.negative_checks import parsed
from tests.curation.test_mine_contrasts import parse
from tests.curation.test_negative_edge_cases import ODD

TRUE_CLASSES = {
    "colours": COLOURS,
    "shapes": SHAPES,
    "sizes": ("small", "large"),
    "left or right": ("left", "right"),
    "above or below": ("above", "below"),
}


def sample_of(caption: str, tags: dict[str, str] | None = None) -> Sample:
    found = parse(caption)
    if tags:
        found["pos"] = [tags.get(word.lower(), "X") for word in found["words"]]
    return Sample(image_uid(caption.encode()), caption, ImageRef("none"), (caption,), fields={"parses": [found]})


def negatives(stage: MineContrasts, fit: Fit, one: Sample) -> list[str]:
    (row,) = stage.apply([one], fit)
    assert isinstance(row, dict)
    return [record["text"] for record in row["mined_negatives"]]


def learned(captions: Sequence[str]) -> Fit:
    return MineContrasts().fit(ListedColumns([sample_of(caption) for caption in captions]))


def contrasted(fit: Fit) -> set[frozenset[str]]:
    """Return the pairs of words that a fit exchanges for one another, by the last word of phrases such as "left of"."""
    refused = {frozenset(pair) for pair in fit.values["refused"]}
    found = set()
    for one in fit.values["classes"]:
        words = [word for word, _, _ in one["members"]]
        meaning = {word: one["meanings"].get(word, word) for word in words}
        found |= {
            frozenset(part.removeprefix("to the ").removesuffix(" of") for part in pair)
            for pair in combinations(words, 2)
            if meaning[pair[0]] != meaning[pair[1]] and frozenset(pair) not in refused
        }
    return found


@pytest.mark.parametrize(("spec", "least"), [("150@5?level=1", 0.9), ("150@5?level=2", 0.8), ("120@3", 0.7)])
def test_true_classes_of_scenes_are_found(spec: str, least: float) -> None:
    """Print which share of the grammar's pairs of a class, both said by captions, are contrasts."""
    records = list(ScenesSource(spec).records())
    plain = [Sample(image_uid(one.name.encode()), one.name, ImageRef(one.name), tuple(one.captions)) for one in records]
    samples = parsed(plain)
    pairs = contrasted(MineContrasts().fit(ListedColumns(samples)))
    said = Counter(word.text for one in samples for caption in one.captions for word in split(caption))
    shares = {}
    for name, words in TRUE_CLASSES.items():
        wanted = [frozenset(pair) for pair in combinations([word for word in words if said[word] > 2], 2)]
        if wanted:
            shares[name] = sum(pair in pairs for pair in wanted) / len(wanted)
    print(f"scenes:{spec}: true contrasts found {shares}")
    assert shares["colours"] >= least and shares["shapes"] >= least
    assert sum(shares.values()) / len(shares) >= least
    mixed = [pair for pair in pairs if len(pair & set(COLOURS)) == 1 and len(pair & set(SHAPES)) == 1]
    assert not mixed


def titles(number: int) -> Iterator[str]:
    draws = np.random.default_rng(1)
    names = [f"{first}{last}" for first in ("Mor", "Bel", "Tav", "Lun", "Kip") for last in ("ra", "don", "fex", "ily")]
    names += ["Jo & Vane", "House of Pell"]
    for _ in range(number):
        name, who = names[int(draws.integers(len(names)))], ("Men", "Women")[int(draws.integers(2))]
        colour, thing = (
            ("Red", "Blue", "Black")[int(draws.integers(3))],
            ("Shirt", "Belt", "Watch")[int(draws.integers(3))],
        )
        extra = (" Zeta", " Quick", "")[int(draws.integers(3))]
        yield f"{name} {who}{extra} {colour} {thing}"


def test_names_that_fill_a_slot_are_a_class() -> None:
    captions = list(titles(300))
    fit = learned(captions)
    (names,) = [one for one in fit.values["classes"] if "names in one place" in one["reason"]]
    members = {word for word, _, _ in names["members"]}
    assert {"morra", "tavfex", "jo & vane", "house of pell"} <= members
    assert members.isdisjoint({"men", "women", "red", "zeta", "quick"})
    texts = negatives(MineContrasts(), fit, sample_of("House of Pell Men Red Shirt"))
    assert all("Pell" in text or not text.startswith("House") for text in texts)
    assert any(text.endswith(" Men Red Shirt") for text in texts)


def test_no_slot_where_two_fillers_come_together() -> None:
    words = ["ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru"]
    captions = [["see", one, "here", "see", other, "here"] for one, other in pairwise(words * 30)]
    assert open_slots(captions, {}, frozenset()) == []
    alone = [["see", one, "here"] for one in words * 30]
    (slot,) = open_slots(alone, {}, frozenset())
    assert set(slot.fillers) == set(words)


def test_few_captions_use_general_classes() -> None:
    fit = learned(
        [
            *(f"{scan} of the {side} {organ} {letter}" for scan in ("CT", "MRI") for side in ("left", "right")
              for organ in ("lung", "kidney") for letter in "ab"),
            "TOE of the heart", "a toe", "a finger",
        ]
    )  # fmt: skip
    texts = negatives(MineContrasts(), fit, sample_of("CT of the left kidney a"))
    assert {"MRI of the left kidney a", "CT of the right kidney a", "CT of the left lung a"} <= set(texts)
    assert negatives(MineContrasts(), fit, sample_of("TOE")) == []
    assert negatives(MineContrasts(), fit, sample_of("no left kidney")) == []
    assert negatives(MineContrasts(), fit, sample_of("the stairs were left by him", {"left": "VERB"})) == []


def test_what_is_fixed_to_a_neighbour_stays() -> None:
    fit = learned(["soft tissue of the leg"] * 4 + ["a hard bed", "a soft bed", "a hard chair", "a soft chair"])
    assert not any("hard tissue" in text for text in negatives(MineContrasts(), fit, sample_of("soft tissue")))
    assert "a hard bed" in negatives(MineContrasts(), fit, sample_of("a soft bed"))


def test_numbers_of_units_and_nothing_else() -> None:
    fit = learned(
        [f"a {size} mm stone , model {size}" for size in (3, 4, 5, 6)] + ["a 30-year-old man", "a 41-year-old man"]
    )
    assert negatives(MineContrasts(), fit, sample_of("a 30-year-old man"))[0] == "a 41-year-old man"
    texts = negatives(MineContrasts(), fit, sample_of("a 3 mm stone , model 3"))
    assert texts and all(text.endswith("model 3") for text in texts)


def test_numbers_that_only_look_alike_are_near() -> None:
    of_unit = Numbers(
        {"week": [["33", 3], ["34", 2]], "degree": [["21", 5], ["25", 1], ["36", 2], ["59", 4], ["90", 1]]}
    )
    words = split("at 33 weeks of 21 degrees".replace("weeks", "week").replace("degrees", "degree"))
    (weeks,) = of_unit.of(words, 1)
    assert set(weeks.words) == {"34", "25", "36"}  # 33 weeks may be 25 or 36, not 59 or 90
    (degrees,) = of_unit.of(words, 4)
    assert {"59", "90"} < set(degrees.words)  # seen with the unit


def test_the_first_word_of_a_sentence_owes_its_capital_to_that() -> None:
    texts = [f"A {colour} cup. {first} one. An {scan} of it" for colour, first, scan in zip(
        ("red", "green", "blue") * 4, ("Grey", "Red", "Brown") * 4, ("ERCP", "MRI", "CT") * 4, strict=True
    )]  # fmt: skip
    written = {word: form for one in learned(texts).values["classes"] for word, _, form in one["members"]}
    assert written["grey"] == "grey" and written["brown"] == "brown" and written.get("ct", "CT") == "CT"


def test_a_noun_before_a_function_word_is_no_adjective() -> None:
    fit = learned(["an upper window", "a lower window", "a middle window", "the middle of it"] * 5)
    tags = {"middle": "NOUN", "window": "NOUN"}
    assert negatives(MineContrasts(), fit, sample_of("a river in the middle while we look", tags)) == []
    assert negatives(MineContrasts(), fit, sample_of("the middle window", tags)) != []


@pytest.mark.parametrize("tag", ["ADJ", "ADV"])
def test_what_is_no_verb_is_not_exchanged_as_one(tag: str) -> None:
    fit = learned(["they open the gate", "they close the gate", "a tree is close to the gate"] * 4)
    assert "they open the gate" in negatives(MineContrasts(), fit, sample_of("they close the gate", {"close": "VERB"}))
    near = negatives(MineContrasts(), fit, sample_of("a tree is close to the gate", {"close": tag}))
    assert not any("open" in text for text in near)


def test_cars_exclude_other_vehicles() -> None:
    fit = learned(["many cars in a row", "many planes in a row", "many boats in a row"] * 3)
    assert "many boats in a row" in negatives(MineContrasts(), fit, sample_of("many cars in a row"))


def test_general_classes_are_english_only() -> None:
    samples = [sample_of(caption) for caption in ("ein Mann mit Hand und Arm", "a red arm", "a blue hand")]
    fit = MineContrasts(language=CaptionLanguage("de")).fit(ListedColumns(samples))
    assert fit.values["classes"] == []


def test_the_word_list() -> None:
    assert exclude("left", "right") and exclude("lungs", "kidneys") and exclude("walking", "running")
    assert mean_the_same("ct", "computed tomography") and not exclude("ct", "computed tomography")
    assert not exclude("left", "kidney")
    for one in general_classes():
        assert len(set(one.meanings.values())) > 1, one.name
        assert all(word == word.lower() and len(word.split()) <= 4 for word in one.meanings)


@pytest.mark.parametrize("caption", ODD)
def test_phrases_of_any_caption(caption: str) -> None:
    words: list[Any] = [word.text for word in split(caption)]
    found = Phrases([*words, *(f"{one} {other}" for one, other in pairwise(words))]).split(caption)
    assert " ".join(word.text for word in found) == " ".join(words)
