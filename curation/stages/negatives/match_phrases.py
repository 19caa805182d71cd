"""Set phrases and words of a caption against what a negative has in their place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field, MapStage
from curation.models.parser import CaptionParse
from curation.negatives.records import NegativeRecord, ReadsNegatives
from data_manifests.sample import Sample


@dataclass(frozen=True)
class MatchPhrases(ReadsNegatives, MapStage):
    """For each negative that changes one noun phrase: that phrase against the negative's, and the changed word likewise.

    Provides ``phrase_foils``, a list of ``{"caption", "scale": "phrase" or "word", "text", "foil"}``: "a red ball" with
    the foil "a blue ball", and "red" with "blue". A text is true of the image as a part of its caption. A foil that stands in
    any of the image's captions is left out, as it may be true of something else in the image ("a red ball beside a blue
    cube"), and so are negatives that were made against a view.

    Attributes:
        fields: Fields of negatives.

    Raises:
        InputError: no field or a repeated one.

    Source: this project's notes on multi-scale alignment; own foils for units of a caption: CS-CLIP 2026, which takes
        entities and relations.
    Differs: units are the parse's noun phrases and the words that a negative changes; foils come from negatives that have
        passed their gates instead of a language model.
    """

    name: ClassVar[str] = "match_phrases"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("captions", "parses")
    provides: ClassVar[tuple[Field, ...]] = (Field("phrase_foils", publish="sample"),)
    source: ClassVar[str] = "this project's notes; near CS-CLIP 2026"

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Return ``phrase_foils`` of each sample."""
        return [{"phrase_foils": self._of_sample(sample)} for sample in samples]

    def _of_sample(self, sample: Sample) -> list[dict[str, Any]]:
        told = [_plain(caption) for caption in sample.captions]
        found: dict[tuple[int, str, str, str], None] = {}
        for name in self.fields:
            for record in sample[name]:
                caption = record["caption"]
                for scale, text, foil in _parts(sample.captions[caption], sample["parses"][caption], record):
                    plain = _plain(foil)
                    if plain != _plain(text) and not any(plain in one for one in told):
                        found[caption, scale, text, foil] = None
        return [dict(zip(("caption", "scale", "text", "foil"), key, strict=True)) for key in found]


def _parts(caption: str, parse: CaptionParse, record: NegativeRecord) -> Iterator[tuple[str, str, str]]:
    """Yield (scale, text, foil) of a negative whose edits lie in one noun phrase; nothing of others."""
    edits = sorted(record.get("edits") or ())
    if not edits or record.get("against"):
        return
    spans = [
        (parse["starts"][first], parse["starts"][stop - 1] + len(parse["words"][stop - 1]))
        for first, stop in parse["noun_phrases"]
    ]
    begin, end = edits[0][0], max(edit[1] for edit in edits)
    span = next((span for span in spans if span[0] <= begin and end <= span[1]), None)
    if span is None:
        return
    negative = str(record["text"])
    yield "phrase", caption[span[0] : span[1]], negative[span[0] : span[1] + len(negative) - len(caption)]
    start, stop, new_start, new_stop = edits[-1]  # an article is corrected before the word
    if (start, stop) != span:
        yield "word", caption[start:stop], negative[new_start:new_stop]


def _plain(text: str) -> str:
    """Return a text in lower case with single spaces, one at each end, so that only whole words are found in it."""
    return f" {' '.join(''.join(char if char.isalnum() else ' ' for char in text.casefold()).split())} "
