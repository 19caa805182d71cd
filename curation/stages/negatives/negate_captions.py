"""Negate an object or action of a caption, or deny what a checked negative says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field
from curation.negatives.denied_words import deny_words
from curation.negatives.paired_positives import PairedPositives, negate_other_word, positive_views
from curation.negatives.replace_nouns import object_slots
from curation.negatives.replace_verbs import action_slots
from curation.negatives.slots import Change, Draw, Slot, SlotStage
from curation.text.edits import Edit, match_case
from curation.text.phrases import Caption, verb_form
from curation.text.wordlists import word_sets
from data_manifests.sample import Sample
from data_manifests.seeds import draw_seed

_SETS = word_sets("negate_captions")

_HOLDING = word_sets("lexicon")["holding_verbs"]
_HAVING = frozenset({"with"})
_SUBJECTS = ("nsubj", "nsubjpass", "attr")
_MODALS = _SETS["auxiliaries"]
_VAGUE = _SETS["vague_nouns"]
_DO = {"VBZ": "does", "VBP": "do", "VBD": "did"}


@dataclass(frozen=True)
class NegateCaptions(SlotStage):
    """Make up to `per_caption` negatives per caption by a negation, each paired with a true negation.

    Provides ``negate_negatives``, a list of negative records. ``span_class`` is ``thing`` ("wearing a hat" to
    "wearing no hat", "with a hat" to "without a hat", "A dog runs" to "No dog runs") or ``action`` ("is running" to
    "is not running", "runs" to "does not run", "a dog running" to "a dog not running"). A caption with a negation is
    left out.

    With `fields`, their negatives are denied, too, `per_caption` of each caption: each of them that changes one word gives "a
    blue, not a red, cube" as a negative and "a red, not a blue, cube" as its true text (``span_class`` ``contrast``); see
    `curation.negatives.denied_words`. Captions without verbs, or of things that our lists do not know, have no other.

    If every text with a negation were a negative, a model would learn the word "no" and not its meaning. So each record
    names under ``against`` the same negation of something absent ("wearing no helmet" for "wearing no hat"), the text to
    compare it with. The absent word is a rival of the caption's that the false negative check finds false of the image.
    These true texts are also provided as ``denial``, a list of views, because training needs them as positives.

    Attributes:
        seed: Seed of the draws; each draw also depends on uid and caption, on nothing else.
        per_caption: Most negatives per caption, 1 or more.
        fields: Fields of negatives that are false of the image, such as ``true_negatives``; they are not published themselves.
        paired: Whether negations without a true counterpart are left out.

    Raises:
        InputError: `per_caption` is below 1.

    Source: Singh et al. 2024 (CoN-CLIP), section 3, arXiv 2403.20312.
    Differs: a language model writes the paper's negated captions; here rules over the parse do, so that one thing
        changes and nothing else. The paper's true captions negate an object drawn from all that a detector does not
        find; ours negate a rival of what is there, so that true and false negations look alike.
    """

    name: ClassVar[str] = "negate_captions"
    version: ClassVar[int] = 3
    provides: ClassVar[tuple[Field, ...]] = (
        Field("negate_negatives", publish="sample", role="negatives"),
        Field("denial", publish="sample", role="views"),
    )
    source: ClassVar[str] = "Singh et al. 2024, section 3, arXiv 2403.20312"
    knows_only_english: ClassVar[bool] = True
    operation: ClassVar[str] = "negate"

    fields: tuple[str, ...] = ()
    paired: bool = True

    def required_fields(self) -> tuple[str, ...]:
        """Return the fields that it reads."""
        return (*self.requires, *self.fields)

    def superseded_fields(self) -> tuple[str, ...]:
        """Return the fields whose negatives are published denied, in their place."""
        return self.fields

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Negate something in every caption of every sample."""
        results: list[dict[str, Any] | Drop] = []
        for sample in samples:
            positives = PairedPositives(sample)
            records = positives.keep_true(self.negatives(sample, partial(_find_slots, positives, self.paired)))
            records += self._denied(sample)
            results.append({"negate_negatives": records, "denial": positive_views(records, "negation")})
        return results

    def _denied(self, sample: Sample) -> list[dict[str, Any]]:
        """Return denials of the negatives of `fields`, drawn, in the captions' order."""
        given = [record for name in self.fields for record in sample[name]]
        if not given:
            return []
        by_caption: dict[int, list[dict[str, Any]]] = {}
        for record in deny_words(sample.captions, sample["parses"], given, self.name):
            by_caption.setdefault(record["caption"], []).append(record)
        drawn: list[dict[str, Any]] = []
        for caption, records in sorted(by_caption.items()):
            draw = Draw(draw_seed(self.seed, self.name, sample.uid, caption, "contrast"))
            drawn += draw.sample(records, self.per_caption)
        return drawn


def _find_slots(positives: PairedPositives, paired: bool, caption: Caption) -> list[Slot]:
    slots = []
    negations = dict(_negations(caption))
    things = {token for token, (span_class, _) in negations.items() if span_class == "thing"}
    rivals = {slot.token: slot for slot in object_slots(caption, {}, among=things)}
    rivals |= {slot.token: slot for slot in action_slots(caption, among=negations.keys() - things)}
    for token, (span_class, pieces) in negations.items():
        verbs = {rival for _, rival in rivals[token].options} if span_class == "action" and token in rivals else set()
        if positives.in_other_caption(caption, verbs):
            continue  # if one caption says "runs" and another "walks", "does not run" may be true
        if token in rivals:
            make = partial(_negate_paired, caption, token, pieces, rivals[token], positives)
            slots.append(Slot(span_class, "negation", rivals[token].options, make, token))
        elif not paired:
            slots.append(Slot(span_class, "negation", (pieces,), partial(_negate, caption, token), token))
    return slots


