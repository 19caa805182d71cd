"""Phrases and words of captions with their foils, for objectives that look at parts of a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from training.hard_negatives import in_slots

if TYPE_CHECKING:
    from torch import Tensor

    from training.model.clip_model import StepEncoder


@dataclass(frozen=True)
class PhraseFoils:
    """Parts of each caption, each with a foil: what a negative has in its place. B samples, S slots each.

    Attributes:
        text: Unit-norm features of the parts [B, S, d]; an empty slot's values are never used.
        foil: The same of their foils.
        mask: True where a slot is filled, bool [B, S].
        is_word: True where the part is a word, False where it is a phrase, bool [B, S].
    """

    text: Tensor
    foil: Tensor
    mask: Tensor
    is_word: Tensor


def encode_phrases(encoder: StepEncoder, phrases: Sequence[Sequence[tuple[str, str, str]]], slots: int) -> PhraseFoils:
    """Return the features of the first parts of each caption, at most `slots`, and of their foils."""
    import torch

    model = encoder.model
    drawn = [own[:slots] for own in phrases]
    mask = torch.arange(slots) < torch.tensor([len(own) for own in drawn])[:, None]
    parts = list(chain(*drawn))
    is_word = torch.zeros_like(mask)
    is_word[mask] = torch.tensor([scale == "word" for scale, _, _ in parts], dtype=torch.bool)
    encoded = torch.zeros(0, model.embed_dim, device=model.device)
    if parts:
        texts = [text for _, text, _ in parts] + [foil for _, _, foil in parts]
        encoded = encoder.encode_text(model.trim(model.tokenize(texts)).to(model.device), cached=False)
    mask = mask.to(model.device)
    text, foil = (in_slots(part, mask) for part in (encoded[: len(parts)], encoded[len(parts) :]))
    return PhraseFoils(text, foil, mask, is_word.to(model.device))
