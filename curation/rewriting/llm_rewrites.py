"""One call of the stage that rewrites: questions under way, answers judged in chunks, records in a fixed order."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from curation.engine.stage import Drop
from curation.knowledge.interface import KnowledgeGraph
from curation.llm.interface import Answer, CompletionClient, Failure
from curation.models.parser import Parser
from curation.rewriting.gate import Gate
from curation.rewriting.llm_loop import Found, ask_all
from curation.rewriting.prompts import FAMILIES, Asking, Prompting, example_pairs, refusal
from curation.rewriting.rules import RULES, RuleWriter
from curation.rewriting.text_checks import Verdict, echoes_of
from curation.text.caption_facts import facts_of, plain_words
from curation.text.lexicon import noun_class
from data_manifests.sample import Sample

_RULE_GROWTH = 2.0


@dataclass(frozen=True)
class Plan:
    """What is wanted of every sample; see the stage's attributes of the same names."""

    families: tuple[str, ...]
    prompting: Prompting
    max_captions: int
    rewrites_per_family: int
    max_draws: int
    parser: Parser
    graph: KnowledgeGraph | None

    def rewritten(self, sample: Sample) -> Sequence[str]:
        """Return the captions that are rewritten."""
        return sample.captions[: self.max_captions or None]


@dataclass(frozen=True, eq=False)
class _Slot:
    """One rewrite that is wanted: of which sample of the call, caption and family, and how often it was drawn."""

    place: int
    index: int
    family: str
    copy: int
    attempt: int = 0


