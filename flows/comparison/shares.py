"""One rule for all rows: at which share of its tuned weights each row is reported, and on which images.

A model is evaluated at shares 0, 0.1 ... 1 of the way from its base to its tuned weights (WiSE-FT; 0 is the base). More of
the way usually gives more composition and less retrieval, so that rows compare only under one rule: each is reported at the
largest share that keeps retrieval and zero-shot on the choosing images. Composition takes no part in the choice, and no
figure comes from an image that did.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from blake3 import blake3

from data_manifests.errors import InputError
from flows.comparison.metrics import CHOOSING, choosing_metrics

if TYPE_CHECKING:
    from training.evaluate.benchmark_result import CaseValues
    from training.evaluate.confidence import Parts

SHARES = tuple(step / 10 for step in range(11))
BASE_SHARE, TUNED_SHARE = SHARES[0], SHARES[-1]
LOSS_POINTS = 1.0


def find_choosing(on: Sequence[str], choose_on: Sequence[str]) -> tuple[str, ...]:
    """Return the benchmarks that choose the share: those given for it, or those of `on` that can.

    Raises:
        InputError: one that is given cannot, or none can.
    """
    for text in choose_on:
        if not choosing_metrics(text):
            raise InputError(
                f"--choose-on {text}: it measures neither retrieval nor zero-shot, which alone choose the share",
                allowed=", ".join(f"{kind}:SRC" for kind in CHOOSING),
            )
    found = tuple(dict.fromkeys(choose_on)) or tuple(text for text in on if choosing_metrics(text))
    if not found:
        raise InputError(
            "compare: no --on measures retrieval or zero-shot, which choose the share that each row is reported at",
            allowed="one or more of " + ", ".join(f"{kind}:SRC" for kind in CHOOSING),
            fix="add one, for example --on retrieval:SRC, or let another source choose: --choose-on retrieval:SRC",
        )
    return found


def describe_rule(points: float) -> str:
    """Return the rule in one sentence."""
    return (
        f"Each row stands at the largest share of its tuned weights (0, 0.1 ... 1; 0 is the base) that loses at most {points:g} "
        "point(s) of any R@1 or zero-shot accuracy on the images that choose; all figures come from other images."
    )


@dataclass(frozen=True)
class ImageSides:
    """Which images choose the share, and which are reported.

    Attributes:
        choosing: Names of the images that choose.
        reported: Names of the images behind the figures.
    """

    choosing: frozenset[str]
    reported: frozenset[str]

    @classmethod
    def divide(cls, choosing: Iterable[CaseValues], reported: Iterable[CaseValues]) -> ImageSides:
        """Divide the images of some benchmarks: one that both sides could use is on one of them, by a hash of its name.

        Args:
            choosing: Cases that could choose.
            reported: Cases that could be reported.
        """
        one = frozenset(image for cases in choosing for image in cases.images)
        other = frozenset(image for cases in reported for image in cases.images)
        first_half = frozenset(image for image in one & other if _is_first_half(image))
        return cls((one - other) | first_half, other - first_half)


def _is_first_half(image: str) -> bool:
    return blake3(f"half that chooses the share: {image}".encode()).digest(length=1)[0] % 2 == 0


def restrict(parts: Parts, images: frozenset[str]) -> Parts:
    """Return cases of some images only, without the categories that have none."""
    from training.evaluate.benchmark_result import CaseValues

    found = []
    for cases in parts:
        rows = [row for row, image in enumerate(cases.images) if image in images]
        if rows:
            ids, names = (tuple(values[row] for row in rows) for values in (cases.ids, cases.images))
            found.append(CaseValues(ids, names, cases.values[rows]))
    return tuple(found)


def mean_of(runs: Sequence[Parts]) -> float:
    """Return the mean over runs of a number that is the unweighted mean of its parts."""
    return float(np.mean([np.mean([cases.values.mean() for cases in parts]) for parts in runs]))


def points_lost(base: Sequence[float], values: Sequence[float]) -> float:
    """Return the largest loss of any of some metrics against the base's, in points; below 0 if all gain.

    Twelve of 400 cases are three points, whatever binary fractions make of it: rounded to six places.
    """
    return max(round(100 * (before - after), 6) for before, after in zip(base, values, strict=True))


def choose_share(lost: Mapping[float, float], points: float) -> float:
    """Return the largest share whose loss is allowed; the base loses nothing.

    Args:
        lost: Points lost by share.
        points: What is allowed.
    """
    return max(share for share, loss in lost.items() if loss <= points)
