"""What a batch becomes: features of its images, captions and chosen negatives, and who is a negative of whom."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, cast

from training import lora
from training.mining import Choice, Chooser, count_operations
from training.objectives import Features

if TYPE_CHECKING:
    from torch import Tensor

    from training.data import Batch
    from training.model import Towers


def make_features(
    towers: Towers, batch: Batch, chooser: Chooser | None, progress: float, *, ignore_equal_captions: bool = True
) -> tuple[Features, dict[str, Any]]:
    """Encode a batch with the negatives chosen for it.

    Args:
        towers: In train mode.
        batch: From `PlannedBatches`.
        chooser: Chooses among the batch's candidates; None trains without negatives.
        progress: Share of the run's steps that are done, 0 to below 1.
        ignore_equal_captions: See `TrainConfig`.

    Returns:
        The features, and what the log says of the negatives (empty without).
    """
    import torch

    image = encode(towers, "image", batch.image, batch.image_cached)
    scale = logit_scale(towers)
    if chooser is None or batch.negatives is None or batch.negative_mask is None:
        text = encode(towers, "text", batch.text, batch.text_cached)
        labels = label_texts(batch, None) if ignore_equal_captions else None
        return Features(image, text, scale, labels=labels), {}
    positive, similarity = torch.zeros(len(image)), torch.zeros(batch.negative_mask.shape)
    if chooser.adaptive:
        positive, similarity = look_ahead(towers, batch, image.detach())
    choice = chooser.select(positive, similarity, batch.negative_mask, scale.item(), progress)
    size, slots = choice.mask.shape
    inputs = batch.negatives[torch.arange(size)[:, None], choice.index][choice.mask]
    encoded = encode(towers, "text", torch.cat([batch.text, inputs]), batch.text_cached)
    filled = choice.mask.flatten().nonzero()[:, 0]
    flat = encoded.new_zeros(size * slots, encoded.shape[1]).index_copy(0, filled, encoded[size:])
    labels = label_texts(batch, choice) if ignore_equal_captions else None
    negatives = flat.reshape(size, slots, -1)
    features = Features(image, encoded[:size], scale, negatives, choice.mask, choice.weight, labels)
    return features, {"count": len(filled), **choice.stats, "operation": count_operations(batch.texts.records, choice)}


def look_ahead(towers: Towers, batch: Batch, image: Tensor) -> tuple[Tensor, Tensor]:
    """Return each image's similarity to its caption [B] and to its candidates [B, C], without dropout or gradient."""
    import torch

    assert batch.negatives is not None
    assert batch.negative_mask is not None
    mask = batch.negative_mask
    lora.eval_mode(towers)
    with torch.no_grad():
        text = encode(towers, "text", torch.cat([batch.text, batch.negatives[mask]]), batch.text_cached)
    lora.train_mode(towers)
    similarity = torch.zeros(mask.shape)
    similarity[mask] = (image[mask.nonzero()[:, 0]] * text[len(image) :]).sum(dim=1)
    return (image * text[: len(image)]).sum(dim=1), similarity


def encode(towers: Towers, side: Literal["image", "text"], inputs: Tensor, cached: bool) -> Tensor:
    """Return unit-norm features [n, d] of pixels or tokens, or of a frozen trunk's activations of them."""
    import torch

    if not cached:
        return towers.encode_image(inputs) if side == "image" else towers.encode_text(inputs)
    features = towers.image_head(inputs) if side == "image" else towers.text_head(inputs)
    return torch.nn.functional.normalize(features, dim=-1)


def logit_scale(towers: Towers) -> Tensor:
    """Return the factor from similarities to logits."""
    return cast("Tensor", towers.model.logit_scale).exp()


def clamp_logit_scale(towers: Towers, largest: float) -> None:
    """Keep the factor from similarities to logits between 1 and `largest`."""
    import torch

    with torch.no_grad():
        cast("Tensor", towers.model.logit_scale).clamp_(0.0, math.log(largest))


def label_texts(batch: Batch, choice: Choice | None) -> Tensor:
    """Return labels [B, B + B*K]: 0 for each text that equals the image's own caption, as it is no negative of it."""
    import torch

    captions = batch.texts.captions
    number = {text: at for at, text in enumerate(dict.fromkeys(captions))}
    own = torch.tensor([number[text] for text in captions])
    columns = [own]
    if choice is not None:
        slots = zip(batch.texts.records, choice.index.tolist(), choice.mask.tolist(), strict=True)
        found = [
            number.get(row[slot]["text"], -1) if used else -1
            for row, index, mask in slots
            for slot, used in zip(index, mask, strict=True)
        ]
        columns.append(torch.tensor(found))
    labels = -(own[:, None] != torch.cat(columns)[None, :]).to(torch.int8)
    labels[torch.arange(len(captions)), torch.arange(len(captions))] = 1
    return labels
