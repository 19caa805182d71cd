"""The words of the pages, explained once: links where they are used, and a section at the end with those that were."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from flows.pages.html import Html, Section, tag

WORDS: Mapping[str, str] = {
    "base": "The model that training started from.",
    "batch": "The samples of one training step.",
    "blind judge": "A judge that sees the texts and no image. Where it does well, a model can too without looking: "
    "50 % is best for a test or a kind of negative.",
    "caption": "A text that came with the image and is true of it.",
    "cluster": "Samples whose images are alike, by the distance of their embeddings.",
    "control": "Plain fine-tuning on the same images, with the same number of steps: what a recipe must beat.",
    "difficulty": "How hard a sample or negative is for the model that curated: 0 is easiest, 1 hardest.",
    "dominates": "A row dominates another if it is higher in a test of composition that counts, and lower in nothing that counts; "
    "both by paired tests over images and seeds.",
    "dropped": "Samples that a stage took out of the version, each with a reason.",
    "foil": "A text of a test that is false of its image. The model is right if it prefers the true text.",
    "gate": "The check that refuses: in training a negative that is likely true, in a comparison a row that loses too much.",
    "interval": "The range in which the number would lie, in 95 of 100 cases, for other images (and seeds) of the same kind.",
    "margin": "How much nearer to the image the caption is than the other text (cosine); below 0 the other text is nearer.",
    "negative": "A text made from a caption so that it is false of the image. Training pushes it away from the image.",
    "neighbours": "The samples whose images are most similar to this one's.",
    "R@1": "Retrieval: how often the right text is the first one found for an image, or the right image for a text.",
    "rejected": "Texts that were made for a sample and then refused by a check, each with a reason.",
    "sample": "One image with its texts.",
    "share": "How far the weights go from the base (0) to the tuned model (1): the rest is mixed in from the base.",
    "similarity": "Cosine of two embeddings: 1 is equal, 0 unrelated.",
    "split": "What a sample is for: to train on, to choose settings on (dev), or to be tested on.",
    "view": "Another true text of the image: a rewrite of a caption, or a caption with added knowledge.",
    "zero-shot": "Naming the class of an image from a list of classes that it was not trained on.",
}


def word(name: str, shown: str | None = None) -> Html:
    """Return a word as a link to its explanation.

    Args:
        name: A key of `WORDS`.
        shown: How it is written here, by default as it is.
    """
    return tag("a", shown or name, href=f"#{_anchor(name)}", class_="word")


def glossary_section(lead: Html, sections: Sequence[Section]) -> Section:
    """Return the section that explains the words that the rest of the page links to."""
    text = "".join([lead, *(content for _, _, content in sections)])
    used = set(re.findall(r'href="#(word-[a-z0-9-]+)"', text))
    known = [
        (name, told) for name, told in sorted(WORDS.items(), key=lambda item: item[0].lower()) if _anchor(name) in used
    ]
    entries = [part for name, told in known for part in (tag("dt", name, id=_anchor(name)), tag("dd", told))]
    return "words", "Words", tag("dl", *entries, class_="words") if entries else Html("")


def _anchor(name: str) -> str:
    return f"word-{re.sub(r'[^a-z0-9]+', '-', name.lower())}"
