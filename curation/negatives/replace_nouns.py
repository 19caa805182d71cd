"""Which objects and attributes of a caption can be replaced, and by what, so that the sentence stays plausible."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial

from curation.negatives.slots import Change, Slot
from curation.text.edits import Edit, match_case
from curation.text.lexicon import GENDERS, NEGATIONS, canonical_noun
from curation.text.phrases import FEMALE_TO_MALE, MALE_TO_FEMALE, Caption, noun_form
from curation.text.word_families import Family, attribute_families, is_animal, is_human, object_families
from curation.text.wordlists import word_sets

_SETS = word_sets("replace_nouns")

GraphOptions = Mapping[str, Sequence[tuple[str, str]]]
"""Word -> (a word that excludes it, the URI of the edge)."""

_GENDERED = _SETS["gendered"]
"""Words with which the other sex, or a child, would be odd."""
_PEOPLE = ("sex", "child", "age", "parent", "couple")
_SOLD = ("top", "bottom", "hat", "eyewear", "shoe", "neck", "carried")
_UNCOUNTED = ("surface", "drink", "sport", "season", "night")

_POSITIONS = ("upper", "lower", "inner", "outer")
"""Comparatives that compare nothing."""
_INTESTINES = (["bowel"], ["intestine"])
"""Of which there is a small and a large one, and no big one."""
_VIEWS = ("view", "radiograph", "x-ray", "xray", "projection", "film", "image", "scan", "cephalogram")
_BODY_HUES = _SETS["hair"]
_OWN_COLOUR = _SETS["own_colour"]
"""Objects with a colour of their own: any other would be odd."""
_GROWN = _SETS["grown"]
_TALL = _SETS["tall"] | _GROWN
_WATERS = _SETS["waters"]
_SHAPES = _SETS["shapes"]


def object_slots(caption: Caption, from_graph: GraphOptions, among: AbstractSet[int] | None = None) -> list[Slot]:
    """Return the slots of the objects that can be replaced, of the tokens in `among` if given."""
    slots = []
    for token in range(len(caption.words)) if among is None else sorted(among):
        in_title = caption.pos[token] in ("PROPN", "NOUN") and caption.is_title
        if (
            not (caption.is_noun(token) or in_title)
            or not caption.is_whole_word(token)
            or (not in_title and caption.with_dep(token, "compound", "nmod", "neg"))
        ):
            continue
        lemma, fits = caption.lemma(token), _fits_title if in_title else _fits_object
        options = [
            (family, word)
            for family in object_families(lemma)
            if fits(caption, token, family)
            for word in family.rivals[lemma]
        ]
        if options:
            slots.append(Slot("object", "object", options, partial(_object, caption, token, lemma), token))
        elif (
            lemma in from_graph
            and not in_title
            and caption.deps[token] != "compound"
            and not object_families(lemma)
            and not is_human(lemma)
        ):
            slots.append(
                Slot("object", "object", from_graph[lemma], partial(_from_graph, caption, token, lemma, noun=True))
            )
    return slots


def _preposition(caption: Caption, token: int) -> str:
    return caption.words[caption.heads[token]] if caption.deps[token] == "pobj" else ""


def _fits_object(caption: Caption, token: int, family: Family) -> bool:
    """Return whether the words of a family can replace a noun."""
    name, dep, words = family.name, caption.deps[token], caption.words
    determiners = {words[child] for child in caption.with_dep(token, "det", "poss")}
    if name == "sport":
        head = caption.heads[token]
        if dep == "compound":
            return caption.lemma(head) in _SETS["games"]
        return dep == "dobj" and caption.verb(head) == "play" and not determiners
    describing = (
        dep in ("compound", "nmod", "npadvmod", "amod") or words[token] in ("back", "top") or _is_fixed(words, token)
    )
    counted = caption.is_plural(token) or "a" in determiners or "an" in determiners
    if describing or (name in _UNCOUNTED and counted) or (name in _SINGLE and caption.is_plural(token)):
        return False
    if name in _PEOPLE:
        little = name == "age" and any(words[child] in ("little", "small") for child in caption.with_dep(token, "amod"))
        return _GENDERED.isdisjoint(words) and not little and not (name == "age" and "its" in words)
    test = _CONTEXTS.get(name)
    return test is None or test(caption, token, determiners)


def _fits_title(caption: Caption, token: int, family: Family) -> bool:
    """Return whether the words of a family can replace a word of a title, which has no articles and hardly any phrases.

    That is whom a thing is for ("Nike Men Black Shoes"), and the thing itself, which comes last.
    """
    if family.name in ("sex", "child"):
        return _GENDERED.isdisjoint(set(caption.words) - {"men's", "women's"})
    is_last = not any(word.isalpha() for word in caption.words[token + 1 :])
    return is_last and family.name in _SOLD


def _is_fixed(words: Sequence[str], token: int) -> bool:
    return token > 0 and f"{words[token - 1]} {words[token]}".rstrip("s") in (
        "hot dog",
        "high chair",
        "high school",
        "polar bear",
        "left hand",
        "right hand",
        "other hand",
        "first hand",
    )


def _on_ground(caption: Caption, token: int, _determiners: AbstractSet[str]) -> bool:
    bare = not caption.with_dep(token, "amod") and caption.words[token + 1 : token + 2] != ["of"]
    ground = _preposition(caption, token) in ("in", "on", "through", "across", "into")
    return bare and ground and _SETS["water_and_snow"].isdisjoint({*caption.words} - {"of"})


def _at_night(caption: Caption, token: int, determiners: AbstractSet[str]) -> bool:
    return (
        _preposition(caption, token) == "at" and not determiners and caption.words[token + 1 : token + 2] in ([], ["."])
    )


def _is_shape(caption: Caption, token: int, determiners: AbstractSet[str]) -> bool:
    """Return whether a heart, a disc or a ring is a figure, not a part of a body or a thing to wear."""
    if caption.lemma(token) not in _OFTEN_NO_SHAPE:
        return True
    modifiers = [caption.words[child] for child in caption.with_dep(token, "amod", "compound", "nmod")]
    plain = not modifiers and not determiners.isdisjoint(("a", "an", "one", "another"))
    return plain or (bool(modifiers) and all(map(attribute_families, modifiers)))


_OFTEN_NO_SHAPE = frozenset({"disc", "heart", "ring", "cross", "diamond"})
_SINGLE = ("way", "climb", "body_of_water")
_CONTEXTS: Mapping[str, Callable[[Caption, int, AbstractSet[str]], bool]] = {
    "surface": _on_ground,
    "terrain": lambda caption, token, _: _preposition(caption, token) in _SETS["prepositions_of_terrain"],
    "way": lambda caption, token, _: _preposition(caption, token) in _SETS["prepositions_of_ways"],
    "climb": lambda caption, token, _: caption.verb(caption.heads[token]) in ("climb", "scale"),
    "night": _at_night,
    "body_of_water": lambda caption, token, _: _preposition(caption, token) not in ("on", ""),
    "handheld": lambda caption, token, _: (
        _preposition(caption, token) == "with"
        or (caption.deps[token] == "dobj" and caption.verb(caption.heads[token]) not in _SETS["handling_verbs"])
    ),
    "shape": _is_shape,
    "vessel": lambda caption, token, _: _preposition(caption, token) not in ("on", "onto"),
    "ball": lambda caption, token, determiners: bool(determiners) and caption.words[token + 1 : token + 2] != ["of"],
    "fruit": lambda caption, token, determiners: (
        caption.words[token] != "orange" or (caption.pos[token] != "ADJ" and bool(determiners))
    ),
}
"""Family of objects -> whether its members suit the position of a noun."""


def _object(caption: Caption, token: int, lemma: str, option: tuple[Family, str]) -> Change | None:
    family, new = option
    nouns = (caption.lemma(other) for other, pos in enumerate(caption.pos) if pos in ("NOUN", "PROPN"))
    if canonical_noun(new) in map(canonical_noun, nouns):
        return None
    form = noun_form(new, caption.is_plural(token))
    pieces = _with_pronouns(caption, token, lemma, new) if family.name in _PEOPLE else []
    if not form or pieces is None:
        return None
    rule = f"replace object '{caption.raw[token]}' -> '{form}' ({family.name})"
    return Change([*caption.replacement_edits(token, form), *pieces], rule)


def _with_pronouns(caption: Caption, token: int, old: str, new: str) -> list[Edit] | None:
    """Return the pieces that change the pronouns of a person whose sex changes; None where they may be another's."""
    before, after = GENDERS.get(old, ""), GENDERS.get(new, "")
    if before == after or not after:
        return []
    own, foreign = caption.gender_pronouns(before) if before else [], caption.gender_pronouns(after)
    objects = any(caption.tags[one] == "PRP" and caption.words[one] in ("her", "him") for one in own)
    if foreign or objects:
        return None  # "him" is someone else
    nouns = (one for one in range(len(caption.words)) if one != token and caption.pos[one] in ("NOUN", "PROPN"))
    if own and any(caption.lemma(one) in GENDERS or is_human(caption.lemma(one)) for one in nouns):
        return None
    pieces = []
    for one in own:
        place = caption.span(one, one + 1)
        other = (MALE_TO_FEMALE if before == "m" else FEMALE_TO_MALE)[caption.words[one]]
        pieces.append(Edit(place.start, place.end, match_case(caption.raw[one], other)))
    return pieces


