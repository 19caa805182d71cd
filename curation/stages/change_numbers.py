"""Say another number of what a caption counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from curation.language.edits import Piece, like
from curation.language.homonyms import word_set
from curation.language.lexicon import ALWAYS_PAIRED, LIGHT_NOUNS, SAME_IN_PLURAL, number_value
from curation.language.negative_records import Change, Maker, Slot, check_per_caption
from curation.language.phrases import Caption, noun_form
from curation.language.word_families import is_beast, is_human, object_families
from curation.models.parser import CaptionParse
from curation.stage import Drop, Field, MapStage
from data_manifests.sample import Sample

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_MEASURES = word_set(
    "year month week day hour minute second mile meter metre foot inch pound kilo dollar percent time story storey piece pound lane wheel "
    "way side half number person-hour finger wing clock"
)
"""What is measured or told rather than counted in a picture."""
_ECHO = word_set("one other others another both each he she him his her himself herself it its itself who that which")
"""Words that would no longer fit another number."""
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


_OWN = word_set(
    "uniform dress suit outfit costume top jersey hood cap bandana mask bathing bikini swimsuit wetsuit collar leash hoodie"
)
_COLLECTIVE = word_set("crowd group team couple family people police")
_WORN = ("top", "bottom", "hat", "eyewear", "neck", "carried")


@dataclass(frozen=True)
class ChangeNumbers(MapStage):
    """Make up to `per_caption` negatives per caption by changing how many there are of something.

    Provides ``number_negatives``, a list of negative records: a number word or digits become another ("two dogs" to
    "three dogs"), and a single living thing or thing becomes two or three ("a dog runs" to "two dogs run"), noun and
    verb agreeing. ``span_class`` is ``more`` or ``fewer``.

    Known weakness: a caption that names fewer than there are is, read to the letter, still true. People who describe
    pictures mean the exact number, and without the smaller numbers a negative could be told from its caption by its
    number alone; whoever wants only what is false to the letter keeps ``more``.

    Attributes:
        seed: Seed of the draws; each draw also depends on uid and caption, on nothing else.
        per_caption: Most negatives per caption, 1 or more.
        fewer: Whether smaller numbers are made too.

    Raises:
        InputError: `per_caption` is below 1.

    Source: Parcalabescu et al. 2022 (VALSE, counting and plurality), section 3, arXiv 2112.07566.
    Differs: VALSE writes its foils from templates over annotated counts; here a caption keeps its own words.
    """

    name: ClassVar[str] = "change_numbers"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("uid", "captions", "parses")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("number_negatives", kind="json", publish="sample", role="negatives"),
    )
    source: ClassVar[str] = "Parcalabescu et al. 2022, section 3, arXiv 2112.07566"

    seed: int = 0
    per_caption: int = 2
    fewer: bool = True

    def __post_init__(self) -> None:
        check_per_caption(self.name, self.per_caption)

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Change numbers in every caption of every sample."""
        maker = Maker(self.name, "number", self.seed, self.per_caption)
        return [{"number_negatives": maker.records(sample, self._slots, _worth)} for sample in samples]

    def _slots(self, caption: Caption) -> list[Slot]:
        shared = _each_has_one(caption)
        slots = []
        for token, word in enumerate(caption.words):
            if caption.deps[token] == "nummod" and caption.tags[token] == "CD" and caption.whole(token):
                slots += self._counted(caption, token)
            elif word in ("a", "an") and caption.deps[token] == "det":
                noun = caption.heads[token]
                if not shared and _is_countable(caption, noun):
                    slots.append(Slot("more", "number", (2, 3), partial(_several, caption, token, noun)))
        return slots

    def _counted(self, caption: Caption, token: int) -> list[Slot]:
        """Return the slots of a number that counts a plural noun."""
        noun, value = caption.heads[token], number_value(caption.words[token])
        lemma = caption.lemma(noun)
        if value is None or not 2 <= value <= 12 or not caption.many(noun) or lemma in _MEASURES or not noun > token:
            return []
        if lemma in ALWAYS_PAIRED or caption.words[noun + 1 : noun + 2] == ["old"] or caption.with_dep(noun, "appos"):
            return []
        more = [value + step for step in (1, 2) if value + step <= 12]
        slots = [Slot("more", "number", more, partial(_other, caption, token))] if more else []
        fewer = [value - step for step in (1, 2) if value - step >= 2]
        if fewer and self.fewer:
            slots.append(Slot("fewer", "number", fewer, partial(_other, caption, token)))
        return slots


