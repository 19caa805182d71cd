"""Ask a language model for captions that are wrong in one thing, and keep what a gate accepts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field, MapStage
from curation.knowledge.interface import KnowledgeGraph
from curation.llm.interface import CompletionRequest, LanguageModel
from curation.llm.vllm_engine import VllmModel
from curation.models.parser import Parser, SpacyParser
from curation.negatives.llm_negatives import NegativePlan, NegativeWork
from curation.negatives.llm_prompts import TYPES, NegativeAsking, negative_prompts_hash
from curation.rewriting.prompts import PROMPTINGS, Prompting, refusal
from curation.rewriting.rules import RuleWriter
from data_manifests.errors import InputError
from data_manifests.sample import Sample

_TOKENS_PER_MESSAGE = 6


@dataclass(frozen=True)
class AskNegatives(MapStage):
    """Ask for one negative of every caption and type, and keep those that change one thing which makes them false.

    Provides ``asked_negatives`` (negative records), ``asked_rejected`` (every refused answer with the reason's name) and
    ``asked_usage`` (requests, tokens, counts).

    An answer is compared with its caption word by word. What differs must be one run of at most three words on both
    sides, of one kind (things, qualities, deeds, places or numbers: the record's type, whatever was asked for) and in
    one form; that run alone is taken over, so that case and marks stay the caption's. What is a copy, a synonym or a
    kind of it, said by another caption, or possible beside all of them is refused. Refused answers are asked for again
    with other examples and another seed, `max_draws` times in all.

    Attributes:
        writer: A language model. Rules cannot write negatives here: there are stages for that.
        types: What the model is asked to change, of `curation.negatives.llm_prompts.TYPES`.
        prompting: ``few_shot`` completions, or ``schema``: chat whose answers are JSON of a given schema.
        max_captions: Captions of a sample that are asked about, in order; 0 for all.
        max_draws: Times that one negative is asked for, at least 1.
        temperature: Of the sampling, 0 to 2.
        top_p: Of the sampling, more than 0, at most 1.
        max_tokens: Longest answer; one that reaches it is refused as truncated.
        seed: Of the draws.
        shots: Examples in a request, at least 0.
        parser: What parses the answers for the gate.
        graph: Gives the gate further synonyms and kinds.

    Raises:
        InputError: a setting is out of range or a type unknown; in `process`, the writer is no language model.

    Source: Patel et al. 2024 (TripletCLIP), section 3, arXiv 2411.02545: a language model writes a caption that differs
        in one thing; no picture is made for it here.
    Differs: the prompts are our own, the paper's are unreleased; a gate compares what caption and answer say; four
        types are asked for one by one.
    """

    name: ClassVar[str] = "ask_negatives"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("uid", "captions", "parses")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("asked_negatives", publish="sample", role="negatives"),
        Field("asked_rejected", role="rejects"),
        Field("asked_usage", role="usage"),
    )
    source: ClassVar[str] = "Patel et al. 2024, section 3, arXiv 2411.02545"

    writer: LanguageModel | RuleWriter
    types: tuple[str, ...] = TYPES
    prompting: Prompting = "few_shot"
    max_captions: int = 0
    max_draws: int = 2
    temperature: float = 0.9
    top_p: float = 0.95
    max_tokens: int = 77
    seed: int = 0
    shots: int = 4
    parser: Parser = field(default_factory=SpacyParser)
    graph: KnowledgeGraph | None = None

    def __post_init__(self) -> None:
        for name, least in (("max_captions", 0), ("max_draws", 1), ("max_tokens", 1), ("shots", 0)):
            if getattr(self, name) < least:
                raise InputError(
                    f"{self.name}: {name} is {getattr(self, name)}", allowed=f"{least} or more", fix=f"raise {name}"
                )
        if not 0 <= self.temperature <= 2 or not self.top_p > 0:
            raise InputError(
                f"{self.name}: temperature is {self.temperature}, top_p is {self.top_p}",
                allowed="temperature 0 to 2, top_p more than 0 and at most 1",
                fix="the defaults are 0.9 and 0.95",
            )
        if self.prompting not in PROMPTINGS:
            raise InputError(
                f"{self.name}: prompting is {self.prompting!r}", allowed=", ".join(PROMPTINGS), fix="use few_shot"
            )
        if not self.types or not set(self.types) <= set(TYPES) or len(set(self.types)) < len(self.types):
            raise InputError(
                f"{self.name}: types {self.types!r}", allowed=", ".join(TYPES), fix="name one or more, each once"
            )

    def runs_in_main_process(self) -> bool:
        """Whether the writer is an engine in this process, which a machine has memory for once."""
        return isinstance(self.writer, VllmModel)

    def identity(self) -> dict[str, Any]:
        """Return what the fingerprint is made of: instructions and examples count."""
        return {**super().identity(), "prompts": negative_prompts_hash()}

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Ask about the captions of every sample; all questions of the call are under way at once."""
        if isinstance(self.writer, RuleWriter):
            raise InputError(
                f"{self.name} needs a language model, and there is none",
                allowed="--llm http://HOST:PORT/v1#MODEL or vllm:MODEL",
                fix="start one (clipcurate llm serve) and name it, or take a recipe whose negatives are made by rules",
            )
        plan = NegativePlan(
            self.types, self.prompting, self.max_captions, self.max_draws, self.parser, self.graph, self.name
        )
        work = NegativeWork(plan, samples)
        asking = self._asking(self.writer.model)
        with self.writer.open() as line:
            work.by_model(line, asking)
        return work.results()

    def requests(self, samples: Sequence[Sample]) -> Iterator[CompletionRequest]:
        """Yield the first draws' requests in order, none for rules; nothing is sent and nothing parsed."""
        if isinstance(self.writer, RuleWriter):
            return
        asking = self._asking(self.writer.model)
        for sample in samples:
            for index, caption in enumerate(sample.captions[: self.max_captions or None]):
                if not refusal(caption, self.prompting):
                    for kind in self.types:
                        yield asking.request(sample.uid, index, caption, kind, 0)

    def estimate_tokens(
        self, samples: Sequence[Sample], chars_per_token: float = 4.4, draws_per_rewrite: float = 1.0
    ) -> tuple[int, int, int]:
        """Estimate (prompt tokens, completion tokens, requests) before anything is sent; see `RewriteCaptions`."""
        prompt = completion = 0.0
        count = 0
        for request in self.requests(samples):
            messages = request.body.get("messages", ())
            said = [*(message["content"] for message in messages), request.body.get("prompt", "")]
            prompt += sum(map(len, said)) / chars_per_token + _TOKENS_PER_MESSAGE * len(messages) + 1
            completion += min(self.max_tokens, len(said[-1].rsplit("\n", 1)[-1] or said[-2]) / chars_per_token + 2)
            count += 1
        read, written, asked = (round(number * draws_per_rewrite) for number in (prompt, completion, count))
        return read, written, asked

    def _asking(self, model: str) -> NegativeAsking:
        """Return how requests are made.

        Raises:
            InputError: `top_p` is more than 1.
        """
        if self.top_p > 1:
            raise InputError(f"{self.name}: top_p is {self.top_p}", allowed="more than 0, at most 1", fix="use 0.95")
        return NegativeAsking(
            model, self.prompting, self.shots, self.temperature, self.top_p, self.max_tokens, self.seed
        )
