"""Foils made of people's captions: near pairs against a slow search, contradictions, both ways, kept files, and the split
of generators between training and test."""

from __future__ import annotations

import dataclasses
import itertools
import random
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from PIL import Image

from curation.models.parser import SpacyParser
from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from data_manifests.sample import ImageRef, Sample
from flows.evaluation.foils import near_captions
from flows.evaluation.foils.contradiction import CaptionChecker, read_caption
from flows.evaluation.foils.draw import MAX_USES, draw_foil_test, kept_foil_test, load_foil_test, save_foil_test
from flows.evaluation.foils.near_captions import near_pairs, read_words
from flows.evaluation.foils.parts import without_phrase
from flows.evaluation.interface import EvalOptions
from flows.evaluation.registry import open_benchmark
from flows.evaluation.run import run_evaluation
from flows.recipe import RecipeInputs, load_recipe
from flows.recipe_finding import own_recipe_names
from training.model.spec import ModelSpec

pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny'")
ROOT = Path(__file__).resolve().parents[2]

CAPTIONS = (
    ("A black dog runs through the snow .", "A dog in deep snow ."),
    ("The black dog runs through tall grass .", "A dog in the grass ."),
    ("A black dog runs through a house .", "A dog indoors in a house ."),
    ("Two boys play on a red slide .", "Two boys on a slide ."),
    ("Two boys play on a wooden boat .", "Two boys in a boat ."),
    ("A man holds a white cup .", "A man with a white cup ."),
    ("A man holds a white guitar .", "A man with a guitar ."),
    ("Something else altogether", "Nothing like the others here"),
)


