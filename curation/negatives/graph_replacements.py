"""Slots of a caption that another fact of a graph about the same object, or about a sibling, can fill."""

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
from curation.negatives.replace_nouns import fits_quality
from curation.negatives.slots import Change, Slot
from curation.text.edits import swap_spans
from curation.text.lexicon import LIGHT_VERBS, opposites_of, same_action
from curation.text.phrases import Caption, verb_form
from curation.text.word_families import attribute_families, is_human
from curation.text.wordlists import word_sets

_SETS = word_sets("graph_replacements")

RELATIONS = ("CapableOf", "HasProperty", "UsedFor", "ReceivesAction")
"""Relations that give other actions and attributes."""
_POSTURES = _SETS["postures"]
_FRAMES: Mapping[str, frozenset[str]] = (
    dict(word_sets("graph_replacements", "after"))
    | dict.fromkeys(("run", "walk", "gallop"), _SETS["way_prepositions"])
    | dict.fromkeys(("sit", "stand", "lie", "kneel", "sleep"), _SETS["still_prepositions"])
)
"""Intransitive action -> prepositions that may follow it."""
_MOVING = frozenset(_FRAMES) - _POSTURES | _SETS["moving_verbs"]
_BUSY = _SETS["busy_verbs"]
"""Actions that can be done standing or running, but not asleep."""
_LOOSE = _SETS["particles"]


@dataclass
class GraphFacts:
    """The graph's facts about some concepts.

    Attributes:
        edges: Concept -> its edges of `RELATIONS`.
        siblings: Concept -> its siblings, best first.
        reversible: (head, tail) -> a directed edge whose reverse the graph does not assert.
    """

    edges: Mapping[str, Sequence[Edge]] = field(default_factory=dict)
    siblings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reversible: Mapping[tuple[str, str], Edge] = field(default_factory=dict)

    def of(self, concept: str, relations: Sequence[str], *, kin: bool) -> list[Edge]:
        """Return the one-word facts of a concept, then with `kin` those of its siblings."""
        return [
            edge
            for head in (concept, *(self.siblings.get(concept, ()) if kin else ()))
            for edge in self.edges.get(head, ())
            if edge.relation in relations and " " not in edge.tail
        ]


def knowledge_slots(
    links: Mapping[str, Sequence[Mapping[str, Any]]], facts: GraphFacts, mentioned: AbstractSet[str], caption: Caption
) -> list[Slot]:
    """Return the slots of a caption that another fact of the graph can fill.

    Args:
        links: Text of a caption -> its concepts (see `curation.stages.captions.link_concepts`).
        facts: The graph's facts about them.
        mentioned: Dictionary forms of all words in the captions of the image.
        caption: The caption.
    """
    named = {
        link["tokens"][1] - 1: link["concept"]
        for link in links[caption.text]
        if link["pos"] == "NOUN" and link["sense"] and not link["negated"]
    }
    slots = []
    for token, concept in named.items():
        slots += _actions(caption, token, concept, facts, mentioned)
        slots += _attributes(caption, token, concept, facts, mentioned)
    return [*slots, *_reversals(caption, named, facts)]


def _actions(caption: Caption, noun: int, concept: str, facts: GraphFacts, mentioned: AbstractSet[str]) -> list[Slot]:
    verb = caption.heads[noun]
    able = facts.of(concept, ("CapableOf",), kin=root_class(concept) == "person")
    if caption.deps[noun] == "nsubj" and caption.pos[verb] == "VERB":
        return _without_object(caption, verb, able, mentioned)
    if caption.deps[noun] == "dobj" and caption.pos[verb] == "VERB":
        return _with_object(caption, verb, facts.of(concept, ("UsedFor", "ReceivesAction"), kin=False), mentioned)
    doing = [child for child in caption.with_dep(noun, "acl") if caption.tags[child] == "VBG"]
    return [slot for one in doing for slot in _without_object(caption, one, able, mentioned)]


def _is_replaceable(caption: Caption, verb: int) -> bool:
    """Return whether a verb can be replaced without breaking its dependents."""
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


def _without_object(caption: Caption, verb: int, edges: Sequence[Edge], mentioned: AbstractSet[str]) -> list[Slot]:
    if caption.with_dep(verb, "dobj", "npadvmod") or not _is_replaceable(caption, verb):
        return []
    following = {caption.words[child] for child in caption.with_dep(verb, "prep")}
    if not _SETS["no_place"].isdisjoint(
        caption.lemma(one) for child in caption.with_dep(verb, "prep") for one in caption.children[child]
    ):
        return []
    wet = not _SETS["water"].isdisjoint(caption.words)
    fitting = {
        action
        for action, allowed in _FRAMES.items()
        if following <= allowed and _excludes_action(caption.verb(verb), action) and (action != "swim" or wet)
    }
    return _action_slot(caption, verb, [edge for edge in edges if edge.tail in fitting], mentioned)


