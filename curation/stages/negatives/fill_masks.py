"""Hide one word of a caption and let a masked language model put another in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

from curation.engine.stage import Drop, Field, MapStage
from curation.entailment.word_meanings import WordRelations, word_relations
from curation.knowledge.interface import KnowledgeGraph
from curation.models.masked_model import Blank, MaskedModel
from curation.negatives.masked_fills import KINDS, hidden, judged
from curation.negatives.records import Change, Draw, Maker, Slot, check_per_caption
from curation.text.caption_facts import plain_words
from curation.text.lexicon import NEGATIONS, noun_lemma, verb_lemma
from curation.text.phrases import Caption
from data_manifests.errors import InputError
from data_manifests.sample import Sample
from data_manifests.seeds import draw_seed


class _Hidden(NamedTuple):
    """One word that is hidden: of which sample of the call and caption."""

    place: int
    caption: int
    kind: str
    token: int
    attempt: int


@dataclass(frozen=True)
class FillMasks(MapStage):
    """Make up to one negative per caption and kind: hide a word, and take a fill that excludes it.

    Provides ``mask_negatives``, a list of negative records, and ``mask_rejected``: the fills that were passed over on
    the way to the chosen one, a record for each hidden word and reason (see `curation.negatives.masked_fills.REASONS`; ``no_fill``
    where nothing was left), its ``detail`` naming them all.

    Which words are hidden is drawn for each caption and kind; one without a usable fill gives its turn to the next, `tries`
    in all. The fill takes the place of the hidden word only: the sentence around it is untouched but for "a" and "an".

    Attributes:
        model: Fills the blanks.
        kinds: Types of negatives, of ``attribute`` (an adjective is hidden), ``object`` (noun), ``action`` (verb) and
            ``relation`` (preposition of place).
        ranks: The rank of the chosen fill among those that pass, 1 the likeliest, is drawn from these; where so many do
            not pass, the last that does is taken.
        top: Fills of a blank that are looked at.
        tries: Most words of a caption and kind that are hidden, one after another.
        per_caption: Most negatives per caption, 1 or more.
        graph: Knows synonyms and kinds beyond our own lists; none leaves those alone.
        seed: Seed of the draws; each draw also depends on uid, caption and kind, on nothing else.

    Raises:
        InputError: a setting is out of range; in `process`, the model cannot be loaded.

    Source: Zhang et al. 2023 (CE-CLIP), section 3, arXiv 2306.08832: an adjective, a noun and a verb, the fourth of five
        fills; Doveh et al. 2023 (TSVLC), section 3, arXiv 2211.11733: any of the fills but the word itself.
    Differs: a caption without such a word has no such negative, where the published code trains on a bare mask; the fill
        is a whole word of the same part of speech and form, is no synonym, hypernym or inflection of the word and is
        said in no caption of the image, none of which is checked there; ranks count what passes.
    """

    name: ClassVar[str] = "fill_masks"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("uid", "captions", "parses")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("mask_negatives", kind="json", publish="sample", role="negatives"),
        Field("mask_rejected", kind="json", publish="store", role="rejects"),
    )
    source: ClassVar[str] = "Zhang et al. 2023, section 3, arXiv 2306.08832; Doveh et al. 2023, arXiv 2211.11733"

    model: MaskedModel
    kinds: tuple[str, ...] = ("attribute", "object", "action")
    ranks: tuple[int, ...] = (4,)
    top: int = 50
    tries: int = 2
    per_caption: int = 4
    graph: KnowledgeGraph | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_per_caption(self.name, self.per_caption)
        if not self.kinds or not set(self.kinds) <= set(KINDS) or len(set(self.kinds)) < len(self.kinds):
            raise InputError(
                f"{self.name}: kinds {self.kinds!r}", allowed=", ".join(KINDS), fix="name one or more, each once"
            )
        if not self.ranks or min(self.ranks) < 1:
            raise InputError(f"{self.name}: ranks {self.ranks!r}", allowed="numbers from 1 on", fix="CE-CLIP's is 4")
        for name in ("top", "tries"):
            if getattr(self, name) < 1:
                raise InputError(f"{self.name}: {name} is {getattr(self, name)}", allowed="1 or more", fix="raise it")

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Fill blanks in every caption, round by round: a caption whose first blank has no fill gets a second."""
        work = _Work(self, samples)
        for attempt in range(self.tries):
            work.round(attempt)
        maker = Maker(self.name, "mask", self.seed, self.per_caption)
        results: list[dict[str, Any] | Drop] = []
        for place, sample in enumerate(samples):
            slots = work.slots[place]
            negatives = maker.records(sample, lambda caption, slots=slots: slots.get(caption.text, ()))  # type: ignore[misc]
            results.append({"mask_negatives": negatives, "mask_rejected": work.rejected(place)})
        return results


