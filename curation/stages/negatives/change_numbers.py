"""Change the number of what a caption counts."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field
from curation.models.parser import CaptionParse
from curation.negatives.paired_positives import PairedPositives, positive_views
from curation.negatives.slots import Change, Slot, SlotStage
from curation.text.edits import Edit, apply_edits, match_case
from curation.text.lexicon import ALWAYS_PAIRED, LIGHT_NOUNS, NUMBERS, SAME_IN_PLURAL, noun_lemma, number_value
from curation.text.phrases import Caption, noun_form
from curation.text.word_families import is_animal, is_human, object_families
from curation.text.wordlists import word_sets
from data_manifests.sample import Sample

_SETS = word_sets("change_numbers")

_WORDS = tuple(NUMBERS)[:13]  # "zero" to "twelve"
_OPTIONS = ((), (2, 2, 2, 3), (3, 3, 3, 4), (2, 2, 2, 4, 5), (3, 3, 2, 5, 6), (4, 4, 3, 6, 7))
"""Number -> its replacements, repeated by how often captions use them, so that each change is made about as often as its
reverse. Larger numbers become their neighbours."""
_TOGETHER = _SETS["plural_context"]
"""Words that imply several: they do not fit a single object."""
_MEASURES = _SETS["measures"]
"""Nouns that are measured or numbered, not counted in an image."""
_ECHO = _SETS["pronouns"]
"""Words that would no longer fit after a change of number."""
_UNCOUNTED_FAMILIES = (
    "surface",
    "drink",
    "sport",
    "season",
    "night",
    "terrain",
    "way",
    "body_of_water",
    "indoor",
    "venue",
    "climb",
)


_HELD = ("hold", "carry", "watch", "chase", "see", "hug", "feed")
_WORN = ("top", "bottom", "hat", "eyewear", "neck", "carried")


@dataclass(frozen=True)
class ChangeNumbers(SlotStage):
    """Make up to `per_caption` negatives per caption by changing a count.

    Provides ``number_negatives``, a list of negative records. ``span_class`` is ``numeral`` (one number word or digit
    to another: "two dogs" to "three dogs", and "three dogs" to "two dogs") or ``plural`` (one being or object becomes
    two or three, or the reverse, noun and verb agreeing: "a dog runs" to "two dogs run", "two dogs run" to "one dog
    runs"). Both directions are in one class, and a number's replacements follow how often captions use them, so that
    larger or smaller numbers give nothing away.

    Captions do not begin with "one dog", so "two dogs" made from "a dog" names "one dog" under ``against``, the true
    text to compare it with. These texts are also provided as ``count``, a list of views. They are made where no caption
    of the image mentions several.

    Known weakness: a caption with fewer than there are is, taken literally, still true. People who describe images mean
    the exact number; so does `find_false_negatives` with ``numbers="exactly"``, without which only the larger numbers
    remain, and balancing leaves none of them.

    Attributes:
        seed: Seed of the draws; each draw also depends on uid and caption, on nothing else.
        per_caption: Most negatives per caption, 1 or more.
        fewer: Whether smaller numbers are made too.

    Raises:
        InputError: `per_caption` is below 1.

    Source: Parcalabescu et al. 2022 (VALSE, counting and plurality), section 3, arXiv 2112.07566.
    Differs: VALSE writes its foils from templates over annotated counts; here a caption keeps its other words.
    """

    name: ClassVar[str] = "change_numbers"
    version: ClassVar[int] = 3
    provides: ClassVar[tuple[Field, ...]] = (
        Field("number_negatives", publish="sample", role="negatives"),
        Field("count", publish="sample", role="views"),
    )
    source: ClassVar[str] = "Parcalabescu et al. 2022, section 3, arXiv 2112.07566"
    knows_only_english: ClassVar[bool] = True
    operation: ClassVar[str] = "number"

    fewer: bool = True

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Change numbers in every caption of every sample."""
        results: list[dict[str, Any] | Drop] = []
        for sample in samples:
            positives = PairedPositives(sample)
            find_slots = partial(self._find_slots, positives, _plural_names(sample["parses"]))
            records = positives.keep_true(self.negatives(sample, find_slots, _may_change))
            results.append({"number_negatives": records, "count": positive_views(records, "number")})
        return results

    def _find_slots(self, positives: PairedPositives, several: AbstractSet[str], caption: Caption) -> list[Slot]:
        shared = _has_worn_object(caption)
        slots = []
        for token, word in enumerate(caption.words):
            if caption.deps[token] == "nummod" and caption.tags[token] == "CD" and caption.is_whole_word(token):
                slots += self._counted(caption, token)
            elif word in ("a", "an") and caption.deps[token] == "det":
                noun = caption.heads[token]
                if not shared and _is_single(caption, noun) and several.isdisjoint(_names(caption.lemma(noun))):
                    make = partial(_several, positives, caption, token, noun)
                    slots.append(Slot("plural", "number", _OPTIONS[1], make, token))
        return slots

    def _counted(self, caption: Caption, token: int) -> list[Slot]:
        """Return the slots of a number that counts a plural noun."""
        noun, value = caption.heads[token], number_value(caption.words[token])
        lemma = caption.lemma(noun)
        if (
            value is None
            or not 2 <= value <= 12
            or not caption.is_plural(noun)
            or lemma in _MEASURES
            or not noun > token
        ):
            return []
        if lemma in ALWAYS_PAIRED or caption.words[noun + 1 : noun + 2] == ["old"] or caption.with_dep(noun, "appos"):
            return []
        numbers = _OPTIONS[value] if value < len(_OPTIONS) else (value - 1, value - 2, value + 1, value + 2)
        others = [number for number in numbers if number <= 12 and (self.fewer or number > value)]
        slots = [Slot("numeral", "number", others, partial(_other, caption, token), token)] if others else []
        if self.fewer and value <= 3 and _may_be_one(caption, noun):
            slots.append(Slot("plural", "number", (1,), partial(_alone, caption, token, noun), token))
        return slots


def _may_change(parse: CaptionParse) -> bool:
    words = set(map(str.lower, parse["words"]))
    return _ECHO.isdisjoint(words) and ("CD" in parse["tags"] or not words.isdisjoint(("a", "an")))


def _has_worn_object(caption: Caption) -> bool:
    """Return whether one object is worn or carried, of which several people would have several; or the parse is wrong."""
    for token, word in enumerate(caption.words):
        if word in ("a", "an") and caption.deps[token] == "det":
            noun = caption.heads[token]
            lemma = caption.lemma(noun)
            if (
                caption.tags[noun] == "NNS"
                or lemma in _SETS["own"]
                or any(family.name in _WORN for family in object_families(lemma))
            ):
                return True
    return False


def _plural_names(parses: Sequence[CaptionParse]) -> set[str]:
    """Return the nouns, and "person" or "animal", of which some caption mentions more than one."""
    names: set[str] = set()
    for parse in parses:
        for word, tag in zip(map(str.lower, parse["words"]), parse["tags"], strict=True):
            if tag in ("NNS", "NNPS"):
                names |= _names(noun_lemma(word)) | _names(word)
            elif word in _SETS["several"]:
                names |= {"person", "animal"}
    return names


def _names(lemma: str) -> set[str]:
    """Return the names that several of it may have: its noun, and "person" or "animal" for living beings."""
    return {lemma} | ({"person"} if is_human(lemma) else set()) | ({"animal"} if is_animal(lemma) else set())


def _is_single(caption: Caption, noun: int) -> bool:
    """Return whether "a" with this noun may become several: it is counted, and its verb is known."""
    if caption.tags[noun] != "NN" or caption.pos[noun] != "NOUN" or not _is_counted(caption, noun):
        return False
    first = (caption.phrase(noun) or (noun, noun))[0]
    if "CD" in caption.tags[first:noun] or caption.with_dep(noun, "nummod"):
        return False
    return not any(caption.words[child] in ("single", "lone") for child in caption.with_dep(noun, "amod"))


def _may_be_one(caption: Caption, noun: int) -> bool:
    """Return whether several may become one: nothing else in the caption is plural or done together."""
    if caption.tags[noun] != "NNS" or not _is_counted(caption, noun):
        return False
    if any(tag in ("NNS", "NNPS") and token != noun for token, tag in enumerate(caption.tags)):
        return False
    words = {*caption.words[:noun], *caption.words[noun + 1 :]} | {
        caption.verb(token) for token, pos in enumerate(caption.pos) if pos == "VERB"
    }
    return _TOGETHER.isdisjoint(words - {"two"})


def _is_counted(caption: Caption, noun: int) -> bool:
    """Return whether a noun names living beings or countable objects, in a position where its number may change."""
    lemma = caption.lemma(noun)
    if lemma in LIGHT_NOUNS or lemma in SAME_IN_PLURAL | _SETS["collective_nouns"] or caption.phrase(noun) is None:
        return False
    if caption.with_dep(noun, "conj", "cc", "appos") or not caption.is_whole_word(noun):
        return False
    known = is_human(lemma) or is_animal(lemma) or bool(_families(lemma))
    if caption.deps[noun] in ("nsubj", "ROOT", "attr", "nsubjpass"):
        return known
    return known and caption.deps[noun] == "dobj" and caption.verb(caption.heads[noun]) in _HELD


def _families(lemma: str) -> list[str]:
    return [family.name for family in object_families(lemma) if family.name not in _UNCOUNTED_FAMILIES]


def _other(caption: Caption, token: int, value: int) -> Change:
    old = caption.raw[token]
    new = str(value) if old.isdigit() else match_case(old, _WORDS[value])
    rule = f"change number '{old}' -> '{new}' of '{caption.raw[caption.heads[token]]}'"
    return Change(caption.replacement_edits(token, new), rule)


def _several(positives: PairedPositives, caption: Caption, article: int, noun: int, value: int) -> Change | None:
    """Return the change of one into several, paired with the text that says "one"."""
    form, agreed = noun_form(caption.lemma(noun), many=True), caption.agreement_edits(noun, plural=True)
    if not form or form == caption.words[noun] or agreed is None:
        return None
    place, number = caption.span(noun, noun + 1), caption.span(article, article + 1)
    first, form = caption.raw[article], match_case(caption.raw[noun], form)
    capitals = caption.raw[noun].isupper() and len(caption.raw[noun]) > 1
    new, one = (
        word.upper() if capitals else word.title() if first[0].isupper() else word
        for word in (_WORDS[value], _WORDS[1])
    )
    pieces = [Edit(number.start, number.end, new), Edit(place.start, place.end, form), *agreed]
    alone, _ = apply_edits(caption.text, [Edit(number.start, number.end, one)])
    against = positives.add(alone, caption, pieces, "number")
    return Change(pieces, f"change number '{first}' -> '{new}' of '{caption.raw[noun]}'", against)


def _alone(caption: Caption, number: int, noun: int, value: int) -> Change | None:
    """Return the change of several into one."""
    form, agreed = noun_form(caption.lemma(noun), many=False), caption.agreement_edits(noun, plural=False)
    if not form or form == caption.words[noun] or agreed is None:
        return None
    old, place = caption.raw[number], caption.span(noun, noun + 1)
    new = str(value) if old.isdigit() else match_case(old, _WORDS[value])
    pieces = [
        *caption.replacement_edits(number, new),
        Edit(place.start, place.end, match_case(caption.raw[noun], form)),
        *agreed,
    ]
    return Change(pieces, f"change number '{old}' -> '{new}' of '{caption.raw[noun]}'")