def _excludes_action(old: str, new: str) -> bool:
    """Return whether the two actions cannot be done at the same time."""
    if old in _POSTURES:
        return new in _POSTURES | {"jump"}
    return new == "sleep" if old in _BUSY else old in _MOVING


def _with_object(caption: Caption, verb: int, edges: Sequence[Edge], mentioned: AbstractSet[str]) -> list[Slot]:
    if len(caption.with_dep(verb, "dobj")) > 1 or not _is_replaceable(caption, verb):
        return []
    if any(caption.words[child] in _SETS["path_prepositions"] | {"to"} for child in caption.with_dep(verb, "prep")):
        return []
    doers = caption.with_dep(verb, "nsubj") or [caption.heads[verb]]
    able = _SETS["verbs_with_object"] if is_human(caption.lemma(doers[0])) else _SETS["verbs_of_animals"]
    return _action_slot(caption, verb, [edge for edge in edges if edge.tail in able], mentioned)


def _action_slot(caption: Caption, verb: int, edges: Sequence[Edge], mentioned: AbstractSet[str]) -> list[Slot]:
    own = caption.verb(verb)
    options = [edge for edge in edges if edge.tail not in mentioned and not same_action(edge.tail, (own, *mentioned))]
    return [Slot("action", "action", _first(options), partial(_change_action, caption, verb))] if options else []


def _change_action(caption: Caption, verb: int, edge: Edge) -> Change | None:
    form = verb_form(edge.tail, caption.tags[verb])
    return Change(caption.replacement_edits(verb, form), edge.uri) if form else None


def _attributes(
    caption: Caption, noun: int, concept: str, facts: GraphFacts, mentioned: AbstractSet[str]
) -> list[Slot]:
    edges = [edge for edge in facts.of(concept, ("HasProperty",), kin=True) if edge.tail in COLOURS | VISIBLE]
    slots = []
    for token in caption.with_dep(noun, "amod"):
        complex_phrase = caption.with_dep(token, "conj", "cc", "neg", "advmod", "amod")
        if (
            not caption.is_whole_word(token)
            or caption.tags[token] != "JJ"
            or complex_phrase
            or _beside_colour(caption, token)
        ):
            continue
        options = [
            edge
            for edge in edges
            if edge.tail not in mentioned and _excludes_attribute(caption, noun, caption.words[token], edge.tail)
        ]
        if options:
            slots.append(Slot("attribute", "attribute", _first(options), partial(_change_attribute, caption, token)))
    return slots


def _beside_colour(caption: Caption, token: int) -> bool:
    """Return whether another colour is next to a word: "golden brown" is one colour."""
    neighbours = caption.words[max(0, token - 1) : token] + caption.words[token + 1 : token + 2]
    return any(feature_value(word)[0] == "colour" or word in ("light", "dark", "bright") for word in neighbours)


def _excludes_attribute(caption: Caption, noun: int, old: str, new: str) -> bool:
    """Return whether an attribute excludes another and suits the noun."""
    families = [family for family in attribute_families(old) if new in family.rivals[old]]
    if families:
        return any(fits_quality(family.name, caption, noun) for family in families)
    return not attribute_families(old) and new in opposites_of([old])


def _change_attribute(caption: Caption, token: int, edge: Edge) -> Change:
    return Change(caption.replacement_edits(token, edge.tail), edge.uri)


def _reversals(caption: Caption, named: Mapping[int, str], facts: GraphFacts) -> list[Slot]:
    """Return the slots of pairs that graph and caption relate in one direction only."""
    slots = []
    for triplet in caption.parse["triplets"]:
        one, other = triplet["subject"], triplet["object"]
        if one not in named or other not in named:
            continue
        edge = facts.reversible.get((named[one], named[other])) or facts.reversible.get((named[other], named[one]))
        alive = all(root_class(named[token]) in ("person", "animal") for token in (one, other))
        same_number = alive and caption.is_plural(one) == caption.is_plural(other)
        directed = not {"with", "and", "other", "another"} & {
            *triplet["relation"].split(),
            *_modifiers(caption, one, other),
        }
        if edge is not None and same_number and directed and caption.phrase(one) and caption.phrase(other):
            slots.append(Slot("reversed", "relation", (edge,), partial(_reverse, caption, one, other)))
    return slots


def _modifiers(caption: Caption, *nouns: int) -> list[str]:
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
