"""Base of the stages that ask a language model: settings, requests, the loop over answers, and the records."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, ClassVar

from curation.engine.stage import Drop, MapStage
from curation.knowledge.interface import KnowledgeGraph
from curation.llm.interface import Answer, CompletionClient, CompletionRequest, Failure, LanguageModel
from curation.llm.vllm_engine import VllmModel
from curation.models.parser import Parse, Parser, SpacyParser
from curation.rewriting.prompts import PROMPTINGS, Prompting, RequestBuilder, read_answer, refusal
from curation.rewriting.rules import RuleWriter
from curation.rewriting.text_checks import Verdict
from data_manifests.errors import CheckFailedError, InputError
from data_manifests.sample import Sample

_CHUNK = 64
"""Answers that are parsed together: parsing one by one is several times slower."""
_REJECTED_CHARS = 500
"""How much of a rejected text its record keeps."""
_TOKENS_PER_MESSAGE = 6
"""What a chat template adds around a message."""
_ENOUGH_ANSWERS = 100
"""From so many answers on, a call whose accepted share is below `_LEAST_SHARE` ends the run."""
_LEAST_SHARE = 0.01
_ENOUGH_THOUGHTS = 10
"""Answers that hold nothing but thinking, and no other answer, end the run."""
_REASONS_SHOWN = 3
_EXAMPLE_CHARS = 120


@dataclass(frozen=True)
class LlmStage(MapStage):
    """A stage that asks a language model for texts, checks the answers, and asks again for those that fail.

    The request of one (sample, caption, kind, draw) is a function of these and of the settings alone, so that recorded
    answers are found again whatever else is in the call.

    Attributes:
        writer: A language model, or `RuleWriter`, which needs none.
        prompting: ``few_shot`` completions, or ``schema``: chat whose answers are JSON of a given schema.
        max_captions: Captions of a sample that are used, in order; 0 for all.
        max_draws: Most requests for one text, at least 1.
        temperature: Of the sampling, 0 to 2.
        top_p: Of the sampling, more than 0, at most 1.
        max_tokens: Longest answer, at least 1; one that reaches it is rejected as truncated.
        seed: Of the draws.
        shots: Examples in a request, at least 0.
        parser: Parses the answers for the checks.
        graph: Synonyms and kinds beyond our own lists.

    Raises:
        InputError: a setting is out of range.
    """

    request_builder: ClassVar[type[RequestBuilder]]
    answer_share: ClassVar[float] = 1.0
    """An answer's length as a share of its caption's."""

    writer: LanguageModel | RuleWriter
    prompting: Prompting = "few_shot"
    max_captions: int = 0
    max_draws: int = 3
    temperature: float = 0.9
    top_p: float = 0.95
    max_tokens: int = 77
    seed: int = 0
    shots: int = 3
    parser: Parser = field(default_factory=SpacyParser)
    graph: KnowledgeGraph | None = None

    def __post_init__(self) -> None:
        self.check_least(max_captions=0, max_draws=1, max_tokens=1, shots=0)
        self.require(
            0 <= self.temperature <= 2 and 0 < self.top_p <= 1,
            "temperature top_p",
            allowed="temperature 0 to 2, top_p more than 0 and at most 1",
            fix="the defaults are 0.9 and 0.95",
        )
        self.check_names("prompting", PROMPTINGS)

    @abstractmethod
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of text that are asked for: families of rewrites or types of negatives."""

    @property
    def texts_per_kind(self) -> int:
        """How many texts are wanted of each caption and kind."""
        return 1

    def runs_model(self) -> bool:
        """Return whether the writer is a language model."""
        return not isinstance(self.writer, RuleWriter)

    def runs_in_main_process(self) -> bool:
        """Whether the writer is an engine in this process, which a machine has memory for once."""
        return isinstance(self.writer, VllmModel)

    def requests_to(self, model: str) -> RequestBuilder:
        """Return the builder of requests to a model of this name."""
        return self.request_builder(
            model, self.prompting, self.shots, self.temperature, self.top_p, self.max_tokens, self.seed
        )

    @classmethod
    def question_keys(cls, config: Mapping[str, Any], model: str, samples: Sequence[Sample]) -> Iterator[str]:
        """Yield the key of every request that could have been sent; see `AsksModel`."""
        known = {item.name for item in dataclasses.fields(cls)}  # an earlier version may have had other settings
        try:
            settings = {name: value for name, value in config.items() if name in known}
            stage = cls(**{**settings, "writer": VllmModel(model, "")})
        except InputError:
            return  # settings of the rule writer, which sends no request
        builder = stage.requests_to(model)
        for sample in samples:
            for index, caption in enumerate(sample.captions):
                for kind, draw in product(stage.kinds(), range(stage.texts_per_kind * stage.max_draws)):
                    yield builder.build(sample.uid, index, caption, kind, draw).key

    def requests(self, samples: Sequence[Sample]) -> Iterator[CompletionRequest]:
        """Yield the first draws' requests in order, none for the rule writer; nothing is sent and nothing parsed."""
        if isinstance(self.writer, RuleWriter):
            return
        builder, kinds = self.requests_to(self.writer.model), self.kinds()
        for sample in samples:
            for index, caption in enumerate(sample.captions[: self.max_captions or None]):
                if not refusal(caption, self.prompting):
                    for kind in kinds:
                        for copy in range(self.texts_per_kind):
                            yield builder.build(sample.uid, index, caption, kind, copy * self.max_draws)

    def estimate_tokens(
        self, samples: Sequence[Sample], chars_per_token: float = 4.4, draws_per_text: float = 1.0
    ) -> tuple[int, int, int]:
        """Estimate (prompt tokens, completion tokens, requests) before anything is sent.

        Args:
            samples: Samples to ask about; for an estimate from a part of a data set, scale the result.
            chars_per_token: Of the model's tokenizer on English captions.
            draws_per_text: Mean number of draws, from an earlier run's usage; 1 when every text is accepted.
        """
        prompt = completion = 0.0
        count = 0
        for request in self.requests(samples):
            messages = [message["content"] for message in request.body.get("messages", ())]
            texts = messages or [request.body["prompt"]]
            caption = texts[-1] if messages else texts[-1].rsplit("\n", 1)[-1]
            prompt += sum(map(len, texts)) / chars_per_token + _TOKENS_PER_MESSAGE * len(messages) + 1
            completion += min(self.max_tokens, self.answer_share * len(caption) / chars_per_token + 2)
            count += 1
        read, written, asked = (round(number * draws_per_text) for number in (prompt, completion, count))
        return read, written, asked


