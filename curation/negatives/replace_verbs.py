"""Which actions and relations of a caption can be replaced, and by what."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from functools import partial

from curation.negatives.slots import Change, Slot
from curation.text.edits import Edit, match_case
from curation.text.phrases import Caption, SpatialPhrase, verb_form
from curation.text.word_families import Family, action_families, is_animal, is_human, object_families
from curation.text.wordlists import word_rows, word_sets

_SETS = word_sets("replace_verbs")

_PATH = _SETS["path_prepositions"]
_WAY = _PATH | {"over", "into", "onto"}
_STATIC = _SETS["still_prepositions"]
_LOOSE = _SETS["particles"]
"""Adverbs that belong to their verb: "running around" is not running."""
_WORN = ("top", "bottom", "hat", "eyewear", "shoe", "neck")
_FAMILY_FRAMES = {
    "ball": ("ball",), "instrument": ("instrument",), "game": ("sport",), "food": ("fruit", "dish"), "drunk": ("drink",),
    "ridden": ("bike",),
}  # fmt: skip
_LISTED_FRAMES = {**word_sets("replace_verbs", "object"), "pushed": _SETS["carts"], "crossed": _SETS["ways"]}
_FRAMES_WITH_OBJECT = frozenset(
    {"ball", "ball_animal", "ridden_path", "clothes", "things", "beings", "ridden", "instrument", "game", "food", "drunk", "read", "pushed",
     "crossed", "open", "raise", "enter", "load", "climb"}
)  # fmt: skip

_RELATIONS = {relation: others for relation, *others in word_rows("other_places")}
_BUILDINGS = _SETS["buildings"]


def action_slots(caption: Caption, among: AbstractSet[int] | None = None) -> list[Slot]:
    """Return the slots of the verbs that can be replaced, of the tokens in `among` if given."""
    slots = []
    for token in range(len(caption.pos)) if among is None else sorted(among):
        if (
            caption.pos[token] != "VERB"
            or caption.tags[token] not in ("VBG", "VBZ", "VBP", "VBD", "VB")
            or not caption.is_whole_word(token)
        ):
            continue
        if caption.deps[token] in ("amod", "compound", "prep", "pcomp") or caption.with_dep(
            token, "prt", "neg", "ccomp", "xcomp", "dative", "acomp", "attr", "auxpass"
        ):
            continue
        lemma = caption.verb(token)
        families = action_families(lemma)
        if not families or any(caption.words[child] in _LOOSE for child in caption.with_dep(token, "advmod")):
            continue
        frames = _frames(caption, token, lemma)
        options = [(family, word) for family in families if family.name in frames for word in family.rivals[lemma]]
        if options:
            slots.append(Slot("action", "action", options, partial(_action, caption, token), token))
    return slots


def _frames(caption: Caption, verb: int, lemma: str) -> set[str]:
    """Return the names of the families whose verbs can replace a verb."""
    objects = caption.with_dep(verb, "dobj")
    if len(objects) > 1:
        return set()
    if objects:
        return _frames_of_object(caption, verb, objects[0])
    prepositions = [child for child in caption.with_dep(verb, "prep", "advmod") if child > verb]
    words = {caption.words[child] for child in prepositions}
    places = {caption.lemma(below) for child in prepositions for below in caption.with_dep(child, "pobj", "pcomp")}
    following = caption.words[verb + 1 : verb + 2]
    frames = set()
    if words & _PATH and following[:1] and following[0] in _PATH:
        frames.add("path")
    frames.update(word for word in following if word in ("over", "into"))
    if "at" in following and lemma in ("look", "stare", "gaze"):
        frames.add("at")
    if _has_inanimate_subject(caption, verb):
        return frames  # a ball that lies on a bench may as well sit there
    if not prepositions or (words <= _STATIC and not places & _SETS["no_place"]):
        frames.add("bare")
        if lemma not in ("run", "walk", "jump", "leap", "play"):
            frames.add("place")
        elif prepositions and following and following[0] in _STATIC and "with" not in words:
            frames.add("place_moving")
    return frames


def _has_inanimate_subject(caption: Caption, verb: int) -> bool:
    """Return whether the subject of a verb is certainly inanimate."""
    doers = caption.with_dep(verb, "nsubj") or [caption.heads[verb]]
    lemma = caption.lemma(doers[0])
    return bool(object_families(lemma)) and not is_human(lemma) and not is_animal(lemma)


def _frames_of_object(caption: Caption, verb: int, noun: int) -> set[str]:
    if not caption.is_noun(noun):
        return set()
    lemma = caption.lemma(noun)
    names = {family.name for family in object_families(lemma)}
    frames = {frame for frame, families in _FAMILY_FRAMES.items() if names.intersection(families)}
    frames |= {frame for frame, words in _LISTED_FRAMES.items() if lemma in words}
    if names.intersection(_WORN) or lemma in _SETS["wearable"]:
        frames.add("clothes")
    if names.intersection(("handheld", "carried", "vessel", "tool")) or lemma in _SETS["held"]:
        frames.add("things")
    if is_animal(lemma) or (is_human(lemma) and lemma in ("baby", "child", "kid", "toddler")):
        frames.add("beings")
    if "ball" in frames:
        doers = [child for child in caption.with_dep(verb, "nsubj") if caption.is_noun(child)] or [caption.heads[verb]]
        if not is_human(caption.lemma(doers[0])):
            frames = (frames - {"ball"}) | {"ball_animal"}
    if any(caption.words[child] in _WAY for child in caption.with_dep(verb, "prep")):
        # "riding a horse along the beach": only what moves along goes on there.
        frames = (frames - {"beings", "things", "ridden"}) | ({"ridden_path"} if "ridden" in frames else set())
    if any(caption.words[child] == "to" for child in caption.with_dep(verb, "prep")):
        frames -= {"food", "drunk", "things", "read"}
    if "game" in frames and caption.with_dep(noun, "det", "amod"):
        frames.discard("game")
    return frames & _FRAMES_WITH_OBJECT - _excluded_frames(caption, verb, noun)


def _excluded_frames(caption: Caption, verb: int, noun: int) -> set[str]:
    """Return the frames that a following phrase rules out: arms are raised over the head, a goat is held by the leash."""
    prepositions = {caption.words[child] for one in (verb, noun) for child in caption.with_dep(one, "prep")}
    return set() if prepositions.isdisjoint(("over", "by")) else {"raise", "beings"}


def _action(caption: Caption, token: int, option: tuple[Family, str]) -> Change | None:
    family, new = option
    if verb_form(caption.verb(token), caption.tags[token]) != caption.words[token]:
        return None  # a rare form, or a tag that is not this word's
    form = verb_form(new, caption.tags[token])
    if (
        not form
        or form in caption.words
        or any(caption.verb(other) == new for other, pos in enumerate(caption.pos) if pos == "VERB")
    ):
        return None
    rule = f"replace action '{caption.raw[token]}' -> '{form}' ({family.name})"
    return Change(caption.replacement_edits(token, form), rule)


def relation_slots(caption: Caption) -> list[Slot]:
    """Return the slots of spatial relations that can be replaced by another that is not their opposite."""
    slots = []
    for place in caption.spatial_phrases():
        options = _RELATIONS.get(place.words)
        if options is None or place.landmark < 0 or not caption.with_dep(place.landmark, "det", "poss", "amod"):
            continue
        noun = caption.lemma(place.landmark)
        if noun not in _SETS["furniture"] and noun not in _BUILDINGS:
            continue
        if caption.with_dep(place.first, "advmod") or caption.words[place.first - 1 : place.first] == ["up"]:
            continue
        fitting = [word for word in options if _fits_relation(word, noun)]
        if fitting:
            slots.append(Slot("relation", "relation", fitting, partial(_relation, caption, place)))
    return slots


def _fits_relation(relation: str, noun: str) -> bool:
    if relation == "inside":
        return noun in _BUILDINGS
    if relation in ("under", "underneath"):
        return noun in ("bench", "chair", "table", "bed", "car", "truck", "bridge", "desk", "tree", "stage")
    return relation not in ("on", "on top of") or noun in _SETS["places_to_be_on"]


def _relation(caption: Caption, place: SpatialPhrase, new: str) -> Change | None:
    if place.subject >= 0 and caption.deps[place.first] == "agent":
        return None
    span = caption.span(place.first, place.stop)
    rule = f"replace relation '{place.words}' -> '{new}' before '{caption.raw[place.landmark]}'"
    return Change([Edit(span.start, span.end, match_case(caption.raw[place.first], new))], rule)
