"""One call of the stage that asks for negatives: questions under way, answers judged in chunks, records in a fixed order."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.engine.stage import Drop
from curation.entailment.check_negative import ImageClaims, read_sample, reason_against, words_of
from curation.knowledge.interface import KnowledgeGraph
from curation.llm.interface import Answer, CompletionClient, Failure
from curation.models.parser import Parse, Parser
from curation.negatives.llm_prompts import EXAMPLES, NegativeAsking
from curation.negatives.single_edit import OneChange, one_change
from curation.rewriting.llm_loop import Found, ask_all
from curation.rewriting.prompts import Prompting, refusal
from curation.rewriting.text_checks import Verdict, echoes_of, screen
from curation.text.caption_facts import plain_words
from curation.text.edits import Piece, like, plain, put, token_edits
from curation.text.lexicon import NEGATIONS
from curation.text.phrases import Caption
from curation.text.word_meanings import kinds_of
from data_manifests.sample import Sample

_GROWTH = 1.1
_PLAIN_FAMILY = "laclip/chat"
"""Any family whose answers hold a caption and nothing else: how they are read is the same."""
_PROMPTED = {kind: echoes_of(text for pair in pairs for text in pair) for kind, pairs in EXAMPLES.items()}


@dataclass(frozen=True)
class NegativePlan:
    """What is wanted of every sample; see the stage's attributes of the same names."""

    types: tuple[str, ...]
    prompting: Prompting
    max_captions: int
    max_draws: int
    parser: Parser
    graph: KnowledgeGraph | None
    source: str


@dataclass(frozen=True, eq=False)
class _Wanted:
    """One negative that is wanted: of which sample of the call, caption and type, and how often it was drawn."""

    place: int
    index: int
    kind: str
    attempt: int = 0


