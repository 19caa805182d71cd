"""Joined samples (CLIC): two pictures as one find their two captions, in any order, and lose to an exchange of words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from training.objectives.interface import Objective
from training.settings import check_settings

if TYPE_CHECKING:
    from torch import Tensor

    from training.features import Features
    from training.pairs import PairFeatures


@dataclass(frozen=True)
class JoinedContrast(Objective):
    """Pairs of samples whose pictures stand side by side: each finds its texts, and each text beats the exchanged one.

    With V the joined pictures, P_k (k = 1 .. 4) their true texts, n the texts in which a word of each caption stands in the
    other's place: `contrast` times the mean over k of the mean of the cross-entropies of t V P_k^T and its transpose (no other
    true text in the denominators), plus `exchange` times the mean over k of softplus(t (V.n - V.P_k)), plus `order` times the
    mean of |P_1 - P_2|^2: the two captions in either order are one text. Pairs without a text or a negative take no part in its
    terms.

    Attributes:
        weight: Factor of this term in the loss.
        contrast: Factor of the first part, 0 or more.
        exchange: Of the second.
        order: Of the third.

    Source: CLIC (NeurIPS 2025, arXiv 2505.24424), equations for concatenated images; read from the authors' `losses.py`.
    Differs: no exchange where no word class is in both captions (there, two random tokens). In the paper it takes turns with
        InfoNCE, as in the recipe `clic`; beside other objectives it is added to them.
    """

    name: ClassVar[str] = "joined_contrast"
    source: ClassVar[str] = "CLIC (NeurIPS 2025, arXiv 2505.24424)"
    needs: ClassVar[tuple[str, ...]] = ("pairs",)

    weight: float = 1.0
    contrast: float = 0.5
    exchange: float = 0.5
    order: float = 1.0

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            InputError: a value is out of range.
        """
        super().__post_init__()
        parts = (self.contrast, self.exchange, self.order)
        check_settings(self, min(parts) >= 0 < max(parts), "contrast exchange order", "0 or more, one of them above 0")

    def __call__(self, features: Features) -> Tensor:
        """Return the weighted sum of the three parts; 0 without a pair."""
        import torch

        pairs: PairFeatures = features.require("pairs")
        if not len(pairs.image):
            return 0.0 * features.image.sum()
        scale, true = features.logit_scale, torch.einsum("md,mkd->mk", pairs.image, pairs.positives)
        cross_entropy = torch.nn.functional.cross_entropy
        contrasts = []
        for slot, rows in enumerate(pairs.mask.T):
            if bool(rows.any()):
                logits = scale * pairs.image[rows] @ pairs.positives[rows, slot].T
                target = torch.arange(len(logits), device=logits.device)
                contrasts.append((cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2)
        loss = self.contrast * torch.stack(contrasts).mean()
        asked = pairs.mask & pairs.negative_mask[:, None]
        if bool(asked.any()):
            false = (pairs.image * pairs.negative).sum(dim=1, keepdim=True)
            loss = loss + self.exchange * torch.nn.functional.softplus(scale * (false - true))[asked].mean()
        apart = (pairs.positives[:, 0] - pairs.positives[:, 1]).square().sum(dim=1)
        return loss + self.order * apart.mean()
