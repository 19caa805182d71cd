"""vLLM inside this process: one engine that answers all prompts at once, for machines with a GPU.

Never imported unless ``--llm vllm:MODEL`` asks for it; vLLM pins its own torch and is an extra.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from curation.llm.client import model_hash
from curation.llm.interface import Answer, CompletionClient, CompletionRequest, Failure
from curation.llm.journal import CompletionOutcome, Journal, JournaledClient, entry_of, shortened
from data_manifests.errors import InputError

_SAMPLING = (
    "temperature", "top_p", "top_k", "min_p", "max_tokens", "stop", "seed", "frequency_penalty", "presence_penalty",
    "repetition_penalty",
)  # fmt: skip
_ASKED_BY = {"model", "prompt", "messages", "response_format"}
_DEFAULT_MAX_TOKENS = 256


@dataclass(frozen=True)
class VllmModel:
    """A model that vLLM loads into this process.

    Attributes:
        model: A folder or hub name as vLLM takes it; the name requests carry.
        journal: Path of the journal of answers.
        engine: Further arguments of ``vllm.LLM``, such as ``(("max_model_len", 2048),)``; no part of the identity.
        prompts_per_call: Questions per call of the engine, and the most that a kill can cost.
    """

    model: str
    journal: str
    engine: tuple[tuple[str, Any], ...] = ()
    prompts_per_call: int = 8192

    def content_hash(self) -> str:
        """Hash the model's name: the same as of a server, so that either way gives the same data set."""
        return model_hash(self.model)

    def describe(self) -> str:
        """Name it for people; of a folder only its last part."""
        return f"language model {self.model.rstrip('/').rpartition('/')[2]} (vLLM)"

    @contextmanager
    def open(self) -> Iterator[CompletionClient]:
        """Open a line; the engine starts at the first question that the journal cannot answer.

        Raises:
            InputError: vLLM is missing or cannot load the model, or the journal is damaged.
        """
        journal = Journal(self.journal)
        try:
            yield JournaledClient(journal, _Engine(self, journal))
        finally:
            journal.close()


class _Engine:
    """Collects questions and asks them together."""

    def __init__(self, asked: VllmModel, journal: Journal) -> None:
        self._asked, self._journal = asked, journal
        self._waiting: list[tuple[str, CompletionRequest]] = []

    def put(self, key: str, request: CompletionRequest) -> None:
        """Note a question."""
        self._waiting.append((key, request))

    def take(self) -> list[tuple[str, CompletionOutcome]]:
        """Ask what has been noted, one call at a time, and record it."""
        most = self._asked.prompts_per_call
        questions, self._waiting = self._waiting[:most], self._waiting[most:]
        entries = []
        for endpoint in ("chat/completions", "completions"):
            same = [(key, request) for key, request in questions if request.endpoint == endpoint]
            outcomes = _answers(self._asked, [request for _, request in same]) if same else []
            entries += [entry_of(*asked, outcome) for asked, outcome in zip(same, outcomes, strict=True)]
        return self._journal.record(entries)


def _answers(asked: VllmModel, requests: Sequence[CompletionRequest]) -> list[CompletionOutcome]:
    """Answer requests of one kind; one that the engine refuses costs the others nothing but time."""
    llm = _load(asked.model, asked.engine)
    sampling = [sampling_params(request.body) for request in requests]
    try:
        if requests[0].endpoint == "chat/completions":
            outputs = llm.chat([list(request.body["messages"]) for request in requests], sampling, use_tqdm=False)
        else:
            outputs = llm.generate([request.body["prompt"] for request in requests], sampling, use_tqdm=False)
    except _refusals() as error:  # such as a prompt that is too long; the engine refuses the whole call
        if len(requests) == 1:
            return [Failure("refused", shortened(str(error)))]
        half = len(requests) // 2
        return _answers(asked, requests[:half]) + _answers(asked, requests[half:])
    return [_outcome(output) for output in outputs]


def _refusals() -> tuple[type[Exception], ...]:
    """Return what the engine raises for a request it will not take; newer ones have classes of their own."""
    try:
        own = importlib.import_module("vllm.exceptions").VLLMClientError
    except (ImportError, AttributeError):
        return (ValueError, TypeError)
    return (ValueError, TypeError, own)


def _outcome(output: Any) -> Answer:
    first = output.outputs[0]
    tokens = (len(output.prompt_token_ids or ()), len(first.token_ids))
    return Answer(first.text, first.finish_reason or "unknown", *tokens)


def sampling_params(body: Mapping[str, Any]) -> Any:
    """Translate a body's settings into vLLM's.

    Raises:
        InputError: the body holds a setting that has no translation: leaving it out would answer another question.
    """
    unknown = sorted(set(body) - _ASKED_BY - set(_SAMPLING))
    if unknown:
        raise InputError(f"vLLM in this process knows no {unknown}", allowed=", ".join(_SAMPLING), fix="use vllm serve")
    params = importlib.import_module("vllm.sampling_params")
    settings = {name: body[name] for name in _SAMPLING if name in body}
    settings.setdefault("max_tokens", _DEFAULT_MAX_TOKENS)
    wish = body.get("response_format")
    if wish is not None and wish.get("type") not in ("text", None):
        schema = wish["json_schema"]["schema"] if wish["type"] == "json_schema" else None
        held = {"json": schema} if schema is not None else {"json_object": True}
        if hasattr(params, "StructuredOutputsParams"):
            settings["structured_outputs"] = params.StructuredOutputsParams(**held)
        else:  # vLLM before 0.11
            settings["guided_decoding"] = params.GuidedDecodingParams(**held)
    return params.SamplingParams(**settings)


@lru_cache(maxsize=1)
def _load(model: str, engine: tuple[tuple[str, Any], ...]) -> Any:
    """Start the engine; one for each process."""
    if importlib.util.find_spec("vllm") is None:
        raise InputError(
            "the package vllm is not installed",
            allowed="--llm vllm:MODEL on a machine with vLLM, or --llm http://HOST:PORT/v1#MODEL from anywhere",
            fix="pip install 'clipcurate[vllm]' in an environment of its own: vLLM pins its own torch",
        )
    vllm = importlib.import_module("vllm")
    try:
        return vllm.LLM(model=model, **dict(engine))
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"vLLM cannot load '{model}': {shortened(str(error))}",
            allowed="a model's folder or hub name",
            fix="see its log",
        ) from error
