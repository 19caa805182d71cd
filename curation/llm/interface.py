"""The interface of language models: the protocols that stages use, and the request and answer types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from blake3 import blake3

from data_manifests.sample import Sample
from data_manifests.seeds import canonical

Endpoint = Literal["chat/completions", "completions"]


@dataclass(frozen=True)
class CompletionRequest:
    """One request of the OpenAI API.

    Attributes:
        endpoint: Path below the server's base address.
        body: The JSON body with model and sampling settings; it alone decides the request's key.
        tag: The caller's own label; not sent, not part of the key.
    """

    endpoint: Endpoint
    body: Mapping[str, Any]
    tag: Any = None

    @property
    def key(self) -> str:
        """Identity of the request: BLAKE3-128 (hex) of its canonical JSON."""
        return blake3(canonical({"endpoint": self.endpoint, "body": dict(self.body)})).hexdigest(length=16)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request.

    Attributes:
        text: The completion, or the message's content, unparsed.
        finish_reason: ``stop``, ``length`` or the server's own word.
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
    """

    text: str
    finish_reason: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """A request without a usable answer after all attempts; recorded like an answer, so that a rebuild agrees.

    Attributes:
        reason: A short name, such as ``timeout``, ``server_error``, ``answer_too_large`` or ``refused``.
        detail: The last error; without addresses and clock times.
    """

    reason: str
    detail: str = ""


class CompletionClient(Protocol):
    """An open client of a model, for many concurrent requests."""

    def submit(self, request: CompletionRequest) -> None:
        """Queue a request and return at once."""

    def outcomes(self) -> Iterator[tuple[CompletionRequest, Answer | Failure]]:
        """Yield outcomes as they arrive, until no request is pending; more may be submitted in between.

        Raises:
            InputError: the server cannot be reached, or rejects the key, the model or the kind of request.
        """


@dataclass(frozen=True)
class NamedModel:
    """A model by its name, which is all that identifies it: wherever it runs, the data set is the same.

    Attributes:
        model: The model's name in requests.
    """

    model: str

    def content_hash(self) -> str:
        """Return a hash of the name."""
        return blake3(canonical(["openai", self.model])).hexdigest(length=16)


@runtime_checkable
class LanguageModel(Protocol):
    """A model by name: a `Resource`. Where it runs is not part of its identity."""

    @property
    def model(self) -> str:
        """The model's name in requests."""

    def content_hash(self) -> str:
        """Return a hash of what determines answers besides the request: the kind of model and its name."""

    def describe(self) -> str:
        """Return a name for people, without addresses and keys."""

    def open(self) -> AbstractContextManager[CompletionClient]:
        """Open a client; requests still pending when it closes are abandoned, and sent again by the next run."""


@runtime_checkable
class AsksModel(Protocol):
    """A stage class that asks a language model. What it asks is in the journal of answers, where `forget` must find it."""

    @classmethod
    def question_keys(cls, config: Mapping[str, Any], model: str, samples: Sequence[Sample]) -> Iterator[str]:
        """Yield the key of every request that a stage with these settings could have sent about some samples.

        Args:
            config: The stage's settings, as its `config` returned them when it ran.
            model: The model's name in the requests.
            samples: As they are before any stage.
        """