def samples_of(captions: Any) -> list[Sample]:
    return [
        Sample(f"{number:032x}", "x", ImageRef("/none"), tuple(texts), None, {}, {})
        for number, texts in enumerate(captions)
    ]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foils") / "photos"
    folder.mkdir()
    lines = []
    for number, captions in enumerate(CAPTIONS):
        Image.new("RGB", (72, 72), (30 * number, 90, 200)).save(folder / f"{number}.png")
        lines.append(orjson.dumps({"file": f"{number}.png", "captions": list(captions)}))
    (folder / "captions.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    return folder


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> EvalOptions:
    folder = tmp_path_factory.mktemp("foils_w")
    return EvalOptions(Catalog(folder, folder))


def slow_pairs(captions: list[tuple[str, ...]], photographs: list[int]) -> set[tuple[int, int]]:
    """All pairs that share the words before and after one span each, found by trying every span."""
    found = set()
    for (one, words), (other, others) in itertools.combinations(enumerate(captions), 2):
        for size, other_size in itertools.product(range(1, near_captions.MAX_SPAN + 1), repeat=2):
            kept = len(words) - size
            if photographs[one] == photographs[other] or kept != len(others) - other_size:
                continue
            if kept < max(near_captions.MIN_KEPT, size, other_size) or sorted(words) == sorted(others):
                continue
            for start in range(kept + 1):
                span, other_span = words[start : start + size], others[start : start + other_size]
                around = words[:start] + words[start + size :] == others[:start] + others[start + other_size :]
                if (
                    around
                    and words[:start] == others[:start]
                    and span[0] != other_span[0]
                    and span[-1] != other_span[-1]
                ):
                    found.add((one, other))
    return found


@pytest.mark.parametrize("entries", [1 << 22, 200])
def test_near_pairs_are_those_of_a_slow_search(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_captions, "ENTRIES_AT_ONCE", entries)
    rng = random.Random(3)
    captions = [tuple(rng.choice("abc") for _ in range(rng.randint(2, 8))) for _ in range(60)]
    photographs = [number // 3 for number in range(len(captions))]
    pairs = [pair for pair in near_pairs(captions, photographs, [0] * len(captions)) if not pair.exchanged]
    found = [(pair.one, pair.other) for pair in pairs]
    assert len(set(found)) == len(found)
    assert set(found) == slow_pairs(captions, photographs)
    assert len(found) > 20
    for pair in pairs:
        one, other = captions[pair.one], captions[pair.other]
        assert one[: pair.span[0]] + one[pair.span[1] :] == other[: pair.span[0]] + other[pair.other_span[1] :]


def test_an_exchange_is_found_and_another_order_is_not() -> None:
    captions = [
        read_words(text).words
        for text in ("A dog chases the small cat", "the small cat chases a dog", "cat a dog small chases")
    ]
    (pair,) = near_pairs(captions, [0, 1, 2], [0, 0, 0])
    assert (pair.one, pair.other, pair.exchanged, pair.span) == (0, 1, True, (0, 4))


def test_of_many_captions_those_with_the_lowest_rank_are_compared() -> None:
    captions = [("x", "y", "z", f"w{number}") for number in range(200)]
    pairs = list(near_pairs(captions, list(range(200)), list(range(200, 0, -1))))
    assert {pair.one for pair in pairs} | {pair.other for pair in pairs} == set(
        range(200 - near_captions.MAX_GROUP, 200)
    )


def checker_of(*photographs: tuple[str, ...]) -> CaptionChecker:
    parser = SpacyParser()
    return CaptionChecker(
        {
            f"p{number}": [read_caption(text, parse) for text, parse in zip(texts, parser.parse(texts), strict=True)]
            for number, texts in enumerate(photographs)
        }
    )


def refusal(checker: CaptionChecker, text: str, span: str) -> str:
    (parse,) = SpacyParser().parse([text])
    return checker.refusal("p0", read_caption(text, parse), span.split(), exchanged=False)


def test_what_the_captions_do_not_contradict_is_refused() -> None:
    own = ("A black dog runs through the snow", "A dog near a wooden fence")
    together = ("a man walks along the shore", "a man by the water")
    checker = checker_of(own, *[together] * 4, *[("a cat sleeps", "a cat on a mat")] * 20)
    assert refusal(checker, "A black dog runs through the grass", "grass") == ""
    assert refusal(checker, "A white dog runs through the snow", "white") == ""
    assert refusal(checker, "An animal runs through the snow", "animal") == "compatible"
    assert refusal(checker, "A black dog runs along the fence", "along the fence") == "mentioned"
    water = checker_of(
        ("a dog runs by the water", "a wet dog"), *[together] * 4, *[("a cat sleeps", "a cat on a mat")] * 20
    )
    assert refusal(water, "a dog runs along the shore", "along shore") == "same_thing"
    assert refusal(checker, "a dog runs along the shore", "along shore") == ""


def test_spans_that_answer_different_questions_are_no_pair() -> None:
    texts = (
        "A brown dog is wearing a collar",
        "A brown dog is on the steps",
        "A brown dog is on a couch",
        "A brown dog is near steps",
    )
    checker = checker_of(texts)
    read = [read_caption(text, parse) for text, parse in zip(texts, SpacyParser().parse(texts), strict=True)]
    assert checker.category(read[0], ["wearing", "collar"], read[1], ["on", "steps"]) == ""
    assert checker.category(read[1], ["on", "steps"], read[2], ["on", "couch"]) == "prepositional_phrase"
    assert checker.category(read[1], ["steps"], read[2], ["couch"]) == "noun"
    assert checker.category(read[1], ["on"], read[3], ["near"]) == ""


@pytest.mark.parametrize(
    ("caption", "phrase", "rest"),
    [
        ("A dog runs through the snow .", "snow", "A dog runs ."),
        ("An orange dog runs through the snow .", "orange", "A dog runs through the snow ."),
        ("A black dog jumps over a fence .", "jumps over", "A black dog"),
        ("A group of people in a park .", "people", ""),
        ("A dog runs .", "dog", ""),
    ],
)
def test_a_part_is_the_caption_without_one_phrase(caption: str, phrase: str, rest: str) -> None:
    (parse,) = SpacyParser().parse([caption])
    start = caption.index(phrase)
    assert without_phrase(caption, parse, (start, start + len(phrase))) == rest


def test_pairs_are_captions_of_people_and_false_both_ways() -> None:
    samples = samples_of(CAPTIONS)
    test = draw_foil_test(samples)
    captions = {sample.uid: sample.captions for sample in samples}
    drawn = {frozenset((pair.one.text, pair.other.text)) for pair in test.pairs}
    assert frozenset((CAPTIONS[0][0], CAPTIONS[1][0])) in drawn
    assert frozenset((CAPTIONS[5][0], CAPTIONS[6][0])) in drawn
    for pair in test.pairs:
        for side in (pair.one, pair.other):
            assert captions[side.image][side.caption] == side.text
            assert side.also in captions[side.image]
            assert side.also != side.text
            assert set(read_words(side.part).words) <= set(read_words(side.text).words)
        assert read_words(pair.one.part).words == read_words(pair.other.part).words
    assert draw_foil_test(samples) == test


def test_one_caption_is_in_few_pairs() -> None:
    places = "snow kitchen desert office tunnel library garage market stadium church"
    captions = [(f"A black dog runs through the {place} .", f"A dog in the {place} .") for place in places.split()]
    test = draw_foil_test(samples_of(captions))
    uses = [
        sum(number in (pair.one.image, pair.other.image) for pair in test.pairs)
        for number in {p.one.image for p in test.pairs}
    ]
    assert max(uses) == MAX_USES
    assert test.refused["caption_used_often"] > 0


def test_a_test_is_drawn_once_and_kept(tmp_path: Path) -> None:
    samples = samples_of(CAPTIONS)
    test = kept_foil_test(samples, tmp_path)
    (kept,) = (tmp_path / "benchmarks").glob("foils-*.json")
    before = kept.read_bytes()
    kept.unlink()
    assert kept_foil_test(samples, tmp_path) == test
    assert kept.read_bytes() == before
    save_foil_test(kept, test)
    assert kept.read_bytes() == before
    for damaged, message in (
        ('{"format": "clipcurate/foils-test/1"}', "not a test of foils"),
        ('{"format": "other"}', "'other'"),
    ):
        kept.write_text(damaged)
        with pytest.raises(InputError, match=message):
            load_foil_test(kept)


def test_a_source_without_a_pair_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="4 captions give no test: of 0 pairs"):
        kept_foil_test(samples_of([("one thing here now", "a b"), ("quite another matter", "c d")]), tmp_path)
    with pytest.raises(InputError, match=r"of 1 pairs.*1 compatible"):
        kept_foil_test(samples_of([("A black dog runs outside",), ("A black animal runs outside",)]), tmp_path)


@pytest.mark.parametrize("kind", ["foils", "half_truths", "paraphrase"])
def test_text_alone_is_right_at_most_once_in_a_pair(kind: str, photos: Path, options: EvalOptions) -> None:
    opened: Any = open_benchmark(f"{kind}:folder:{photos}", options)
    cases = opened.cases()
    groups = {case.group: [other for other in cases if other.group == case.group] for case in cases}
    assert groups
    rng = np.random.default_rng(0)
    for _ in range(20):
        score: dict[str, float] = {}
        for text in sorted({text for case in cases for text in (*case.right, *case.wrong)}):
            score[text] = float(rng.random())
        for pair in groups.values():
            one, other = pair
            assert one.image != other.image
            assert one.right[0] == other.wrong[0]
            assert other.right[0] == one.wrong[0]
            right = [min(score[text] for text in case.right) > score[case.wrong[0]] for case in pair]
            assert sum(right) == 1 if kind == "foils" else sum(right) <= 1


def test_numbers_judges_and_the_mark(photos: Path, options: EvalOptions) -> None:
    on = [f"{kind}:folder:{photos}" for kind in ("foils", "half_truths", "paraphrase")]
    foils, halves, both = (found.metrics for found in run_evaluation("tiny", on, options))
    assert [metrics["chance"] for metrics in (foils, halves, both)] == pytest.approx([1 / 2, 1 / 3, 1 / 3])
    for metrics in (foils, halves, both):
        assert metrics["headline"] is False
        assert metrics["no_headline"].startswith(f"it has {metrics['num_cases']} cases, fewer than 300")
        assert set(metrics["judges"]) == {"ngram", "length", "text_tower"}
    assert [foils[f"blind_{judge}"] for judge in foils["judges"]] == [0.5, 0.5, 0.5]
    assert foils["both_ways"] <= foils["accuracy"]
    assert 0 <= both["tot_accuracy"] <= 1


def test_both_ways_is_the_share_of_pairs_with_both_right(photos: Path, options: EvalOptions) -> None:
    opened: Any = open_benchmark(f"foils:folder:{photos}", options)
    result = opened.run(ModelSpec.parse("tiny").load(), lambda *_: None)
    correct = dict(zip([case.id for case in opened.cases()], result.cases["micro_accuracy"].values, strict=True))
    groups = {
        case.group: [correct[other.id] for other in opened.cases() if other.group == case.group]
        for case in opened.cases()
    }
    assert result.cases["both_ways"].ids == tuple(groups)
    assert result.metrics["both_ways"] == np.mean([min(of_group) for of_group in groups.values()])


def test_nothing_that_makes_training_negatives_makes_a_test() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (contract,) = [found for found in contracts if found.get("source_modules") == ["flows.evaluation.foils"]]
    forbidden = tuple(contract["forbidden_modules"])
    assert "allow_indirect_imports" not in contract
    inputs = RecipeInputs(model="tiny", masked_model="some/model")
    makers = {
        type(stage).__module__
        for name in own_recipe_names()
        for stage in load_recipe(name, inputs).stages
        if any(field.role == "negatives" for field in stage.provides)
    }
    assert len(makers) > 5
    assert all(module.startswith(forbidden) for module in makers)
    code = (
        "import sys, flows.evaluation.benchmarks.foils, flows.evaluation.benchmarks.half_truths, flows.evaluation.benchmarks.paraphrase;"
        "print(*sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    assert "flows.evaluation.foils.draw" in found
    assert not [name for name in found if name.startswith(forbidden)]


def test_a_kind_whose_texts_no_pair_has_says_so(tmp_path: Path) -> None:
    captions = ("A man holds a white cup .", "A man holds a white guitar .")
    lines = []
    for number, caption in enumerate(captions):
        Image.new("RGB", (72, 72), (90 * number, 90, 200)).save(tmp_path / f"{number}.png")
        lines.append(orjson.dumps({"file": f"{number}.png", "captions": [caption]}))
    (tmp_path / "captions.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    options = EvalOptions(Catalog(tmp_path / "w", tmp_path / "w"))
    opened: Any = open_benchmark(f"paraphrase:folder:{tmp_path}", options)
    with pytest.raises(InputError, match=r"none of 1 pairs .* has the texts that it takes"):
        opened.cases()
    foils: Any = open_benchmark(f"foils:folder:{tmp_path}", options)
    assert len(foils.cases()) == 2


def test_guessing_the_order_of_words_is_right_in_a_fifth(photos: Path, options: EvalOptions) -> None:
    (order,) = run_evaluation("tiny", [f"order:folder:{photos}"], dataclasses.replace(options, blind=True))
    assert 0.2 <= order.metrics["chance"] < 0.5
    assert "opposite" not in order.metrics["no_headline"]
