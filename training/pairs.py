"""Two samples as one: their pictures side by side, their captions one after the other, and a word of each exchanged (CLIC)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from data_manifests.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from training.model.clip_model import StepEncoder

NUM_POSITIVES = 4
_ENDS = (".", "!", "?")


class PairSide(NamedTuple):
    """One of two samples: its planned caption, all of its captions, and the planned one's words by class."""

    caption: str
    captions: Sequence[str]
    words: Sequence[tuple[str, str]]


class JoinedTexts(NamedTuple):
    """The texts of two samples that were joined.

    Attributes:
        positives: The two captions in both orders, then two of further captions; empty texts where there are none.
        negative: The captions with a word of each exchanged; empty where no words of one class can be.
        beside: Whether the pictures stand side by side, not one above the other.
        swapped: Whether the second one comes first.
    """

    positives: tuple[str, str, str, str]
    negative: str
    beside: bool
    swapped: bool


@dataclass(frozen=True)
class PairFeatures:
    """The features of joined samples. M pairs.

    Attributes:
        image: Unit-norm features of the joined pictures [M, d].
        positives: Of the texts that are true of them [M, 4, d]; the first two are the same captions in both orders.
        mask: True where there is such a text, bool [M, 4].
        negative: Of the negatives [M, d].
        negative_mask: True where there is a negative, bool [M].
    """

    image: Tensor
    positives: Tensor
    mask: Tensor
    negative: Tensor
    negative_mask: Tensor


def check_even(size: int) -> None:
    """Check that the samples of a batch (of a rank's slice of it) can be joined two by two.

    Raises:
        InputError: their number is odd.
    """
    if size % 2:
        raise InputError(
            f"an objective joins samples two by two, and a batch (or a rank's slice of it) has {size}",
            allowed="an even number",
            fix="another --set train.batch_size=NUMBER",
        )


def draw_pair(one: PairSide, other: PairSide, rng: np.random.Generator) -> JoinedTexts:
    """Return the texts of two samples that are joined; all draws come from `rng`."""
    beside, swapped, flipped = (bool(rng.integers(2)) for _ in range(3))
    further = [_further(side, rng) for side in (one, other)]
    positives = [join_texts(one.caption, other.caption), join_texts(other.caption, one.caption)]
    positives += [join_texts(*further), join_texts(*further[::-1])] if any(further) else ["", ""]
    exchanged = exchange_words(one, other, rng)
    negative = join_texts(*(exchanged[::-1] if flipped else exchanged)) if exchanged else ""
    if negative in positives:
        negative = ""
    first, second, third, fourth = positives
    return JoinedTexts((first, second, third, fourth), negative, beside, swapped)


def _further(side: PairSide, rng: np.random.Generator) -> str:
    """Return another of a sample's captions, or an empty text."""
    others = [text for text in dict.fromkeys(side.captions) if text != side.caption]
    return others[int(rng.integers(len(others)))] if others else ""


def join_texts(first: str, second: str) -> str:
    """Return two captions as two sentences; one of them where the other is empty."""
    first, second = first.strip(), second.strip()
    if not first or not second:
        return first or second
    return f"{first} {second}" if first.endswith(_ENDS) else f"{first}. {second}"


def exchange_words(one: PairSide, other: PairSide, rng: np.random.Generator) -> tuple[str, str] | None:
    """Return both captions with a word of each in the other's place, wherever it stands; None where no class has one in both.

    A class that both have is drawn, then a word of each; words that stand in both captions stay.
    """
    found = [set(re.findall(r"\w+", side.caption.lower())) for side in (one, other)]
    by_class: list[dict[str, list[str]]] = []
    for side, there in ((one, found[1]), (other, found[0])):
        classes: dict[str, list[str]] = {}
        for name, word in side.words:
            if word not in there:
                classes.setdefault(name, []).append(word)
        by_class.append(classes)
    common = sorted(by_class[0].keys() & by_class[1].keys())
    if not common:
        return None
    name = common[int(rng.integers(len(common)))]
    left, right = (classes[name][int(rng.integers(len(classes[name])))] for classes in by_class)
    return _replaced(one.caption, left, right), _replaced(other.caption, right, left)


def _replaced(text: str, old: str, new: str) -> str:
    """Return a text with a word replaced wherever it stands as a whole word, with a capital where it had one."""

    def put(found: re.Match[str]) -> str:
        return new.capitalize() if found[0][0].isupper() else new

    return re.sub(rf"\b{re.escape(old)}\b", put, text, flags=re.IGNORECASE)


def join_images(one: Tensor, other: Tensor, pair: JoinedTexts) -> Tensor:
    """Return two prepared pictures [3, size, size] as one, each squeezed to half of the square."""
    import torch

    first, second = (other, one) if pair.swapped else (one, other)
    height, width = one.shape[-2:]
    half = (height, width // 2) if pair.beside else (height // 2, width)
    rest = (height, width - half[1]) if pair.beside else (height - half[0], width)
    parts = [
        torch.nn.functional.interpolate(image[None], size=size, mode="bilinear", antialias=True)[0]
        for image, size in ((first, half), (second, rest))
    ]
    return torch.cat(parts, dim=2 if pair.beside else 1)


def encode_pairs(encoder: StepEncoder, joined: Tensor, pairs: Sequence[JoinedTexts]) -> PairFeatures:
    """Return the features of joined samples; pictures with a gradient only where the image tower is trained.

    Args:
        encoder: Encodes.
        joined: Pixels of the joined pictures [M, 3, size, size].
        pairs: Their texts.
    """
    import torch

    model = encoder.model
    image = encoder.encode_image(joined, cached=False)
    slots = [[*pair[0], pair[1]] for pair in pairs]
    mask = torch.tensor([[bool(text) for text in own] for own in slots], device=image.device)
    texts = [text for own in slots for text in own if text]
    encoded = encoder.encode_text(model.trim(model.tokenize(texts)).to(image.device), cached=False)
    every = encoded.new_zeros(*mask.shape, encoded.shape[1])
    every[mask] = encoded
    return PairFeatures(
        image, every[:, :NUM_POSITIVES], mask[:, :NUM_POSITIVES], every[:, NUM_POSITIVES], mask[:, NUM_POSITIVES]
    )