@dataclass(frozen=True, eq=False)
class WantedText:
    """One text to ask for.

    Attributes:
        place: Which sample of the call.
        index: Which caption of the sample.
        kind: Family of rewrites or type of negatives.
        copy: Which of several texts of the same kind.
        attempt: How often it was asked for before.
        asked: False where the caption is not put to a model.
    """

    place: int
    index: int
    kind: str
    copy: int = 0
    attempt: int = 0
    asked: bool = True


@dataclass
class SampleTexts:
    """The records and counts of one sample so far; records are kept with their sort key."""

    accepted: list[tuple[tuple[int, int, int], dict[str, Any]]] = field(default_factory=list)
    rejected: list[tuple[tuple[int, int, int], dict[str, Any]]] = field(default_factory=list)
    wanted: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def read(self, outcome: Answer | Failure, varied: str, prompting: Prompting) -> tuple[str, Verdict | None]:
        """Count an outcome; return its text, and why it cannot be used or None."""
        self.requests += 1
        if isinstance(outcome, Failure):
            return "", Verdict(f"no_answer_{outcome.reason}", outcome.detail)
        self.prompt_tokens += outcome.prompt_tokens
        self.completion_tokens += outcome.completion_tokens
        text, reason, detail = read_answer(outcome.text, varied, prompting)
        if outcome.finish_reason == "length" and reason != "only_thinking":
            reason, detail = "truncated", "stopped by its length"
        return text, Verdict(reason, detail) if reason else None


