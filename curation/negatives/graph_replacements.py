"""Where a caption may say another thing that a graph knows of the same object, or of one of its kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from curation.entailment.word_meanings import feature_value
from curation.knowledge.interface import Edge
from curation.knowledge.visual_lexicon import COLOURS, VISIBLE
from curation.knowledge.word_sense import root_class
from curation.negatives.records import Change, Slot
from curation.negatives.replace_nouns import fits_quality
from curation.text.edits import swap_spans
from curation.text.lexicon import LIGHT_VERBS, opposites_of, same_action
from curation.text.phrases import Caption, verb_form
from curation.text.word_families import attribute_families, is_human
from curation.text.wordlists import word_sets

_SETS = word_sets("graph_replacements")

RELATIONS = ("CapableOf", "HasProperty", "UsedFor", "ReceivesAction")
"""Relations that give other actions and attributes."""
_STILL_IN = _SETS["still_prepositions"]
_WATER = _SETS["water"]
_NO_PLACE = _SETS["no_place"]
_POSTURES = _SETS["postures"]
_WAYS = _SETS["way_prepositions"]
_FRAMES: Mapping[str, frozenset[str]] = (
    dict(word_sets("graph_replacements", "after"))
    | dict.fromkeys(("run", "walk", "gallop"), _WAYS)
    | dict.fromkeys(("sit", "stand", "lie", "kneel", "sleep"), _STILL_IN)
)
"""A deed without an object -> the prepositions that may follow it."""
_MOVING = frozenset(_FRAMES) - _POSTURES | _SETS["moving_verbs"]
_BUSY = _SETS["busy_verbs"]
"""Deeds that one may do standing or running, but not asleep."""
_WITH_OBJECT = _SETS["verbs_with_object"]
_BY_ANIMALS = _SETS["verbs_of_animals"]
_PATH = _SETS["path_prepositions"]
_LOOSE = _SETS["particles"]


@dataclass
class Facts:
    """What a graph says of some concepts.

    Attributes:
        edges: Concept -> its edges of `RELATIONS`.
        siblings: Concept -> others of its kind, best first.
        reversible: (head, tail) -> a directed edge whose reverse the graph does not assert.
    """

    edges: Mapping[str, Sequence[Edge]] = field(default_factory=dict)
    siblings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reversible: Mapping[tuple[str, str], Edge] = field(default_factory=dict)

    def of(self, concept: str, relations: Sequence[str], *, kin: bool) -> list[Edge]:
        """Return the one-word facts of a concept, then those of its siblings if `kin` may stand in for it."""
        return [
            edge
            for one in (concept, *(self.siblings.get(concept, ()) if kin else ()))
            for edge in self.edges.get(one, ())
            if edge.relation in relations and " " not in edge.tail
        ]


def knowledge_slots(
    caption: Caption, links: Sequence[Mapping[str, Any]], facts: Facts, told: AbstractSet[str]
) -> list[Slot]:
    """Return the places of a caption where a graph knows something else.

    Args:
        caption: The caption.
        links: Its concepts (see `curation.stages.captions.link_concepts`).
        facts: What is known of them.
        told: Dictionary forms of all words in the captions of the image.
    """
    named = {
        link["tokens"][1] - 1: link["concept"]
        for link in links
        if link["pos"] == "NOUN" and link["sense"] and not link["negated"]
    }
    slots = []
    for token, concept in named.items():
        slots += _actions(caption, token, concept, facts, told)
        slots += _attributes(caption, token, concept, facts, told)
    return [*slots, *_reversals(caption, named, facts)]


def _actions(caption: Caption, noun: int, concept: str, facts: Facts, told: AbstractSet[str]) -> list[Slot]:
    verb = caption.heads[noun]
    able = facts.of(concept, ("CapableOf",), kin=root_class(concept) == "person")
    if caption.deps[noun] == "nsubj" and caption.pos[verb] == "VERB":
        return _alone(caption, verb, able, told)
    if caption.deps[noun] == "dobj" and caption.pos[verb] == "VERB":
        return _with_object(caption, verb, facts.of(concept, ("UsedFor", "ReceivesAction"), kin=False), told)
    doing = [child for child in caption.with_dep(noun, "acl") if caption.tags[child] == "VBG"]
    return [slot for one in doing for slot in _alone(caption, one, able, told)]


def _is_plain(caption: Caption, verb: int) -> bool:
    """Say whether a verb may be exchanged without breaking what hangs on it."""
    lemma, tag = caption.verb(verb), caption.tags[verb]
    return (
        caption.is_whole_word(verb)
        and lemma not in LIGHT_VERBS
        and tag in ("VBG", "VBZ", "VBP", "VBD")
        and verb_form(lemma, tag) == caption.words[verb]
        and not (tag == "VBD" and lemma == caption.words[verb])  # "two dogs run" is no past
        and not caption.with_dep(
            verb, "prt", "neg", "ccomp", "xcomp", "dative", "acomp", "attr", "auxpass", "advcl", "oprd"
        )
        and not any(caption.words[child] in _LOOSE for child in caption.with_dep(verb, "advmod", "npadvmod"))
    )


def _alone(caption: Caption, verb: int, edges: Sequence[Edge], told: AbstractSet[str]) -> list[Slot]:
    if caption.with_dep(verb, "dobj", "npadvmod") or not _is_plain(caption, verb):
        return []
    following = {caption.words[child] for child in caption.with_dep(verb, "prep")}
    if not _NO_PLACE.isdisjoint(
        caption.lemma(one) for child in caption.with_dep(verb, "prep") for one in caption.children[child]
    ):
        return []
    wet = not _WATER.isdisjoint(caption.words)
    fitting = {
        deed
        for deed, allowed in _FRAMES.items()
        if following <= allowed and _apart(caption.verb(verb), deed) and (deed != "swim" or wet)
    }
    return _action_slot(caption, verb, [edge for edge in edges if edge.tail in fitting], told)


def _apart(old: str, new: str) -> bool:
    """Say whether who does one thing does not do the other at the same time."""
    if old in _POSTURES:
        return new in _POSTURES | {"jump"}
    return new == "sleep" if old in _BUSY else old in _MOVING


def _with_object(caption: Caption, verb: int, edges: Sequence[Edge], told: AbstractSet[str]) -> list[Slot]:
    if len(caption.with_dep(verb, "dobj")) > 1 or not _is_plain(caption, verb):
        return []
    if any(caption.words[child] in _PATH | {"to"} for child in caption.with_dep(verb, "prep")):
        return []
    doers = caption.with_dep(verb, "nsubj") or [caption.heads[verb]]
    able = _WITH_OBJECT if is_human(caption.lemma(doers[0])) else _BY_ANIMALS
    return _action_slot(caption, verb, [edge for edge in edges if edge.tail in able], told)


def _action_slot(caption: Caption, verb: int, edges: Sequence[Edge], told: AbstractSet[str]) -> list[Slot]:
    own = caption.verb(verb)
    options = [edge for edge in edges if edge.tail not in told and not same_action(edge.tail, (own, *told))]
    return [Slot("action", "action", _first(options), partial(_act, caption, verb))] if options else []


def _act(caption: Caption, verb: int, edge: Edge) -> Change | None:
    form = verb_form(edge.tail, caption.tags[verb])
    return Change(caption.replacement_edits(verb, form), edge.uri) if form else None


def _attributes(caption: Caption, noun: int, concept: str, facts: Facts, told: AbstractSet[str]) -> list[Slot]:
    edges = [edge for edge in facts.of(concept, ("HasProperty",), kin=True) if edge.tail in COLOURS | VISIBLE]
    slots = []
    for token in caption.with_dep(noun, "amod"):
        tangled = caption.with_dep(token, "conj", "cc", "neg", "advmod", "amod")
        if not caption.is_whole_word(token) or caption.tags[token] != "JJ" or tangled or _shaded(caption, token):
            continue
        options = [
            edge
            for edge in edges
            if edge.tail not in told and _excludes(caption, noun, caption.words[token], edge.tail)
        ]
        if options:
            slots.append(Slot("attribute", "attribute", _first(options), partial(_describe, caption, token)))
    return slots


def _shaded(caption: Caption, token: int) -> bool:
    """Say whether another colour stands beside a word: "golden brown" is one colour."""
    beside = caption.words[max(0, token - 1) : token] + caption.words[token + 1 : token + 2]
    return any(feature_value(word)[0] == "colour" or word in ("light", "dark", "bright") for word in beside)


def _excludes(caption: Caption, noun: int, old: str, new: str) -> bool:
    """Say whether a describing word excludes another and is said of such a thing."""
    families = [family for family in attribute_families(old) if new in family.rivals[old]]
    if families:
        return any(fits_quality(family.name, caption, noun) for family in families)
    return not attribute_families(old) and new in opposites_of([old])


def _describe(caption: Caption, token: int, edge: Edge) -> Change:
    return Change(caption.replacement_edits(token, edge.tail), edge.uri)


def _reversals(caption: Caption, named: Mapping[int, str], facts: Facts) -> list[Slot]:
    """Return pairs of things that a graph relates one way only, and the caption too."""
    slots = []
    for triplet in caption.parse["triplets"]:
        one, other = triplet["subject"], triplet["object"]
        if one not in named or other not in named:
            continue
        edge = facts.reversible.get((named[one], named[other])) or facts.reversible.get((named[other], named[one]))
        alive = all(root_class(named[token]) in ("person", "animal") for token in (one, other))
        alike = alive and caption.is_plural(one) == caption.is_plural(other)
        apart = not {"with", "and", "other", "another"} & {*triplet["relation"].split(), *_around(caption, one, other)}
        if edge is not None and alike and apart and caption.phrase(one) and caption.phrase(other):
            slots.append(Slot("reversed", "relation", (edge,), partial(_reverse, caption, one, other)))
    return slots


def _around(caption: Caption, *nouns: int) -> list[str]:
    return [caption.words[child] for noun in nouns for child in caption.with_dep(noun, "det", "amod")]


def _reverse(caption: Caption, one: int, other: int, edge: Edge) -> Change | None:
    first, second = caption.phrase(min(one, other)), caption.phrase(max(one, other))
    if first is None or second is None or caption.words[one] == caption.words[other]:
        return None
    return Change(swap_spans(caption.text, caption.parse, caption.span(*first), caption.span(*second)), edge.uri)


def _first(edges: Sequence[Edge]) -> list[Edge]:
    """Return the first edge for each word."""
    best: dict[str, Edge] = {}
    for edge in edges:
        best.setdefault(edge.tail, edge)
    return list(best.values())
