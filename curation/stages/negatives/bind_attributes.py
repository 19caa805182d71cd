"""Give the quality of one thing to another, and the other way round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field, MapStage
from curation.models.parser import CaptionParse
from curation.negatives.records import Change, Maker, Slot, check_per_caption
from curation.negatives.replace_nouns import fits_quality
from curation.negatives.semantic_roles import links
from curation.text.edits import swap_spans
from curation.text.lexicon import canonical_noun
from curation.text.phrases import Caption
from curation.text.word_families import attribute_families
from data_manifests.sample import Sample


@dataclass(frozen=True)
class BindAttributes(MapStage):
    """Make up to `per_caption` negatives per caption by exchanging the qualities of two things.

    Provides ``bind_negatives``, a list of negative records. Both words are of one family (two colours, two sizes ...),
    each is said of its new noun without surprise, and each hangs on its noun by the dependency tree. Two things of
    one name exchange their qualities only where a verb or a place with a direction tells them apart: "a black dog and
    a white dog" says the same the other way round, "a black dog chases a white dog" does not.

    Attributes:
        seed: Seed of the draws; each draw also depends on uid and caption, on nothing else.
        per_caption: Most negatives per caption, 1 or more.

    Raises:
        InputError: `per_caption` is below 1.

    Source: Yuksekgonul et al. 2023 (ARO's attribution task), section 3, arXiv 2210.01936.
    Differs: ARO binds by the attributes of scene graphs that people wrote; here the caption's parse says what hangs on
        what, and the family of the words what can be said of what.
    """

    name: ClassVar[str] = "bind_attributes"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("uid", "captions", "parses")
    provides: ClassVar[tuple[Field, ...]] = (Field("bind_negatives", kind="json", publish="sample", role="negatives"),)
    source: ClassVar[str] = "Yuksekgonul et al. 2023, section 3, arXiv 2210.01936"

    seed: int = 0
    per_caption: int = 2

    def __post_init__(self) -> None:
        check_per_caption(self.name, self.per_caption)

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Exchange qualities in every caption of every sample."""
        maker = Maker(self.name, "bind", self.seed, self.per_caption)
        return [{"bind_negatives": maker.records(sample, _slots, _worth)} for sample in samples]


def _worth(parse: CaptionParse) -> bool:
    held = [parse["heads"][token] for token, dep in enumerate(parse["deps"]) if dep == "amod"]
    return len(set(held)) > 1


def _slots(caption: Caption) -> list[Slot]:
    held = [
        token
        for token, word in enumerate(caption.words)
        if caption.deps[token] == "amod"
        and attribute_families(word)
        and caption.pos[caption.heads[token]] in ("NOUN", "PROPN")
        and not caption.with_dep(token, "conj", "cc", "neg")
        and caption.tags[token] not in ("JJR", "JJS")
        and caption.is_whole_word(token)
    ]
    if len(held) < 2:
        return []
    pairs = [pair for pair in combinations(held, 2) if _exchangeable(caption, *pair)]
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