class RewriteWork:
    """One call of the stage: what is asked, what came back, what is made of it."""

    def __init__(self, plan: Plan, samples: Sequence[Sample]) -> None:
        self.plan, self.samples = plan, samples
        self.families = plan.families
        self.found = [Found() for _ in samples]
        self.facts = [
            [facts_of(caption, parse) for caption, parse in zip(sample.captions, sample["parses"], strict=True)]
            for sample in samples
        ]
        self.gates: dict[tuple[int, int, str], Gate] = {}

    @cached_property
    def synonyms(self) -> Mapping[str, frozenset[str]]:
        """Return what the graph says of all nouns of the call, asked once."""
        graph = self.plan.graph
        if graph is None:
            return {}
        nouns = sorted({noun for of_sample in self.facts for facts in of_sample for noun in facts.nouns})
        forth, back = graph.edges_from(nouns, ("Synonym",)), graph.edges_to(nouns, ("Synonym",))
        return {
            noun: frozenset(
                noun_class(word)
                for word in (*(edge.tail for edge in forth.get(noun, ())), *(edge.head for edge in back.get(noun, ())))
                if " " not in word
            )
            for noun in nouns
        }

    def by_rules(self, writer: RuleWriter) -> None:
        """Rewrite by rules; the same gate judges."""
        texts = []
        for place, sample in enumerate(self.samples):
            for index, caption in enumerate(self.plan.rewritten(sample)):
                made = writer.rewrite(caption, sample["parses"][index], self.families, self.synonyms)
                texts += [(_Slot(place, index, family, copy), text) for copy, (family, text) in enumerate(made)]
        self.judge(texts)

    def by_model(self, line: CompletionClient, asking: Asking) -> None:
        """Ask for everything at once, judge answers in chunks as they arrive, ask again for what was refused."""

        def ask(slot: _Slot) -> None:
            sample = self.samples[slot.place]
            draw = slot.copy * self.plan.max_draws + slot.attempt
            request = asking.request(sample.uid, slot.index, sample.captions[slot.index], slot.family, draw)
            line.submit(dataclasses.replace(request, tag=slot))

        ask_all(line, self.slots(), ask, self.refused)

    def slots(self) -> Iterator[_Slot]:
        """Yield every rewrite that is wanted; captions that are not put to a model go on the record."""
        for place, sample in enumerate(self.samples):
            for index, caption in enumerate(self.plan.rewritten(sample)):
                reason = refusal(caption, self.plan.prompting)
                for family in self.families:
                    if reason:
                        self.reject(_Slot(place, index, family, 0), caption, Verdict(reason), drawn=False)
                        continue
                    self.found[place].wanted += self.plan.rewrites_per_family
                    for copy in range(self.plan.rewrites_per_family):
                        yield _Slot(place, index, family, copy)

    def refused(self, outcomes: Iterable[tuple[_Slot, Answer | Failure]]) -> Iterator[_Slot]:
        """Judge outcomes; yield the next draw of every refused one that has one left."""
        texts, again = [], []
        for slot, outcome in outcomes:
            text, verdict = self.found[slot.place].read(outcome, slot.family, self.plan.prompting)
            if verdict:
                self.reject(slot, text, verdict)
                again.append(slot)
            else:
                texts.append((slot, text))
        for slot in (*again, *self.judge(texts)):
            if slot.attempt + 1 < self.plan.max_draws:
                yield dataclasses.replace(slot, attempt=slot.attempt + 1)

    def judge(self, texts: Sequence[tuple[_Slot, str]]) -> list[_Slot]:
        """Put texts through the gate and on the record; return those that were refused."""
        refused, kept = [], []
        for slot, text in texts:
            verdict = self.gate(slot).screen(text, growth=self.growth(slot.family))
            if verdict:
                self.reject(slot, text, verdict)
                refused.append(slot)
            else:
                kept.append((slot, text))
        for (slot, text), parse in zip(kept, self.plan.parser.parse([text for _, text in kept]), strict=True):
            verdict = self.gate(slot).judge(text, parse, view=slot.family == "tda_sp/viewpoint")
            if verdict:
                self.reject(slot, text, verdict)
                refused.append(slot)
            else:
                self.accept(slot, text)
        return refused

    def growth(self, family: str) -> float:
        """Return how much longer a rewrite of a family may be."""
        return FAMILIES[family].growth if family in FAMILIES else 2.0

    def gate(self, slot: _Slot) -> Gate:
        """Return the gate of one caption and family."""
        key = (slot.place, slot.index, slot.family)
        if key not in self.gates:
            sample, facts = self.samples[slot.place], self.facts[slot.place]
            pairs = example_pairs().get(slot.family, ())
            self.gates[key] = Gate(
                caption=sample.captions[slot.index],
                source=facts[slot.index],
                others=[one for index, one in enumerate(facts) if index != slot.index],
                synonyms=self.synonyms,
                echoes=echoes_of(text for pair in pairs for text in pair),
            )
        return self.gates[key]

    def rule(self, slot: _Slot, *, drawn: bool = True) -> str:
        """Return what a record names as its rule."""
        if slot.family in RULES or not drawn:
            return slot.family
        return f"{slot.family}#draw{slot.copy * self.plan.max_draws + slot.attempt}"

    def order(self, slot: _Slot) -> tuple[int, int, int]:
        """Return what records are sorted by: nothing that depends on when they came."""
        return slot.index, self.families.index(slot.family), slot.copy * self.plan.max_draws + slot.attempt

    def accept(self, slot: _Slot, text: str) -> None:
        """Put a rewrite on the record."""
        record = {
            "text": text,
            "caption": slot.index,
            "kind": "rewrite",
            "family": slot.family,
            "rule": self.rule(slot),
        }
        self.found[slot.place].accepted.append((self.order(slot), record))

    def reject(self, slot: _Slot, text: str, verdict: Verdict, *, drawn: bool = True) -> None:
        """Put a refused text on the record."""
        self.found[slot.place].reject(self.order(slot), text, slot.index, self.rule(slot, drawn=drawn), verdict)

    def results(self) -> list[dict[str, Any] | Drop]:
        """Return the fields of every sample; of equal rewrites of one sample only the first stays."""
        return [self._result(found) for found in self.found]

    def _result(self, found: Found) -> dict[str, Any]:
        taken: dict[tuple[str, ...], str] = {}
        rewrites = []
        for order, record in sorted(found.accepted, key=lambda item: item[0]):
            words = plain_words(record["text"])
            if words in taken:
                said = {name: record[name] for name in ("text", "caption", "rule")}
                found.rejected.append((order, {**said, "reason": "copy", "detail": f"of {taken[words]}"}))
                continue
            taken[words] = record["rule"]
            rewrites.append(record)
        return {"rewrite": rewrites, "rewrites_rejected": found.refused(), "rewrite_usage": found.usage(rewrites)}
