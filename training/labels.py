"""Who is who in a batch: which texts are one's own, what each negative got wrong, numbers that stand for a sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blake3 import blake3

from training.objectives.interface import NEGATIVE_TYPES

if TYPE_CHECKING:
    from torch import Tensor

    from training.batches.batch import Batch
    from training.hard_negatives import Choice


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


def negative_types(batch: Batch, choice: Choice) -> Tensor:
    """Return the number in `NEGATIVE_TYPES` of each chosen negative [B, K]; -1 where unknown or empty."""
    import torch

    number = {name: at for at, name in enumerate(NEGATIVE_TYPES)}
    slots = zip(batch.texts.records, choice.index.tolist(), choice.mask.tolist(), strict=True)
    found = [
        [number.get(row[slot].get("type"), -1) if used else -1 for slot, used in zip(index, mask, strict=True)]
        for row, index, mask in slots
    ]
    return torch.tensor(found, dtype=torch.int64, device=choice.mask.device).reshape(choice.mask.shape)


def identities(batch: Batch) -> Tensor:
    """Return a number for each photograph and one for each caption's text, int64 [B, 2]; the same in every run."""
    import torch

    texts = batch.texts
    pairs = [[_number(uid), _number(caption)] for uid, caption in zip(texts.uids, texts.captions, strict=True)]
    return torch.tensor(pairs, dtype=torch.int64)


def _number(text: str) -> int:
    return int.from_bytes(blake3(text.encode()).digest(length=8), "big", signed=True)