def _negations(caption: Caption) -> Iterator[tuple[int, tuple[str, list[Edit]]]]:
    """Yield the words that can be negated: token, span class, and the pieces that negate it."""
    for token, pos in enumerate(caption.pos):
        span_class, pieces = "", list[Edit]()
        if pos in ("NOUN", "PROPN") and caption.is_noun(token):
            span_class, pieces = "thing", _negate_noun(caption, token)
        elif pos == "VERB" and caption.is_whole_word(token):
            span_class, pieces = "action", _negate_verb(caption, token)
        if pieces:
            yield token, (span_class, pieces)


def _negate(caption: Caption, token: int, pieces: Sequence[Edit]) -> Change:
    span = caption.span(token, token + 1)
    word = caption.text[span.start : span.end]
    return Change(pieces, f"deny '{word}': " + ", ".join(f"'{piece.text.strip()}'" for piece in pieces))


def _negate_paired(
    caption: Caption, token: int, pieces: Sequence[Edit], rivals: Slot, positives: PairedPositives, rival: Any
) -> Change | None:
    """Return the negation, paired with the same negation of a rival."""
    other = rivals.make(rival)
    if other is None:
        return None
    text = negate_other_word(caption, token, pieces, other.pieces)
    return _negate(caption, token, pieces)._replace(against=positives.add(text, caption, other.pieces, rivals.type))


def _negate_noun(caption: Caption, noun: int) -> list[Edit]:
    """Return the pieces that negate an object: "no", or "without" for "with"; none where it would sound wrong."""
    dep, head = caption.deps[noun], caption.heads[noun]
    if dep == "pobj":
        fits = caption.words[head] in _HAVING and caption.deps[head] == "prep"
    elif dep == "dobj":
        fits = caption.verb(head) in _HOLDING
    else:
        fits = dep in _SUBJECTS and caption.deps[head] == "ROOT" and _has_finite(caption, head)
    phrase = caption.phrase(noun) if fits else None
    if phrase is None or caption.lemma(noun) in _VAGUE or caption.with_dep(noun, "conj", "cc", "relcl", "appos"):
        return []
    first = phrase[0]
    article = caption.words[first] in ("a", "an") and not caption.is_plural(noun)
    bare = caption.is_plural(noun) and not caption.with_dep(noun, "det", "nummod", "poss")
    if not (article or bare) or not caption.is_whole_word(first):
        return []
    if dep == "pobj":
        span = caption.span(head, head + 1)
        covered = caption.tags[caption.heads[head]] == "VBN"  # "covered with snow"
        adjacent = head == first - 1 and not covered
        return [Edit(span.start, span.end, match_case(caption.raw[head], "without"))] if adjacent else []
    span, word = caption.span(first, first + 1), caption.raw[first]
    capitals = caption.raw[noun].isupper() and len(caption.raw[noun]) > 1
    if article:
        return [Edit(span.start, span.end, "NO" if capitals else match_case(word[0], "no"))]
    named = caption.tags[first] in ("NNP", "NNPS") or any(char.isupper() for char in word[1:])
    lower = word if named else word.lower()
    return [Edit(span.start, span.end, f"{match_case(word[0], 'no')} {lower}", 2)]


def _has_finite(caption: Caption, verb: int) -> bool:
    return caption.tags[verb] in ("VBZ", "VBP", "VBD") or any(
        caption.tags[child] in ("VBZ", "VBP", "VBD") for child in caption.with_dep(verb, "aux", "auxpass")
    )


def _negate_verb(caption: Caption, verb: int) -> list[Edit]:
    """Return the pieces that negate a verb; none where its form is in doubt."""
    span, tag = caption.span(verb, verb + 1), caption.tags[verb]
    mistagged = tag in _DO and verb_form(caption.verb(verb), tag) != caption.words[verb]
    if mistagged or (tag == "VBZ" and any(map(caption.is_plural, caption.with_dep(verb, "nsubj")))):
        return []  # the tag is not this word's; "two dogs looks"
    helpers = [child for child in caption.with_dep(verb, "aux", "auxpass") if child < verb]
    if helpers:
        first = caption.span(helpers[0], helpers[0] + 1)
        if caption.words[helpers[0]] not in _MODALS or not caption.text[first.end : first.end + 1].isspace():
            return []
        return [Edit(first.end, first.end, " not", 1)]
    dep = caption.deps[verb]
    if tag == "VBG" and dep in ("acl", "ROOT") and verb > 0:
        adverbs = [child for child in caption.with_dep(verb, "advmod") if child == verb - 1]
        start = caption.starts[adverbs[0]] if adverbs else span.start
        return [Edit(start, start, "not ", 1)]
    if tag in _DO and caption.with_dep(verb, "nsubj") and verb > 0 and dep in ("ROOT", "conj"):
        text = f"{_DO[tag]} not {caption.verb(verb)}"
        return [Edit(span.start, span.end, text.upper() if caption.raw[verb].isupper() else text, 3)]
    return []
