"""Parsing of untrusted replies of servers with the OpenAI API: an answer, a failure, or a failed attempt."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from curation.llm.interface import Answer, Endpoint, Failure


class FailedAttempt(NamedTuple):
    """An attempt that failed and may succeed when repeated.

    Attributes:
        reason: A short name; becomes the `Failure`'s after the last attempt.
        detail: What was received.
        pause_s: The wait that the server asked for, or None.
    """

    reason: str
    detail: str = ""
    pause_s: float | None = None


def read_reply(endpoint: Endpoint, data: bytes) -> Answer | Failure | FailedAttempt:
    """Parse the body of a successful reply."""
    if not data.strip():
        return FailedAttempt("empty_body")
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return FailedAttempt("invalid_json", f"{len(data)} bytes that are not JSON")
    return read_answer(endpoint, value)


def read_answer(endpoint: Endpoint, value: Any) -> Answer | Failure | FailedAttempt:
    """Parse a completion or chat completion from its JSON value.

    A model that declines through the API's ``refusal`` field has answered: a `Failure`, which is not retried.
    """
    choices = value.get("choices") if isinstance(value, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        return FailedAttempt("wrong_shape", "no 'choices' with a choice in it")
    text = choice.get("text")
    if endpoint == "chat/completions":
        message = choice.get("message")
        text = message.get("content") if isinstance(message, dict) else None
        if text is None and isinstance(message, dict) and isinstance(message.get("refusal"), str):
            return Failure("refused", "the model declined")
    if not isinstance(text, str):
        return FailedAttempt("wrong_shape", "the choice holds no text")
    finish = choice.get("finish_reason")
    usage = value.get("usage")
    return Answer(
        text,
        finish if isinstance(finish, str) and len(finish) <= 40 else "unknown",
        _count(usage, "prompt_tokens"),
        _count(usage, "completion_tokens"),
    )


def _count(usage: Any, name: str) -> int:
    """Return a token count; 0 when the server gives no plausible one."""
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and 0 <= value < 2**40 else 0


def error_message(data: bytes) -> str:
    """Return the message of an error reply in any of the usual forms, or else the beginning of its text."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return data[:300].decode("utf-8", "replace")
    for name in ("error", "message", "detail"):
        if isinstance(value, dict) and name in value:
            value = value[name]
    return value if isinstance(value, str) else orjson.dumps(value)[:300].decode("utf-8", "replace")


def complains_about_structure(message: str) -> bool:
    """Return whether an error message is about structured output rather than about one request."""
    lower = message.lower()
    return any(word in lower for word in ("response_format", "json_schema", "guided", "grammar", "structured output"))


def complains_about_model(message: str, model: str) -> bool:
    """Return whether an error message is about the model's name."""
    lower = message.lower()
    missing = any(words in lower for words in ("not found", "not exist", "unknown model"))
    return missing and "model" in lower and model.lower() in lower
