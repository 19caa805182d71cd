"""Two-tower modules, and where any model is cut between trunk (which may be frozen) and head (its projection)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, cast

import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.timm_model import TimmModel
from open_clip.transformer import TextTransformer, VisionTransformer, text_global_pool
from torch import Tensor, nn

from data_manifests.errors import InputError

GROUPS = ("image_trunk", "image_head", "text_trunk", "text_head", "logit_scale")


class Projection(nn.Module):
    """A tower's way into the common space.

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


class ImageTower(nn.Module):
    """A timm model without its classifier, and a projection: pixels [n, 3, size, size] to features [n, embed_dim]."""

    def __init__(self, trunk: nn.Module, head: Projection, size_px: int) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head
        self.image_size = (size_px, size_px)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return features, not normalised."""
        features: Tensor = self.head(self.trunk(pixels))
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
        """Return activations [n, width] of what each place holds [n, length, width] where the mask is True."""
        if self.pooling == "first":
            return hidden[:, 0]
        kept = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * kept).sum(dim=1) / kept.sum(dim=1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return features, not normalised."""
        features: Tensor = self.head(self.trunk(tokens))
        return features


class TwoTowerCLIP(CustomTextCLIP):  # type: ignore[misc]
    """A `CustomTextCLIP` whose towers are handed in ready-made; open_clip builds its own from names."""

    def __init__(self, visual: ImageTower, text: TextTower) -> None:
        nn.Module.__init__(self)
        self.visual, self.text = visual, text
        self.context_length, self.vocab_size = text.context_length, text.vocab_size
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
        self.logit_bias = None
        self.output_dict = False


def image_trunk(model: nn.Module, pixels: Tensor) -> Tensor:
    """Return the image tower's activations before its projection; see `ClipModel` for where each kind is cut."""
    visual = cast("Any", model).visual
    if len(pixels) > 1 and _convolves(visual):
        pixels = pixels.contiguous(memory_format=torch.channels_last)
    if isinstance(visual, (ImageTower, TimmModel)):
        return cast("Tensor", visual.trunk(pixels))
    if isinstance(visual, VisionTransformer):
        # open_clip offers no public way to stop before the projection
        pooled, _ = visual._pool(visual.transformer(visual._embeds(pixels)))  # noqa: SLF001
        return cast("Tensor", pooled)
    return cast("Tensor", visual(pixels))


def _convolves(visual: nn.Module) -> bool:
    """Say whether a tower is more than cut into patches by convolutions: those are faster with channels innermost.

    Not for one image alone, whose stored activations and embeddings keep their bits.
    """
    found = (module for module in visual.modules() if isinstance(module, nn.Conv2d))
    return len(list(islice(found, 2))) > 1


def image_head(model: nn.Module, activations: Tensor) -> Tensor:
    """Return the features of image activations."""
    visual = cast("Any", model).visual
    if isinstance(visual, (ImageTower, TimmModel)):
        return cast("Tensor", visual.head(activations))
    if isinstance(visual, VisionTransformer):
        return _projected(activations, visual.proj)
    return activations


def text_trunk(model: nn.Module, tokens: Tensor) -> Tensor:
    """Return the text tower's activations before its projection, for tokens of any length up to the context."""
    # an open_clip.CLIP keeps the parts of its text tower on itself
    text = cast("Any", model if isinstance(model, CLIP) else model.text)
    if isinstance(text, TextTower):
        return text.trunk(tokens)
    if isinstance(text, HFTextEncoder):
        mask = (tokens != text.config.pad_token_id).long()
        return cast("Tensor", text.pooler(text.transformer(input_ids=tokens, attention_mask=mask), mask))
    if (hidden := native_text_hidden(model, tokens)) is not None:
        pool_type = text.text_pool_type if isinstance(text, CLIP) else text.pool_type
        return cast("Tensor", text_global_pool(hidden, tokens, pool_type, eos_token_id=native_eos_id(model)))
    return cast("Tensor", text(tokens))


