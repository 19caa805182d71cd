"""Tokens against patches: which part of the image each part of the text describes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from training.objectives.interface import Objective
from training.objectives.negative_contrast import check_focus, focal_contrast

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


def part_scores(tokens: Tensor, inside: Tensor, patches: Tensor, scale: Tensor) -> Tensor:
    """Return each text's score [n] of its tokens [n, L, d] where `inside` [n, L], against patches [n, N, d].

    A text without a token scores 0.
    """
    import torch

    with torch.no_grad():
        similarity = torch.einsum("nld,npd->nlp", tokens, patches)
        low, high = similarity.amin(dim=2, keepdim=True), similarity.amax(dim=2, keepdim=True)
        share = (similarity - low) / (high - low).clamp_min(1e-6)
        share = share / share.sum(dim=2, keepdim=True).clamp_min(1e-6)
    seen = torch.nn.functional.normalize(torch.einsum("nlp,npd->nld", share, patches), dim=-1)
    score = scale * (tokens * seen).sum(dim=2)
    count = inside.sum(dim=1)
    score = score.masked_fill(~inside, float("-inf")).masked_fill((count == 0)[:, None], 0.0)
    total = score.logsumexp(dim=1) - count.clamp_min(1).to(score.dtype).log()
    return total.masked_fill(count == 0, 0.0)
