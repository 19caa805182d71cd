"""vLLM in this process: one engine that completes many prompts per call, for machines with a GPU.

vLLM is imported only for ``--llm vllm:MODEL``: it pins its own torch and is an optional extra.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from curation.llm.interface import Answer, CompletionClient, CompletionRequest, Failure, NamedModel
from curation.llm.journal import CompletionOutcome, Journal, JournaledClient, entry_of, shortened
from data_manifests.errors import InputError

_SAMPLING = (
    "temperature", "top_p", "top_k", "min_p", "max_tokens", "stop", "seed", "frequency_penalty", "presence_penalty",
    "repetition_penalty",
)  # fmt: skip
_OTHER_SETTINGS = {"model", "prompt", "messages", "response_format"}
_DEFAULT_MAX_TOKENS = 256
_PROMPTS_PER_CALL = 8192  # the most that a kill can cost


@dataclass(frozen=True)
class VllmModel(NamedModel):
    """A model that vLLM loads into this process.

    Attributes:
        model: A folder or hub name for vLLM; also the model's name in requests.
        journal: Path of the journal of answers.
    """

    journal: str

    def describe(self) -> str:
        """Return a name for people: the model's name, or the last part of its folder."""
        return f"language model {self.model.rstrip('/').rpartition('/')[2]} (vLLM)"

    @contextmanager
    def open(self) -> Iterator[CompletionClient]:
        """Open a client; the engine starts with the first request that the journal does not answer.

        Raises:
            InputError: vLLM is missing or cannot load the model, or the journal is damaged.
        """
        with closing(Journal(self.journal)) as journal:
            yield JournaledClient(journal, _Engine(self.model, journal))


class _Engine:
    """Collects requests and completes them together."""

    def __init__(self, model: str, journal: Journal) -> None:
        self._model, self._journal = model, journal
        self._pending: list[tuple[str, CompletionRequest]] = []

    def put(self, key: str, request: CompletionRequest) -> None:
        """Add a request."""
        self._pending.append((key, request))

    def take(self) -> list[tuple[str, CompletionOutcome]]:
        """Complete the next pending requests in one call per endpoint, and record the outcomes."""
        batch, self._pending = self._pending[:_PROMPTS_PER_CALL], self._pending[_PROMPTS_PER_CALL:]
        entries = []
        for endpoint in ("chat/completions", "completions"):
            same = [(key, request) for key, request in batch if request.endpoint == endpoint]
            outcomes = _complete(self._model, [request for _, request in same]) if same else []
            entries += [entry_of(*pair, outcome) for pair, outcome in zip(same, outcomes, strict=True)]
        return self._journal.record(entries)


def _complete(model: str, requests: Sequence[CompletionRequest]) -> list[CompletionOutcome]:
    """Complete requests of one endpoint; when the engine rejects one of them, only that one fails."""
    llm = _load(model)
    sampling = [sampling_params(request.body) for request in requests]
    try:
        if requests[0].endpoint == "chat/completions":
            outputs = llm.chat([list(request.body["messages"]) for request in requests], sampling, use_tqdm=False)
        else:
            outputs = llm.generate([request.body["prompt"] for request in requests], sampling, use_tqdm=False)
    except _rejections() as error:  # such as a prompt that is too long: the engine rejects the whole call
        if len(requests) == 1:
            return [Failure("refused", shortened(str(error)))]
        half = len(requests) // 2
        return _complete(model, requests[:half]) + _complete(model, requests[half:])
    return [_outcome(output) for output in outputs]


def _rejections() -> tuple[type[Exception], ...]:
    """Return the exceptions that the engine raises for a request it rejects; newer versions have their own class."""
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
    """Return vLLM's sampling parameters for a request's body.

    Raises:
        InputError: the body has a setting without an equivalent; ignoring it would change the request's meaning.
    """
    unknown = sorted(set(body) - _OTHER_SETTINGS - set(_SAMPLING))
    if unknown:
        raise InputError(
            f"--llm vllm: in-process vLLM does not support the settings {', '.join(unknown)}",
            allowed=", ".join(_SAMPLING),
            fix="run vllm serve MODEL, and use --llm http://HOST:PORT/v1#MODEL",
        )
    params = importlib.import_module("vllm.sampling_params")
    settings = {name: body[name] for name in _SAMPLING if name in body}
    settings.setdefault("max_tokens", _DEFAULT_MAX_TOKENS)
    response_format = body.get("response_format")
    if response_format is not None and response_format.get("type") not in ("text", None):
        schema = response_format["json_schema"]["schema"] if response_format["type"] == "json_schema" else None
        structure = {"json": schema} if schema is not None else {"json_object": True}
        if hasattr(params, "StructuredOutputsParams"):
            settings["structured_outputs"] = params.StructuredOutputsParams(**structure)
        else:  # vLLM before 0.11
            settings["guided_decoding"] = params.GuidedDecodingParams(**structure)
    return params.SamplingParams(**settings)


@lru_cache(maxsize=1)
def _load(model: str) -> Any:
    """Start the engine, once per process."""
    if importlib.util.find_spec("vllm") is None:
        raise InputError(
            "the package vllm is not installed",
            allowed="--llm vllm:MODEL on a machine with vLLM, or --llm http://HOST:PORT/v1#MODEL from anywhere",
            fix="pip install 'clipcurate[vllm]' in an environment of its own: vLLM pins its own torch",
        )
    vllm = importlib.import_module("vllm")
    try:
        return vllm.LLM(model=model)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"vLLM cannot load '{model}': {shortened(str(error))}",
            allowed="a model's folder or hub name",
            fix="read vLLM's log above",
        ) from error
