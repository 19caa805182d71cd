"""List the words of each caption that could change places with a word of another caption, by word class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field, MapStage
from data_manifests.sample import Sample

CLASSES = ("ADJ", "ADP", "ADV", "NOUN", "NUM", "PRON", "PROPN", "VERB")


@dataclass(frozen=True)
class ListWords(MapStage):
    """The different words of each caption of the classes named, lower case as written.

    Provides ``words``, a list of ``{"caption", "class", "word"}``: class by class as `classes` has them, words in the order of
    the caption. Only whole words of letters and digits; a word of two classes in one caption is listed for both.

    Attributes:
        classes: Universal parts of speech, of `CLASSES`.

    Raises:
        InputError: another class.

    Source: CLIC (NeurIPS 2025, arXiv 2505.24424), the exchange of words across captions: all but AUX, DET, INTJ, PART, PUNCT,
        SYM, X, SCONJ and CCONJ.
    Differs: pronouns are left out by default, as exchanging them changes little that an image shows.
    """

    name: ClassVar[str] = "list_words"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("captions", "parses")
    provides: ClassVar[tuple[Field, ...]] = (Field("words", publish="sample"),)
    source: ClassVar[str] = "CLIC (NeurIPS 2025, arXiv 2505.24424)"

    classes: tuple[str, ...] = ("ADJ", "ADP", "ADV", "NOUN", "NUM", "VERB")

    def __post_init__(self) -> None:
        self.check_names("classes", CLASSES)

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Return ``words`` of each sample."""
        results: list[dict[str, Any] | Drop] = []
        for sample in samples:
            found: dict[tuple[int, str, str], None] = {}
            for caption, parse in enumerate(sample["parses"]):
                words = list(zip(parse["pos"], (word.lower() for word in parse["words"]), strict=True))
                for name in self.classes:
                    found |= {(caption, pos, word): None for pos, word in words if pos == name and word.isalnum()}
            results.append({"words": [dict(zip(("caption", "class", "word"), key, strict=True)) for key in found]})
        return results