class LlmBatch(ABC):
    """One call of an `LlmStage`: many requests in flight, answers checked in chunks, records in a fixed order.

    Args:
        stage: The stage.
        samples: Its samples.
    """

    duplicate: ClassVar[Verdict]
    """Why a repeated text is rejected; ``{}`` in the detail stands for the first one's rule."""

    def __init__(self, stage: LlmStage, samples: Sequence[Sample]) -> None:
        self.stage, self.samples, self.kinds = stage, samples, stage.kinds()
        self.found = [SampleTexts() for _ in samples]
        self.reasons: Counter[str] = Counter()
        self.examples: dict[str, str] = {}

    @abstractmethod
    def screen(self, wanted: WantedText, text: str) -> Verdict | None:
        """Check a text without a parse; return why it is rejected, or None."""

    @abstractmethod
    def record(self, wanted: WantedText, text: str, parse: Parse) -> dict[str, Any] | Verdict:
        """Check a parsed text; return its record, or why it is rejected."""

    @abstractmethod
    def rule(self, wanted: WantedText) -> str:
        """Return the ``rule`` of a text's record."""

    @abstractmethod
    def duplicate_key(self, record: Mapping[str, Any]) -> Hashable:
        """Return what two accepted records of a sample share when the second repeats the first."""

    def caption_refusal(self, sample: Sample, index: int) -> str:
        """Return why a caption is not put to a model, or an empty string."""
        return refusal(sample.captions[index], self.stage.prompting)

    def ask(self, writer: LanguageModel) -> None:
        """Send all requests at once, check the answers as they arrive, ask again for what is rejected."""
        builder = self.stage.requests_to(writer.model)

        def submit(texts: Iterable[WantedText]) -> bool:
            sent = False
            for wanted in texts:
                sample = self.samples[wanted.place]
                request = builder.build(
                    sample.uid, wanted.index, sample.captions[wanted.index], wanted.kind, self.draw(wanted)
                )
                client.submit(dataclasses.replace(request, tag=wanted))
                sent = True
            return sent

        with writer.open() as client:
            in_flight = submit(self.wanted())
            while in_flight:
                for outcomes in _chunks(client):
                    again = list(self.rejected(outcomes))
                    self.check_worth(writer.model, is_end=False)
                    in_flight = submit(again)
        self.check_worth(writer.model, is_end=True)

    def check_worth(self, model: str, *, is_end: bool) -> None:
        """Check that asking on, and publishing what came of it, makes sense.

        Before the end only the clear cases stop: with few answers, a share of 1 % cannot be told from one of 3 %.

        Raises:
            InputError: all answers hold nothing but thinking.
            CheckFailedError: of 100 answers or more, fewer than 1 % are accepted, or before the end none.
        """
        num_answers = sum(found.requests for found in self.found)
        num_accepted = sum(len(found.accepted) for found in self.found)
        if num_answers == self.reasons["only_thinking"] >= (1 if is_end else _ENOUGH_THOUGHTS):
            raise self._only_thinking(model, num_answers)
        least = _LEAST_SHARE * num_answers if is_end else 1
        if num_answers >= _ENOUGH_ANSWERS and num_accepted < least:
            raise self._few_accepted(model, num_answers, num_accepted)

    def _only_thinking(self, model: str, num_answers: int) -> InputError:
        stage = self.stage
        path, room = f"--set stages.{stage.name}", max(2048, 8 * stage.max_tokens)
        by_chat = f" and {path}.prompting=schema (few_shot ends an answer at the first line)"
        return InputError(
            f"{stage.name}: the model {model} spent all of max_tokens={stage.max_tokens} on thinking and wrote no answer "
            f"to any of {num_answers} requests",
            allowed="tokens for the thinking and the answer, or a model that does not think first",
            fix=f"{path}.max_tokens={room}{by_chat if stage.prompting == 'few_shot' else ''}, or switch thinking off at the server",
        )

    def _few_accepted(self, model: str, num_answers: int, num_accepted: int) -> CheckFailedError:
        commonest = self.reasons.most_common(_REASONS_SHOWN)
        path = f"--set stages.{self.stage.name}"
        more = f"{path}.max_tokens={8 * self.stage.max_tokens}"
        other = "schema" if self.stage.prompting == "few_shot" else "few_shot"
        cut = commonest[0][0] in ("truncated", "only_thinking")
        return CheckFailedError(
            f"{self.stage.name}: {num_accepted} of {num_answers} answers of the model {model} were accepted, so nothing is published; "
            f"rejected as " + ", ".join(f"{reason} ({number})" for reason, number in commonest),
            allowed=f"at least {_LEAST_SHARE:.0%} of the answers; all answers are kept in the journal",
            fix=f"{more if cut else f'{path}.prompting={other}'}, or a model that follows instructions better",
            examples=[f"  {reason}, for example: {self.examples[reason]}" for reason, _ in commonest],
        )

    def wanted(self) -> Iterator[WantedText]:
        """Yield every text to ask for; captions that are not put to a model are recorded as rejected."""
        for place, sample in enumerate(self.samples):
            for index, caption in enumerate(sample.captions[: self.stage.max_captions or None]):
                reason = self.caption_refusal(sample, index)
                for kind in self.kinds:
                    if reason:
                        self.reject(WantedText(place, index, kind, asked=False), caption, Verdict(reason))
                        continue
                    self.found[place].wanted += self.stage.texts_per_kind
                    for copy in range(self.stage.texts_per_kind):
                        yield WantedText(place, index, kind, copy)

    def rejected(self, outcomes: Iterable[tuple[WantedText, Answer | Failure]]) -> Iterator[WantedText]:
        """Check outcomes; yield the next draw of every rejected one that has a draw left."""
        texts, again = [], []
        for wanted, outcome in outcomes:
            varied = self.stage.request_builder.prompt(wanted.kind).varied
            text, verdict = self.found[wanted.place].read(outcome, varied, self.stage.prompting)
            if verdict:
                self.reject(wanted, text, verdict)
                again.append(wanted)
            else:
                texts.append((wanted, text))
        for wanted in (*again, *self.check(texts)):
            if wanted.attempt + 1 < self.stage.max_draws:
                yield dataclasses.replace(wanted, attempt=wanted.attempt + 1)

    def check(self, texts: Sequence[tuple[WantedText, str]]) -> list[WantedText]:
        """Check and record texts, parsing them together; return those that are rejected."""
        rejected, screened = [], []
        for wanted, text in texts:
            if verdict := self.screen(wanted, text):
                self.reject(wanted, text, verdict)
                rejected.append(wanted)
            else:
                screened.append((wanted, text))
        parses = self.stage.parser.parse([text for _, text in screened])
        for (wanted, text), parse in zip(screened, parses, strict=True):
            record = self.record(wanted, text, parse)
            if isinstance(record, Verdict):
                self.reject(wanted, text, record)
                rejected.append(wanted)
            else:
                self.found[wanted.place].accepted.append((self.order(wanted), record))
        return rejected

    def draw(self, wanted: WantedText) -> int:
        """Return the number of a text's draw."""
        return wanted.copy * self.stage.max_draws + wanted.attempt

    def order(self, wanted: WantedText) -> tuple[int, int, int]:
        """Return the sort key of a record; nothing in it depends on when an answer came."""
        return wanted.index, self.kinds.index(wanted.kind), self.draw(wanted)

    def reject(self, wanted: WantedText, text: str, verdict: Verdict) -> None:
        """Record a rejected text."""
        if wanted.asked:
            self.reasons[verdict.reason] += 1
            shown = f"{text[:_EXAMPLE_CHARS]!r}" + (f" ({verdict.detail})" if verdict.detail else "")
            caption = self.samples[wanted.place].captions[wanted.index][:_EXAMPLE_CHARS]
            self.examples.setdefault(verdict.reason, f"{shown} for the caption {caption!r}")
        record = {
            "text": text[:_REJECTED_CHARS], "caption": wanted.index, "reason": verdict.reason,
            "rule": self.rule(wanted), "detail": verdict.detail,
        }  # fmt: skip
        self.found[wanted.place].rejected.append((self.order(wanted), record))

    def results(self) -> list[dict[str, Any] | Drop]:
        """Return each sample's fields: accepted texts, rejected texts, usage; of equal texts only the first stays."""
        return [self._fields(found) for found in self.found]

    def _fields(self, found: SampleTexts) -> dict[str, Any]:
        first: dict[Hashable, dict[str, Any]] = {}
        for order, record in sorted(found.accepted, key=lambda item: item[0]):
            kept = first.setdefault(self.duplicate_key(record), record)
            if kept is not record:
                reason, detail = self.duplicate
                repeated = {name: record[name] for name in ("text", "caption", "rule")}
                found.rejected.append((order, repeated | {"reason": reason, "detail": detail.format(kept["rule"])}))
        accepted = list(first.values())
        rejected = [record for _, record in sorted(found.rejected, key=lambda item: item[0])]
        usage = {
            "wanted": found.wanted, "requests": found.requests, "prompt_tokens": found.prompt_tokens,
            "completion_tokens": found.completion_tokens, "accepted": len(accepted), "rejected": len(rejected),
        }  # fmt: skip
        return dict(zip((item.name for item in self.stage.provides), (accepted, rejected, usage), strict=True))


def _chunks(client: CompletionClient) -> Iterator[list[tuple[WantedText, Answer | Failure]]]:
    """Yield the outcomes of all requests in flight, so many together as are parsed at once."""
    chunk: list[tuple[WantedText, Answer | Failure]] = []
    for request, outcome in client.outcomes():
        chunk.append((request.tag, outcome))
        if len(chunk) >= _CHUNK:
            yield chunk
            chunk = []
    yield chunk
