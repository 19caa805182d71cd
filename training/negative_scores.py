"""What a choice of negatives is made from: similarities of the current model, without dropout or gradient.

An adaptive choice looks at every candidate first. Where that look is worth more than it saves - few candidates are left out -
all are encoded with gradients at once and the choice is made among the features: the same numbers, one pass less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from training.hard_negatives import Choice, Chooser
from training.model import lora

if TYPE_CHECKING:
    from torch import Tensor

    from training.batches.batch import Batch
    from training.gradient_cache import Encode, Passes
    from training.model.clip_model import ClipModel

ONE_PASS = 1.5
"""Candidates a chosen negative up to which one pass with gradients costs no more than a look and a second pass."""


def in_one_pass(model: ClipModel, batch: Batch, chooser: Chooser, *, places: bool) -> bool:
    """Say whether the choice may be made among what is encoded with gradients: cheaper, and the same numbers.

    Dropout in the trunk forbids it. Where it is in the head alone, `encode_and_look` gives what the look would see.
    """
    from training.model.text_encoding import drops

    chosen = getattr(chooser, "choose", 0)
    if not chooser.adaptive or batch.negatives is None or batch.negatives.shape[1] > ONE_PASS * chosen:
        return False
    return not drops(model, "text_trunk", *(("text_head",) if places else ()))


def take_all(mask: Tensor) -> Choice:
    """Return the choice of every candidate."""
    import torch

    index = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    return Choice(index, mask, torch.ones(mask.shape, device=mask.device))


def similarities(
    model: ClipModel, batch: Batch, chooser: Chooser, image: Tensor, passes: Passes
) -> tuple[Tensor, Tensor]:
    """Return what `Chooser.select` is given; zeros where it does not look at them."""
    assert batch.negative_mask is not None
    if not chooser.adaptive:
        return image.new_zeros(len(image)), image.new_zeros(batch.negative_mask.shape)
    return look_ahead(model, batch, image, passes)


def similarity_to(image: Tensor, captions: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
    """Return each image's similarity to its caption [B] and to its negatives [B, C], without gradient."""
    import torch

    image, captions, negatives = image.detach(), captions.detach(), negatives.detach()
    return (image * captions).sum(dim=1), torch.einsum("bd,bcd->bc", image, negatives)


def look_ahead(model: ClipModel, batch: Batch, image: Tensor, passes: Passes) -> tuple[Tensor, Tensor]:
    """Return each image's similarity to its caption [B] and to its candidates [B, C], without dropout or gradient."""
    import torch

    assert batch.negatives is not None
    assert batch.negative_mask is not None
    mask = batch.negative_mask
    lora.eval_mode(model)
    with torch.no_grad():
        texts = torch.cat([batch.text, batch.negatives[mask]])
        (text,) = passes.run(encoder(model, "text", batch.text_cached), texts)
    lora.train_mode(model)
    similarity = image.new_zeros(mask.shape)
    similarity[mask] = (image[mask.nonzero()[:, 0]] * text[len(image) :]).sum(dim=1)
    return (image * text[: len(image)]).sum(dim=1), similarity


def head_drops(model: ClipModel) -> bool:
    """Say whether dropout is at work in the text tower's head."""
    from training.model.text_encoding import drops

    return drops(model, "text_head")


def encode_and_look(model: ClipModel, inputs: Tensor, cached: bool) -> tuple[Tensor, Tensor]:
    """Return features of texts with dropout and gradient, and the same without: the trunk, which has none, runs once."""
    import torch

    from training.model.text_encoding import text_activations

    activations = inputs if cached else text_activations(model, inputs)
    lora.eval_mode(model)
    with torch.no_grad():
        seen = model.text_head(activations)
    lora.train_mode(model)
    features = model.text_head(activations)
    return torch.nn.functional.normalize(features, dim=-1), torch.nn.functional.normalize(seen, dim=-1)


def encode(model: ClipModel, side: Literal["image", "text"], inputs: Tensor, cached: bool) -> Tensor:
    """Return unit-norm features [n, d] of pixels or tokens, or of a frozen trunk's activations of them."""
    import torch

    if not cached:
        from training.model.text_encoding import encode_text

        return model.encode_image(inputs) if side == "image" else encode_text(model, inputs)
    features = model.image_head(inputs) if side == "image" else model.text_head(inputs)
    return torch.nn.functional.normalize(features, dim=-1)


def encoder(model: ClipModel, side: Literal["image", "text"], cached: bool) -> Encode:
    """Return `encode` as `Passes.run` takes it."""
    return lambda inputs: (encode(model, side, inputs, cached),)
