"""Hide one word of a caption and let a masked language model fill the blank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, NamedTuple

from curation.engine.stage import Drop, Field
from curation.entailment.word_meanings import WordRelations, word_relations
from curation.knowledge.interface import KnowledgeGraph
from curation.models.masked_model import Blank, MaskedModel
from curation.negatives.masked_fills import KINDS, hidden, rejection_reason
from curation.negatives.slots import Change, Draw, Slot, SlotStage, dictionary_forms
from curation.text.lexicon import NEGATIONS, noun_lemma, verb_lemma
from curation.text.phrases import Caption
from data_manifests.sample import Sample
from data_manifests.seeds import draw_seed


class _Blanked(NamedTuple):
    """One hidden word: place of the sample in the call, number of the caption, type, token, and number of the attempt."""

    place: int
    caption: int
    kind: str
    token: int
    attempt: int


@dataclass(frozen=True)
class FillMasks(SlotStage):
    """Make up to one negative per caption and type: hide a word, and take a fill that excludes it.

    Provides ``mask_negatives``, a list of negative records, and ``mask_rejected``: the fills rejected before the chosen
    one, a record for each hidden word and reason (see `curation.negatives.masked_fills.REASONS`; ``no_fill`` where
    nothing was left), with all of them in its ``detail``.

    Which word is hidden is drawn for each caption and type; if it has no usable fill, the next word is tried, `tries` in
    all. Only the hidden word changes, and "a" or "an" before it.

    Attributes:
        model: Fills the blanks.
        kinds: Types of negatives, of ``attribute`` (an adjective is hidden), ``object`` (noun), ``action`` (verb) and
            ``relation`` (preposition of place).
        ranks: The rank of the chosen fill among those that pass, 1 the likeliest, is drawn from these; if fewer pass,
            the last is taken.
        top: Fills of a blank that are considered, 1 or more.
        tries: Most words of a caption and type that are hidden, one after another, 1 or more.
        per_caption: Most negatives per caption, 1 or more.
        graph: Synonyms and kinds beyond our own lists; None uses the lists only.
        seed: Seed of the draws; each draw also depends on uid, caption and type, on nothing else.

    Raises:
        InputError: a setting is out of range; in `process`, the model cannot be loaded.

    Source: Zhang et al. 2023 (CE-CLIP), section 3, arXiv 2306.08832: an adjective, a noun and a verb, the fourth of five
        fills; Doveh et al. 2023 (TSVLC), section 3, arXiv 2211.11733: any of the fills but the word itself.
    Differs: a caption without such a word has no such negative, where the published code trains on a bare mask; the fill
        is a whole word of the same part of speech and form, is no synonym, hypernym or inflection of the word and is in
        no caption of the image, none of which is checked there; ranks count only fills that pass.
    """

    name: ClassVar[str] = "fill_masks"
    version: ClassVar[int] = 2
    provides: ClassVar[tuple[Field, ...]] = (
        Field("mask_negatives", publish="sample", role="negatives"),
        Field("mask_rejected", role="rejects"),
    )
    source: ClassVar[str] = "Zhang et al. 2023, section 3, arXiv 2306.08832; Doveh et al. 2023, arXiv 2211.11733"
    knows_only_english: ClassVar[bool] = True
    starts_slowly: ClassVar[bool] = True
    operation: ClassVar[str] = "mask"

    model: MaskedModel
    kinds: tuple[str, ...] = ("attribute", "object", "action")
    ranks: tuple[int, ...] = (4,)
    top: int = 50
    tries: int = 2
    per_caption: int = field(default=4, kw_only=True)
    graph: KnowledgeGraph | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(top=1, tries=1)
        self.check_names("kinds", KINDS, each_once=True)
        self.require(min(self.ranks, default=0) >= 1, "ranks", allowed="numbers from 1 on", fix="CE-CLIP's is 4")

    def runs_model(self) -> bool:
        """Return true: the masked model."""
        return True

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Fill blanks in every caption, in rounds: a caption whose first blank has no usable fill gets a second."""
        fills = _Fills(self, samples)
        for attempt in range(self.tries):
            fills.fill(attempt)
        results: list[dict[str, Any] | Drop] = []
        for place, sample in enumerate(samples):
            slots = fills.slots[place]
            negatives = self.negatives(sample, lambda caption, slots=slots: slots.get(caption.text, ()))  # type: ignore[misc]
            results.append({"mask_negatives": negatives, "mask_rejected": fills.rejections(place)})
        return results


