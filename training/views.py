"""Which of an image's texts is shown: its caption, or a rewrite, knowledge caption or true denial made from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from data_manifests.errors import InputError
from training.plan import generator

_MIN_WORDS = 2
_KINDS = ("rewrite", "knowledge", "denial", "count")


@dataclass(frozen=True)
class CaptionViews:
    """Draw among a caption and what was made from it, each text with the weight of its kind.

    With equal weights a caption with K rewrites is shown as itself once in K + 1 times. A text of fewer than two
    words gives way to the caption.

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

    def draw(self, caption: str, made: Sequence[Mapping[str, Any]], seed: int, step: int, uid: str) -> str:
        """Return the text to show.

        Args:
            caption: The planned caption.
            made: The views that were made from it, as the data set holds them.
            seed: The run's seed.
            step: Number of the step, from 0.
            uid: The sample.
        """
        weights = {kind: getattr(self, kind) for kind in _KINDS}
        texts = [(caption, self.caption)]
        texts += [(str(view["text"]), weights.get(view["kind"], 0.0)) for view in made]
        total = sum(weight for _, weight in texts)
        place = float(generator(seed, "views", step, uid).random()) * total
        for text, weight in texts:
            place -= weight
            if place < 0:
                return text if len(text.split()) >= _MIN_WORDS else caption
        return caption
