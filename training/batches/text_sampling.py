"""Draws the text shown for an image (caption, rewrite, knowledge caption, true denial) and further texts of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from data_manifests.errors import InputError
from data_manifests.seeds import generator
from training.settings import check_settings

_MIN_WORDS = 2
_KINDS = ("rewrite", "knowledge", "denial", "count")

Tokens = Callable[[Sequence[str]], list[bytes]]
"""Texts to what the model reads of them; see `training.batches.loader.TextTokens`."""


@dataclass(frozen=True)
class CaptionViews:
    """Draw among a caption and what was made from it, each text with the weight of its kind.

    With equal weights a caption with K rewrites is shown as itself once in K + 1 times. A text of fewer than two
    words gives way to the caption; one whose tokens are the caption's, once cut to the model's context, is none of the K.

    Attributes:
        caption: Weight of the caption itself.
        rewrite: Weight of each rewrite.
        knowledge: Weight of each knowledge caption.
        denial: Weight of each true denial, the positive of false ones.
        count: Weight of each text that says "one", the positive of larger numbers.

    Raises:
        InputError: a weight is negative, or the caption's is not positive.

    Source: Fan 2023, Improving CLIP training with language rewrites (LaCLIP), section 3, arXiv 2305.20088.
    Differs: kinds may be weighted; a draw is a function of seed, step and uid, so that a resumed run repeats it.
    """

    name: ClassVar[str] = "caption_views"

    caption: float = 1.0
    rewrite: float = 1.0
    knowledge: float = 1.0
    denial: float = 1.0
    count: float = 1.0

    def __post_init__(self) -> None:
        """Check the weights."""
        for name in ("caption", *_KINDS):
            if getattr(self, name) < 0 or (name == "caption" and self.caption == 0):
                raise InputError(
                    f"views.{name}={getattr(self, name)}",
                    allowed="0 or more (the caption's above 0: most captions have no other text)",
                    fix=f"--set views.{name}=VALUE",
                )

    def draw(
        self, caption: str, made: Sequence[Mapping[str, Any]], seed: int, step: int, uid: str, tokens: Tokens
    ) -> tuple[str, int]:
        """Return the text to show, and how many views were drawn and left out because their tokens are the caption's.

        Drawing again without such a view gives the others the chances that they have without it.

        Args:
            caption: The planned caption.
            made: The views that were made from it, as the data set holds them.
            seed: The run's seed.
            step: Number of the step, from 0.
            uid: The sample.
            tokens: What the model reads of texts.
        """
        weights = {kind: getattr(self, kind) for kind in _KINDS}
        views = [(str(view["text"]), weights.get(view["kind"], 0.0)) for view in made]
        rng, num_equal = generator(seed, "views", step, uid), 0
        while (chosen := _weighted([self.caption, *(weight for _, weight in views)], rng) - 1) >= 0:
            text = views[chosen][0]
            if len(text.split()) < _MIN_WORDS:
                break
            own, other = tokens([caption, text])
            if own != other:
                return text, num_equal
            del views[chosen]
            num_equal += 1
        return caption, num_equal


def _weighted(weights: Sequence[float], rng: np.random.Generator) -> int:
    """Return the number of one of the weights, drawn by them; the first one is positive."""
    remaining = float(rng.random()) * sum(weights)
    for number, weight in enumerate(weights):
        remaining -= weight
        if remaining < 0:
            return number
    return 0


@dataclass(frozen=True)
class FurtherTexts:
    """Draw, for each image of a batch, further texts that are true of it, in addition to the one shown.

    Attributes:
        count: Texts drawn, without replacement; fewer where the image has fewer.
        captions: Whether its other captions are among them.
        rewrites: Whether rewrites are.
        knowledge: Whether knowledge captions are.
        of_shown: Whether rewrites and knowledge captions are only those made from the caption that is shown.
        or_shown: Whether the shown text stands for the further texts of an image that has none, for losses that compare it
            with its negatives.

    Raises:
        InputError: nothing to draw from, or nothing drawn.

    Source: Bulat et al. 2024 (FFF, arXiv 2405.10286), batch text augmentation: all of an image's texts in one batch;
        Doveh et al. 2023 (TSVLC, arXiv 2211.11733): one paraphrase in addition to the caption.
    Differs: one way to choose for all of them; a draw is a function of seed, step and uid.
    """

    name: ClassVar[str] = "further_texts"

    count: int = 1
    captions: bool = True
    rewrites: bool = True
    knowledge: bool = False
    of_shown: bool = False
    or_shown: bool = False

    def __post_init__(self) -> None:
        """Check the fields."""
        some_kind = self.captions or self.rewrites or self.knowledge
        check_settings(self, self.count >= 1, "count", "1 or more")
        check_settings(self, some_kind, "captions rewrites knowledge", "at least one of them true")

    def draw(
        self, sample: Mapping[str, Any], caption: int, shown: str, seed: int, step: int, uid: str, tokens: Tokens
    ) -> tuple[list[str], int]:
        """Return the texts, and how many were drawn and left out because their tokens are those of `shown`.

        Args:
            sample: As the data set holds it.
            caption: Number of the planned caption.
            shown: The text that is shown already: that caption, or a view of it.
            seed: The run's seed.
            step: Number of the step, from 0.
            uid: The sample.
            tokens: What the model reads of texts.
        """
        kinds = {"rewrite": self.rewrites, "knowledge": self.knowledge}
        texts = [str(text) for text in sample["captions"]] if self.captions else []
        views = [view for view in sample.get("views", []) if not self.of_shown or view["caption"] == caption]
        texts += [str(view["text"]) for view in views if kinds.get(view["kind"])]
        others = [text for text in dict.fromkeys(texts) if text != shown and len(text.split()) >= _MIN_WORDS]
        order = generator(seed, "positives", step, uid).permutation(len(others))
        drawn = [others[number] for number in order]
        taken, num_equal = take_unequal(drawn, shown, self.count, tokens)
        if self.or_shown and not taken:
            return [shown], num_equal
        return [drawn[number] for number in taken], num_equal


def take_unequal(texts: Sequence[str], shown: str, most: int, tokens: Tokens) -> tuple[list[int], int]:
    """Return the numbers of the first texts whose tokens are not those of `shown`, and how many it passed over for them.

    Args:
        texts: In the order in which they were drawn.
        shown: The text that they stand beside.
        most: How many are taken.
        tokens: What the model reads of texts.
    """
    own, *read = tokens([shown, *texts[:most]])
    if own in read:
        own, *read = tokens([shown, *texts])
    taken: list[int] = []
    for number, row in enumerate(read):
        if len(taken) == most:
            return taken, number - most
        if row != own:
            taken.append(number)
    return taken, len(read) - len(taken)
