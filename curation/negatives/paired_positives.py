"""True texts to set beside negatives: what a word gives away in one of them, it gives away in the other.

A denial of what is there is false; the same denial of what is not there is true. With both of them told apart from each
other, the word "no" says nothing. That something is not there is taken from the gate of false negatives: where it holds
"a man with a helmet" for false of the image, "a man without a helmet" is true.
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


class Counterparts:
    """The true texts of one image that its negatives are told from, each with the claim it rests on.

    Args:
        sample: Captions and parses.
    """

    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        self._claims: dict[str, dict[str, Any]] = {}
        self._verbs: list[tuple[str, set[str]]] | None = None

    def rest_on(self, text: str, caption: Caption, pieces: Sequence[Edit], kind: str) -> str:
        """Return a text, remembering that it is true if a change of its caption is false.

        Args:
            text: The text that would be true.
            caption: What it was made from.
            pieces: The change that must be false.
            kind: Type of that change, as in a negative record.
        """
        claim, edits = apply_edits(caption.text, pieces)
        index = self._sample.captions.index(caption.text)
        told = {"text": claim, "caption": index, "operation": "replace", "type": kind, "edits": edits}
        self._claims.setdefault(text, told)
        return text

    def tells_elsewhere(self, caption: Caption, verbs: AbstractSet[str]) -> bool:
        """Say whether another caption has one of some verbs."""
        if not verbs:
            return False
        if self._verbs is None:
            pairs = zip(self._sample.captions, self._sample["parses"], strict=True)
            self._verbs = [(text, _verbs_of(parse)) for text, parse in pairs]
        return any(not verbs.isdisjoint(told) for text, told in self._verbs if text != caption.text)

    def true_of(self, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the records without those whose counterpart may be false of the image."""
        texts = sorted({record["against"] for record in records if "against" in record})
        if not texts:
            return list(records)
        sample = self._sample
        read = read_sample_claims(
            sample.captions, sample["parses"], [self._claims[text] for text in texts], copies=False
        )
        judge = ImageClaims(read, word_relations(None, ()))
        told = {thing.noun for claims in read.captions for thing in claims.things}
        sound = {
            text
            for text, record, claims, pairs in zip(texts, read.records, read.claims, read.pairs, strict=True)
            if rejection_reason(record, claims, pairs, judge) == ("", "")
            and not (
                record["type"] == "object"
                and any(judge.kinds.covers(new, noun) for _, new, kind in pairs if kind == "N" for noun in told)
            )
        }
        return [record for record in records if record.get("against", "") in sound | {""}]


def _verbs_of(parse: Parse) -> set[str]:
    """Return a caption's verbs in dictionary form."""
    return {verb_lemma(word.lower()) for word, pos in zip(parse["words"], parse["pos"], strict=True) if pos == "VERB"}


def views_of(records: Sequence[Mapping[str, Any]], family: str) -> list[dict[str, Any]]:
    """Return the true texts that negatives are told from as records of views, each once, in the negatives' order."""
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for record in records:
        if "against" in record:
            key = record["caption"], record["against"]
            told = {"text": record["against"], "caption": record["caption"], "family": family}
            found.setdefault(key, {**told, "rule": f"beside: {record['rule']}", "source": record["source"]})
    return list(found.values())


def denied_instead(caption: Caption, token: int, denial: Sequence[Edit], other: Sequence[Edit]) -> str:
    """Return the caption with a denial of another word than its own.

    Args:
        caption: The caption.
        token: The word that is denied.
        denial: The pieces that deny it.
        other: The pieces that put another word in its place.
    """
    place = caption.span(token, token + 1)
    (new,) = (piece.text for piece in other if piece.start == place.start and piece.end == place.end)
    pieces = []
    for piece in denial:
        if piece.start <= place.start and piece.end >= place.end > piece.start:
            # "does not run", "No dogs": the denial holds the word itself
            *before, _ = piece.text.split(" ")
            word = verb_lemma(new.lower()) if caption.pos[token] == "VERB" else new.lower()
            pieces.append(piece._replace(text=" ".join([*before, word.upper() if piece.text.isupper() else word])))
        else:
            pieces.append(piece)
    taken = [(piece.start, piece.end) for piece in pieces if piece.end > piece.start]
    pieces += [piece for piece in other if not any(piece.start < end and piece.end > start for start, end in taken)]
    return apply_edits(caption.text, pieces)[0]
