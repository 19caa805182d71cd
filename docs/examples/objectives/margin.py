"""A hinge on the similarity of matching and other pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from training.objectives.interface import Objective

if TYPE_CHECKING:
    from torch import Tensor

    from training.features import Features


@dataclass(frozen=True)
class Margin(Objective):
    """Mean of max(0, margin + s(image, other text) - s(image, own text)) over all pairs of a batch.

    Source: Faghri et al. 2018, VSE++, equation 5 without the maximum, arXiv 1707.05612.
    Differs: image to text only.
    """

    name: ClassVar[str] = "margin"
    source: ClassVar[str] = "Faghri et al. 2018, arXiv 1707.05612"

    weight: float = 1.0
    margin: float = 0.2

    def __call__(self, features: Features) -> Tensor:
        """Return the term, unweighted."""
        similarity = features.image @ features.text.T
        hinge = (self.margin + similarity - similarity.diagonal()[:, None]).clamp(min=0)
        return hinge.fill_diagonal_(0).mean()
