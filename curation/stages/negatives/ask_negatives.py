"""Ask a language model for captions that are wrong in one thing, and keep what a gate accepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field
from curation.negatives.llm_negatives import NegativeBatch
from curation.negatives.llm_prompts import TYPES, NegativeRequests, negative_prompts_hash
from curation.rewriting.llm_stage import LlmStage
from curation.rewriting.prompts import RequestBuilder
from curation.rewriting.rules import RuleWriter
from data_manifests.errors import InputError
from data_manifests.sample import Sample


@dataclass(frozen=True)
class AskNegatives(LlmStage):
    """Ask for one negative of every caption and type, and keep those that make one change which is false.

    Provides ``asked_negatives`` (negative records), ``asked_rejected`` (every rejected answer with its reason) and
    ``asked_usage`` (requests, tokens, counts).

    An answer is compared with its caption word by word. The difference must be one run of at most three words on both
    sides, of one kind (objects, attributes, actions, relations or numbers: the record's type, whatever was asked for)
    and in one form; only that run is taken over, so that case and marks stay the caption's. Rejected are copies,
    synonyms and hypernyms, what another caption says, and what may be true beside all of them. Rejected answers are
    asked for again with other examples and another seed, `max_draws` times in all.

    Attributes:
        writer: A language model. Rules cannot write negatives here: there are stages for that.
        types: What the model is asked to change, of `curation.negatives.llm_prompts.TYPES`.
        graph: Synonyms and kinds for the gate.
        The others are those of `LlmStage`.

    Raises:
        InputError: a setting is out of range or a type unknown; in `process`, the writer is no language model.

    Source: Patel et al. 2024 (TripletCLIP), section 3, arXiv 2411.02545: a language model writes a caption that differs
        in one thing; no image is generated for it here.
    Differs: the prompts are our own, the paper's are unreleased; a gate compares the claims of caption and answer; four
        types are asked for one by one.
    """

    name: ClassVar[str] = "ask_negatives"
    version: ClassVar[int] = 2
    requires: ClassVar[tuple[str, ...]] = ("uid", "captions", "parses")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("asked_negatives", publish="sample", role="negatives"),
        Field("asked_rejected", role="rejects"),
        Field("asked_usage", role="usage"),
    )
    source: ClassVar[str] = "Patel et al. 2024, section 3, arXiv 2411.02545"
    knows_only_english: ClassVar[bool] = True
    request_builder: ClassVar[type[RequestBuilder]] = NegativeRequests

    types: tuple[str, ...] = TYPES
    max_draws: int = 2
    shots: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_names("types", TYPES, each_once=True)

    def kinds(self) -> tuple[str, ...]:
        """Return the types."""
        return self.types

    def identity(self) -> dict[str, Any]:
        """Return the fingerprint's input: also the instructions and examples."""
        return {**super().identity(), "prompts": negative_prompts_hash()}

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Ask about the captions of every sample; all requests of the call are in flight at once."""
        if isinstance(self.writer, RuleWriter):
            raise InputError(
                f"{self.name} needs a language model, and there is none",
                allowed="--llm http://HOST:PORT/v1#MODEL or vllm:MODEL",
                fix="start one (clipcurate llm serve) and name it, or use a recipe whose negatives are made by rules",
            )
        batch = NegativeBatch(self, samples)
        batch.ask(self.writer)
        return batch.results()