def native_text_hidden(model: nn.Module, tokens: Tensor) -> Tensor | None:
    """Return what open_clip's own text transformer holds at each place [n, length, width]; None for other towers."""
    text = cast("Any", model if isinstance(model, CLIP) else model.text)
    length = tokens.shape[1]
    if isinstance(text, CLIP):
        hidden = text.token_embedding(tokens) + text.positional_embedding[:length]
        mask = text.attn_mask
    elif isinstance(text, TextTransformer) and text.cls_emb is None and not text.use_pad_mask:
        hidden, mask = text._embeds(tokens)  # noqa: SLF001 - open_clip offers no public way
    else:
        return None
    seen = None if mask is None else mask[:length, :length]
    return cast("Tensor", text.ln_final(text.transformer(hidden, attn_mask=seen)))


def native_eos_id(model: nn.Module) -> int | None:
    """Return the token that ends a text in open_clip's own text transformer, where its pooling asks for one."""
    text = cast("Any", model if isinstance(model, CLIP) else model.text)
    return cast("int | None", text.text_eos_id if isinstance(text, CLIP) else text.eos_id)


def text_head(model: nn.Module, activations: Tensor) -> Tensor:
    """Return the features of text activations."""
    text = cast("Any", model if isinstance(model, CLIP) else model.text)
    if isinstance(text, TextTower):
        return cast("Tensor", text.head(activations))
    if isinstance(text, HFTextEncoder):
        return cast("Tensor", text.proj(activations))
    if isinstance(text, CLIP) or (isinstance(text, TextTransformer) and text.cls_emb is None and not text.use_pad_mask):
        return _projected(activations, text.text_projection)
    return activations


def _projected(activations: Tensor, projection: Any) -> Tensor:
    if projection is None:
        return activations
    return cast("Tensor", projection(activations) if isinstance(projection, nn.Module) else activations @ projection)


def group_of(model: nn.Module, name: str) -> str:
    """Return which of `GROUPS` a parameter or buffer belongs to, by its name in the model."""
    if name in ("logit_scale", "logit_bias"):
        return "logit_scale"
    if name.startswith("visual."):
        visual = cast("Any", model).visual
        head = {ImageTower: "head.", TimmModel: "head.", VisionTransformer: "proj"}.get(type(visual))
        return "image_head" if head and name.startswith(f"visual.{head}") else "image_trunk"
    if isinstance(model, CLIP):
        return "text_head" if name.startswith("text_projection") else "text_trunk"
    heads = {TextTower: "head.", HFTextEncoder: "proj.", TextTransformer: "text_projection"}
    head = heads.get(type(cast("Any", model).text))
    return "text_head" if head and name.startswith(f"text.{head}") else "text_trunk"


def trunk_parameters(model: nn.Module, side: str) -> Iterator[nn.Parameter]:
    """Yield the parameters of the `image` or `text` trunk, LoRA's included."""
    for name, parameter in model.named_parameters():
        if group_of(model, name) == f"{side}_trunk":
            yield parameter


def causal_end(model: nn.Module, tokens: Tensor) -> Tensor | None:
    """Return the place that a causal tower pools at [n], after which it reads nothing; None for other towers."""
    text = cast("Any", model if isinstance(model, CLIP) else model.text)
    native = isinstance(text, (CLIP, TextTransformer))
    if not native or text.attn_mask is None or getattr(text, "cls_emb", None) is not None:
        return None
    kind = text.text_pool_type if isinstance(text, CLIP) else text.pool_type
    if kind == "argmax":
        return tokens.argmax(dim=1)
    ends = torch.eq(tokens, native_eos_id(model) or 0)
    return ends.int().argmax(dim=1) if kind == "eos" else None


def padded_lengths(model: nn.Module, tokens: Tensor, *, pad_id: int, bucket: int) -> Tensor:
    """Return int64 [n]: the smallest multiple of `bucket`, at most the context, that holds all that counts."""
    context = tokens.shape[1]
    text = cast("Any", model if isinstance(model, CLIP) else model.text)
    if isinstance(text, (TextTower, HFTextEncoder)):
        used = (tokens != pad_id).sum(dim=1)
    elif (end := causal_end(model, tokens)) is not None:
        used = end + 1
    else:
        used = torch.full_like(tokens[:, 0], context)
    return ((used + bucket - 1) // bucket * bucket).clamp(min=bucket, max=context)
