"""CE-CLIP's two terms: captions against their own negatives in text space, and margins that grow with the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from training.features import NEGATIVE_TYPES
from training.objectives.interface import Objective, Term
from training.settings import check_settings

if TYPE_CHECKING:
    from torch import Tensor

    from training.features import Features


@dataclass(frozen=True)
class IntraModalContrast(Objective):
    """A caption and its image must be closer than the caption and any of its own negatives.

    With p = t (image . caption) and q_k = t (caption . negative_k): the mean over samples that have a negative of
    log(1 + sum_k exp(q_k - p)).

    Attributes:
        weight: Factor of this term in the loss.

    Source: Zhang et al. 2024 (CE-CLIP, arXiv 2306.08832), equation 3.
    Differs: the released code compares each caption with the negatives of all samples, takes the first sample's first
        negative for everybody's positive, and has no positive; here the image is the positive and only a caption's own
        negatives count, as in the paper's text.
    """

    name: ClassVar[str] = "intra_modal_contrast"
    source: ClassVar[str] = "Zhang et al. 2024 (CE-CLIP, arXiv 2306.08832), equation 3"
    needs: ClassVar[tuple[str, ...]] = ("negatives",)

    weight: float = 0.3

    def __call__(self, features: Features) -> Tensor:
        """Return the mean over samples with a valid negative; 0 when the batch has none."""
        import torch

        negatives, mask = features.require("negatives"), features.own_negatives()
        if not bool(mask.any()):
            return 0.0 * features.text.sum()
        rows = mask.any(dim=1)
        positive = (features.image[rows] * features.text[rows]).sum(dim=1, keepdim=True)
        negative = torch.einsum("bd,bkd->bk", features.text[rows], negatives[rows])
        gap = (features.logit_scale * (negative - positive)).masked_fill(~mask[rows], float("-inf"))
        return torch.nn.functional.softplus(gap.logsumexp(dim=1)).mean()


@dataclass(frozen=True)
class CrossModalRank(Objective):
    """An image must prefer its caption to each of its negatives by a margin that adapts to the model.

    The mean over valid negatives of max(0, m_k + t s(image, negative) - t s(image, caption)), m_k the margin of the
    negative's type. After each call m_k becomes the mean gap of that type in the batch, kept between 0 and `most`.

    Attributes:
        weight: Factor of this term in the loss.
        most: Largest margin, in logits; the paper finds 10 best of 5, 10, 15.
        fixed: A margin for all types instead; None adapts.

    Source: Zhang et al. 2024 (CE-CLIP, arXiv 2306.08832), equations 4-6.
    Differs: margins live in checkpoints and are not put back to 0 at each epoch; an invalid negative counts neither
        in the loss nor in the margin; negatives of unknown type share a margin.
    """

    name: ClassVar[str] = "cross_modal_rank"
    source: ClassVar[str] = "Zhang et al. 2024 (CE-CLIP, arXiv 2306.08832), equations 4-6"
    needs: ClassVar[tuple[str, ...]] = ("negatives", "negative_type")

    weight: float = 0.2
    most: float = 10.0
    fixed: float | None = None

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            InputError: a value is out of range.
        """
        super().__post_init__()
        check_settings(self, self.most > 0, "most", "above 0")
        check_settings(self, self.fixed is None or self.fixed >= 0, "fixed", "0 or more, or null")

    def start(self) -> RankTerm:
        """Return the term of a new run, all margins 0."""
        return RankTerm(self)


class RankTerm(Term):
    """`CrossModalRank` during a run: keeps the margins; the last one is for unknown types."""

    def __init__(self, config: CrossModalRank) -> None:
        self._config = config
        self.margins = [config.fixed or 0.0] * (len(NEGATIVE_TYPES) + 1)

    def __call__(self, features: Features) -> Tensor:
        """Return the loss, then move the margins."""
        import torch

        mask, kind = features.own_negatives(), features.require("negative_type")
        if not bool(mask.any()):
            return 0.0 * features.image.sum()
        positive = (features.image * features.text).sum(dim=1, keepdim=True)
        negative = torch.einsum("bd,bkd->bk", features.image, features.require("negatives"))
        gap = features.logit_scale * (positive - negative)
        margin = torch.tensor(self.margins, dtype=gap.dtype, device=gap.device)[kind]
        loss = (margin - gap).clamp_min(0.0)[mask].mean()
        if self._config.fixed is None:
            for number in torch.unique(kind[mask]).tolist():
                mean = float(gap.detach()[mask & (kind == number)].mean())
                self.margins[number] = min(max(mean, 0.0), self._config.most)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the margins."""
        return {"margins": list(self.margins)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with saved margins."""
        self.margins = [float(value) for value in state["margins"]]
