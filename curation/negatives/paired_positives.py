"""True texts that share the telltale words of a negative, so that these words give nothing away.

A negation of something present is false; the same negation of something absent is true. When both are compared with each
other, the word "no" carries no information. What is absent comes from the false negative check: where it finds "a man with
a helmet" false of the image, "a man without a helmet" is true.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from curation.entailment.check_negative import ImageClaims, read_sample_claims, rejection_reason
from curation.entailment.word_meanings import word_relations
from curation.models.parser import Parse
from curation.text.edits import Edit, apply_edits
from curation.text.lexicon import verb_lemma
from curation.text.phrases import Caption
from data_manifests.sample import Sample


class PairedPositives:
    """The true texts paired with the negatives of one image, each with the false claim that makes it true.

    Args:
        sample: Captions and parses.
    """

    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        self._claims: dict[str, dict[str, Any]] = {}
        self._verbs: list[tuple[str, set[str]]] | None = None

    def add(self, text: str, caption: Caption, pieces: Sequence[Edit], kind: str) -> str:
        """Add a text that is true if a change of its caption is false; return it.

        Args:
            text: The text.
            caption: The caption it was made from.
            pieces: The change that must be false.
            kind: Type of that change, as in a negative record.
        """
        claim, edits = apply_edits(caption.text, pieces)
        index = self._sample.captions.index(caption.text)
        record = {"text": claim, "caption": index, "operation": "replace", "type": kind, "edits": edits}
        self._claims.setdefault(text, record)
        return text

    def in_other_caption(self, caption: Caption, verbs: AbstractSet[str]) -> bool:
        """Return whether another caption has one of the verbs."""
        if not verbs:
            return False
        if self._verbs is None:
            pairs = zip(self._sample.captions, self._sample["parses"], strict=True)
            self._verbs = [(text, _verbs_of(parse)) for text, parse in pairs]
        return any(not verbs.isdisjoint(others) for text, others in self._verbs if text != caption.text)

    def keep_true(self, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the records without those whose paired text may be false of the image."""
        texts = sorted({record["against"] for record in records if "against" in record})
        if not texts:
            return list(records)
        sample = self._sample
        read = read_sample_claims(
            sample.captions, sample["parses"], [self._claims[text] for text in texts], copies=False
        )
        judge = ImageClaims(read, word_relations(None, ()))
        nouns = {thing.noun for claims in read.captions for thing in claims.things}
        true = {
            text
            for text, record, claims, pairs in zip(texts, read.records, read.claims, read.pairs, strict=True)
            if rejection_reason(record, claims, pairs, judge) == ("", "")
            and not (
                record["type"] == "object"
                and any(judge.relations.covers(new, noun) for _, new, kind in pairs if kind == "N" for noun in nouns)
            )
        }
        return [record for record in records if record.get("against", "") in true | {""}]


def _verbs_of(parse: Parse) -> set[str]:
    """Return a caption's verbs in dictionary form."""
    return {verb_lemma(word.lower()) for word, pos in zip(parse["words"], parse["pos"], strict=True) if pos == "VERB"}


def positive_views(records: Sequence[Mapping[str, Any]], family: str) -> list[dict[str, Any]]:
    """Return the true texts paired with negatives as records of views, each once, in the negatives' order."""
    views: dict[tuple[int, str], dict[str, Any]] = {}
    for record in records:
        if "against" in record:
            view = {
                "text": record["against"], "caption": record["caption"], "family": family,
                "rule": f"beside: {record['rule']}", "source": record["source"],
            }  # fmt: skip
            views.setdefault((record["caption"], record["against"]), view)
    return list(views.values())


def negate_other_word(caption: Caption, token: int, negation: Sequence[Edit], other: Sequence[Edit]) -> str:
    """Return the caption with the negation applied to another word.

    Args:
        caption: The caption.
        token: The word that is negated.
        negation: The pieces that negate it.
        other: The pieces that replace it by another word.
    """
    place = caption.span(token, token + 1)
    (new,) = (piece.text for piece in other if piece.start == place.start and piece.end == place.end)
    pieces = []
    for piece in negation:
        if piece.start <= place.start and piece.end >= place.end > piece.start:
            # "does not run", "No dogs": the negation contains the word itself
            *before, _ = piece.text.split(" ")
            word = verb_lemma(new.lower()) if caption.pos[token] == "VERB" else new.lower()
            pieces.append(piece._replace(text=" ".join([*before, word.upper() if piece.text.isupper() else word])))
        else:
            pieces.append(piece)
    taken = [(piece.start, piece.end) for piece in pieces if piece.end > piece.start]
    pieces += [piece for piece in other if not any(piece.start < end and piece.end > start for start, end in taken)]
    return apply_edits(caption.text, pieces)[0]
