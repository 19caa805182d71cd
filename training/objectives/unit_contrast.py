"""Phrases and words of a caption as captions of their own: what is half true must lose against what is true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from training.objectives.interface import Objective
from training.settings import check_settings

if TYPE_CHECKING:
    from torch import Tensor

    from training.features import Features


@dataclass(frozen=True)
class UnitContrast(Objective):
    """Each image must find each part of its caption among the parts of all captions and that part's own foil.

    With u the parts (phrases and words) of all samples of the batch and v_k the foil of part k: the mean of two means over
    parts k of image i. One is -log softmax of t (image_i . u_k) over t (image_i . u_j) for all parts j and t (image_i . v_k); the
    other that of t (image_i . u_k) over t (image_j . u_k) for all images j. Parts of the same caption, parts that the text tower
    reads alike, images that have such a part, and pairs of samples that labels do not call false leave the sums.

    Attributes:
        weight: Factor of this term in the loss.
        per_caption: Most parts of a caption at a step, drawn anew.

    Source: CS-CLIP 2026, the loss over units beside that of the caption.
    Differs: units are noun phrases and changed words of the parse instead of a language model's entities and relations; equal
        units of two images are no negatives of each other.
    """

    name: ClassVar[str] = "unit_contrast"
    source: ClassVar[str] = "CS-CLIP 2026, the loss over units"
    needs: ClassVar[tuple[str, ...]] = ("phrases",)

    weight: float = 0.5
    per_caption: int = 2

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            InputError: a value is out of range.
        """
        super().__post_init__()
        check_settings(self, self.per_caption >= 1, "per_caption", "1 or more")

    def __call__(self, features: Features) -> Tensor:
        """Return the mean of both directions; 0 when no caption of the batch has a part."""
        import torch

        parts = features.require("phrases")
        mask = parts.mask[:, : self.per_caption]
        if not bool(mask.any()):
            return 0.0 * features.image.sum()
        owner = mask.nonzero()[:, 0]
        text, foil = (side[:, : self.per_caption][mask] for side in (parts.text, parts.foil))
        own = torch.arange(len(owner), device=owner.device)
        # equal texts have equal features up to rounding, whatever batch they were encoded in
        alike = text.detach() @ text.detach().T > 1 - 1e-5
        size = len(features.image)
        not_false = features.pair_labels()[:, :size] != -1
        # an image is no rival for a part that its own caption has, or that is as good as true of it
        left_out = _any_by_row(alike, owner, size) | not_false[:, owner]
        logits = features.logit_scale * features.image @ text.T
        against = features.logit_scale * (features.image[owner] * foil).sum(dim=1, keepdim=True)
        itself = torch.eye(len(owner), dtype=torch.bool, device=owner.device)
        rows = logits[owner].masked_fill(left_out[owner] & ~itself, float("-inf"))
        columns = logits.T.masked_fill(
            left_out.T & (owner[:, None] != torch.arange(size, device=owner.device)), float("-inf")
        )
        cross_entropy = torch.nn.functional.cross_entropy
        return (cross_entropy(torch.cat([rows, against], dim=1), own) + cross_entropy(columns, owner)) / 2


def _any_by_row(pairs: Tensor, owner: Tensor, size: int) -> Tensor:
    """Return which parts are like one of each sample's parts, bool [size, n], of which parts are alike [n, n]."""
    counts = pairs.new_zeros((size, len(owner)), dtype=owner.dtype)
    return counts.index_add(0, owner, pairs.to(owner.dtype)) > 0