class _Work:
    """One call of the stage: what is hidden, what the model says, what is made of it."""

    def __init__(self, stage: FillMasks, samples: Sequence[Sample]) -> None:
        self.stage, self.samples = stage, samples
        self.captions = [
            [Caption(text, parse) for text, parse in zip(sample.captions, sample["parses"], strict=True)]
            for sample in samples
        ]
        self.told = [
            frozenset(
                form
                for text in sample.captions
                for word in plain_words(text)
                for form in (word, noun_lemma(word), verb_lemma(word))
            )
            for sample in samples
        ]
        self.slots: list[dict[str, list[Slot]]] = [{} for _ in samples]
        self.refused: list[list[dict[str, Any]]] = [[] for _ in samples]
        self.filled: set[tuple[int, int, str]] = set()
        self.waiting = [list(self._drawn(place)) for place in range(len(samples))]

    def _drawn(self, place: int) -> list[_Hidden]:
        """Return the words of a sample that may be hidden, those of a caption and kind in the order drawn."""
        found = []
        texts = set[str]()
        for index, caption in enumerate(self.captions[place]):
            if caption.text in texts or not NEGATIONS.isdisjoint(caption.words):
                continue  # Maker leaves captions alone that deny something
            texts.add(caption.text)
            for kind in self.stage.kinds:
                seed = draw_seed(self.stage.seed, self.stage.name, self.samples[place].uid, caption.text, kind, "hide")
                tokens = Draw(seed).shuffled(hidden(caption, kind))
                found += [_Hidden(place, index, kind, token, attempt) for attempt, token in enumerate(tokens)]
        return found

    def round(self, attempt: int) -> None:
        """Ask for the words that are hidden in this round, equal blanks once, and judge their fills."""
        asked = [
            one
            for of_sample in self.waiting
            for one in of_sample
            if one.attempt == attempt and (one.place, one.caption, one.kind) not in self.filled
        ]
        blanks = [self._blank(one) for one in asked]
        unique = list(dict.fromkeys(blanks))
        fills = dict(zip(unique, self.stage.model.fill(unique, self.stage.top), strict=True))
        kinds = word_relations(self.stage.graph, self._words(asked, [fills[blank] for blank in blanks]))
        for one, blank in zip(asked, blanks, strict=True):
            self._choose(one, fills[blank], kinds)

    def _blank(self, one: _Hidden) -> Blank:
        caption = self.captions[one.place][one.caption]
        span = caption.span(one.token, one.token + 1)
        return Blank(caption.text[: span.start], caption.text[span.end :])

    def _words(self, asked: Sequence[_Hidden], fills: Sequence[Sequence[str]]) -> set[str]:
        if self.stage.graph is None:
            return set()
        old = {self.captions[one.place][one.caption].words[one.token] for one in asked}
        words = old.union(*fills) if fills else old
        return {form for word in words for form in (word, noun_lemma(word), verb_lemma(word))}

    def _choose(self, one: _Hidden, fills: Sequence[str], kinds: WordRelations) -> None:
        """Take the fill of the rank drawn; put those passed over on the record."""
        caption, stage = self.captions[one.place][one.caption], self.stage
        seed = draw_seed(stage.seed, stage.name, self.samples[one.place].uid, caption.text, one.kind, "rank")
        rank = stage.ranks[Draw(seed).below(len(stage.ranks))]
        passed: list[str] = []
        refused: dict[str, list[str]] = {}
        for word, reason in judged(caption, one.token, one.kind, fills, self.told[one.place], kinds):
            if reason:
                refused.setdefault(reason, []).append(word)
                continue
            passed.append(word)
            if len(passed) == rank:
                break
        for reason, words in refused.items():
            self._reject(one, reason, words)
        if not passed:
            self._reject(one, "no_fill", [])
            return
        self.filled.add((one.place, one.caption, one.kind))
        make = partial(_change, caption, one.token, one.kind, len(passed))
        slot = Slot(one.kind, one.kind, (passed[-1],), make)
        self.slots[one.place].setdefault(caption.text, []).append(slot)

    def _reject(self, one: _Hidden, reason: str, words: Sequence[str]) -> None:
        caption = self.captions[one.place][one.caption]
        blank = self._blank(one)
        self.refused[one.place].append(
            {
                "text": f"{blank.before}{words[0] if words else '...'}{blank.after}", "caption": one.caption,
                "reason": reason, "rule": f"hide {one.kind} '{caption.raw[one.token]}'",
                "detail": f"{len(words)}: {', '.join(words)}" if words else "nothing is left",
            }
        )  # fmt: skip

    def rejected(self, place: int) -> list[dict[str, Any]]:
        """Return a sample's refusals in the captions' order."""
        order: Mapping[str, int] = {kind: number for number, kind in enumerate(self.stage.kinds)}
        return sorted(self.refused[place], key=lambda item: (item["caption"], order[item["rule"].split()[1]]))


def _change(caption: Caption, token: int, kind: str, rank: int, word: str) -> Change:
    return Change(
        caption.replacement_edits(token, word), f"fill {kind} '{caption.raw[token]}' -> '{word}' (rank {rank})"
    )
