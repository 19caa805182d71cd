"""Bootstrap intervals over images and seeds, and paired tests of whether two models differ.

Cases of one image (its captions, its foils) are not independent, so images are drawn, never cases. Draws are cheap
because images with the same sums are interchangeable: a draw is how many of each kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data_manifests.errors import InputError
from data_manifests.seeds import generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.evaluate.benchmark_result import BenchmarkResult, CaseValues

Parts = tuple["CaseValues", ...]
"""The cases that one run's number is the unweighted mean of: one set, or one for each category."""

NUM_DRAWS = 10_000
LEVEL = 0.95
"""Share of draws inside an interval."""
SEED = 0
MAX_CHUNK = 1 << 22
IMAGES_PER_KIND = 8
"""Counting kinds is faster than drawing each image if a kind has at least this many images on average."""


@dataclass(frozen=True)
class Interval:
    """A number and the range in which it would be for other images (and seeds).

    Attributes:
        value: The number; over several seeds their mean.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedDifference(Interval):
    """A number of one model minus that of another, on the same cases.

    Attributes:
        p: Two-sided, from the same draws: twice the share of draws on the other side of zero.
        mcnemar: Exact p of McNemar's test for each pair of runs, where every case is right or wrong; it takes cases for
            independent, so it is too sure where an image has several.
    """

    p: float
    mcnemar: tuple[float, ...] = ()

    @property
    def is_significant(self) -> bool:
        """Whether zero lies outside the interval."""
        return self.sign != 0

    @property
    def sign(self) -> int:
        """1 where the first is significantly higher, -1 where it is lower, else 0."""
        return int(self.low > 0) - int(self.high < 0)


def parts_of(outcome: BenchmarkResult, metric: str) -> Parts:
    """Return the cases that a metric is the mean of, or those of each category that it averages.

    Raises:
        InputError: the benchmark keeps no cases for this metric.
    """
    names = outcome.means.get(metric, (metric,))
    missing = [name for name in names if name not in outcome.cases]
    if missing:
        raise InputError(
            f"metric '{missing[0]}': no cases are kept for it", allowed=", ".join([*outcome.means, *outcome.cases])
        )
    return tuple(outcome.cases[name] for name in names)


class Bootstrap:
    """Several models' numbers on the same cases, drawn together, so that any two of them pair.

    Each draw takes as many images as there are, with replacement, the same for all; and, of a model's s runs, s - 1
    with replacement. A category without a case in a draw is left out of that draw's mean.

    Source: Efron and Tibshirani 1993, chapters 8 and 13; Rao and Wu 1988 for drawing s - 1 of s, which makes the
        variance between few seeds right on average.
    Differs: with two or three seeds the ends are still too near: a percentile knows no Student's t. What a retrieval
        ranks among stays whole; only the queries are drawn.

    Args:
        models: For each model its runs, one for each seed.
        draws: Bootstrap draws. All numbers have the same seed, so that they compare.

    Raises:
        InputError: a model without a run, or runs of different cases.
    """

    def __init__(self, models: Sequence[Sequence[Parts]], draws: int = NUM_DRAWS) -> None:
        self._models = models
        self._drawn = _drawn(models, draws)

    def interval(self, model: int) -> Interval:
        """Return a model's mean over runs, and its percentile interval over images and seeds."""
        return Interval(_point(self._models[model]), *_ends(self._drawn[model]))

    def difference(self, model: int, other: int) -> PairedDifference:
        """Return by how much a model exceeds another.

        Runs pair by position where both have the same number (the same seeds in the same order); a single run, such as
        the pretrained model, is paired with each run of the other.
        """
        new, old = self._models[model], self._models[other]
        differences = self._drawn[model] - self._drawn[other]
        smaller = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
        p = min(1.0, 2 * (smaller + 1) / (len(differences) + 1))
        pairs = max(len(new), len(old)) if len(new) == len(old) or 1 in (len(new), len(old)) else 0
        tests = [mcnemar(new[at % len(new)], old[at % len(old)]) for at in range(pairs)]
        known = tuple(value for value in tests if value is not None)
        value = _point(new) - _point(old)
        return PairedDifference(value, *_ends(differences), p, known if len(known) == pairs else ())


def mcnemar(new: Parts, old: Parts) -> float | None:
    """Return the exact two-sided p of McNemar's test, None where a case is neither right nor wrong.

    Source: McNemar 1947; exact by the binomial distribution of the cases on which the two disagree.

    Raises:
        InputError: different cases.
    """
    _check_same([new, old])
    ours, theirs = (np.concatenate([items.values for items in parts]) for parts in (new, old))
    if not np.isin(np.concatenate([ours, theirs]), (0.0, 1.0)).all():
        return None
    won, lost = int((ours > theirs).sum()), int((ours < theirs).sum())
    ways, term = 0, 1
    for number in range(min(won, lost) + 1):
        ways += term
        term = term * (won + lost - number) // (number + 1)
    return min(1.0, 2 * ways / (1 << (won + lost)))


