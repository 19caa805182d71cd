"""One call of `rewrite_captions`: texts of a model or of rules, checked by a gate."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from curation.models.parser import Parse
from curation.rewriting.gate import RewriteGate
from curation.rewriting.llm_stage import LlmBatch, LlmStage, WantedText
from curation.rewriting.prompts import FAMILIES, example_pairs
from curation.rewriting.rules import RULES, RuleWriter
from curation.rewriting.text_checks import Verdict, echoes_of
from curation.text.caption_facts import facts_of, plain_words
from curation.text.lexicon import canonical_noun
from data_manifests.sample import Sample

_GROWTH_BY_RULES = 2.0
"""How many times as many words as its caption a rewrite by a rule may have."""


class RewriteBatch(LlmBatch):
    """The rewrites of some samples; see `LlmBatch`."""

    duplicate: ClassVar[Verdict] = Verdict("copy", "of {}")

    def __init__(self, stage: LlmStage, samples: Sequence[Sample]) -> None:
        super().__init__(stage, samples)
        self.facts = [
            [facts_of(caption, parse) for caption, parse in zip(sample.captions, sample["parses"], strict=True)]
            for sample in samples
        ]
        self.gates: dict[tuple[int, int, str], RewriteGate] = {}

    @cached_property
    def synonyms(self) -> Mapping[str, frozenset[str]]:
        """The graph's synonyms of all nouns in the call, looked up once."""
        graph = self.stage.graph
        if graph is None:
            return {}
        nouns = sorted({noun for of_sample in self.facts for facts in of_sample for noun in facts.nouns})
        forth, back = graph.edges_from(nouns, ("Synonym",)), graph.edges_to(nouns, ("Synonym",))
        return {
            noun: frozenset(
                canonical_noun(word)
                for word in (*(edge.tail for edge in forth.get(noun, ())), *(edge.head for edge in back.get(noun, ())))
                if " " not in word
            )
            for noun in nouns
        }

    def apply_rules(self, writer: RuleWriter) -> None:
        """Rewrite by rules; the same gate checks the texts."""
        texts = []
        for place, sample in enumerate(self.samples):
            for index, caption in enumerate(sample.captions[: self.stage.max_captions or None]):
                rewrites = writer.rewrite(caption, sample["parses"][index], self.kinds, self.synonyms)
                texts += [
                    (WantedText(place, index, family, copy), text) for copy, (family, text) in enumerate(rewrites)
                ]
        self.check(texts)

    def screen(self, wanted: WantedText, text: str) -> Verdict | None:
        """Check length, language, repetition and echoes of the prompt."""
        family = FAMILIES.get(wanted.kind)
        return self._gate(wanted).screen(text, growth=family.growth if family else _GROWTH_BY_RULES)

    def record(self, wanted: WantedText, text: str, parse: Parse) -> dict[str, Any] | Verdict:
        """Return the record of a rewrite that claims the same as its caption, or why it does not."""
        verdict = self._gate(wanted).judge(text, parse, view=wanted.kind == "tda_sp/viewpoint")
        return verdict or {
            "text": text, "caption": wanted.index, "kind": "rewrite", "family": wanted.kind, "rule": self.rule(wanted),
        }  # fmt: skip

    def _gate(self, wanted: WantedText) -> RewriteGate:
        """Return the gate of one caption and family."""
        key = (wanted.place, wanted.index, wanted.kind)
        if key not in self.gates:
            facts = self.facts[wanted.place]
            self.gates[key] = RewriteGate(
                caption=self.samples[wanted.place].captions[wanted.index],
                source=facts[wanted.index],
                others=[other for index, other in enumerate(facts) if index != wanted.index],
                synonyms=self.synonyms,
                echoes=echoes_of(text for pair in example_pairs().get(wanted.kind, ()) for text in pair),
            )
        return self.gates[key]

    def rule(self, wanted: WantedText) -> str:
        """Return the family, for an answer of a model with the number of its draw."""
        return f"{wanted.kind}#draw{self.draw(wanted)}" if wanted.asked and wanted.kind not in RULES else wanted.kind

    def duplicate_key(self, record: Mapping[str, Any]) -> Hashable:
        """Return the text's words: equal rewrites of one sample count once."""
        return plain_words(record["text"])
