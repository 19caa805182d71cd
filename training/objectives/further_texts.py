"""Terms over further texts of each image: analogies (TSVLC), bags (DAC), knowledge captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from training.objectives.interface import Objective

if TYPE_CHECKING:
    from torch import Tensor

    from training.features import Features, TextSlots


@dataclass(frozen=True)
class TextAnalogy(Objective):
    """Each image and each caption must find the image's further text among those of all samples.

    With P the first further text of each sample that has one: the mean of the cross-entropies of t F P^T and t G P^T,
    F images and G captions.

    Attributes:
        weight: Factor of this term in the loss.

    Source: Doveh et al. 2023 (TSVLC, arXiv 2211.11733), section 3.2: the positive (analogy) loss.
    Differs: without the optional divergences of the released code; samples without a further text take no part.
    """

    name: ClassVar[str] = "text_analogy"
    source: ClassVar[str] = "Doveh et al. 2023 (TSVLC, arXiv 2211.11733), section 3.2"
    needs: ClassVar[tuple[str, ...]] = ("positives",)

    weight: float = 1.0

    def __call__(self, features: Features) -> Tensor:
        """Return the mean of both directions; 0 when no sample of the batch has a further text."""
        import torch

        positives: TextSlots = features.require("positives")
        rows = positives.mask[:, 0]
        if not bool(rows.any()):
            return 0.0 * features.text.sum()
        further = positives.features[rows, 0]
        target = torch.arange(len(further), device=further.device)
        from_image = features.logit_scale * features.image[rows] @ further.T
        from_text = features.logit_scale * features.text[rows] @ further.T
        cross_entropy = torch.nn.functional.cross_entropy
        return (cross_entropy(from_image, target) + cross_entropy(from_text, target)) / 2


@dataclass(frozen=True)
class MultipleInstance(Objective):
    """Some text of an image's bag must fit it better than its negatives, other bags, and other images.

    With bags of a caption and its further texts, x_i(T) the logits of image i and texts T, L = logsumexp: the mean of
    L(own bag and own negatives) - L(own bag), plus the mean of L(all bags of image i; own bag of all other images)
    - L(own bag).

    Attributes:
        weight: Factor of this term in the loss.

    Source: Doveh et al. 2023 (DAC, arXiv 2305.19595), equations 2-4; MIL-NCE, Miech et al. 2020 (arXiv 1912.06430).
    Differs: the caption is in the bag; empty slots leave the sums.
    """

    name: ClassVar[str] = "multiple_instance"
    source: ClassVar[str] = "Doveh et al. 2023 (DAC, arXiv 2305.19595), equations 2-4"
    needs: ClassVar[tuple[str, ...]] = ("positives",)

    weight: float = 1.0

    def __call__(self, features: Features) -> Tensor:
        """Return the sum of both means."""
        import torch

        size = len(features.image)
        positives: TextSlots = features.require("positives")
        bags = torch.cat([features.text[:, None], positives.features], dim=1)
        filled = torch.cat([torch.ones_like(positives.mask[:, :1]), positives.mask], dim=1)
        outside = float("-inf")
        logits = features.logit_scale * torch.einsum("id,jpd->ijp", features.image, bags)
        logits = logits.masked_fill(~filled, outside)
        at = torch.arange(size, device=logits.device)
        own = logits[at, at].logsumexp(dim=1)
        others = logits.masked_fill(torch.eye(size, dtype=torch.bool, device=logits.device)[..., None], outside)
        column = others.transpose(0, 1).flatten(1)
        loss = (torch.cat([logits.flatten(1), column], dim=1).logsumexp(dim=1) - own).mean()
        if features.negatives is None:
            return loss
        false = features.logit_scale * torch.einsum("bd,bkd->bk", features.image, features.negatives)
        false = torch.cat([own[:, None], false.masked_fill(~features.own_negatives(), outside)], dim=1)
        return loss + (false.logsumexp(dim=1) - own).mean()


@dataclass(frozen=True)
class KnowledgeContrast(Objective):
    """Each image must find its own knowledge texts among those of all samples, any of them as good as another.

    With z the logits of image i and all further texts: the mean over images that have one of
    logsumexp(z over all) - logsumexp(z over own) (knowledge contrastive learning, KCL).

    Attributes:
        weight: Factor of this term in the loss.

    Source: the image-text triplets of Pan et al. 2022 (Knowledge-CLIP, arXiv 2210.08901), section 3.3, with the
        marginal over positives of MIL-NCE, Miech et al. 2020 (arXiv 1912.06430).
    Differs: facts come as captions made of a graph's edges, so that CLIP's own text tower reads them; no fusion
        encoder.
    """

    name: ClassVar[str] = "knowledge_contrast"
    source: ClassVar[str] = "Pan et al. 2022 (Knowledge-CLIP, arXiv 2210.08901), section 3.3"
    needs: ClassVar[tuple[str, ...]] = ("positives",)

    weight: float = 0.5

    def __call__(self, features: Features) -> Tensor:
        """Return the mean; 0 when no sample of the batch has a further text."""
        import torch

        positives: TextSlots = features.require("positives")
        mask = positives.mask
        if not bool(mask.any()):
            return 0.0 * features.image.sum()
        logits = features.logit_scale * torch.einsum("id,jpd->ijp", features.image, positives.features)
        logits = logits.masked_fill(~mask, float("-inf"))
        rows = mask.any(dim=1).nonzero()[:, 0]
        return (logits[rows].flatten(1).logsumexp(dim=1) - logits[rows, rows].logsumexp(dim=1)).mean()
