"""Parsing of untrusted replies of servers with the OpenAI API: an answer, a failure, or a failed attempt."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import orjson

from curation.llm.interface import Answer, Endpoint, Failure

_THINKING_TAG = re.compile(r"[<\[](/?)(?:think|thinking|thoughts?|reasoning|reflection)[>\]]", re.IGNORECASE)
ONLY_THINKING = "<think></think>"
"""Text of an answer whose content is empty because the server sent the model's thinking in a field of its own."""

UNUSABLE = ("answer_too_large", "empty_body", "invalid_json", "wrong_shape")
"""Reasons of failed attempts in which the server did reply."""


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

    A model that declines through the API's ``refusal`` field has answered: a `Failure`, which is not retried. One that
    wrote nothing but its thinking has answered, too; see `without_thinking`.
    """
    choices = value.get("choices") if isinstance(value, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        return FailedAttempt("wrong_shape", "no 'choices' with a choice in it")
    text = choice.get("text")
    finish = choice.get("finish_reason")
    if endpoint == "chat/completions":
        message = choice.get("message")
        text = _message_text(message, finish) if isinstance(message, dict) else None
        if text is None and isinstance(message, dict) and isinstance(message.get("refusal"), str):
            return Failure("refused", "the model declined")
    if not isinstance(text, str):
        return FailedAttempt("wrong_shape", "the choice holds no text")
    usage = value.get("usage")
    return Answer(
        text,
        finish if isinstance(finish, str) and len(finish) <= 40 else "unknown",
        _count(usage, "prompt_tokens"),
        _count(usage, "completion_tokens"),
    )


def _message_text(message: dict[str, Any], finish: Any) -> Any:
    """Return a chat message's text: its content, or the text parts of it; `ONLY_THINKING` when it only thought."""
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        content = "".join(part for part in parts if isinstance(part, str)) or None
    thought = any(message.get(name) for name in ("reasoning_content", "reasoning"))
    return ONLY_THINKING if not content and (thought or finish == "length") else content


def without_thinking(text: str) -> str:
    """Return an answer without what the model thought, which stands between ``<think>`` and ``</think>`` or the like.

    Without an end, the answer was cut off while the model thought. Without a beginning, everything before the end is
    thinking, as some chat templates write the beginning into the prompt.
    """
    kept, start, depth = [""], 0, 0
    for tag in _THINKING_TAG.finditer(text):
        if tag[1]:
            kept = kept if depth else [""]
            depth, start = max(depth - 1, 0), tag.end()
        else:
            kept += [] if depth else [text[start : tag.start()]]
            depth += 1
    return "".join(kept) + ("" if depth else text[start:])


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
