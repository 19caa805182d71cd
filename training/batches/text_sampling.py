"""Draws the text shown for an image (caption, rewrite, knowledge caption, true denial) and further texts of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from data_manifests.errors import InputError
from data_manifests.seeds import generator
from training.settings import check_settings

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
        remaining = float(generator(seed, "views", step, uid).random()) * total
        for text, weight in texts:
            remaining -= weight
            if remaining < 0:
                return text if len(text.split()) >= _MIN_WORDS else caption
        return caption


@dataclass(frozen=True)
class FurtherTexts:
    """Draw, for each image of a batch, further texts that are true of it, in addition to the one shown.

    Attributes:
        count: Texts drawn, without replacement; fewer where the image has fewer.
        captions: Whether its other captions are among them.
        rewrites: Whether rewrites are.
        knowledge: Whether knowledge captions are.

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

    def __post_init__(self) -> None:
        """Check the fields."""
        some_kind = self.captions or self.rewrites or self.knowledge
        check_settings(self, self.count >= 1, "count", "1 or more")
        check_settings(self, some_kind, "captions rewrites knowledge", "at least one of them true")

    def draw(self, sample: Mapping[str, Any], shown: str, seed: int, step: int, uid: str) -> list[str]:
        """Return the texts.

        Args:
            sample: As the data set holds it.
            shown: The text that is shown already.
            seed: The run's seed.
            step: Number of the step, from 0.
            uid: The sample.
        """
        kinds = {"rewrite": self.rewrites, "knowledge": self.knowledge}
        texts = [str(text) for text in sample["captions"]] if self.captions else []
        texts += [str(view["text"]) for view in sample.get("views", []) if kinds.get(view["kind"])]
        others = [text for text in dict.fromkeys(texts) if text != shown and len(text.split()) >= _MIN_WORDS]
        order = generator(seed, "positives", step, uid).permutation(len(others))
        return [others[number] for number in order[: self.count]]
