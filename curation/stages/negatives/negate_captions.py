"""Deny a thing or an action that a caption tells of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field, MapStage
from curation.negatives.paired_positives import Counterparts, denied_instead, views_of
from curation.negatives.records import Change, Maker, Slot, check_per_caption
from curation.negatives.replace_nouns import object_slots
from curation.negatives.replace_verbs import action_slots
from curation.text.edits import Edit, match_case
from curation.text.phrases import Caption, verb_form
from curation.text.wordlists import word_sets
from data_manifests.sample import Sample

_SETS = word_sets("negate_captions")

_HOLDING = word_sets("lexicon")["holding_verbs"]
_HAVING = frozenset({"with"})
_SUBJECTS = ("nsubj", "nsubjpass", "attr")
_MODALS = _SETS["auxiliaries"]
_DO = {"VBZ": "does", "VBP": "do", "VBD": "did"}
_VAGUE = _SETS["vague_nouns"]


@dataclass(frozen=True)
class NegateCaptions(MapStage):
    """Make up to `per_caption` negatives per caption by denying what it tells, each beside a true denial.

    Provides ``negate_negatives``, a list of negative records. ``span_class`` is ``thing`` ("wearing a hat" to
    "wearing no hat", "with a hat" to "without a hat", "A dog runs" to "No dog runs") or ``action`` ("is running" to
    "is not running", "runs" to "does not run", "a dog running" to "a dog not running"). A caption that denies
    something already is left alone.

    A text with a denial would always be a negative, and a model would learn the word "no" in place of its meaning. So
    each record names under ``against`` the same denial of something that is not there ("wearing no helmet" beside
    "wearing no hat"): the negative is to be told from that. What is not there is a rival of the word that the gate of
    false negatives holds for false of the image. Provides these true texts as ``denial``, a list of views, too, for
    training needs them as positives.

    Attributes:
        seed: Seed of the draws; each draw also depends on uid and caption, on nothing else.
        per_caption: Most negatives per caption, 1 or more.
        paired: Whether denials without a true one beside them are left out.

    Raises:
        InputError: `per_caption` is below 1.

    Source: Singh et al. 2024 (CoN-CLIP), section 3, arXiv 2403.20312.
    Differs: a language model writes the paper's negated captions; here rules over the parse do, so that one thing
        changes and nothing else. The paper's true captions deny an object drawn from all that a detector does not
        find; ours deny a rival of what is there, so that true and false denials are made alike.
    """

    name: ClassVar[str] = "negate_captions"
    version: ClassVar[int] = 2
    requires: ClassVar[tuple[str, ...]] = ("uid", "captions", "parses")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("negate_negatives", kind="json", publish="sample", role="negatives"),
        Field("denial", publish="sample", role="views"),
    )
    source: ClassVar[str] = "Singh et al. 2024, section 3, arXiv 2403.20312"

    seed: int = 0
    per_caption: int = 2
    paired: bool = True

    def __post_init__(self) -> None:
        check_per_caption(self.name, self.per_caption)

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Deny something in every caption of every sample."""
        maker = Maker(self.name, "negate", self.seed, self.per_caption)
        results: list[dict[str, Any] | Drop] = []
        for sample in samples:
            beside = Counterparts(sample)
            records = beside.true_of(maker.records(sample, partial(_slots, beside, self.paired)))
            results.append({"negate_negatives": records, "denial": views_of(records, "negation")})
        return results


def _slots(beside: Counterparts, paired: bool, caption: Caption) -> list[Slot]:
    slots = []
    denied = dict(_deniable(caption))
    things = {token for token, (name, _) in denied.items() if name == "thing"}
    rivals = {slot.token: slot for slot in object_slots(caption, {}, among=things)}
    rivals |= {slot.token: slot for slot in action_slots(caption, among=denied.keys() - things)}
    for token, (name, pieces) in denied.items():
        others = {rival for _, rival in rivals[token].options} if name == "action" and token in rivals else set()
        if beside.tells_elsewhere(caption, others):
            continue  # whoever one caption sees run and another walk may well not run
        if token in rivals:
            make = partial(_deny_beside, caption, token, pieces, rivals[token], beside)
            slots.append(Slot(name, "negation", rivals[token].options, make, token))
        elif not paired:
            slots.append(Slot(name, "negation", (pieces,), partial(_deny, caption, token), token))
    return slots


