"""What towers hold place by place - image patches, text tokens - and texts with a run of their tokens cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.model import CLIP
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor

from data_manifests.errors import InputError
from training.model import two_tower as cut
from training.model.two_tower import ImageTower, TextTower

if TYPE_CHECKING:
    from training.model.clip_model import ClipModel


def encode_image_places(model: ClipModel, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return unit-norm image features [n, d] and those of the patches [n, N, d], both by the tower's own head.

    Raises:
        InputError: the tower's patches cannot be reached.
    """
    visual = cast("Any", model.module).visual
    if isinstance(visual, (ImageTower, TimmModel)):
        trunk: Any = visual.trunk
        hidden = trunk.forward_features(pixels)
        pooled = trunk.forward_head(hidden, pre_logits=True)
        places = hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden[:, trunk.num_prefix_tokens :]
    elif isinstance(visual, VisionTransformer) and visual.attn_pool is None:
        # open_clip offers no public way to stop before the projection
        pooled, places = visual._pool(visual.transformer(visual._embeds(pixels)))  # noqa: SLF001
    else:
        raise InputError(
            f"this model's image tower ({type(visual).__name__}) gives no patches",
            allowed="a timm tower or open_clip's ViT without attentional pooling",
            fix="use a recipe without a local objective",
        )
    return _unit(model.image_head(pooled)), _unit(model.image_head(places))


def encode_text_places(model: ClipModel, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return unit-norm text features [n, d], those of the tokens [n, L, d], and where a token of the text stands [n, L].

    Raises:
        InputError: the tower's tokens cannot be reached.
    """
    text = _text_tower(model)
    if isinstance(text, (TextTower, HFTextEncoder)):
        used = tokens != model.pad_id
        last = used.sum(dim=1) - 1
        out = text.transformer(input_ids=tokens, attention_mask=used.long())
        hidden = out.last_hidden_state
        pooled = text.pool(hidden, used) if isinstance(text, TextTower) else text.pooler(out, used.long())
    else:
        last = _causal_end(model, tokens)
        hidden = cast("Tensor", cut.native_text_hidden(model.module, tokens))
        pooled = hidden[torch.arange(len(tokens), device=tokens.device), last]
    place = torch.arange(tokens.shape[1], device=tokens.device)
    inside = (place > 0) & (place < last[:, None])
    return _unit(model.text_head(pooled)), _unit(model.text_head(hidden)), inside


def cut_tokens(model: ClipModel, tokens: Tensor, ratio: float) -> Tensor:
    """Return the tokens [n, L] without a run of about `ratio` of each text's tokens, at a place drawn for each.

    Drawn from torch's global generator. Start and end marks stay; a text of one token stays as it is. ClipModel that
    read a mask see a hole, so that the others keep their places; in a causal tower what follows moves up.
    """
    masked = isinstance(_text_tower(model), (TextTower, HFTextEncoder))
    last = (tokens != model.pad_id).sum(dim=1) - 1 if masked else _causal_end(model, tokens)
    length = (last - 1).clamp_min(0)
    run = (length * ratio).round().long().clamp_min(1).minimum((length - 1).clamp_min(0))
    start = 1 + (torch.rand(len(tokens)).to(length.device) * (length - run + 1)).long()
    place = torch.arange(tokens.shape[1], device=tokens.device)
    gone = (place >= start[:, None]) & (place < (start + run)[:, None])
    if masked:
        return tokens.masked_fill(gone, model.pad_id)
    order = gone.int().argsort(dim=1, stable=True)
    return tokens.masked_fill(gone, model.pad_id).gather(1, order)


def _text_tower(model: ClipModel) -> Any:
    # an open_clip.CLIP keeps the parts of its text tower on itself
    return model.module if isinstance(model.module, CLIP) else model.module.text


def _causal_end(model: ClipModel, tokens: Tensor) -> Tensor:
    end = cut.causal_end(model.module, tokens)
    if end is None:
        raise InputError(
            f"this model's text tower ({type(_text_tower(model)).__name__}) gives no tokens",
            allowed="BERT-like towers and open_clip's causal text transformer",
            fix="use a recipe without a local objective and without cutoff",
        )
    return end


def _unit(values: Tensor) -> Tensor:
    return torch.nn.functional.normalize(values, dim=-1)
