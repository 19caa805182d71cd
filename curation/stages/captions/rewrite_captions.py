"""Rewrite captions in other words, by a language model or by rules, and keep what a gate accepts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field, MapStage
from curation.knowledge.interface import KnowledgeGraph
from curation.llm.interface import CompletionRequest, LanguageModel
from curation.llm.vllm_engine import VllmModel
from curation.models.parser import Parser, SpacyParser
from curation.rewriting.llm_rewrites import Plan, RewriteWork
from curation.rewriting.prompts import (
    FAMILIES,
    GROUPS,
    PROMPTINGS,
    Asking,
    Prompting,
    families_of,
    prompts_hash,
    refusal,
)
from curation.rewriting.rules import RULES, RuleWriter
from data_manifests.errors import InputError
from data_manifests.sample import Sample

_REWRITE_SHARE = 0.75
"""A rewrite's length as a share of its caption's, measured on 435 answers of a small model."""
_TOKENS_PER_MESSAGE = 6
"""What a chat template adds around a message."""


@dataclass(frozen=True)
class RewriteCaptions(MapStage):
    """Ask for other wordings of every caption and keep those that claim the same.

    Provides ``rewrite`` (views: text, caption, family, rule), ``rewrites_rejected`` (every refused text with the
    reason's name, see `curation.rewriting.gate.REASONS`) and ``rewrite_usage`` (requests, tokens, counts).

    A refused text is asked for again with other examples and another seed, `max_draws` times in all. The request of
    one (sample, caption, family, draw) is a function of these and of the settings alone, so that answers on record
    are found again whatever is rewritten beside them.

    Attributes:
        writer: A language model, or `RuleWriter`, which needs none.
        families: Names from `FAMILIES`, `GROUPS` or, for the rule writer, `RULES`; empty for the four of LaCLIP, or
            for all rules.
        prompting: ``few_shot`` completions, or ``schema``: chat whose answers are JSON of a given schema.
        max_captions: Captions of a sample that are rewritten, in order; 0 for all.
        rewrites_per_family: Rewrites wanted of each caption and family, at least 1.
        max_draws: Times that one of them is asked for, at least 1.
        temperature: Of the sampling, 0 to 2.
        top_p: Of the sampling, more than 0, at most 1.
        max_tokens: Longest answer; one that reaches it is refused as truncated.
        seed: Of the draws.
        shots: Examples in a request.
        parser: What parses the rewrites for the gate.
        graph: Gives the gate, and the rule writer, further synonyms.

    Raises:
        InputError: a setting is out of range, or a family unknown.

    Source: Fan et al. 2023 (LaCLIP), section 3, arXiv 2305.20088; positives of Doveh et al. 2023 (TSVLC),
        arXiv 2211.11733; one varied field at a time as in TDA-SP; dense texts of DAC, arXiv 2305.19595.
    Differs:
        - a gate compares what caption and rewrite claim; the originals keep whatever the model wrote;
        - examples are sentences of our own; with rules in place of a model, no originals exist at all;
        - a caption is data: it cannot end its line or its JSON string.
    """

    name: ClassVar[str] = "rewrite_captions"
    version: ClassVar[int] = 2
    requires: ClassVar[tuple[str, ...]] = ("uid", "captions", "parses")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("rewrite", publish="sample", role="views"),
        Field("rewrites_rejected", role="rejects"),
        Field("rewrite_usage", role="usage"),
    )
    source: ClassVar[str] = "Fan et al. 2023, section 3, arXiv 2305.20088"

    writer: LanguageModel | RuleWriter = field(default_factory=RuleWriter)
    families: tuple[str, ...] = ()
    prompting: Prompting = "few_shot"
    max_captions: int = 0
    rewrites_per_family: int = 1
    max_draws: int = 3
    temperature: float = 0.9
    top_p: float = 0.95
    max_tokens: int = 77
    seed: int = 0
    shots: int = 3
    parser: Parser = field(default_factory=SpacyParser)
    graph: KnowledgeGraph | None = None

    def __post_init__(self) -> None:
        for name, least in (
            ("max_captions", 0), ("rewrites_per_family", 1), ("max_draws", 1), ("max_tokens", 1), ("shots", 0),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise InputError(
                    f"rewrite_captions: {name} is {getattr(self, name)}",
                    allowed=f"{least} or more",
                    fix=f"raise {name}",
                )
        if not 0 <= self.temperature <= 2 or not self.top_p > 0:
            raise InputError(
                f"rewrite_captions: temperature is {self.temperature}, top_p is {self.top_p}",
                allowed="temperature 0 to 2, top_p more than 0 and at most 1",
                fix="the defaults are 0.9 and 0.95",
            )
        if self.prompting not in PROMPTINGS:
            raise InputError(
                f"rewrite_captions: prompting is {self.prompting!r}", allowed=", ".join(PROMPTINGS), fix="use few_shot"
            )
        families_of(self.families, self._table)

    @property
    def _table(self) -> Mapping[str, Any]:
        return RULES if isinstance(self.writer, RuleWriter) else FAMILIES

    def chosen(self) -> tuple[str, ...]:
        """Return the families that are asked for, in the table's order."""
        default = tuple(RULES) if isinstance(self.writer, RuleWriter) else GROUPS["laclip"]
        return families_of(self.families or default, self._table)

    def runs_in_main_process(self) -> bool:
        """Whether the writer is an engine in this process, which a machine has memory for once."""
        return isinstance(self.writer, VllmModel)

    def identity(self) -> dict[str, Any]:
        """Return what the fingerprint is made of: the examples count, and so do the inflections the gate reads."""
        return {**super().identity(), "prompts": prompts_hash()}

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Rewrite the captions of every sample; all questions of the call are under way at once."""
        work = RewriteWork(self._plan(), samples)
        if isinstance(self.writer, RuleWriter):
            work.by_rules(self.writer)
        else:
            asking = self.asking(self.writer.model)
            with self.writer.open() as line:
                work.by_model(line, asking)
        return work.results()

    def requests(self, samples: Sequence[Sample]) -> Iterator[CompletionRequest]:
        """Yield the first draws' requests in order, none for the rule writer; nothing is sent and nothing parsed.

        Raises:
            InputError: `top_p` is more than 1.
        """
        if isinstance(self.writer, RuleWriter):
            return
        asking, plan = self.asking(self.writer.model), self._plan()
        for sample in samples:
            for index, caption in enumerate(plan.rewritten(sample)):
                if refusal(caption, self.prompting):
                    continue
                for family in plan.families:
                    for copy in range(self.rewrites_per_family):
                        yield asking.request(sample.uid, index, caption, family, copy * self.max_draws)

    def estimate_tokens(
        self, samples: Sequence[Sample], chars_per_token: float = 4.4, draws_per_rewrite: float = 1.0
    ) -> tuple[int, int, int]:
        """Estimate (prompt tokens, completion tokens, requests) before anything is sent.

        Args:
            samples: What would be rewritten; a share of a data set is enough, times what it stands for.
            chars_per_token: Of the model's tokenizer on English captions.
            draws_per_rewrite: Mean number of draws, from an earlier run's usage; 1 when every text is accepted.
        """
        prompt = completion = 0.0
        count = 0
        for request in self.requests(samples):
            body = request.body
            messages = body.get("messages", ())
            chars = len(body.get("prompt", "")) + sum(len(message["content"]) for message in messages)
            prompt += chars / chars_per_token + _TOKENS_PER_MESSAGE * len(messages) + 1
            completion += min(self.max_tokens, _REWRITE_SHARE * _last_caption(body) / chars_per_token + 2)
            count += 1
        return tuple(round(number * draws_per_rewrite) for number in (prompt, completion, count))  # type: ignore[return-value]

    def _plan(self) -> Plan:
        return Plan(
            self.chosen(), self.prompting, self.max_captions, self.rewrites_per_family, self.max_draws, self.parser,
            self.graph,
        )  # fmt: skip

    def asking(self, model: str) -> Asking:
        """Return how requests are made.

        Raises:
            InputError: `top_p` is more than 1.
        """
        if self.top_p > 1:
            raise InputError(
                f"rewrite_captions: top_p is {self.top_p}", allowed="more than 0, at most 1", fix="use 0.95"
            )
        return Asking(
            model, self.prompting, self.shots, self.temperature, self.top_p, self.max_tokens, self.seed
        )  # fmt: skip


def _last_caption(body: Mapping[str, Any]) -> int:
    """Return the length of the text that is to be rewritten."""
    if "prompt" in body:
        return len(body["prompt"].rsplit("\n", 1)[-1])
    return len(body["messages"][-1]["content"])


def keys_asked(config: Mapping[str, Any], model: str, samples: Sequence[Sample]) -> Iterator[str]:
    """Yield the key of every question that a stage with these settings could ask a model about some samples.

    Args:
        config: The stage's settings, as a manifest tells them.
        model: The model's name in the requests.
        samples: As they are before any stage.
    """
    names = tuple(config["families"]) or GROUPS["laclip"]
    if not set(names) <= {*FAMILIES, *GROUPS}:
        return  # settings of the rule writer, which asks nobody
    stage = RewriteCaptions(**{**config, "families": ()})
    asking = stage.asking(model)
    for sample in samples:
        for index, caption in enumerate(sample.captions):
            for family in families_of(names):
                for draw in range(stage.rewrites_per_family * stage.max_draws):
                    yield asking.request(sample.uid, index, caption, family, draw).key
