"""What writes text: a small protocol that stages talk to, whatever stands behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from blake3 import blake3

from data_manifests.seeds import canonical

Endpoint = Literal["chat/completions", "completions"]


@dataclass(frozen=True)
class CompletionRequest:
    """One question in the words of the OpenAI interface.

    Attributes:
        endpoint: Path below the server's base address.
        body: The JSON body, model and sampling settings included; nothing else decides the answer's identity.
        tag: What the asker knows it by; not sent, not part of the key.
    """

    endpoint: Endpoint
    body: Mapping[str, Any]
    tag: Any = None

    @property
    def key(self) -> str:
        """Identity of the payload: BLAKE3-128 of its canonical JSON, hex."""
        return blake3(canonical({"endpoint": self.endpoint, "body": dict(self.body)})).hexdigest(length=16)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        text: The completion, or the message's content; not interpreted.
        finish_reason: ``stop``, ``length`` or what the server says.
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
    """

    text: str
    finish_reason: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that got no usable answer after all attempts; recorded like an answer, so a rebuild agrees.

    Attributes:
        reason: A short name, such as ``timeout``, ``server_error``, ``answer_too_large`` or ``refused``.
        detail: What was seen last; no addresses, no clock times.
    """

    reason: str
    detail: str = ""


class CompletionClient(Protocol):
    """An open line to a model: many questions under way at once."""

    def submit(self, request: CompletionRequest) -> None:
        """Queue a question; returns at once."""

    def outcomes(self) -> Iterator[tuple[CompletionRequest, Answer | Failure]]:
        """Yield outcomes as they arrive, until nothing is under way; more may be submitted in between.

        Raises:
            InputError: the server cannot be reached, or refuses the key, the model or the kind of request.
        """


@runtime_checkable
class LanguageModel(Protocol):
    """A model by name: a `Resource`. Where it is served is no part of its identity."""

    @property
    def model(self) -> str:
        """The name requests carry in their body."""

    def content_hash(self) -> str:
        """Hash of what decides answers apart from the request: the kind of model and its name."""

    def describe(self) -> str:
        """Name for people, no addresses, no keys."""

    def open(self) -> AbstractContextManager[CompletionClient]:
        """Open a line; what was under way when it closes is abandoned and asked again by the next run."""
