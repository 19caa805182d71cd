"""Count the words of each caption."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field, MapStage
from data_manifests.sample import Sample


@dataclass(frozen=True)
class CountWords(MapStage):
    """Count the words of each caption; drop samples whose captions are all too short.

    Source: data hygiene; no paper.
    Differs: words are what spaces separate.
    """

    name: ClassVar[str] = "count_words"
    version: ClassVar[int] = 1  # raise it when the output changes in meaning
    requires: ClassVar[tuple[str, ...]] = ("captions",)
    provides: ClassVar[tuple[Field, ...]] = (Field("num_words", publish="sidecar"),)
    drops: ClassVar[tuple[str, ...]] = ("too_short",)
    source: ClassVar[str] = "data hygiene; no paper"

    at_least: int = 3

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Return the number of words of each caption, or a drop."""
        counts = [[len(caption.split()) for caption in sample.captions] for sample in samples]
        return [{"num_words": c} if max(c) >= self.at_least else Drop("too_short", f"{max(c)} words") for c in counts]
