"""Which facts of a graph may be added to the captions of an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.knowledge.concept_linking import content_words
from curation.knowledge.homonyms import homonyms
from curation.knowledge.interface import Edge
from curation.knowledge.visual_lexicon import (
    BROKEN,
    COLOURS,
    EMPTY_VERBS,
    GENERAL,
    GENERIC,
    KINDS,
    LIGHT,
    MASS_EVENTS,
    MATERIALS,
    MEMBERS,
    NOT_FACTS,
    NUMBERS,
    OPPOSITES,
    PARTS,
    ROLES,
    TOP,
    VISIBLE,
    WHO_CAN,
    WITHOUT_SUPPORT,
)
from curation.knowledge.word_sense import Lexicon, head_word
from curation.models.parser import CaptionParse


@dataclass(frozen=True)
class Scene:
    """The content of an image's captions, for comparing facts with it.

    Attributes:
        words: For each caption its content words, in dictionary form and as written.
        modifiers: For each caption: (concept, whether plural) -> adjectives and nouns in front of it.
        several: Concepts that some caption mentions more than once: a fact about one may not hold of the other.
        done_by: For each caption: (concept, verb) of agents.
        done_to: For each caption: (verb, concept) of patients.
        places: For each caption the places it mentions, snow and water among them.
    """

    words: tuple[frozenset[str], ...]
    modifiers: tuple[Mapping[tuple[str, bool], frozenset[str]], ...]
    several: frozenset[str]
    done_by: tuple[frozenset[tuple[str, str]], ...]
    done_to: tuple[frozenset[tuple[str, str]], ...]
    places: tuple[frozenset[str], ...]


def read_scene(parses: Sequence[CaptionParse], links: Sequence[Sequence[Mapping[str, Any]]]) -> Scene:
    """Read an image's captions into a `Scene`."""
    words, modifiers, by, to = [], [], [], []
    several: set[str] = set()
    for parse, of_caption in zip(parses, links, strict=True):
        forms: dict[int, list[str]] = {}
        for form, token in content_words(parse):
            forms.setdefault(token, []).append(form)
        named = {link["tokens"][1] - 1: link["concept"] for link in of_caption if link["pos"] == "NOUN"}
        plural = {link["tokens"][1] - 1: link["plural"] for link in of_caption}
        several.update(concept for concept, count in Counter(named.values()).items() if count > 1)
        words.append(frozenset(form for found in forms.values() for form in found))
        front: dict[tuple[str, bool], set[str]] = {}
        pairs_by: set[tuple[str, str]] = set()
        pairs_to: set[tuple[str, str]] = set()
        for token, head in enumerate(parse["heads"]):
            dep = parse["deps"][token]
            if head in named and dep in ("amod", "compound", "nmod"):
                front.setdefault((named[head], plural[head]), set()).update(forms.get(token, ()))
            elif token in named and dep in ("nsubj", "agent"):
                pairs_by.update((named[token], verb) for verb in forms.get(head, ()))
            elif head in named and dep in ("acl", "relcl") and parse["tags"][token] != "VBN":
                pairs_by.update((named[head], verb) for verb in forms.get(token, ()))
            elif token in named and dep in ("dobj", "nsubjpass"):
                pairs_to.update((verb, named[token]) for verb in forms.get(head, ()))
        modifiers.append({concept: frozenset(found) for concept, found in front.items()})
        by.append(frozenset(pairs_by))
        to.append(frozenset(pairs_to))
    return Scene(tuple(words), tuple(modifiers), frozenset(several), tuple(by), tuple(to), tuple(map(_places, links)))