def _from_graph(caption: Caption, token: int, lemma: str, option: tuple[str, str], *, noun: bool) -> Change | None:
    new, edge = option
    form = noun_form(new, caption.is_plural(token)) if noun else new
    if not form or canonical_noun(new) == canonical_noun(lemma) or new in caption.words or form in caption.words:
        return None
    return Change(caption.replacement_edits(token, form), edge)


def attribute_slots(caption: Caption, from_graph: GraphOptions) -> list[Slot]:
    """Return the slots of the attributes that can be replaced."""
    slots = []
    for token, word in enumerate(caption.words):
        families = attribute_families(word)
        if (
            (not families and word not in from_graph)
            or not caption.is_whole_word(token)
            or (caption.tags[token] in ("JJR", "JJS") and word not in _POSITIONS)
            or (word in ("small", "large") and caption.words[token + 1 : token + 2] in _INTESTINES)
        ):
            continue
        noun = described(caption, token)
        if noun < 0 or any(child in NEGATIONS for child in map(caption.words.__getitem__, caption.children[token])):
            continue
        fitting = [family for family in families if fits_quality(family.name, caption, noun)]
        options = [(family, other) for family in fitting for other in family.rivals[word]]
        if options:
            slots.append(Slot("attribute", "attribute", options, partial(_attribute, caption, token, noun)))
        elif not families and caption.pos[token] == "ADJ":
            slots.append(
                Slot("attribute", "attribute", from_graph[word], partial(_from_graph, caption, token, word, noun=False))
            )
    return slots


