"""Terms over further texts of each image: analogies (TSVLC), paraphrases (READ-CLIP), bags (DAC), knowledge captions."""

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
    F images and G captions. Another sample's text that labels do not call false of the image takes no part.

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
        left_out = _others_left_out(features)[rows][:, rows, 0]
        terms = []
        for anchor in (features.image, features.text):
            logits = (features.logit_scale * anchor[rows] @ further.T).masked_fill(left_out, float("-inf"))
            terms.append(torch.nn.functional.cross_entropy(logits, target))
        return (terms[0] + terms[1]) / 2


@dataclass(frozen=True)
class ParaphraseContrast(Objective):
    """A caption's paraphrase must find the caption among those of all samples.

    With P the first further text of each sample that has one and G all captions: the cross-entropy of t P G^T. Captions of
    other samples that labels do not call false of the paraphrase's image take no part.

    Attributes:
        weight: Factor of this term in the loss.
        negatives: Whether the chosen negatives of all samples stand among the captions: "a star left of a ring" and "a ring
            right of a star" then lie together, and apart from "a star right of a ring", before any image says so.

    Source: READ-CLIP (NeurIPS 2025, arXiv 2510.16540), the alignment loss.
    Differs: samples without a paraphrase take no part, where the released code takes another human caption; negatives
        may stand among the captions.
    """

    name: ClassVar[str] = "paraphrase_contrast"
    source: ClassVar[str] = "READ-CLIP 2025 (arXiv 2510.16540), the alignment loss"

    weight: float = 0.5
    negatives: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """Further texts, and negatives if they stand among the captions."""
        return ("positives", "negatives") if self.negatives else ("positives",)

    def __call__(self, features: Features) -> Tensor:
        """Return the mean over samples with a further text; 0 when the batch has none."""
        import torch

        positives: TextSlots = features.require("positives")
        rows = positives.mask[:, 0].nonzero()[:, 0]
        if not len(rows):
            return 0.0 * features.text.sum()
        texts, left_out = features.text, features.pair_labels()[:, : len(features.text)] != -1
        if self.negatives:
            texts = torch.cat([texts, features.require("negatives").flatten(0, 1)])
            empty = ~features.require("negative_mask").flatten()
            left_out = torch.cat([left_out, (features.pair_labels()[:, len(left_out) :] != -1) | empty], dim=1)
        left_out = left_out.fill_diagonal_(fill_value=False)
        logits = features.logit_scale * positives.features[rows, 0] @ texts.T
        return torch.nn.functional.cross_entropy(logits.masked_fill(left_out[rows], float("-inf")), rows)


@dataclass(frozen=True)
class MultipleInstance(Objective):
    """Some text of an image's bag must fit it better than its negatives, other bags, and other images.

    With bags of a caption and its further texts, x_i(T) the logits of image i and texts T, L = logsumexp: the mean of
    L(own bag and own negatives) - L(own bag), plus the mean of L(all bags of image i; own bag of all other images)
    - L(own bag). Texts and images that labels do not call false of each other leave the sums over others.

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
        doubtful = (features.pair_labels()[:, :size] != -1).fill_diagonal_(fill_value=False)
        left_out = torch.cat([doubtful[..., None], _others_left_out(features)], dim=2)
        logits = logits.masked_fill(~filled | left_out, outside)
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
    logsumexp(z over all) - logsumexp(z over own). Another sample's text that labels do not call false of the image takes
    no part.

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
        logits = logits.masked_fill(~mask | _others_left_out(features), float("-inf"))
        rows = mask.any(dim=1).nonzero()[:, 0]
        return (logits[rows].flatten(1).logsumexp(dim=1) - logits[rows, rows].logsumexp(dim=1)).mean()


def _others_left_out(features: Features) -> Tensor:
    """Return the further texts of other samples that labels do not call false of an image, bool [B, B, P]."""
    import torch

    labels = features.further_labels()
    size = len(labels)
    own = torch.eye(size, dtype=torch.bool, device=labels.device)[..., None]
    return (labels != -1).reshape(size, size, -1) & ~own
