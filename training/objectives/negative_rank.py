"""Each negative against its caption by itself, weighted outside the logarithm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from training.objectives.interface import Objective
from training.settings import check_settings

if TYPE_CHECKING:
    from torch import Tensor

    from training.features import Features

Gradient = Literal["both", "text", "image"]


@dataclass(frozen=True)
class NegativeRank(Objective):
    """Image and caption must be closer than either is to each of the caption's negatives: a logistic loss for each.

    With t the logit scale, p_i the cosine of image i and its caption, s_ij that of image i and its negative j, c_ij
    that of caption and negative, w_ij the chosen negatives' weights and a = `text_share`:

        sum_ij w_ij ((1 - a) softplus(t (s_ij - p_i)) + a softplus(t (c_ij - p_i))) / sum_ij w_ij

    With a `focus` f above 0 each w_ij is taken times sigmoid(t (s_ij - p_i))^f, without a gradient: a negative that the image
    tells from its caption already counts next to nothing, and what is not learned yet is not lost in the mean of what is.

    A weight of a quarter is a quarter of the gradient. Added to a logit as log w, as in a softmax, it is next to
    nothing where the scale is 100: the softmax is as good as full, and a hopeless negative keeps its whole gradient.

    Attributes:
        weight: Factor of this term in the loss.
        text_share: Share of the comparisons in text space, 0 to 1. The text tower alone can learn them, and they tell
            texts apart where images do not yet.
        gradient: Which tower learns from a negative: ``text`` keeps image features fixed, ``image`` those of texts.
        focus: How much more a negative counts the nearer it is, 0 or more; 0 is not at all.

    Source: Burges et al. 2005 (RankNet, ICML), equation 3, on cosines; comparisons in text space: Zhang et al. 2024
        (CE-CLIP, arXiv 2306.08832), equation 3; whose gradient: CLIC (arXiv 2505.24424) trains texts, AHNPL
        (arXiv 2505.15576) images; focus: Lin et al. 2017 (focal loss, arXiv 1708.02002), on normalised weights.
    Differs: a term for each negative instead of one softmax over all, so that a weight is a weight.
    """

    name: ClassVar[str] = "negative_rank"
    source: ClassVar[str] = "Burges et al. 2005 (RankNet, ICML), equation 3; CE-CLIP (arXiv 2306.08832), equation 3"
    needs: ClassVar[tuple[str, ...]] = ("negatives",)

    weight: float = 1.0
    text_share: float = 0.5
    gradient: Gradient = "both"
    focus: float = 0.0

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            InputError: a value is out of range.
        """
        super().__post_init__()
        check_settings(self, 0 <= self.text_share <= 1, "text_share", "0 to 1")
        check_settings(self, 0 <= self.focus < float("inf"), "focus", "0 or more")
        check_settings(self, self.gradient in ("both", "text", "image"), "gradient", "both, text or image")

    def __call__(self, features: Features) -> Tensor:
        """Return the weighted mean over valid negatives; 0 when the batch has none."""
        import torch

        negatives, mask = features.require("negatives"), features.own_negatives()
        if not bool(mask.any()):
            return 0.0 * (features.image.sum() + features.text.sum())
        image, text = features.image, features.text
        if self.gradient == "text":
            image = image.detach()
        if self.gradient == "image":
            text, negatives = text.detach(), negatives.detach()
        rows = mask.nonzero()[:, 0]
        own, other = (image * text).sum(dim=1)[rows], negatives[mask]
        terms, log_weights = torch.zeros_like(own), torch.zeros_like(own)
        if features.negative_weight is not None:
            log_weights = features.negative_weight[mask].log()
        if self.focus:
            logits = features.logit_scale * ((image[rows] * other).sum(dim=1) - own)
            log_weights = log_weights + self.focus * torch.nn.functional.logsigmoid(logits.detach())
        for share, anchor in ((1.0 - self.text_share, image), (self.text_share, text)):
            if share:
                gap = (anchor[rows] * other).sum(dim=1) - own
                terms = terms + share * torch.nn.functional.softplus(features.logit_scale * gap)
        return (log_weights.softmax(dim=0) * terms).sum()  # the quotient, where all weights together would be 0, too
