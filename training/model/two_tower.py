"""Modules of a two-tower model: an image tower, a text tower, and a projection for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from open_clip.model import CustomTextCLIP
from torch import Tensor, nn

from data_manifests.errors import InputError


class Projection(nn.Module):
    """Maps a tower's activations into the common space.

    `linear`: one matrix. `linear_gelu`: features are standardised, then a linear map plus a branch with one hidden
    layer (GELU, dropout). Standardised means a layer normalisation without parameters: each vector by its own mean
    and deviation, so the result depends neither on the batch nor on statistics of some data set.

    Shapes: [n, width] to [n, embed_dim].
    """

    def __init__(self, width: int, embed_dim: int, kind: str, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm: nn.Module = nn.Identity()
        self.branch: nn.Module | None = None
        if kind == "linear_gelu":
            self.norm = nn.LayerNorm(width, elementwise_affine=False)
            self.branch = nn.Sequential(
                nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, embed_dim)
            )
        elif kind != "linear":
            raise InputError(f"model config: projection.kind '{kind}'", allowed="linear, linear_gelu")
        self.linear = nn.Linear(width, embed_dim, bias=self.branch is not None)

    def forward(self, activations: Tensor) -> Tensor:
        """Return features [n, embed_dim], not normalised."""
        standard = self.norm(activations)
        features: Tensor = self.linear(standard)
        return features if self.branch is None else features + self.branch(standard)


POOL_HEADS, POOL_HEAD_WIDTH, POOL_DROPOUT = 4, 32, 0.1
"""An attention pool stays small: about half a million weights over 1,280 channels."""


class AttentionPool(nn.Module):
    """What a few attention heads, each with one learned query, add to the mean over an image's places.

    Places are standardised (a layer normalisation without parameters), mapped to keys and values, and marked by a learned
    position, so that a head can weigh by what is there and by where it is. The output map starts at zero: at first
    nothing is added. Dropout on what the heads read.

    Shapes: places [n, places, width] to [n, width].

    Source: multi-head attention pooling by learned queries: Lee et al. 2019 (Set Transformer, arXiv 1810.00825), section 3.2.
    Differs: one query for each head, no feed-forward part, an output that starts at zero as LoRA's (arXiv 2106.09685).
    """

    def __init__(self, width: int, places: int) -> None:
        super().__init__()
        inner = POOL_HEADS * POOL_HEAD_WIDTH
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.key_value = nn.Linear(width, 2 * inner)
        self.position = nn.Parameter(torch.zeros(places, 2 * inner))
        self.query = nn.Parameter(torch.randn(POOL_HEADS, POOL_HEAD_WIDTH) * POOL_HEAD_WIDTH**-0.5)
        self.dropout = nn.Dropout(POOL_DROPOUT)
        self.out = nn.Linear(inner, width, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, places: Tensor) -> Tensor:
        """Return what is added to the mean."""
        mapped = self.key_value(self.norm(places)) + self.position
        key, value = mapped.unflatten(-1, (2, POOL_HEADS, POOL_HEAD_WIDTH)).unbind(2)
        weight = torch.einsum("nphd,hd->nph", key, self.query).softmax(dim=1)
        read = torch.einsum("nph,nphd->nhd", weight, value).flatten(1)
        added: Tensor = self.out(self.dropout(read))
        return added


def places_of(features: Tensor) -> Tensor:
    """Return a feature map [n, width, height, width] or tokens [n, places, width] as places [n, places, width]."""
    return features.flatten(2).transpose(1, 2) if features.ndim == 4 else features


class ImageTower(nn.Module):
    """A timm model without its classifier, and a projection: pixels [n, 3, size, size] to features [n, embed_dim].

    Args:
        trunk: The timm model.
        head: The projection.
        size_px: Side of the images.
        pool: Adds to the trunk's own pooling; without it the trunk's activations are pooled already.
    """

    def __init__(self, trunk: nn.Module, head: Projection, size_px: int, pool: AttentionPool | None = None) -> None:
        super().__init__()
        self.trunk, self.head, self.pool = trunk, head, pool
        self.image_size = (size_px, size_px)

    def activations(self, pixels: Tensor) -> Tensor:
        """Return what the trunk computes: [n, width], or with an attention pool its feature map or tokens."""
        trunk: Any = self.trunk
        found: Tensor = trunk(pixels) if self.pool is None else trunk.forward_features(pixels)
        return found

    def pooled(self, activations: Tensor) -> Tensor:
        """Return activations pooled, [n, width]."""
        if self.pool is None:
            return activations
        own: Tensor = cast("Any", self.trunk).forward_head(activations)
        return own + cast("Tensor", self.pool(places_of(activations)))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return features, not normalised."""
        features: Tensor = self.head(self.pooled(self.activations(pixels)))
        return features


class TextTower(nn.Module):
    """A Hugging Face encoder, pooled, and a projection: token ids [n, length] to features [n, embed_dim]."""

    def __init__(self, transformer: nn.Module, head: Projection, text: Mapping[str, Any]) -> None:
        super().__init__()
        self.transformer, self.head = transformer, head
        self.context_length: int = text["context_length"]
        self.vocab_size: int = text["config"]["vocab_size"]
        self.pooling: str = text["pooling"]
        self.pad_id = 0
        self.output_tokens = False

    def trunk(self, tokens: Tensor) -> Tensor:
        """Return pooled activations [n, width]; padding takes no part in them."""
        mask = tokens != self.pad_id
        return self.pool(self.transformer(input_ids=tokens, attention_mask=mask.long()).last_hidden_state, mask)

    def pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return activations [n, width] of the outputs by position [n, length, width] where the mask is True."""
        if self.pooling == "first":
            return hidden[:, 0]
        kept = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * kept).sum(dim=1) / kept.sum(dim=1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return features, not normalised."""
        features: Tensor = self.head(self.trunk(tokens))
        return features


class TwoTowerCLIP(CustomTextCLIP):  # type: ignore[misc]
    """A `CustomTextCLIP` whose towers are given as modules; open_clip builds its own from names."""

    def __init__(self, visual: ImageTower, text: TextTower) -> None:
        nn.Module.__init__(self)
        self.visual, self.text = visual, text
        self.context_length, self.vocab_size = text.context_length, text.vocab_size
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
        self.logit_bias = None
        self.output_dict = False
