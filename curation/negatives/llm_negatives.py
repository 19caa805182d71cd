"""One call of `ask_negatives`: answers of a model, reduced to one change each and checked by the gate."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, ClassVar

from curation.entailment.check_negative import ImageClaims, claim_words, read_sample_claims, rejection_reason
from curation.entailment.word_meanings import word_relations
from curation.models.parser import Parse
from curation.negatives.llm_prompts import EXAMPLES
from curation.negatives.single_edit import OneChange, one_change
from curation.rewriting.llm_stage import LlmBatch, WantedText
from curation.rewriting.text_checks import Verdict, echoes_of, screen
from curation.text.caption_facts import plain_words
from curation.text.edits import Edit, apply_edits, match_case, normalise, token_edits
from curation.text.lexicon import NEGATIONS
from curation.text.phrases import Caption
from data_manifests.sample import Sample

_GROWTH = 1.1
"""How many times as many words as its caption an answer may have."""
_ECHOES = {kind: echoes_of(text for pair in pairs for text in pair) for kind, pairs in EXAMPLES.items()}


class NegativeBatch(LlmBatch):
    """The negatives that a model writes for some samples; see `LlmBatch`."""

    duplicate: ClassVar[Verdict] = Verdict("repeated", "asked for by another type")

    def caption_refusal(self, sample: Sample, index: int) -> str:
        """Return why a caption is not put to a model, or an empty string.

        A caption with a negation is left out, as by the stages that work by rules: what changes under it may be true.
        """
        negated = not NEGATIONS.isdisjoint(map(str.lower, sample["parses"][index]["words"]))
        return super().caption_refusal(sample, index) or ("denies" if negated else "")

    def screen(self, wanted: WantedText, text: str) -> Verdict | None:
        """Check length, language, repetition and echoes of the prompt."""
        captions = self.samples[wanted.place].captions
        others = [plain_words(caption) for index, caption in enumerate(captions) if index != wanted.index]
        return screen(text, captions[wanted.index], others, _ECHOES[wanted.kind], _GROWTH)

    def record(self, wanted: WantedText, text: str, parse: Parse) -> dict[str, Any] | Verdict:
        """Return the record of an answer that makes one false change, or why it does not.

        The caption keeps its own wording, case and marks: only the change is taken over.
        """
        sample = self.samples[wanted.place]
        caption = Caption(sample.captions[wanted.index], sample["parses"][wanted.index])
        change = one_change(caption, text, parse)
        if isinstance(change, Verdict):
            return change
        pieces = _pieces(caption, change)
        changed, edits = apply_edits(caption.text, pieces)
        replaced = caption.text[caption.starts[change.first] : caption.span(change.first, change.stop).end]
        record = {
            "text": changed, "caption": wanted.index, "operation": "ask", "span_class": wanted.kind, "type": change.type,
            "edits": edits, "tokens": token_edits(caption.parse, pieces),
            "rule": f"ask {wanted.kind} '{replaced}' -> '{change.text}' #draw{wanted.attempt}", "source": self.stage.name,
        }  # fmt: skip
        if normalise(changed) in {normalise(other) for other in sample.captions}:
            return Verdict("copy")
        read = read_sample_claims(sample.captions, sample["parses"], [record], copies=True)
        kinds = word_relations(self.stage.graph, claim_words(read) if self.stage.graph is not None else ())
        judged = {**record, "operation": "replace"}  # the gate knows no other operation
        reason, detail = rejection_reason(judged, read.claims[0], read.pairs[0], ImageClaims(read, kinds))
        return Verdict(reason, detail) if reason else record

    def rule(self, wanted: WantedText) -> str:
        """Return the type that was asked for and the number of the draw."""
        return f"ask {wanted.kind} #draw{wanted.attempt}"

    def duplicate_key(self, record: Mapping[str, Any]) -> Hashable:
        """Return caption and text: equal negatives of one caption count once."""
        return record["caption"], normalise(record["text"])


def _pieces(caption: Caption, change: OneChange) -> list[Edit]:
    """Return the pieces that put a change into the caption, its case kept and the article before it put right."""
    span = caption.span(change.first, change.stop)
    low = change.text if any(char.isupper() for char in change.text[1:]) else change.text[:1].lower() + change.text[1:]
    text = match_case(caption.raw[change.first], low)
    return [*caption.fix_article(span, text), Edit(span.start, span.end, text)]
