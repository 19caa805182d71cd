"""Intervals and paired tests: against literal loops, against truth that is known, and what they refuse."""

from __future__ import annotations

import itertools
import math
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from data_manifests.errors import InputError
from training.evaluate.benchmark_result import BenchmarkResult, CaseValues, load_cases, save_cases
from training.evaluate.confidence import Bootstrap, Interval, PairedDifference, Parts, mcnemar, parts_of


def interval(runs: Sequence[Parts], **options: Any) -> Interval:
    return Bootstrap([runs], **options).interval(0)


def difference(new: Sequence[Parts], old: Sequence[Parts]) -> PairedDifference:
    return Bootstrap([new, old]).difference(0, 1)


def items(values: NDArray[np.float64] | list[float], images: list[int], name: str = "") -> CaseValues:
    ids = tuple(f"{name}{place}" for place in range(len(images)))
    return CaseValues(ids, tuple(f"image{number}" for number in images), np.asarray(values, dtype=np.float64))


def drawn_cases(
    rng: np.random.Generator, num_images: int, per_image: int, spread: float
) -> tuple[NDArray[np.float64], list[int]]:
    """Return right and wrong of images that differ in how hard they are; the true mean is 0.5."""
    ease = np.clip(0.5 + spread * rng.choice([-1.0, 1.0], num_images), 0, 1)
    images = np.repeat(np.arange(num_images), per_image)
    return (rng.random(len(images)) < ease[images]).astype(float), images.tolist()


def literal_interval(runs: list[Parts], draws: int) -> tuple[float, float, float]:
    """Draw images and seeds one by one, with another generator, and average by hand."""
    chance = random.Random(5)
    names = sorted({image for part in runs[0] for image in part.images})

    def number(chosen: list[str], which: list[int]) -> float:
        found = []
        for run in which:
            means = []
            for part in runs[run]:
                values = [
                    value
                    for name in chosen
                    for image, value in zip(part.images, part.values, strict=True)
                    if image == name
                ]
                if values:
                    means.append(sum(values) / len(values))
            found.append(sum(means) / len(means))
        return sum(found) / len(found)

    every = list(range(len(runs)))
    found = sorted(
        number(
            [chance.choice(names) for _ in names],
            [chance.choice(every) for _ in every[1:]] if len(runs) > 1 else every,
        )
        for _ in range(draws)
    )
    return number(names, every), found[round(0.025 * draws)], found[round(0.975 * draws)]


@pytest.mark.parametrize(("num_runs", "num_parts"), [(1, 1), (3, 1), (1, 2), (2, 3)])
def test_intervals_agree_with_a_literal_bootstrap(num_runs: int, num_parts: int) -> None:
    rng = np.random.default_rng(3)
    images = [[int(image) for image in rng.integers(0, 12, 20 + 5 * part)] for part in range(num_parts)]
    runs = [
        tuple(
            items((rng.random(len(images[part])) < 0.6).astype(float), images[part], f"{part}/")
            for part in range(num_parts)
        )
        for _ in range(num_runs)
    ]
    value, low, high = literal_interval(runs, 1500)
    found = interval(runs)
    assert math.isclose(found.value, value, abs_tol=1e-12)
    assert abs(found.low - low) < 0.035 and abs(found.high - high) < 0.035
    assert found.high - found.low > 0.1
    assert interval(runs) == found


def test_kinds_of_images_and_single_images_draw_alike() -> None:
    rng = np.random.default_rng(0)
    values, images = drawn_cases(rng, 400, 2, 0.3)
    few = interval([(items(values, images),)])  # three kinds of images: counted
    many = interval([(items(values + rng.random(len(values)) * 1e-4, images),)])  # every image of its own kind: drawn
    assert abs(few.low - many.low) < 0.003 and abs(few.high - many.high) < 0.003


def test_coverage_on_images_of_unequal_ease() -> None:
    rng = np.random.default_rng(1)
    inside = naive = 0
    for _ in range(200):
        values, images = drawn_cases(rng, 80, 5, 0.4)
        found = interval([(items(values, images),)], draws=500)
        inside += found.low <= 0.5 <= found.high
        half = 1.96 * statistics.pstdev(values) / math.sqrt(len(values))
        naive += abs(statistics.fmean(values) - 0.5) <= half
    assert 0.90 <= inside / 200 <= 0.99, "95 % intervals hold the truth about 95 times of 100"
    assert naive / 200 < 0.85, "intervals over cases instead of images do not: the test would see the difference"


def test_seeds_widen_as_much_as_they_differ() -> None:
    rng = np.random.default_rng(2)
    widths, means = [], []
    for _ in range(300):
        levels = 0.5 + 0.1 * rng.standard_normal(3)
        runs = [(items((rng.random(2000) < level).astype(float), list(range(2000))),) for level in levels]
        found = interval(runs, draws=400)
        means.append(found.value)
        widths.append((found.high - found.low) / 3.92)
    true = statistics.pstdev(means)
    typical = math.sqrt(statistics.fmean(width**2 for width in widths))
    assert 0.9 < typical / true < 1.15, typical / true
    alone = interval(runs[:1], draws=400)
    assert alone.high - alone.low < 0.06, "one seed knows of images only"