def _drawn(groups: Sequence[Sequence[Parts]], draws: int) -> list[NDArray[np.float64]]:
    """Return, for each group of runs, its number in each draw [draws]; draws of images are shared by all."""
    if not all(groups):
        raise InputError("bootstrap: no run", allowed="one or more")
    runs = [parts for group in groups for parts in group]
    _check_same(runs)
    sums, counts = _tally(runs)
    means = np.concatenate(list(_means(sums, counts, draws)))
    found = []
    for number, group in enumerate(groups):
        first = sum(len(other) for other in groups[:number])
        weights = _seed_weights(len(group), draws)
        found.append((means[:, first : first + len(group)] * weights).sum(axis=1))
    return found


def _tally(runs: Sequence[Parts]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return sums of values [images, runs, parts] and numbers of cases [images, parts]."""
    row_of = {image: row for row, image in enumerate(sorted({image for items in runs[0] for image in items.images}))}
    sums = np.zeros((len(row_of), len(runs), len(runs[0])))
    counts = np.zeros((len(row_of), len(runs[0])))
    for part, items in enumerate(runs[0]):
        rows = np.array([row_of[image] for image in items.images], dtype=np.int64)
        counts[:, part] = np.bincount(rows, minlength=len(row_of))
        for number, parts in enumerate(runs):
            sums[:, number, part] = np.bincount(rows, parts[part].values, minlength=len(row_of))
    return sums, counts


def _means(sums: NDArray[np.float64], counts: NDArray[np.float64], draws: int) -> Iterator[NDArray[np.float64]]:
    """Yield each run's number in some of the draws [chunk, runs]."""
    num_images, num_runs, num_parts = sums.shape
    rows = np.round(np.concatenate([sums.reshape(num_images, -1), counts], axis=1), 9)
    kinds, sizes = np.unique(rows, axis=0, return_counts=True)
    rng = generator(SEED, "bootstrap", "images")
    grouped = num_images >= IMAGES_PER_KIND * len(kinds)
    table = kinds if grouped else rows
    step = max(1, MAX_CHUNK // max(table.shape))
    for first in range(0, draws, step):
        size = min(step, draws - first)
        if grouped:
            times = rng.multinomial(num_images, sizes / num_images, size=size)
        else:
            chosen = rng.integers(num_images, size=(size, num_images)) + num_images * np.arange(size)[:, None]
            times = np.bincount(chosen.ravel(), minlength=size * num_images).reshape(size, num_images)
        drawn = times.astype(np.float64) @ table
        total = drawn[:, : num_runs * num_parts].reshape(size, num_runs, num_parts)
        cases = drawn[:, None, num_runs * num_parts :]
        there = cases > 0
        share = np.where(there, total / np.where(there, cases, 1.0), 0.0)
        yield share.sum(axis=2) / there.sum(axis=2)


def _seed_weights(num: int, draws: int) -> NDArray[np.float64]:
    """Return what each run counts in each draw [draws, num], equal for groups of equal size."""
    if num == 1:
        return np.ones((draws, 1))
    rng = generator(SEED, "bootstrap", "seeds", num)
    weights: NDArray[np.float64] = rng.multinomial(num - 1, [1 / num] * num, size=draws) / (num - 1)
    return weights


def _point(runs: Sequence[Parts]) -> float:
    return float(np.mean([np.mean([items.values.mean() for items in parts]) for parts in runs]))


def _ends(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _check_same(runs: Sequence[Parts]) -> None:
    """Check that all runs are of the same cases in the same order, and that there are some.

    Raises:
        InputError: they are not.
    """
    first = runs[0]
    if not first or not all(items.ids for items in first):
        raise InputError("bootstrap: no case", allowed="one or more cases in each category")
    for number, parts in enumerate(runs):
        if len(parts) != len(first):
            raise InputError(f"bootstrap: run 0 has {len(first)} categories, run {number} has {len(parts)}")
        for items, others in zip(first, parts, strict=True):
            if items.ids == others.ids and items.images == others.images:
                continue
            pairs = zip(items.ids, others.ids, strict=False)
            at = next(
                (at for at, (one, other) in enumerate(pairs) if one != other), min(len(items.ids), len(others.ids))
            )
            one, other = ((*cases.ids, "nothing")[min(at, len(cases.ids))] for cases in (items, others))
            raise InputError(
                f"bootstrap: case {at} is {one!r} in run 0 and {other!r} in run {number}",
                allowed="runs that were evaluated on the same cases",
                fix="evaluate both again on the same data",
            )
