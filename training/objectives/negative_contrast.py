"""Each image against its caption and its own negatives only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from training.hard_negatives import row_weight
from training.objectives.interface import Objective
from training.settings import check_settings

if TYPE_CHECKING:
    from torch import Tensor

    from training.features import Features


@dataclass(frozen=True)
class NegativeContrast(Objective):
    """Each image against its caption and its own negatives only: a (1 + K)-way softmax, softened twice.

    With p the softmax over a sample's caption and its valid negatives and y the target smoothed over the same, the
    loss is -sum_k y_k (1 - p_k)^gamma log p_k, averaged over the samples that have a negative. Keeping it apart from
    InfoNCE, with focus and smoothing, is what costs least zero-shot accuracy (table 1 of the source).

    Where the chosen negatives have weights, a sample's loss counts as often as they do: their mean weight, each by its
    share of the softmax over the negatives alone, without a gradient.

    Attributes:
        weight: Factor of this term in the loss.
        gamma: Focus: 0 is plain cross-entropy.
        smoothing: Share of the target spread evenly over the caption and its valid negatives, 0 to below 1.

    Source: Oh et al. 2024 (FSC-CLIP, arXiv 2410.05210), global hard-negative loss with focal weights and smoothing;
        read from the authors' `losses/loss.py`.
    Differs: empty slots leave the softmax; theirs are zero vectors that stay in it with logit 0. No local term.
    """

    name: ClassVar[str] = "negative_contrast"
    source: ClassVar[str] = "Oh et al. 2024 (FSC-CLIP, arXiv 2410.05210), global hard-negative loss"
    needs: ClassVar[tuple[str, ...]] = ("negatives",)

    weight: float = 0.5
    gamma: float = 2.0
    smoothing: float = 0.02

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            InputError: a value is out of range.
        """
        super().__post_init__()
        check_focus(self)

    def __call__(self, features: Features) -> Tensor:
        """Return the mean over samples with a valid negative; 0 when the batch has none."""
        import torch

        negatives, valid = features.require("negatives"), features.own_negatives()
        if not bool(valid.any()):
            return 0.0 * features.image.sum()
        rows = valid.any(dim=1)
        texts = torch.cat([features.text[rows, None], negatives[rows]], dim=1)
        logits = features.logit_scale * torch.einsum("bd,bkd->bk", features.image[rows], texts)
        losses = focal_contrast(logits, valid[rows], self.gamma, self.smoothing)
        if features.negative_weight is not None:
            losses = losses * row_weight(logits[:, 1:], features.negative_weight[rows], valid[rows])
        return losses.mean()


def check_focus(objective: Any) -> None:
    """Check an objective's `gamma` and `smoothing`.

    Raises:
        InputError: a value is out of range.
    """
    check_settings(objective, objective.gamma >= 0, "gamma", "0 or more")
    check_settings(objective, 0 <= objective.smoothing < 1, "smoothing", "0 to below 1")


def focal_contrast(logits: Tensor, valid: Tensor, gamma: float, smoothing: float) -> Tensor:
    """Return each row's -sum_k y_k (1 - p_k)^gamma log p_k [n]; see `NegativeContrast`.

    Args:
        logits: The caption's first, then the negatives' [n, 1 + K].
        valid: Which negatives take part, bool [n, K].
        gamma: Focus.
        smoothing: Share of the target spread evenly.
    """
    import torch

    inside = torch.cat([torch.ones_like(valid[:, :1]), valid], dim=1)
    log_p = torch.log_softmax(logits.masked_fill(~inside, float("-inf")), dim=1).masked_fill(~inside, 0.0)
    target = (smoothing / inside.sum(dim=1, keepdim=True, dtype=log_p.dtype)) * inside
    target = torch.cat([target[:, :1] + 1.0 - smoothing, target[:, 1:]], dim=1)
    focus = (1.0 - log_p.exp()).clamp_min(0.0) ** gamma
    return -(target * focus * log_p).sum(dim=1)