def _places(links: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    return frozenset(
        link["concept"] for link in links if link["sense"] == "place" or link["concept"] in ("snow", "water", "grass")
    )


def facts(
    lexicon: Lexicon, link: Mapping[str, Any], relations: tuple[str, ...]
) -> Sequence[tuple[str, Sequence[Edge]]]:
    """Return a concept's facts in groups (why they fit no image at all, or an empty string; the facts).

    The groups are by relation and reason, in the order of the graph.
    """
    key = (link["concept"], link["sense"], link["known"], link["negated"], link["countable"], relations)
    if key not in lexicon.sorted_facts:
        reason = link_rejection(link)
        groups: dict[tuple[str, str], list[Edge]] = {}
        for edge in lexicon.edges(link["concept"]):
            if edge.relation in relations:
                why = reason or fact_rejection(edge, link["sense"], lexicon)
                if not why and link["countable"] and edge.relation == "IsA" and head_word(edge.tail) in MASS_EVENTS:
                    why = "wrong_sense"
                groups.setdefault((edge.relation, why), []).append(edge)
        lexicon.sorted_facts[key] = [(why, edges) for (_, why), edges in groups.items()]
    return lexicon.sorted_facts[key]


def link_rejection(link: Mapping[str, Any]) -> str:
    """Return why no fact about a concept may be used, or an empty string."""
    if link["negated"]:
        return "negated"
    if link["sense"]:
        return ""
    return "ambiguous_sense" if link["known"] else "unknown_kind"


def fact_rejection(edge: Edge, sense: str, lexicon: Lexicon) -> str:
    """Return why a fact fits no image at all, or an empty string; looks at the fact alone."""
    words = edge.tail.split()
    is_kind = edge.relation in ("IsA", "InstanceOf")
    ours = homonyms().get(edge.head)
    if sense == "person":
        reason = "" if is_kind and edge.head in ROLES.get(edge.tail, ()) else "about_people"
    elif len(words) > 3 or "to" in words:
        reason = "long_tail"
    elif edge.head in words or edge.tail.replace(" ", "_") in GENERIC:
        reason = "generic_tail"
    elif not NOT_FACTS.isdisjoint(words):
        reason = "opinion"
    elif is_kind:
        reason = _kind_rejection(edge, sense, lexicon)
    elif ours and edge.relation != "HasA" and not lexicon.belongs(edge, sense):
        reason = "wrong_sense"
    else:
        reason = "" if _can_be_seen(edge, sense, words, lexicon) else "not_visible"
    return reason


def _can_be_seen(edge: Edge, sense: str, words: Sequence[str], lexicon: Lexicon) -> bool:
    """Return whether a fact other than IsA is visible and suits the class of its head."""
    match edge.relation:
        case "HasA":
            part = words[-1] if len(words) == 1 or words[0] in NUMBERS else ""
            return sense in PARTS.get(part, ()) and words[0] != "one"
        case "MadeOf":
            return edge.tail in MATERIALS and sense in ("thing", "place")
        case "HasProperty":
            return edge.tail in COLOURS | VISIBLE
        case "AtLocation":
            return lexicon.class_of(edge.tail) == "place" and sense in ("animal", "thing", "plant")
        case "PartOf":
            return edge.tail not in TOP and lexicon.class_of(edge.tail) in ("thing", "place", "plant")
        case _:
            return sense in WHO_CAN.get(edge.relation, ()) and words[0] not in EMPTY_VERBS


def _kind_rejection(edge: Edge, sense: str, lexicon: Lexicon) -> str:
    """Return why an IsA may not be used: it must name a visible category, in this sense, and be no mistake."""
    found = lexicon.class_of(edge.tail, edge.tail_sense)
    if not found or edge.tail.split()[0] in BROKEN or not head_word(edge.tail):
        return "not_visible"
    if found != sense and {found, sense} != {"plant", "food"}:
        return "wrong_sense"
    needed = 3 if " " in edge.tail else 0 if edge.tail in GENERAL else MEMBERS
    if edge.head in TOP or (edge.weight < 2 and lexicon.members(edge.tail) < needed):
        return "not_a_category"
    denied = {other.tail for other in lexicon.edges(edge.head) if other.relation == "NotIsA"}
    kinds = [other.tail for other in lexicon.edges(edge.head) if other.relation in ("IsA", "InstanceOf")]
    if edge.tail in denied or f"not {edge.tail}" in kinds:
        return "denied"
    own = KINDS.get(head_word(edge.tail), "")
    if own:
        claims = Counter(kind for tail in kinds if (kind := KINDS.get(head_word(tail), "")))
        if any(count >= claims[own] for kind, count in claims.items() if kind != own):
            return "denied"
    return ""


def support_for(edge: Edge, scene: Scene, caption: int, *, plural: bool) -> int:
    """Return how many other captions of the image say the same of the same concept."""
    content = [word for word in edge.tail.split() if word not in LIGHT]
    others = [other for other in range(len(scene.words)) if other != caption]
    match edge.relation:
        case _ if not content:
            return 0
        case "HasProperty":
            return sum(edge.tail in scene.modifiers[other].get((edge.head, plural), ()) for other in others)
        case "MadeOf":
            return sum(edge.tail in _materials(scene, other, edge.head) for other in others)
        case "CapableOf":
            agree = [other for other in others if (edge.head, content[0]) in scene.done_by[other]]
        case "ReceivesAction":
            agree = [other for other in others if (content[0], edge.head) in scene.done_to[other]]
        case "UsedFor" | "AtLocation" | "PartOf":
            # Both in one caption: that somebody runs says nothing about the shoe in another caption.
            agree = [other for other in others if edge.head in scene.words[other]]
        case _:
            agree = others
    return sum(scene.words[other].issuperset(content) for other in agree)


def _materials(scene: Scene, caption: int, concept: str) -> frozenset[str]:
    """Return the materials of a concept that a caption mentions, as nouns."""
    modifiers = _modifiers_of(scene, caption, concept) & MATERIALS
    return frozenset("wood" if word == "wooden" else word for word in modifiers)


def _modifiers_of(scene: Scene, caption: int, concept: str) -> frozenset[str]:
    modifiers = scene.modifiers[caption]
    return modifiers.get((concept, False), frozenset()) | modifiers.get((concept, True), frozenset())


def scene_rejection(edge: Edge, scene: Scene, caption: int, support: int) -> str:
    """Return why a fact may not be added to this caption of this image, or an empty string."""
    content = [word for word in edge.tail.split() if word not in LIGHT]
    if content and scene.words[caption].issuperset(content):
        return "already_said"
    if _contradicted(edge, scene, caption):
        return "contradicted"
    if edge.relation in ("HasProperty", "CapableOf") and edge.head in scene.several:
        return "unclear_which"
    if edge.relation in WITHOUT_SUPPORT or (edge.relation == "MadeOf" and edge.weight >= 2):
        return ""
    return "" if support else "unsupported"


def _contradicted(edge: Edge, scene: Scene, caption: int) -> bool:
    """Return whether a caption contradicts it: another colour or material, an opposite, or in this one another place."""
    captions = range(len(scene.words))
    tail = frozenset(edge.tail.split())
    if edge.relation == "MadeOf":
        return any(_materials(scene, one, edge.head) - tail for one in captions)
    if edge.relation == "AtLocation":
        return bool(scene.places[caption] - tail - {edge.tail})
    if edge.relation != "HasProperty":
        return False
    modifiers = frozenset[str]().union(*(_modifiers_of(scene, one, edge.head) for one in captions))
    if tail & COLOURS and (modifiers & COLOURS) - tail:
        return True
    return any(tail & pair and (modifiers & pair) - tail for pair in OPPOSITES)
