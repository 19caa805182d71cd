"""Features of patches and tokens instead of one vector per image and text, and texts with a run of tokens cut off."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from open_clip.hf_model import HFTextEncoder
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor

from data_manifests.errors import InputError
from training.model.clip_model import ClipModel
from training.model.two_tower import ImageTower, TextTower, places_of


def check_patches(model: ClipModel) -> None:
    """Check that the image tower's patches can be reached.

    Raises:
        InputError: they cannot.
    """
    visual = cast("Any", model.module).visual
    if not isinstance(visual, (ImageTower, TimmModel, ModifiedResNet)) and (
        not isinstance(visual, VisionTransformer) or visual.attn_pool is not None
    ):
        raise InputError(
            f"this model's image tower ({type(visual).__name__}) gives no patches",
            allowed="a timm tower, open_clip's ResNet, or its ViT without attentional pooling",
            fix="use a recipe without a local objective",
        )


def check_tokens(model: ClipModel) -> None:
    """Check that the text tower's tokens can be reached.

    Raises:
        InputError: they cannot.
    """
    if not _is_masked(model) and model.causal_end(torch.zeros((1, 1), dtype=torch.long)) is None:
        raise InputError(
            f"this model's text tower ({type(model.text_tower).__name__}) gives no tokens",
            allowed="BERT-like towers and open_clip's causal text transformer",
            fix="use a recipe without a local objective and without cutoff",
        )


def encode_patches(model: ClipModel, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return unit-norm image features [n, d] and those of the patches [n, N, d], both by the tower's own head.

    In open_clip's ResNet, whose head is an attention pool, a place's feature is what the pool gives that reads it alone.

    Raises:
        InputError: the tower's patches cannot be reached.

    Source: places of an attention pool: Zhou et al. 2022 (MaskCLIP, arXiv 2112.01071), section 3.2.
    Differs: none.
    """
    check_patches(model)
    visual = cast("Any", model.module).visual
    if isinstance(visual, VisionTransformer):
        # open_clip offers no public way to stop before the projection
        pooled, patches = visual._pool(visual.transformer(visual._embeds(pixels)))  # noqa: SLF001
        return F.normalize(model.image_head(pooled), dim=-1), F.normalize(model.image_head(patches), dim=-1)
    if isinstance(visual, ModifiedResNet):
        hidden = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(pixels)))))
        pool = visual.attnpool
        patches = pool.c_proj(pool.v_proj(places_of(hidden) + pool.positional_embedding[1:]))
        return F.normalize(pool(hidden), dim=-1), F.normalize(patches, dim=-1)
    trunk: Any = visual.trunk
    hidden = trunk.forward_features(pixels)
    has_pool = isinstance(visual, ImageTower) and visual.pool is not None
    image = model.image_head(hidden if has_pool else trunk.forward_head(hidden, pre_logits=True))
    patches = places_of(hidden) if hidden.ndim == 4 else hidden[:, trunk.num_prefix_tokens :]
    return F.normalize(image, dim=-1), F.normalize(visual.head(patches), dim=-1)


def encode_tokens(model: ClipModel, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return unit-norm text features [n, d], those of the tokens [n, L, d], and True at tokens of the text [n, L].

    Start and end marks and padding are no tokens of the text.

    Raises:
        InputError: the tower's tokens cannot be reached.
    """
    text, last = model.text_tower, _last_token(model, tokens)
    if _is_masked(model):
        used = tokens != model.pad_id
        out = text.transformer(input_ids=tokens, attention_mask=used.long())
        hidden = out.last_hidden_state
        pooled = text.pool(hidden, used) if isinstance(text, TextTower) else text.pooler(out, used.long())
    else:
        hidden = cast("Tensor", model.native_text_hidden(tokens))
        pooled = hidden[torch.arange(len(tokens), device=tokens.device), last]
    position = torch.arange(tokens.shape[1], device=tokens.device)
    inside = (position > 0) & (position < last[:, None]) & (tokens >= 0)  # context tokens are no words of the text
    return F.normalize(model.text_head(pooled), dim=-1), F.normalize(model.text_head(hidden), dim=-1), inside


def cut_tokens(model: ClipModel, tokens: Tensor, ratio: float) -> Tensor:
    """Return the tokens [n, L] without a run of about `ratio` of each text's tokens, at a position drawn for each.

    Drawn from torch's global generator. Start and end marks stay; a text of one token stays as it is. In a tower that
    reads a mask the run becomes a gap, so that the others keep their positions; in a causal tower what follows moves up.

    Raises:
        InputError: the tower's tokens cannot be reached.
    """
    first = 1 + (tokens < 0).sum(dim=1)  # context tokens stay, too
    length = (_last_token(model, tokens) - first).clamp_min(0)
    run = (length * ratio).round().long().clamp_min(1).minimum((length - 1).clamp_min(0))
    start = first + (torch.rand(len(tokens)).to(length.device) * (length - run + 1)).long()
    position = torch.arange(tokens.shape[1], device=tokens.device)
    removed = (position >= start[:, None]) & (position < (start + run)[:, None])
    cut = tokens.masked_fill(removed, model.pad_id)
    return cut if _is_masked(model) else cut.gather(1, removed.int().argsort(dim=1, stable=True))


def _is_masked(model: ClipModel) -> bool:
    """Return whether the text tower reads a mask of its padding."""
    return isinstance(model.text_tower, (TextTower, HFTextEncoder))


def _last_token(model: ClipModel, tokens: Tensor) -> Tensor:
    """Return the position of each text's end mark [n]."""
    if _is_masked(model):
        return (tokens != model.pad_id).sum(dim=1) - 1
    check_tokens(model)
    return cast("Tensor", model.causal_end(tokens))