class _Fills:
    """The blanks of one call, the slots found for them, and the rejected fills."""

    def __init__(self, stage: FillMasks, samples: Sequence[Sample]) -> None:
        self.stage, self.samples = stage, samples
        self.captions = [
            [Caption(text, parse) for text, parse in zip(sample.captions, sample["parses"], strict=True)]
            for sample in samples
        ]
        self.mentioned = [dictionary_forms(sample.captions) for sample in samples]
        self.slots: list[dict[str, list[Slot]]] = [{} for _ in samples]
        self.rejected: list[list[dict[str, Any]]] = [[] for _ in samples]
        self.filled: set[tuple[int, int, str]] = set()
        self.candidates = [blanked for place in range(len(samples)) for blanked in self._draw(place)]

    def _draw(self, place: int) -> list[_Blanked]:
        """Return the words of a sample that may be hidden, those of a caption and type in random order."""
        drawn = []
        texts = set[str]()
        for index, caption in enumerate(self.captions[place]):
            if caption.text in texts or not NEGATIONS.isdisjoint(caption.words):
                continue  # captions with a negation get no negatives
            texts.add(caption.text)
            for kind in self.stage.kinds:
                seed = draw_seed(self.stage.seed, self.stage.name, self.samples[place].uid, caption.text, kind, "hide")
                tokens = Draw(seed).shuffled(hidden(caption, kind))
                drawn += [_Blanked(place, index, kind, token, attempt) for attempt, token in enumerate(tokens)]
        return drawn

    def fill(self, attempt: int) -> None:
        """Fill the blanks of one round, equal ones once, and choose among their fills."""
        blanked = [
            one
            for one in self.candidates
            if one.attempt == attempt and (one.place, one.caption, one.kind) not in self.filled
        ]
        blanks = [self._blank(one) for one in blanked]
        unique = list(dict.fromkeys(blanks))
        fills = dict(zip(unique, self.stage.model.fill(unique, self.stage.top), strict=True))
        kinds = word_relations(self.stage.graph, self._words(blanked, [fills[blank] for blank in blanks]))
        for one, blank in zip(blanked, blanks, strict=True):
            self._choose(one, fills[blank], kinds)

    def _blank(self, one: _Blanked) -> Blank:
        caption = self.captions[one.place][one.caption]
        span = caption.span(one.token, one.token + 1)
        return Blank(caption.text[: span.start], caption.text[span.end :])

    def _words(self, blanked: Sequence[_Blanked], fills: Sequence[Sequence[str]]) -> frozenset[str]:
        """Return the words to look up in the graph: hidden words and fills."""
        if self.stage.graph is None:
            return frozenset()
        words = {self.captions[one.place][one.caption].words[one.token] for one in blanked}.union(*fills)
        return frozenset(form for word in words for form in (word, noun_lemma(word), verb_lemma(word)))

    def _choose(self, one: _Blanked, fills: Sequence[str], kinds: WordRelations) -> None:
        """Take the fill of the drawn rank; record the rejected ones before it."""
        caption, stage = self.captions[one.place][one.caption], self.stage
        seed = draw_seed(stage.seed, stage.name, self.samples[one.place].uid, caption.text, one.kind, "rank")
        rank = stage.ranks[Draw(seed).below(len(stage.ranks))]
        passed: list[str] = []
        rejected: dict[str, list[str]] = {}
        for word in fills:
            reason = rejection_reason(caption, one.token, one.kind, word, self.mentioned[one.place], kinds)
            if reason:
                rejected.setdefault(reason, []).append(word)
                continue
            passed.append(word)
            if len(passed) == rank:
                break
        for reason, words in rejected.items():
            self._reject(one, reason, words)
        if not passed:
            self._reject(one, "no_fill", [])
            return
        self.filled.add((one.place, one.caption, one.kind))
        make = partial(_change, caption, one.token, one.kind, len(passed))
        slot = Slot(one.kind, one.kind, (passed[-1],), make)
        self.slots[one.place].setdefault(caption.text, []).append(slot)

    def _reject(self, one: _Blanked, reason: str, words: Sequence[str]) -> None:
        caption = self.captions[one.place][one.caption]
        blank = self._blank(one)
        self.rejected[one.place].append(
            {
                "text": f"{blank.before}{words[0] if words else '...'}{blank.after}", "caption": one.caption,
                "reason": reason, "rule": f"hide {one.kind} '{caption.raw[one.token]}'",
                "detail": f"{len(words)}: {', '.join(words)}" if words else "nothing is left",
            }
        )  # fmt: skip

    def rejections(self, place: int) -> list[dict[str, Any]]:
        """Return a sample's rejected fills in the captions' order."""
        order = self.stage.kinds.index
        return sorted(self.rejected[place], key=lambda item: (item["caption"], order(item["rule"].split()[1])))


def _change(caption: Caption, token: int, kind: str, rank: int, word: str) -> Change:
    return Change(
        caption.replacement_edits(token, word), f"fill {kind} '{caption.raw[token]}' -> '{word}' (rank {rank})"
    )
