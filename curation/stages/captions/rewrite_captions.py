"""Rewrite captions in other words, by a language model or by rules, and keep what a gate accepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field
from curation.llm.interface import LanguageModel
from curation.rewriting.llm_rewrites import RewriteBatch
from curation.rewriting.llm_stage import LlmStage
from curation.rewriting.prompts import FAMILIES, GROUPS, RequestBuilder, RewriteRequests, families_of, prompts_hash
from curation.rewriting.rules import RULES, RuleWriter
from data_manifests.sample import Sample


@dataclass(frozen=True)
class RewriteCaptions(LlmStage):
    """Rewrite every caption in other words and keep the rewrites that claim the same.

    Provides ``rewrite`` (views: text, caption, family, rule), ``rewrites_rejected`` (every rejected text with its
    reason, see `curation.rewriting.text_checks.REASONS`) and ``rewrite_usage`` (requests, tokens, counts).

    A rejected text is asked for again with other examples and another seed, `max_draws` times in all.

    Attributes:
        writer: A language model, or `RuleWriter`, which needs none.
        families: Names from `FAMILIES`, `GROUPS` or, for the rule writer, `RULES`; empty for the four of LaCLIP, or
            for all rules.
        rewrites_per_family: Rewrites wanted of each caption and family, at least 1.
        graph: Synonyms for the gate and the rule writer.
        The others are those of `LlmStage`.

    Raises:
        InputError: a setting is out of range, or a family unknown.

    Source: Fan et al. 2023 (LaCLIP), section 3, arXiv 2305.20088; positives of Doveh et al. 2023 (TSVLC),
        arXiv 2211.11733; one varied field at a time as in TDA-SP; dense texts of DAC, arXiv 2305.19595.
    Differs:
        - a gate compares the claims of caption and rewrite; the originals keep whatever the model wrote;
        - examples are sentences of our own; with rules in place of a model, no originals exist at all;
        - a caption is data: it cannot end its line or its JSON string.
    """

    name: ClassVar[str] = "rewrite_captions"
    version: ClassVar[int] = 3
    requires: ClassVar[tuple[str, ...]] = ("uid", "captions", "parses")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("rewrite", publish="sample", role="views"),
        Field("rewrites_rejected", role="rejects"),
        Field("rewrite_usage", role="usage"),
    )
    source: ClassVar[str] = "Fan et al. 2023, section 3, arXiv 2305.20088"
    knows_only_english: ClassVar[bool] = True
    request_builder: ClassVar[type[RequestBuilder]] = RewriteRequests
    answer_share: ClassVar[float] = 0.75
    """Measured on 435 answers of a small model."""

    writer: LanguageModel | RuleWriter = field(default_factory=RuleWriter)
    families: tuple[str, ...] = ()
    rewrites_per_family: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(rewrites_per_family=1)
        self.kinds()

    def kinds(self) -> tuple[str, ...]:
        """Return the families in the table's order.

        Raises:
            InputError: a family is unknown.
        """
        if isinstance(self.writer, RuleWriter):
            return families_of(self.families or tuple(RULES), RULES)
        return families_of(self.families or GROUPS["laclip"], FAMILIES)

    @property
    def texts_per_kind(self) -> int:
        """The rewrites wanted of each caption and family."""
        return self.rewrites_per_family

    def identity(self) -> dict[str, Any]:
        """Return the fingerprint's input: also the examples, and the inflections that the gate reads."""
        return {**super().identity(), "prompts": prompts_hash()}

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Rewrite the captions of every sample; all requests of the call are in flight at once."""
        batch = RewriteBatch(self, samples)
        if isinstance(self.writer, RuleWriter):
            batch.apply_rules(self.writer)
        else:
            batch.ask(self.writer)
        return batch.results()
