"""Tokens against patches: which part of the image each part of the text describes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from training.objectives.interface import Objective
from training.objectives.negative_contrast import check_focus, focal_contrast
from training.settings import check_settings

if TYPE_CHECKING:
    from torch import Tensor

    from training.features import Features, TokenFeatures


@dataclass(frozen=True)
class LocalContrast(Objective):
    """Each image against its caption and its own negatives by the parts: a (1 + K)-way softmax of part scores.

    Each token (or phrase: the mean of its tokens) weighs the patches by its similarity to them, stretched to 0 .. 1
    over the patches and without a gradient; its score is t cos(token, weighted mean of patches). A text's score is the
    logsumexp of its tokens' scores, minus the log of their number. The loss is that of `NegativeContrast`.

    Attributes:
        weight: Factor of this term in the loss.
        gamma: Focus: 0 is plain cross-entropy.
        smoothing: Share of the target spread evenly, 0 to below 1.

    Source: Oh et al. 2024 (FSC-CLIP, arXiv 2410.05210), local hard-negative loss; phrases instead of tokens as in
        multi-scale alignment of spans and patches.
    Differs: the number of tokens is divided out, as longer texts would score higher by their length alone; empty slots
        leave the softmax.
    """

    name: ClassVar[str] = "local_contrast"
    source: ClassVar[str] = "Oh et al. 2024 (FSC-CLIP, arXiv 2410.05210), local hard-negative loss"
    needs: ClassVar[tuple[str, ...]] = ("tokens", "negatives")

    weight: float = 0.2
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

        tokens: TokenFeatures = features.require("tokens")
        assert tokens.negatives is not None
        assert tokens.negatives_mask is not None
        mask = features.own_negatives() & tokens.negatives_mask.any(dim=2)
        rows = mask.any(dim=1) & tokens.text_mask.any(dim=1)
        if not bool(rows.any()):
            return 0.0 * features.image.sum()
        patches, mask = tokens.image[rows], mask[rows]
        own = part_scores(tokens.text[rows], tokens.text_mask[rows], patches, features.logit_scale)
        slots = [
            part_scores(tokens.negatives[rows, k], tokens.negatives_mask[rows, k], patches, features.logit_scale)
            for k in range(mask.shape[1])
        ]
        return focal_contrast(torch.stack([own, *slots], dim=1), mask, self.gamma, self.smoothing).mean()


@dataclass(frozen=True)
class MultiScaleContrast(Objective):
    """An image against caption, phrases and words, each beside what its negatives have in its place.

    A text, whatever its scale, weighs the patches by its similarity to them, stretched to 0 .. 1 over the patches and without
    a gradient, and scores t cos(text, weighted mean of patches). The loss is the mean of three: captions against their own
    negatives, phrases against their one foil, words against theirs, each as in `NegativeContrast` with those scores; a scale
    that a batch lacks leaves the mean. For training only: a tuned model is used and evaluated by its global features.

    Attributes:
        weight: Factor of this term in the loss.
        gamma: Focus: 0 is plain cross-entropy.
        smoothing: Share of the target spread evenly, 0 to below 1.
        per_caption: Most phrases and words of a caption at a step, drawn anew.

    Source: this project's notes on multi-scale alignment; patches weighted by a text: Oh et al. 2024 (FSC-CLIP, arXiv
        2410.05210); units with foils of their own: CS-CLIP 2026.
    Differs: phrases and words are read by the text tower as texts of their own, not as positions of the caption; a phrase is
        compared with its foil only, since another image's phrase may be true of this one, too.
    """

    name: ClassVar[str] = "multi_scale_contrast"
    source: ClassVar[str] = "this project's notes; FSC-CLIP (arXiv 2410.05210)"
    needs: ClassVar[tuple[str, ...]] = ("tokens", "negatives", "phrases")

    weight: float = 0.2
    gamma: float = 2.0
    smoothing: float = 0.02
    per_caption: int = 4

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            InputError: a value is out of range.
        """
        super().__post_init__()
        check_focus(self)
        check_settings(self, self.per_caption >= 1, "per_caption", "1 or more")

    def __call__(self, features: Features) -> Tensor:
        """Return the mean over the scales that the batch has; 0 when it has none."""
        import torch

        patches: Tensor = features.require("tokens").image
        negatives, parts = features.require("negatives"), features.require("phrases")
        captions = torch.cat([features.text[:, None], negatives], dim=1)
        mask = features.own_negatives()
        terms, rows = [], mask.any(dim=1)
        if bool(rows.any()):
            scores = self._scores(captions[rows], patches[rows], features.logit_scale)
            terms.append(focal_contrast(scores, mask[rows], self.gamma, self.smoothing).mean())
        for scale in (parts.mask & ~parts.is_word, parts.mask & parts.is_word):
            if bool(scale.any()):
                pairs = torch.stack([parts.text[scale], parts.foil[scale]], dim=1)
                scores = self._scores(pairs, patches[scale.nonzero()[:, 0]], features.logit_scale)
                terms.append(
                    focal_contrast(scores, torch.ones_like(scale[scale])[:, None], self.gamma, self.smoothing).mean()
                )
        return torch.stack(terms).mean() if terms else 0.0 * (features.image.sum() + features.text.sum())

    @staticmethod
    def _scores(texts: Tensor, patches: Tensor, scale: Tensor) -> Tensor:
        """Return the score of each of some texts [n, K] of their image [n, K, d] against its patches [n, N, d]."""
        seen = weighted_patches(texts, patches)
        scores: Tensor = scale * (texts * seen).sum(dim=2)
        return scores


def part_scores(tokens: Tensor, inside: Tensor, patches: Tensor, scale: Tensor) -> Tensor:
    """Return each text's score [n] of its tokens [n, L, d] where `inside` [n, L], against patches [n, N, d].

    A text without a token scores 0.
    """
    seen = weighted_patches(tokens, patches)
    score = scale * (tokens * seen).sum(dim=2)
    count = inside.sum(dim=1)
    score = score.masked_fill(~inside, float("-inf")).masked_fill((count == 0)[:, None], 0.0)
    total = score.logsumexp(dim=1) - count.clamp_min(1).to(score.dtype).log()
    return total.masked_fill(count == 0, 0.0)


def weighted_patches(texts: Tensor, patches: Tensor) -> Tensor:
    """Return, for each text [n, L, d], the unit-norm mean of the patches [n, N, d] by its similarity to them [n, L, d].

    Similarities are stretched to 0 .. 1 over the patches and have no gradient.
    """
    import torch

    with torch.no_grad():
        similarity = torch.einsum("nld,npd->nlp", texts, patches)
        low, high = similarity.amin(dim=2, keepdim=True), similarity.amax(dim=2, keepdim=True)
        share = (similarity - low) / (high - low).clamp_min(1e-6)
        share = share / share.sum(dim=2, keepdim=True).clamp_min(1e-6)
    return torch.nn.functional.normalize(torch.einsum("nlp,npd->nld", share, patches), dim=-1)
