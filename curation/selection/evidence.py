"""Evidence on fits: means over all samples with their standard errors, from numbers that are added up."""

from __future__ import annotations

import math
from collections.abc import Mapping

from curation.engine.fits import Evidence

_DECIMALS = 6
_SQUARED = " squared"


def with_squares(numbers: Mapping[str, float]) -> dict[str, float]:
    """Return a sample's numbers and their squares, rounded, as evidence that `mean_and_error` reads."""
    squares = {name + _SQUARED: round(number * number, _DECIMALS) for name, number in numbers.items()}
    return {**{name: round(number, _DECIMALS) for name, number in numbers.items()}, **squares}


def mean_and_error(evidence: Evidence, name: str, among: str = "") -> tuple[float, float]:
    """Return the mean of a number over the samples that were not dropped, and its standard error.

    Args:
        evidence: Sums of `with_squares`.
        name: The number.
        among: A number that is 1 for the samples that count and missing for the others; empty: all count.
    """
    size = evidence.sums.get(among, 0.0) if among else evidence.num_samples - evidence.num_dropped
    size = max(size, 1.0)
    mean = evidence.sums.get(name, 0.0) / size
    variance = max(evidence.sums.get(name + _SQUARED, 0.0) / size - mean * mean, 0.0)
    return mean, math.sqrt(variance / size)


def error_of_share(share: float, num_samples: int) -> float:
    """Return the standard error of a share of samples."""
    return math.sqrt(share * (1.0 - share) / max(num_samples, 1))