def _worth(parse: CaptionParse) -> bool:
    words = set(map(str.lower, parse["words"]))
    return _ECHO.isdisjoint(words) and ("CD" in parse["tags"] or not words.isdisjoint(("a", "an")))


def _each_has_one(caption: Caption) -> bool:
    """Say whether a single thing is worn or carried, of which several people would have several; or the parse errs."""
    for token, word in enumerate(caption.words):
        if word in ("a", "an") and caption.deps[token] == "det":
            noun = caption.heads[token]
            lemma = caption.lemma(noun)
            if (
                caption.tags[noun] == "NNS"
                or lemma in _OWN
                or any(family.name in _WORN for family in object_families(lemma))
            ):
                return True
    return False


def _is_countable(caption: Caption, noun: int) -> bool:
    """Say whether "a" noun may become several: something that is counted, and whose verb is known."""
    lemma = caption.lemma(noun)
    if (
        caption.tags[noun] != "NN"
        or caption.pos[noun] != "NOUN"
        or lemma in LIGHT_NOUNS
        or lemma in SAME_IN_PLURAL | _COLLECTIVE
    ):
        return False
    if caption.deps[noun] not in ("nsubj", "dobj", "ROOT", "pobj", "attr", "nsubjpass") or caption.phrase(noun) is None:
        return False
    first = (caption.phrase(noun) or (noun, noun))[0]
    if (
        "CD" in caption.tags[first:noun]
        or caption.with_dep(noun, "conj", "cc", "appos", "nummod")
        or not caption.whole(noun)
    ):
        return False
    if any(caption.words[child] in ("single", "lone") for child in caption.with_dep(noun, "amod")):
        return False
    living = is_human(lemma) or is_beast(lemma)
    if caption.deps[noun] in ("pobj", "dobj"):
        verb = caption.heads[noun]
        held = caption.deps[noun] == "dobj" and caption.verb(verb) in (
            "hold",
            "carry",
            "watch",
            "chase",
            "see",
            "hug",
            "feed",
        )
        return held and (living or bool(_families(lemma)))
    return living or bool(_families(lemma))


def _families(lemma: str) -> list[str]:
    return [family.name for family in object_families(lemma) if family.name not in _UNCOUNTED_FAMILIES]


def _other(caption: Caption, token: int, value: int) -> Change:
    old = caption.raw[token]
    new = str(value) if old.isdigit() else like(old, _WORDS[value])
    rule = f"change number '{old}' -> '{new}' of '{caption.raw[caption.heads[token]]}'"
    return Change(caption.replaced(token, new), rule)


def _several(caption: Caption, article: int, noun: int, value: int) -> Change | None:
    form, agreed = noun_form(caption.lemma(noun), many=True), caption.agree(noun, plural=True)
    if not form or form == caption.words[noun] or agreed is None:
        return None
    place, number = caption.span(noun, noun + 1), caption.span(article, article + 1)
    first = caption.raw[article]
    loud = caption.raw[noun].isupper() and len(caption.raw[noun]) > 1
    new = _WORDS[value].upper() if loud else _WORDS[value].title() if first[0].isupper() else _WORDS[value]
    form = like(caption.raw[noun], form)
    pieces = [Piece(number.start, number.end, new), Piece(place.start, place.end, form), *agreed]
    return Change(pieces, f"change number '{first}' -> '{new}' of '{caption.raw[noun]}'")