def _deniable(caption: Caption) -> Iterator[tuple[int, tuple[str, list[Edit]]]]:
    """Yield the words that can be denied: token, thing or action, and the pieces that deny it."""
    for token, pos in enumerate(caption.pos):
        name, pieces = "", list[Edit]()
        if pos in ("NOUN", "PROPN") and caption.is_noun(token):
            name, pieces = "thing", _thing(caption, token)
        elif pos == "VERB" and caption.is_whole_word(token):
            name, pieces = "action", _action(caption, token)
        if pieces:
            yield token, (name, pieces)


def _deny(caption: Caption, token: int, pieces: Sequence[Edit]) -> Change:
    span = caption.span(token, token + 1)
    said = caption.text[span.start : span.end]
    return Change(pieces, f"deny '{said}': " + ", ".join(f"'{piece.text.strip()}'" for piece in pieces))


def _deny_beside(
    caption: Caption, token: int, pieces: Sequence[Edit], rivals: Slot, beside: Counterparts, rival: Any
) -> Change | None:
    """Return the denial and, to set against it, the same denial of a rival."""
    other = rivals.make(rival)
    if other is None:
        return None
    text = denied_instead(caption, token, pieces, other.pieces)
    return _deny(caption, token, pieces)._replace(against=beside.rest_on(text, caption, other.pieces, rivals.type))


def _thing(caption: Caption, noun: int) -> list[Edit]:
    """Return the pieces that deny a thing: "no", or "without" for "with"; nothing where it would sound wrong."""
    dep, head = caption.deps[noun], caption.heads[noun]
    if dep == "pobj":
        may = caption.words[head] in _HAVING and caption.deps[head] == "prep"
    elif dep == "dobj":
        may = caption.verb(head) in _HOLDING
    else:
        may = dep in _SUBJECTS and caption.deps[head] == "ROOT" and _has_finite(caption, head)
    phrase = caption.phrase(noun) if may else None
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
        near = head == first - 1 and not covered
        return [Edit(span.start, span.end, match_case(caption.raw[head], "without"))] if near else []
    span, word = caption.span(first, first + 1), caption.raw[first]
    loud = caption.raw[noun].isupper() and len(caption.raw[noun]) > 1
    if article:
        return [Edit(span.start, span.end, "NO" if loud else match_case(word[0], "no"))]
    named = caption.tags[first] in ("NNP", "NNPS") or any(char.isupper() for char in word[1:])
    low = word if named else word.lower()
    return [Edit(span.start, span.end, f"{match_case(word[0], 'no')} {low}", 2)]


def _has_finite(caption: Caption, verb: int) -> bool:
    return caption.tags[verb] in ("VBZ", "VBP", "VBD") or any(
        caption.tags[child] in ("VBZ", "VBP", "VBD") for child in caption.with_dep(verb, "aux", "auxpass")
    )


def _action(caption: Caption, verb: int) -> list[Edit]:
    """Return the pieces that deny a verb, or nothing where its form leaves a doubt."""
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
        behind = [child for child in caption.with_dep(verb, "advmod") if child == verb - 1]
        start = caption.starts[behind[0]] if behind else span.start
        return [Edit(start, start, "not ", 1)]
    if tag in _DO and caption.with_dep(verb, "nsubj") and verb > 0 and dep in ("ROOT", "conj"):
        text = f"{_DO[tag]} not {caption.verb(verb)}"
        return [Edit(span.start, span.end, text.upper() if caption.raw[verb].isupper() else text, 3)]
    return []