def test_paired_tests_see_what_unpaired_intervals_hide() -> None:
    rng = np.random.default_rng(4)
    old, images = drawn_cases(rng, 200, 5, 0.45)
    new = old.copy()
    wrong = np.flatnonzero(old == 0)
    new[rng.choice(wrong, 40, replace=False)] = 1
    before, after = (items(old, images),), (items(new, images),)
    found = difference([after], [before])
    assert math.isclose(found.value, 0.04) and found.is_significant and found.p < 0.001
    assert interval([after]).low < interval([before]).high, "the two intervals overlap"
    back = difference([before], [after])
    assert math.isclose(back.low, -found.high) and back.p == found.p
    same = difference([before], [before])
    assert (same.value, same.low, same.high, same.p, same.is_significant) == (0, 0, 0, 1, False)


def test_a_single_run_stands_against_several() -> None:
    rng = np.random.default_rng(6)
    runs = [(items((rng.random(300) < 0.7).astype(float), list(range(300))),) for _ in range(3)]
    base = (items((rng.random(300) < 0.4).astype(float), list(range(300))),)
    found = difference(runs, [base])
    assert found.is_significant and len(found.mcnemar) == 3
    assert found.mcnemar[1] == mcnemar(runs[1], base)


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (1, 0), (9, 2), (2, 9), (30, 30), (70, 40)])
def test_mcnemar_against_the_binomial_sum(won: int, lost: int) -> None:
    new = [1.0] * won + [0.0] * lost + [1.0, 0.0, 1.0]
    old = [0.0] * won + [1.0] * lost + [1.0, 0.0, 1.0]
    images = list(range(len(new)))
    total = won + lost
    tail = sum(math.comb(total, number) for number in range(min(won, lost) + 1)) / 2**total
    assert math.isclose(mcnemar((items(new, images),), (items(old, images),)) or 0, min(1, 2 * tail))


def test_mcnemar_by_trying_every_outcome() -> None:
    new, old = [1.0, 1, 1, 1, 0, 1], [0.0, 0, 0, 0, 1, 1]
    as_far = sum(abs(sum(signs)) >= 3 for signs in itertools.product((1, -1), repeat=5))
    assert mcnemar((items(new, [0] * 6),), (items(old, [0] * 6),)) == as_far / 2**5
    assert mcnemar((items([0.5, 1], [0, 1]),), (items([0, 1], [0, 1]),)) is None


def test_different_cases_are_refused() -> None:
    one, other = items([1, 0], [0, 1]), items([1, 0], [0, 1], "x")
    with pytest.raises(InputError, match="case 0 is '0' in run 0 and 'x0' in run 1"):
        difference([(one,)], [(other,)])
    with pytest.raises(InputError, match="case 2 is 'nothing' in run 0 and '2' in run 1"):
        interval([(one,), (items([1, 0, 1], [0, 1, 1]),)])
    with pytest.raises(InputError, match="run 0 has 1 categories, run 1 has 2"):
        interval([(one,), (one, other)])
    with pytest.raises(InputError, match="no case"):
        interval([(items([], []),)])
    with pytest.raises(InputError, match="no run"):
        interval([])


def test_what_a_metric_is_the_mean_of() -> None:
    one, other = items([1, 0], [0, 1]), items([1, 1], [0, 1])
    outcome = BenchmarkResult({}, {"a": one, "b": other}, {"both": ("a", "b")})
    assert parts_of(outcome, "both") == (one, other) and parts_of(outcome, "a") == (one,)
    assert interval([parts_of(outcome, "both")]).value == 0.75
    with pytest.raises(InputError, match="'c': no cases are kept"):
        parts_of(outcome, "c")


def test_25_000_cases_take_well_under_a_second() -> None:
    rng = np.random.default_rng(7)
    for per_image in (1, 5):
        values, images = drawn_cases(rng, 25_000 // per_image, per_image, 0.3)
        runs = [(items(values, images),)]
        started = time.process_time()
        interval(runs)
        assert time.process_time() - started < 1.0


def test_cases_survive_the_disk(tmp_path: Path) -> None:
    outcome = BenchmarkResult(
        {"b": 1.0}, {"b": items([1, 0], [0, 1]), "a.x": items([0.25], [7]), "none": items([], [])}
    )
    save_cases(tmp_path / "cases.parquet", outcome)
    found = load_cases(tmp_path / "cases.parquet")
    assert list(found) == ["b", "a.x"]
    for name, kept in found.items():
        assert (kept.ids, kept.images) == (outcome.cases[name].ids, outcome.cases[name].images)
        assert kept.values.tolist() == outcome.cases[name].values.tolist()
    before = (tmp_path / "cases.parquet").read_bytes()
    save_cases(tmp_path / "cases.parquet", outcome)
    assert (tmp_path / "cases.parquet").read_bytes() == before
    (tmp_path / "cases.parquet").write_bytes(before[:100])
    with pytest.raises(InputError, match="not the cases of an evaluation"):
        load_cases(tmp_path / "cases.parquet")
