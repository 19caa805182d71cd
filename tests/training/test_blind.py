"""Judges that do not look, and the scorer of tests of texts against a literal loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_manifests.errors import InputError
from flows.evaluation.blind import ngram_gaps, read_blind_texts, with_blind_judges
from training.evaluate.benchmark_result import BenchmarkResult
from training.evaluate.blind import (
    Case,
    ReferenceTexts,
    add_blind_accuracy,
    gap_accuracy,
    length_gaps,
    text_encoder_gaps,
    true_texts,
)
from training.evaluate.foils import CaseCounts, count_cases, foil_accuracy, rare_categories


def make_cases(num: int, seed: int = 0) -> list[Case]:
    rng = np.random.default_rng(seed)
    made = []
    for number in range(num):
        right = tuple(f"right {number} {place}" for place in range(rng.integers(1, 3)))
        wrong = tuple(f"wrong {number} {place}" for place in range(rng.integers(1, 4)))
        made.append(Case(str(number), f"{number % 5}.jpg", "abc"[number % 3], right, wrong))
    return made


def embeddings(texts: Sequence[str]) -> Any:
    """Return a unit vector for each text, drawn by the text itself; some texts are exactly alike."""
    rows = [np.random.default_rng(sum(text.encode()) % 12).standard_normal(6) for text in texts]
    made = np.array(rows, dtype=np.float32).reshape(len(texts), 6)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_scorer_equals_the_literal_loop_to_the_last_digit(seed: int) -> None:
    cases = [*make_cases(80, seed), Case("tie", "0.jpg", "a", ("the same",), ("the same", "the same"))]
    image = embeddings([f"image {case.image}" for case in cases])
    right: list[float] = []
    ties = 0  # of the lowest right text with the highest wrong one
    for case, own in zip(cases, image, strict=True):
        score = {
            text: sum(float(a) * float(b) for a, b in zip(own, embeddings([text])[0], strict=True))
            for text in (*case.right, *case.wrong)
        }
        lowest, highest = min(score[text] for text in case.right), max(score[text] for text in case.wrong)
        right.append(float(lowest > highest))
        ties += lowest == highest
    result = foil_accuracy(embeddings, cases, image)
    assert result.metrics["micro_accuracy"] == sum(right) / len(right)
    assert result.metrics["num_ties"] == ties >= 1
    of = {name: [hit for case, hit in zip(cases, right, strict=True) if case.category == name] for name in "abc"}
    assert result.metrics["accuracy"] == np.mean([np.mean(hits) for hits in of.values()])
    for name, hits in of.items():
        assert result.cases[f"categories.{name}.accuracy"].values.tolist() == hits


def test_what_is_missing_is_told() -> None:
    cases = make_cases(9)
    tally = count_cases(cases, np.array([case.category != "c" for case in cases]))
    assert tally == CaseCounts({"a": 3, "b": 3, "c": 3}, {"a": 0, "b": 0, "c": 3})
    left = [case for case in cases if case.category != "c"]
    result = foil_accuracy(embeddings, left, embeddings([case.image for case in left]), tally)
    assert result.metrics["categories"]["c"] == {"num_cases": 0, "num_ties": 0, "num_listed": 3, "num_missing": 3}
    assert (result.metrics["num_cases"], result.metrics["num_listed"], result.metrics["num_missing"]) == (6, 9, 3)
    assert set(result.means["accuracy"]) == {"categories.a.accuracy", "categories.b.accuracy"}
    with pytest.raises(InputError, match="no case"):
        foil_accuracy(embeddings, [], np.zeros((0, 6), dtype=np.float32))


def test_rare_categories_are_no_part_of_the_mean() -> None:
    cases = [*make_cases(30), Case("x", "x.jpg", "rare", ("right",), ("wrong",))]
    image = embeddings([case.image for case in cases])
    result = foil_accuracy(embeddings, cases, image, CaseCounts(outside_mean=rare_categories(cases, 5)))
    assert "categories.rare.accuracy" in result.cases
    assert "categories.rare.accuracy" not in result.means["accuracy"]
    judged = add_blind_accuracy(result, "categories", cases, {"length": length_gaps(cases)})
    assert len(judged.means["blind_length"]) == 3
    assert rare_categories(cases, 99) == {"a", "b", "c", "rare"}
    alone = foil_accuracy(embeddings, cases, image, CaseCounts(outside_mean=rare_categories(cases, 99)))
    assert len(alone.means["accuracy"]) == 4


def test_fluency_is_learned_from_other_images_alone() -> None:
    texts = [
        f"a {size} dog runs on the {place}" for size in ("big", "small", "old") for place in ("sand", "grass", "road")
    ]
    cases = [
        Case(str(number), f"{number}.jpg", "order", (text,), (" ".join(text.split()[::-1]),))
        for number, text in enumerate(texts)
    ]
    gaps = ngram_gaps(cases, ReferenceTexts(true_texts(cases)))
    assert (gaps > 0).all()
    # of its own image alone a judge learns nothing, so that it cannot tell
    same = [Case(str(number), "one.jpg", "order", one.right, one.wrong) for number, one in enumerate(cases)]
    assert not ngram_gaps(same, ReferenceTexts(true_texts(same))).any()
    backwards = ReferenceTexts(given=tuple(case.wrong[0] for case in cases))
    assert (ngram_gaps(cases, backwards) < 0).all()


def test_length_and_text_tower() -> None:
    cases = [
        Case("0", "0.jpg", "a", ("two words",), ("three words here",)),
        Case("1", "1.jpg", "a", ("two words",), ("other words", "one")),
        Case("2", "2.jpg", "a", ("two words",), ("other words",)),
    ]
    assert length_gaps(cases).tolist() == [1.0, -1.0, 0.0]
    assert gap_accuracy(length_gaps(cases)).tolist() == [1.0, 0.0, 0.5]
    reading = ReferenceTexts(given=("caption one", "caption two"))
    mean = embeddings(["caption one", "caption two"]).astype(np.float64).mean(axis=0)
    expected = [
        min(float(mean @ embeddings([text])[0]) for text in case.right)
        - max(float(mean @ embeddings([text])[0]) for text in case.wrong)
        for case in cases
    ]
    assert text_encoder_gaps(embeddings, cases, reading).tolist() == pytest.approx(expected)
    assert not text_encoder_gaps(embeddings, cases, ReferenceTexts()).any()


def test_judges_stand_beside_the_model() -> None:
    cases = make_cases(12)
    found = with_blind_judges(embeddings, BenchmarkResult({}), "categories", cases, ReferenceTexts(true_texts(cases)))
    assert set(found.metrics["categories"]) == {"a", "b", "c"}
    for judge in ("ngram", "length", "text_tower"):
        parts = [found.metrics["categories"][name][f"blind_{judge}"] for name in "abc"]
        assert found.metrics[f"blind_{judge}"] == pytest.approx(np.mean(parts))
        assert found.cases[f"categories.a.blind_{judge}"].values.mean() == parts[0]


def test_given_texts(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a dog\n\n a cat \n")
    assert read_blind_texts(str(tmp_path / "texts.txt")) == ("a dog", "a cat")
    assert len(read_blind_texts("scenes:3@1")) > 3
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(InputError, match="no text"):
        read_blind_texts(str(tmp_path / "none.txt"))
    with pytest.raises(InputError, match="source"):
        read_blind_texts(str(tmp_path / "nowhere.txt"))
