"""Softmax cross-entropy between images and texts, both ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from training.objectives.interface import check_weight, pair_labels

if TYPE_CHECKING:
    from torch import Tensor

    from training.objectives.interface import Features


@dataclass(frozen=True)
class InfoNCE:
    """Softmax cross-entropy both ways; negatives are further columns of the image->text direction only.

    With z = logit_scale * image @ [text; negatives].T, a row's loss is -log softmax(z) at its positive, and the
    result is the mean of the mean over images (all B + B*K columns) and the mean over texts (B columns). Pairs of
    label 0 and empty slots leave the denominators. A row with several positives takes the mean over them.

    Attributes:
        weight: Factor of this term in the loss.
        negatives: Whether negatives become columns; False for losses that treat them apart.

    Source: Radford et al. 2021, figure 3 (arXiv 2103.00020); negatives as columns: Yuksekgonul et al. 2023,
        section 4 (NegCLIP, arXiv 2210.01936); several positives: Khosla et al. 2020, equation 2
        (arXiv 2004.11362).
    Differs: NegCLIP pads with no mask and knows no label 0; a weight w counts a negative w times.
    """

    name: ClassVar[str] = "info_nce"
    source: ClassVar[str] = "Radford et al. 2021, figure 3 (arXiv 2103.00020); NegCLIP (arXiv 2210.01936)"
    needs: ClassVar[tuple[str, ...]] = ()

    weight: float = 1.0
    negatives: bool = True

    def __post_init__(self) -> None:
        """Check the weight."""
        check_weight(self.name, self.weight)

    def __call__(self, features: Features) -> Tensor:
        """Return the mean of both directions."""
        import torch

        batch = features.image.shape[0]
        labels = pair_labels(features)
        logits = features.logit_scale * features.image @ features.text.T
        square = labels[:, :batch]
        from_text = contrast(logits.T, square.T)
        if self.negatives and features.negatives is not None and features.negative_mask is not None:
            columns = features.logit_scale * features.image @ features.negatives.flatten(0, 1).T
            if features.negative_weight is not None:
                columns = columns + features.negative_weight.flatten().log()
            seen = labels[:, batch:].masked_fill(~features.negative_mask.flatten(), 0)
            logits, square = torch.cat([logits, columns], dim=1), torch.cat([square, seen], dim=1)
        return (contrast(logits, square) + from_text) / 2


def contrast(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over rows of -log softmax at the row's positives (label 1), label 0 left out."""
    positive = labels == 1
    left_out = labels == 0
    log_p = logits.masked_fill(left_out, float("-inf")).log_softmax(dim=1).masked_fill(~positive, 0.0)
    return -(log_p.sum(dim=1) / positive.sum(dim=1)).mean()
