"""Exchange the attributes of two objects in a caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field
from curation.models.parser import CaptionParse
from curation.negatives.replace_nouns import fits_quality
from curation.negatives.semantic_roles import links
from curation.negatives.slots import Change, Slot, SlotStage
from curation.text.edits import swap_spans
from curation.text.lexicon import canonical_noun
from curation.text.phrases import Caption
from curation.text.word_families import attribute_families
from data_manifests.sample import Sample


@dataclass(frozen=True)
class BindAttributes(SlotStage):
    """Make up to `per_caption` negatives per caption by exchanging the attributes of two objects.

    Provides ``bind_negatives``, a list of negative records. Both words are of one family (two colours, two sizes ...),
    each suits its new noun, and each depends on its noun in the parse. Two objects with one name exchange attributes
    only where a verb or a directed spatial relation distinguishes them: "a black dog and a white dog" means the same
    when exchanged, "a black dog chases a white dog" does not.

    Attributes:
        seed: Seed of the draws; each draw also depends on uid and caption, on nothing else.
        per_caption: Most negatives per caption, 1 or more.

    Raises:
        InputError: `per_caption` is below 1.

    Source: Yuksekgonul et al. 2023 (ARO's attribution task), section 3, arXiv 2210.01936.
    Differs: ARO uses the attributes of scene graphs that people wrote; here the parse says which attribute belongs to
        which object, and the words' families which may be exchanged.
    """

    name: ClassVar[str] = "bind_attributes"
    version: ClassVar[int] = 2
    provides: ClassVar[tuple[Field, ...]] = (Field("bind_negatives", publish="sample", role="negatives"),)
    source: ClassVar[str] = "Yuksekgonul et al. 2023, section 3, arXiv 2210.01936"
    knows_only_english: ClassVar[bool] = True
    operation: ClassVar[str] = "bind"

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Exchange attributes in every caption of every sample."""
        return [{"bind_negatives": self.negatives(sample, _find_slots, _may_change)} for sample in samples]


def _may_change(parse: CaptionParse) -> bool:
    nouns = {parse["heads"][token] for token, dep in enumerate(parse["deps"]) if dep == "amod"}
    return len(nouns) > 1


def _find_slots(caption: Caption) -> list[Slot]:
    adjectives = [
        token
        for token, word in enumerate(caption.words)
        if caption.deps[token] == "amod"
        and attribute_families(word)
        and caption.pos[caption.heads[token]] in ("NOUN", "PROPN")
        and not caption.with_dep(token, "conj", "cc", "neg")
        and caption.tags[token] not in ("JJR", "JJS")
        and caption.is_whole_word(token)
    ]
    pairs = [pair for pair in combinations(adjectives, 2) if _exchangeable(caption, *pair)]
    return [Slot("attribute", "attribute", pairs, partial(_change, caption))] * len(pairs)


def _exchangeable(caption: Caption, one: int, other: int) -> bool:
    nouns = caption.heads[one], caption.heads[other]
    words = caption.words[one], caption.words[other]
    if nouns[0] == nouns[1]:
        return False
    ours, theirs = attribute_families(words[0]), attribute_families(words[1])
    alike = [family for family in ours if words[1] in family.members]
    if not alike or any(family.members[words[0]] == family.members[words[1]] for family in alike):
        return False
    if not any(fits_quality(family.name, caption, nouns[1]) for family in ours) or not any(
        fits_quality(family.name, caption, nouns[0]) for family in theirs
    ):
        return False
    around = [{caption.words[child] for child in caption.children[noun]} for noun in nouns]
    if words[0] in around[1] or words[1] in around[0]:
        return False
    if canonical_noun(caption.lemma(nouns[0])) != canonical_noun(caption.lemma(nouns[1])):
        return True
    return any({link.one, link.other} == set(nouns) for link in links(caption))


def _change(caption: Caption, pair: tuple[int, int]) -> Change:
    one, other = pair
    words, nouns = [caption.raw[token] for token in pair], [caption.raw[caption.heads[token]] for token in pair]
    pieces = swap_spans(caption.text, caption.parse, caption.span(one, one + 1), caption.span(other, other + 1))
    return Change(pieces, f"bind '{words[0]}' of '{nouns[0]}' <-> '{words[1]}' of '{nouns[1]}'")