def described(caption: Caption, token: int) -> int:
    """Return the noun that an attribute belongs to, or -1."""
    for _ in range(4):
        head, dep = caption.heads[token], caption.deps[token]
        if dep in ("amod", "compound", "nmod") and caption.pos[head] in ("NOUN", "PROPN"):
            return head
        if dep == "acomp":
            who = caption.with_dep(head, "nsubj")
            return who[0] if who and caption.pos[who[0]] == "NOUN" else -1
        if dep not in ("conj", "amod") or head == token or caption.pos[token] not in ("ADJ", "NOUN", "PROPN", "VERB"):
            return -1
        if dep == "conj" and caption.pos[head] == "NOUN" and not attribute_families(caption.words[head]):
            return -1  # objects that are joined, not attributes
        token = head
    return -1


_FITS: Mapping[str, Callable[[str], bool]] = {
    "colour": lambda noun: (
        not (is_human(noun) or is_animal(noun) or noun in _OWN_COLOUR or noun in _BODY_HUES or noun in _SHAPES)
    ),
    "fur": is_animal,
    "hair_colour": _BODY_HUES.__contains__,
    "size": lambda noun: not is_human(noun) or noun in ("group", "crowd"),
    "grown": _GROWN.__contains__,
    "used": _SETS["made"].__contains__,
    "height": _TALL.__contains__,
    "length": _SETS["long"].__contains__,
    "wet": _SETS["wet"].__contains__,
    "clean": lambda noun: noun not in ("bike", "area"),
    "shut": _SETS["opening"].__contains__,
    "full": _SETS["places"].__contains__,
    "weather": lambda noun: noun in ("day", "afternoon", "morning", "sky", "beach", "street", "park"),
    "depth": _WATERS.__contains__,
    "waves": _WATERS.__contains__,
    "mood": is_human,
    "sex_of": is_human,
    "width": _SETS["wide"].__contains__,
    "light": _SETS["dark"].__contains__,
    "material": _SETS["built"].__contains__,
    "pattern": lambda noun: noun in _SETS["clothes"] or noun in _SHAPES,
    "form": _SETS["formed"].__contains__,
    "heat": _SETS["heated"].__contains__,
    "side": lambda noun: noun not in ("angle", "time", "way", "thing"),
    "middle": lambda noun: noun not in _VIEWS,  # a lateral view is no medial one
    "sides": lambda noun: noun not in _VIEWS,
}


def fits_quality(family: str, caption: Caption, noun: int) -> bool:
    """Return whether a family of attributes suits a noun."""
    lemma = caption.lemma(noun)
    if family == "colour" and lemma in _SHAPES:
        return True
    if family == "hair_colour" and is_human(lemma):
        return False
    test = _FITS.get(family)
    return test is None or test(lemma)


def _attribute(caption: Caption, token: int, noun: int, option: tuple[Family, str]) -> Change | None:
    family, new = option
    word, before = caption.words[token], caption.words[token - 1] if token else ""
    near = {caption.words[one] for one in range(max(0, token - 3), min(len(caption.words), token + 4))}
    if new in caption.words or (before in ("light", "dark", "bright", "neon", "pale") and new in ("black", "white")):
        return None
    if any(family.members.get(one) == family.members[new] for one in near - {word}):
        return None
    rule = f"replace attribute '{caption.raw[token]}' -> '{new}' of '{caption.raw[noun]}' ({family.name})"
    return Change(caption.replacement_edits(token, new), rule)