class NegativeWork:
    """One call of the stage: what is asked, what came back, what is made of it."""

    def __init__(self, plan: NegativePlan, samples: Sequence[Sample]) -> None:
        self.plan, self.samples = plan, samples
        self.found = [Found() for _ in samples]

    def by_model(self, line: CompletionClient, asking: NegativeAsking) -> None:
        """Ask for everything at once, judge answers in chunks as they arrive, ask again for what was refused."""

        def ask(wanted: _Wanted) -> None:
            sample = self.samples[wanted.place]
            caption = sample.captions[wanted.index]
            request = asking.request(sample.uid, wanted.index, caption, wanted.kind, wanted.attempt)
            line.submit(dataclasses.replace(request, tag=wanted))

        ask_all(line, self.wanted(), ask, self.refused)

    def wanted(self) -> Iterator[_Wanted]:
        """Yield every negative that is wanted; captions that are not put to a model go on the record.

        A caption that denies something is left alone, as by the other makers: what changes under a denial may be true.
        """
        for place, sample in enumerate(self.samples):
            for index, caption in enumerate(sample.captions[: self.plan.max_captions or None]):
                reason = refusal(caption, self.plan.prompting)
                if not NEGATIONS.isdisjoint(map(str.lower, sample["parses"][index]["words"])):
                    reason = reason or "denies"
                for kind in self.plan.types:
                    wanted = _Wanted(place, index, kind)
                    if reason:
                        self.reject(wanted, caption, Verdict(reason))
                        continue
                    self.found[place].wanted += 1
                    yield wanted

    def refused(self, outcomes: Iterable[tuple[_Wanted, Answer | Failure]]) -> Iterator[_Wanted]:
        """Judge outcomes; yield the next draw of every refused one that has one left."""
        texts: list[tuple[_Wanted, str]] = []
        again: list[_Wanted] = []
        for wanted, outcome in outcomes:
            text, verdict = self.found[wanted.place].read(outcome, _PLAIN_FAMILY, self.plan.prompting)
            verdict = verdict or self.screened(wanted, text)
            if verdict:
                self.reject(wanted, text, verdict)
                again.append(wanted)
            else:
                texts.append((wanted, text))
        for wanted in (*again, *self.judge(texts)):
            if wanted.attempt + 1 < self.plan.max_draws:
                yield dataclasses.replace(wanted, attempt=wanted.attempt + 1)

    def screened(self, wanted: _Wanted, text: str) -> Verdict | None:
        """Return what can be said against an answer without parsing it."""
        sample = self.samples[wanted.place]
        others = [plain_words(caption) for at, caption in enumerate(sample.captions) if at != wanted.index]
        return screen(text, sample.captions[wanted.index], others, _PROMPTED[wanted.kind], _GROWTH)

    def judge(self, texts: Sequence[tuple[_Wanted, str]]) -> list[_Wanted]:
        """Parse answers together, put each through the gate and on the record; return those that were refused."""
        refused = []
        parses = self.plan.parser.parse([text for _, text in texts])
        for (wanted, text), parse in zip(texts, parses, strict=True):
            made = self.record(wanted, text, parse)
            if isinstance(made, Verdict):
                self.reject(wanted, text, made)
                refused.append(wanted)
            else:
                self.found[wanted.place].accepted.append((self.order(wanted), made))
        return refused

    def record(self, wanted: _Wanted, text: str, parse: Parse) -> dict[str, Any] | Verdict:
        """Return the negative that an answer stands for, or why it is none.

        The caption keeps its own wording, case and marks: only the one change is taken over.
        """
        sample = self.samples[wanted.place]
        caption = Caption(sample.captions[wanted.index], sample["parses"][wanted.index])
        change = one_change(caption, text, parse)
        if isinstance(change, Verdict):
            return change
        pieces = _pieces(caption, change)
        made, edits = put(caption.text, pieces)
        said = caption.text[caption.starts[change.first] : caption.span(change.first, change.stop).end]
        record = {
            "text": made, "caption": wanted.index, "operation": "ask", "span_class": wanted.kind, "type": change.type,
            "edits": edits, "tokens": token_edits(caption.parse, pieces),
            "rule": f"ask {wanted.kind} '{said}' -> '{change.text}' {self.draw(wanted)}", "source": self.plan.source,
        }  # fmt: skip
        if plain(made) in {plain(one) for one in sample.captions}:
            return Verdict("copy")
        read = read_sample(sample.captions, sample["parses"], [record], copies=True)
        kinds = kinds_of(self.plan.graph, words_of(read) if self.plan.graph is not None else ())
        judged = {**record, "operation": "replace"}  # what it is to the gate
        reason, detail = reason_against(judged, read.claims[0], read.pairs[0], ImageClaims(read, kinds))
        return Verdict(reason, detail) if reason else record

    def draw(self, wanted: _Wanted) -> str:
        """Return what tells one draw from another on the record."""
        return f"#draw{wanted.attempt}"

    def order(self, wanted: _Wanted) -> tuple[int, int, int]:
        """Return what records are sorted by: nothing that depends on when they came."""
        return wanted.index, self.plan.types.index(wanted.kind), wanted.attempt

    def reject(self, wanted: _Wanted, text: str, verdict: Verdict) -> None:
        """Put a refused text on the record."""
        self.found[wanted.place].reject(
            self.order(wanted), text, wanted.index, f"ask {wanted.kind} {self.draw(wanted)}", verdict
        )

    def results(self) -> list[dict[str, Any] | Drop]:
        """Return the fields of every sample; of equal negatives of a caption only the first stays."""
        return [self._result(found) for found in self.found]

    def _result(self, found: Found) -> dict[str, Any]:
        taken: set[tuple[int, str]] = set()
        negatives: list[Mapping[str, Any]] = []
        for order, record in sorted(found.accepted, key=lambda item: item[0]):
            key = record["caption"], plain(record["text"])
            if key in taken:
                said = {name: record[name] for name in ("text", "caption", "rule")}
                found.rejected.append((order, {**said, "reason": "repeated", "detail": "asked for by another type"}))
                continue
            taken.add(key)
            negatives.append(record)
        return {"asked_negatives": negatives, "asked_rejected": found.refused(), "asked_usage": found.usage(negatives)}


def _pieces(caption: Caption, change: OneChange) -> list[Piece]:
    """Return the pieces that put a change into the caption, its case kept and the article before it put right."""
    span = caption.span(change.first, change.stop)
    low = change.text if any(char.isupper() for char in change.text[1:]) else change.text[:1].lower() + change.text[1:]
    text = like(caption.raw[change.first], low)
    return [*caption.article(span, text), Piece(span.start, span.end, text)]
