"""What a benchmark returns: numbers, and for each the cases it is the mean of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Items:
    """The cases behind one number. Two models' items of one benchmark stand in the same order, so they pair.

    Attributes:
        ids: Each case's own name [n], the same for every model.
        images: The image each case is about [n]. Cases of one image are not independent: intervals draw images.
        values: What the number is the mean of, float64 [n]; 1 and 0 for right and wrong.
    """

    ids: tuple[str, ...]
    images: tuple[str, ...]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """One model on one benchmark.

    Attributes:
        metrics: Numbers by name, nested where they belong together; counts beside fractions.
        items: By dotted name of a metric, the cases it is the mean of.
        means: By dotted name of a metric, the names in `items` that it is the unweighted mean of.
    """

    metrics: dict[str, Any]
    items: Mapping[str, Items] = field(default_factory=dict)
    means: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def join(*outcomes: Outcome) -> Outcome:
    """Return several outcomes of one benchmark as one; their metrics have different names."""
    return Outcome(
        {name: value for outcome in outcomes for name, value in outcome.metrics.items()},
        {name: items for outcome in outcomes for name, items in outcome.items.items()},
        {name: means for outcome in outcomes for name, means in outcome.means.items()},
    )
