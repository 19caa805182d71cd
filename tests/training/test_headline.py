"""A test of texts is a headline only if it has enough cases and no judge without the image knows its answers."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluate.benchmark_result import BenchmarkResult
from training.evaluate.blind import Case, ReferenceTexts, add_blind_accuracy
from training.evaluate.foils import chance
from training.evaluate.headline import MIN_CASES, mark_headline


def result_of(num: int, right: float, num_right_texts: int = 1) -> BenchmarkResult:
    """Return a result of `num` cases of which the length judge has a share right; the other judges cannot tell."""
    cases = [Case(str(at), f"i{at}", "kind", ("a",) * num_right_texts, ("b",)) for at in range(num)]
    length = np.where(np.arange(num) < right * num, 1.0, -1.0)
    gaps = {"ngram": np.zeros(num), "length": length, "text_tower": np.zeros(num)}
    return add_blind_accuracy(BenchmarkResult({"chance": chance(cases)}), "categories", cases, gaps)


def test_a_fair_test_is_a_headline() -> None:
    metrics = mark_headline(result_of(MIN_CASES, 0.53)).metrics
    assert metrics["headline"] is True
    assert "no_headline" not in metrics
    length = metrics["judges"]["length"]
    assert length["accuracy"] == pytest.approx(0.53)
    assert length["low"] < length["accuracy"] < length["high"]


@pytest.mark.parametrize(
    ("num", "right", "texts", "reason"),
    [
        (MIN_CASES - 1, 0.5, 1, "it has 299 cases, fewer than 300"),
        (400, 0.6, 1, "without the image, taking the shorter text reaches 60.0 %"),
        (400, 0.3, 1, "without the image, the opposite of taking the shorter text reaches 70.0 %"),
        (400, 0.6, 2, "taking the shorter text reaches 60.0 %"),
    ],
)
def test_what_gives_itself_away_is_none(num: int, right: float, texts: int, reason: str) -> None:
    metrics = mark_headline(result_of(num, right, texts)).metrics
    assert metrics["headline"] is False
    assert reason in metrics["no_headline"]


def test_few_right_answers_say_nothing_where_guessing_reaches_a_third() -> None:
    assert mark_headline(result_of(400, 0.2, 2)).metrics["headline"] is True


def test_a_result_without_judges_stays_as_it_is() -> None:
    result = BenchmarkResult({"top1": 0.5})
    assert mark_headline(result) is result


def test_a_judge_of_a_group_learns_from_none_of_its_images() -> None:
    own = tuple((f"i{at}", f"text {at}") for at in range(40))
    cases = [
        Case(f"{at}", f"i{image}", "kind", ("a",), ("b",), f"g{at}")
        for at in range(10)
        for image in (2 * at, 2 * at + 1)
    ]
    halves = ReferenceTexts(own).by_half(cases)
    assert sorted(int(row) for rows, _ in halves for row in rows) == list(range(20))
    for rows, texts in halves:
        groups = {cases[row].group for row in rows}
        assert len(groups) == len(rows) / 2
        assert {case.image for case in cases if case.group in groups}.isdisjoint(
            f"i{text.split()[1]}" for text in texts
        )
        assert len(texts) > len(rows)
